"""Sources -> one frame store: what ``jinn data`` does.

A source is a video file, a folder of videos, an environment (``envpool:CoinrunHard-v0``,
``gymnasium:CartPole-v1``) or the synthetic game (``synthetic:game``). The same call again continues where the
last one was stopped. For that, everything is cut into units that are written whole or not at all: videos,
and blocks of play. A block's seed is derived from the run's seed and its number, so a continued run writes
the same store as one that was never stopped.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinn.contracts import JinnError
from jinn.data.collect import Rollout, collect
from jinn.data.games import open_games
from jinn.data.store import FrameStore
from jinn.data.store_format import group_hash
from jinn.data.synthetic import ACTIONS, BLOCK, game_rollout
from jinn.data.video import VideoError, read_video
from jinn.data.writer import StoreWriter

# progress(done, total, text): `done` of `total` files or frames of the current source, and what is at work.
Progress = Callable[[int, int, str], None]

DEFAULT_SIZE_HW = (64, 64)
DEFAULT_FPS = 10.0  # of videos and the synthetic game; environments keep their own rate
DEFAULT_FRAMES = 100_000
HANDFUL = 16  # a video that breaks off earlier is not worth keeping
GAME_LENGTH = 100  # frames of an episode of the synthetic game

# Frames in a block of play. A stop repeats one block; EnvPool's 16 games side by side should each see some
# whole episodes (up to 1,000 frames) in it, while a Gymnasium game may render but ten frames a second.
BLOCK_FRAMES = {"envpool": 64_000, "gymnasium": 2_000, "synthetic": 10_000}


@dataclass(frozen=True)
class Summary:
    """What one call of `ingest` added.

    Attributes:
        episodes, frames: added by this call.
        hours: of footage added, at the store's rate.
        resumed: videos and blocks of play that an earlier call had completed.
        skipped: (file, reason) of what could not be read.
        warnings: (file, reason) of what was read in part.
    """

    episodes: int
    frames: int
    hours: float
    resumed: int
    skipped: tuple[tuple[str, str], ...]
    warnings: tuple[tuple[str, str], ...]


def ingest(
    sources: Sequence[str],
    out: str | Path,
    fps: float | None = None,
    size_hw: tuple[int, int] | None = None,
    frames: int | None = None,
    seed: int = 0,
    levels: tuple[int, int] | None = None,
    policy: str = "random",
    progress: Progress | None = None,
) -> Summary:
    """Read all sources into the store at `out`, which is made or continued.

    Args:
        sources: see the module.
        out: directory of the store.
        fps: frames a second. By default what the store has, or else the environment's own rate, 10 for
            video. An environment's rate can be divided by a whole number: its actions then last longer.
        size_hw: height and width, pixels; by default what the store has, or else 64 x 64.
        frames: how long each environment is played, by default 100,000. Videos are read whole.
        seed: of the play.
        levels: first level seed and number of levels, for environments that have them; None for all.
        policy: ``"random"``, ``"sticky"``, ``"runner"`` or ``"FILE.py:FUNCTION"``, see `jinn.data.collect`.
        progress: called now and then with (done, total, text).

    Raises:
        JinnError: a source does not exist, does not fit the store, or nothing at all could be read.
    """
    out = Path(out)
    games = [source for source in sources if source.partition(":")[0] in BLOCK_FRAMES]
    videos = [found for source in sources if source not in games for found in _find_videos(Path(source), out)]
    if not sources:
        raise JinnError("name at least one source: a video, a folder of videos, or envpool:CoinrunHard-v0")
    if not games and (frames is not None or levels is not None):
        raise JinnError("frames and levels are for environments, videos are read whole: leave them out")

    old = FrameStore.open(out) if (out / "store.json").exists() else None
    rates = {source: _describe(source) for source in games}
    if fps is None:
        native = {rate for rate, _ in rates.values()}
        fps = old.fps if old else native.pop() if len(native) == 1 and not videos else DEFAULT_FPS
    if size_hw is None:
        size_hw = old.size_hw if old else DEFAULT_SIZE_HW
    if fps <= 0 or min(size_hw) < 1 or (frames is not None and frames < 1):
        raise JinnError("the rate, the size and the number of frames must be above zero")
    if levels is not None and (levels[0] < 0 or levels[1] < 1):
        raise JinnError(f"levels are a first seed >= 0 and a number >= 1, not {levels[0]}:{levels[1]}")
    repeats = {source: _repeat(source, rate, fps) for source, (rate, _) in rates.items()}
    tell = progress or (lambda done, total, text: None)

    num_actions = max((count for _, count in rates.values()), default=0) or None
    try:
        with StoreWriter(out, size_hw, fps, num_actions) as writer:
            episodes, had = writer.num_episodes, writer.num_frames
            resumed, skipped, warnings = _add_videos(writer, videos, fps, size_hw, tell)
            for source in games:
                wanted = DEFAULT_FRAMES if frames is None else frames
                resumed += _add_play(
                    writer, source, wanted, seed, levels, policy, repeats[source], size_hw, tell
                )
            episodes, added = writer.num_episodes - episodes, writer.num_frames - had
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise JinnError(f"the disk of {out} is full: make room and run the same command again") from error
    if not added and not resumed:
        example = f", for example {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise JinnError(f"nothing could be read from {' '.join(sources)}{example}")
    return Summary(episodes, added, added / fps / 3600, resumed, tuple(skipped), tuple(warnings))


def level_name(source: str, level: int) -> str:
    """The group of a level of an environment: all attempts at it share a split."""
    return f"{source} level {level}"


def _add_videos(
    writer: StoreWriter,
    videos: list[tuple[Path, str]],
    fps: float,
    size_hw: tuple[int, int],
    tell: Progress,
) -> tuple[int, list[tuple[str, str]], list[tuple[str, str]]]:
    resumed, skipped, warnings = 0, [], []
    for number, (path, name) in enumerate(videos):
        tell(number, len(videos), name)
        try:
            content = _fingerprint(path)
        except OSError as error:
            skipped.append((name, f"it cannot be read ({error.strerror})"))
            continue
        source = f"{name}#{content}"
        if source in writer.done_sources:
            resumed += 1
            continue
        before = writer.num_frames
        try:
            for chunk_THWC in read_video(path, fps, size_hw):
                writer.append(chunk_THWC)
                tell(number, len(videos), f"{name} ({writer.num_frames - before:,} frames)")
        except VideoError as error:
            if writer.num_frames - before < HANDFUL:
                writer.rollback()
                skipped.append((name, str(error)))
                continue
            warnings.append((name, str(error)))
        # Copies of a video under other names must not be split over training and held-out.
        writer.end_episode(source, group=content)
        writer.finish_source(source)
    if videos:
        tell(len(videos), len(videos), "videos")
    return resumed, skipped, warnings


def _add_play(
    writer: StoreWriter,
    source: str,
    frames: int,
    seed: int,
    levels: tuple[int, int] | None,
    policy: str,
    repeat: int,
    size_hw: tuple[int, int],
    tell: Progress,
) -> int:
    """Play the blocks of a source that the store lacks; returns how many it had."""
    span = "all" if levels is None else f"{levels[0]}:{levels[1]}"
    # A policy of the user's own goes by name and content: what a changed one plays is another source.
    file, _, function = policy.rpartition(":")
    who = f"{Path(file).name}:{function}@{_fingerprint(Path(file))}" if Path(file).is_file() else policy
    stem = f"{source}#seed={seed},levels={span},policy={who}"
    # A block's name ends in its length: the last block of a shorter run stays as it is when the run is
    # asked for more frames, and the blocks after it go on from there.
    lengths = {name.rpartition(",")[0]: int(name.rpartition("=")[2]) for name in writer.done_sources
               if name.startswith(f"{stem},block=")}  # fmt: skip
    played = resumed = number = 0
    while played < frames:
        block = f"{stem},block={number}"
        length = lengths.get(block) or min(BLOCK_FRAMES[source.partition(":")[0]], frames - played)
        if block in lengths:
            resumed += 1
        else:
            name = f"{block},frames={length}"
            done = played
            for rollout in _play(source, length, group_hash(block) % 2**31, levels, policy, repeat, size_hw):
                level = rollout.level_seed
                group = f"{block} {rollout.episode}" if level is None else level_name(source, level)
                writer.append(rollout.frames_THWC)
                writer.end_episode(name, rollout.actions_T, level, group)
                done += len(rollout.frames_THWC)
                tell(done, frames, source)
            writer.finish_source(name)
        played, number = played + length, number + 1
    tell(frames, frames, source)
    return resumed


def _play(
    source: str,
    frames: int,
    seed: int,
    levels: tuple[int, int] | None,
    policy: str,
    repeat: int,
    size_hw: tuple[int, int],
) -> Iterator[Rollout]:
    if not source.startswith("synthetic:"):
        many = 16 if source.startswith("envpool:") else 1
        yield from collect(source, frames, seed, levels, policy, many, repeat, size_hw)
        return
    if levels is not None or policy != "random" or size_hw[0] % BLOCK or size_hw[1] % BLOCK:
        raise JinnError(
            f"{source} is played at random, in as many levels as episodes, with sides that are multiples of "
            f"{BLOCK} pixels: leave levels and policy out"
        )
    for episode, start in enumerate(range(0, frames, GAME_LENGTH)):
        level = seed + episode
        pictures, actions = game_rollout(level, min(GAME_LENGTH, frames - start), size_hw)
        yield Rollout(pictures, actions, level, episode)


def _describe(source: str) -> tuple[float, int]:
    """Frames a second and number of actions (0 if not discrete) of a game."""
    if source.startswith("synthetic:"):
        if source != "synthetic:game":
            raise JinnError(f"there is no {source}: the one synthetic source is synthetic:game")
        return DEFAULT_FPS, len(ACTIONS)
    games = open_games(source, num_envs=1)
    games.close()
    return games.fps, games.num_actions or 0


def _repeat(source: str, native: float, fps: float) -> int:
    if source.startswith("synthetic:"):
        return 1  # a turn-based game runs at any rate
    repeat = round(native / fps)
    if repeat < 1 or abs(native / fps - repeat) > 1e-6:
        raise JinnError(
            f"{source} runs at {native:g} fps, which {fps:g} does not divide: use {native:g}, {native / 2:g} "
            f"or {native / 3:g} fps"
        )
    return repeat


def _find_videos(path: Path, out: Path) -> list[tuple[Path, str]]:
    """A file, or all files below a folder but hidden ones and the store itself; with names to show."""
    if path.is_file():
        return [(path, path.name)]
    if not path.is_dir():
        raise JinnError(f"there is no file or folder {path}: check the name (environments are envpool:NAME)")
    store = out.resolve()
    found = []
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        hidden = any(part.startswith(".") for part in name.parts)
        if file.is_file() and not hidden and store not in file.resolve().parents:
            found.append((file, name.as_posix()))
    return found


def _fingerprint(path: Path) -> str:
    """Tells files apart by size and both ends: wherever the folder lies, whatever the file is called."""
    size, end = path.stat().st_size, 2**16
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with path.open("rb") as file:
        digest.update(file.read(end))
        file.seek(max(0, size - end))
        digest.update(file.read(end))
    return digest.hexdigest()
