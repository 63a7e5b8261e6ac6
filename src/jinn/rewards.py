"""Reward and termination functions. A world predicts only frames; rewards come from a separate function.

Here are a picture of the goal, a text of it, and a small classifier trained on a few labelled steps; any
`RewardFunction` serves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import JinnError, as_frames, describe, to_float
from jinn.files import load_weights, read_json, read_tensors, write_tensors

# before_BHWC, actions_B, after_BHWC -> rewards_B float32, terminated_B bool: tensors or arrays of shape (B,), or one
# number for all roll-outs.
RewardFunction = Callable[[Tensor, Tensor, Tensor], tuple[Any, Any]]


def check_rewards(result: Any, rollouts: int) -> tuple[np.ndarray, np.ndarray]:
    """What a `RewardFunction` returned, as float32 ``rewards_B`` and bool ``terminated_B`` of their own.

    Raises:
        JinnError: it is no pair, or its parts have other shapes or kinds.
    """
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise JinnError(f"a reward function returns rewards and terminations, got {describe(result)}")
    columns: list[np.ndarray] = []
    for value, kinds, dtype in zip(result, ("fiub", "iub"), (np.float32, np.bool_), strict=True):
        if isinstance(value, Tensor):
            value = (value.float() if value.is_floating_point() else value).detach().cpu().numpy()
        array = np.asarray(value)
        if array.shape not in ((), (rollouts,)) or array.dtype.kind not in kinds:
            raise JinnError(
                f"a reward function returns rewards (numbers) and terminations (bools) of shape ({rollouts},), "
                f"got {describe(array)}"
            )
        columns.append(np.broadcast_to(array, (rollouts,)).astype(dtype))
    return columns[0], columns[1]


def no_reward(before_BHWC: Tensor, actions_B: Tensor, after_BHWC: Tensor) -> tuple[Tensor, Tensor]:
    """A `RewardFunction` without rewards and terminations."""
    return torch.zeros(len(actions_B)), torch.zeros(len(actions_B), dtype=torch.bool)


class GoalImage:
    """A reward of one for reaching a frame that looks like a picture, which also terminates the episode.

    Args:
        goal_HWC: uint8.
        close: largest mean absolute difference of pixels, in 0 to 255, at which the goal counts as reached.
        shaped: whether every step is also rewarded by how much closer it came, as a fraction of 255.
    """

    def __init__(self, goal_HWC: Tensor | np.ndarray, close: float = 12.0, shaped: bool = False) -> None:
        self.goal_HWC = as_frames(goal_HWC[None, None])[0, 0]
        self.close, self.shaped = close, shaped

    def __call__(self, before_BHWC: Tensor, actions_B: Tensor, after_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        distance_B = self.distance(after_BHWC)
        terminated_B = distance_B <= self.close
        rewards_B = terminated_B.float()
        if self.shaped:
            rewards_B = rewards_B + (self.distance(before_BHWC) - distance_B) / 255
        return rewards_B, terminated_B

    def distance(self, frames_BHWC: Tensor) -> Tensor:
        """Mean absolute difference from the goal, 0 to 255."""
        goal_HWC = self.goal_HWC.to(frames_BHWC.device)
        return (frames_BHWC.float() - goal_HWC.float()).abs().mean((1, 2, 3)).cpu()


class TextGoal:
    """A reward of one for frames that a vision-language model says show a text, which also terminates the episode.

    After "Vision-Language Models as a Source of Rewards" (arXiv 2312.09187): the probability of the goal is the softmax
    of the model's similarities over the goal and some negative texts, and a threshold makes a reward of 0 or 1 of it.
    Without good negatives (what else the game shows, in as many words) the probability says little.

    Args:
        goal: what is to be reached, such as "a character that touches a golden coin".
        negatives: at least one text of what is not.
        model: folder or hub name of a CLIP or SigLIP model, read by transformers (extra `text`).
        threshold: least probability of the goal that is rewarded, between 0 and 1.
        device: where frames are encoded.

    Raises:
        JinnError: transformers is missing, there is no such model, or an argument is impossible.
    """

    def __init__(
        self,
        goal: str,
        negatives: Sequence[str],
        model: str = "openai/clip-vit-base-patch32",
        threshold: float = 0.5,
        device: torch.device | str = "cpu",
    ) -> None:
        if not negatives or not 0 < threshold < 1:
            raise JinnError("a text goal needs at least one negative text, and a threshold between 0 and 1")
        self.threshold, self.device = threshold, torch.device(device)
        try:
            from transformers import AutoModel, AutoTokenizer

            self.model = AutoModel.from_pretrained(model).to(self.device).eval()
            tokenizer = AutoTokenizer.from_pretrained(model)
        except ModuleNotFoundError as error:
            raise JinnError(f"a text goal needs the package {error.name}: pip install 'jinn[text]'") from None
        except (OSError, ValueError) as error:
            first = str(error).partition("\n")[0]
            raise JinnError(f"there is no vision-language model {model}: {first}") from None
        if not hasattr(self.model, "get_image_features"):
            raise JinnError(f"{model} is no vision-language model: it compares no pictures with texts")
        self.side = self.model.config.vision_config.image_size
        mean, std = normalisation(model)
        self.mean_3, self.std_3 = (
            torch.tensor(mean, device=self.device),
            torch.tensor(std, device=self.device),
        )
        words = tokenizer([goal, *negatives], padding="max_length", truncation=True, return_tensors="pt")
        with torch.no_grad():
            found = self.model.get_text_features(**words.to(self.device))
        self.texts_XD = F.normalize(embedding(found), dim=-1)

    def __call__(self, before_BHWC: Tensor, actions_B: Tensor, after_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        reached_B = self.probability(after_BHWC) >= self.threshold
        return reached_B.float(), reached_B

    @torch.no_grad()
    def probability(self, frames_BHWC: Tensor) -> Tensor:
        """How likely uint8 frames show the goal and not one of the negatives, in [0, 1]."""
        pixels_BHWC = (to_float(frames_BHWC.to(self.device)) - self.mean_3) / self.std_3
        size = (self.side, self.side)
        pixels_BCHW = F.interpolate(pixels_BHWC.movedim(-1, 1), size, mode="bicubic", antialias=True)
        pictures_BD = F.normalize(embedding(self.model.get_image_features(pixel_values=pixels_BCHW)), dim=-1)
        similarity_BX = self.model.logit_scale.exp() * pictures_BD @ self.texts_XD.T
        return similarity_BX.softmax(-1)[:, 0].cpu()


def embedding(found: Any) -> Tensor:
    """The vectors that a model of transformers returned, by themselves or as the pooled output."""
    vectors: Tensor = found if isinstance(found, Tensor) else found.pooler_output
    return vectors


def normalisation(model: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of the pixels that a model was trained on; OpenAI's where it does not say."""
    from transformers.utils import cached_file

    file = cached_file(model, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    values = read_json(Path(file)) if file else {}
    mean = values.get("image_mean", (0.48145466, 0.4578275, 0.40821073))
    return mean, values.get("image_std", (0.26862954, 0.26130258, 0.27577711))


def roc_area(scores_X: Tensor | np.ndarray, truth_X: Tensor | np.ndarray) -> float:
    """How often a true event has a higher score than one that is none: the area under the ROC curve, 0.5 by chance.

    Raises:
        ValueError: all events are true, or none is.
    """
    scores_X, truth_X = np.asarray(scores_X, dtype=np.float64), np.asarray(truth_X, dtype=bool)
    yes, no = scores_X[truth_X], np.sort(scores_X[~truth_X])
    if not len(yes) or not len(no):
        raise ValueError("a ROC curve needs events that are true and events that are not")
    below, up_to = (np.searchsorted(no, yes, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / (2 * len(no)))


class RewardHead(nn.Module):
    """A small classifier of steps: neighbouring frames to reward and termination. A `RewardFunction`.

    It distinguishes four kinds of steps (nothing, reward, termination, both) instead of regressing numbers: few
    labelled steps suffice, and most of them show nothing, which a regression would always predict.

    Args:
        reward: of a rewarded step.
        width: number of channels.
    """

    reward: Tensor

    def __init__(self, reward: float = 1.0, width: int = 32) -> None:
        super().__init__()
        self.register_buffer("reward", torch.tensor(reward))
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [nn.Conv2d(width if i else 9, width, 3, stride=2, padding=1), nn.GELU()]
        self.features = nn.Sequential(*layers)
        self.kind = nn.Linear(width, 4)

    def logits(self, before_BHWC: Tensor, after_BHWC: Tensor) -> Tensor:
        """uint8 frames to logits ``(B, 4)`` of the kinds, ``rewarded + 2 * terminated``."""
        before, after = to_float(before_BHWC) - 0.5, to_float(after_BHWC) - 0.5
        x_BCHW = torch.cat([before, after, after - before], -1).permute(0, 3, 1, 2)
        # A coin is small: the strongest response counts, not the mean.
        return self.kind(self.features(x_BCHW).amax((2, 3)))

    @torch.no_grad()
    def forward(self, before_BHWC: Tensor, actions_B: Tensor, after_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """Reward and termination of the likeliest kind; arguments as of a `RewardFunction`."""
        device = self.reward.device
        kinds_B = self.logits(before_BHWC.to(device), after_BHWC.to(device)).argmax(-1).cpu()
        return (kinds_B % 2).float() * self.reward.item(), kinds_B >= 2

    def save(self, path: Path | str) -> None:
        """Write the weights as safetensors."""
        write_tensors(Path(path).expanduser(), self.state_dict())

    @classmethod
    def load(cls, path: Path | str) -> RewardHead:
        """The inverse of `save`.

        Raises:
            JinnError: there is no such file, or it holds something else.
        """
        path = Path(path).expanduser()
        weights = read_tensors(path)
        if "kind.weight" not in weights:
            raise JinnError(f"{path} holds no reward head: jinn.rewards.train_reward_head makes one")
        head = cls(width=weights["kind.weight"].shape[1])
        load_weights(head, weights, path)
        return head.eval()


def train_reward_head(
    before_XHWC: Tensor | np.ndarray,
    after_XHWC: Tensor | np.ndarray,
    rewards_X: Tensor | np.ndarray,
    terminated_X: Tensor | np.ndarray,
    seed: int = 0,
    steps: int = 400,
    batch: int = 64,
) -> RewardHead:
    """Train a `RewardHead` on labelled steps.

    Every kind of step makes up the same fraction of a batch, and frames are shifted by up to four pixels.

    Args:
        before_XHWC, after_XHWC: uint8, the frames before and after X steps of the real game.
        rewards_X, terminated_X: the reward of each step, and whether it terminated its episode (bool).
        seed: of weights and batches.
        steps: of AdamW, with a learning rate that falls from 1e-3 to 0.
        batch: labelled steps per optimiser step.
    """
    before_XHWC, after_XHWC = (as_frames(x[:, None]).squeeze(1) for x in (before_XHWC, after_XHWC))
    rewards_X, terminated_X = torch.as_tensor(rewards_X), torch.as_tensor(terminated_X)
    generator = torch.Generator().manual_seed(seed)
    kinds_X = (rewards_X != 0).long() + 2 * terminated_X.long()
    rewarded = rewards_X[rewards_X != 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = RewardHead(float(rewarded.float().mean()) if len(rewarded) else 1.0)
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=1e-2)
    weights_X = (1 / torch.bincount(kinds_X, minlength=4).clamp_min(1).float())[kinds_X]
    for step in range(steps):
        rows = torch.multinomial(weights_X, batch, replacement=True, generator=generator)
        down, right = torch.randint(-4, 5, (2,), generator=generator).tolist()
        before, after = (x[rows].roll((down, right), (1, 2)) for x in (before_XHWC, after_XHWC))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / steps)
        optimizer.zero_grad()
        F.cross_entropy(head.logits(before, after), kinds_X[rows]).backward()
        optimizer.step()
    return head.eval()
