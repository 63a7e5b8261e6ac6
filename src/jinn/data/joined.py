"""Several frame stores as one, with a weight for each: what ``jinn train a=0.7 b=0.3`` learns from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jinn.contracts import JinnError
from jinn.data.store import FrameStore
from jinn.data.store_format import COLUMNS, Index, Layout


class JoinedStore(FrameStore):
    """The episodes of several stores, one store after the other, behind the interface of one.

    An episode whose group any of the stores holds out is held out: what one store keeps for measuring, another must not
    train on.

    Attributes:
        stores: The stores.
        weights: float64 fractions of the training clips that come from each store, None for as many as there are of
            each. Within a store all clips are equally likely.
        fit: Of the first store: theirs may differ where pictures had the right shape anyway.
        first_episodes: int64, number of the first episode of each store.
        agree_on_actions: Whether an action has the same name in all stores that have any.

    Raises:
        JinnError: The stores differ in size or rate.
    """

    def __init__(self, stores: Sequence[FrameStore], weights: Sequence[float] | None = None) -> None:
        first = stores[0]
        for other in stores[1:]:
            if (other.size_hw, other.fps) != (first.size_hw, first.fps):
                (height, width), fps = first.size_hw, first.fps
                raise JinnError(
                    f"{first.path} and {other.path} differ ({_in_words(first)}, {_in_words(other)}): make them alike "
                    f"with jinn data {other.path} --size {height} {width} --fps {fps:g} --out OTHER"
                )
        self.stores = tuple(stores)
        self.weights = None if weights is None else np.array(weights, np.float64) / math.fsum(weights)
        columns = {name: np.concatenate([store.index.columns[name] for store in stores]) for name in COLUMNS}
        offsets = np.cumsum([0, *(store.num_frames for store in stores)])[:-1]
        columns["start"] = columns["start"] + np.repeat(offsets, [store.num_episodes for store in stores])
        columns["heldout"] = np.isin(columns["group"], columns["group"][columns["heldout"]])
        names, *more = {store.action_names for store in stores if store.num_actions} or {None}
        num_actions = max((store.num_actions or 0 for store in stores), default=0) or None
        # Names that differ are those of different games: the same number then is another action in each.
        self.agree_on_actions = not more
        index = Index(columns, (), frozenset(), num_actions, None if more else names)
        layout = Layout(*first.size_hw, first.fps, sum(store.num_frames for store in stores) or 1, first.fit)
        super().__init__(Path(" and ".join(str(store.path) for store in stores)), layout, index)
        self.first_episodes = np.cumsum([0, *(store.num_episodes for store in stores)])[:-1]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The directories of the stores."""
        return tuple(store.path for store in self.stores)

    def view(self, episode: int, start: int, stop: int) -> np.ndarray:
        """See `FrameStore.view`."""
        self._range(episode, start, stop)
        store, own = self._locate(episode)
        return store.view(own, start, stop)

    def actions(self, episode: int, start: int, stop: int) -> np.ndarray | None:
        """See `FrameStore.actions`."""
        self._range(episode, start, stop)
        store, own = self._locate(episode)
        return store.actions(own, start, stop)

    def rewards(self, episode: int, start: int, stop: int) -> np.ndarray | None:
        """See `FrameStore.rewards`."""
        self._range(episode, start, stop)
        store, own = self._locate(episode)
        return store.rewards(own, start, stop)

    def source(self, episode: int) -> str:
        """See `FrameStore.source`."""
        store, own = self._locate(episode)
        return store.source(own)

    @property
    def pressed_actions(self) -> int:
        """See `FrameStore.pressed_actions`."""
        return max(store.pressed_actions for store in self.stores)

    def _locate(self, episode: int) -> tuple[FrameStore, int]:
        """The store of an episode, and the episode's number there."""
        number = int(np.searchsorted(self.first_episodes, episode, side="right")) - 1
        return self.stores[number], int(episode - self.first_episodes[number])


def open_stores(sources: Sequence[str]) -> FrameStore:
    """The store of one source, or several as one.

    Args:
        sources: Directories of stores, or each with its weight, such as ``stores/a=0.7``. Weights need not sum to 1.

    Raises:
        JinnError: There is no such store, stores differ, one is named twice, or only some have weights.
    """
    pairs = [_weighted(source) for source in sources]
    stores = [FrameStore.open(path) for path, _ in pairs]
    weights = [weight for _, weight in pairs if weight is not None]
    if len(stores) == 1:
        return stores[0]
    if weights and len(weights) < len(stores):
        raise JinnError("some stores have a weight and others have none: give all of them one, or none")
    if len({store.path.resolve() for store in stores}) < len(stores):
        raise JinnError("a store is named twice: name it once, and give it a larger weight")
    return JoinedStore(stores, weights or None)


def _weighted(source: str) -> tuple[Path, float | None]:
    path, equals, text = source.rpartition("=")
    if not equals or Path(source).expanduser().exists():
        return Path(source), None
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise JinnError(f"a weight is a number above zero, such as {path}=0.5, and not {text!r}")
    return Path(path), weight


def _in_words(store: FrameStore) -> str:
    return f"{store.size_hw[0]}x{store.size_hw[1]} at {store.fps:g} fps"
