"""Environments of EnvPool (Procgen, Atari) and Gymnasium behind one interface: they step together and show RGB.

In EnvPool and in Gymnasium's vector environments alike, the step after a final observation ignores its action
and returns the first observation of the next episode (Gymnasium calls this autoreset mode NEXT_STEP).
"""

from __future__ import annotations

import importlib
import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from jinn.contracts import JinnError
from jinn.cpus import num_cpus

PROCGEN_FPS = 15
# The movements come first: left, none, right, each with down, none, up. The others do nothing in most games.
PROCGEN_NAMES = (
    "down-left", "left", "up-left", "down", "stay", "up", "down-right", "right", "up-right",
    "D", "A", "W", "S", "Q", "E",
)  # fmt: skip
PROCGEN_ACTIONS, PROCGEN_MOVES = len(PROCGEN_NAMES), 9
WALK_RIGHT, JUMP_RIGHT = 7, 8
ATARI_FPS = 60  # of the console; environments show every fourth frame
ATARI_NAMES = (
    "stay", "fire", "up", "right", "left", "down", "up-right", "up-left", "down-right", "down-left",
    "up-fire", "right-fire", "left-fire", "down-fire",
    "up-right-fire", "up-left-fire", "down-right-fire", "down-left-fire",
)  # fmt: skip
# Fields of EnvPool's configs that are no options of a game.
ENVPOOLS_OWN = (
    "batch_size", "max_num_players", "thread_affinity_offset", "base_path", "env_seed", "gym_reset_return_info",
    "env_name",
)  # fmt: skip


@dataclass(frozen=True)
class Games:
    """Environments that step together."""

    # () -> uint8 obs_BHWC, and level seeds (B,) or None.
    reset: Callable[[], tuple[np.ndarray, np.ndarray | None]]
    # actions -> observations, level seeds, and whether each observation is its episode's last.
    step: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None, np.ndarray]]
    close: Callable[[], None]
    # (generator, whether only movements) -> a random action for each environment.
    sample_actions: Callable[[np.random.Generator, bool], np.ndarray]
    num_envs: int
    num_actions: int | None  # None if they are not discrete
    fps: float  # the environment's own rate
    action_names: tuple[str, ...] | None = None  # one for each action, None if the environment tells none
    rewards_B: np.ndarray | None = None  # float32, of the last step: each writes its own


def open_games(
    env_id: str, seed: int = 0, levels: tuple[int, int] | None = None, num_envs: int = 16
) -> Games:
    """Open environments, e.g. ``envpool:CoinrunHard-v0`` or ``gymnasium:CartPole-v1``.

    Args:
        env_id: Library and name, and after these the environment's own options, if any:
            ``envpool:CoinrunHard-v0?use_backgrounds=false&restrict_themes=true``.
        seed: Seed of the order of the levels and of everything random in the environments.
        levels: First level seed and number of levels; None plays all there are.

    Raises:
        JinnError: The environment is unknown or not installed, or has no RGB pictures or no such levels.
    """
    library, _, name = env_id.partition(":")
    if library == "envpool":
        return _open_envpool(name, seed, levels, num_envs)
    if library != "gymnasium":
        raise JinnError(f"{env_id!r} is not an environment: write envpool:NAME or gymnasium:NAME")
    if levels is not None:
        raise JinnError(f"{env_id} has no numbered levels: leave the levels out")
    return _open_gymnasium(name, seed, num_envs)


def make_envpool(name: str, seed: int, levels: tuple[int, int] | None, num_envs: int) -> Any:
    """EnvPool's own Procgen environments, ``BHWC``; the arguments and errors are those of `open_games`."""
    if "start_level" not in _envpool_fields(name):
        raise JinnError(f"envpool:{name} is not a Procgen game: try CoinrunHard-v0")
    start, count = levels or (0, 0)  # a count of 0 means all levels
    ours = {"start_level": start, "num_levels": count, "channel_first": False}
    return _make_envpool(name, seed, num_envs, ours, {})


