"""Films -> a store: which of them it lacks, which share a split, and what of each is kept."""

from __future__ import annotations

import re
from collections.abc import Callable

from jinn.contracts import JinnError
from jinn.data.clock import Warn
from jinn.data.copies import Copies
from jinn.data.film import Film, read_actions, read_film
from jinn.data.folder import MIN_FRAMES
from jinn.data.remaining import film_progress
from jinn.data.video import VideoError
from jinn.data.writer import StoreWriter

# progress(done, total, text): `done` of `total` megabytes of films or frames of an environment, and what is being read.
Progress = Callable[[int, int, str], None]

FILM_SOURCE = r"(?P<name>.*)#(?P<content>[0-9a-f]{16})@(?P<place>[0-9a-f]{16})"  # name of a film's source


def add_films(
    writer: StoreWriter, films: list[Film], rule: Callable[[str], str | None], progress: Progress
) -> tuple[int, list[tuple[str, str]], list[tuple[str, str]]]:
    """Write the films that the store lacks; returns `resumed`, `skipped` and `warnings` of the `Summary`."""
    resumed = 0
    skipped: list[tuple[str, str]] = []
    warnings: list[tuple[str, str]] = []
    # A film goes by name, content and place. The same content is not stored twice, under whatever name, and what was
    # at the same place before is replaced.
    found = [match for name in writer.done_sources if (match := re.fullmatch(FILM_SOURCE, name, re.DOTALL))]
    names = {match["content"]: match["name"] for match in found}
    places = {match["place"]: match[0] for match in found}
    copies, show = Copies(writer), film_progress(films, writer.fps, progress)
    for number, film in enumerate(films):
        show(number, 0)
        try:
            content, place = film.content_hash(), film.place
        except OSError as error:
            skipped.append((film.name, f"it cannot be read ({error.strerror})"))
            continue
        except VideoError as error:
            skipped.append((film.name, str(error)))
            continue
        if content in names:
            if names[content] == film.name:
                resumed += 1
            else:
                skipped.append((film.name, f"it is the same film as {names[content]}"))
            continue
        old, source = places.get(place), f"{film.name}#{content}@{place}"
        # The new version keeps the group of the old one, and with it the split.
        group: str | int = rule(film.name) or (film.group(content) if old is None else writer.group_of(old))
        said = list(film.notes)
        first = writer.num_frames

        def shown(number: int = number, first: int = first) -> None:
            show(number, writer.num_frames - first)

        if problem := _add_film(writer, film, source, group, said.append, shown):
            writer.rollback()
            skipped.append((film.name, problem))
            continue
        warnings += [(film.name, text) for text in said]
        if old is not None:
            writer.remove_source(old)
            copies.remove(old)
        if (copy := copies.add(source, first)) and writer.group_of(copy) != writer.group_of(source):
            writer.join_groups(writer.group_of(source), writer.group_of(copy))
            name = copy.rpartition("#")[0]
            warnings.append((film.name, f"it shows the same as {name}, and shares its split"))
        writer.finish_source(source)
        names[content], places[place] = film.name, source
    if films:
        show(len(films), 0)
    return resumed, skipped, warnings


def _add_film(
    writer: StoreWriter, film: Film, source: str, group: str | int, warn: Warn, show: Callable[[], None]
) -> str | None:
    """Write the clips of a film. Returns why there are none, or None.

    Pieces between damaged places are left out if they are short; a whole film may have any length.
    """
    kept, pieces, dropped, open_clip, problem = 0, 0, 0, 0, ""
    actions_T = read_actions(film, writer.fps, warn)

    def end(is_whole: bool) -> None:
        nonlocal kept, pieces, dropped
        pieces += 1
        if writer.open_frames and (is_whole or writer.open_frames >= MIN_FRAMES):
            kept += writer.open_frames
            fits = is_whole and actions_T is not None and len(actions_T) == writer.open_frames
            if actions_T is not None and not fits and pieces == 1:
                warn("its actions are left out, because not all of its pictures could be read")
            writer.end_episode(source, actions_T if fits else None, group=group)
        else:
            dropped += writer.open_frames
            writer.drop_open()

    try:
        for clip, chunk_THWC in read_film(film, writer.fps, writer.size_hw, warn, writer.fit):
            if clip != open_clip:
                end(is_whole=False)
                open_clip = clip
            writer.append(chunk_THWC)
            show()
    except VideoError as error:
        problem = str(error)
        warn(problem)
    end(is_whole=not problem and not pieces)
    if dropped and kept:
        warn(f"pieces of fewer than {MIN_FRAMES} frames are left out, {dropped} frames together")
    if kept:
        return None
    return problem or f"none of its pieces has {MIN_FRAMES} frames"


def group_rule(pattern: str | None) -> Callable[[str], str | None]:
    """The function from a film's name to that of its group, None where the regular expression finds nothing."""
    try:
        compiled = re.compile(pattern) if pattern else None
    except re.error as error:
        raise JinnError(f"the group {pattern!r} is no regular expression: {error}") from None

    def rule(name: str) -> str | None:
        match = compiled.search(name) if compiled else None
        if match is None:
            return None
        return "group " + "/".join(text or "" for text in (match.groups() or (match[0],)))

    return rule
