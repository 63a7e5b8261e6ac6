"""Learning from labelled video alone, good play and bad: a clone that copies only what turned out better than usual.

Behaviour cloning (`jinn.agents.clone`) copies everything. Here a critic learns from the recorded rewards what each
action is worth, and the policy copies an action only where it is worth more than what the policy itself would do there
(critic-regularised regression, Wang et al. 2020, in its binary form), or weighs it by how much more (its exponential
form; Peng et al. 2019 and Nair et al. 2020 are close to it). The game is never played.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jinn.agents.network import Network, NetworkConfig, new_network
from jinn.agents.play import check_envs
from jinn.contracts import JinnError, as_frames, as_integers, find_device


@dataclass(frozen=True)
class OfflineConfig:
    """How an agent learns from recorded steps.

    Attributes:
        steps: number of optimiser steps.
        batch: recorded steps in each.
        learning_rate: of Adam; falls linearly to 0.
        discount: of rewards, per step.
        copy: what the policy copies: "all" (cloning), what is "better" than the policy's own choice, or each action
            "weighted" by exp(advantage / temperature), at most 20.
        temperature: see ``copy``, in units of the rewards.
        lag: part of the target critic that stays at each step, in [0, 1).
        shifts: by how many pixels, of any sign, the pictures of a step may be moved, down and to the right; drawn for
            each. It says that a game is the same anywhere in its picture, which scripts/equivariance.py tests.
    """

    steps: int = 2_000
    batch: int = 256
    learning_rate: float = 1e-3
    discount: float = 0.95
    copy: Literal["all", "better", "weighted"] = "weighted"
    temperature: float = 0.1
    lag: float = 0.99
    shifts: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1:
            raise ValueError("steps and batch are at least 1")
        if not (0 <= self.discount <= 1 and 0 <= self.lag < 1 and self.temperature > 0):
            raise ValueError("discount lies in [0, 1], lag in [0, 1), and temperature above 0")
        if not self.shifts:
            raise ValueError("shifts names at least one number of pixels, such as 0")


@dataclass(frozen=True)
class Recording:
    """Steps in the order in which they were recorded, episode after episode.

    Attributes:
        frames_XHWC: uint8, what was seen before each step.
        actions_X: int64; a negative one is unknown, and is not learned from (the last frame of an episode has none).
        rewards_X: float32, of each step.
        over_X: bool, whether the step ended its episode at a goal or a loss, after which nothing comes. An episode that
            was only cut off goes on in the next frame, which is its last.
    """

    frames_XHWC: Tensor
    actions_X: Tensor
    rewards_X: Tensor
    over_X: Tensor

    def __post_init__(self) -> None:
        frames_XHWC = as_frames(self.frames_XHWC[:, None])
        lengths = {len(frames_XHWC), len(self.actions_X), len(self.rewards_X), len(self.over_X)}
        if len(lengths) > 1 or as_integers(self.actions_X) is None:
            raise JinnError("a recording has one integer action, one reward and one end for each frame")
        if not (self.actions_X[:-1] >= 0).any():  # the last frame has no next one
            raise JinnError("there is no step with an action to learn from")


def record(envs: Any, act: Callable[[Tensor], Tensor], steps: int) -> Recording:
    """Play environments, and keep what was seen, done and earned.

    Args:
        envs: as of `jinn.agents.ppo.train_ppo`.
        act: sees the frames of all environments, and gives an action for each.
        steps: of each environment.
    """
    check_envs(envs)
    frames, over_B = envs.reset()[0], np.zeros(envs.num_envs, bool)
    rows: list[tuple[np.ndarray, ...]] = []
    for _ in range(steps):
        actions_B = act(torch.as_tensor(frames)).cpu().numpy()
        after, rewards, terminated, truncated, _ = envs.step(actions_B)
        # A step that only starts an episode does nothing: the frame before it was the last of an episode.
        rows.append((frames, np.where(over_B, -1, actions_B), np.asarray(rewards, np.float32), terminated))
        frames, over_B = after, np.asarray(terminated, bool) | np.asarray(truncated, bool)
    last = np.arange(steps) == steps - 1  # nothing was recorded after it
    columns = [torch.from_numpy(np.stack(part)).transpose(0, 1) for part in zip(*rows, strict=True)]
    columns[1] = columns[1].masked_fill(torch.from_numpy(last), -1)
    return Recording(*(part.flatten(0, 1) for part in columns))


def learn_offline(
    recording: Recording,
    num_actions: int,
    config: OfflineConfig | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    sizes: NetworkConfig | None = None,
    on_step: Callable[[int, dict[str, float]], None] = lambda *_: None,
) -> Network:
    """A policy from recorded steps.

    Args:
        recording: of any players, good and bad.
        num_actions: A.
        seed: of weights and batches.
        sizes: of the networks of policy and critic; None is Procgen's for these frames.
        on_step: is called with the number of steps done and the losses.

    Returns:
        The policy; its value head has learned nothing.

    Raises:
        JinnError: there is no such device, or an action that does not exist.
    """
    config, device = config or OfflineConfig(), find_device(device)
    if int(recording.actions_X.max()) >= num_actions:
        raise JinnError(
            f"an action of {int(recording.actions_X.max())} where there are {num_actions} of them"
        )
    sizes = sizes or NetworkConfig(num_actions, recording.frames_XHWC.shape[1:3])  # type: ignore[arg-type]
    policy = new_network(sizes, seed).to(device).train()
    critic, target = (new_network(sizes, seed + 1).to(device).train() for _ in range(2))
    critics = [] if config.copy == "all" else [*critic.parameters()]
    optimizer = torch.optim.Adam([*policy.parameters(), *critics], config.learning_rate)
    generator, shifting = (torch.Generator().manual_seed(seed) for _ in range(2))
    known_K = (recording.actions_X[:-1] >= 0).nonzero().squeeze(-1)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - step / config.steps)
        rows_B = known_K[torch.randint(len(known_K), (config.batch,), generator=generator)]
        drawn_B2 = torch.randint(len(config.shifts), (config.batch, 2), generator=shifting)
        shifts_B2 = torch.tensor(config.shifts)[drawn_B2]
        found = losses(policy, critic, target, recording, rows_B, shifts_B2, config)
        optimizer.zero_grad(set_to_none=True)
        torch.stack([*found.values()]).sum().backward()
        optimizer.step()
        with torch.no_grad():
            for kept, new in zip(target.parameters(), critic.parameters(), strict=True):
                kept.lerp_(new, 1 - config.lag)
        on_step(step + 1, {name: float(loss.detach()) for name, loss in found.items()})
    return policy.eval()


def losses(
    policy: Network,
    critic: Network,
    target: Network,
    recording: Recording,
    rows_B: Tensor,
    shifts_B2: Tensor,
    config: OfflineConfig,
) -> dict[str, Tensor]:
    """The losses of the policy and, unless everything is copied, of the critic, on some recorded steps."""
    device = next(policy.parameters()).device
    frames_BHWC, next_BHWC = (
        shifted(recording.frames_XHWC[rows], shifts_B2).to(device) for rows in (rows_B, rows_B + 1)
    )
    actions_B, rewards_B, over_B = (
        values_X[rows_B].to(device)
        for values_X in (recording.actions_X, recording.rewards_X, recording.over_X)
    )
    log_BA = policy(frames_BHWC)[0].log_softmax(-1)
    copied_B = -log_BA.gather(-1, actions_B[:, None]).squeeze(-1)
    if config.copy == "all":
        return {"policy": copied_B.mean()}
    values_BA = critic(frames_BHWC)[0]
    now_B = values_BA.gather(-1, actions_B[:, None]).squeeze(-1)
    with torch.no_grad():
        later_B = (policy(next_BHWC)[0].softmax(-1) * target(next_BHWC)[0]).sum(-1)
        wanted_B = rewards_B + config.discount * later_B * ~over_B
        better_B = now_B - (log_BA.exp() * values_BA).sum(-1)
    return {
        "critic": F.mse_loss(now_B, wanted_B),
        "policy": (copied_B * weights(better_B, config)).mean(),
    }


def shifted(frames_BHWC: Tensor, shifts_B2: Tensor) -> Tensor:
    """Pictures moved down and right by some pixels each; their edges go on into what comes into sight."""
    _, H, W, _ = frames_BHWC.shape
    rows_BH = (torch.arange(H) - shifts_B2[:, :1]).clamp(0, H - 1)
    columns_BW = (torch.arange(W) - shifts_B2[:, 1:]).clamp(0, W - 1)
    return frames_BHWC[
        torch.arange(len(frames_BHWC))[:, None, None], rows_BH[:, :, None], columns_BW[:, None]
    ]


def weights(advantages_B: Tensor, config: OfflineConfig) -> Tensor:
    """How much each recorded action is copied, ``B``, given how much better it is than the policy's own choice."""
    if config.copy == "better":
        return (advantages_B > 0).float()
    return (advantages_B / config.temperature).exp().clamp(max=20.0)
