"""Whether a clip is good, learned from ratings: the paper's binary classifier, an 11M-parameter ResNet18 (B.1).

The paper does not say how its network sees a clip. Ours sees four moments, spread over the clip, and at each how much
the next frame differs, as 24 channels of one picture. The differences show whether something moves, the moments
whether the scene changes, and all together cost what one picture costs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import to_float
from jinn.data.images import resize
from jinn.errors import JinnError
from jinn.files import (
    load_weights,
    read_config,
    read_json,
    read_tensors,
    to_dict,
    write_json,
    write_tensors,
)

MOMENTS = 4  # of a clip, with two neighbouring frames each
# Where they are, as fractions of the clip: not evenly, or what comes again and again were seen always or never.
PLACES = np.sort((np.arange(MOMENTS) + 0.5) * (5**0.5 - 1) / 2 % 1)
CHANGE = 4.0  # by which differences of neighbours are larger than those of pixels, which they are then like in size
BATCH = 32  # clips that are scored at once


@dataclass(frozen=True)
class ClassifierConfig:
    """What a classifier is.

    Attributes:
        width: Channels of the first stage; 64 is ResNet18 with its 11M parameters.
        size_hw: Height and width of its pictures, pixels; by default those of the paper's frames.
        confidence: A clip is kept where the classifier is at least so sure that it is good; 0.5 to 1.
    """

    width: int = 64
    size_hw: tuple[int, int] = (90, 160)
    confidence: float = 0.5

    def __post_init__(self) -> None:
        if self.width < 1 or min(self.size_hw) < 1 or not 0.5 <= self.confidence <= 1:
            raise JinnError("a classifier has a width and sides above zero, and a confidence from 0.5 to 1")


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.around: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.around = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Features, at half the sides if the stride is 2."""
        inner_BCHW = F.relu(self.first_norm(self.first(x_BCHW)))
        return F.relu(self.second_norm(self.second(inner_BCHW)) + self.around(x_BCHW))


class Classifier(nn.Module):
    """ResNet18 (He et al. 2016) over the frames of a clip, with one output: the logit of being good."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.stem = nn.Conv2d(2 * MOMENTS * 3, width, 7, 2, 3, bias=False)
        self.stem_norm = nn.BatchNorm2d(width)
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(Block(inputs, outputs, 1 + (inputs != outputs)), Block(outputs, outputs, 1))
                for inputs, outputs in pairwise(widths)
            )
        )
        self.head = nn.Linear(8 * width, 1)

    def forward(self, seen_BTHWC: Tensor) -> Tensor:
        """Logits ``(B,)`` of uint8 frames that `seen_frames` has chosen."""
        x_BTCHW = to_float(seen_BTHWC).permute(0, 1, 4, 2, 3)
        shown_BTCHW, next_BTCHW = x_BTCHW[:, ::2], x_BTCHW[:, 1::2]
        change_BTCHW = CHANGE * (next_BTCHW - shown_BTCHW).abs()
        x_BCHW = torch.cat([shown_BTCHW - 0.5, change_BTCHW], 1).flatten(1, 2)
        x_BCHW = F.max_pool2d(F.relu(self.stem_norm(self.stem(x_BCHW))), 3, 2, 1)
        logits_B: Tensor = self.head(self.stages(x_BCHW).mean((2, 3)))[:, 0]
        return logits_B

    def score(self, frames_NTHWC: np.ndarray) -> np.ndarray:
        """How likely each of N clips is good.

        Args:
            frames_NTHWC: uint8, whole clips of any length and size, at about 10 frames a second.

        Returns:
            float32 ``(N,)``, 0 to 1. By the paper's rule a clip is kept from ``config.confidence`` on.
        """
        return self.score_seen(seen_frames(frames_NTHWC, self.config.size_hw))

    @torch.no_grad()
    def score_seen(self, seen_NTHWC: np.ndarray) -> np.ndarray:
        """`score` of frames that `seen_frames` has chosen."""
        self.eval()
        device, scores_N = self.head.weight.device, np.zeros(len(seen_NTHWC), np.float32)
        for start in range(0, len(seen_NTHWC), BATCH):
            part = slice(start, start + BATCH)
            scores_N[part] = self(torch.from_numpy(seen_NTHWC[part]).to(device)).sigmoid().cpu().numpy()
        return scores_N

    def save(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``classifier.safetensors`` into a folder, which is made."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / "classifier.safetensors", self.state_dict())
        write_json(folder / "config.json", to_dict(self.config))

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Classifier:
        """The classifier in a folder that `save` wrote; `JinnError` if there is none, or it is damaged."""
        folder, advice = Path(folder), "train it again with jinn rate --train"
        path = folder / "config.json"
        if not path.exists():
            raise JinnError(f"there is no classifier in {folder}: {advice}")
        config = read_config(ClassifierConfig, path, read_json(path), advice)
        classifier = cls(config)
        load_weights(classifier, read_tensors(folder / "classifier.safetensors"), folder)
        return classifier.to(device).eval()

    def with_confidence(self, confidence: float) -> Classifier:
        """This classifier, from now on with another confidence."""
        self.config = replace(self.config, confidence=confidence)
        return self


def seen_frames(frames_NTHWC: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """The frames that a classifier sees of clips: uint8 ``(N, 2 * MOMENTS, *size_hw, 3)``.

    A clip of one frame stands still.
    """
    T = frames_NTHWC.shape[1]
    first = np.minimum((PLACES * T).astype(int), max(T - 2, 0))
    chosen = np.stack([first, np.minimum(first + 1, T - 1)], 1).ravel()
    seen_XHWC = np.ascontiguousarray(frames_NTHWC[:, chosen]).reshape(-1, *frames_NTHWC.shape[2:])
    return resize(seen_XHWC, size_hw).reshape(len(frames_NTHWC), len(chosen), *size_hw, 3)
