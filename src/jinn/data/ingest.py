"""Sources -> one frame store: what ``jinn data`` does.

A source is a film (see `Film`), a folder, data set or list of films (see `find_films`), another store, an environment
(``envpool:CoinrunHard-v0``, ``gymnasium:CartPole-v1``) or the synthetic game (``synthetic:game``). The same call again
resumes where the last one was stopped, and ends with the store of a call that was never stopped: a film, and a chunk of
an environment's play, is written whole or not at all.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from jinn.contracts import JinnError
from jinn.data.action_codes import check_codes, code_actions, keep_codes
from jinn.data.collect import Episode, PlayError, collect
from jinn.data.copied import copy_store, is_store
from jinn.data.film import Film
from jinn.data.films import Progress, add_films, group_rule
from jinn.data.folder import find_films
from jinn.data.games import open_games
from jinn.data.images import Fit
from jinn.data.store import FrameStore
from jinn.data.store_format import group_hash
from jinn.data.synthetic import ACTIONS, CELL, game_rollout
from jinn.data.writer import StoreWriter

T = TypeVar("T")

DEFAULT_SIZE_HW = (64, 64)
DEFAULT_FPS = 10.0  # of videos and the synthetic game; environments keep their own rate
DEFAULT_FRAMES = 100_000
GAME_LENGTH = 100  # frames of an episode of the synthetic game

# Frames in a chunk of play. A stop repeats one chunk; EnvPool's 16 games side by side should each show some
# whole episodes (up to 1,000 frames) in it, while a Gymnasium game may render only ten frames a second.
CHUNK_FRAMES = {"envpool": 64_000, "gymnasium": 2_000, "synthetic": 10_000}


@dataclass(frozen=True)
class Summary:
    """What one call of `ingest` added."""

    episodes: int
    frames: int
    hours: float  # duration of these frames at the store's rate
    resumed: int  # number of videos and chunks of play that an earlier call had completed
    heldout: int  # number of clips of the whole store that are held out from training
    skipped: tuple[tuple[str, str], ...]  # (file, reason) of each file that could not be read
    warnings: tuple[tuple[str, str], ...]  # (file, text): what is missing or unusual in files that were read


@dataclass(frozen=True)
class _Play:
    """How one environment is played; arguments of `ingest`, and for how many steps an action is repeated."""

    source: str
    frames: int
    seed: int
    levels: tuple[int, int] | None
    policy: str
    repeat: int


def ingest(
    sources: Sequence[str],
    out: str | Path,
    fps: float | None = None,
    size_hw: tuple[int, int] | None = None,
    frames: int | None = None,
    seed: int = 0,
    levels: tuple[int, int] | None = None,
    policy: str = "random",
    fit: Fit | None = None,
    group: str | None = None,
    progress: Progress = lambda done, total, text: None,
    camera: str | None = None,
    source_fps: float | None = None,
    action_codes: int | None = None,
) -> Summary:
    """Read all sources into the store at `out`, which is made or continued.

    Args:
        sources: Videos, folders and environments, as described in the module.
        out: Directory of the store.
        fps: Frames per second; by default the store's, or that of all sources (10 of films without actions), or 10. It
            may divide an environment's by a whole number: actions are then repeated.
        size_hw: Height and width, pixels. The default is the store's size, or else that of a source store, or 64 x 64.
        frames: Number of frames to play in each environment, by default 100,000. Videos are read whole.
        seed: Seed of the environments and policies.
        levels: First level seed and number of levels, for environments that have them; None for all.
        policy: ``"random"``, ``"sticky"``, ``"runner"`` or ``"FILE.py:FUNCTION"``, see `jinn.data.collect`.
        fit: What becomes of pictures of another shape, see `jinn.data.images.resize`; else the store's, or "crop".
        group: A regular expression. Films in whose names, with their folders, it finds the same text share a split.
        progress: Called now and then with (done, total, text).
        camera: Which camera of data sets to read, the first by default.
        source_fps: Rate of pictures and arrays, which say none. By default each picture is one frame.
        action_codes: How many codes continuous actions become, see `jinn.data.action_codes`; None leaves them out.

    Raises:
        JinnError: A source does not exist or does not fit the store or the others, or nothing at all could be read.
        OSError: The store cannot be written, for example because the disk is full; the same call goes on later.
    """
    out, games = Path(out), [source for source in sources if source.partition(":")[0] in CHUNK_FRAMES]
    _check(sources, games, frames, levels, source_fps)
    stores = [FrameStore.open(source) for source in sources if is_store(source)]
    films, unread = _find_all(sources, out, camera, source_fps, action_codes)
    codes = check_codes(films, [store.path for store in stores], out)
    own = _natives(films, stores, native := {source: native_of(source) for source in games})
    fps, size_hw, fit = _chosen(fps, size_hw, fit, out, own, stores)
    play = partial(_Play, frames=frames or DEFAULT_FRAMES, seed=seed, levels=levels, policy=policy)
    plays = [play(source, repeat=_repeat(source, game.fps, fps)) for source, game in native.items()]
    num_actions, names = _actions(own)
    with StoreWriter(out, size_hw, fps, num_actions, action_names=names, fit=fit) as writer:
        keep_codes(codes, out)
        old_frames = writer.num_frames
        resumed, skipped, warnings = add_films(writer, films, group_rule(group), progress)
        resumed += sum(_add_play(writer, play, progress) for play in plays)
        resumed += sum(copy_store(writer, store, progress) for store in stores)
        episodes, added = writer.added_since(old_frames)
    if not added and not resumed:
        raise _nothing(sources, skipped + unread, bool(films))
    hours = added / fps / 3600
    return Summary(episodes, added, hours, resumed, writer.num_heldout, (*skipped, *unread), tuple(warnings))


def _find_all(
    sources: Sequence[str], out: Path, camera: str | None, source_fps: float | None, action_codes: int | None
) -> tuple[list[Film], list[tuple[str, str]]]:
    """The films of all sources, their continuous actions coded, and what else there is, as of `find_films`."""
    videos = [x for x in sources if x.partition(":")[0] not in CHUNK_FRAMES and not is_store(x)]
    found = [find_films(Path(source), out, camera, source_fps) for source in videos]
    films = code_actions([film for some, _ in found for film in some], action_codes, out)
    return films, [other for _, others in found for other in others]


def _natives(films: Sequence[Film], stores: Sequence[FrameStore], native: dict[str, Native]) -> list[Native]:
    """What each source brings with it."""
    # The rate of films counts only where an action leads from each picture to the next.
    own = [
        Native((x.fps if x.num_actions else None) or DEFAULT_FPS, x.num_actions, x.action_names)
        for x in films
    ]
    return [*own, *native.values(), *(Native(x.fps, x.num_actions or 0, x.action_names) for x in stores)]


def by_reason(files: Sequence[tuple[str, str]]) -> list[str]:
    """One sentence for each reason, with a file as an example and the number of the others."""
    groups = defaultdict(list)
    for name, reason in files:
        groups[reason].append(name)
    return [
        f"{names[0]}{f' and {len(names) - 1:,} more' if len(names) > 1 else ''}: {reason}"
        for reason, names in groups.items()
    ]


def _nothing(sources: Sequence[str], skipped: list[tuple[str, str]], has_films: bool) -> JinnError:
    where = " ".join(sources)
    if not has_films and skipped:
        return JinnError(f"there are no videos in {where}, only {by_reason(skipped)[0]}")
    return JinnError(f"nothing could be read from {where}{', for example ' if skipped else ''}"
                     + "; ".join(by_reason(skipped)[:3]))  # fmt: skip


def level_name(source: str, level: int) -> str:
    """The group of a level of an environment: all attempts at it share a split."""
    return f"{source} level {level}"


def _actions(own: Sequence[Native]) -> tuple[int, tuple[str, ...] | None]:
    """How many actions there are, and their names if all sources that have any agree on them."""
    names, *more = {x.action_names for x in own if x.num_actions} or {None}
    return max((x.num_actions for x in own), default=0), None if more else names


def _chosen(
    fps: float | None,
    size_hw: tuple[int, int] | None,
    fit: Fit | None,
    out: Path,
    own: Sequence[Native],
    stores: Sequence[FrameStore],
) -> tuple[float, tuple[int, int], Fit | None]:
    """Rate, size and fit: those that are asked for, or else the old store's, or those that all sources agree on."""
    if (out / "store.json").exists():
        old = FrameStore.open(out)
        fps, size_hw = old.fps if fps is None else fps, size_hw or old.size_hw
    else:
        fit = fit or _agreed({store.fit for store in stores})
        size_hw = size_hw or _agreed({store.size_hw for store in stores}) or DEFAULT_SIZE_HW
        fps = _agreed({x.fps for x in own}) or DEFAULT_FPS if fps is None else fps
    if not 0 < fps < math.inf or min(size_hw) < 1:
        raise JinnError("the rate and the size must be above zero")
    return fps, size_hw, fit