def _make_atari(name: str, seed: int, levels: tuple[int, int] | None, num_envs: int) -> Any:
    """EnvPool's own Atari environments, ``BCHW`` in colour, by default as large as the console's picture."""
    if levels is not None:
        raise JinnError(f"envpool:{name} has no numbered levels: leave the levels out")
    usual = {"img_height": 210, "img_width": 160}
    return _make_envpool(name, seed, num_envs, {"gray_scale": False, "stack_num": 1}, usual)


def _envpool_fields(name: str) -> tuple[str, ...]:
    """The fields of the config of an environment, by which its family is told."""
    try:
        with redirect_stderr(io.StringIO()):  # it imports the old gym, which prints an advertisement
            import envpool
    except ImportError as error:
        raise JinnError(
            "EnvPool is not installed: run pip install 'jinn[games]' (it has packages for Linux on x86-64 only)"
        ) from error
    name, _ = split_options(name)
    if name not in envpool.list_all_envs():
        raise JinnError(f"EnvPool has no {name!r}: try CoinrunHard-v0 (see envpool.list_all_envs())")
    return tuple(envpool.make_spec(name).config._fields)


def _make_envpool(name: str, seed: int, num_envs: int, ours: dict[str, Any], usual: dict[str, Any]) -> Any:
    """EnvPool's own environments, with what we need of their options, and what is usual if the name says nothing."""
    import envpool

    ours |= {"num_envs": num_envs, "num_threads": min(num_envs, num_cpus()), "seed": seed % 2**31}
    known = [key for key in _envpool_fields(name) if key not in (*ours, *ENVPOOLS_OWN)]
    name, options = split_options(name)
    for key in options:
        if key not in known:
            raise JinnError(
                f"envpool:{name} has no option {key!r} that can be set: it has {', '.join(known)}"
            )
    try:
        return envpool.make(name, env_type="gymnasium", **ours, **{**usual, **options})
    except (TypeError, ValueError, RuntimeError) as error:
        raise JinnError(
            f"envpool:{name} cannot take {options}: a value is true, false, a number or a name"
        ) from error


def split_options(name: str) -> tuple[str, dict[str, Any]]:
    """``NAME?key=value&key=value`` to the name and the options; true, false and numbers become what they say."""
    name, _, text = name.partition("?")
    options: dict[str, Any] = {}
    for part in filter(None, text.split("&")):
        key, equals, value = part.partition("=")
        if not equals:
            raise JinnError(f"an option of an environment is KEY=VALUE, and not {part!r}")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    return name, options


def readable(meaning: str) -> str:
    """A name of Gymnasium's Atari games as names are written here: ``UPRIGHTFIRE`` is "up-right-fire"."""
    return "-".join(re.findall("up|down|left|right|fire|.+", meaning.lower()))


