"""Studies: rows, budgets, what is kept of them, power laws; whole ones at the smallest size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers_evaluation import measure_little, no_networks
from helpers_processes import command, on_two_ranks
from helpers_training import micro
from helpers_world import make_world
from jinn.cli import main
from jinn.data.store import FrameStore
from jinn.data.synthetic import write_game
from jinn.errors import JinnError
from jinn.evaluation import suite
from jinn.evaluation.estimate import Estimate
from jinn.files import read_json
from jinn.models.token_latent_actions import TokenLatentActionsConfig
from jinn.recipes import coinrun_cpu, tiny
from jinn.studies.ablations import DYNAMICS, TOKENIZER, ablations, from_paper
from jinn.studies.budget import SHARES, Budget, flops_of_steps, spend, with_costs
from jinn.studies.forecast import Points, bottom, budgets, text
from jinn.studies.latent_inputs import latent_inputs
from jinn.studies.loss import held_out_loss
from jinn.studies.rows import Line, over_seeds, table
from jinn.studies.scaling import BATCHES, SIZES, PowerLaw, batches, fit, scaling, sized
from jinn.studies.tokenizers import memory_of_clip, tokenizers
from jinn.training.plan import empty_world, parameters_of
from jinn.training.recipe import phases
from jinn.training.run import fit_to_frames, run_recipe
from jinn.world.world import World

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINN_CACHE", str(tmp_path / "cache"))
    measure_little(monkeypatch)
    monkeypatch.setattr(suite, "load_networks", no_networks)


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    return write_game(tmp_path_factory.mktemp("game") / "store", episodes=8, length=60, seed=0)


@pytest.fixture(scope="module")
def test_game(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    return write_game(tmp_path_factory.mktemp("test") / "store", episodes=8, length=60, seed=500)


# ---- Rows -------------------------------------------------------------------------------------------


def test_every_row_of_the_ablations_builds_and_changes_the_recipe() -> None:
    recipe = coinrun_cpu()
    rows = ablations(recipe, (), has_base=False)
    assert list(rows) == [*DYNAMICS, *TOKENIZER]
    assert rows.pop("recipe") == recipe
    for name, row in rows.items():
        assert row != recipe, name
        empty_world(row)


def test_a_row_that_is_unknown_or_needs_its_own_tokenizer_is_refused() -> None:
    with pytest.raises(JinnError, match=r"'no dout' is unknown; rows are: recipe, no doubt"):
        ablations(tiny(), ("no dout",), has_base=False)
    with pytest.raises(JinnError, match="needs a tokenizer of its own: leave out --base"):
        ablations(tiny(), ("12 bits a token",), has_base=True)
    assert list(ablations(tiny(), ("no doubt",), has_base=True)) == ["recipe", "no doubt"]


def test_the_way_from_the_paper_ends_at_our_recipe() -> None:
    rows = from_paper()
    assert list(rows.values())[-1] == coinrun_cpu()
    for row in rows.values():
        empty_world(row)


def test_tokenizers_have_equal_parameters_and_where_it_says_so_equal_memory() -> None:
    rows = tokenizers(tiny())
    sizes = {name: parameters_of(empty_world(row).tokenizer) for name, row in rows.items()}
    paper = [size for name, size in sizes.items() if "ours" not in name]
    assert max(paper) < 1.01 * min(paper)
    budget = memory_of_clip(rows["ST-ViViT"]) * rows["ST-ViViT"].tokenizer_training.batch
    for name in ("ViT", "C-ViViT"):
        row = rows[f"{name}, equal memory"]
        batch = row.tokenizer_training.batch
        assert abs(memory_of_clip(row) * batch - budget) <= memory_of_clip(row) / 2
    # Attention over space and time at once keeps more than one after the other, and that more than none over time.
    order = [memory_of_clip(rows[name]) for name in ("ViT", "ST-ViViT", "C-ViViT")]
    assert order == sorted(order)


def test_sizes_span_more_than_a_decade_and_a_half() -> None:
    found = [parameters_of(empty_world(sized(coinrun_cpu(), *size)).dynamics) for size in SIZES]
    assert found == sorted(found)
    assert found[-1] / found[0] > 10**1.5
    rates = [sized(coinrun_cpu(), *size).dynamics_training.learning_rate for size in SIZES]
    assert rates == sorted(rates, reverse=True)
    assert rates[4] == pytest.approx(coinrun_cpu().dynamics_training.learning_rate)  # of its own width


# ---- Budgets ----------------------------------------------------------------------------------------


def test_phases_share_a_budget() -> None:
    costs = {"tokenizer": 1.0, "latent_actions": 2.0, "dynamics": 4.0, "self_rollout": 8.0}
    recipe = with_costs(tiny(), 10_000, costs, from_scratch=True)
    for phase in phases(recipe):
        assert phase.config.steps * costs[phase.name] == pytest.approx(10_000 * SHARES[phase.name], abs=8)
    assert recipe.dynamics_training.warmup == round(30 * recipe.dynamics_training.steps / 1_500)
    alone = with_costs(replace(tiny(), self_rollout_training=None), 10_000, {"dynamics": 4.0}, False)
    assert alone.dynamics_training.steps == 2_500


def test_equal_flops_are_equal_to_a_step() -> None:
    rows = scaling(coinrun_cpu(), (1e14, 3e14))
    for name, row in rows.items():
        cost = flops_of_steps(row, from_scratch=False)["dynamics"]
        budget = float(name.rpartition(", ")[2].removesuffix(" FLOPs"))
        assert abs(row.dynamics_training.steps * cost - budget) <= cost / 2
    with pytest.raises(JinnError, match="fewer than three rows"):
        scaling(coinrun_cpu(), (1e10,))


def test_seconds_buy_more_steps_of_a_cheaper_row(game: FrameStore) -> None:
    base = make_world("conv-tokenizer")
    small = replace(micro(), tokenizer=base.config.tokenizer, latent_actions=base.config.latent_actions)
    transformer = replace(small.dynamics.transformer, width=192, heads=6, layers=6)
    large = replace(small, dynamics=replace(small.dynamics, transformer=transformer))
    steps = [spend(row, Budget(seconds=8), game, base, CPU).dynamics_training.steps for row in (small, large)]
    assert steps[0] > 2 * steps[1]
    assert spend(small, Budget(), game, base, CPU) == small


def test_impossible_budgets_are_refused() -> None:
    with pytest.raises(JinnError, match="give one of them"):
        Budget(1.0, 1.0)
    with pytest.raises(JinnError, match="above zero"):
        Budget(seconds=0.0)


# ---- What is kept -----------------------------------------------------------------------------------


def test_intervals_over_seeds_hold_the_spread_of_seeds_and_of_clips() -> None:
    runs = [Estimate(value, value - 1, value + 1, 50, seed) for seed, value in enumerate((3.0, 4.0, 5.0))]
    found = over_seeds(runs)
    # Student's t with two degrees of freedom: 4.30 times 1 / sqrt(3); and 1 over clips.
    half = np.hypot(4.30 / np.sqrt(3), 1.0)
    assert (found.value, found.low, found.high) == pytest.approx((4.0, 4.0 - half, 4.0 + half))
    assert over_seeds(runs[:1]) == runs[0]


def test_the_table_shows_differences_under_their_rows() -> None:
    def line(row: str, minus: str, value: float) -> Line:
        return Line(row, 0, "inferred/psnr", minus, value, value - 1, value + 1, 9)

    found = table(
        [line("recipe", "", 20), line("other", "", 22.5), line("other", "recipe", 2.5)], ("inferred/psnr",)
    )
    assert "| recipe | 1 | 20.00 [19.00, 21.00] |" in found
    assert "| *other, minus recipe* | 1 | +2.50 [1.50, 3.50] |" in found


def test_the_held_out_loss_is_of_each_clip_and_always_the_same(test_game: FrameStore) -> None:
    world = make_world("conv-tokenizer")
    loss_B = held_out_loss(world, test_game, 6)
    assert loss_B.shape == (6,)
    assert loss_B.std() > 0
    assert torch.equal(loss_B, held_out_loss(world, test_game, 6))
    # An untrained model knows nothing: it is near the logarithm of the codebook.
    assert float(loss_B.mean()) == pytest.approx(np.log(world.tokenizer.codebook_size), rel=0.3)


# ---- Power laws -------------------------------------------------------------------------------------


def test_a_power_law_is_found_again() -> None:
    law, xs = PowerLaw(1.5, 40.0, 0.3), np.geomspace(1e4, 1e7, 7)
    found = fit(xs, np.array([law(x) for x in xs]))
    assert found.exponent == pytest.approx(0.3, rel=0.05)
    assert found.floor == pytest.approx(1.5, rel=0.05)


def test_a_forecast_names_what_was_left_out() -> None:
    law, xs = PowerLaw(1.5, 40.0, 0.3), np.geomspace(1e4, 1e7, 7)
    noise_BX = np.random.default_rng(0).normal(0, 0.02, (64, 1))
    found = text(Points(xs, xs, np.array([law(x) for x in xs]) + noise_BX))
    assert f"they reached {law(1e7):.3f}"[:-1] in found
    assert "10M parameters were forecast to reach 1.8" in found
    assert "The paper's own seven points" in found


def test_the_best_size_of_each_budget_is_the_valleys_bottom() -> None:
    sizes = np.geomspace(1e5, 1e7, 5)

    def curve(flops: float, best: float) -> tuple[np.ndarray, np.ndarray]:
        return np.full(5, flops), 2 + 0.1 * np.log(sizes / best) ** 2

    parts = [curve(1e13, 4e5), curve(1e14, 2e6)]
    flops, losses = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    found = Points(np.tile(sizes, 2), flops, np.tile(losses, (4, 1)))
    curves = budgets(found)
    assert [bottom(curve)[0] for curve in curves] == pytest.approx([4e5, 2e6], rel=0.01)
    assert "FLOPs^0.70" in text(found)  # log 5 / log 10


# ---- Whole studies ----------------------------------------------------------------------------------


def recipe_file(tmp_path: Path) -> str:
    """A recipe of the smallest models, as a user's file."""
    tests = Path(__file__).parent
    code = f"import sys\nsys.path.insert(0, {str(tests)!r})\nfrom helpers_training import micro\n"
    (tmp_path / "micro.py").write_text(code)
    return f"{tmp_path / 'micro.py'}:micro"


