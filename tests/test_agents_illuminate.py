"""The map of failures: the worst case of each cell, found, kept, and in order."""

from __future__ import annotations

import numpy as np
import pytest

from jinn.agents.illuminate import Axis, SearchConfig, illuminate
from jinn.contracts import JinnError

AXES = (Axis("left", 0, 1, 4), Axis("right", 0, 1, 4))


def hills(genes_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Badness by the third gene alone, kinds by the first two."""
    return genes_ND[:, 2], genes_ND[:, :2]


def test_each_cell_keeps_its_worst_case() -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def evaluate(genes_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(hills(genes_ND))
        return seen[-1]

    found = illuminate(evaluate, 3, AXES, SearchConfig(rounds=40, batch=32))
    badness, measures = (np.concatenate(part) for part in zip(*seen, strict=True))
    cells = (measures * 4).astype(int).clip(max=3)
    worst = {cell: badness[(cells == cell).all(1)].max() for cell in map(tuple, np.unique(cells, axis=0))}
    kept = dict(
        zip(map(tuple, (found.measures_KM * 4).astype(int).clip(max=3)), found.badness_K, strict=True)
    )
    assert kept == worst
    assert found.coverage == len(worst) / 16
    assert (np.diff(found.badness_K) <= 0).all()
    assert found.tried == len(badness) == 40 * 32


def test_the_search_beats_as_many_random_cases() -> None:
    def narrow(genes_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bad only where eight genes agree, which chance seldom finds."""
        return -((genes_ND[:, 2:] - 0.9) ** 2).sum(-1), genes_ND[:, :2]

    found = illuminate(narrow, 10, AXES, SearchConfig(rounds=60, batch=32))
    chance = narrow(np.random.default_rng(1).random((60 * 32, 10)))[0]
    assert found.badness_K.mean() > chance.max()


def test_a_seed_finds_the_same_and_stays_in_bounds() -> None:
    first, second, other = (illuminate(hills, 3, AXES, SearchConfig(5, 8, seed=seed)) for seed in (0, 0, 1))
    assert (first.genes_KD == second.genes_KD).all()
    assert first.genes_KD.shape != other.genes_KD.shape or (first.genes_KD != other.genes_KD).any()
    assert ((first.genes_KD >= 0) & (first.genes_KD <= 1)).all()


def test_genes_that_make_no_case_are_left_out() -> None:
    def half(genes_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.where(genes_ND[:, 0] < 0.5, np.nan, genes_ND[:, 2]), genes_ND[:, :2]

    found = illuminate(half, 3, AXES, SearchConfig(10, 16))
    assert (found.genes_KD[:, 0] >= 0.5).all()
    with pytest.raises(JinnError, match="none of 20 genes made a case"):
        illuminate(lambda genes: (np.full(len(genes), np.nan), genes[:, :2]), 3, AXES, SearchConfig(2, 10))


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="low end below"):
        Axis("x", 1, 1, 3)
    with pytest.raises(ValueError, match="at least 1"):
        SearchConfig(rounds=0)
