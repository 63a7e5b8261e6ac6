"""Where does a policy fail, and where a world? A map of failures of every kind (MAP-Elites, Mouret and Clune 2015).

One worst case is an anecdote. Here the kinds of cases are cells of a grid, such as the number of walls by the length of
the path, and each cell keeps the worst case that was found in it (MADRID, Samvelyan et al. 2024, searches football in
this way). New cases are small changes of kept ones. The search itself is that of pyribs (extra ``illuminate``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from jinn.contracts import JinnError

# Cases as genes in [0, 1], float64 ND -> how bad each is, float64 N (NaN: no case), and its measures, float64 NM.
Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Axis:
    """One measure of a case, and the cells into which it is cut.

    Attributes:
        name: what is measured.
        low, high: range of the measure; what lies outside joins the cell at the edge.
        cells: number of cells.
    """

    name: str
    low: float
    high: float
    cells: int

    def __post_init__(self) -> None:
        if not self.low < self.high or self.cells < 1:
            raise ValueError("an axis has a low end below its high one, and a cell at least")


@dataclass(frozen=True)
class Failures:
    """The worst case of each cell in which one was found, the worst of all first.

    Attributes:
        genes_KD: the cases.
        badness_K: how bad each is.
        measures_KM: where each lies on the axes.
        coverage: fraction of the cells in which there is a case.
        tried: number of cases that were evaluated.
    """

    genes_KD: np.ndarray
    badness_K: np.ndarray
    measures_KM: np.ndarray
    coverage: float
    tried: int


@dataclass(frozen=True)
class SearchConfig:
    """How long and how widely is searched.

    Attributes:
        rounds: of the search; the first tries random cases.
        batch: cases in each round.
        change: standard deviation by which genes of a kept case are changed.
        seed: of everything random.
    """

    rounds: int = 50
    batch: int = 64
    change: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.rounds, self.batch) < 1 or self.change <= 0:
            raise ValueError("rounds and batch are at least 1, and a change is above 0")


def illuminate(
    evaluate: Evaluate,
    genes: int,
    axes: Sequence[Axis],
    config: SearchConfig | None = None,
    on_round: Callable[[int, float, float], None] = lambda *_: None,
) -> Failures:
    """Search for the worst case of each kind.

    Args:
        evaluate: says how bad cases are, and of which kind.
        genes: D, how many numbers make a case.
        axes: M measures that make the kinds.
        config: how long is searched.
        on_round: is called with the number of rounds done, the coverage, and the mean badness of the kept cases.

    Raises:
        JinnError: pyribs is not installed, or there is no case among all that were tried.
    """
    try:
        from ribs.archives import GridArchive
        from ribs.emitters import GaussianEmitter
    except ImportError as error:
        raise JinnError("pyribs is not installed: run pip install 'jinn[illuminate]'") from error
    config = config or SearchConfig()
    archive = GridArchive(
        solution_dim=genes,
        dims=[axis.cells for axis in axes],
        ranges=[(axis.low, axis.high) for axis in axes],
        seed=config.seed,
    )
    emitter = GaussianEmitter(
        archive,
        sigma=config.change,
        x0=[0.5] * genes,  # never used: where nothing is kept yet, cases are random
        lower_bounds=[0.0] * genes,
        upper_bounds=[1.0] * genes,
        batch_size=config.batch,
        seed=config.seed,
    )
    rng = np.random.default_rng(config.seed)
    for done in range(1, config.rounds + 1):
        genes_BD = emitter.ask() if len(archive) else rng.random((config.batch, genes))
        badness_B, measures_BM = evaluate(genes_BD)
        is_case_B = np.isfinite(badness_B)
        if is_case_B.any():
            archive.add(genes_BD[is_case_B], badness_B[is_case_B], measures_BM[is_case_B])
            on_round(done, float(archive.stats.coverage), float(archive.stats.obj_mean or 0))
    if not len(archive):
        raise JinnError(
            f"none of {config.rounds * config.batch} genes made a case: evaluate gave NaN for all of them"
        )
    solutions, objectives, measures = (
        np.asarray(archive.data(x)) for x in ("solution", "objective", "measures")
    )
    worst, tried = np.argsort(-objectives, kind="stable"), config.rounds * config.batch
    return Failures(
        solutions[worst], objectives[worst], measures[worst], float(archive.stats.coverage), tried
    )
