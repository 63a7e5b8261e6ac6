"""A set of platform games like the paper's Platformers: 160 x 90 pixels, ten frames a second, and games held out.

python scripts/platformers.py stores/platformers
jinn train stores/platformers/train --out runs/platformers --recipe platformers_cpu
jinn eval runs/platformers stores/platformers/unseen

Twelve games are for training, and three others that nobody trains on give prompts that are out of distribution. The
same command again goes on with the game in which it was stopped.

Procgen's games have no clock, so a step is a frame; EnvPool draws them at 64 x 64 only. Atari's consoles draw 60
pictures a second, of which every sixth is kept, squeezed to the set's height. The same action is the same push of the
joystick in all games: Procgen's are renamed, and what a push does is the game's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from jinn.cli.console import progress, say
from jinn.contracts import JinnError
from jinn.data.collect import MEAN_HOLD, Policy, collect
from jinn.data.games import ATARI_NAMES, PROCGEN_MOVES, PROCGEN_NAMES
from jinn.data.images import Fit
from jinn.data.ingest import level_name
from jinn.data.writer import StoreWriter

SIZE_HW, FPS = (90, 160), 10.0
NUM_ENVS = 16  # of each game side by side
JOYSTICK = ATARI_NAMES  # nine directions, Procgen's among them, each with the button and without
ATARI_OPTIONS = "frame_skip=6&img_height=90&img_width=160&full_action_space=true"
TURN, WALK, JUMP = 1 / 200, 0.4, 0.35  # chances of turning round at a step, and of what is chosen anew


@dataclass(frozen=True)
class Game:
    """A game, what jumps in it, and how its pictures become wide ones."""

    name: str
    jump: str = "fire"
    fit: Fit = "crop"

    @property
    def is_procgen(self) -> bool:
        return self.name.endswith("-v0")

    @property
    def source(self) -> str:
        return f"envpool:{self.name}" + ("" if self.is_procgen else f"?{ATARI_OPTIONS}")

    @property
    def actions(self) -> tuple[str, ...]:
        """The names of the game's own actions that are played."""
        return PROCGEN_NAMES[:PROCGEN_MOVES] if self.is_procgen else ATARI_NAMES


TRAIN = (
    Game("CoinrunHard-v0", "up"),
    Game("JumperHard-v0", "up"),
    Game("ClimberHard-v0", "up", "pad"),  # its hero climbs at the lower edge, which a crop takes away
    Game("Pitfall-v5"),
    Game("MontezumaRevenge-v5"),
    Game("DonkeyKong-v5"),
    Game("Kangaroo-v5", "up"),
    Game("MarioBros-v5"),
    Game("KeystoneKapers-v5"),
    Game("Hero-v5", "up"),
    Game("KungFuMaster-v5"),
    Game("RoadRunner-v5"),
)
UNSEEN = (Game("NinjaHard-v0", "up"), Game("Jamesbond-v5", "up"), Game("KingKong-v5"))


def main(
    out: Path,
    /,
    frames: int = 10_000,
    unseen_frames: int = 2_000,
    seed: int = 0,
    games: tuple[str, ...] = (),
) -> None:
    """Play the games, and write a store of those to train on and one of those that are unseen.

    Args:
        out: Folder of the two stores, train and unseen. A frame takes 43 kB.
        frames: Frames of each game to train on.
        unseen_frames: Frames of each game that nobody trains on.
        seed: Seed of the games and of who plays them.
        games: Names of the games to play, such as CoinrunHard-v0. By default all are played.
    """
    known = [game.name for game in TRAIN + UNSEEN]
    if wrong := [name for name in games if name not in known]:
        raise JinnError(f"there is no game {wrong[0]} in this set: choose among {', '.join(known)}")
    for part, all_games, count in (("train", TRAIN, frames), ("unseen", UNSEEN, unseen_frames)):
        if chosen := [game for game in all_games if game.name in games or not games]:
            episodes, added = write(out / part, chosen, count, seed)
            say(f"{out / part}: {episodes} clips, {added:,} frames of {len(chosen)} games added")


def write(path: Path, games: Sequence[Game], frames: int, seed: int) -> tuple[int, int]:
    """Play the games that a store lacks; returns how many episodes and frames that added."""
    with progress() as show, StoreWriter(path, SIZE_HW, FPS, len(JOYSTICK), action_names=JOYSTICK) as writer:
        before = writer.num_frames
        for number, game in enumerate(games):
            name = f"{game.source}#seed={seed},policy=walker,frames={frames}"
            if name not in writer.done_sources:
                play(writer, name, game, frames, seed)
            show("playing", number + 1, len(games), game.name)
        return writer.added_since(before)


def play(writer: StoreWriter, name: str, game: Game, frames: int, seed: int) -> None:
    """Write so many frames of a game as a source of this name."""
    numbers = np.array([*map(JOYSTICK.index, game.actions), -1])  # -1 is the padding at the end of an episode
    policy = walker(game, seed)
    for episode in collect(game.source, frames, seed, None, policy, NUM_ENVS, 1, SIZE_HW, game.fit):
        assert episode.actions_T is not None, "all these games have discrete actions"
        level = episode.level_seed
        group = f"{name} {episode.attempt}" if level is None else level_name(game.source, level)
        writer.append(episode.frames_THWC)
        writer.end_episode(name, numbers[episode.actions_T], level, group)
    writer.finish_source(name)


def walker(game: Game, seed: int) -> Policy:
    """Walk one way for a while, jump now and then, and try everything else as well.

    Other than under `jinn data --policy sticky`, heroes leave their first screen: they walk left or right, and turn
    round every 20 seconds on average.
    """
    rng = np.random.default_rng([seed, 2])
    walks = np.array([game.actions.index(way) for way in ("left", "right")])
    jump = "up-{}" if game.jump == "up" else "{}-fire"
    jumps = np.array([game.actions.index(jump.format(way)) for way in ("left", "right")])
    way = rng.integers(2, size=NUM_ENVS)
    held = walks[way]

    def act(obs_BHWC: np.ndarray) -> np.ndarray:
        nonlocal way, held
        way = np.where(rng.random(NUM_ENVS) < TURN, 1 - way, way)
        luck, other = rng.random(NUM_ENVS), rng.integers(len(game.actions), size=NUM_ENVS)
        chosen = np.where(luck < WALK, walks[way], np.where(luck < WALK + JUMP, jumps[way], other))
        held = np.where(rng.random(NUM_ENVS) < 1 / MEAN_HOLD, chosen, held)
        return held

    return act


if __name__ == "__main__":
    tyro.cli(main)
