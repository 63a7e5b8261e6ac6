"""Change values of nested config dataclasses by ``PATH=VALUE``, such as ``dynamics.transformer.layers=6``."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar

from jinn.contracts import JinnError
from jinn.files import KINDS, from_dict, to_dict

T = TypeVar("T")


def override(config: T, pairs: Sequence[str]) -> T:
    """A config with other values. All of them are set before the config is checked.

    Args:
        config: a dataclass of values and of other dataclasses.
        pairs: ``PATH=VALUE``; names are joined by dots. A value is read as its field's type: items of a tuple
            are separated by commas, and ``none`` is None where the field may be None.

    Raises:
        JinnError: there is no such field, a value is not of its type, or the new config is impossible.
    """
    values = to_dict(config)
    for pair in pairs:
        path, equals, text = pair.partition("=")
        if not equals:
            raise JinnError(
                f"--set takes PATH=VALUE, such as dynamics.transformer.layers=6, and not {pair!r}"
            )
        _set(config, values, path, text)
    try:
        return from_dict(type(config), values)
    except JinnError:
        raise
    except ValueError as error:
        raise JinnError(f"--set {' '.join(pairs)} is impossible: {error}") from None


def _set(config: Any, values: dict[str, Any], path: str, text: str) -> None:
    """Set one value in the nested ``values`` of ``config``."""
    kinds = dict(_kinds(config))
    *groups, name = path.split(".")
    if groups and values.get(groups[0], values) is None:
        raise JinnError(f"this recipe has no {groups[0]}, so {path} cannot be set")
    if path not in kinds:
        (nearest,) = difflib.get_close_matches(path, kinds, 1, cutoff=0)
        raise JinnError(f"there is no value {path}: the nearest one is {nearest}")
    for group in groups:
        values = values[group]
    try:
        values[name] = _parse(text, kinds[path])
    except (ValueError, KeyError):
        raise JinnError(f"{path} is {_describe(kinds[path])}, and not {text!r}") from None


def _kinds(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The path and the type of each value, and of each group of values."""
    if dataclasses.is_dataclass(config):
        for name, kind in typing.get_type_hints(type(config)).items():
            yield prefix + name, kind
            yield from _kinds(getattr(config, name), f"{prefix}{name}.")


def _parse(text: str, kind: Any) -> Any:
    """A text as a value of a type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if text == "none" and type(None) in arguments:
            return None
        (kind,) = [argument for argument in arguments if argument in KINDS]  # one at most, else a ValueError
        return _parse(text, kind)
    if origin is Literal:
        return {str(argument): argument for argument in arguments}[text]
    if origin is tuple:
        items = text.split(",")
        kinds = arguments[:1] * len(items) if arguments[-1] is ... else arguments
        return tuple(_parse(item, kind) for item, kind in zip(items, kinds, strict=True))
    if kind is bool:
        return {"true": True, "false": False}[text]
    if kind in KINDS:
        return kind(text)
    raise ValueError(f"no value has the type {kind}")


def _describe(kind: Any) -> str:
    """What a value of a type looks like."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        return f"items separated by commas, each of them {_describe(arguments[0])}"
    return KINDS.get(kind, "a group of values, which are set one by one")
