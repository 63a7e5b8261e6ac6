"""What a dream is worth: functions of frames that give rewards and say when an episode has ended.

A world knows pictures and nothing else, so that somebody must tell what is good in them: a picture of the
goal, or a small network that has seen a few labelled frames. Any function with the signature of `Judge`
will do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import JinnError, check_frames, to_float
from jinn.files import load_weights, read_tensors, write_tensors

# before_BHWC, actions_B, after_BHWC -> rewards_B float32, ended_B bool
Judge = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def nothing(before_BHWC: Tensor, actions_B: Tensor, after_BHWC: Tensor) -> tuple[Tensor, Tensor]:
    """No reward, no end."""
    return torch.zeros(len(actions_B)), torch.zeros(len(actions_B), dtype=torch.bool)


class GoalImage:
    """One for coming to where the world looks like a picture, which ends the episode.

    Args:
        goal_HWC: uint8.
        close: mean absolute difference of pixels, in 0 to 255, from which on it is reached.
        shaped: also reward every step by how much nearer it came, in shares of 255.
    """

    def __init__(self, goal_HWC: Tensor, close: float = 12.0, shaped: bool = False) -> None:
        check_frames(goal_HWC[None, None])
        self.goal_HWC, self.close, self.shaped = goal_HWC, close, shaped

    def __call__(self, before_BHWC: Tensor, actions_B: Tensor, after_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        away_B = self.away(after_BHWC)
        ended_B = away_B <= self.close
        rewards_B = ended_B.float()
        if self.shaped:
            rewards_B = rewards_B + (self.away(before_BHWC) - away_B) / 255
        return rewards_B, ended_B

    def away(self, frames_BHWC: Tensor) -> Tensor:
        """Mean absolute difference from the goal, 0 to 255."""
        goal_HWC = self.goal_HWC.to(frames_BHWC.device)
        return (frames_BHWC.float() - goal_HWC.float()).abs().mean((1, 2, 3)).cpu()


class Head(nn.Module):
    """A small network that sees two neighbouring frames and says what was earned and whether it is over.

    It tells four kinds of steps apart (nothing, reward, end, both) and not numbers: few labelled frames
    are enough for it, and most of them show nothing, which a regression would learn to say always.

    Args:
        reward: what a rewarded step is worth.
        width: channels.
    """

    reward: Tensor

    def __init__(self, reward: float = 1.0, width: int = 32) -> None:
        super().__init__()
        self.register_buffer("reward", torch.tensor(reward))
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [nn.Conv2d(width if i else 9, width, 3, stride=2, padding=1), nn.GELU()]
        self.eye = nn.Sequential(*layers)
        self.kind = nn.Linear(width, 4)

    def forward(self, before_BHWC: Tensor, after_BHWC: Tensor) -> Tensor:
        """uint8 frames to logits ``(B, 4)`` of the kinds, ``rewarded + 2 * ended``."""
        before, after = to_float(before_BHWC) - 0.5, to_float(after_BHWC) - 0.5
        x_BCHW = torch.cat([before, after, after - before], -1).permute(0, 3, 1, 2)
        kinds: Tensor = self.kind(self.eye(x_BCHW).amax((2, 3)))  # a coin is small: the strongest sign counts
        return kinds

    @torch.inference_mode()
    def judge(self, before_BHWC: Tensor, actions_B: Tensor, after_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """A `Judge`: the likeliest kind counts."""
        device = self.reward.device
        kinds_B = self(before_BHWC.to(device), after_BHWC.to(device)).argmax(-1).cpu()
        return (kinds_B % 2).float() * self.reward.item(), kinds_B >= 2

    def save(self, path: Path | str) -> None:
        """Write the weights as safetensors."""
        write_tensors(Path(path), self.state_dict())

    @classmethod
    def load(cls, path: Path | str) -> Head:
        """The inverse of `save`.

        Raises:
            JinnError: there is no such file, or it is of something else.
        """
        weights = read_tensors(Path(path))
        if "kind.weight" not in weights:
            raise JinnError(f"{path} holds no head of rewards: jinn.judges.learn_head makes one")
        head = cls(width=weights["kind.weight"].shape[1])
        load_weights(head, weights, Path(path))
        return head.eval()


def learn_head(
    before_XHWC: Tensor,
    after_XHWC: Tensor,
    rewards_X: Tensor,
    ended_X: Tensor,
    seed: int = 0,
    steps: int = 400,
    batch: int = 64,
) -> Head:
    """Train a `Head` on labelled steps.

    Every kind of step makes up the same share of a batch, however rare it is, and frames are moved by up
    to four pixels.

    Args:
        before_XHWC, after_XHWC: uint8, the frames before and after X steps of the real game.
        rewards_X: what each earned.
        ended_X: bool, whether it ended the episode.
        seed: of weights and batches.
        steps, batch: of AdamW at 1e-3, its rate falling to nothing.
    """
    chance = torch.Generator().manual_seed(seed)
    kinds_X = (rewards_X != 0).long() + 2 * ended_X.long()
    earned = rewards_X[rewards_X != 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = Head(float(earned.float().mean()) if len(earned) else 1.0)
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=1e-2)
    weights_X = (1 / torch.bincount(kinds_X, minlength=4).clamp_min(1).float())[kinds_X]
    for step in range(steps):
        rows = torch.multinomial(weights_X, batch, replacement=True, generator=chance)
        down, right = torch.randint(-4, 5, (2,), generator=chance).tolist()
        before, after = (x[rows].roll((down, right), (1, 2)) for x in (before_XHWC, after_XHWC))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / steps)
        optimizer.zero_grad()
        F.cross_entropy(head(before, after), kinds_X[rows]).backward()
        optimizer.step()
    return head.eval()
