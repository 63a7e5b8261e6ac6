"""The network of an agent: IMPALA's residual network (Espeholt et al. 2018), as Procgen uses it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import JinnError, to_float
from jinn.files import from_dict, load_weights, read_json, read_tensors, to_dict, write_json, write_tensors


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network.

    Attributes:
        actions: number of actions.
        size_hw: height and width of the frames in pixels.
        channels: of the stages, each of which halves the resolution; Procgen has three.
        width: of the fully connected layer.
        fold: pixel-unshuffle factor of the input; 2 trains two to three times as fast on a CPU. 1 is Procgen's.
    """

    actions: int
    size_hw: tuple[int, int] = (64, 64)
    channels: tuple[int, ...] = (16, 32, 32)
    width: int = 256
    fold: int = 1

    def __post_init__(self) -> None:
        if self.fold < 1 or any(side % self.fold for side in self.size_hw):
            raise ValueError(f"fold must divide the frames' {self.size_hw[0]} x {self.size_hw[1]} pixels")


class Residual(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW + self.second(F.relu(self.first(F.relu(x_BCHW))))


class Network(nn.Module):
    """Frames to logits of actions and a value."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        stages: list[nn.Module] = []
        before, (height, width) = 3 * config.fold**2, (side // config.fold for side in config.size_hw)
        for channels in config.channels:
            stages += [
                nn.Conv2d(before, channels, 3, padding=1),
                nn.MaxPool2d(3, stride=2, padding=1),
                Residual(channels),
                Residual(channels),
            ]
            before, height, width = channels, -(-height // 2), -(-width // 2)
        self.features = nn.Sequential(*stages)
        self.middle = nn.Linear(before * height * width, config.width)
        self.policy = nn.Linear(config.width, config.actions)
        self.value = nn.Linear(config.width, 1)
        # Nearly equal logits at first: every action is tried.
        for head, gain in ((self.policy, 0.01), (self.value, 1.0)):
            nn.init.orthogonal_(head.weight, gain)
            nn.init.zeros_(head.bias)
        # What convolutions on a CPU are fastest with.
        self.features.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, frames_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 frames to ``logits_BA`` and ``values_B``."""
        x_BCHW = F.pixel_unshuffle(to_float(frames_BHWC).permute(0, 3, 1, 2), self.config.fold)
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        x_BD = F.relu(self.middle(F.relu(self.features(x_BCHW)).flatten(1)))
        return self.policy(x_BD), self.value(x_BD).squeeze(-1)

    @torch.no_grad()
    def act(self, frames_BHWC: Tensor, generator: torch.Generator) -> Tensor:
        """int64 ``actions_B``, sampled from the policy."""
        return sample_actions(self(frames_BHWC)[0], generator)

    def save(self, folder: Path | str) -> None:
        """Write ``config.json`` and ``policy.safetensors`` into a folder."""
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", to_dict(self.config))
        write_tensors(folder / "policy.safetensors", self.state_dict())

    @classmethod
    def load(cls, folder: Path | str) -> Network:
        """The inverse of `save`.

        Raises:
            JinnError: there is no agent in the folder, or it is damaged.
        """
        folder = Path(folder).expanduser()
        if not (folder / "policy.safetensors").exists():
            raise JinnError(f"there is no agent in {folder}: it would have a policy.safetensors")
        network = cls(from_dict(NetworkConfig, read_json(folder / "config.json")))
        load_weights(network, read_tensors(folder / "policy.safetensors"), folder)
        return network.eval()


def new_network(config: NetworkConfig, seed: int) -> Network:
    """An untrained network whose weights depend on the seed only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(config)


def sample_actions(logits_BA: Tensor, generator: torch.Generator) -> Tensor:
    """One action per row, sampled on the CPU, so that a seed gives the same on every device."""
    probabilities_BA = logits_BA.float().softmax(-1).cpu()
    return torch.multinomial(probabilities_BA, 1, generator=generator).squeeze(-1).to(logits_BA.device)
