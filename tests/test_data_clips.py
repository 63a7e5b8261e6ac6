"""Clips: their positions are pure arithmetic, and their frames are those of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jinn.contracts import JinnError
from jinn.data.clips import ClipSampler, evenly_spaced_clips, read_actions, read_clips
from jinn.data.store import FrameStore
from jinn.data.synthetic import game_rollout
from jinn.data.writer import StoreWriter

LENGTHS = [3, 9, 5, 4, 12, 7, 5, 30]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    """Eight levels of the game, in shards so small that most clips are in two of them."""
    path = tmp_path_factory.mktemp("clips") / "s"
    with StoreWriter(path, (8, 8), 10, num_actions=5, shard_bytes=7 * 8 * 8 * 3) as writer:
        for level, length in enumerate(LENGTHS):
            frames, actions = game_rollout(level, length, (8, 8))
            writer.append(frames)
            writer.end_episode("synthetic:game", actions, level_seed=level)
    return FrameStore.open(path)


def test_clips_hold_the_frames_of_their_positions(store: FrameStore) -> None:
    sampler = ClipSampler(store, frames=5, seed=1, split="all")
    episodes, starts = sampler.locate(range(3 * 64, 4 * 64))
    frames_BTHWC = sampler.batch(3, 64)
    assert frames_BTHWC.shape == (64, 5, 8, 8, 3)
    assert frames_BTHWC.dtype == torch.uint8
    for clip, episode, start in zip(frames_BTHWC, episodes, starts, strict=True):
        want = game_rollout(int(episode), LENGTHS[episode], (8, 8))[0][start : start + 5]
        assert np.array_equal(clip.numpy(), want)
    frames_BTHWC[:] = 0  # the caller owns the batch
    assert sampler.batch(3, 64).any()


def test_actions_lead_from_frame_to_frame(store: FrameStore) -> None:
    sampler = ClipSampler(store, frames=5, seed=1, split="all")
    actions_BTm1 = read_actions(store, *sampler.locate(range(3 * 64, 4 * 64)), 5)
    assert actions_BTm1 is not None
    assert actions_BTm1.shape == (64, 4)
    assert actions_BTm1.dtype == torch.int64
    assert actions_BTm1.min() >= 0
    assert actions_BTm1.max() <= 4
    frames_BTHWC = sampler.batch(3, 64)
    moved = (frames_BTHWC[:, 1:] != frames_BTHWC[:, :-1]).flatten(2).any(-1)
    assert not moved[actions_BTm1 == 0].any()
    # Boards of 2 x 2 cells: half of the steps run into a wall.
    assert 0.4 < moved[actions_BTm1 != 0].float().mean() < 0.6


def test_every_clip_is_equally_likely(store: FrameStore) -> None:
    sampler = ClipSampler(store, frames=5, seed=2, split="all")
    want = {(e, s) for e, length in enumerate(LENGTHS) for s in range(length - 5 + 1)}
    assert sampler.num_clips == len(want)
    drawn = 400 * len(want)
    places, counts = np.unique(np.stack(sampler.locate(range(drawn)), 1), axis=0, return_counts=True)
    assert {tuple(place) for place in places.tolist()} == want
    chi2 = float(((counts - 400) ** 2 / 400).sum())
    # Chi-squared has mean n - 1 and standard deviation sqrt(2 (n - 1)).
    assert abs(chi2 - len(want)) < 5 * (2 * len(want)) ** 0.5


def test_half_of_the_clips_have_a_first_frame_from_any_time_before(store: FrameStore) -> None:
    sampler = ClipSampler(store, frames=5, seed=1, split="all")
    numbers = range(20_000)
    _, starts = sampler.locate(numbers)
    firsts = sampler.firsts(numbers, starts)
    assert ((firsts >= 0) & (firsts <= starts)).all()
    for start in (3, 9):
        count = np.bincount(firsts[starts == start], minlength=start + 1) / (starts == start).sum()
        # Any frame equally often, the clip's own beside the half that begins with it.
        np.testing.assert_allclose(count[:-1], 0.5 / (start + 1), atol=0.03)
        assert abs(count[-1] - 0.5 - 0.5 / (start + 1)) < 0.03
    assert np.array_equal(firsts[5:9], sampler.firsts(range(5, 9), starts[5:9]))


def test_clip_positions_are_a_function_of_seed_and_number(store: FrameStore) -> None:
    def places(seed: int, step: int) -> list[list[int]]:
        return np.stack(ClipSampler(store, 5, seed, "all").locate(range(20 * step, 20 * (step + 1)))).tolist()

    assert places(0, 4) == places(0, 4)
    assert places(0, 4) != places(0, 5)
    assert places(0, 4) != places(1, 4)
    assert places(-1, 4) != places(1, 4)
    assert places(0, 2**50) != places(0, 2**50 + 1)
    used = ClipSampler(store, 5, 0, "all")
    used.batch(9, 3)
    assert np.stack(used.locate(range(80, 100))).tolist() == places(0, 4)
    # Fixed values: a run that is resumed with a later version must get the same clips.
    assert [place[:8] for place in places(0, 4)] == [[7, 1, 7, 1, 5, 2, 7, 7], [12, 2, 9, 1, 2, 0, 8, 9]]


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_ranks_divide_the_clips_of_a_single_process(store: FrameStore, world_size: int) -> None:
    sampler = ClipSampler(store, 5, seed=3, split="all")
    alone = sampler.locate(range(11 * 24, 12 * 24))
    share = 24 // world_size
    shared = [sampler.locate(range(n, n + share)) for n in range(11 * 24, 12 * 24, share)]
    for i in range(2):
        assert np.array_equal(np.concatenate([places[i] for places in shared]), alone[i])


def test_successive_clips_are_independent(store: FrameStore) -> None:
    _, starts = ClipSampler(store, 2, seed=0, split="all").locate(range(20_000))
    assert abs(np.corrcoef(starts[1:], starts[:-1])[0, 1]) < 0.03


def test_splits_do_not_overlap(store: FrameStore) -> None:
    held = set(store.select("heldout").tolist())
    assert held  # one group is always held out
    train = set(ClipSampler(store, 3, 0, "train").locate(range(999))[0].tolist())
    assert not train & held
    assert set(evenly_spaced_clips(store, 3, "heldout")[0].tolist()) == held
    assert set(evenly_spaced_clips(store, 3, np.array([1, 4]))[0].tolist()) == {1, 4}


def places(*args: Any, **options: Any) -> list[tuple[int, int]]:
    return list(zip(*(column.tolist() for column in evenly_spaced_clips(*args, **options)), strict=True))


def test_evaluation_clips_do_not_overlap_and_are_spread(store: FrameStore) -> None:
    every = places(store, 4, "all")
    want = [(e, s) for e, length in enumerate(LENGTHS) for s in range(0, length - 3, 4)]
    assert every == want
    assert places(store, 4, "all", limit=10**6) == want
    five = places(store, 4, "all", limit=5)
    at = [want.index(place) for place in five]
    gaps = np.diff(at)
    assert len(five) == 5
    assert gaps.min() >= len(want) // 5
    assert gaps.max() <= len(want) // 5 + 1
    clips = read_clips(store, np.array([7, 7]), np.array([0, 4]), 4)
    assert np.array_equal(clips.flatten(0, 1).numpy(), store.frames(7, 0, 8))
    actions = read_actions(store, np.array([7]), np.array([4]), 4)
    assert actions.tolist() == [game_rollout(7, 30, (8, 8))[1][4:7].tolist()]


def test_clips_longer_than_every_episode_are_reported(store: FrameStore, tmp_path: Path) -> None:
    with pytest.raises(JinnError, match=r"has 31 frames but the longest episode .* has 30"):
        ClipSampler(store, 31, 0, "all")
    ClipSampler(store, 30, 0, "all")
    with pytest.raises(JinnError, match="has 31 frames"):
        evenly_spaced_clips(store, 31, "all")
    with StoreWriter(tmp_path / "s", (8, 8), 10) as writer:
        writer.append(game_rollout(0, 9, (8, 8))[0])
        writer.end_episode("one")
    one = FrameStore.open(tmp_path / "s")
    assert read_actions(one, np.array([0]), np.array([0]), 4).tolist() == [[-1, -1, -1]]
    with pytest.raises(JinnError, match="no episodes in its heldout split"):
        evenly_spaced_clips(one, 4)


def test_reading_past_an_episode_fails(store: FrameStore) -> None:
    with pytest.raises(IndexError):
        read_clips(store, np.array([0]), np.array([1]), 3)


def test_the_only_film_is_trained_on_although_its_hash_is_held_out(tmp_path: Path) -> None:
    def add(*groups: int) -> list[bool]:
        with StoreWriter(tmp_path / "s", (8, 8), 10) as writer:
            for group in groups:
                writer.append(np.zeros((4, 8, 8, 3), np.uint8))
                writer.end_episode(f"{group}", group=group)
        heldout: list[bool] = FrameStore.open(tmp_path / "s").heldout.tolist()
        return heldout

    always, never = 0, 2**64 - 1
    assert add(always) == [False]
    assert add(always + 1, never) == [False, True, False]  # the choice remains when more is added
