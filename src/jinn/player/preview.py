"""Pictures of a published site: its icon, and the one that previews of links show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from jinn.player.pictures import to_png

GROUND, LAMP = (18, 20, 27), (242, 179, 61)
# The lamp of the page's icon, a letter a pixel.
ICON = ("........", ".....#..", "....#...", ".....#..", ".#####..", "..####..", "...##...", "........")
PREVIEW_HW = 630, 1200  # what most services crop to
MOST = 3  # worlds in the preview


def draw_icon(side: int) -> bytes:
    """The icon as a PNG. The lamp leaves enough room for icons that are cut to a circle."""
    drawn_HW = np.array([[letter == "#" for letter in row] for row in ICON])
    icon_HWC = np.where(drawn_HW[..., None], LAMP, GROUND).astype(np.uint8)
    size = side // 12 * 8
    picture = Image.new("RGB", (side, side), GROUND)
    enlarged = Image.fromarray(icon_HWC).resize((size, size), Image.Resampling.NEAREST)
    picture.paste(enlarged, ((side - size) // 2, (side - size) // 2))
    return to_png(np.asarray(picture))


def draw_preview(frames: Sequence[np.ndarray]) -> bytes:
    """Some worlds side by side, each pixel a square, as a PNG."""
    height, width = PREVIEW_HW
    picture = Image.new("RGB", (width, height), GROUND)
    shown = frames[:MOST]
    room = (width - 40) // len(shown) - 20
    for i, frame_HWC in enumerate(shown):
        scale = max(1, min(room // frame_HWC.shape[1], (height - 60) // frame_HWC.shape[0]))
        image = Image.fromarray(frame_HWC)
        enlarged = image.resize((scale * image.width, scale * image.height), Image.Resampling.NEAREST)
        middle = (2 * i + 1) * width // (2 * len(shown))
        picture.paste(enlarged, (middle - enlarged.width // 2, (height - enlarged.height) // 2))
    return to_png(np.asarray(picture))
