"""A world as an environment: one batch of roll-outs behind Gymnasium's two interfaces.

    import gymnasium, jinn.env

    env = gymnasium.make("jinn/World-v0", world="platforms")
    envs = gymnasium.make_vec("jinn/World-v0", num_envs=16, world="runs/mine", prompts="stores/mine")

Observations are frames (uint8, ``HWC``). Actions are the world's latent ones; in a world that was taught a game's keys
(``jinn teach``) they are the game's own.
A world predicts neither rewards nor terminations: a reward function gives them (`jinn.rewards`), and episodes are
truncated at a horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from jinn.contracts import JinnError, check_frames
from jinn.data.clips import ClipSampler
from jinn.data.store import FrameStore
from jinn.models.maskgit import SamplingConfig
from jinn.rewards import RewardFunction, no_reward
from jinn.world.backends import BackendName
from jinn.world.state import State, stack, take
from jinn.world.world import World


class WorldVectorEnv(VectorEnv[Any, Any, Any]):
    """Many roll-outs of a world, computed as one batch.

    The step after the last one of an episode starts a new one, whatever its action (`AutoresetMode.NEXT_STEP`).

    Args:
        num_envs: B.
        world: a `World`, or the name or folder of one.
        prompts: what episodes start from: a store of frames (or its folder), or frames ``PTHWC``; None: the world's.
        context: number of frames of a prompt from a store.
        split: of the store.
        horizon: number of steps after which an episode is truncated.
        reward: gives rewards and terminations; None gives none.
        actions: what action k plays. None: the k-th action of the game if the world was taught its keys, else latent
            action k; "latent": always latent action k; a list: latent action ``actions[k]``.
        sampling: how frames are sampled; None is the world's own. Any other is computed without the backend.
        as_tensors: whether observations, rewards and flags are torch tensors on the world's device, which copies
            nothing to the host. By default they are NumPy arrays, as in Gymnasium.
        backend, device: how and where a world that is given by name computes.
        render_mode: "rgb_array" or None.

    Raises:
        JinnError: no such world or store, frames of another size, a map to actions that do not exist.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 Gymnasium's own form
        "render_modes": ["rgb_array"],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int = 1,
        world: World | str | Path = "platforms",
        prompts: FrameStore | str | Path | Tensor | None = None,
        context: int = 1,
        split: str = "all",
        horizon: int = 500,
        reward: RewardFunction | None = None,
        actions: Sequence[int] | Literal["latent"] | None = None,
        sampling: SamplingConfig | None = None,
        as_tensors: bool = False,
        backend: BackendName = "auto",
        device: str | torch.device = "cpu",
        render_mode: str | None = None,
    ) -> None:
        if not isinstance(world, World):
            world = World.load(world, device, backend)
        if min(num_envs, context, horizon) < 1:
            raise JinnError("num_envs, context and horizon must be at least 1")
        latent = range(world.num_actions)
        if actions is None and world.keys:
            actions = [key.latent for key in world.keys]
        elif actions is None or actions == "latent":
            actions = latent
        if not actions or any(action not in latent for action in actions):
            raise JinnError(f"the map has actions that this world lacks: it has 0 to {latent[-1]}")
        self.world, self.num_envs, self.horizon = world, num_envs, horizon
        self.reward, self.sampling = reward or no_reward, sampling
        self.as_tensors, self.render_mode = as_tensors, render_mode
        self.metadata = {**self.metadata, "render_fps": world.fps}
        self.map_U = torch.tensor(list(actions))
        self.prompts: Tensor | ClipSampler
        if isinstance(prompts, Tensor | None):
            self.prompts = world.prompts.unsqueeze(1) if prompts is None else prompts
            check_frames(self.prompts, world.size_hw)
        else:
            store = prompts if isinstance(prompts, FrameStore) else FrameStore.open(prompts)
            if tuple(store.size_hw) != tuple(world.size_hw):
                raise JinnError(f"the store's frames are {store.size_hw}, the world's {world.size_hw}")
            self.prompts = ClipSampler(store, context, 0, split)
        self.single_observation_space = spaces.Box(0, 255, (*world.size_hw, 3), np.uint8)
        self.single_action_space = spaces.Discrete(len(self.map_U))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.state: State | None = None
        self.frames_BHWC = torch.empty(0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start all episodes; the same seed and actions give the same episodes. There are no options."""
        super().reset(seed=seed)
        self.state, self.frames_BHWC = self._start(self.num_envs)
        self.steps_B, self.over_B = np.zeros(self.num_envs, np.int64), np.zeros(self.num_envs, bool)
        return self._output(self.frames_BHWC), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One step of all environments: observations, rewards, terminated, truncated, info."""
        if self.state is None:
            raise JinnError("reset the environment before its first step")
        actions_B = torch.as_tensor(actions).cpu().long().reshape(-1)
        known_B = (actions_B >= 0) & (actions_B < len(self.map_U))
        if len(actions_B) != self.num_envs or not known_B.all():
            raise JinnError(f"a step takes {self.num_envs} actions from 0 to {len(self.map_U) - 1}")
        before_BHWC = self.frames_BHWC
        self.state, self.frames_BHWC = self.world.step(self.state, self.map_U[actions_B], self.sampling)
        rewards, terminated = self.reward(before_BHWC, actions_B, self.frames_BHWC)
        rewards_B = rewards.cpu().numpy().astype(np.float32)
        terminated_B = terminated.cpu().numpy().astype(bool)
        self.steps_B += 1
        new = np.flatnonzero(self.over_B)
        if len(new):
            self._restart(new)
            rewards_B[new], terminated_B[new], self.steps_B[new] = 0, False, 0
        truncated_B = (self.steps_B >= self.horizon) & ~terminated_B
        self.over_B = terminated_B | truncated_B
        values = (self._output(torch.from_numpy(x)) for x in (rewards_B, terminated_B, truncated_B))
        return (self._output(self.frames_BHWC), *values, {})

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The present frames, where `render_mode` asks for them."""
        return None if self.render_mode is None else tuple(self.frames_BHWC.cpu().numpy())

    def _start(self, count: int) -> tuple[State, Tensor]:
        """New roll-outs from prompts drawn by the environment's random generator."""
        seeds = self.np_random.integers(2**31, size=count).tolist()
        if isinstance(self.prompts, Tensor):
            rows = self.np_random.integers(len(self.prompts), size=count)
            return self.world.reset(self.prompts[torch.from_numpy(rows)], seeds)
        # Batch n of batches of one is clip n.
        numbers = self.np_random.integers(2**48, size=count).tolist()
        prompts_BTHWC = torch.cat([self.prompts.batch(number, 1) for number in numbers])
        return self.world.reset(prompts_BTHWC, seeds)

    def _restart(self, rows: np.ndarray) -> None:
        """Start new episodes in some rows of the batch."""
        assert self.state is not None
        state, frames_BHWC = self._start(len(rows))
        order = np.arange(self.num_envs)
        order[rows] = self.num_envs + np.arange(len(rows))
        self.state = take(stack([self.state, state]), order.tolist())
        rows_B = torch.from_numpy(order).to(self.frames_BHWC.device)
        self.frames_BHWC = torch.cat([self.frames_BHWC, frames_BHWC])[rows_B]

    def _output(self, values: Tensor) -> Any:
        return values.to(self.world.device) if self.as_tensors else values.cpu().numpy()


class WorldEnv(gymnasium.Env[Any, Any]):
    """One roll-out of a world; arguments as of `WorldVectorEnv`."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 Gymnasium's own form

    def __init__(self, **options: Any) -> None:
        self.batch = WorldVectorEnv(1, **options)
        self.render_mode = self.batch.render_mode
        self.metadata = {**self.metadata, "render_fps": self.batch.world.fps}
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        observations, info = self.batch.reset(seed=seed, options=options)
        return observations[0], info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step; after the last one of an episode call `reset`."""
        observations, rewards, terminated, truncated, info = self.batch.step([int(action)])
        return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Any:
        """The present frame, where `render_mode` asks for it."""
        frames = self.batch.render()
        return frames[0] if frames else None


gymnasium.register(
    "jinn/World-v0", entry_point="jinn.env:WorldEnv", vector_entry_point="jinn.env:WorldVectorEnv"
)
