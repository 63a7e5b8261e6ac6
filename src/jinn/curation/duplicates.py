"""Which clips show the same, although their bytes differ: encoded anew, at another size, or in another film.

As `jinn.data.copies`, this looks at what changes in time: films of one game have the same background, and only what
moves in them differs. A hash makes it possible among millions of clips: its bits are the signs of random projections
of the change (Charikar, 2002), so that clips differ in as large a fraction of the bits as the angle between them is of
half a turn. Copies whose begins differ by a tenth of a second are found, by half a second they are not: clips begin at
cuts, and so do those of a copy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from jinn.data.copies import GRID
from jinn.data.images import resize

TIMES = 16  # mean pictures of a clip that are hashed
BITS = 256
BAND = 16  # bits; clips are compared where one band of theirs is the same
ALIKE = 0.15  # fraction of the bits in which copies may differ; what has nothing in common differs in a half


def clip_hash(frames_THWC: np.ndarray) -> str:
    """The hash of a clip (uint8, at least `TIMES` frames) as 64 hexadecimal digits."""
    small_THWC = resize(frames_THWC, (GRID, GRID), "stretch").astype(np.float32)
    edges = np.arange(TIMES) * len(small_THWC) // TIMES
    means_TX = np.add.reduceat(small_THWC, edges).reshape(TIMES, -1)
    means_TX /= np.diff([*edges.tolist(), len(small_THWC)])[:, None]
    change_X = (means_TX - means_TX.mean(0)).reshape(-1)
    return np.packbits(_projections(change_X.size) @ change_X > 0).tobytes().hex()


def find_duplicates(hashes: Sequence[str]) -> dict[int, int]:
    """The numbers of clips that show the same as an earlier one that is none, and that one's.

    Args:
        hashes: Of `clip_hash`, in the order of who comes first.
    """
    found: dict[int, int] = {}
    values = [int(text, 16) for text in hashes]
    bands: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, value in enumerate(values):
        keys = [(at, value >> at & (1 << BAND) - 1) for at in range(0, BITS, BAND)]
        near = sorted({other for key in keys for other in bands.get(key, ())})
        alike = [other for other in near if (values[other] ^ value).bit_count() <= ALIKE * BITS]
        if alike:
            found[number] = alike[0]
        else:
            for key in keys:
                bands[key].append(number)
    return found


@lru_cache(maxsize=1)
def _projections(length: int) -> np.ndarray:
    """float32 ``(BITS, length)``."""
    return np.random.default_rng(0).standard_normal((BITS, length)).astype(np.float32)
