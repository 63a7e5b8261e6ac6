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

import os
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

from jinn.contracts import JinnError, as_actions, as_frames, as_integers, as_seeds, describe
from jinn.data.clips import ClipSampler
from jinn.data.store import FrameStore
from jinn.models.maskgit import SamplingConfig
from jinn.rewards import RewardFunction, check_rewards, no_reward
from jinn.world.backends import BackendName
from jinn.world.state import State, stack, take
from jinn.world.world import World


class WorldVectorEnv(VectorEnv[Any, Any, Any]):
    """Many roll-outs of a world, computed as one batch.

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
        autoreset_mode: what happens at the end of an episode. By default (NEXT_STEP) the next step starts a new one,
            whatever its action; in the mode SAME_STEP the last step does; in the mode DISABLED the caller resets the
            environment (with ``reset_mask``).
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
        prompts: FrameStore | str | Path | Tensor | np.ndarray | None = None,
        context: int = 1,
        split: str = "all",
        horizon: int = 500,
        reward: RewardFunction | None = None,
        actions: Sequence[int] | Literal["latent"] | None = None,
        sampling: SamplingConfig | None = None,
        as_tensors: bool = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        backend: BackendName = "auto",
        device: str | torch.device = "cpu",
        render_mode: str | None = None,
    ) -> None:
        if not isinstance(world, World):
            world = World.load(world, device, backend)
        if min(num_envs, context, horizon) < 1:
            raise JinnError("num_envs, context and horizon must be at least 1")
        map_U, self.action_names = map_actions(world, actions)
        self.world, self.num_envs, self.horizon = world, num_envs, horizon
        self.reward, self.sampling = reward or no_reward, sampling
        self.as_tensors, self.render_mode = as_tensors, render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "render_fps": world.fps, "autoreset_mode": self.autoreset_mode}
        self.map_U = map_U
        self.prompts: Tensor | ClipSampler
        if isinstance(prompts, Tensor | np.ndarray | None):
            prompts = world.prompts.unsqueeze(1) if prompts is None else prompts
            self.prompts = as_frames(prompts, world.size_hw)
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
        self.steps_B, self.over_B = np.zeros(num_envs, np.int64), np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start new episodes; the same seed and actions give the same ones.

        Args:
            seed: of prompts and roll-outs.
            options: ``prompt`` is the number of the prompt (of a clip if the prompts are a store), or one for each
                environment; ``frames`` (uint8, ``THWC``, or ``BTHWC``, one for each environment) are pictures to start
                from instead, such as those of the real game; ``reset_mask``, bool ``(B,)``, says which environments
                start new episodes. ``fork`` is the number of an environment, or one for each: they all go on from
                there, in the same step of the same episode, and with the same actions to the same frames.

        Returns:
            The first frames, and for each new episode its ``prompt`` (-1: the given frames) and ``seed`` (the roll-out
            is ``world.reset`` of these two), and ``action_names`` if the world has them. As usual in Gymnasium,
            ``_prompt`` says which of the values in ``prompt`` count.

        Raises:
            JinnError: unknown options or several that exclude each other, no such prompt or environment, frames of
                another size, or no episode that could go on.
        """
        if seed is not None:
            seed = int(as_seeds(seed, 1))
        super().reset(seed=seed)
        options = dict(options or {})
        if "fork" in options:
            return self._fork(options)
        mask_B, prompts = options.pop("reset_mask", None), options.pop("prompt", None)
        frames = options.pop("frames", None)
        if options or (prompts is not None and frames is not None):
            raise JinnError(
                "the options of a reset are prompt or frames, and reset_mask, or else fork alone: got "
                f"{', '.join(map(str, options)) or 'prompt and frames'}"
            )
        rows = np.arange(self.num_envs)
        if mask_B is not None:
            mask_B = np.asarray(mask_B)
            if mask_B.dtype != bool or mask_B.shape != rows.shape or not mask_B.any():
                raise JinnError(
                    f"reset_mask is a bool for each of {self.num_envs} environments, and True for one at least: "
                    f"got {describe(mask_B)}"
                )
            rows = np.flatnonzero(mask_B)
        if self.state is None and len(rows) < self.num_envs:
            raise JinnError("reset all environments before some of them")
        info = self._start(rows, prompts, frames)
        return self._output(self.frames_BHWC), info

    def _fork(self, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """All environments go on from some of them."""
        if self.state is None or len(options) > 1:
            raise JinnError("reset the environments before a fork, which takes no other options")
        rows = self._one_for_each(options["fork"], self.num_envs, "an environment to fork from")
        self.state, self.frames_BHWC = take(self.state, rows.tolist()), self.frames_BHWC[rows]
        self.steps_B, self.over_B = self.steps_B[rows], self.over_B[rows]
        return self._output(self.frames_BHWC), {}

    def _one_for_each(self, wanted: Any, limit: int, what: str) -> np.ndarray:
        """A number below a limit, or one for each environment, as int64 ``(B,)``; or `JinnError`."""
        every = as_integers(wanted)
        if (
            every is None
            or every.numel() not in (1, self.num_envs)
            or not 0 <= every.min() <= every.max() < limit
        ):
            raise JinnError(
                f"{what} is a number from 0 to {limit - 1}, or one for each environment: got {describe(wanted)}"
            )
        return every.cpu().reshape(-1).expand(self.num_envs).numpy()

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """One step of all environments: observations, rewards, terminated, truncated, info.

        The info is that of `reset` where episodes have started. In the mode SAME_STEP it also has the last frames of
        the episodes that they follow, ``final_obs``.

        Raises:
            JinnError: actions that do not exist, a step before the first reset or after the end of an episode.
        """
        if self.state is None:
            raise JinnError("reset the environment before its first step")
        if self.autoreset_mode == AutoresetMode.DISABLED and self.over_B.any():
            over = np.flatnonzero(self.over_B).tolist()
            raise JinnError(f"reset the environments {over} first: their episodes are over")
        actions_B = as_actions(actions, (self.num_envs,), len(self.map_U)).cpu()
        before_BHWC = self.frames_BHWC
        self.state, self.frames_BHWC = self.world.step(self.state, self.map_U[actions_B], self.sampling)
        result = self.reward(before_BHWC, actions_B, self.frames_BHWC.clone())
        rewards_B, terminated_B = check_rewards(result, self.num_envs)
        self.steps_B += 1
        info: dict[str, Any] = {}
        new = np.flatnonzero(self.over_B)
        if len(new):  # in the mode NEXT_STEP
            info = self._start(new)
            rewards_B[new], terminated_B[new] = 0, False
        truncated_B = (self.steps_B >= self.horizon) & ~terminated_B
        self.over_B = terminated_B | truncated_B
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self.over_B.any():
            info = self._restart_at_once()
        values = (self._output(torch.from_numpy(x)) for x in (rewards_B, terminated_B, truncated_B))
        return (self._output(self.frames_BHWC), *values, info)

    def render(self) -> tuple[np.ndarray, ...] | None:
        """The present frames, where `render_mode` asks for them."""
        return None if self.render_mode is None else tuple(self.frames_BHWC.cpu().numpy().copy())

    def _restart_at_once(self) -> dict[str, Any]:
        """Start new episodes where one is over, and keep their last frames in the info."""
        over_B, final_B = self.over_B.copy(), np.full(self.num_envs, None, object)
        for row in np.flatnonzero(over_B):
            final_B[row] = self._output(self.frames_BHWC[row])
        final = {"final_obs": final_B, "_final_obs": over_B, "final_info": {}, "_final_info": over_B.copy()}
        return final | self._start(np.flatnonzero(over_B))

    def _start(self, rows: np.ndarray, wanted: Any = None, frames: Any = None) -> dict[str, Any]:
        """Start new episodes in some rows of the batch: from the wanted prompts, from frames, or from prompts drawn by
        the environment's random generator."""
        seeds = self.np_random.integers(2**31, size=len(rows))
        # Batch n of batches of one is clip n.
        limit = len(self.prompts) if isinstance(self.prompts, Tensor) else 2**48
        if frames is not None:
            numbers, prompts_BTHWC = np.full(len(rows), -1), self._given(frames)[torch.from_numpy(rows)]
        else:
            if wanted is None:
                numbers = self.np_random.integers(limit, size=len(rows))
            else:
                numbers = self._one_for_each(wanted, limit, "a prompt")[rows]
            prompts_BTHWC = self._prompts(numbers)
        state, frames_BHWC = self.world.reset(prompts_BTHWC, seeds)
        if self.state is None or len(rows) == self.num_envs:
            self.state, self.frames_BHWC = state, frames_BHWC
        else:
            order = np.arange(self.num_envs)
            order[rows] = self.num_envs + np.arange(len(rows))
            self.state = take(stack([self.state, state]), order.tolist())
            rows_B = torch.from_numpy(order).to(self.frames_BHWC.device)
            self.frames_BHWC = torch.cat([self.frames_BHWC, frames_BHWC])[rows_B]
        self.steps_B[rows], self.over_B[rows] = 0, False
        return self._info(rows, numbers, seeds)

    def _prompts(self, numbers: np.ndarray) -> Tensor:
        """The prompts of some numbers, ``BTHWC``."""
        if isinstance(self.prompts, Tensor):
            return self.prompts[torch.from_numpy(numbers)]
        return torch.cat([self.prompts.batch(number, 1) for number in numbers.tolist()])

    def _given(self, frames: Any) -> Tensor:
        """Frames to start from, one clip for each environment."""
        if getattr(frames, "ndim", 0) == 4:
            frames = frames[None]
        given_BTHWC = as_frames(frames, self.world.size_hw)
        if len(given_BTHWC) not in (1, self.num_envs):
            raise JinnError(
                f"the frames to start from are one clip, or one for each of {self.num_envs} environments, "
                f"got {len(given_BTHWC)}"
            )
        return given_BTHWC.expand(self.num_envs, *given_BTHWC.shape[1:])

    def _info(self, rows: np.ndarray, prompts: np.ndarray, seeds: np.ndarray) -> dict[str, Any]:
        """The info of new episodes in some rows of the batch."""
        infos: dict[str, Any] = {}
        names = {"action_names": self.action_names} if self.action_names else {}
        for row, prompt, seed in zip(rows, prompts.tolist(), seeds.tolist(), strict=True):
            infos = self._add_info(infos, names | {"prompt": prompt, "seed": seed}, row)
        return infos

    def _output(self, values: Tensor) -> Any:
        """A copy, which the caller may change."""
        return values.to(self.world.device, copy=True) if self.as_tensors else values.cpu().numpy().copy()


def map_actions(
    world: World, actions: Sequence[int] | Literal["latent"] | None
) -> tuple[Tensor, tuple[str, ...] | None]:
    """The latent action of each action of an environment, and their names if they have any."""
    if actions is None and world.keys:
        return torch.tensor([key.latent for key in world.keys]), tuple(key.name for key in world.keys)
    if actions is None or (isinstance(actions, str) and actions == "latent"):
        actions = range(world.num_actions)
    if isinstance(actions, str) or not len(actions):
        raise JinnError(f'actions are None, "latent", or a list of latent actions, got {actions!r}')
    map_U = as_actions(actions, (len(actions),), world.num_actions)
    names = world.action_names
    return map_U, tuple(names[action] for action in map_U) if names else None


class WorldEnv(gymnasium.Env[Any, Any]):
    """One roll-out of a world; arguments as of `WorldVectorEnv`."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 Gymnasium's own form

    def __init__(self, **options: Any) -> None:
        self.batch = WorldVectorEnv(1, autoreset_mode=AutoresetMode.DISABLED, **options)
        self.render_mode = self.batch.render_mode
        self.metadata = {**self.metadata, "render_fps": self.batch.world.fps}
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode: its first frame, and its ``prompt``, ``seed`` and ``action_names``.

        ``options={"prompt": 3}`` starts from prompt 3; see `WorldVectorEnv.reset`.
        """
        super().reset(seed=None if seed is None else int(as_seeds(seed, 1)))
        observations, infos = self.batch.reset(seed=seed, options=options)
        return observations[0], {key: infos[key][0] for key in infos if not key.startswith("_")}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step; after the last one of an episode call `reset`."""
        observations, rewards, terminated, truncated, info = self.batch.step(action)
        return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> Any:
        """The present frame, where `render_mode` asks for it."""
        frames = self.batch.render()
        return frames[0] if frames else None


if hasattr(os, "register_at_fork"):
    # OpenMP's threads do not survive a fork, and a child that waits for them hangs: it computes on its only thread.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
