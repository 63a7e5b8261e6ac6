"""Collected episodes: actions match their frames, an episode has one level, and a seed determines everything."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from jinn.cli import main
from jinn.contracts import JinnError
from jinn.data.collect import MAX_FRAMES, MEAN_HOLD, Episode, Policy, collect
from jinn.data.games import JUMP_RIGHT, PROCGEN_MOVES, WALK_RIGHT, open_games, readable
from jinn.data.ingest import ingest
from jinn.data.store import FrameStore
from jinn.world.motion import global_motion

try:
    import envpool
except ImportError:
    envpool = None
needs_envpool = pytest.mark.skipif(
    envpool is None, reason="EnvPool IS MISSING: Procgen collection is not tested"
)
COINRUN = "envpool:CoinrunHard-v0"


class Counter(gymnasium.Env):
    """Shows (episode, step, last action) as the colour of its picture; an episode has `length` steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(7)

    def __init__(self, length: int = 5, render_mode: str | None = None) -> None:
        self.length, self.render_mode, self.episode = length, render_mode, -1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.episode = -1
        self.episode, self.steps, self.last = self.episode + 1, 0, 99
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict]:
        self.steps, self.last = self.steps + 1, action
        return 0, 0.0, self.steps == self.length, False, {}

    def render(self) -> np.ndarray:
        return np.tile(np.array([self.episode, self.steps % 256, self.last], np.uint8), (4, 6, 1))


class Slider(Counter):
    """The same with continuous actions."""

    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))  # type: ignore[assignment]

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict]:
        assert action.shape == (2,)
        return super().step(round(100 + 100 * float(action[0])))


gymnasium.register("JinnCounter-v0", Counter)
gymnasium.register("JinnSlider-v0", Slider)
gymnasium.register("JinnLong-v0", Counter, kwargs={"length": 999})
gymnasium.register("JinnEndless-v0", Counter, kwargs={"length": 10**9})


def play(name: str, frames: int, **options: Any) -> list[Episode]:
    return list(collect(name, frames, options.pop("seed", 0), **options))


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("repeat", [1, 2, 3, 5, 7])
def test_every_action_is_stored_with_its_frames(num_envs: int, repeat: int) -> None:
    played = play("gymnasium:JinnCounter-v0", 300, num_envs=num_envs, repeat=repeat)
    assert sum(len(r.frames_THWC) for r in played) == 300
    assert [r.attempt for r in played] == list(dict.fromkeys(r.attempt for r in played))
    for episode in played:
        assert episode.actions_T is not None
        assert episode.level_seed is None
        assert episode.actions_T.shape == (len(episode.frames_THWC),)
        assert episode.actions_T[-1] == -1
        attempt, steps, last = episode.frames_THWC[:, 0, 0].T.astype(int)
        assert (attempt == attempt[0]).all()  # never continues over a reset
        assert (last[1:] == episode.actions_T[:-1]).all()
        # `repeat` steps from frame to frame; only the final frame may come earlier.
        assert (np.diff(steps)[:-1] == repeat).all()
        assert len(steps) < 2 or steps[-1] == min(steps[-2] + repeat, 5)
    assert played[0].frames_THWC[0, 0, 0].tolist() == [0, 0, 99]  # the first observation is kept
    whole = [r for r in played if r.frames_THWC[-1, 0, 0, 1] == 5]
    assert len(whole) > 15  # and so is the final one


@needs_envpool
def test_the_names_of_procgens_actions_say_what_they_do() -> None:
    """The camera follows the player: the picture scrolls left while he walks right, and then back."""
    games = open_games(COINRUN, seed=3, levels=(5, 1), num_envs=1)
    assert games.action_names is not None
    games.reset()
    scrolled = {}
    for name in ("right", "left"):
        actions = np.array([games.action_names.index(name)])
        frames_THWC = np.concatenate([games.step(actions)[0] for _ in range(12)])
        motion_T2 = global_motion(torch.from_numpy(frames_THWC)[None])[0]
        scrolled[name] = int(motion_T2[:, 1].sum())
    games.close()
    assert scrolled["right"] < 0 < scrolled["left"]


@pytest.mark.parametrize(
    ("meaning", "name"),
    [("NOOP", "noop"), ("UPRIGHTFIRE", "up-right-fire"), ("LEFT", "left"), ("FIRE", "fire")],
)
def test_meanings_of_gymnasium_become_names_of_directions(meaning: str, name: str) -> None:
    assert readable(meaning) == name


