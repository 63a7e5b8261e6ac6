"""Environments -> episodes: frames, with the true actions and level seeds beside them, for scoring only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np

from jinn.contracts import JinnError
from jinn.data.games import JUMP_RIGHT, PROCGEN_ACTIONS, PROCGEN_FPS, WALK_RIGHT, Games, open_games
from jinn.data.images import Fit, Resize, resize
from jinn.files import load_function

# A policy gets uint8 ``obs_BHWC`` and returns an action for each environment.
Policy = Callable[[np.ndarray], np.ndarray]

MAX_FRAMES = 1000  # an episode that is longer becomes several, which bounds the memory
MAX_BYTES = 2**26  # so does one of more bytes, of large pictures
MEAN_HOLD = 6  # mean number of environment steps for which the sticky policy holds an action


class PlayError(JinnError):
    """An environment failed while it was played, after all episodes before that were yielded."""


@dataclass(frozen=True)
class Episode:
    """The uint8 frames of one attempt at a level, or of a part of a long one."""

    frames_THWC: np.ndarray
    # int64; entry t leads from frame t to frame t + 1, the last is the padding -1. None if actions are not discrete.
    actions_T: np.ndarray | None
    level_seed: int | None  # None where the environment has no levels
    attempt: int  # number of the attempt within this call; parts of one attempt share it


def collect(
    env_id: str,
    frames: int,
    seed: int,
    levels: tuple[int, int] | None = None,
    policy: str | Policy = "random",
    num_envs: int = 16,
    repeat: int = 1,
    size_hw: tuple[int, int] | None = None,
    fit: Fit = "crop",
) -> Iterator[Episode]:
    """Play until there are `frames` frames, and yield the episodes as they end.

    A seed determines everything, on the same machine and for the same `num_envs`. The last episodes are cut
    short by the limit; together all episodes have exactly `frames` frames.

    Args:
        env_id, seed, levels, num_envs: As of `open_games`.
        frames: Number of frames in total.
        policy: ``"random"`` takes a random action each step, as the paper did. ``"sticky"`` holds a random movement for
            a random number of steps, geometric with mean `MEAN_HOLD`: random actions mostly cancel out, held ones move
            the player. ``"runner"`` tries to finish levels of Procgen's platformers, see `_runner`. ``"FILE.py:NAME"``
            is a `Policy` in a file, which is run anew by each call, so that its memory starts the same in each.
        repeat: Environment steps for which an action is repeated between two frames, to divide the rate.
        size_hw: Height and width of the frames, None keeps the environment's own.
        fit: What becomes of pictures of another shape, see `jinn.data.images.resize`.

    Raises:
        PlayError: The environment failed, after all that was played before was yielded.
        JinnError: As of `open_games`; or there is no such policy.
    """
    to_size = partial(resize, size_hw=size_hw, fit=fit) if size_hw else None
    with closing(open_games(env_id, seed, levels, num_envs)) as games:
        yield from _play(games, _choose(policy, games, seed, repeat), frames, repeat, to_size)


class _Recorder:
    """Frames and actions of each environment's current episode, and the number of frames left."""

    def __init__(self, games: Games, frames: int, to_size: Resize | None) -> None:
        self.to_size, self.left, self.discrete = to_size, frames, games.num_actions is not None
        self.frames: list[list[np.ndarray]] = [[] for _ in range(games.num_envs)]
        self.actions: list[list[int]] = [[] for _ in range(games.num_envs)]
        self.attempts = list(range(games.num_envs))
        self.levels_B: np.ndarray | None = None

    def add(self, envs: np.ndarray, obs_BHWC: np.ndarray) -> None:
        """Add what these environments show now, as far as frames are left."""
        envs = envs[: self.left]
        frames_BHWC = obs_BHWC[envs]
        if self.to_size:
            frames_BHWC = self.to_size(frames_BHWC)
        for env, frame_HWC in zip(envs, frames_BHWC, strict=True):
            self.frames[env].append(frame_HWC)
        self.left -= len(envs)

    def act(self, actions: np.ndarray) -> None:
        """Add what the environments that show frames do next."""
        for frames, done, action in zip(self.frames, self.actions, actions, strict=True):
            if frames:
                done.append(action)

    def end(self, env: int) -> Iterator[Episode]:
        """The episode of one environment, if it has any frames; the next one is then begun."""
        frames, actions = self.frames[env], self.actions[env]
        self.frames[env], self.actions[env] = [], []
        if frames:
            actions_T = np.array([*actions[: len(frames) - 1], -1], np.int64) if self.discrete else None
            level = None if self.levels_B is None else int(self.levels_B[env])
            yield Episode(np.stack(frames), actions_T, level, self.attempts[env])

    def split(self) -> Iterator[Episode]:
        """End episodes that are long enough; the next begins with the last frame, so no action is lost."""
        for env, frames in enumerate(self.frames):
            if frames and len(frames) >= max(2, min(MAX_FRAMES, MAX_BYTES // frames[0].nbytes)):
                yield from self.end(env)
                if self.left:
                    self.frames[env], self.left = [frames[-1]], self.left - 1


def _play(games: Games, act: Policy, frames: int, repeat: int, to_size: Resize | None) -> Iterator[Episode]:
    """The loop of `collect`. Frame t of an environment is what it shows after t * repeat steps."""
    recorder = _Recorder(games, frames, to_size)
    obs_BHWC, recorder.levels_B = games.reset()
    attempts = games.num_envs
    running = np.ones(games.num_envs, bool)  # False between a final observation and the next first one
    recorder.add(np.arange(games.num_envs), obs_BHWC)
    while recorder.left:
        yield from recorder.split()
        actions = act(obs_BHWC)
        recorder.act(actions)
        for _ in range(repeat):
            try:
                obs_BHWC, level_seeds, final = games.step(actions)
            except Exception as error:  # environments are programs of others, which raise errors of all kinds
                for env in range(games.num_envs):
                    yield from recorder.end(env)
                raise PlayError(f"{type(error).__name__}: {error}") from error
            ended = np.flatnonzero(running & final)
            recorder.add(ended, obs_BHWC)
            for env in ended.tolist():
                yield from recorder.end(env)
            running[ended] = False
        recorder.add(np.flatnonzero(running), obs_BHWC)
        # An environment that ended has been reset by a later step, unless it ended in the last one. A short
        # game that ended again in the meantime has shown nothing that was recorded.
        fresh = np.flatnonzero(~running & ~final)
        running[fresh] = True
        for env in fresh.tolist():
            recorder.attempts[env], attempts = attempts, attempts + 1
        recorder.levels_B = level_seeds
        recorder.add(fresh, obs_BHWC)
    for env in range(games.num_envs):
        yield from recorder.end(env)


def _choose(policy: str | Policy, games: Games, seed: int, repeat: int) -> Policy:
    rng = np.random.default_rng([abs(seed), 1])
    if policy == "random":
        return lambda obs_BHWC: games.sample_actions(rng, False)
    if policy == "sticky":
        return _sticky(games, rng, repeat)
    if policy == "runner":
        return _runner(games, rng, repeat)
    if isinstance(policy, str) and ":" not in policy:
        raise JinnError(
            f'there is no policy {policy!r}: choose "random", "sticky", "runner" or FILE.py:FUNCTION'
        )
    return _checked(load_function(policy) if isinstance(policy, str) else policy, games)


def _sticky(games: Games, rng: np.random.Generator, repeat: int) -> Policy:
    """Hold a random movement for a while, then another."""
    held: np.ndarray | None = None

    def act(obs_BHWC: np.ndarray) -> np.ndarray:
        nonlocal held
        sampled = games.sample_actions(rng, True)
        if held is None:
            held = sampled
        # Letting go with probability p at each choice gives holding times that are geometric with mean 1 / p.
        let_go = rng.random(games.num_envs) < min(1.0, repeat / MEAN_HOLD)
        held = np.where(let_go.reshape(-1, *[1] * (sampled.ndim - 1)), sampled, held)
        return held

    return act


def _runner(games: Games, rng: np.random.Generator, repeat: int) -> Policy:
    """Walk right, jump now and then and wherever the picture is static, and at times play at random.

    It reaches the coin in 53% of the levels of CoinRun hard, in 56 steps on average, "sticky" in 44% in 270 steps and
    "random" in 28% in 590 (1,500 steps of 64 games). So it shows five times as many levels, and their middles and ends.
    """
    if (games.num_actions, games.fps) != (PROCGEN_ACTIONS, PROCGEN_FPS):
        raise JinnError('the policy "runner" is for Procgen: choose "random" or "sticky"')
    sticky = _sticky(games, rng, repeat)
    jumps, wanders = np.zeros(games.num_envs, bool), np.zeros(games.num_envs, bool)
    previous: np.ndarray | None = None

    def act(obs_BHWC: np.ndarray) -> np.ndarray:
        nonlocal jumps, wanders, previous
        changed = np.inf if previous is None else np.abs(obs_BHWC.astype(np.int16) - previous).mean((1, 2, 3))
        previous = obs_BHWC.copy()
        # Jumping and wandering are Markov chains of two states, with these probabilities of a change per choice.
        # A picture that changed by less than 0.2 grey levels is static.
        start_jump = np.where(np.broadcast_to(changed, jumps.shape) < 0.2, 0.9, 0.12)
        jumps = np.where(jumps, rng.random(len(jumps)) >= repeat / 8, rng.random(len(jumps)) < start_jump)
        wanders = np.where(
            wanders, rng.random(len(wanders)) >= repeat / 12, rng.random(len(wanders)) < repeat / 60
        )
        return np.where(wanders, sticky(obs_BHWC), np.where(jumps, JUMP_RIGHT, WALK_RIGHT))

    return act


def _checked(policy: Policy, games: Games) -> Policy:
    """The policy with its answers checked before they reach an environment that would crash on wrong ones."""

    def act(obs_BHWC: np.ndarray) -> np.ndarray:
        actions = np.asarray(policy(obs_BHWC))
        if actions.shape[:1] != (games.num_envs,):
            raise JinnError(f"the policy gave actions of shape {actions.shape} for {games.num_envs} games")
        if games.num_actions is not None:
            whole = actions.ndim == 1 and np.issubdtype(actions.dtype, np.integer)
            if not whole or actions.min() < 0 or actions.max() >= games.num_actions:
                raise JinnError(f"the policy must give whole numbers from 0 to {games.num_actions - 1}")
        return actions

    return act
