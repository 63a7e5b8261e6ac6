"""The action legend: names for people of what each latent action does, guessed from the motion it causes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jinn.files import from_dict, read_json, write_json


@dataclass(frozen=True)
class ActionMeaning:
    """What one latent action does.

    Attributes:
        name: a guess, such as "up-left", "stay" or "unused".
        down, right: mean motion in pixels a frame while it was taken, of the player as far as one can tell.
        share: of the frames that it was measured on, in [0, 1].
    """

    name: str
    down: float
    right: float
    share: float


def write_legend(place: Path, legend: Sequence[ActionMeaning]) -> None:
    """Write a legend as JSON."""
    write_json(place, [asdict(meaning) for meaning in legend])


def read_legend(place: Path) -> tuple[ActionMeaning, ...] | None:
    """The legend in a file, None if there is no such file.

    Raises:
        JinnError: the file is damaged.
    """
    if not place.exists():
        return None
    return tuple(from_dict(ActionMeaning, entry, str(place)) for entry in read_json(place))