def test_random_play_takes_every_action() -> None:
    actions = [r.actions_T[:-1] for r in play("gymnasium:JinnCounter-v0", 300) if r.actions_T is not None]
    assert set(np.concatenate(actions).tolist()) == set(range(7))


def test_endless_episodes_are_split_without_losing_an_action() -> None:
    played = play("gymnasium:JinnEndless-v0", 2 * MAX_FRAMES + 50, num_envs=1)
    assert [len(r.frames_THWC) for r in played] == [MAX_FRAMES, MAX_FRAMES, 50]
    assert {r.attempt for r in played} == {0}
    for before, after in pairwise(played):
        assert np.array_equal(before.frames_THWC[-1], after.frames_THWC[0])
    for episode in played:
        assert (episode.frames_THWC[1:, 0, 0, 2] == episode.actions_T[:-1]).all()  # type: ignore[index]


@pytest.mark.parametrize("frames", [1, 2, 5, 16, 17])
def test_the_number_of_frames_is_exact(frames: int) -> None:
    played = play("gymnasium:JinnCounter-v0", frames)
    assert sum(len(r.frames_THWC) for r in played) == frames
    assert min(len(r.frames_THWC) for r in played) > 0


def test_a_policy_may_be_a_function() -> None:
    seen = []

    def policy(obs_BHWC: np.ndarray) -> np.ndarray:
        seen.append(obs_BHWC.shape)
        return obs_BHWC[:, 0, 0, 1] % 3  # the number of steps so far

    for episode in play("gymnasium:JinnCounter-v0", 100, policy=policy, num_envs=2):
        want = episode.frames_THWC[:-1, 0, 0, 1] % 3
        assert episode.actions_T[:-1].tolist() == want.tolist()  # type: ignore[index]
    assert set(seen) == {(2, 4, 6, 3)}


def test_a_policy_may_be_a_function_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def act(obs_BHWC):\n    return obs_BHWC[:, 0, 0, 1] % 3\n\nbad = 3\n")
    for episode in play("gymnasium:JinnCounter-v0", 60, policy=f"{file}:act", num_envs=2):
        want = episode.frames_THWC[:-1, 0, 0, 1] % 3
        assert episode.actions_T[:-1].tolist() == want.tolist()  # type: ignore[index]
    with pytest.raises(JinnError, match="has no function 'bad'"):
        play("gymnasium:JinnCounter-v0", 60, policy=f"{file}:bad")
    file.write_text("import nothing_of_that_name\n")
    with pytest.raises(JinnError, match="cannot be run: ModuleNotFoundError"):
        play("gymnasium:JinnCounter-v0", 60, policy=f"{file}:act")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda obs: np.zeros(len(obs) + 1, int), "for 2 games"),
        (lambda obs: np.full(len(obs), 99), "from 0 to 6"),
        (lambda obs: np.full(len(obs), 0.5), "whole numbers"),
    ],
)
def test_a_policys_mistakes_are_reported(answer: Policy, said: str) -> None:
    with pytest.raises(JinnError, match=said):
        play("gymnasium:JinnCounter-v0", 60, policy=answer, num_envs=2)


@pytest.mark.parametrize("repeat", [1, 3])
def test_sticky_actions_are_repeated(repeat: int) -> None:
    played = play("gymnasium:JinnLong-v0", 8000, policy="sticky", num_envs=4, repeat=repeat)
    changed = np.concatenate([np.diff(r.actions_T[:-1]) != 0 for r in played])  # type: ignore[index]
    # A newly sampled action equals the old one in one case of seven.
    assert abs(changed.mean() - 6 / 7 * repeat / MEAN_HOLD) < 0.02


def test_continuous_actions_are_played_but_not_kept() -> None:
    played = play("gymnasium:JinnSlider-v0", 30, policy="sticky")
    assert all(r.actions_T is None for r in played)
    assert sum(len(r.frames_THWC) for r in played) == 30
    shown = np.concatenate([r.frames_THWC[1:, 0, 0, 2] for r in played])
    assert len(set(shown.tolist())) > 2


