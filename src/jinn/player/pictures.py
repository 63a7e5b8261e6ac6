"""Pictures in and out: uploads to frames of the world, frames to a PNG and a palette."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from jinn.data.images import Fit, resize
from jinn.errors import JinnError
from jinn.player.protocol import DEFAULT_LIMITS, Limits

# Formats that people have at hand; fewer decoders, less for a crafted file to attack.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
BAND = 256  # rows of a picture that are converted at a time


def read_picture(data: bytes, size_hw: tuple[int, int] | None) -> np.ndarray:
    """The (first) frame of `read_pictures`, uint8 (H, W, 3); None leaves its size as it is."""
    return read_pictures(data, size_hw, 1, 1.0)[0]


def read_pictures(
    data: bytes,
    size_hw: tuple[int, int] | None,
    max_frames: int,
    fps: float,
    fit: Fit = "crop",
    limits: Limits = DEFAULT_LIMITS,
) -> np.ndarray:
    """Decode an untrusted picture or animation (see `FORMATS`) to uint8 ``frames_THWC`` of the world's size.

    Rotation noted by the camera is honoured and transparency is laid over white; `resize` does the rest, so that
    an enlarged screenshot of a game comes back as its own pixels. An animation is sampled at a rate of `fps`, and its
    last `max_frames` are returned; a `max_frames` of 1 returns its first frame. Sizes are checked before a frame is
    decoded; `jinn.player.decoders` limits time and memory.

    Raises:
        JinnError: the file is too large for the limits, is not a picture, or is incomplete.
    """
    if len(data) > limits.max_upload_bytes:
        raise JinnError(
            f"the picture has {len(data) / 2**20:.1f} MB and at most {limits.max_upload_bytes // 2**20} MB "
            "are accepted: save it smaller"
        )
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)  # reads the header only
    except Image.DecompressionBombError:
        raise _too_many_pixels(limits) from None
    except Exception:
        raise JinnError(
            "this is not a picture that jinn can read: use a PNG, JPEG, WebP, GIF or BMP"
        ) from None
    if image.width * image.height > limits.max_picture_pixels:
        raise _too_many_pixels(limits)
    try:
        count = getattr(image, "n_frames", 1) if max_frames > 1 else 1
    except Exception:
        count = 1  # damaged behind its first frame
    pixels = image.width * image.height * count
    if count > limits.max_animation_frames or pixels > limits.max_picture_pixels:
        raise JinnError(f"the animation has {count} frames, too many for its size: shorten or shrink it")
    try:
        if count == 1:
            return fit_picture(image, size_hw, fit)[None]
        return np.stack(_sample_animation(image, count, size_hw, fps, fit, limits)[-max_frames:])
    except (JinnError, Image.DecompressionBombError):  # a frame behind the first is too large
        raise _too_many_pixels(limits) from None
    except MemoryError:
        raise JinnError("the picture takes too much memory to decode: save it smaller") from None
    except Exception:  # decoders raise a dozen types for a damaged file
        raise JinnError("the picture is damaged or incomplete: save it again or choose another") from None


def _too_many_pixels(limits: Limits) -> JinnError:
    most = limits.max_picture_pixels // 10**6
    return JinnError(f"the picture has more than {most} million pixels: save it smaller")


def _sample_animation(
    image: Image.Image, count: int, size_hw: tuple[int, int] | None, fps: float, fit: Fit, limits: Limits
) -> list[np.ndarray]:
    """The frames of an animation that are on the screen at a constant frame rate."""
    frames: list[np.ndarray] = []
    seconds, pixels = 0.0, 0
    for index in range(count):
        image.seek(index)
        pixels += image.width * image.height  # a GIF may grow from frame to frame
        if pixels > limits.max_picture_pixels:
            raise _too_many_pixels(limits)
        seconds += max(image.info.get("duration", 0), 20) / 1000  # as browsers do: no frame is shorter
        if seconds * fps >= len(frames) + 1 or index == 0:
            frame_HWC = fit_picture(image.copy(), size_hw, fit)
            frames += [frame_HWC] * min(max(1, int(seconds * fps) - len(frames)), 1000)
    return frames


def palette(frames_PHWC: np.ndarray, colours: int = 16) -> list[str]:
    """At most `colours` main colours ("#rrggbb") of a world's uint8 frames, dark to light, for sketches of it.

    Of its common colours those that differ most are taken: a coin is small, yet has a colour of its own.
    """
    pixels_XC = frames_PHWC.reshape(-1, 3)
    _, inverse_X, counts_U = np.unique(pixels_XC // 16, axis=0, return_inverse=True, return_counts=True)
    sums_UC = np.stack([np.bincount(inverse_X.ravel(), pixels_XC[:, c]) for c in range(3)], -1)
    found_UC, weight_U = sums_UC / counts_U[:, None], counts_U**0.25
    chosen = [int(counts_U.argmax())]
    for _ in range(min(colours, len(found_UC)) - 1):
        apart_U = np.linalg.norm(found_UC[:, None] - found_UC[chosen], axis=-1).min(1)
        chosen.append(int((apart_U * weight_U).argmax()))
    chosen.sort(key=lambda u: float(found_UC[u] @ (0.299, 0.587, 0.114)))
    return ["#{:02x}{:02x}{:02x}".format(*found_UC[u].round().astype(int)) for u in chosen]


def fit_picture(image: Image.Image, size_hw: tuple[int, int] | None, fit: Fit = "crop") -> np.ndarray:
    """An image as a uint8 (H, W, 3) frame of the given size, which None leaves as it is."""
    if size_hw is not None:  # JPEG only: decode at a fraction of the size, never below twice what is needed
        image.draft("RGB", (2 * max(size_hw), 2 * max(size_hw)))
    ImageOps.exif_transpose(image, in_place=True)
    image.load()
    width, height = image.size
    # 16 bits a pixel: convert() would clip, not scale.
    brightest = np.asarray(image).max() if image.mode.startswith("I") else None
    pixels_HWC = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, BAND):  # conversions of the whole picture would take several times its memory
        band = image.crop((0, top, width, min(top + BAND, height)))
        if brightest is not None:
            most = 65535 if brightest > 255 else 255
            grey = np.asarray(band).clip(0, most).astype(np.uint32)
            band = Image.fromarray((grey * 255 // most).astype(np.uint8))
        if band.has_transparency_data:
            band = band.convert("RGBA")
            band = Image.alpha_composite(Image.new("RGBA", band.size, "white"), band)
        pixels_HWC[top : top + BAND] = np.asarray(band.convert("RGB"))
    return pixels_HWC if size_hw is None else resize(pixels_HWC[None], size_hw, fit)[0]


def to_png(frame_HWC: np.ndarray) -> bytes:
    """A uint8 (H, W, 3) frame as PNG: lossless, and 0.06 ms at 64 x 64."""
    file = io.BytesIO()
    Image.fromarray(frame_HWC).save(file, "PNG", compress_level=1)
    return file.getvalue()