def _agreed(values: set[T]) -> T | None:
    """The only one of some values, None if there are others or none."""
    return values.pop() if len(values) == 1 else None


def _check(
    sources: Sequence[str],
    games: list[str],
    frames: int | None,
    levels: tuple[int, int] | None,
    source_fps: float | None,
) -> None:
    if source_fps is not None and not 0.1 <= source_fps < math.inf:
        raise JinnError(f"pictures come at 0.1 a second or more, not at {source_fps:g}")
    if not sources:
        raise JinnError("name at least one source: a video, a folder of videos, or envpool:CoinrunHard-v0")
    if not games and (frames is not None or levels is not None):
        raise JinnError("frames and levels are for environments, videos are read whole: leave them out")
    if frames is not None and frames < 1:
        raise JinnError("the number of frames must be above zero")
    if levels is not None and (levels[0] < 0 or levels[1] < 1):
        raise JinnError(f"levels are a first seed >= 0 and a number >= 1, not {levels[0]}:{levels[1]}")


def _add_play(writer: StoreWriter, play: _Play, progress: Progress) -> int:
    """Play the chunks that the store lacks; returns how many it had."""
    levels = "all" if play.levels is None else f"{play.levels[0]}:{play.levels[1]}"
    # A policy of the user's own goes by name and content: the play of a changed one is another source.
    file, _, function = play.policy.rpartition(":")
    is_file = Path(file).is_file()
    policy = f"{Path(file).name}:{function}@{_fingerprint(Path(file))}" if is_file else play.policy
    stem = f"{play.source}#seed={play.seed},levels={levels},policy={policy}"
    # The name of a chunk is part of the format, and its seed is the name's hash: hence the word "block". It ends in the
    # chunk's length: the last chunk of a shorter run stays as it is, and a longer run goes on from there.
    lengths = {name.rpartition(",")[0]: int(name.rpartition("=")[2]) for name in writer.done_sources
               if name.startswith(f"{stem},block=")}  # fmt: skip
    played = resumed = number = 0
    while played < play.frames:
        chunk = f"{stem},block={number}"
        length = lengths.get(chunk) or min(CHUNK_FRAMES[play.source.partition(":")[0]], play.frames - played)
        if chunk in lengths:
            resumed += 1
        else:
            name = f"{chunk},frames={length}"
            done = played
            try:
                for episode in _episodes(play, length, group_hash(chunk) % 2**31, writer):
                    level = episode.level_seed
                    group = f"{chunk} {episode.attempt}" if level is None else level_name(play.source, level)
                    writer.append(episode.frames_THWC)
                    writer.end_episode(name, episode.actions_T, level, group)
                    done += len(episode.frames_THWC)
                    progress(done, play.frames, play.source)
            except PlayError as error:
                if done > played:
                    writer.finish_source(f"{chunk},frames={done - played}")
                raise JinnError(
                    f"{play.source} failed after {done:,} frames ({error}): what was played before is kept, and the "
                    "same command goes on behind it"
                ) from error
            writer.finish_source(name)
        played, number = played + length, number + 1
    progress(play.frames, play.frames, play.source)
    return resumed


