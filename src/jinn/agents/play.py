"""Agents that play: how often they succeed, and what their play looks like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jinn.agents.network import Network
from jinn.contracts import JinnError

# Frames uint8 BHWC -> actions int64 B.
Policy = Callable[[Tensor], Tensor]


def play(envs: Any, policy: Policy, episodes: int) -> np.ndarray:
    """Returns of the first episodes that each environment plays.

    Each environment counts for the same number of episodes, or short ones would be counted too often.

    Args:
        envs: as of `jinn.agents.ppo.train_ppo`.
        policy: acts; it sees the environments whose episodes still count, so it may not remember them.
        episodes: how many at least; rounded up to as many for each environment.

    Returns:
        float64, the sum of rewards of each.
    """
    each = -(-episodes // int(envs.num_envs))
    earned_B, done = np.zeros(envs.num_envs), [[] for _ in range(envs.num_envs)]  # type: ignore[var-annotated]
    frames, over_B = envs.reset()[0], np.zeros(envs.num_envs, bool)
    while (needed := np.array([len(returns) < each for returns in done])).any():
        actions_B = np.zeros(envs.num_envs, np.int64)
        actions_B[needed] = policy(torch.as_tensor(frames)[torch.from_numpy(needed)]).cpu().numpy()
        frames, rewards, ended, cut, _ = envs.step(actions_B)
        earned_B += np.where(over_B, 0.0, rewards)  # the step that only begins the next episode earns nothing
        over_B = np.asarray(ended, bool) | np.asarray(cut, bool)
        for i in np.flatnonzero(over_B):
            done[i].append(earned_B[i])
            earned_B[i] = 0.0
    return np.array([returns[:each] for returns in done]).flatten()


def actor(folder: Path | str, seed: int = 0, random: float = 0.0) -> Callable[[np.ndarray], np.ndarray]:
    """An agent as a policy of ``jinn data``: uint8 ``obs_BHWC`` to an action each.

    In a file of two lines, ``from jinn.agents.play import actor`` and ``act = actor("runs/expert")``, it
    plays by ``jinn data envpool:CoinrunHard-v0 --policy FILE.py:act``.

    Args:
        folder: of the agent.
        seed: of its draws.
        random: share of its actions, 0 to 1, that are drawn evenly from all there are instead: a world learns
            what a key does only where it is pressed.

    Raises:
        JinnError: there is no agent in the folder, or no such share.
    """
    if not 0 <= random <= 1:
        raise JinnError("the share of random actions lies between 0 and 1")
    network, chance = Network.load(folder), torch.Generator().manual_seed(seed)

    def act(frames_BHWC: np.ndarray) -> np.ndarray:
        actions_B = network.act(torch.from_numpy(frames_BHWC), chance)
        drawn_B = torch.randint(network.config.actions, actions_B.shape, generator=chance)
        return torch.where(torch.rand(actions_B.shape, generator=chance) < random, drawn_B, actions_B).numpy()

    return act
