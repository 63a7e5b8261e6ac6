"""What a scaling study says: power laws with intervals, the best size for each budget, a forecast that is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jinn.evaluation.report.charts import COLOURS, INK, STYLE
from jinn.files import read_json, replacing
from jinn.studies.rows import Line
from jinn.studies.scaling import PAPER, PowerLaw, bootstrap_fits, fit
from jinn.studies.study import slug


@dataclass(frozen=True)
class Points:
    """The runs of a scaling study, in the order of their parameters.

    Attributes:
        parameters, flops: of each run.
        losses_BX: held-out nats a token of each clip in each run, means over seeds.
    """

    parameters: np.ndarray
    flops: np.ndarray
    losses_BX: np.ndarray

    def where(self, chosen: np.ndarray) -> Points:
        """Some of the runs."""
        return Points(self.parameters[chosen], self.flops[chosen], self.losses_BX[:, chosen])

    @property
    def losses(self) -> np.ndarray:
        """Mean over clips."""
        return self.losses_BX.mean(0)


def points(lines: Sequence[Line], out: Path) -> Points:
    """The runs of a study in the folder ``out``."""
    fact = {(line.row, line.metric): line.value for line in lines if not line.minus}
    seeds: dict[str, set[int]] = {}
    for line in lines:
        seeds.setdefault(line.row, set()).add(line.seed)
    losses = {
        row: np.mean(
            [read_json(out / "runs" / f"{slug(row)}-{seed}" / "loss.json") for seed in found], axis=0
        )
        for row, found in seeds.items()
    }
    rows = sorted(seeds, key=lambda row: fact[row, "run/parameters"])
    return Points(
        np.array([fact[row, "run/parameters"] for row in rows]),
        np.array([fact[row, "run/flops"] for row in rows]),
        np.stack([losses[row] for row in rows], axis=1),
    )


def budgets(found: Points) -> list[Points]:
    """The runs of each budget of FLOPs, by its size; runs within a tenth of one another have the same."""
    order = np.argsort(found.flops)
    cuts = np.flatnonzero(np.diff(np.log(found.flops[order])) > 0.1) + 1
    return [found.where(np.sort(part)) for part in np.split(order, cuts)]


def text(found: Points, seed: int = 0) -> str:
    """Everything that can be said of these runs, as Markdown."""
    curves = [part for part in budgets(found) if len(part.parameters) >= 3]
    if len(curves) >= 1 and len(curves[0].parameters) < len(found.parameters):
        return "\n".join(isoflop_text(curves)) + "\n"
    sentences = [law_text("parameters", found.parameters, found.losses_BX, seed)]
    if len(found.parameters) >= 4:
        sentences.append(forecast_text(found, seed))
    size, loss = np.array(PAPER, dtype=float).T
    law = fit(1e6 * size, loss)
    sentences.append(
        f"The paper's own seven points from 41M to 2.7B parameters, fitted in the same way: an exponent of "
        f"{law.exponent:.3f} above a floor of {law.floor / loss.min():.0%} of its least loss."
    )
    return "\n".join(f"- {sentence}" for sentence in sentences) + "\n"


def interval(values: Sequence[float]) -> str:
    """The middle 95% of bootstrapped values."""
    low, high = np.quantile(values, [0.025, 0.975])
    return f"[{low:.3f}, {high:.3f}]"


def law_text(what: str, xs: np.ndarray, losses_BX: np.ndarray, seed: int) -> str:
    """The power law of a loss."""
    law, laws = fit(xs, losses_BX.mean(0)), bootstrap_fits(xs, losses_BX, seed=seed)
    return (
        f"loss = {law.floor:.3f} + {law.factor:.3g} {what}^-{law.exponent:.3f}; exponent "
        f"{interval([law.exponent for law in laws])}, floor {interval([law.floor for law in laws])} "
        "(95%, bootstrap over clips)."
    )


def forecast_text(found: Points, seed: int) -> str:
    """What the smaller runs foretell of the largest, and what it reached."""
    xs, largest = found.parameters[:-1], found.parameters[-1]
    law = fit(xs, found.losses_BX[:, :-1].mean(0))
    laws = bootstrap_fits(xs, found.losses_BX[:, :-1], seed=seed)
    return (
        f"From the {len(xs)} smaller ones, {largest / 1e6:.3g}M parameters were forecast to reach {law(largest):.3f} "
        f"{interval([law(largest) for law in laws])} nats; they reached {found.losses[-1]:.3f}."
    )


def isoflop_text(curves: Sequence[Points]) -> list[str]:
    """The best number of parameters for each budget, and how it grows."""
    sentences, best = [], []
    for curve in curves:
        size, least = bottom(curve)
        best.append(size)
        sentences.append(
            f"- With {np.median(curve.flops):.1e} FLOPs the best of {len(curve.parameters)} sizes is near "
            f"{size / 1e6:.2f}M parameters ({least:.3f} nats)."
        )
    if len(curves) > 1:
        flops = [float(np.median(curve.flops)) for curve in curves]
        slope = np.polyfit(np.log(flops), np.log(best), 1)[0]
        sentences.append(
            f"- So the best size grows with FLOPs^{slope:.2f} over these budgets (the paper gives none)."
        )
    return sentences


def bottom(curve: Points) -> tuple[float, float]:
    """The size of least loss and that loss, by a parabola through the three runs around the best one."""
    best = int(np.clip(curve.losses.argmin(), 1, len(curve.parameters) - 2))
    near = slice(best - 1, best + 2)
    a, b, c = np.polyfit(np.log(curve.parameters[near]), curve.losses[near], 2)
    if a <= 0:  # no valley: the best run itself
        best = int(curve.losses.argmin())
        return float(curve.parameters[best]), float(curve.losses[best])
    middle = float(np.clip(-b / (2 * a), *np.log(curve.parameters[[0, -1]])))
    return float(np.exp(middle)), float(np.polyval([a, b, c], middle))


def draw(found: Points, path: Path) -> None:
    """A figure of the runs: loss by parameters, a line for each budget of FLOPs or the fit through all, as SVG."""
    with matplotlib.rc_context(fname=STYLE):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        curves = budgets(found)
        if len(curves) == len(found.parameters):
            draw_law(axes, found)
        else:
            for index, curve in enumerate(curves):
                label = f"{np.median(curve.flops):.0e} FLOPs"
                axes.plot(curve.parameters, curve.losses, "o-", color=COLOURS[1 + index % 6], label=label)
        axes.set(xscale="log", xlabel="parameters of the dynamics", ylabel="held-out nats a token")
        axes.legend(loc="upper right")
        with replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def draw_law(axes: matplotlib.axes.Axes, found: Points) -> None:
    """Each run with its interval over clips, and the fitted law."""
    law: PowerLaw = fit(found.parameters, found.losses)
    xs = np.geomspace(found.parameters[0], found.parameters[-1], 100)
    errors = 1.96 * found.losses_BX.std(0, ddof=1) / np.sqrt(len(found.losses_BX))
    axes.errorbar(
        found.parameters, found.losses, errors, fmt="o", color=COLOURS[1], label="runs, 95% over clips"
    )
    axes.plot(xs, [law(x) for x in xs], "--", color=INK, label=f"exponent {law.exponent:.2f}")
