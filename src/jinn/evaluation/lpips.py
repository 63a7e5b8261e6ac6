"""LPIPS (Zhang et al. 2018) on AlexNet: how different two pictures look, and what a picture shows.

Frames are taken at their own resolution, as the LPIPS authors do; distances between frames of different sizes
are not comparable.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import to_float

SMALLEST = 31  # pixels a side: from fewer nothing is left for the third convolution


class LPIPS(nn.Module):
    """The trunk of AlexNet, and how much each channel of its five activations counts (`pretrained.lpips_weights`)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        for i, (stride, padding) in enumerate(((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))):
            kernel = weights[f"AlexNet_0/Conv_{i}/kernel"]  # (height, width, in, out)
            side, _, width_in, width_out = kernel.shape
            convolution = nn.Conv2d(width_in, width_out, side, stride, padding)
            convolution.weight.data = kernel.permute(3, 2, 0, 1)
            convolution.bias.data = weights[f"AlexNet_0/Conv_{i}/bias"]  # type: ignore[union-attr]
            self.convolutions.append(convolution)
            self.register_buffer(f"head_{i}", weights[f"NetLinLayer_{i}/Conv_0/kernel"].flatten())
        # By these the LPIPS authors normalise pixels in [-1, 1].
        self.register_buffer("mean", torch.tensor([-0.030, -0.088, -0.188]))
        self.register_buffer("deviation", torch.tensor([0.458, 0.448, 0.450]))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval().requires_grad_(False)

    def forward(self, frames_XHWC: Tensor) -> list[Tensor]:
        """uint8 frames to the five activations, floats ``(X, D, h, w)``."""
        pixels_XHWC = (to_float(frames_XHWC).mul_(2).sub_(1) - self.mean) / self.deviation
        x_XDHW, activations = pixels_XHWC.permute(0, 3, 1, 2), []
        for i, convolution in enumerate(self.convolutions):
            if i in (1, 2):
                x_XDHW = F.max_pool2d(x_XDHW, 3, 2)
            x_XDHW = convolution(x_XDHW).relu_()
            activations.append(x_XDHW)
        return activations


@torch.inference_mode()
def lpips(model: LPIPS, made: Tensor, real: Tensor, batch: int = 128) -> Tensor:
    """LPIPS distance of frames: 0 for equal ones, about 0.7 for pictures that have nothing in common.

    Frames are uint8 ``(..., H, W, 3)``, `SMALLEST` pixels a side at least, on any device. The distances are float32
    ``(...)`` on the model's device.
    """
    pairs = zip(_chunks(model, made, batch), _chunks(model, real, batch), strict=True)
    return torch.cat([_distance(model, *pair) for pair in pairs]).reshape(made.shape[:-3])


@torch.inference_mode()
def frame_features(model: LPIPS, frames: Tensor, batch: int = 128) -> Tensor:
    """What a frame shows: the spatial mean of AlexNet's fifth activation. Our choice, for `frechet`.

    Frames are those of `lpips`; features are float32 ``(..., 256)`` on the model's device. Small frames and short
    training sets leave no room for the features of Inception that FID uses.
    """
    features = [model(frames_XHWC)[-1].mean(dim=(2, 3)) for frames_XHWC in _chunks(model, frames, batch)]
    return torch.cat(features).reshape(*frames.shape[:-3], -1)


def _chunks(model: LPIPS, frames: Tensor, batch: int) -> list[Tensor]:
    """``(..., H, W, C)`` in portions ``XHWC`` on the model's device."""
    return [chunk.to(model.mean.device) for chunk in frames.reshape(-1, *frames.shape[-3:]).split(batch)]


def _distance(model: LPIPS, made_XHWC: Tensor, real_XHWC: Tensor) -> Tensor:
    """Weighted squared difference of the activations, each scaled to length 1 over its channels: ``(X,)``."""
    total_X = torch.zeros(len(made_XHWC), device=made_XHWC.device)
    for i, pair in enumerate(zip(model(made_XHWC), model(real_XHWC), strict=True)):
        # With the channels last, as they lie in memory, the weighting is one matrix product.
        made_XHWD, real_XHWD = (F.normalize(x.permute(0, 2, 3, 1), dim=-1, eps=1e-10) for x in pair)
        total_X += ((made_XHWD - real_XHWD).square() @ getattr(model, f"head_{i}")).mean(dim=(1, 2))
    return total_X