def test_frames_are_resized() -> None:
    assert play("gymnasium:JinnCounter-v0", 9, size_hw=(8, 8))[0].frames_THWC.shape[1:] == (8, 8, 3)
    assert play("gymnasium:JinnCounter-v0", 9)[0].frames_THWC.shape[1:] == (4, 6, 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gymnasium:JinnNowhere-v0", "cannot open gymnasium:JinnNowhere-v0"),
        ("JinnCounter-v0", "write envpool:NAME or gymnasium:NAME"),
        pytest.param("envpool:Nowhere-v0", "EnvPool has no 'Nowhere-v0'", marks=needs_envpool),
        pytest.param("envpool:CartPole-v1", "neither Procgen nor Atari", marks=needs_envpool),
    ],
)
def test_mistakes_are_reported(name: str, said: str) -> None:
    with pytest.raises(JinnError, match=said):
        play(name, 10)


def test_unknown_policies_and_levels_are_reported() -> None:
    with pytest.raises(JinnError, match='choose "random", "sticky", "runner" or'):
        play("gymnasium:JinnCounter-v0", 10, policy="clever")
    with pytest.raises(JinnError, match='"runner" is for Procgen'):
        play("gymnasium:JinnCounter-v0", 10, policy="runner")
    with pytest.raises(JinnError, match="no numbered levels"):
        play("gymnasium:JinnCounter-v0", 10, levels=(0, 5))


@needs_envpool
def test_atari_games_are_recorded_in_colour() -> None:
    played = play("envpool:Boxing-v5", 40, size_hw=(64, 64))
    frame_HWC = played[0].frames_THWC[0]
    assert frame_HWC.shape == (64, 64, 3)
    red, green, blue = frame_HWC.reshape(-1, 3).mean(0)  # a green ring
    assert green > red > blue
    games = open_games("envpool:Boxing-v5")
    assert (games.fps, games.num_actions) == (15, 18)
    assert games.action_names is not None
    assert games.reset()[0].shape[1:] == (210, 160, 3)
    games.close()
    with pytest.raises(JinnError, match="no numbered levels"):
        play("envpool:Boxing-v5", 10, levels=(0, 5))


@needs_envpool
def test_the_names_of_atari_actions_say_what_they_do() -> None:
    """The white player of Boxing goes where a name says, unless the ring or the other one stops him."""
    with closing(open_games("envpool:Boxing-v5", num_envs=1)) as games:
        assert games.action_names is not None

        def place() -> np.ndarray:
            pixels_HWC = games.reset()[0][0]
            for _ in range(10):
                pixels_HWC = games.step(np.array([games.action_names.index(name)]))[0][0]
            white = (pixels_HWC[36:180] > 200).all(-1)
            return np.argwhere(white).mean(0)

        places = {}
        for name in ("stay", "down", "right", "down-right"):
            places[name] = place()
    assert places["down"][0] > places["stay"][0] + 10
    assert places["right"][1] > places["stay"][1] + 5
    assert places["down-right"][0] > places["stay"][0] + 10


@pytest.fixture(scope="module")
def coinrun() -> list[Episode]:
    if envpool is None:
        pytest.skip("EnvPool IS MISSING: Procgen collection is not tested")
    return play(COINRUN, 12_000, levels=(100, 20))


@needs_envpool
def test_a_coinrun_episode_stays_within_a_level(coinrun: list[Episode]) -> None:
    assert sum(len(r.frames_THWC) for r in coinrun) == 12_000
    assert {r.level_seed for r in coinrun} <= set(range(100, 120))
    assert len({r.level_seed for r in coinrun}) > 8
    assert coinrun[0].frames_THWC.shape[1:] == (64, 64, 3)
    whole = [r for r in coinrun if len(r.frames_THWC) > 3]
    assert len(whole) > 16
    for episode in whole:
        change = np.abs(np.diff(episode.frames_THWC.astype(np.int16), axis=0)).mean((1, 2, 3))
        assert change.max() < 40  # a frame of another level differs by 45 to 120


@needs_envpool
def test_a_level_always_starts_with_the_same_frame(coinrun: list[Episode]) -> None:
    first: dict[int | None, np.ndarray] = {}
    met = 0
    for episode in coinrun:
        start = episode.frames_THWC[0]
        met += episode.level_seed in first
        assert np.array_equal(first.setdefault(episode.level_seed, start), start)
    assert met > 5  # so the seed is that of the frames, and the frame is the level's first