@pytest.mark.slow
def test_an_ablation_trains_measures_and_goes_on(
    game: FrameStore, test_game: FrameStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["study", "ablate", str(game.path), str(test_game.path), "--out", str(out)]
    command += ["--recipe", recipe_file(tmp_path), "--clips", "4", "--long-rollouts", "2"]
    assert main([*command, "--rows", "no doubt"]) == 0
    assert "| *no doubt, minus recipe* | 1 |" in capsys.readouterr().out
    pyarrow = pytest.importorskip("pyarrow.parquet")
    rows = pyarrow.read_table(out / "rows.parquet").to_pylist()
    assert {line["row"] for line in rows} == {"recipe", "no doubt"}
    assert {line["minus"] for line in rows} == {"", "recipe"}
    by = {(line["row"], line["metric"]): line["value"] for line in rows if not line["minus"]}
    difference = next(line["value"] for line in rows if line["minus"] and line["metric"] == "tokenizer/psnr")
    assert difference == pytest.approx(
        by["no doubt", "tokenizer/psnr"] - by["recipe", "tokenizer/psnr"], abs=1e-4
    )

    before = (out / "runs" / "recipe-0" / "found.json").stat().st_mtime_ns
    assert main([*command, "--rows", "no doubt", "digits drawn apart"]) == 0
    assert (out / "runs" / "recipe-0" / "found.json").stat().st_mtime_ns == before  # it is not made again
    assert "digits drawn apart" in (out / "table.md").read_text()
    assert main([*command, "--rows", "no doubt", "--clips", "5"]) == 2
    assert "was made in another way" in capsys.readouterr().err


@pytest.mark.slow
def test_scaling_on_a_base(
    game: FrameStore, test_game: FrameStore, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("jinn.studies.scaling.SIZES", ((1, 16, 2), (1, 32, 2), (2, 32, 2), (2, 48, 2)))
    base, out = tmp_path / "base", tmp_path / "out"
    make_world("conv-tokenizer").save(base)
    command = ["study", "scaling", str(game.path), str(test_game.path), "--recipe", recipe_file(tmp_path)]
    assert main([*command, "--out", str(out)]) == 2
    assert "name it with --base" in capsys.readouterr().err
    command += ["--base", str(base), "--out", str(out), "--clips", "6"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "From the 3 smaller ones" in said
    assert (out / "scaling.svg").read_text().count("<svg") == 1
    losses = [np.mean(read_json(file)) for file in sorted(out.glob("runs/*/loss.json"))]
    assert len(losses) == 4
    assert len(set(losses)) == 4


@pytest.mark.long
def test_two_processes_share_the_rows(game: FrameStore, test_game: FrameStore, tmp_path: Path) -> None:
    """As torchrun starts them: each row is made by one process, and both end with the whole table."""
    make_world("conv-tokenizer").save(tmp_path / "base")
    arguments = ["study", "batches", str(game.path), str(test_game.path), "--recipe", recipe_file(tmp_path)]
    arguments += ["--base", str(tmp_path / "base"), "--out", str(tmp_path / "out"), "--clips", "6"]
    on_two_ranks(tmp_path, command, arguments)
    for rank in range(2):
        assert "32 clips a step, minus 2 clips a step" in (tmp_path / f"said by rank {rank}").read_text()
    runs = sorted((tmp_path / "out" / "runs").iterdir())
    assert len(runs) == len(BATCHES)
    for run in runs:
        steps = [json.loads(line)["step"] for line in (run / "run" / "log.jsonl").read_text().splitlines()]
        assert len(steps) == len(set(steps))
    pyarrow = pytest.importorskip("pyarrow.parquet")
    rows = pyarrow.read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    compared = [line["row"] for line in rows if line["minus"] == "2 clips a step"]
    assert compared == [f"{batch} clips a step" for batch in BATCHES[1:]]


@pytest.mark.slow
def test_latent_actions_from_tokens_train_and_play(
    game: FrameStore, test_game: FrameStore, tmp_path: Path
) -> None:
    row = fit_to_frames(latent_inputs(micro())["tokens"], game.size_hw)
    assert isinstance(row.latent_actions, TokenLatentActionsConfig)
    world = run_recipe(row, game, tmp_path / "run", "tokens")
    frames_BTHWC = torch.from_numpy(test_game.frames(0, 0, 5))[None]
    actions_BTm1 = world.infer_actions(frames_BTHWC)
    assert actions_BTm1.shape == (1, 4)
    assert torch.equal(World.load(tmp_path / "run").infer_actions(frames_BTHWC), actions_BTm1)
    vectors_BTNC = world.seen_by_actions(frames_BTHWC)
    assert vectors_BTNC.shape[:3] == (1, 5, world.tokenizer.grid_hw[0] * world.tokenizer.grid_hw[1])
    assert torch.equal(world.latent_actions.encode(vectors_BTNC), actions_BTm1)


def test_batches_have_equal_steps() -> None:
    rows = batches(tiny())
    assert len({row.dynamics_training.steps for row in rows.values()}) == 1
    assert [row.dynamics_training.batch for row in rows.values()] == [2, 4, 8, 16, 32]