def _open_envpool(name: str, seed: int, levels: tuple[int, int] | None, num_envs: int) -> Games:
    fields = _envpool_fields(name)
    if "gray_scale" in fields:
        return _open_atari(name, seed, levels, num_envs)
    if "start_level" not in fields:
        raise JinnError(f"envpool:{name} is neither Procgen nor Atari: name it gymnasium:... instead")
    env = make_envpool(name, seed, levels, num_envs)
    num_actions = int(env.action_space.n)
    rewards_B = np.zeros(num_envs, np.float32)

    def reset() -> tuple[np.ndarray, np.ndarray]:
        obs, info = env.reset()
        return obs, info["level_seed"].copy()

    def step(actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        obs, rewards_B[:], terminated, truncated, info = env.step(np.asarray(actions, np.int32))
        return obs, info["level_seed"].copy(), terminated | truncated

    def sample_actions(rng: np.random.Generator, moves: bool) -> np.ndarray:
        return rng.integers(PROCGEN_MOVES if moves else num_actions, size=num_envs)

    names = PROCGEN_NAMES if num_actions == PROCGEN_ACTIONS else None
    return Games(reset, step, env.close, sample_actions, num_envs, num_actions, PROCGEN_FPS, names, rewards_B)


def _open_atari(name: str, seed: int, levels: tuple[int, int] | None, num_envs: int) -> Games:
    env = _make_atari(name, seed, levels, num_envs)
    num_actions = int(env.action_space.n)
    rewards_B = np.zeros(num_envs, np.float32)

    def reset() -> tuple[np.ndarray, None]:
        return env.reset()[0].transpose(0, 2, 3, 1), None

    def step(actions: np.ndarray) -> tuple[np.ndarray, None, np.ndarray]:
        obs_BCHW, rewards_B[:], terminated, truncated, _ = env.step(np.asarray(actions, np.int32))
        return obs_BCHW.transpose(0, 2, 3, 1), None, terminated | truncated

    def sample_actions(rng: np.random.Generator, moves: bool) -> np.ndarray:
        return rng.integers(num_actions, size=num_envs)

    fps = ATARI_FPS / float(env.config["frame_skip"])
    # Most games have fewer actions, in an order of their own.
    names = ATARI_NAMES if num_actions == len(ATARI_NAMES) else None
    return Games(reset, step, env.close, sample_actions, num_envs, num_actions, fps, names, rewards_B)


def _open_gymnasium(name: str, seed: int, num_envs: int) -> Games:
    try:
        import gymnasium
    except ImportError as error:
        raise JinnError("Gymnasium is not installed: run pip install 'jinn[games]'") from error
    name, options = split_options(name)
    if name.startswith("ALE/"):
        with suppress(ImportError):  # else Gymnasium says what is missing
            gymnasium.register_envs(importlib.import_module("ale_py"))
    try:
        envs: Any = gymnasium.make_vec(name, num_envs, "sync", render_mode="rgb_array", **options)
        envs.reset(seed=seed % 2**31)
        pictures = np.stack(envs.render())
    except Exception as error:  # environments are programs of others, which raise errors of all kinds
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise JinnError(f"cannot open gymnasium:{name} with RGB pictures: {said}") from error
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or pictures.dtype != np.uint8:
        raise JinnError(f"gymnasium:{name} renders {pictures.dtype} {pictures.shape[1:]}, not RGB pictures")
    space = envs.single_action_space
    discrete = isinstance(space, gymnasium.spaces.Discrete)
    bounded = isinstance(space, gymnasium.spaces.Box) and space.is_bounded()
    if not discrete and not bounded:
        raise JinnError(f"gymnasium:{name} has actions {space}, jinn plays discrete and bounded ones")
    rewards_B = np.zeros(num_envs, np.float32)

    def reset() -> tuple[np.ndarray, None]:
        envs.reset(seed=seed % 2**31)
        return np.stack(envs.render()), None

    def step(actions: np.ndarray) -> tuple[np.ndarray, None, np.ndarray]:
        # Discrete spaces may begin elsewhere than at 0; actions here never do.
        _, rewards_B[:], terminated, truncated, _ = envs.step(actions + space.start if discrete else actions)
        return np.stack(envs.render()), None, terminated | truncated

    def sample_actions(rng: np.random.Generator, moves: bool) -> np.ndarray:
        if discrete:
            return rng.integers(space.n, size=num_envs)
        return rng.uniform(space.low, space.high, (num_envs, *space.shape)).astype(space.dtype)

    num_actions, fps = int(space.n) if discrete else None, float(envs.metadata.get("render_fps") or 30)
    meanings = getattr(envs.envs[0].unwrapped, "get_action_meanings", None) if discrete else None
    names = tuple(map(readable, meanings())) if meanings else None
    return Games(reset, step, envs.close, sample_actions, num_envs, num_actions, fps, names, rewards_B)
