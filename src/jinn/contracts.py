"""What the parts of jinn agree on: axes, pixels, and the one protocol between them.

Axes, used as suffixes of tensor names everywhere in the package:

    B  batch            H W C  pixels of a frame (height, width, RGB)
    T  frames (time)    N      tokens of one frame, row by row
    A  latent actions   K      codebook size of the tokenizer
    D  model width      F      logits of one token: the sum of the levels of its digits
    L  layers           Q      digits of one token (one for a VQ, one per dimension for an FSQ)

``frames_BTHWC`` is five-dimensional, ``actions_BTm1`` holds one action for each pair of neighbouring
frames: ``actions_BTm1[:, t]`` leads from frame ``t`` to frame ``t + 1``.

Pixels are uint8 RGB at every public boundary. `to_float` and `to_uint8` are the only two functions in
the package that scale them.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from jinn.errors import JinnError as JinnError

# The randomness of a training batch: one generator on the CPU for each clip, so that what is sampled for a
# clip does not depend on the clips that share its batch, its rank or its device.
Generators = Sequence[torch.Generator]


def uniform(generators: Generators, *shape: int) -> Tensor:
    """Uniform numbers in [0, 1), float32 ``(B, *shape)`` on the CPU, each row from the generator of its clip."""
    return torch.stack([torch.rand(shape, generator=generator) for generator in generators])


class Tokenizer(Protocol):
    """Turns frames into tokens and back: all that the dynamics and the world know of a tokenizer.

    Attributes:
        codebook_size: K; tokens lie in ``[0, K)``.
        levels: of the digits of a token, whose product is K; ``(K,)`` if a token is one number.
        grid_hw: rows and columns of tokens; ``N = rows * columns``.
    """

    codebook_size: int
    levels: tuple[int, ...]
    grid_hw: tuple[int, int]

    def encode(self, frames_BTHWC: Tensor) -> Tensor:
        """uint8 frames -> int64 ``tokens_BTN``. Frame t's tokens depend on frames 0..t only."""
        ...

    def decode(self, tokens_BTN: Tensor) -> Tensor:
        """int64 tokens -> uint8 ``frames_BTHWC``. Frame t depends on the tokens of 0..t only."""
        ...


def to_float(frames: Tensor) -> Tensor:
    """uint8 pixels in 0..255 to float32 in [0, 1], any shape."""
    if frames.dtype != torch.uint8:
        raise ValueError(f"pixels are uint8 at every public boundary, got {frames.dtype}")
    return frames.to(torch.float32).div_(255.0)


def to_uint8(pixels: Tensor) -> Tensor:
    """Float pixels, nominally in [0, 1] and clamped to it, to the nearest uint8, any shape."""
    return pixels.float().clamp(0.0, 1.0).mul(255.0).round_().to(torch.uint8)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy from the host to a device without making the host wait for the work queued on the GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()  # from ordinary memory CUDA copies only once the GPU is idle
    return tensor.to(device, non_blocking=True)


def find_device(name: torch.device | str) -> torch.device:
    """The device of a name such as cpu, cuda or cuda:1; raises `JinnError` if this machine cannot compute on it."""
    try:
        device = torch.device(name)
        # A driver, the GPU of this number or its kernels may be missing. Models compute angles in float64, which
        # Apple's MPS has not.
        (torch.zeros(1, dtype=torch.float64, device=device) + 1).item()
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        why = shorten(str(error), 100)
        raise JinnError(
            f"there is no device {str(name)!r} here ({why}): choose one of {', '.join(here)}"
        ) from None
    return device


def check_frames(frames_BTHWC: Tensor, size_hw: tuple[int, int] | None = None) -> None:
    """Raise `JinnError` unless the argument is uint8 BTHWC RGB (and of the given height and width)."""
    is_tensor = isinstance(frames_BTHWC, Tensor) and frames_BTHWC.dtype == torch.uint8
    if not is_tensor or frames_BTHWC.ndim != 5 or frames_BTHWC.shape[-1] != 3:
        raise JinnError(
            "frames must be a uint8 tensor or array of shape (batch, time, height, width, 3), "
            f"got {describe(frames_BTHWC)}"
        )
    if size_hw is not None and tuple(frames_BTHWC.shape[2:4]) != tuple(size_hw):
        got = "x".join(map(str, frames_BTHWC.shape[2:4]))
        want = "x".join(map(str, size_hw))
        raise JinnError(f"frames are {got} but this model was trained on {want}: resize them first")


def as_frames(frames_BTHWC: Tensor | np.ndarray, size_hw: tuple[int, int] | None = None) -> Tensor:
    """A tensor or an array of frames as a tensor; see `check_frames`. An array is copied."""
    if isinstance(frames_BTHWC, np.ndarray) and frames_BTHWC.dtype == np.uint8:
        frames_BTHWC = torch.from_numpy(frames_BTHWC.copy())
    check_frames(frames_BTHWC, size_hw)  # type: ignore[arg-type]
    return frames_BTHWC  # type: ignore[return-value]


def as_integers(values: Any) -> Tensor | None:
    """Integers (a number, a sequence, an array, a tensor) as int64; None if they are anything else, bools too."""
    if isinstance(values, Tensor):
        dtype = values.dtype
        is_integer = not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)
        return values.long() if is_integer else None
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # rows of several lengths, tensors on a GPU
        return None
    return torch.from_numpy(array.astype(np.int64)) if array.dtype.kind in "iu" else None


def as_actions(actions: Any, shape: tuple[int, ...], num_actions: int) -> Tensor:
    """Actions as int64 of a shape. A shape of one axis takes any other with as many numbers, such as one number.

    Raises:
        JinnError: they are no integers, not as many, or not in [0, num_actions).
    """
    found = as_integers(actions)
    if found is not None and len(shape) == 1 and found.numel() == shape[0]:
        found = found.reshape(shape)
    if found is None or tuple(found.shape) != shape or not ((found >= 0) & (found < num_actions)).all():
        raise JinnError(
            f"actions are integers from 0 to {num_actions - 1} of shape {shape}, got {describe(actions)}"
        )
    return found


def as_seeds(seed: Any, rollouts: int) -> Tensor:
    """Seeds as int64 on the CPU, one for each roll-out: from one number row b gets ``seed + b``.

    Raises:
        JinnError: they are no integers, or not as many.
    """
    found = as_integers(seed)
    if found is not None and not found.ndim:
        found = found.cpu() + torch.arange(rollouts)
    if found is None or found.shape != (rollouts,):
        raise JinnError(
            f"a seed is an integer, or one for each of {rollouts} roll-outs: got {describe(seed)}"
        )
    return found.cpu()


def check_name(name: str) -> None:
    """Raise `JinnError` unless a name can be sent to a page: JSON may hold halves of characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise JinnError(f"the name {name!r} holds half a character") from None


def describe(value: Any) -> str:
    """A wrong value in a message: its type and shape, or the value itself if it is short."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim:
        few = f": {value.tolist()}" if value.ndim == 1 and len(value) <= 8 else ""
        return f"{value.dtype} of shape {tuple(value.shape)}{few}"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
