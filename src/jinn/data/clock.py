"""Pictures with times -> the picture of each frame at a constant rate, cut into clips where the film is not whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

# Seconds. Matroska rounds times to milliseconds: a picture that is due now may be stamped half of one later.
TOLERANCE = 0.001
# Seconds. A picture that claims to be displayed for longer is a gap in the recording or a jump of its clock: nothing is
# learned from a picture that stands still, and what comes next does not follow from it.
LONGEST_DISPLAY = 10.0

Warn = Callable[[str], None]  # is told what a user should know of a film that can be read


class Shown(NamedTuple):
    """A picture and when it is displayed."""

    picture: Any
    time: float | None  # seconds by the film's clock; None comes as usual after the picture before it
    duration: float | None  # seconds, None where the film does not say
    is_cut: bool = False  # whether pictures before it are missing


def resample(pictures: Iterable[Shown], fps: float, usual: float, warn: Warn) -> Iterator[tuple[int, Any]]:
    """Yield what is displayed 0, 1 / fps, 2 / fps, ... seconds after the first picture of each clip.

    Args:
        pictures: In the order of their display.
        fps: Frames per second to yield; above the film's own rate, pictures repeat.
        usual: Seconds from one picture to the next, as a rule.
        warn: Is told of gaps, and of a film with fewer pictures than `fps` asks for.

    Yields:
        The number of the clip and the picture. A new clip begins where pictures are missing or the clock jumps.
    """
    clip, due, end, seen, seconds = 0, 0, 0.0, 0, 0.0
    for number, picture, until in _displays(pictures, usual, warn):
        if number != clip:
            clip, due, seconds = number, 0, seconds + end
        seen, end = seen + 1, until
        while due / fps < end - TOLERANCE:
            yield clip, picture
            due += 1
    seconds += end
    if seen > 1 and seen < 0.9 * fps * seconds:
        warn(f"it shows {seen / seconds:.3g} pictures a second and is read at {fps:g}, so pictures repeat")


def steady(pictures: Iterable[Any], rate: float | None, fps: float, warn: Warn) -> Iterator[tuple[int, Any]]:
    """`resample` for pictures without times: there are `rate` of them a second, or one for each frame if it is None.

    None in the place of a picture stands for one that is missing: a new clip begins behind it.
    """
    if rate is None:
        clip, is_cut = 0, False
        for picture in pictures:
            if picture is not None:
                clip += is_cut
                yield clip, picture
            is_cut = picture is None
        return

    def shown() -> Iterator[Shown]:
        is_cut = False
        for number, picture in enumerate(pictures):
            if picture is not None:
                yield Shown(picture, number / rate, 1 / rate, is_cut)
            is_cut = picture is None

    yield from resample(shown(), fps, 1 / rate, warn)


def _displays(pictures: Iterable[Shown], usual: float, warn: Warn) -> Iterator[tuple[int, Any, float]]:
    """Yield the number of the clip, the picture, and when its display ends: seconds after the clip's first picture."""
    usual = min(usual, 1.0)  # of slower films, and of damaged headers, that is enough of a still
    clip, jumps, holes, missing = 0, 0, 0, 0.0
    since = zero = (
        0.0  # when the current picture is displayed, after the clip's first; the clock at the latter
    )
    current: Shown | None = None
    for shown in pictures:
        if current is None:
            zero = shown.time or 0.0
        else:
            gap = usual if shown.time is None else shown.time - zero - since
            is_jump = not -2 * usual <= gap <= LONGEST_DISPLAY
            if not is_jump and not shown.is_cut:
                yield clip, current.picture, since + gap
                since += gap
            else:
                yield clip, current.picture, since + usual
                if shown.is_cut:
                    holes, missing = holes + 1, missing + max(0.0, gap - usual)
                else:
                    jumps += 1
                clip, zero, since = clip + 1, zero + since + gap, 0.0
        current = shown
    if current is not None:
        last = usual if current.duration is None else current.duration
        yield clip, current.picture, since + (last if last <= LONGEST_DISPLAY else usual)
        jumps += last > LONGEST_DISPLAY
    if holes:
        warn(
            f"it is damaged in {_places(holes)}: about {missing:.1f} seconds are missing, a new clip begins behind"
        )
    if jumps:
        warn(f"its clock jumps or one picture stands still in {_places(jumps)}: a new clip begins behind")


def _places(count: int) -> str:
    return "one place" if count == 1 else f"{count} places"
