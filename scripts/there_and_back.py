"""What a game itself does when its player walks there and back: the ceiling of a world's "there and back".

python scripts/there_and_back.py envpool:CoinrunHard-v0 --env use_backgrounds=false restrict_themes=true

From states in which random play leaves test levels, the script holds left for k steps and right for as many, or right
first, and compares the picture with the one before (PSNR in dB, both orders, 95% interval). A wall, a fall and whatever
moves by itself keep a game from leading back, so a world that obeys its physics does not lead back further.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import tyro

from jinn.data.games import PROCGEN_NAMES, Games, open_games
from jinn.evaluation.catalogue import RETURNS
from jinn.evaluation.estimate import bootstrap
from jinn.evaluation.metrics import psnr
from jinn.files import write_json

LEFT, RIGHT = PROCGEN_NAMES.index("left"), PROCGEN_NAMES.index("right")
BATCH = 32  # walks that begin together, after as much random play
HOLD = 6  # mean number of steps for which random play holds a movement


def main(
    game: str,
    /,
    env: tuple[str, ...] = (),
    levels: tuple[int, int] = (20_000, 1_000),
    walks: int = 256,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Walk there and back in many levels, and print the mean PSNR with its interval.

    Args:
        game: A Procgen game, such as envpool:CoinrunHard-v0.
        env: Options of the game, as KEY=VALUE.
        levels: First level seed and number of levels.
        walks: Number of walks for each distance, rounded up to 32s; those in which an episode ends are left out.
        seed: Seed of the levels, of random play and of the interval.
        out: JSON file for the figures.
    """
    env_id = f"{game}?{'&'.join(env)}" if env else game
    figures = {}
    for k in RETURNS:
        parts = []
        for batch in range(-(-walks // BATCH)):
            order = ((LEFT, RIGHT), (RIGHT, LEFT))[batch % 2]
            parts.append(walk(open_games(env_id, seed + batch, levels, BATCH), order, k, seed + batch))
        decibels_X = np.concatenate(parts)
        found = bootstrap(torch.from_numpy(decibels_X), seed)
        figures[str(k)] = [found.value, found.low, found.high]
        print(
            f"{k:2} steps: {found.value:.1f} dB [{found.low:.1f}, {found.high:.1f}], {len(decibels_X)} walks"
        )
    if out:
        write_json(out, {"game": env_id, "seed": seed, "there_and_back": figures})


def walk(games: Games, order: tuple[int, int], k: int, seed: int) -> np.ndarray:
    """The PSNR in dB after k steps of one action and k of the other, of each environment whose episode goes on."""
    rng = np.random.default_rng(seed)
    games.reset()
    actions_B = games.sample_actions(rng, True)
    for _ in range(rng.integers(20, 60)):
        change_B = rng.random(games.num_envs) < 1 / HOLD
        actions_B = np.where(change_B, games.sample_actions(rng, True), actions_B)
        frames_BHWC, _, _ = games.step(actions_B)
    start_BHWC, going_B = frames_BHWC.copy(), np.ones(games.num_envs, bool)
    for action in order:
        for _ in range(k):
            frames_BHWC, _, ended_B = games.step(np.full(games.num_envs, action))
            going_B &= ~ended_B
    games.close()
    return psnr(torch.from_numpy(frames_BHWC.copy()), torch.from_numpy(start_BHWC)).numpy()[going_B]


if __name__ == "__main__":
    tyro.cli(main)
