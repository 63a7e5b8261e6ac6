"""Algorithm distillation: its source learns, its transformer sees the past alone, and play goes on from its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jinn.agents.distill import (
    DistillConfig,
    Histories,
    HistoryTransformer,
    distill,
    learning_histories,
    play_in_context,
    thumbnails,
)
from jinn.agents.rooms import Levels, Rooms

SMALL = DistillConfig(context=12, layers=1, width=16, heads=2, steps=5, batch=4)


def tasks(goals: list[tuple[int, int]]) -> Levels:
    """Dark rooms of 3 x 3 cells, from the middle to these goals."""
    count = len(goals)
    return Levels(np.zeros((count, 3, 3), bool), np.ones((count, 2), np.int64), np.array(goals))


def test_the_source_learns_and_its_history_is_in_order() -> None:
    horizon, episodes = 6, 80
    envs = Rooms(tasks([(0, 0), (0, 2), (2, 0), (2, 2)] * 4), horizon=horizon, dark=True)
    histories = learning_histories(envs, episodes, horizon)
    assert histories.actions_KT.shape == (16, horizon * episodes)
    earned = histories.rewards_KT.unflatten(1, (episodes, horizon)).sum(-1).mean(0)
    assert earned[:5].mean() < 1.5
    assert earned[-5:].mean() > 3  # two steps to a corner, then four or five of pay
    start = thumbnails(torch.from_numpy(envs.reset()[0]))
    assert torch.equal(histories.seen_KTD[:, ::horizon], start[:, None].expand(-1, episodes, -1))


def test_the_transformer_does_not_see_what_comes_later() -> None:
    torch.manual_seed(0)
    model = HistoryTransformer(3, 5, SMALL).eval()
    seen, done, earned = torch.rand(1, 12, 3), torch.randint(5, (1, 12)), torch.rand(1, 12)
    with torch.no_grad():
        before = model(seen, done, earned)
        seen[:, 7], done[:, 7], earned[:, 7] = 9.0, 5, 9.0
        after = model(seen, done, earned)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7], after[:, 7])


def test_what_earned_a_reward_is_done_again() -> None:
    """Two tasks that look alike: in each, one action pays, and a learner repeats it. What to do depends on the past."""
    generator = torch.Generator().manual_seed(0)
    pays = torch.arange(40) % 2
    actions = torch.randint(2, (40, 24), generator=generator)
    actions[:, 4:] = pays[:, None]  # a learner who found out after four tries
    rewards = (actions == pays[:, None]).float()
    histories = Histories(torch.zeros(40, 24, 1), actions, rewards)
    config = DistillConfig(context=24, layers=2, width=32, heads=2, steps=300, batch=16, learning_rate=3e-3)
    model = distill(histories, 2, config)
    done = torch.tensor([[2, 0, 1, 0], [2, 0, 1, 0]])  # action 2: nothing was done before
    earned = torch.tensor([[0.0, 1, 0, 1], [0.0, 0, 1, 0]])
    with torch.no_grad():
        nexts = torch.cat([done, done[:, -1:]], 1), torch.cat([earned, earned[:, -1:]], 1)
        likely = model(torch.zeros(2, 5, 1), *nexts)[:, -1].softmax(-1)
    assert likely[0, 0] > 0.7
    assert likely[1, 1] > 0.7


def test_the_same_seed_gives_the_same_and_the_context_is_kept() -> None:
    envs = Rooms(tasks([(0, 0), (2, 2)]), horizon=4, dark=True)
    histories = learning_histories(envs, 6, 4)
    first, second = (distill(histories, 5, SMALL, seed=3) for _ in range(2))
    returns = [play_in_context(model, envs, 5, 4, SMALL.context, seed=1) for model in (first, second)]
    assert returns[0].shape == (2, 5)
    assert (returns[0] == returns[1]).all()
    with pytest.raises(ValueError, match="shorter than the context"):
        distill(learning_histories(envs, 2, 4), 5, SMALL)


def test_thumbnails_are_means_of_cells() -> None:
    frames = torch.zeros(1, 8, 4, 3, dtype=torch.uint8)
    frames[0, :4, :2, 0] = 255
    torch.testing.assert_close(thumbnails(frames), torch.tensor([[0.5, 0, 0, 0, 0, 0]]))
