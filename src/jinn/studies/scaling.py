"""How the loss falls with parameters, data and FLOPs (paper, section 3.1): rows, fits and a forecast.

The dynamics learn on the tokens and actions of one world, so that the nats of all rows are of the same tokens. Learning
rates follow one rule: the recipe's, times the root of its width over the row's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jinn.errors import JinnError
from jinn.models.ours.previous_frame import PreviousFrameDynamicsConfig
from jinn.studies.budget import flops_of_steps, with_costs
from jinn.training.recipe import Recipe

# Layers, width and heads: from a twentieth of a million parameters to twenty million.
SIZES = ((2, 32, 2), (2, 64, 2), (4, 96, 3), (4, 128, 4), (4, 192, 6), (6, 256, 8), (8, 384, 12))
FEWEST = 50  # steps of a row of equal FLOPs: fewer are no training
BATCHES = (2, 4, 8, 16, 32)
# The paper's own points: parameters in millions, and its final losses as read off its figure (about 0.5% accurate).
PAPER = (
    (41, 0.002477), (96, 0.002338), (192, 0.002175), (404, 0.002048), (811, 0.001966), (1600, 0.001851),
    (2700, 0.001818),
)  # fmt: skip


def sized(recipe: Recipe, layers: int, width: int, heads: int) -> Recipe:
    """The recipe with dynamics of this size, without the phase of self-rollouts, whose loss is another one."""
    config = recipe.dynamics
    transformer = replace(config.transformer, layers=layers, width=width, heads=heads)
    dynamics = replace(config, transformer=transformer)
    if isinstance(dynamics, PreviousFrameDynamicsConfig) and dynamics.digit_hidden:
        dynamics = replace(dynamics, digit_hidden=2 * width)
    training = recipe.dynamics_training
    rate = math.sqrt(config.transformer.width / width)
    training = replace(
        training,
        learning_rate=rate * training.learning_rate,
        final_learning_rate=rate * training.final_learning_rate,
    )
    return replace(recipe, dynamics=dynamics, dynamics_training=training, self_rollout_training=None)


def scaling(recipe: Recipe, flops: Sequence[float]) -> dict[str, Recipe]:
    """A row for each size; with FLOPs, a row for each size and each of these budgets (isoFLOP curves)."""
    rows = {}
    for layers, width, heads in SIZES:
        row, name = sized(recipe, layers, width, heads), f"{layers} layers of {width}"
        if not flops:
            rows[name] = row
            continue
        costs = flops_of_steps(row, from_scratch=False)
        for budget in flops:
            if budget / costs["dynamics"] >= FEWEST:
                rows[f"{name}, {budget:.1e} FLOPs"] = with_costs(row, budget, costs, False)
    if len(rows) < 3:
        raise JinnError(f"these --flops pay for {FEWEST} steps of fewer than three rows: give more")
    return rows


def batches(recipe: Recipe) -> dict[str, Recipe]:
    """A row for each batch size, with as many steps (so more data, as in the paper) and one learning rate."""
    recipe = replace(recipe, self_rollout_training=None)
    return {
        f"{batch} clips a step": replace(
            recipe, dynamics_training=replace(recipe.dynamics_training, batch=batch)
        )
        for batch in BATCHES
    }


@dataclass(frozen=True)
class PowerLaw:
    """``loss = floor + factor x^-exponent``."""

    floor: float
    factor: float
    exponent: float

    def __call__(self, x: float) -> float:
        return self.floor + self.factor * x**-self.exponent


def fit(xs: np.ndarray, losses: np.ndarray, floors: int = 200) -> PowerLaw:
    """The power law of least squared error in the logarithm of the loss above its floor.

    The floor is one of ``floors`` values from 0 to just below the least loss; for each, the rest is a straight line in
    logarithms. Four points at least tell a floor from a bend, so with fewer the floor is 0.

    Raises:
        ValueError: there are fewer than two points.
    """
    if len(xs) < 2:
        raise ValueError("a power law needs at least two points")
    best = None
    for floor in np.linspace(0, 0.98, floors if len(xs) > 3 else 1) * losses.min():
        slope, offset = np.polyfit(np.log(xs), np.log(losses - floor), 1)
        law = PowerLaw(float(floor), float(np.exp(offset)), float(-slope))
        error = float(np.square(np.log(np.array([law(x) for x in xs]) / losses)).sum())
        if best is None or error < best[0]:
            best = error, law
    assert best is not None
    return best[1]


def bootstrap_fits(xs: np.ndarray, losses_BX: np.ndarray, draws: int = 200, seed: int = 0) -> list[PowerLaw]:
    """Fits to the mean losses of resampled clips: the spread of what is fitted that comes from the clips.

    Args:
        xs: of each row.
        losses_BX: of each clip in each row; rows are resampled together, for they share the clips.
    """
    generator = np.random.default_rng(seed)
    count = len(losses_BX)
    return [fit(xs, losses_BX[generator.integers(0, count, count)].mean(0), 50) for _ in range(draws)]