@needs_envpool
def test_coinrun_actions_reproduce_their_frames() -> None:
    """Replaying the actions in a single game must give the same frames."""
    played = play(COINRUN, 700, levels=(3, 1), num_envs=1, seed=5)
    games = open_games(COINRUN, seed=5, levels=(3, 1), num_envs=1)
    obs, _ = games.reset()
    for episode in played:
        for frame, action in zip(episode.frames_THWC, episode.actions_T, strict=True):  # type: ignore[arg-type]
            assert np.array_equal(obs[0], frame)
            obs, _, _ = games.step(np.array([max(action, 0)]))
    games.close()


@needs_envpool
def test_a_seed_determines_the_episodes() -> None:
    def content(seed: int, policy: str) -> list[bytes]:
        played = play(COINRUN, 1500, seed=seed, levels=(0, 50), policy=policy)
        return [r.frames_THWC.tobytes() + r.actions_T.tobytes() for r in played]  # type: ignore[union-attr]

    for policy in ("random", "sticky"):
        assert content(1, policy) == content(1, policy)
    assert content(1, "random") != content(2, "random")
    starts = [open_games(COINRUN, seed, levels=(0, 50)).reset() for seed in (1, 1, 2)]
    assert np.array_equal(starts[0][0], starts[1][0])
    assert starts[0][1].tolist() == starts[1][1].tolist() != starts[2][1].tolist()  # type: ignore[union-attr]
    assert content(1, "random") != content(1, "sticky")


@needs_envpool
def test_sticky_play_takes_every_action() -> None:
    actions = np.concatenate([r.actions_T for r in play(COINRUN, 2000, policy="sticky")])  # type: ignore[misc]
    assert set(actions.tolist()) == set(range(-1, PROCGEN_MOVES))


@needs_envpool
@pytest.mark.slow
def test_the_runner_plays_more_levels_than_the_sticky_policy() -> None:
    runs = {policy: play(COINRUN, 16_000, policy=policy) for policy in ("sticky", "runner")}
    levels = {policy: len({r.level_seed for r in found}) for policy, found in runs.items()}
    assert levels["runner"] > 3 * levels["sticky"]
    actions = np.concatenate([r.actions_T for r in runs["runner"]])  # type: ignore[misc]
    shares = np.bincount(actions[actions >= 0], minlength=PROCGEN_MOVES) / (actions >= 0).sum()
    assert shares[[WALK_RIGHT, JUMP_RIGHT]].min() > 0.2
    assert (shares > 0.005).all()  # some of its actions are random
    again = play(COINRUN, 16_000, policy="runner")
    assert all(
        np.array_equal(a.frames_THWC, b.frames_THWC) for a, b in zip(runs["runner"], again, strict=True)
    )


@needs_envpool
@pytest.mark.slow
def test_opening_a_game_is_silent() -> None:
    code = f"from jinn.data.games import open_games; open_games({COINRUN!r}, num_envs=1).close()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@needs_envpool
def test_options_of_an_environment_are_part_of_its_name(tmp_path: Path) -> None:
    plain = next(collect(f"{COINRUN}?use_backgrounds=false&restrict_themes=true", 64, 0, (0, 50)))
    usual = next(collect(COINRUN, 64, 0, (0, 50)))
    assert plain.level_seed == usual.level_seed
    black = [(episode.frames_THWC == 0).all(-1).mean() for episode in (plain, usual)]
    assert black[0] > black[1] + 0.1
    arguments = ["data", COINRUN, "--frames", "32", "--levels", "0:50", "--out", str(tmp_path / "s")]
    assert main([*arguments, "--env", "use_backgrounds=false", "--env", "restrict_themes=true"]) == 0
    store = FrameStore.open(tmp_path / "s")
    assert all("restrict_themes=true&use_backgrounds=false" in source for source in store.done_sources)


@needs_envpool
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("use_background=false", "no option 'use_background'"),
        ("num_envs=3", "no option 'num_envs'"),
        ("use_backgrounds", "KEY=VALUE"),
        ("use_backgrounds=perhaps", "cannot take"),
    ],
)
def test_a_wrong_option_is_a_sentence(option: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(JinnError, match=words):
        ingest([f"{COINRUN}?{option}"], tmp_path / "s", frames=32)
    assert not (tmp_path / "s").exists()
