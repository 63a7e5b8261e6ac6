"""What an evaluation found: named figures, curves by horizon, and pictures. Made by `jinn.evaluation.suite`,
shown by `jinn.evaluation.report`.

Names are paths: ``what/metric`` and then, where they apply, ``frozen`` (the same measure of a picture that
does not move) and ``moving`` (the same measure on that half of the clips in which most moves). The suite's
docstring lists them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from jinn.world.legend import ActionMeaning


@dataclass(frozen=True)
class Figure:
    """A figure and how sure it is.

    Attributes:
        value: the figure.
        low, high: ends of its 95% interval, by bootstrap over clips.
        count: number of independent samples: clips, or roll-outs.
        seed: of the bootstrap, and of all chance in what it measures.
    """

    value: float
    low: float
    high: float
    count: int
    seed: int


@dataclass(frozen=True)
class Pictures:
    """What a report shows of a world; uint8 frames.

    Attributes:
        clips: row of clips by what it shows ("real", "inferred actions", ...), ``BTHWC`` each, side by side
            in this order; frame 0 is the prompt.
        held_PATHWC: P prompts, each of the A actions held for T frames; frame 0 is the prompt.
    """

    clips: dict[str, Tensor]
    held_PATHWC: Tensor


@dataclass(frozen=True)
class WorldResults:
    """What was found of one world.

    Attributes:
        name: as the user named it.
        figures: by name.
        curves: by name; entry t is that of the (t + 1)th frame after the prompt. A curve's mean over the
            horizon is a figure of the same name.
        legend: what each action does.
        confusion_AU: how often each latent action (row) met each true one (column), None if those are
            unknown.
        training: of each stage of its training the steps and losses, empty if there is no log.
        pictures: to look at; not in the JSON.
    """

    name: str
    figures: dict[str, Figure]
    curves: dict[str, list[Figure]]
    legend: tuple[ActionMeaning, ...]
    confusion_AU: list[list[int]] | None
    training: dict[str, list[tuple[int, float]]]
    pictures: Pictures | None = None


@dataclass(frozen=True)
class Results:
    """What was found of one world, or of several on the same clips.

    Attributes:
        settings: what people must know to repeat it, name to value in the order to be shown.
        missing: one sentence for each thing that was not measured, and what to do about it.
        worlds: at least one.
        differences: for each world after the first, its paired difference to the first world, by figure name.
    """

    settings: dict[str, str]
    missing: tuple[str, ...]
    worlds: tuple[WorldResults, ...]
    differences: tuple[dict[str, Figure], ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, as plain JSON values."""
        worlds = []
        for world in self.worlds:
            values = {key: getattr(world, key) for key in ("name", "confusion_AU", "training")}
            values["legend"] = [asdict(meaning) for meaning in world.legend]
            values["figures"] = {name: asdict(figure) for name, figure in world.figures.items()}
            values["curves"] = {name: [asdict(f) for f in curve] for name, curve in world.curves.items()}
            worlds.append(values)
        differences = [{name: asdict(f) for name, f in found.items()} for found in self.differences]
        return {
            "settings": self.settings,
            "missing": list(self.missing),
            "worlds": worlds,
            "differences": differences,
        }

    def names(self) -> Iterator[str]:
        """Every figure's name, in the order in which the worlds have them."""
        yield from dict.fromkeys(name for world in self.worlds for name in world.figures)
