"""Reading and writing files: JSON, text, safetensors, and config dataclasses as JSON. Nothing is unpickled.

Files are written under a temporary name, flushed, and renamed: a reader sees the old one or the new one, never half.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from jinn.contracts import JinnError

T = TypeVar("T")


def to_dict(config: Any) -> Any:
    """A (nested) config dataclass as plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(kind: type[T], values: Any, where: str = "config") -> T:
    """JSON values back to a config dataclass; unknown and missing keys are a `JinnError`.

    A union of dataclasses is told apart by its field names.
    """
    keys = set(values) if isinstance(values, dict) else {str(values)}
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        for option in typing.get_args(kind):
            if dataclasses.is_dataclass(option):
                fits = keys == set(typing.get_type_hints(option))
            else:
                fits = (option is type(None)) == (values is None)
            if fits:
                return from_dict(option, values, where)
        raise JinnError(f"{where}: no known config has the keys {sorted(keys)}")
    if origin is tuple:
        return cast(T, tuple(values))
    if not dataclasses.is_dataclass(kind):
        return cast(T, values)
    fields = typing.get_type_hints(kind)
    if unknown := keys - set(fields):
        raise JinnError(f"{where}: unknown keys {sorted(unknown)}; {kind.__name__} has {sorted(fields)}")
    if missing := set(fields) - keys:
        raise JinnError(f"{where}: {kind.__name__} lacks the keys {sorted(missing)}")
    return kind(**{key: from_dict(fields[key], values[key], f"{where}.{key}") for key in values})


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which then takes the place of ``path``; the file is on the disk after that."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    yield temporary
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if os.name == "posix":  # the new name itself must reach the disk, too
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """Write a file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, values: Any) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(values, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or damaged file is a `JinnError`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JinnError(f"there is no {path}: is this the folder of a jinn world or run?") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise JinnError(f"{path} is damaged ({error}): restore it or train again") from None


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write safetensors atomically, from any device."""
    with replacing(path) as temporary:
        save_file({key: value.detach().contiguous().cpu() for key, value in tensors.items()}, temporary)
        temporary.chmod(0o644)  # safetensors makes files that nobody else may read


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors: one file, or shards beside a ``*.index.json`` as on the Hugging Face hub."""
    index = path.with_name(path.name + ".index.json")
    try:
        if path.exists():
            return load_file(path)
        if index.exists():
            tensors: dict[str, Tensor] = {}
            for name in sorted(set(read_json(index)["weight_map"].values())):
                # A shard's name comes from a file: it must stay inside the folder.
                tensors.update(load_file(path.parent / Path(name).name))
            return tensors
    except (SafetensorError, OSError, KeyError) as error:
        raise JinnError(f"{path} is damaged ({error}): restore it or train again") from None
    raise JinnError(f"there are no weights at {path}: train first, or name another folder")


def load_weights(module: torch.nn.Module, tensors: dict[str, Tensor], where: Path) -> None:
    """Put weights into a module; `JinnError` unless each name and shape fits."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise JinnError(f"the weights in {where} do not fit their config.json: {first}") from None


def weights_hash(*modules: torch.nn.Module) -> str:
    """SHA-256 of all weights and their names: modules with the same one compute the same."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_function(location: str) -> Callable[..., Any]:
    """The function at ``FILE.py:FUNCTION``, or `JinnError`. The file is run anew each time."""
    file, _, name = location.rpartition(":")
    path = Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise JinnError(f"there is no file {file!r}: name a function as FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise JinnError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise JinnError(f"{path} has no function {name!r}: define it, or name another one")
    return cast(Callable[..., Any], function)


def cache_folder() -> Path:
    """The folder for what can be made again, such as features of real clips: JINN_CACHE, or in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("JINN_CACHE") or Path(home) / "jinn")
