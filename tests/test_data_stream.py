"""A stream: an environment that is played during training."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers_evaluation import measure_little
from jinn.cli import main
from jinn.contracts import JinnError
from jinn.data import stream as data_stream
from jinn.data.stream import FrameStream, StreamConfig
from jinn.evaluation import suite
from jinn.evaluation.networks import Networks
from jinn.evaluation.protocol import PROTOCOLS, Protocol
from jinn.recipes import tiny
from jinn.training import loop
from jinn.training.recipe import Recipe
from jinn.training.run import clips_of, run_recipe
from jinn.world.world import World

pytest.importorskip("envpool", reason="EnvPool IS MISSING: streams are not tested")
COINRUN = "envpool:CoinrunHard-v0"
CONFIG = StreamConfig(frames=1600, levels=(0, 40), test_levels=(50, 9), test_frames=400, chunk=600)


@pytest.mark.slow
def test_chunks_are_played_ahead_and_removed_after_use(tmp_path: Path) -> None:
    stream = FrameStream(COINRUN, CONFIG, tmp_path / "a", seed=3)
    assert stream.num_chunks == 3
    chunks = []
    for number in range(3):
        store = stream.chunk(number)
        chunks.append([store.frames(e, 0, int(store.lengths[e])) for e in range(store.num_episodes)])
        seeds = {store.level_seed(e) for e in range(store.num_episodes)}
        assert seeds <= set(range(40))
        there = {place.name for place in (tmp_path / "a").glob("chunk-*")}
        assert there <= {f"chunk-{number:05d}", f"chunk-{number + 1:05d}"}
    assert [sum(map(len, chunk)) for chunk in chunks] == [600, 600, 400]
    assert not np.array_equal(chunks[0][0], chunks[1][0])
    stream.close()
    assert not list((tmp_path / "a").glob("chunk-*"))
    again = FrameStream(COINRUN, CONFIG, tmp_path / "b", seed=3).chunk(1)
    assert all(np.array_equal(again.frames(e, 0, len(x)), x) for e, x in enumerate(chunks[1]))


def test_the_training_levels_include_all_levels_of_the_chunks(tmp_path: Path) -> None:
    stream = FrameStream(COINRUN, CONFIG, tmp_path / "a")
    shown = np.concatenate([s.groups[s.select("train")] for s in map(stream.chunk, range(3))])
    assert set(shown.tolist()) <= set(stream.trained_on.tolist())
    assert not set(stream.previews[0].groups.tolist()) & set(stream.trained_on.tolist())
    assert len(stream.trained_on) <= 40
    stream.close()


def test_policies_alternate(tmp_path: Path) -> None:
    stream = FrameStream(COINRUN, replace(CONFIG, policy="runner+random"), tmp_path / "a")

    def walks(number: int) -> float:
        store = stream.chunk(number)
        actions = np.concatenate([store.actions(e, 0, n) for e, n in enumerate(store.lengths)])  # type: ignore[misc]
        return float(np.isin(actions, (7, 8)).mean())

    assert walks(0) > 0.5
    assert walks(1) < 0.3
    assert walks(2) > 0.5
    stream.close()


def test_a_phase_uses_all_chunks(tmp_path: Path) -> None:
    stream = FrameStream(COINRUN, CONFIG, tmp_path / "a")
    phase = replace(tiny().tokenizer_training, steps=7, batch=4, frames=2)
    clips = clips_of(stream, phase, seed=0)
    shown = [clips(step, range(4)).frames_BTHWC for step in range(9)]  # the last ones are beyond the end
    for number, step in ((0, 0), (1, 3), (2, 5)):
        store = FrameStream(COINRUN, CONFIG, tmp_path / f"{number}").chunk(number)
        known = {f.tobytes() for e in range(store.num_episodes) for f in store.frames(e, 0, store.lengths[e])}
        assert all(frame.numpy().tobytes() in known for frame in shown[step].flatten(0, 1))
    assert torch.equal(clips_of(stream, phase, seed=0)(3, range(1, 3)).frames_BTHWC, shown[3][1:3])
    stream.close()


def test_a_stream_tells_its_actions_before_it_plays(tmp_path: Path) -> None:
    stream = FrameStream(COINRUN, CONFIG, tmp_path / "a")
    assert stream.num_actions == 15
    assert not (tmp_path / "a").exists()
    assert stream.previews[0].action_names is not None
    stream.close()


@pytest.mark.slow
def test_known_actions_of_a_stream(tmp_path: Path) -> None:
    stream = FrameStream(COINRUN, CONFIG, tmp_path / "run" / "stream")
    world = run_recipe(short(), stream, tmp_path / "run", "run", actions="known")
    assert world.has_known_actions
    assert world.action_names is not None
    assert world.action_names[4] == "stay"


def exit_code(command: list[str]) -> int:
    try:
        return main(command)
    except SystemExit as stop:
        return int(stop.code or 0)


def short() -> Recipe:
    recipe = tiny()
    phase = {"warmup": 2, "checkpoint_every": 2, "preview_every": 7, "log_every": 1, "batch": 4}
    return replace(
        recipe,
        **{
            name: replace(getattr(recipe, name), steps=6, **phase)
            for name in ("tokenizer_training", "latent_action_training", "dynamics_training")
        },
        sampling=replace(recipe.sampling, steps=2),
        self_rollout_training=None,
    )


def options() -> list[str]:
    """`short` and `CONFIG` on the command line."""
    pairs = [
        f"{name}.{value}"
        for name in ("tokenizer_training", "latent_action_training", "dynamics_training")
        for value in (
            "steps=6",
            "warmup=2",
            "checkpoint_every=2",
            "preview_every=7",
            "log_every=1",
            "batch=4",
        )
    ]
    pairs += [
        "self_rollout_training=none",
        "sampling.steps=2",
        "stream.frames=1600",
        "stream.levels=0,40",
        "stream.test_levels=50,9",
    ]
    return ["--recipe", "tiny", "--set", *pairs, "stream.test_frames=400", "stream.chunk=600"]


@contextmanager
def interrupted_at(event: int) -> Iterator[None]:
    """Send SIGINT when the n-th store is played or the n-th step begins, from 1 on."""
    events = itertools.count(1)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(events) == event:
                os.kill(os.getpid(), signal.SIGINT)
            return function(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell job ignores it
        patch.setattr(data_stream, "ingest", counted(data_stream.ingest))
        patch.setattr(loop.Training, "update", counted(loop.Training.update))
        yield


@pytest.mark.long
def test_an_often_interrupted_command_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is interrupted many times ends with the weights of an uninterrupted one."""
    monkeypatch.setenv("JINN_CACHE", str(tmp_path / "cache"))
    whole = run_recipe(
        short(), FrameStream(COINRUN, CONFIG, tmp_path / "whole" / "stream"), tmp_path / "whole", "run"
    )
    run = tmp_path / "run"
    command = ["train", COINRUN, "--out", str(run), *options()]
    assert exit_code([*command, "--minutes", "0.000001"]) == 130
    assert not (run / "stream").exists()  # nothing was played
    codes: list[int] = []
    while 0 not in codes:
        # Each piece is three events longer than the last, so 15 of them are more than the whole run.
        assert len(codes) < 15
        with interrupted_at(3 * len(codes) + 1):
            codes.append(exit_code(command))
    assert len(codes) > 3
    assert set(codes[:-1]) == {130}
    small = Protocol(clips=6, frames=4, draws=1, long_rollouts=2, long_frames=60, shown=1)
    monkeypatch.setitem(PROTOCOLS, "quick", small)
    monkeypatch.setattr(suite, "load_networks", lambda *_: Networks(None, None, ()))
    measure_little(monkeypatch)
    assert main([*command, "--report", "quick"]) == 0
    made = World.load(run)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(made.state_dict()[name], tensor), name
    assert made.trained_on is not None
    assert not list((run / "stream").glob("chunk-*"))
    report = json.loads((run / "report" / "report.json").read_text())
    assert Path(report["worlds"][0]["name"]).name == "run"


