"""Estimates, information and motion with known values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from helpers_evaluation import rolled
from jinn.data.store import FrameStore
from jinn.data.synthetic import ACTIONS, CELL, game_rollout, write_game
from jinn.evaluation.actions import nmi_with_true_actions
from jinn.evaluation.estimate import bootstrap
from jinn.evaluation.metrics import joint_counts, mutual_information, perplexity, psnr, purity
from jinn.evaluation.motion import block_motion, motion_features
from jinn.world.legend import _name, _names, describe
from jinn.world.motion import global_motion, player_motion


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    return write_game(tmp_path_factory.mktemp("game") / "store", episodes=24, length=60, seed=500)


# ---- Closed forms -----------------------------------------------------------------------------------


def test_psnr_of_known_errors() -> None:
    real = torch.full((2, 8, 8, 3), 100, dtype=torch.uint8)
    made = real.clone()
    made[1] += 10
    values = psnr(made, real)
    assert values[0] == 100
    assert float(values[1]) == pytest.approx(20 * np.log10(255 / 10))


def test_the_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        figure = bootstrap(rng.normal(3.0, 1.0, 60), trial, draws=400)
        hits += figure.low <= 3.0 <= figure.high
    assert 0.88 <= hits / 200 <= 0.99
    figure = bootstrap(np.array([1.0, np.nan, 3.0]), seed=5)
    assert (figure.value, figure.count, figure.seed) == (2.0, 2, 5)
    with pytest.raises(ValueError, match="at least one sample"):
        bootstrap(np.array([np.nan]), 0)


def test_an_interval_contains_its_estimate() -> None:
    # Four clips of 16 have the rare code: one resample in a hundred misses it, and none finds a third.
    shares_BK = np.tile([1.0, 0.0], (16, 1))
    shares_BK[:4] = [0.5, 0.5]
    figure = bootstrap(shares_BK, 0, lambda shares: (shares > 0).mean(-1), most=1)
    assert figure.value == 1.0
    assert figure.low <= figure.value <= figure.high


def test_the_bootstrap_of_a_curved_statistic_is_not_shifted_by_resampling() -> None:
    """Mutual information of few clips rises with resampling: the interval must contain the estimate all the same."""
    rng = np.random.default_rng(0)
    joint = joint_counts(
        torch.from_numpy(rng.integers(0, 5, (40, 8))), torch.from_numpy(rng.integers(0, 5, (40, 8))), 5, 5
    )
    figure = bootstrap(joint, 0, mutual_information)
    drawn = [float(mutual_information(joint[rng.integers(0, 40, 40)].sum(0).numpy())) for _ in range(200)]
    assert np.quantile(drawn, 0.3) > figure.value  # the centre of a plain percentile interval
    assert figure.low < figure.value < figure.high


def joint_of(first: Any, second: Any) -> np.ndarray:
    first, second = torch.as_tensor(first)[None], torch.as_tensor(second)[None]
    return joint_counts(first, second, int(first.max()) + 1, int(second.max()) + 1)[0].numpy()


def test_mutual_information_of_known_labels() -> None:
    a = np.array([0, 0, 1, 1, 2, 2] * 10)
    assert mutual_information(joint_of(a, (a + 1) % 3)) == pytest.approx(1.0)
    assert mutual_information(joint_of(a, np.zeros_like(a))) == 0.0
    assert mutual_information(joint_of(a, np.tile([0, 1], 30))) == pytest.approx(0.0, abs=1e-9)
    rng = np.random.default_rng(0)
    assert mutual_information(joint_of(rng.integers(0, 5, 20_000), rng.integers(0, 5, 20_000))) < 0.01
    assert purity(joint_of(a, (a + 1) % 3)) == 1.0
    assert purity(joint_of(np.zeros_like(a), a)) == pytest.approx(1 / 3)
    assert purity(joint_of([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])) == pytest.approx(4 / 5)
    assert perplexity(np.array([0.25, 0.25, 0.25, 0.25, 0.0])) == pytest.approx(4.0)


def test_nmi_with_the_true_actions_has_known_values(game: FrameStore) -> None:
    keys = [game.actions(episode, 0, int(length)) for episode, length in enumerate(game.lengths)]
    keys_X = np.concatenate([keys_T for keys_T in keys if keys_T is not None]).astype(np.int64)
    count = int(keys_X.max()) + 1
    renamed_X = (keys_X + 1) % count
    renamed_X[np.cumsum(game.lengths) - 1] = -1  # as in labels: no action follows the last frame
    same = nmi_with_true_actions(renamed_X, game, count)
    assert same is not None
    assert same.value == pytest.approx(1)
    shuffled = nmi_with_true_actions(np.random.default_rng(0).permutation(keys_X), game, count)
    assert shuffled is not None
    assert shuffled.value < 0.02


def test_unknown_labels_are_not_counted() -> None:
    counts = joint_counts(torch.tensor([[0, 1, 1]]), torch.tensor([[1, -1, 0]]), 2, 2)
    assert counts.tolist() == [[[0, 1], [1, 0]]]


# ---- Motion -----------------------------------------------------------------------------------------


def test_motion_finds_the_shift() -> None:
    moves = [(0, 0), (2, 0), (0, -3), (-1, 4)]
    assert global_motion(rolled(moves), radius=5)[0].tolist() == [list(move) for move in moves]
    blocks = block_motion(rolled(moves, 64))[0]
    for found, move in zip(blocks[:, 1:-1, 1:-1], moves, strict=True):
        assert (found == torch.tensor(move)).all()


def test_motion_features_depend_on_time_and_not_on_brightness() -> None:
    clip = rolled([(0, 1)] * 8, 64)
    shuffled = clip[:, [3, 0, 7, 1, 8, 2, 6, 4, 5]]
    own, other, darker = (motion_features(x) for x in (clip, shuffled, clip // 2))
    assert (own - darker).abs().sum() < 10
    assert (own - other).abs().sum() > 100
    still = motion_features(clip[:, :1].expand_as(clip))
    assert still[0].max() == 100
    assert (still - own).abs().sum() > 100


@pytest.mark.parametrize("size_hw", [(32, 32), (48, 80)])
def test_the_legend_of_a_known_game(size_hw: tuple[int, int]) -> None:
    """A sprite on a static board: its motion is found from the pixels alone."""
    frames, actions = zip(*(game_rollout(seed, 17, size_hw) for seed in range(20)), strict=True)
    motion = player_motion(torch.from_numpy(np.stack(frames)))
    legend = describe(torch.from_numpy(np.stack(actions))[:, :-1], motion, len(ACTIONS) + 1)
    assert [meaning.name for meaning in legend] == [*ACTIONS, "unused"]
    blocked = CELL / size_hw[1]  # a right press in the last column moves nothing
    assert legend[2].right == pytest.approx(CELL * (1 - blocked), abs=0.5)
    assert sum(meaning.fraction for meaning in legend) == pytest.approx(1, abs=0.01)


def test_names_of_motions() -> None:
    assert _name(0.1, 0.2) == "stay"
    assert _name(-3.0, 0.1) == "up"
    assert _name(2.0, 1.5) == "down-right"
    assert _name(0.0, -1.0) == "left"
    means = np.array([[-2.0, 0.0], [-6.0, 0.1], [0.1, 0.1], [0.0, 0.2], [0.0, 0.0], [0.0, 1.0]])
    shares = np.array([0.2, 0.2, 0.2, 0.2, 0.0, 0.2])
    assert _names(means, shares) == ("up slowly", "up", "stay", "stay", "unused", "right")
