"""Reading and writing files: JSON, text, safetensors, and config dataclasses as JSON. Nothing is unpickled.

Files are written under a temporary name, flushed, and renamed: a reader sees the old one or the new one, never half.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from jinn.contracts import JinnError

T = TypeVar("T")

TEMPORARY = ".jinn.tmp"  # how the names of temporary folders end
LOCK = "lock"  # the file in them that is locked


def to_dict(config: Any) -> Any:
    """A (nested) config dataclass as plain JSON values."""
    return dataclasses.asdict(config)


# What values of these types are called in messages.
KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def from_dict(kind: type[T], values: Any, where: str = "config") -> T:
    """JSON values as the value of a type: of a config dataclass, or of what its fields hold.

    A union of dataclasses is told apart by its field names.

    Raises:
        JinnError: a key is unknown or missing, or a value is not of its type.
        ValueError: the values of a dataclass do not go together.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return cast(T, from_dict(_option(arguments, values, where), values, where))
    if origin is tuple and isinstance(values, list | tuple):
        kinds = arguments[:1] * len(values) if arguments[-1] is ... else arguments
        if len(kinds) == len(values):
            items = zip(kinds, values, strict=True)
            return cast(T, tuple(from_dict(*item, f"{where}[{i}]") for i, item in enumerate(items)))
    if not (dataclasses.is_dataclass(kind) and isinstance(values, dict)):
        if _is_a(kind, values):
            return cast(T, values)
        name = KINDS.get(kind) or (str(kind) if origin else kind.__name__)
        raise JinnError(f"{where} is damaged: {json.dumps(values)[:40]} is not {name}")
    fields, keys = typing.get_type_hints(kind), set(values)
    if unknown := keys - set(fields):
        raise JinnError(f"{where}: unknown keys {sorted(unknown)}; {kind.__name__} has {sorted(fields)}")
    if missing := set(fields) - keys:
        raise JinnError(f"{where}: {kind.__name__} lacks the keys {sorted(missing)}")
    return kind(**{key: from_dict(fields[key], values[key], f"{where}.{key}") for key in values})


def _option(options: tuple[Any, ...], values: Any, where: str) -> Any:
    """The type of a union that values belong to."""
    if not isinstance(values, dict):
        return next((option for option in options if _is_a(option, values)), options[0])
    for option in options:
        if typing.get_origin(option) is dict or (
            dataclasses.is_dataclass(option) and set(values) == set(typing.get_type_hints(option))
        ):
            return option
    raise JinnError(f"{where}: no known config has the keys {sorted(values)}")


def _is_a(kind: Any, value: Any) -> bool:
    """Whether a plain JSON value is of a type; true is no number, and a number is finite."""
    if typing.get_origin(kind) is typing.Literal:
        return value in typing.get_args(kind)
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return kind is Any or type(value) is (typing.get_origin(kind) or kind)


def read_config(kind: type[T], path: Path, values: Any, advice: str = "restore it or train again") -> T:
    """`from_dict` of the values in a file; what is wrong with them is a `JinnError` with the file and the advice."""
    try:
        return from_dict(kind, values, str(path))
    except JinnError as error:
        raise JinnError(f"{error}: {advice}") from None
    except (ValueError, ArithmeticError) as error:
        raise JinnError(f"{path} is damaged ({error}): {advice}") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which then takes the place of ``path``; the file is on the disk after that.

    An `OSError` on the way names ``path``, and the old file stays.
    """
    with named(path):
        with temporary_folder(f".{path.name}", path.parent) as folder:
            yield folder / path.name
            with (folder / path.name).open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(folder / path.name, path)
        sync_names(path.parent)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors of the operating system name this path, and no temporary one or none at all."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def sync_names(folder: Path) -> None:
    """Put the names of a folder's files on the disk: what was renamed has its new name after a power failure."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        os.fsync(opened)
        os.close(opened)


