"""How often a policy succeeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Frames uint8 BHWC -> actions int64 B.
Policy = Callable[[Tensor], Tensor]


def play(envs: Any, policy: Policy, episodes: int) -> np.ndarray:
    """Returns of the first episodes that each environment plays.

    Each environment counts for the same number of episodes, or short ones would be counted too often.

    Args:
        envs: as of `jinn.agents.ppo.train_ppo`.
        policy: acts for all of them.
        episodes: how many at least; rounded up to as many for each environment.

    Returns:
        float64, the sum of rewards of each.
    """
    each = -(-episodes // int(envs.num_envs))
    earned_B, done = np.zeros(envs.num_envs), [[] for _ in range(envs.num_envs)]  # type: ignore[var-annotated]
    frames, over_B = envs.reset()[0], np.zeros(envs.num_envs, bool)
    while min(map(len, done)) < each:
        actions_B = policy(torch.as_tensor(frames)).cpu().numpy()
        frames, rewards, ended, cut, _ = envs.step(actions_B)
        earned_B += np.where(over_B, 0.0, rewards)  # the step that only begins the next episode earns nothing
        over_B = np.asarray(ended, bool) | np.asarray(cut, bool)
        for i in np.flatnonzero(over_B):
            done[i].append(earned_B[i])
            earned_B[i] = 0.0
    return np.array([returns[:each] for returns in done]).flatten()
