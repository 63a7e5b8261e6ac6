"""Frame store -> clips: which clips, and their frames.

A run's n-th clip is a pure function of (seed, n), found by hashing n. So resuming needs one integer, and the
clips of a step are the same for any number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import JinnError, to_device
from jinn.data.store import FrameStore

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's increment, 2^64 divided by the golden ratio


class ClipSampler:
    """Samples clips of `frames` frames uniformly from all clips of a split; the seed is that of the run.

    Training clips of several stores with weights (`JoinedStore`) come from each of them as often as its weight says.

    Raises:
        JinnError: No episode of the split, or of a store with a weight, is long enough.
    """

    def __init__(self, store: FrameStore, frames: int, seed: int, split: str = "train") -> None:
        self.store, self.frames, self.seed = store, frames, seed
        self._episodes = _long_enough(store, frames, split)
        self._ends = np.cumsum(store.lengths[self._episodes] - frames + 1)
        self.num_clips = int(self._ends[-1])  # how many different ones there are
        self._weights = store.weights if split == "train" else None
        if self._weights is not None:
            firsts = np.searchsorted(self._episodes, store.first_episodes)
            self._begins = np.array([0, *self._ends])[firsts]  # number of the first clip of each store
            self._counts = np.diff([*self._begins, self.num_clips])
            for path, count in zip(store.paths, self._counts, strict=True):
                if not count:
                    raise JinnError(
                        f"{path} has no {split} episode of {frames} frames, as long as a clip: leave it out, use "
                        "shorter clips or add longer videos"
                    )

    def locate(self, numbers: range) -> tuple[np.ndarray, np.ndarray]:
        """Episode ids and first frames, int64 ``(B,)`` each, of the run's n-th clips for these n."""
        hashes = _hash(self.seed, numbers)
        # The remainder makes the first clips more likely by less than num_clips / 2^64, which is negligible.
        if self._weights is None:
            index = (hashes % np.uint64(self.num_clips)).astype(np.int64)
        else:
            limits = (np.cumsum(self._weights)[:-1] * 2.0**64).astype(np.uint64)
            part = np.searchsorted(limits, hashes, side="right")
            # The hash says which store; hashed again, it says which of that store's clips.
            index = self._begins[part] + (_mix(hashes) % self._counts[part].astype(np.uint64)).astype(
                np.int64
            )
        row = np.searchsorted(self._ends, index, side="right")
        starts = index - np.where(row > 0, self._ends[row - 1], 0)
        return self._episodes[row], starts

    def firsts(self, numbers: range, starts: np.ndarray) -> np.ndarray:
        """A frame up to which the past of each clip goes back, int64 ``(B,)``: for half of the clips their own start,
        for the others any frame of the episode up to it."""
        shares = _hash(self.seed, numbers, stream=1) / 2.0**64
        return starts - (np.maximum(2 * shares - 1, 0) * (starts + 1)).astype(np.int64)

    def batch(self, step: int, batch: int) -> Tensor:
        """uint8 ``frames_BTHWC`` of the clips of a step."""
        return read_clips(self.store, *self.locate(range(step * batch, (step + 1) * batch)), self.frames)


