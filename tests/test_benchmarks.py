"""The benchmarks run end to end and count correctly; no test depends on a time."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import report, temporal_attention, training
from benchmarks.flops import count_flops
from benchmarks.measure import interleaved, matrix_product, save
from jinn.data.clips import clip_generators
from jinn.recipes import RECIPES


def test_candidates_alternate_and_results_are_saved(tmp_path: Path) -> None:
    order: list[str] = []
    medians = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3)
    assert sorted(medians) == ["a", "b"]
    assert order == ["b", "a", "a", "b", "b", "a", "a", "b"]
    place = save("trial", [{"name": "x", "speed": 12345.678, "share": 0.12345}], note="Why.", folder=tmp_path)
    page = report.render(tmp_path)
    assert place.name.startswith("trial.")
    assert "| x | 12,346 | 0.123 |" in page
    assert "Why." in page


def test_the_page_is_up_to_date_with_the_results() -> None:
    assert report.PAGE.read_text(encoding="utf-8") == report.render(), "run python -m benchmarks.report"


def test_implementations_of_temporal_attention_agree_and_are_timed(tmp_path: Path) -> None:
    rows = temporal_attention.main(["--smallest", "--repeats", "1", "--out", str(tmp_path)])
    assert len(list(tmp_path.iterdir())) == 1
    for row in rows:
        for way in ("elementwise", "sdpa", "matmul"):
            assert 0 < row[f"{way}, ms"] < math.inf


@pytest.mark.parametrize("stage", training.STAGES)
def test_a_stage_is_measured(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "matrix_product", partial(matrix_product, size=128))
    row = training.measure(training.Case("tiny", stage, batch=1, repeats=1), "cpu")
    for figure in ("clips/s", "tokens/s", "GFLOP a step", "MFU", "of bfloat16 rate", "peak GB"):
        assert 0 < row[figure] < math.inf, figure
    shares = [value for key, value in row.items() if key.endswith("%")]
    assert len(shares) == 8
    assert sum(shares) == pytest.approx(100, abs=1)


def test_flops_agree_with_a_count_by_hand() -> None:
    """The dynamics of `tiny`: six for each weight and token, and attention."""
    recipe = RECIPES["tiny"]()
    made = training.build(recipe, "dynamics", 1, torch.device("cpu"))
    T, N = recipe.dynamics_training.frames, 64
    frames = torch.zeros(1, T, 32, 32, 3, dtype=torch.uint8)
    counted = count_flops(lambda: made.loss(frames, clip_generators(0, range(1))).backward())
    size = recipe.dynamics.transformer
    blocks = size.layers * (8 * size.width**2 + 2 * size.feedforward * size.width**2) * T * N
    attention = size.layers * 2 * size.width * (N + T) * T * N
    # Previous-frame context: 9 x 16 to 128 to 64 for all frames but one. Logits: about two thirds of the positions.
    ends = (9 * 16 * 128 + 128 * 64) * (T - 1) * N + size.width * 200 * 0.65 * (T - 1) * N
    assert counted == pytest.approx(6 * (blocks + attention + ends), rel=0.05)


@pytest.mark.slow
def test_a_block_is_measured_compiled() -> None:
    rows = training.measure_compiled(torch.device("cpu"), smallest=True)
    assert [row["precision"] for row in rows] == ["float32", "bfloat16"]
    assert all(0 < row["gain"] < math.inf for row in rows)