def _episodes(play: _Play, frames: int, seed: int, writer: StoreWriter) -> Iterator[Episode]:
    source, levels, policy, size_hw = play.source, play.levels, play.policy, writer.size_hw
    if not source.startswith("synthetic:"):
        num_envs = 16 if source.startswith("envpool:") else 1
        yield from collect(source, frames, seed, levels, policy, num_envs, play.repeat, size_hw, writer.fit)
        return
    if levels is not None or policy != "random" or size_hw[0] % CELL or size_hw[1] % CELL:
        raise JinnError(
            f"{source} is played at random, every episode is another level, and its sides are multiples of "
            f"{CELL} pixels: leave levels and policy out"
        )
    for attempt, start in enumerate(range(0, frames, GAME_LENGTH)):
        level = seed + attempt
        frames_THWC, actions_T = game_rollout(level, min(GAME_LENGTH, frames - start), size_hw)
        yield Episode(frames_THWC, actions_T, level, attempt)


class Native(NamedTuple):
    """What an environment brings with it: frames per second, number of actions (0 if not discrete), their names."""

    fps: float
    num_actions: int
    action_names: tuple[str, ...] | None


def native_of(source: str) -> Native:
    """The rate and the actions of an environment, which is opened for it; errors as of `ingest`."""
    if source.startswith("synthetic:"):
        if source != "synthetic:game":
            raise JinnError(f"there is no {source}: the one synthetic source is synthetic:game")
        return Native(DEFAULT_FPS, len(ACTIONS), ACTIONS)
    games = open_games(source, num_envs=1)
    games.close()
    return Native(games.fps, games.num_actions or 0, games.action_names)


def _repeat(source: str, native: float, fps: float) -> int:
    """For how many steps of an environment an action is repeated, to divide its rate."""
    if source.startswith("synthetic:"):
        return 1  # a turn-based game runs at any rate
    repeat = round(native / fps)
    if repeat < 1 or abs(native / fps - repeat) > 1e-6:
        raise JinnError(
            f"{source} runs at {native:g} fps, which {fps:g} does not divide: use {native:g}, {native / 2:g} "
            f"or {native / 3:g} fps"
        )
    return repeat


def _fingerprint(path: Path) -> str:
    """A hash of a file's size and of both of its ends: the same wherever the file is and whatever its name is."""
    size, end = path.stat().st_size, 2**16
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with path.open("rb") as file:
        digest.update(file.read(end))
        file.seek(max(0, size - end))
        digest.update(file.read(end))
    return digest.hexdigest()
