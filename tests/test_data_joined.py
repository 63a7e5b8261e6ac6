"""Several stores as one: which clips come from which, what is held out, and stores that are made alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers_training import micro
from jinn.cli import main
from jinn.contracts import JinnError
from jinn.data.clips import ClipSampler, gather_clips, load_frames, read_actions, read_clips
from jinn.data.ingest import ingest
from jinn.data.joined import JoinedStore, open_stores
from jinn.data.store import FrameStore
from jinn.data.synthetic import write_game
from jinn.data.writer import StoreWriter
from jinn.evaluation.inputs import worlds_and_store
from jinn.training.loop import Interrupted
from jinn.training.run import run_recipe
from jinn.world.world import World


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stores: "a" has twelve levels of 21 frames, "b" four other ones of 30."""
    folder = tmp_path_factory.mktemp("joined")
    write_game(folder / "a", episodes=12, length=21, seed=0)
    write_game(folder / "b", episodes=4, length=30, seed=100)
    return folder


def joined(folder: Path, a: str = "", b: str = "") -> JoinedStore:
    store = open_stores([f"{folder / 'a'}{a}", f"{folder / 'b'}{b}"])
    assert isinstance(store, JoinedStore)
    return store


def test_episodes_are_those_of_the_stores_one_after_the_other(folder: Path) -> None:
    store, a, b = joined(folder), FrameStore.open(folder / "a"), FrameStore.open(folder / "b")
    assert store.num_episodes == 16
    assert store.num_frames == a.num_frames + b.num_frames
    for episode, (one, own) in {11: (a, 11), 12: (b, 0), 15: (b, 3)}.items():
        assert np.array_equal(store.frames(episode, 3, 9), one.frames(own, 3, 9))
        assert np.array_equal(store.actions(episode, 3, 9), one.actions(own, 3, 9))  # type: ignore[arg-type]
        assert store.level_seed(episode) == one.level_seed(own)
    with pytest.raises(IndexError):
        store.view(12, 0, 31)
    places = ClipSampler(store, 5, seed=0).locate(range(40))
    gathered = gather_clips(load_frames(store, torch.device("cpu")), store, *places, 5)
    assert torch.equal(gathered, read_clips(store, *places, 5))
    assert read_actions(store, *places, 5).min() >= 0


@pytest.mark.parametrize(("a", "b", "fraction"), [("=0.9", "=0.3", 0.75), ("=1", "=3", 0.25), ("", "", None)])
def test_weights_are_the_fractions_of_the_clips(folder: Path, a: str, b: str, fraction: float | None) -> None:
    store = joined(folder, a, b)
    sampler = ClipSampler(store, 5, seed=3)
    episodes, starts = sampler.locate(range(20_000))
    train = store.select("train")
    clips = store.lengths[train] - 4
    if fraction is None:  # by the number of clips
        fraction = clips[train < 12].sum() / clips.sum()
    assert abs((episodes < 12).mean() - fraction) < 0.015
    assert set(episodes) == set(train)
    # Within a store all clips are equally likely: the first and the last are no rarer than others.
    inside = starts[episodes < 12]
    assert np.abs(np.bincount(inside, minlength=17) / len(inside) - 1 / 17).max() < 0.01
    again = sampler.locate(range(500, 600))  # a clip depends on its number alone
    assert np.array_equal(again[0], episodes[500:600])
    assert np.array_equal(again[1], starts[500:600])


