"""Results of an evaluation: estimates and curves by the names of `jinn.evaluation.catalogue`, and pictures.

`jinn.evaluation.suite` makes them, `jinn.evaluation.report` shows them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from jinn.evaluation.estimate import Estimate
from jinn.world.legend import ActionMeaning
from jinn.world.world import World


@dataclass(frozen=True)
class Pictures:
    """Example clips of a report, uint8 frames; frame 0 is the prompt.

    Attributes:
        clips: clips by their kind ("real", "inferred actions", ...), ``BTHWC`` each, shown side by side in this order.
        constant_PATHWC: roll-outs from P prompts under each of the A actions, held constant.
    """

    clips: dict[str, Tensor]
    constant_PATHWC: Tensor


@dataclass(frozen=True)
class WorldResults:
    """Results of one world.

    Attributes:
        name: as the user gave it.
        estimates, curves: by metric; entry t of a curve belongs to the (t + 1)th frame after the prompt, and the
            mean over the horizon is the estimate of the same name.
        confusion_AU: how often each latent action (row) and each true one (column) occur together, None if
            true actions are unknown.
        training: steps and losses of each stage of training, empty if there is no log.
        pictures: example clips; they are not in the JSON.
    """

    name: str
    estimates: dict[str, Estimate]
    curves: dict[str, list[Estimate]]
    legend: tuple[ActionMeaning, ...]
    confusion_AU: list[list[int]] | None
    training: dict[str, list[tuple[int, float]]]
    pictures: Pictures | None = None


@dataclass(frozen=True)
class Results:
    """Results of one world, or of several on the same clips.

    Attributes:
        settings: what is needed to repeat the evaluation, name to value, in the order of the report.
        missing: one sentence for each thing that was not measured, and what to do about it.
        worlds: results of each world, at least one.
        differences: for each world after the first, paired differences from the first world, by metric.
    """

    settings: dict[str, str]
    missing: tuple[str, ...]
    worlds: tuple[WorldResults, ...]
    differences: tuple[dict[str, Estimate], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, as plain JSON values."""
        worlds = tuple(replace(world, pictures=None) for world in self.worlds)
        values = asdict(replace(self, worlds=worlds))
        for world in values["worlds"]:
            del world["pictures"]
        return values

    def names(self) -> list[str]:
        """Every metric that a world has, in the order of the worlds."""
        return list(dict.fromkeys(name for world in self.worlds for name in world.estimates))


def training_curves(world: World) -> dict[str, list[tuple[int, float]]]:
    """Steps and losses of each stage of training, from the log of the run whose folder holds the world."""
    path = world.folder.parent / "log.jsonl" if world.folder else None
    if path is None or not path.exists():
        return {}
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            curves.setdefault(entry["phase"], []).append((int(entry["step"]), float(entry["loss"])))
        except (ValueError, KeyError):  # a killed run may have left half a line
            continue
    return curves
