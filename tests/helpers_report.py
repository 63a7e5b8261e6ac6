"""Results to report: two worlds with every metric, and one with almost none."""

from __future__ import annotations

import torch

from jinn.evaluation.catalogue import METRICS
from jinn.evaluation.estimate import Estimate
from jinn.evaluation.results import Pictures, Results, WorldResults
from jinn.world.legend import ActionMeaning

EVIL = "<script>alert(1)</script>"
T, A, P = 6, 3, 2


def estimate(value: float, room: float = 0.0, count: int = 12) -> Estimate:
    return Estimate(value, value - room, value + room, count, 0)


def full_world(name: str, better: float = 0.0) -> WorldResults:
    """A world with an estimate of every metric of the catalogue."""
    known = {"psnr": 20 + better, "ssim": 0.7 + better / 100, "lpips": 0.2 - better / 100}
    values = {path: known.get(path.split("/")[1], 0.5) for path in METRICS}
    values |= {path: 0.9 * values[path] - better for path in METRICS if "copy_last" in path}
    values["control/delta_psnr_4"] = 1.0 + better
    by_horizon = [path for path in METRICS if path.split("/")[1] in known and "tokenizer" not in path]
    curves = {path: [estimate(values[path] + 0.01 * t, 0.02) for t in range(T)] for path in by_horizon}
    curves["control/delta_psnr"] = [estimate(0.2 * t, 0.1) for t in range(T)]
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, (*shape, 16, 16, 3), dtype=torch.uint8, generator=generator)

    real_BTHWC = noise(2, T)
    made_BTHWC = noise(2, T) if better else real_BTHWC.flip(1)
    return WorldResults(
        name,
        {path: estimate(value, 0.1) for path, value in values.items()},
        curves,
        tuple(
            ActionMeaning(word, down, 1.0, 1 / A) for word, down in (("a<b", -2.0), ("stay", 0.0), ("c", 2.0))
        ),
        [[5, 0, 1, 2], [0, 0, 0, 0], [1, 9, 0, 0]],
        {"tokenizer": [(i, 10.0 / (1 + i)) for i in range(1000)], "dynamics": [(0, 2.0), (10, 1.5)]},
        Pictures({"real": real_BTHWC, "inferred actions": made_BTHWC}, noise(P, A, T)),
    )


def two_worlds() -> Results:
    one, other = full_world(EVIL), full_world("other", better=1.0)
    differences = {
        name: estimate(other.estimates[name].value - one.estimates[name].value, 0.001)
        for name in one.estimates
    }
    settings = {"data": f"{EVIL}.store", "fps": "30", "seed": "0"}
    return Results(settings, (f"nothing of {EVIL} was measured",), (one, other), (differences,))


def minimal() -> Results:
    """One world with almost no metrics."""
    estimates = {"tokenizer/psnr": estimate(20.0), "control/delta_psnr_4": estimate(0.0, 0.1)}
    curves = {"inferred/psnr": [estimate(20.0, 0.5)], "inferred/ssim": []}
    return Results({}, (), (WorldResults("small", estimates, curves, (), None, {}),))