@contextmanager
def temporary_folder(name: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder for temporary files, by default in the system's place for them. It is removed in the end.

    A process that is killed leaves its folders behind, but no longer holds their locks: the next one that needs a
    folder at the same place removes them.
    """
    parent = parent or Path(tempfile.gettempdir())
    remove_left(parent)
    lock: IO[bytes] | None = None
    while True:
        folder = Path(tempfile.mkdtemp(TEMPORARY, f"{name}.", parent))
        try:
            lock = locked(folder / LOCK, "")
        except (JinnError, FileNotFoundError):
            continue  # another process took it for a left one just now
        except OSError:
            pass  # not every file system has locks
        break
    try:
        yield folder
    finally:
        if lock is not None:
            lock.close()
        shutil.rmtree(folder, ignore_errors=True)


def remove_left(parent: Path) -> None:
    """Remove the temporary folders at a place that killed processes left."""
    for left in parent.glob(f"*{TEMPORARY}"):
        with suppress(OSError, JinnError):  # it is in use, or somebody else's
            locked(left / LOCK, "").close()
            shutil.rmtree(left, ignore_errors=True)


def check_writable(folder: Path) -> None:
    """Raise `OSError` now, and not after hours of work, if nothing can be written into a folder. It is not made yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    with named(folder), temporary_folder(".test", there):
        pass


def locked(path: Path, sentence: str) -> IO[bytes]:
    """Hold a lock file until it is closed or the process ends, however it does.

    Raises `JinnError` with the sentence if another process holds it.
    """
    file = path.open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)  # the byte that is locked is the one at the file's position
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if isinstance(error, BlockingIOError | PermissionError):  # on Unix, on Windows
            raise JinnError(sentence) from None
        raise
    return file


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
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or far too deep
        raise JinnError(f"{path} is damaged ({error}): restore it or train again") from None


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write safetensors atomically, from any device."""
    with replacing(path) as temporary:
        try:
            save_file({key: value.detach().contiguous().cpu() for key, value in tensors.items()}, temporary)
        except SafetensorError as error:
            raise system_error(error) or error from None
        temporary.chmod(0o644)  # safetensors makes files that nobody else may read


def system_error(error: SafetensorError) -> OSError | None:
    """The error of the operating system that one of safetensors tells in its text, if it does."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else None


def tensor_files(path: Path) -> list[Path]:
    """The files of safetensors: the one, or the shards that a ``*.index.json`` beside it names as on the Hugging Face
    hub; none if there are neither. A damaged index is a `JinnError`."""
    index = path.with_name(path.name + ".index.json")
    if path.exists() or not index.exists():
        return [path] if path.exists() else []
    try:
        # A shard's name comes from a file: it must stay inside the folder.
        return [
            path.parent / Path(name).name for name in sorted(set(read_json(index)["weight_map"].values()))
        ]
    except (TypeError, KeyError, AttributeError):
        raise JinnError(f"{index} is damaged: it has no weight_map; restore it or train again") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors: one file or its shards, see `tensor_files`."""
    tensors: dict[str, Tensor] = {}
    for file in tensor_files(path):
        try:
            tensors.update(load_file(file))
        except (SafetensorError, OSError) as error:
            raise JinnError(f"{file} is damaged ({error}): restore it or train again") from None
    if not tensors:
        raise JinnError(f"there are no weights at {path}: train first, or name another folder")
    return tensors


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


# The numbers of what a user mends by making room, and by another place.
NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def what_to_do(error: OSError) -> str:
    """An error of the operating system as a sentence that says what to do about it."""
    place, why = error.filename, error.strerror or str(error)
    if error.errno in NO_ROOM:
        where = f"for {place}" if place else "on the disk"
        return f"there is no room {where} ({why}): make room, and give the same command again"
    if error.errno in FORBIDDEN and place:
        another = "name another place"
        if Path(place).is_relative_to(cache_folder()):
            another = "set JINN_CACHE to another folder"
        elif TEMPORARY in place:
            another = "set TMPDIR to another folder"
        return f"{place} may not be read or written ({why}): allow it, or {another}"
    return f"{place}: {why}" if place else why
