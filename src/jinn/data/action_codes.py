"""Continuous actions -> a few codes, for a store holds discrete ones.

The actions of all films are clustered (k-means, each value divided by its standard deviation), and an action becomes
the number of the nearest centre. The centres stay with the store: what is added later is coded by the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jinn.contracts import JinnError
from jinn.data.film import LEFT_OUT, Film
from jinn.files import read_config, read_json, write_json

FILE = "action_codes.json"  # in the folder of the store
MOST = 256  # codes
ROWS = 100_000  # actions that the centres are learned from, drawn with seed 0 if there are more
LARGE = 0.5  # standard deviations from the mean, from which on a value is part of a code's name


@dataclass(frozen=True)
class ActionCodes:
    """The centres of some clusters of actions.

    Attributes:
        mean: Of each of D values.
        deviation: The standard deviation of each, 1 where it never changes.
        centres: K rows of D values, in these standard deviations from the mean.
        names: One for each code, such as "dx+ gripper-": the two values that are farthest from their means.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    centres: tuple[tuple[float, ...], ...]
    names: tuple[str, ...]

    def of(self, values_TD: np.ndarray) -> np.ndarray:
        """The code of each action, int64 ``(T,)``; at a clip's last frame, whose action leads nowhere, too."""
        scaled_TD = (values_TD - np.array(self.mean)) / np.array(self.deviation)
        distances_TK = ((scaled_TD[:, None] - np.array(self.centres)) ** 2).sum(-1)
        return distances_TK.argmin(1).astype(np.int64)


def learn_codes(values_XD: np.ndarray, count: int, value_names: Sequence[str] | None) -> ActionCodes:
    """Cluster actions; the codes are in the order of how often they are taken. `JinnError` if there are too few."""
    try:
        from scipy.cluster.vq import ClusterError, kmeans2
    except ImportError as error:
        raise JinnError("coding continuous actions needs scipy: run pip install 'jinn[datasets]'") from error

    if len(values_XD) > ROWS:
        values_XD = np.random.default_rng(0).choice(values_XD, ROWS, replace=False)
    if len(np.unique(values_XD, axis=0)) < count:
        raise JinnError(f"there are fewer than {count} different actions: choose a smaller --action-codes")
    mean, deviation = values_XD.mean(0), values_XD.std(0)
    deviation[deviation == 0] = 1
    try:
        centres, taken = kmeans2((values_XD - mean) / deviation, count, minit="++", seed=0, missing="raise")
    except ClusterError:
        raise JinnError(
            f"the actions do not fall into {count} clusters: choose a smaller --action-codes"
        ) from None
    centres = centres[np.argsort(-np.bincount(taken, minlength=count), kind="stable")]
    names = value_names if value_names and len(value_names) == len(mean) else None
    names = names or [f"value {number} " for number in range(len(mean))]
    rows = tuple(map(tuple, centres.tolist()))
    return ActionCodes(tuple(mean.tolist()), tuple(deviation.tolist()), rows, _names(centres, names))


def _names(centres_KD: np.ndarray, value_names: Sequence[str]) -> tuple[str, ...]:
    names: list[str] = []
    for centre_D in centres_KD:
        farthest = sorted(np.argsort(-np.abs(centre_D), kind="stable")[:2])
        largest = [d for d in farthest if abs(centre_D[d]) >= LARGE]
        name = " ".join(f"{value_names[d]}{'+' if centre_D[d] > 0 else '-'}" for d in largest) or "middle"
        same = sum(other.partition(" (")[0] == name for other in names)
        names.append(f"{name} ({same + 1})" if same else name)
    return tuple(names)


def code_actions(films: Sequence[Film], count: int | None, out: Path) -> list[Film]:
    """Films whose continuous actions are codes: those of the store in `out`, or else new ones; with None as they are.

    Raises:
        JinnError: `count` is not within 2 to 256, no film has continuous actions, some have other values than others
            or than the store's, or the store has another number of codes.
    """
    if count is None:
        return list(films)
    if not 2 <= count <= MOST:
        raise JinnError(f"--action-codes is a number from 2 to {MOST}, not {count}")
    found = [film.values() for film in films]
    values = {
        number: x_TD for number, x_TD in enumerate(found) if x_TD is not None and np.isfinite(x_TD).all()
    }
    if not values:
        raise JinnError(
            "--action-codes is for data sets with continuous actions, and there are none: leave it out"
        )
    first = next(iter(values))
    if codes := codes_in(out):
        if len(codes.centres) != count:
            raise JinnError(f"{out} has {len(codes.centres)} action codes: give the same --action-codes")
    else:
        widths = {x_TD.shape[1]: films[number].name for number, x_TD in values.items()}
        if len(widths) > 1:
            raise JinnError(
                f"{' and '.join(widths.values())} have actions of other kinds: make a store of each"
            )
        codes = learn_codes(np.concatenate(list(values.values())), count, films[first].value_names)
    if values[first].shape[1] != len(codes.mean):
        raise JinnError(
            f"the actions of {films[first].name} have another number of values than those of {out}"
        )
    return [_coded(film, codes) if number in values else film for number, film in enumerate(films)]


def _coded(film: Film, codes: ActionCodes) -> Film:
    notes = tuple(note for note in film.notes if note != LEFT_OUT)
    count = len(codes.centres)
    return replace(film, num_actions=count, action_names=codes.names, codes=codes, notes=notes)


def codes_in(folder: Path) -> ActionCodes | None:
    """The codes of the actions in a store, None if they are not coded."""
    file = folder / FILE
    return read_config(ActionCodes, file, read_json(file), "make the store again") if file.exists() else None


def check_codes(films: Sequence[Film], stores: Sequence[Path], out: Path) -> ActionCodes | None:
    """The codes of all that is to be in the store in `out`; None if nothing is coded.

    Raises:
        JinnError: Some of it has other codes.
    """
    found = {film.codes: film.name for film in films} | {codes_in(path): str(path) for path in (*stores, out)}
    coded = {codes: name for codes, name in found.items() if codes}
    if len(coded) > 1:
        raise JinnError(f"{' and '.join(coded.values())} have other codes of actions: make a store of each")
    return next(iter(coded), None)


def keep_codes(codes: ActionCodes | None, out: Path) -> None:
    """Write some codes into the folder of their store."""
    if codes:
        write_json(out / FILE, vars(codes))