def test_a_chunk_that_is_half_removed_is_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, **_: object) -> None:
        if path.exists():
            (path / "index.npz").unlink()
            raise KeyboardInterrupt

    stream = FrameStream(COINRUN, CONFIG, tmp_path / "stream")
    frames = stream.chunk(0).num_frames
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stream.close()
    again = FrameStream(COINRUN, CONFIG, tmp_path / "stream")
    assert again.chunk(0).num_frames == frames
    again.close()
    assert not list((tmp_path / "stream").glob("chunk-*"))


def test_mistakes_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(JinnError, match="overlap"):
        StreamConfig(levels=(0, 100), test_levels=(50, 10))
    with pytest.raises(JinnError, match="at least 1"):
        StreamConfig(frames=0)
    assert main(["train", "envpool:Nonsense", "--out", str(tmp_path / "x"), "--recipe", "tiny"]) == 2
    assert "EnvPool has no" in capsys.readouterr().err
    assert main(["train", COINRUN, "--out", str(tmp_path / "y"), "--minutes", "0"]) == 2
    assert "above zero" in capsys.readouterr().err


@pytest.mark.slow
def test_other_frames_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    recipe = short()
    run_recipe(recipe, FrameStream(COINRUN, CONFIG, tmp_path / "run" / "stream"), tmp_path / "run", "run")
    other = FrameStream(COINRUN, replace(CONFIG, policy="random"), tmp_path / "run" / "stream")
    with pytest.raises(JinnError, match="other frames"):
        run_recipe(recipe, other, tmp_path / "run", "run")
