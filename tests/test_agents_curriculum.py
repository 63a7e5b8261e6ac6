"""Curricula: what is kept, what is drawn, and that an agent learns by them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jinn.agents.curriculum import Curriculum, CurriculumConfig, learnability
from jinn.agents.network import NetworkConfig, new_network
from jinn.agents.ppo import PPOConfig, train_ppo
from jinn.agents.rooms import Rooms, join, random_levels

NETWORK = new_network(NetworkConfig(5, (8, 8), channels=(4,), width=8), 0)


def numbers(count: int, rng: np.random.Generator) -> np.ndarray:
    """Levels that are numbers in [0, 1]: how often they are solved."""
    return rng.random(count)


def coin(levels: np.ndarray, network: object, episodes: int) -> np.ndarray:
    """Each level is solved in about as many of its episodes as its number says."""
    return (np.arange(episodes) < np.round(levels[:, None] * episodes)).astype(float)


def curriculum(**settings: float) -> Curriculum:
    """One over numbers, whose edits make a level easier by a tenth."""
    config = CurriculumConfig(**{"keep": 20, "candidates": 100, "tries": 10, "every": 1} | settings)  # type: ignore[arg-type]
    return Curriculum(numbers, np.concatenate, coin, config, lambda levels, _: levels * 0.9)


def test_learnability_has_no_bias() -> None:
    rng = np.random.default_rng(0)
    assert learnability(np.array([[0.0, 0, 0], [1, 1, 1]])).tolist() == [0, 0]
    np.testing.assert_allclose(
        learnability((rng.random((20_000, 3)) < 0.3).astype(float)).mean(), 0.21, atol=0.01
    )


def test_the_most_learnable_are_kept_and_replayed() -> None:
    found = curriculum(replay=0.5)
    before = found(1000, np.random.default_rng(1))
    assert abs(before.mean() - 0.5) < 0.05  # nothing is kept yet: all are new
    assert before.std() > 0.25
    report: dict[str, float] = {}
    for _ in range(3):
        found.renew(report, NETWORK)
    assert len(found.kept) == 20
    assert (np.abs(found.kept - 0.5) <= 0.15).all()
    assert report["learnability"] > 0.25
    drawn = found(1000, np.random.default_rng(2))
    assert 0.4 < np.isin(drawn, found.kept).mean() < 0.6
    # 100 new ones three times; the 20 kept ones are judged again from the second time on.
    assert found.judged == 10 * (100 + 120 + 120)


def test_domain_randomisation_keeps_nothing() -> None:
    found = curriculum(replay=0)
    found.renew({}, NETWORK)
    assert found.kept is None
    assert found.judged == 0


def test_levels_that_teach_nothing_are_not_kept() -> None:
    found = Curriculum(lambda n, _: np.zeros(n), np.concatenate, coin, CurriculumConfig(every=1))
    found.renew({}, NETWORK)
    assert found.kept is None


def test_edits_lead_where_chance_does_not() -> None:
    """New levels are always solved; only changes of kept ones get harder."""

    def easy(count: int, rng: np.random.Generator) -> np.ndarray:
        return 0.9 + 0.1 * rng.random(count)

    config = CurriculumConfig(keep=20, candidates=50, tries=20, every=1, edits=0.5)
    found = Curriculum(easy, np.concatenate, coin, config, lambda levels, _: levels * 0.9)
    for _ in range(12):
        found.renew({}, NETWORK)
    assert (found.kept < 0.65).all()
    with pytest.raises(ValueError, match="a function that changes levels"):
        Curriculum(easy, np.concatenate, coin, config)


def test_an_agent_learns_by_a_curriculum_and_a_seed_repeats_it() -> None:
    def judge(levels: object, network: object, episodes: int) -> np.ndarray:
        return np.random.default_rng(len(seen)).random((len(levels), episodes)) < 0.5  # type: ignore[arg-type]

    weights = []
    for _ in range(2):
        seen: list[float] = []
        found = Curriculum(
            lambda n, rng: random_levels(n, rng, side=3), join, judge,
            CurriculumConfig(keep=8, candidates=16, every=1, replay=1.0),
        )  # fmt: skip

        def on_update(report: dict[str, float], network: object, found: Curriculum = found) -> None:
            found.renew(report, network)  # type: ignore[arg-type]
            seen.append(report["learnability"])  # noqa: B023 it is of this turn

        network = new_network(NetworkConfig(5, (12, 12), channels=(4,), width=8, fold=4), 0)
        train_ppo(
            Rooms(found, num_envs=4, horizon=5),
            PPOConfig(steps=96, length=8),
            network=network,
            on_update=on_update,
        )
        assert len(seen) == 3
        weights.append(network.policy.weight.detach())
    assert torch.equal(*weights)


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="fractions from 0 to 1"):
        CurriculumConfig(replay=2)
    with pytest.raises(ValueError, match="tries at least 2"):
        CurriculumConfig(tries=1)
