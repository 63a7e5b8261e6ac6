"""Clips of a run: any number of ranks divides them, and each clip has its own generator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jinn.contracts import JinnError
from jinn.data.clips import ClipSampler, clip_generators, gather_clips, load_frames, read_clips
from jinn.data.store import FrameStore
from jinn.data.stream import StoreSource
from jinn.data.synthetic import game_rollout, write_game
from jinn.recipes import tiny
from jinn.training.parallel import (
    ParallelConfig,
    Ranks,
)
from jinn.training.run import clips_of, run_recipe


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    return write_game(tmp_path_factory.mktemp("game") / "store", episodes=40, length=21, seed=0)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_ranks_divide_the_clips_of_one_and_their_number_may_change(game: FrameStore, size: int) -> None:
    phase = tiny().dynamics_training
    clips = clips_of(StoreSource(game), phase, seed=3)
    for step in (0, 1, 7):
        whole = clips(step, range(phase.batch))
        parts = [clips(step, Ranks(rank=rank, size=size).rows(phase.batch)) for rank in range(size)]
        for kind in range(3):  # frames, actions and first frames
            assert torch.equal(torch.cat([part[kind] for part in parts]), whole[kind])
    sampler = ClipSampler(game, phase.frames, 3)
    batch = clips(2, range(phase.batch))
    assert torch.equal(batch.frames_BTHWC, sampler.batch(2, phase.batch))
    places = zip(*sampler.locate(range(2 * phase.batch, 3 * phase.batch)), strict=True)
    for row_Tm1, (episode, t) in zip(batch.actions_BTm1, places, strict=True):
        _, actions_T = game_rollout(int(episode), 21)  # the episode's number is its level
        assert row_Tm1.tolist() == actions_T[t : t + phase.frames - 1].tolist()


def test_ranks_of_one_tensor_group_have_the_same_clips() -> None:
    layout = ParallelConfig(tensor_parallel=2, accumulate=2)
    rows = [Ranks(layout, rank=rank, size=4).rows(8) for rank in range(4)]
    assert rows == [range(4), range(4), range(4, 8), range(4, 8)]


def test_each_clip_has_its_own_generator() -> None:
    def draw(numbers: range) -> torch.Tensor:
        return torch.stack([torch.rand(4, generator=g) for g in clip_generators(5, numbers)])

    drawn = draw(range(64))
    assert torch.equal(draw(range(16, 32)), drawn[16:32])
    assert drawn.unique().numel() == 256
    assert not torch.equal(
        torch.stack([torch.rand(4, generator=g) for g in clip_generators(6, range(64))]), drawn
    )


def test_frames_on_the_device_equal_those_of_the_store(game: FrameStore) -> None:
    episodes, starts = ClipSampler(game, 5, seed=0).locate(range(12))
    frames_FHWC = load_frames(game, torch.device("cpu"), chunk=4)
    clips = gather_clips(frames_FHWC, game, episodes, starts, 5)
    assert torch.equal(clips, read_clips(game, episodes, starts, 5))


def test_clips_that_are_too_short_for_a_later_phase_are_refused_before_the_first(
    game: FrameStore, tmp_path: Path
) -> None:
    recipe = tiny()
    recipe = replace(recipe, dynamics_training=replace(recipe.dynamics_training, frames=22))
    with pytest.raises(JinnError, match=r"a clip has 22 frames but the longest episode .* has 21"):
        run_recipe(recipe, game, tmp_path / "run", "short", on_step=lambda *_: pytest.fail("it trains"))
    assert not (tmp_path / "run").exists()