def evenly_spaced_clips(
    store: FrameStore, frames: int, split: str | np.ndarray = "heldout", limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Episode ids and first frames, int64 ``(B,)`` each, of clips for evaluation: the same ones every time.

    Each episode of the split (its name, or ids of episodes) is cut into clips of `frames` frames from its first frame
    on, without overlap; at most `limit` evenly spaced ones of them are returned.

    Raises:
        JinnError: No episode of the split is long enough.
    """
    episodes = _long_enough(store, frames, split)
    counts = store.lengths[episodes] // frames
    ends = np.cumsum(counts)
    total = int(ends[-1])
    kept = total if limit is None else min(limit, total)
    clips = (2 * np.arange(kept) + 1) * total // (2 * kept)  # the middle of each of `kept` equal parts
    rows = np.searchsorted(ends, clips, side="right")
    return episodes[rows], (clips - (ends - counts)[rows]) * frames


class Batch(NamedTuple):
    """Clips, and what was really done in them, which only a training of known actions reads.

    Attributes:
        frames_BTHWC: uint8.
        actions_BTm1: int64 true actions, -1 where they are unknown.
        first_BHWC: uint8, a frame of the same video from before the clip, or its own first one (`ClipSampler.firsts`).
            Only dynamics whose first frame stays in the window read it.
    """

    frames_BTHWC: Tensor
    actions_BTm1: Tensor
    first_BHWC: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with both tensors changed in the same way: copied to a device, or cut into parts."""
        return Batch(*map(change, self))


def read_clips(store: FrameStore, episodes: np.ndarray, starts: np.ndarray, frames: int) -> Tensor:
    """uint8 ``frames_BTHWC`` of the clips that start at these frames of these episodes."""
    places = zip(episodes, starts, strict=True)
    return torch.from_numpy(np.stack([store.view(episode, t, t + frames) for episode, t in places]))


def load_frames(store: FrameStore, device: torch.device, chunk: int = 4096) -> Tensor:
    """All frames of a store as one uint8 tensor ``FHWC`` on a device, copied ``chunk`` frames at a time."""
    frames_FHWC = torch.empty((store.num_frames, *store.size_hw, 3), dtype=torch.uint8, device=device)
    for episode, (start, length) in enumerate(zip(store.starts, store.lengths, strict=True)):
        for t in range(0, int(length), chunk):
            part = store.frames(episode, t, min(t + chunk, int(length)))
            frames_FHWC[start + t : start + t + len(part)] = torch.from_numpy(part)
    return frames_FHWC


def gather_clips(
    frames_FHWC: Tensor, store: FrameStore, episodes: np.ndarray, starts: np.ndarray, frames: int
) -> Tensor:
    """The clips of `read_clips`, taken from the frames of `load_frames` on their device."""
    first_B = torch.from_numpy(store.starts[episodes] + starts)
    indices_BT = first_B[:, None] + torch.arange(frames)
    return frames_FHWC[to_device(indices_BT, frames_FHWC.device)]


def clip_generators(seed: int, numbers: range) -> list[torch.Generator]:
    """A random generator on the CPU for each of the run's n-th clips, for these n."""
    # The inverted seed makes the generators independent of where the clips are.
    hashes = _hash(~seed, numbers) >> np.uint64(1)
    return [torch.Generator().manual_seed(int(value)) for value in hashes]


def read_actions(store: FrameStore, episodes: np.ndarray, starts: np.ndarray, frames: int) -> Tensor:
    """int64 true ``actions_BTm1`` of the clips of `read_clips`, -1 in episodes that have none."""
    actions_BTm1 = np.full((len(episodes), frames - 1), -1)
    for row_Tm1, episode, t in zip(actions_BTm1, episodes, starts, strict=True):
        if (known_Tm1 := store.actions(episode, t, t + frames - 1)) is not None:
            row_Tm1[:] = known_Tm1
    return torch.from_numpy(actions_BTm1)


def _long_enough(store: FrameStore, frames: int, split: str | np.ndarray) -> np.ndarray:
    episodes = store.select(split) if isinstance(split, str) else split
    if not len(episodes):
        raise JinnError(
            f"{store.path} has no episodes in its {split} split: add more videos or levels "
            "(from four on, one is always held out)"
        )
    lengths = store.lengths[episodes]
    if lengths.max() < frames:
        raise JinnError(
            f"a clip has {frames} frames but the longest episode of {store.path} ({split}) has "
            f"{lengths.max()}: use shorter clips or longer videos"
        )
    return episodes[lengths >= frames]


def _hash(seed: int, numbers: range, stream: int = 0) -> np.ndarray:
    """A uniform uint64 for each number: splitmix64 (Steele et al. 2014) as a counter-based generator.

    Another ``stream`` gives other values for the same numbers.
    """
    with np.errstate(over="ignore"):
        key = _mix(np.array([seed], np.int64).view(np.uint64) + _GOLDEN)
        for _ in range(stream):
            key = _mix(key + _GOLDEN)
        return _mix(key + (np.array(numbers, np.uint64) + np.uint64(1)) * _GOLDEN)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
