"""Doubles for tests of the evaluation: a game behind a world's interface, and no pretrained networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from jinn.data.store import FrameStore
from jinn.data.synthetic import ACTIONS, CELL, write_game
from jinn.evaluation import appearance, physics, suite
from jinn.evaluation.networks import Networks
from jinn.evaluation.protocol import Protocol
from jinn.evaluation.results import WorldResults
from jinn.world.world import World


def no_networks(*_: object) -> Networks:
    """`load_networks` without installed weights."""
    return Networks(None, None, ("not there",))


def measure_little(patch: pytest.MonkeyPatch) -> None:
    """Fewer real pairs, and fewer steps of the network that foresees actions: most tests need no more."""
    patch.setattr(appearance, "PAIRS", 100)  # one batch
    patch.setattr(physics, "STEPS", 60)


def measured_on_new_levels(
    world: World, folder: Path, patch: pytest.MonkeyPatch, episodes: int, protocol: Protocol
) -> WorldResults:
    """Results of a world of the synthetic game on levels that no training saw, without pretrained networks."""
    patch.setenv("JINN_CACHE", str(folder / "cache"))
    patch.setattr(suite, "load_networks", lambda *_: Networks(None, None, ()))
    measure_little(patch)
    levels = write_game(folder / "levels", episodes, length=63, seed=1000)
    return suite.evaluate([world], levels, protocol).worlds[0]


class GameState(NamedTuple):
    tokens_BN: Tensor
    boards_BHWC: Tensor
    cells_B2: Tensor


class TrueGame:
    """The synthetic game itself behind a world's interface: tokens are pixels, latent actions the true ones.

    Args:
        store: videos of the game, from which its levels are read.
        deaf: whether it ignores actions and walks at random.
    """

    has_known_actions = False
    name, num_actions, device, folder, trained_on = (
        "true",
        len(ACTIONS),
        torch.device("cpu"),
        None,
        np.zeros(0, np.uint64),
    )

    def __init__(self, store: FrameStore, deaf: bool = False) -> None:
        self.size_hw, self.deaf, self.rng = store.size_hw, deaf, torch.Generator().manual_seed(0)
        levels = [torch.from_numpy(store.frames(e, 0, 60)) for e in range(store.num_episodes)]
        self.boards_LHWC = torch.stack([frames.median(0).values for frames in levels])
        colours = np.unique(torch.cat(levels).numpy().reshape(-1, 3).astype(np.int64) @ (1 << 16, 1 << 8, 1))
        palette_KC = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.uint8)
        self.tokenizer = Pixels(torch.from_numpy(palette_KC), store.size_hw)
        self.latent_actions = Moves(self.parse)
        _, (down, right) = (found[0] for found in self.parse(levels[0][:1]))
        self.sprite = levels[0][0, down * CELL :, right * CELL :][:CELL, :CELL]
        assert torch.equal(self.render(*self.parse(levels[1])), levels[1])

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def parse(self, frames_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """The number of the board and the cell of the sprite, whose 16 pixels are the only difference."""
        differs_BLHW = (frames_BHWC.unsqueeze(1) != self.boards_LHWC).any(-1)
        level_B = differs_BLHW.sum((2, 3)).argmin(1)
        own_BHW = differs_BLHW[torch.arange(len(frames_BHWC)), level_B]
        cells_B = torch.nn.functional.avg_pool2d(own_BHW.float(), CELL).flatten(1).argmax(1)
        columns = self.size_hw[1] // CELL
        return self.boards_LHWC[level_B], torch.stack([cells_B // columns, cells_B % columns], -1)

    def render(self, boards_BHWC: Tensor, cells_B2: Tensor) -> Tensor:
        frames = boards_BHWC.clone()
        for frame, (down, right) in zip(frames, (cells_B2 * CELL).tolist(), strict=True):
            frame[down : down + CELL, right : right + CELL] = self.sprite
        return frames

    def show(self, boards_BHWC: Tensor, cells_B2: Tensor) -> tuple[GameState, Tensor]:
        frames = self.render(boards_BHWC, cells_B2)
        return GameState(self.tokenizer.encode(frames[:, None])[:, 0], boards_BHWC, cells_B2), frames

    def infer_actions(self, frames_BTHWC: Tensor) -> Tensor:
        return self.latent_actions.encode(frames_BTHWC)

    def reset(self, frames_BTHWC: Tensor, seeds: list[int]) -> tuple[GameState, Tensor]:
        return self.show(*self.parse(frames_BTHWC[:, -1]))

    def step(self, state: GameState, actions_B: Tensor) -> tuple[GameState, Tensor]:
        if self.deaf:
            actions_B = torch.randint(5, actions_B.shape, generator=self.rng)
        edge = torch.tensor(self.size_hw) // CELL - 1
        return self.show(state.boards_BHWC, (state.cells_B2 + STEPS_A2[actions_B]).clamp_min(0).minimum(edge))

    def observe(self, state: GameState, actions_B: Tensor, tokens_BN: Tensor) -> GameState:
        return self.show(*self.parse(self.tokenizer.decode(tokens_BN[:, None])[:, 0]))[0]


STEPS_A2 = torch.tensor([(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)])


class Pixels:
    """A lossless tokenizer: a token is a pixel's index in the palette."""

    def __init__(self, palette_KC: Tensor, grid_hw: tuple[int, int]) -> None:
        self.palette_KC, self.grid_hw, self.codebook_size = palette_KC, grid_hw, len(palette_KC)

    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        return (frames_BTHWC.unsqueeze(-2) == self.palette_KC).all(-1).long().argmax(-1).flatten(2)

    def decode(self, tokens_BTN: Tensor) -> Tensor:
        return self.palette_KC[tokens_BTN].unflatten(2, self.grid_hw)


class Moves:
    """Latent actions that equal the true ones: the movement of the sprite."""

    def __init__(self, parse: Any) -> None:
        self.parse = parse

    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        cells_BT2 = self.parse(frames_BTHWC.flatten(0, 1))[1].unflatten(0, (len(frames_BTHWC), -1))
        moves = cells_BT2[:, 1:] - cells_BT2[:, :-1]
        return (moves.unsqueeze(2) == STEPS_A2).all(-1).long().argmax(-1)


def rolled(moves: list[tuple[int, int]], side: int = 32) -> Tensor:
    """A picture without repetition that is shifted step by step, uint8 ``1THWC``."""
    rng = torch.Generator().manual_seed(0)
    frames = [torch.randint(0, 256, (1, side, side, 3), dtype=torch.uint8, generator=rng)]
    for down, right in moves:
        frames.append(torch.roll(frames[-1], (down, right), dims=(1, 2)))
    return torch.stack(frames, 1)