def test_what_one_store_holds_out_the_other_does_not_train_on(tmp_path: Path) -> None:
    frames = np.zeros((6, 8, 8, 3), np.uint8)
    for name, groups in (("a", [5, 2**63, 2**63 + 1, 2**63 + 2]), ("b", [2**63 + 1, 2**63 + 3])):
        with StoreWriter(tmp_path / name, (8, 8), 10) as writer:
            for group in groups:
                writer.append(frames)
                writer.end_episode(name, group=group, heldout=name == "a" and group == 2**63 + 1)
    store = JoinedStore([FrameStore.open(tmp_path / name) for name in "ab"])
    assert store.heldout.tolist() == [False, False, True, False, True, False]


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (["a=1", "b"], "some stores have a weight and others have none"),
        (["a=0", "b=1"], "a weight is a number above zero"),
        (["a=x", "b=1"], "a weight is a number above zero"),
        (["a", "./a"], "named twice"),
        (
            ["a", "small"],
            "32x32 at 10 fps, 16x16 at 10 fps): make them alike with jinn data small --size 32 32",
        ),
        (["a", "envpool:CoinrunHard-v0"], "an environment is played by itself"),
        (["a=1", "short=1", "--recipe", "tiny"], "short has no train episode of"),
        (["a", "other", "--recipe", "tiny", "--actions", "known"], "the same action has other names in"),
        ([], "name the frames to train on"),
    ],
)
def test_what_does_not_go_together_is_refused(
    sources: list[str],
    words: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).symlink_to(folder / name)
    if "small" in sources:
        write_game(tmp_path / "small", episodes=4, length=5, size_hw=(16, 16))
    write_game(tmp_path / "short", episodes=4, length=2, seed=50)
    with StoreWriter("other", (32, 32), 10, num_actions=2, action_names=("no", "yes")) as writer:
        writer.append(np.zeros((30, 32, 32, 3), np.uint8))
        writer.end_episode("x", np.zeros(30, np.int64))
    assert main(["train", *sources, "--out", "run"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_on_several_stores_goes_on_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    store = joined(folder, "=0.5", "=0.5")
    whole = run_recipe(micro(), store, tmp_path / "whole", "x")

    def stop(phase: str, step: int, *_: float) -> None:
        if (phase, step) == ("dynamics", 2):
            raise Interrupted(step)

    with pytest.raises(Interrupted):
        run_recipe(micro(), store, tmp_path / "run", "x", on_step=stop)
    for other in (joined(folder), joined(folder, "=2", "=1")):
        with pytest.raises(JinnError, match="started with other frames, or with its store and weights"):
            run_recipe(micro(), other, tmp_path / "run", "x")
    resumed = run_recipe(micro(), joined(folder, "=3", "=3"), tmp_path / "run", "x")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    trained_on = World.load(tmp_path / "run").trained_on
    assert trained_on is not None
    assert set(trained_on) == set(store.groups[store.select("train")])
    # jinn eval RUN measures on all of them.
    names = json.loads((tmp_path / "run" / "config.json").read_text())["store"]
    assert names == [str((folder / name).resolve()) for name in "ab"]
    measured = worlds_and_store([str(tmp_path / "run")])[1]
    assert measured.groups.tolist() == store.groups.tolist()


def test_a_store_becomes_one_of_another_size_and_rate(folder: Path, tmp_path: Path) -> None:
    source = FrameStore.open(folder / "a")
    summary = ingest([str(folder / "a")], tmp_path / "half", fps=5, size_hw=(16, 16))
    half = FrameStore.open(tmp_path / "half")
    assert (half.size_hw, half.fps, summary.episodes) == ((16, 16), 5, 12)
    assert half.lengths.tolist() == [11] * 12  # frames 0, 2, ... 20
    assert half.groups.tolist() == source.groups.tolist()
    assert half.heldout.tolist() == source.heldout.tolist()
    assert not half.has_actions.any()
    want = source.frames(2, 0, 21)[::2].reshape(11, 16, 2, 16, 2, 3).mean((2, 4))
    assert np.abs(half.frames(2, 0, 11) - want).max() <= 0.5
    twice = ingest([str(folder / "a")], tmp_path / "half")  # the store's own values hold
    assert (twice.episodes, twice.resumed) == (0, 1)
    both = ingest([str(folder / "a"), str(folder / "b")], tmp_path / "both")
    store = FrameStore.open(tmp_path / "both")
    assert both.frames == source.num_frames + 120
    assert (store.size_hw, store.fps, store.num_actions) == ((32, 32), 10, 5)
    assert np.array_equal(store.actions(2, 0, 21), source.actions(2, 0, 21))  # type: ignore[arg-type]
    faster = ingest([str(folder / "b")], tmp_path / "fast", fps=15)
    assert faster.frames == 4 * 45
    shown = FrameStore.open(tmp_path / "fast").frames(0, 0, 6)
    assert np.array_equal(shown, FrameStore.open(folder / "b").frames(0, 0, 4)[[0, 0, 1, 2, 2, 3]])
    with pytest.raises(JinnError, match="cannot be copied into itself"):
        ingest([str(folder / "a")], folder / "a")


def test_copies_and_joined_stores_know_how_pictures_were_fitted_in(tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.full((20, 32, 64, 3), 50 if name == "a" else 90, np.uint8))
        ingest([str(tmp_path / f"{name}.npy")], tmp_path / name, size_hw=(32, 32), fit="pad")
    joined = open_stores([str(tmp_path / "a"), str(tmp_path / "b")])
    assert joined.fit == "pad"
    assert joined.source(1) == "b.npy"
    ingest([str(tmp_path / "a")], tmp_path / "copy", size_hw=(16, 16))
    assert FrameStore.open(tmp_path / "copy").fit == "pad"
    ingest([str(tmp_path / "b")], tmp_path / "copy")
    with StoreWriter(tmp_path / "copy", (16, 16), 10) as writer:
        assert writer.fit == "pad"
