"""Playing with a policy: its returns, and an agent as a policy of ``jinn data``."""

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


def check_envs(envs: Any) -> None:
    """Raise `JinnError` unless the step after the last one of an episode starts the next, as agents here expect it."""
    metadata: dict[str, Any] = getattr(envs, "metadata", None) or {}
    name = getattr(metadata.get("autoreset_mode"), "value", "NextStep")  # EnvPool's have none
    if name != "NextStep":
        raise JinnError(f'make the environments with autoreset_mode="NextStep": theirs is "{name}"')


def play(envs: Any, policy: Policy, episodes: int) -> np.ndarray:
    """Returns of the first episodes that each environment plays.

    Args:
        envs: as of `jinn.agents.ppo.train_ppo`.
        policy: sees only the environments whose episodes still count, so it must not depend on their order. One that
            remembers has a method ``begin(rows_B, first_B)``, which is called before it with the numbers of these
            environments, and whether each shows the first frame of an episode.
        episodes: least number of episodes, rounded up to the same number for each environment: otherwise short ones
            would be counted too often.

    Returns:
        float64, the sum of rewards of each episode.

    Raises:
        JinnError: the environments start episodes in another way than `train_ppo` expects.
    """
    check_envs(envs)
    each = -(-episodes // int(envs.num_envs))
    returns_B, done = np.zeros(envs.num_envs), [[] for _ in range(envs.num_envs)]  # type: ignore[var-annotated]
    frames, over_B, first_B = envs.reset()[0], np.zeros(envs.num_envs, bool), np.ones(envs.num_envs, bool)
    begin = getattr(policy, "begin", None)
    while (needed := np.array([len(returns) < each for returns in done])).any():
        actions_B = np.zeros(envs.num_envs, np.int64)
        if begin is not None:
            begin(np.flatnonzero(needed), first_B[needed])
        actions_B[needed] = policy(torch.as_tensor(frames)[torch.from_numpy(needed)]).cpu().numpy()
        frames, rewards, terminated, truncated, _ = envs.step(actions_B)
        returns_B += np.where(over_B, 0.0, rewards)  # a step that only starts an episode has no reward
        first_B, over_B = over_B, np.asarray(terminated, bool) | np.asarray(truncated, bool)
        for i in np.flatnonzero(over_B):
            done[i].append(returns_B[i])
            returns_B[i] = 0.0
    return np.array([returns[:each] for returns in done]).flatten()


def actor(folder: Path | str, seed: int = 0, random: float = 0.0) -> Callable[[np.ndarray], np.ndarray]:
    """An agent as a policy of ``jinn data``: uint8 ``obs_BHWC`` to one action each.

    In a file of two lines, ``from jinn.agents.play import actor`` and ``act = actor("runs/expert")``, it plays by
    ``jinn data envpool:CoinrunHard-v0 --policy FILE.py:act``.

    Args:
        folder: of the agent.
        seed: of the sampled actions.
        random: fraction of its actions, 0 to 1, that are replaced by random ones: a world learns what an action
            does only where it is taken.

    Raises:
        JinnError: there is no agent in the folder, or the fraction is out of range.
    """
    if not 0 <= random <= 1:
        raise JinnError("the fraction of random actions lies between 0 and 1")
    network, generator = Network.load(folder), torch.Generator().manual_seed(seed)

    def act(frames_BHWC: np.ndarray) -> np.ndarray:
        actions_B = network.act(torch.from_numpy(frames_BHWC), generator)
        random_B = torch.randint(network.config.actions, actions_B.shape, generator=generator)
        replaced_B = torch.rand(actions_B.shape, generator=generator) < random
        return torch.where(replaced_B, random_B, actions_B).numpy()

    return act
