"""Which levels to learn on: those that an agent solves now and then, instead of any.

A level that is always solved teaches nothing more, and one that is never solved teaches nothing yet. What is between is
found by letting the agent play candidates: how often it solves a level is p, and p (1 - p) is its *learnability*
(Rutherford et al. 2024). The levels that are most learnable are kept, and drawn again while others come in. Where the
candidates are random this is prioritised level replay (Jiang et al. 2021; nothing is learned from the candidates' own
episodes, as in its robust form). Where some are small changes of the kept ones, the curriculum climbs by itself to
harder levels (ACCEL, Parker-Holder et al. 2022). With no kept levels it is domain randomisation.

Levels are anything that an array numbers or describes: those of `jinn.agents.rooms`, or numbers of prompts of a world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from jinn.agents.network import Network

# Levels that can be counted (`len`) and picked from by an array of numbers.
Levels = Any


@dataclass(frozen=True)
class CurriculumConfig:
    """How levels are chosen.

    Attributes:
        replay: fraction of the episodes that are played on kept levels, in [0, 1]; 0 is domain randomisation.
        keep: number of levels that are kept.
        candidates: number of levels that are tried at each renewal, beside the kept ones.
        tries: episodes that are played on each to judge it.
        every: updates of the agent between renewals.
        edits: fraction of the candidates that are changes of kept levels, in [0, 1]; 0 is prioritised level replay.
    """

    replay: float = 0.5
    keep: int = 128
    candidates: int = 256
    tries: int = 4
    every: int = 10
    edits: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.replay <= 1 and 0 <= self.edits <= 1):
            raise ValueError("replay and edits are fractions from 0 to 1")
        if min(self.keep, self.candidates, self.every) < 1 or self.tries < 2:
            raise ValueError("keep, candidates and every are at least 1, and tries at least 2")


class Curriculum:
    """A source of levels that follows what an agent can nearly do.

    Args:
        draw: new levels: how many, and a generator.
        join: several parts of levels as one.
        judge: the agent's return, 0 to 1, of each episode on some levels, ``LE``: levels, a policy's network, episodes.
        config: how levels are chosen.
        edit: changed copies of levels, perhaps fewer: levels, and a generator. Needed for ``edits``.
        seed: of the candidates.
    """

    def __init__(
        self,
        draw: Callable[[int, np.random.Generator], Levels],
        join: Callable[[list[Levels]], Levels],
        judge: Callable[[Levels, Network, int], np.ndarray],
        config: CurriculumConfig,
        edit: Callable[[Levels, np.random.Generator], Levels] | None = None,
        seed: int = 0,
    ) -> None:
        if config.edits and edit is None:
            raise ValueError("edits need a function that changes levels")
        self.draw, self.join, self.judge, self.edit, self.config = draw, join, judge, edit, config
        self.rng, self.updates, self.judged = np.random.default_rng(seed), 0, 0
        self.kept: Levels = None
        self.learnability_L = np.zeros(0)

    def __call__(self, count: int, rng: np.random.Generator) -> Levels:
        """Levels to play on: kept ones, each as often as the next, and new ones."""
        replayed = int((rng.random(count) < self.config.replay).sum()) if self.kept is not None else 0
        parts = [self.draw(count - replayed, rng)] if count > replayed else []
        if replayed:
            parts.append(self.kept[rng.integers(len(self.kept), size=replayed)])
        return self.join(parts)

    def renew(self, report: dict[str, float], network: Network) -> None:
        """Judge candidates and the kept levels, and keep the most learnable: for ``on_update`` of `train_ppo`."""
        self.updates += 1
        config = self.config
        if not config.replay or self.updates % config.every:
            return
        edited = round(config.edits * config.candidates) if self.kept is not None else 0
        parts = [] if edited == config.candidates else [self.draw(config.candidates - edited, self.rng)]
        if self.kept is not None:
            parts.append(self.kept)
        if edited and self.edit is not None:
            parents = self.kept[self.rng.integers(len(self.kept), size=edited)]
            parts.append(self.edit(parents, self.rng))
        levels = self.join(parts)
        returns_LE = self.judge(levels, network, config.tries)
        self.judged += returns_LE.size
        found_L = learnability(returns_LE)
        best = np.argsort(-found_L, kind="stable")[: config.keep]
        best = best[found_L[best] > 0]
        if len(best):
            self.kept, self.learnability_L = levels[best], found_L[best]
        report["learnability"] = float(self.learnability_L.mean()) if len(self.learnability_L) else 0.0


def learnability(returns_LE: np.ndarray) -> np.ndarray:
    """p (1 - p) of each level, from its returns of 0 to 1, without the bias of few episodes: float64 ``L``."""
    solved_L, episodes = returns_LE.mean(1), returns_LE.shape[1]
    return solved_L * (1 - solved_L) * episodes / (episodes - 1)
