"""Environments -> frames, with the true actions and level seeds beside them, for scoring only."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jinn.contracts import JinnError
from jinn.data.games import JUMP_RIGHT, PROCGEN_ACTIONS, PROCGEN_FPS, WALK_RIGHT, Games, open_games
from jinn.data.images import crop_resize

# A policy sees uint8 ``obs_BHWC`` and returns an action for each environment.
Policy = Callable[[np.ndarray], np.ndarray]

PIECE = 1000  # frames after which an endless episode is cut in pieces, which bounds the memory
HOLD = 6  # mean number of environment steps for which the sticky policy keeps an action


@dataclass(frozen=True)
class Rollout:
    """One episode, that is one attempt at a level, or a piece of a long one.

    Attributes:
        frames_THWC: uint8.
        actions_T: int64, entry t leads from frame t to frame t + 1, the last is the padding -1. None if the
            environment's actions are not discrete.
        level_seed: the level, None where the environment has no levels.
        episode: counts the attempts of this call; pieces of one share it.
    """

    frames_THWC: np.ndarray
    actions_T: np.ndarray | None
    level_seed: int | None
    episode: int


def collect(
    env_id: str,
    frames: int,
    seed: int,
    levels: tuple[int, int] | None = None,
    policy: str | Policy = "random",
    num_envs: int = 16,
    repeat: int = 1,
    size_hw: tuple[int, int] | None = None,
) -> Iterator[Rollout]:
    """Play until `frames` frames were seen, and yield the episodes as they end.

    A seed determines everything, on the same machine and for the same `num_envs`. The last rollouts are
    episodes that the limit cut short; together all rollouts have exactly `frames` frames.

    Args:
        env_id, seed, levels, num_envs: see `open_games`.
        frames: how many frames in total.
        policy: ``"random"`` presses a random button each step, as the paper did. ``"sticky"`` holds a random
            movement for a random number of steps, geometric with mean `HOLD`: random presses mostly cancel
            out, held ones get somewhere. ``"runner"`` has a purpose, in Procgen's platformers, see `_run`.
            ``"FILE.py:NAME"`` is a function in a file, see `load_policy`. A
            callable is given the observations.
        repeat: environment steps for which an action is kept between two frames, to divide the native rate.
        size_hw: fit the frames to this size, None keeps the native one.

    Raises:
        JinnError: see `open_games`; or no such policy.
    """
    games = open_games(env_id, seed, levels, num_envs)
    try:
        yield from _play(games, _choose(policy, games, seed, repeat), frames, repeat, size_hw)
    finally:
        games.close()


def _play(
    games: Games, act: Policy, frames: int, repeat: int, size_hw: tuple[int, int] | None
) -> Iterator[Rollout]:
    """The loop of `collect`. Frame t of an environment is what it shows after t * repeat steps."""
    obs, seeds = games.reset()
    everyone = np.arange(games.num_envs)
    first = crop_resize(obs, size_hw) if size_hw else obs
    buffer = np.empty((games.num_envs, PIECE, *first.shape[1:]), np.uint8)
    taken = np.full((games.num_envs, PIECE), -1, np.int64)
    length = np.zeros(games.num_envs, np.int64)
    episode = everyone.copy()  # which attempt each environment is in
    episodes = games.num_envs
    level = seeds  # which level each environment is in
    running = np.ones(games.num_envs, bool)  # False between a final observation and the next first one
    left = frames

    def record(who: np.ndarray, shown: np.ndarray) -> None:
        nonlocal left
        who = who[:left]
        shown = shown[who]
        buffer[who, length[who]] = crop_resize(shown, size_hw) if size_hw else shown
        length[who] += 1
        left -= len(who)

    def cut(i: int) -> Rollout:
        frames_THWC, actions = buffer[i, : length[i]].copy(), taken[i, : length[i]].copy()
        actions[-1] = -1
        length[i] = 0
        known = games.num_actions is not None
        return Rollout(
            frames_THWC, actions if known else None, None if level is None else int(level[i]), int(episode[i])
        )

    record(everyone, obs)
    while left:
        for i in np.flatnonzero(running & (length == PIECE)).tolist():
            # The next piece begins with the frame that this one ends with, so that no action is lost.
            last = buffer[i, -1].copy()
            yield cut(i)
            if left:
                buffer[i, 0], length[i], left = last, 1, left - 1
        actions = act(obs)
        if games.num_actions is not None:
            taken[everyone, np.maximum(length - 1, 0)] = actions
        for _ in range(repeat):
            obs, seeds, final = games.step(actions)
            ended = np.flatnonzero(running & final)
            record(ended, obs)
            for i in ended.tolist():
                if length[i]:
                    yield cut(i)
            running[ended] = False
        record(np.flatnonzero(running), obs)
        # What ended has been reset by a later step, unless it ended in the last one. A short game that
        # ended again in the meantime has shown nothing that was recorded.
        fresh = np.flatnonzero(~running & ~final)
        running[fresh] = True
        episode[fresh] = np.arange(episodes, episodes + len(fresh))
        episodes += len(fresh)
        level = seeds
        record(fresh, obs)
    for i in np.flatnonzero(length).tolist():
        yield cut(i)


def _choose(policy: str | Policy, games: Games, seed: int, repeat: int) -> Policy:
    if callable(policy):
        return _checked(policy, games)
    rng = np.random.default_rng([abs(seed), 1])
    if policy == "random":
        return lambda obs: games.draw(rng, games.num_envs, False)
    if policy == "sticky":
        return _hold(games, rng, repeat)
    if policy == "runner":
        return _run(games, rng, repeat)
    return _checked(load_policy(policy), games)


def _hold(games: Games, rng: np.random.Generator, repeat: int) -> Policy:
    """Hold a random movement for a while, then another."""
    held: np.ndarray | None = None

    def act(obs: np.ndarray) -> np.ndarray:
        nonlocal held
        drawn = games.draw(rng, games.num_envs, True)
        if held is None:
            held = drawn
        # To let go with probability p at each choice holds for a geometric time with mean 1 / p.
        let_go = rng.random(games.num_envs) < min(1.0, repeat / HOLD)
        held = np.where(let_go.reshape(-1, *[1] * (drawn.ndim - 1)), drawn, held)
        return held

    return act


def _run(games: Games, rng: np.random.Generator, repeat: int) -> Policy:
    """Walk right, jump now and then and wherever the picture stands still, and at times play at random.

    In CoinRun hard it reaches the coin in 53% of the levels, each in 56 steps on the mean, where holding
    random movements does in 44% in 270, and random presses in 28% in 590 (1,500 steps of 64 games): so it
    shows five times as many levels, and what there is in the middle and at the end of them.
    """
    if (games.num_actions, games.fps) != (PROCGEN_ACTIONS, PROCGEN_FPS):
        raise JinnError('the policy "runner" is for Procgen: choose "random" or "sticky"')
    hold = _hold(games, rng, repeat)
    jumps, wanders = np.zeros(games.num_envs, bool), np.zeros(games.num_envs, bool)
    seen: np.ndarray | None = None

    def act(obs: np.ndarray) -> np.ndarray:
        nonlocal jumps, wanders, seen
        changed = np.inf if seen is None else np.abs(obs.astype(np.int16) - seen).mean((1, 2, 3))
        seen = obs.copy()
        # Each is a chain of two states with these chances of going over, a choice.
        # 0.2 grey levels: it stands still.
        begin = np.where(np.broadcast_to(changed, jumps.shape) < 0.2, 0.9, 0.12)
        jumps = np.where(jumps, rng.random(len(jumps)) >= repeat / 8, rng.random(len(jumps)) < begin)
        wanders = np.where(
            wanders, rng.random(len(wanders)) >= repeat / 12, rng.random(len(wanders)) < repeat / 60
        )
        return np.where(wanders, hold(obs), np.where(jumps, JUMP_RIGHT, WALK_RIGHT))

    return act


def load_policy(place: str) -> Policy:
    """The policy at ``FILE.py:NAME``: a function from uint8 ``obs_BHWC`` to an action for each of the B.

    The file is run anew for each block of play, so that what a function remembers begins alike in each.

    Raises:
        JinnError: no such file or function, or the file cannot be run.
    """
    file, _, name = place.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise JinnError(
            f'there is no policy {place!r}: choose "random", "sticky", "runner" or FILE.py:FUNCTION'
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise JinnError(f"{path} is no Python file: name one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise JinnError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    if not callable(act := getattr(module, name, None)):
        raise JinnError(f"{path} has no function {name!r}: define it, obs_BHWC -> actions_B")
    return act


def _checked(policy: Policy, games: Games) -> Policy:
    """The policy, whose mistakes are told before they reach an environment that would crash on them."""

    def act(obs_BHWC: np.ndarray) -> np.ndarray:
        actions = np.asarray(policy(obs_BHWC))
        if actions.shape[:1] != (games.num_envs,):
            raise JinnError(f"the policy gave actions of shape {actions.shape} for {games.num_envs} games")
        if games.num_actions is not None and not (
            np.issubdtype(actions.dtype, np.integer)
            and actions.ndim == 1
            and ((actions >= 0) & (actions < games.num_actions)).all()
        ):
            raise JinnError(f"the policy must give whole numbers from 0 to {games.num_actions - 1}")
        return actions

    return act
