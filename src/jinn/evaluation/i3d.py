"""I3D (Carreira and Zisserman 2017), the network whose logits the Frechet video distance compares.

Only what inference needs, with the weights that were trained on Kinetics-400. A unit is a convolution without
bias, a batch norm without scale and a ReLU; the batch norm is folded into the convolution. The widths of the
layers are those of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import to_float

SIZE = 224  # of the frames that it was trained on
SHORTEST = 9  # frames: with fewer, less than the two steps of time that the last pooling spans are left


class I3D(nn.Module):
    """Floats ``(B, 3, T, 224, 224)`` in [-1, 1] to logits ``(B, 400)``, by the weights of `pretrained.i3d_weights`."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _Convolution(weights, "Conv3d_1a_7x7", stride=2),
            _MaxPool((1, 3, 3), (1, 2, 2)),
            _Convolution(weights, "Conv3d_2b_1x1"),
            _Convolution(weights, "Conv3d_2c_3x3"),
            _MaxPool((1, 3, 3), (1, 2, 2)),
            *(_Mixed(weights, f"Mixed_3{letter}") for letter in "bc"),
            _MaxPool((3, 3, 3), (2, 2, 2)),
            *(_Mixed(weights, f"Mixed_4{letter}") for letter in "bcdef"),
            _MaxPool((2, 2, 2), (2, 2, 2)),
            *(_Mixed(weights, f"Mixed_5{letter}") for letter in "bc"),
        )
        kernel = weights["params/Logits/Conv3d_0c_1x1/Conv_0/kernel"]
        self.head = nn.Linear(*kernel.shape[3:])
        self.head.weight.data = kernel[0, 0, 0].T
        self.head.bias.data = weights["params/Logits/Conv3d_0c_1x1/Conv_0/bias"]
        # On a CPU three times as fast as with the channels first.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.eval().requires_grad_(False)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        x_BCTHW = self.layers(x_BCTHW)
        return self.head(F.avg_pool3d(x_BCTHW, (2, 7, 7), stride=1).mean(dim=(2, 3, 4)))


@torch.inference_mode()
def i3d_logits(model: I3D, frames_BTHWC: Tensor, batch: int = 4) -> Tensor:
    """The logits which stand for a clip in the Frechet video distance, float32 ``(B, 400)`` on the model's device.

    Frames are uint8 of any height, width and device, `SHORTEST` of them at least. They are resized bilinearly between
    pixel centres (``align_corners=False``), as the widespread PyTorch ports do. The original code (Unterthiner et al.
    2019) used TensorFlow 1's ``resize_bilinear``, whose grid is aligned at the top left; distances are compared only
    with others that were measured in the same way.
    """
    device = model.head.weight.device
    return torch.cat([model(_resize(clips.to(device))) for clips in frames_BTHWC.split(batch)])


def _resize(frames_BTHWC: Tensor) -> Tensor:
    """uint8 to floats ``BCTHW`` in [-1, 1], 224 pixels a side; in memory the channels are last."""
    pixels_XCHW = to_float(frames_BTHWC).mul_(2).sub_(1).flatten(0, 1).permute(0, 3, 1, 2)
    pixels_XCHW = F.interpolate(pixels_XCHW, (SIZE, SIZE), mode="bilinear", align_corners=False)
    return pixels_XCHW.unflatten(0, frames_BTHWC.shape[:2]).transpose(1, 2)


def _same(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """TensorFlow's SAME: the padding of each axis, both ends together; the end has the odd one more."""
    return [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, kernel, stride, strict=True)]


class _MaxPool(nn.Module):
    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        # An odd padding's last place is where ceil_mode lets the last window reach beyond the end. TensorFlow
        # pads with zeros, PyTorch with -inf: after a ReLU the maximum is the same.
        before = [total // 2 for total in _same(x_BCTHW.shape[2:], self.kernel, self.stride)]
        return F.max_pool3d(x_BCTHW, self.kernel, self.stride, before, ceil_mode=True)


class _Convolution(nn.Conv3d):
    """A convolution with padding SAME, its batch norm, and a ReLU."""

    def __init__(self, weights: dict[str, Tensor], path: str, stride: int = 1) -> None:
        kernel = weights[f"params/{path}/Conv_0/kernel"]  # (time, height, width, in, out)
        *sizes, width_in, width_out = kernel.shape
        # PyTorch has the padding SAME for a stride of 1 only.
        padding = "same" if stride == 1 else 0
        super().__init__(width_in, width_out, (sizes[0], sizes[1], sizes[2]), stride, padding)
        moments = f"batch_stats/{path}/BatchNorm_0"
        mean, variance = (weights[f"{moments}/{name}"].flatten() for name in ("mean", "var"))
        scale = (variance + 1e-3).rsqrt()
        self.weight.data = (kernel * scale).permute(4, 3, 0, 1, 2)
        assert self.bias is not None
        self.bias.data = weights[f"params/{path}/BatchNorm_0/bias"].flatten() - mean * scale

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        if self.padding != "same":
            totals = _same(x_BCTHW.shape[2:], self.kernel_size, self.stride)
            x_BCTHW = F.pad(x_BCTHW, [end for n in reversed(totals) for end in (n // 2, n - n // 2)])
        return super().forward(x_BCTHW).relu_()


class _Mixed(nn.Module):
    """Four branches side by side: what Inception is named for."""

    def __init__(self, weights: dict[str, Tensor], path: str) -> None:
        super().__init__()

        def convolution(branch: int, name: str) -> _Convolution:
            return _Convolution(weights, f"{path}/Branch_{branch}/Conv3d_{name}")

        self.branches = nn.ModuleList(
            [
                convolution(0, "0a_1x1"),
                nn.Sequential(convolution(1, "0a_1x1"), convolution(1, "0b_3x3")),
                nn.Sequential(convolution(2, "0a_1x1"), convolution(2, "0b_3x3")),
                nn.Sequential(_MaxPool((3, 3, 3), (1, 1, 1)), convolution(3, "0b_1x1")),
            ]
        )

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return torch.cat([branch(x_BCTHW) for branch in self.branches], dim=1)
