"""The store of a study's rows, and what is read from it: means over seeds with intervals, and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

from jinn.evaluation.catalogue import METRICS
from jinn.evaluation.estimate import Estimate
from jinn.files import replacing

# What is known of a run without measuring its world, beside the metrics of `jinn.evaluation.catalogue`.
TITLES = {
    "run/steps": "steps of the last phase",
    "run/seconds": "seconds of training",
    "run/flops": "FLOPs of training",
    "run/parameters": "parameters of the dynamics",
    "run/tokenizer_parameters": "parameters of the tokenizer",
    "run/tokenizer_memory": "memory of a clip in the tokenizer's training, MB",
    "loss/held_out": "held-out nats a token",
}
# The 97.5% quantile of Student's t by degrees of freedom, from 1; for more of them it is that of the last.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


@dataclass(frozen=True)
class Line:
    """One estimate of one run: a line of the store.

    Attributes:
        row: name of what was trained.
        seed: of its training.
        metric: a name of `jinn.evaluation.catalogue` or of `TITLES`.
        minus: empty, or the row whose value was subtracted clip by clip.
        value, low, high, count: the estimate, its 95% interval over clips, and the number of clips.
    """

    row: str
    seed: int
    metric: str
    minus: str
    value: float
    low: float
    high: float
    count: int


def write_lines(path: Path, lines: Sequence[Line]) -> None:
    """Write the store, a Parquet file, in place of the one before."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist([asdict(line) for line in lines])
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def over_seeds(runs: Sequence[Estimate]) -> Estimate:
    """The mean of several seeds' estimates on the same clips, with an interval over seeds and clips.

    Its half-width is the root of two squares: that of the mean of the seeds (Student's t), and the mean half-width over
    clips, which seeds share. One seed keeps its own interval, which then says nothing of other seeds.
    """
    if len(runs) == 1:
        return runs[0]
    values = [run.value for run in runs]
    degrees = len(values) - 1
    seeds = STUDENT[min(degrees, len(STUDENT)) - 1] * stdev(values) / math.sqrt(len(values))
    clips = mean((run.high - run.low) / 2 for run in runs)
    half = math.hypot(seeds, clips)
    middle = mean(values)
    return Estimate(middle, middle - half, middle + half, runs[0].count, 0)


def summarize(lines: Sequence[Line]) -> dict[tuple[str, str, str], Estimate]:
    """`over_seeds` of all lines, by row, ``minus`` and metric, in the order of the rows."""
    runs: dict[tuple[str, str, str], list[Estimate]] = {}
    for line in lines:
        estimate = Estimate(line.value, line.low, line.high, line.count, line.seed)
        runs.setdefault((line.row, line.minus, line.metric), []).append(estimate)
    return {key: over_seeds(found) for key, found in runs.items()}


def table(lines: Sequence[Line], columns: Sequence[str]) -> str:
    """The rows as a table in Markdown; under each row its paired difference from the first row, where there is one."""
    found = summarize(lines)
    shown = [metric for metric in columns if any(key[2] == metric for key in found)]
    text = [f"| row | seeds | {' | '.join(map(title, shown))} |", "|---" * (len(shown) + 2) + "|"]
    for row, minus in dict.fromkeys((key[0], key[1]) for key in found):
        seeds = {line.seed for line in lines if (line.row, line.minus) == (row, minus)}
        name = f"*{row}, minus {minus}*" if minus else row
        cells = [cell(metric, found.get((row, minus, metric)), bool(minus)) for metric in shown]
        text.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


def title(metric: str) -> str:
    """A short name for a metric."""
    return TITLES[metric] if metric in TITLES else METRICS[metric].title


def cell(metric: str, estimate: Estimate | None, difference: bool) -> str:
    """An estimate and its interval, a count or size alone, nothing where there is none."""
    if estimate is None or math.isnan(estimate.value):
        return ""
    if metric.startswith("run/"):
        return f"{estimate.value:,.0f}" if estimate.value < 1e7 else f"{estimate.value:.3g}"
    percent = metric in METRICS and METRICS[metric].unit == "fraction"
    scale, digits = (100, 0) if percent else (1, 2)
    sign = "+" if difference else ""
    value, low, high = (scale * x for x in (estimate.value, estimate.low, estimate.high))
    unit = "%" if percent else ""
    return f"{value:{sign}.{digits}f}{unit} [{low:.{digits}f}, {high:.{digits}f}]"
