"""Whether frames look like the videos, and whether actions are obeyed where they are possible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers_evaluation import TrueGame
from jinn.data.synthetic import write_game
from jinn.evaluation import physics
from jinn.evaluation.appearance import LAG, Typical, appearance, fit_typical, real_pairs
from jinn.evaluation.clips import Clips
from jinn.evaluation.stability import HOLD, frames_inside, long_actions, looks, segments
from jinn.world.legend import ActionMeaning

WIDTH = 256  # of a level, pixels


def level(seed: int) -> Tensor:
    """A picture of a platformer's level: a sky with stars, and ground of one tile in steps, uint8 ``HWC``."""
    rng = torch.Generator().manual_seed(seed)
    colours = torch.randint(20, 236, (3, 3), generator=rng)
    tile = colours[:1] + torch.randint(-18, 19, (8, 8, 1), generator=rng)
    picture = colours[1].expand(64, WIDTH, 3).clone()
    for _ in range(40):
        y, x = torch.randint(60, (), generator=rng), torch.randint(WIDTH - 4, (), generator=rng)
        picture[y : y + 3, x : x + 3] = colours[2]
    for column in range(0, WIDTH, 8):
        if column % 32 == 0:
            height = 8 * int(torch.randint(2, 6, (), generator=rng))
        picture[64 - height :, column : column + 8] = tile.repeat(height // 8, 1, 1)
    return picture.clamp(0, 255).to(torch.uint8)


def windows(seeds: range) -> tuple[Tensor, Tensor]:
    """Two windows of each level, as frames of one video."""
    levels = [level(seed) for seed in seeds]
    offsets = torch.randint(
        WIDTH - 64, (len(levels), 2), generator=torch.Generator().manual_seed(seeds.start)
    )
    pairs = [
        [picture[:, x : x + 64] for x in row] for picture, row in zip(levels, offsets.tolist(), strict=True)
    ]
    earlier, later = (torch.stack(frames) for frames in zip(*pairs, strict=True))
    return earlier, later


def looked_at(prompts_BHWC: Tensor, frames_BHWC: Tensor) -> Tensor:
    return appearance(prompts_BHWC, frames_BHWC[:, None]).squeeze(1)


@pytest.fixture(scope="module")
def typical() -> Typical:
    return fit_typical(looked_at(*windows(range(200))), looked_at(*windows(range(200, 400))))


def blurred(frames_BHWC: Tensor) -> Tensor:
    coarse = F.avg_pool2d(frames_BHWC.movedim(-1, 1).float(), 4)
    return F.interpolate(coarse, scale_factor=4, mode="bilinear").movedim(1, -1).to(torch.uint8)


PLANTED: dict[str, Callable[[Tensor], Tensor]] = {
    "plain ground": lambda frames: frames[:, -8:, :8].repeat(1, 8, 8, 1),
    "plain sky": lambda frames: frames[:, :1, :1].expand_as(frames),
    "blur": blurred,
    "another level": lambda frames: frames.roll(1, 0),
    "noise": lambda frames: (frames + 40 * torch.randn(frames.shape)).clamp(0, 255).to(torch.uint8),
}


@pytest.mark.parametrize("failure", PLANTED)
def test_planted_failures_are_outside_and_real_frames_inside(failure: str, typical: Typical) -> None:
    torch.manual_seed(0)
    prompts, real = windows(range(400, 500))
    assert typical.inside(looked_at(prompts, real)).float().mean() > 0.85
    assert typical.inside(looked_at(prompts, PLANTED[failure](real))).float().mean() < 0.1


def test_what_nobody_sees_on_a_static_background_stays_inside() -> None:
    """Real frames repeat the background to the last bit, and a tokenizer does not."""
    torch.manual_seed(0)

    def pairs(seeds: range) -> tuple[Tensor, Tensor]:
        frames = torch.stack([level(seed)[:, :64] for seed in seeds]).unsqueeze(1).repeat(1, 2, 1, 1, 1)
        for video in frames:
            for frame in video:
                x, y = torch.randint(56, (2,)).tolist()
                frame[y : y + 8, x : x + 8] = torch.tensor([240, 220, 30], dtype=torch.uint8)
        return frames[:, 0], frames[:, 1]

    typical = fit_typical(looked_at(*pairs(range(200))), looked_at(*pairs(range(200, 400))))
    prompts, real = pairs(range(400, 500))
    for noise, least, most in ((0, 0.85, 1.0), (0.7, 0.8, 1.0), (20, 0.0, 0.1)):
        frames = (real + noise * torch.randn(real.shape)).round().clamp(0, 255).to(torch.uint8)
        assert least <= typical.inside(looked_at(prompts, frames)).float().mean() <= most


def test_a_frame_is_looked_at_alone(typical: Typical) -> None:
    prompts, frames = windows(range(8))
    together = appearance(prompts, torch.stack([frames, frames.flip(1)], dim=1))
    torch.testing.assert_close(together[:, 0], looked_at(prompts, frames), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        together[2:3, 1], looked_at(prompts[2:3], frames[2:3].flip(1)), rtol=0, atol=1e-4
    )


def test_real_pairs_are_frames_of_one_video_far_apart(tmp_path: Path) -> None:
    store = write_game(tmp_path / "s", episodes=3, length=70, seed=1)
    [episode] = store.select("all")[1:2]
    frames = torch.from_numpy(store.frames(int(episode), 0, 70))
    earlier, later = real_pairs(store, store.select("all")[1:2], 50, seed=0)
    for a, b in zip(earlier, later, strict=True):
        first = (frames == a).flatten(1).all(1).nonzero().min()
        assert (frames == b).flatten(1).all(1).nonzero().max() >= first + LAG
    again = real_pairs(store, store.select("all")[1:2], 50, seed=0)
    assert torch.equal(again[0], earlier)
    assert torch.equal(again[1], later)


def test_a_roll_out_has_left_when_three_looks_find_it_outside() -> None:
    times = torch.tensor([19, 39, 59, 79, 99])
    inside = torch.tensor(
        [[1, 0, 0, 0, 1], [1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]], dtype=torch.bool
    )
    assert frames_inside(inside, times, 100).tolist() == [39, 100, 19, 59]


def test_random_actions_are_held_as_people_hold_them() -> None:
    random_BT, constant_BT = long_actions(8, 20, 300, seed=0).chunk(2)
    lengths = torch.unique_consecutive(random_BT[0], return_counts=True)[1]
    assert lengths[:-1].min() >= HOLD[0]
    assert {int(row.unique()) for row in constant_BT} == set(range(8))
    assert not torch.equal(random_BT[0], random_BT[1])
    assert segments(300) == {"60": range(40, 60), "300": range(200, 300)}
    assert set(range(204, 300, 5)) | {119} <= set(looks(300))
    assert 121 not in looks(300)


def test_opposite_actions_undo_each_other() -> None:
    def meaning(down: float, right: float) -> ActionMeaning:
        return ActionMeaning("", down, right, 0.2)

    legend = [meaning(0, 2), meaning(0, 0), meaning(0.3, -2), meaning(-3, 0), meaning(0, -0.6)]
    assert physics.opposites(legend) == [(0, 2)]


def test_a_game_obeys_possible_actions_and_leads_back(tmp_path: Path) -> None:
    store = write_game(tmp_path / "s", episodes=24, length=60, seed=3)
    game = TrueGame(store)
    episodes = store.select("all")
    learned, measured = (
        Clips(store, part, torch.full((len(part),), 8).numpy(), 13)
        for part in (episodes[::2], episodes[1::2])
    )
    foresight = physics.foresee(game, learned, seed=0)  # type: ignore[arg-type]
    rows = slice(0, len(measured))
    branches = physics.branch_records(game, measured, rows, 0, lambda: foresight)  # type: ignore[arg-type]
    returns = physics.return_records(game, measured, rows, 0, [(1, 2), (3, 4)])  # type: ignore[arg-type]
    found = dict(physics.estimates(branches | returns, seed=0))
    assert torch.allclose(branches["probability"].sum(1), torch.ones(len(measured)))
    assert found["physics/obedience"].value > 0.85
    assert found["physics/obedience/chance"].value == pytest.approx(0.2)
    # Two steps and back lead home unless a wall was in the way; sixteen end at a wall on this board.
    assert found["physics/return/2"].value > found["physics/return/16"].value


def test_foresight_learns_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stripe in the picture says which action comes next."""
    monkeypatch.setattr(physics, "STEPS", 40)
    rng = torch.Generator().manual_seed(0)
    actions = torch.randint(4, (600, 3), generator=rng)
    frames = torch.randint(0, 60, (600, 4, 32, 32, 3), generator=rng, dtype=torch.uint8)
    for t in range(3):
        for clip, action in enumerate(actions[:, t].tolist()):
            frames[clip, t, 8 * action : 8 * action + 8] += 150
    foresight = physics.learn_foresight(frames[:500], actions[:500], 4, seed=0)
    probability = foresight(frames[500:, 1:3], actions[500:, 1:2]).softmax(-1)
    assert (probability.argmax(1) == actions[500:, 2]).float().mean() > 0.9
    monkeypatch.setattr(physics, "STEPS", 2)
    one, two = (physics.learn_foresight(frames[:100], actions[:100], 4, seed=0) for _ in range(2))
    assert torch.equal(one(frames[500:, 1:3], actions[500:, 1:2]), two(frames[500:, 1:3], actions[500:, 1:2]))
