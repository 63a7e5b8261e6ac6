"""Learning from recorded steps: what is copied, and that a critic tells good play from bad."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jinn.agents.network import NetworkConfig
from jinn.agents.offline import OfflineConfig, Recording, learn_offline, record, shifted, weights
from jinn.agents.rooms import Levels, Rooms
from jinn.contracts import JinnError

SIZES = NetworkConfig(5, (12, 12), channels=(8,), width=32, fold=4)
RIGHT, DOWN = 2, 4


def two_ways() -> Levels:
    """Rooms of 3 x 3 cells without walls; the goal is to the right in half of them, and below in the others."""
    goals = np.array([[1, 2], [2, 1]]).repeat(16, 0)
    return Levels(np.zeros((32, 3, 3), bool), np.full((32, 2), 1), goals)


def test_the_critic_picks_the_rare_good_action() -> None:
    generator = torch.Generator().manual_seed(0)
    played = record(
        Rooms(two_ways(), horizon=3), lambda x: torch.randint(5, (len(x),), generator=generator), 60
    )
    frames = torch.from_numpy(Rooms(two_ways()).reset()[0])
    chosen = {}
    for copy, steps in (("all", 200), ("better", 600)):
        config = OfflineConfig(steps, batch=64, learning_rate=3e-3, copy=copy, lag=0.9)  # type: ignore[arg-type]
        policy = learn_offline(played, 5, config, sizes=SIZES)
        with torch.no_grad():
            likely = policy(frames)[0].softmax(-1)
        chosen[copy] = float(torch.cat([likely[:16, RIGHT], likely[16:, DOWN]]).mean())
    assert chosen["all"] < 0.35  # a clone of random play is random
    assert chosen["better"] > 0.9


def test_a_recording_keeps_what_led_to_what() -> None:
    played = record(Rooms(two_ways(), horizon=3), lambda x: torch.full((len(x),), RIGHT), 8)
    frames, actions = played.frames_XHWC.unflatten(0, (32, 8)), played.actions_X.unflatten(0, (32, 8))
    # To the right lies the goal of the first: each second step starts an episode, and is not one of its actions.
    assert actions[0].tolist() == [RIGHT, -1] * 4
    assert played.over_X.unflatten(0, (32, 8))[0].tolist() == [True, False] * 4
    assert played.rewards_X.unflatten(0, (32, 8))[0].tolist() == [1.0, 0.0] * 4
    # The last one is cut off after three steps, which is no end.
    assert actions[-1].tolist() == [RIGHT, RIGHT, RIGHT, -1, RIGHT, RIGHT, RIGHT, -1]
    assert not played.over_X.unflatten(0, (32, 8))[-1].any()
    assert (frames[0, 0] == frames[0, 2]).all()
    assert (frames[0, 0] != frames[0, 1]).any()


def test_pictures_are_moved_and_their_edges_go_on() -> None:
    frames_BHWC = torch.arange(2 * 4 * 4).reshape(2, 4, 4, 1)
    one, other = shifted(frames_BHWC, torch.tensor([[1, 0], [0, -2]]))
    assert one[..., 0].tolist() == frames_BHWC[0][[0, 0, 1, 2], :, 0].tolist()
    assert other[..., 0].tolist() == frames_BHWC[1][:, [2, 3, 3, 3], 0].tolist()


def test_shifts_change_what_is_learned_and_none_do_not() -> None:
    played = record(Rooms(two_ways(), horizon=3), lambda x: torch.full((len(x),), RIGHT), 8)
    configs = [OfflineConfig(3, 8, shifts=shifts) for shifts in ((0,), (0, 0), (-4, 4))]
    first, same, other = (learn_offline(played, 5, config, sizes=SIZES).state_dict() for config in configs)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_weights_of_actions() -> None:
    advantages = torch.tensor([-0.1, 0.0, 0.1, 5.0])
    assert weights(advantages, OfflineConfig(copy="better")).tolist() == [0, 0, 1, 1]
    found = weights(advantages, OfflineConfig(copy="weighted", temperature=0.1))
    torch.testing.assert_close(found, torch.tensor([np.exp(-1), 1, np.exp(1), 20], dtype=torch.float32))


def test_the_same_seed_learns_the_same() -> None:
    played = record(Rooms(two_ways(), horizon=3), lambda x: torch.full((len(x),), DOWN), 8)
    config = OfflineConfig(steps=3, batch=8)
    first, second, other = (learn_offline(played, 5, config, seed, sizes=SIZES) for seed in (0, 0, 1))
    assert torch.equal(first.policy.weight, second.policy.weight)
    assert not torch.equal(first.policy.weight, other.policy.weight)


def test_mistakes() -> None:
    frames, some = torch.zeros(4, 8, 8, 3, dtype=torch.uint8), torch.zeros(4)
    with pytest.raises(JinnError, match="no step with an action"):
        Recording(frames, torch.full((4,), -1), some, some.bool())
    with pytest.raises(JinnError, match="one integer action"):
        Recording(frames, torch.zeros(3, dtype=torch.long), some, some.bool())
    with pytest.raises(JinnError, match="where there are 5"):
        learn_offline(Recording(frames, torch.full((4,), 5), some, some.bool()), 5)
    with pytest.raises(ValueError, match="temperature above 0"):
        OfflineConfig(temperature=0)
