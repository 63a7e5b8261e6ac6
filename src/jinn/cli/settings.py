"""The values that ``--set`` changes, for ``jinn train`` and ``jinn plan``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Annotated

import tyro

from jinn.data.stream import StreamConfig
from jinn.overrides import override
from jinn.recipes import load_recipe
from jinn.training.parallel import ParallelConfig
from jinn.training.recipe import Recipe

# Any number of values after each --set, and any number of --set.
Pairs = Annotated[
    tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]],
    tyro.conf.arg(name="set", metavar="PATH=VALUE ..."),
]


@dataclass(frozen=True)
class Settings(Recipe):
    """A recipe, and beside it the values that do not belong to it.

    Attributes:
        stream: how an environment is played.
        parallel: how the work is laid out on the hardware.
    """

    stream: StreamConfig = StreamConfig()  # noqa: RUF009 it is frozen
    parallel: ParallelConfig = ParallelConfig()  # noqa: RUF009

    @property
    def recipe(self) -> Recipe:
        """The recipe alone."""
        return Recipe(**{field.name: getattr(self, field.name) for field in fields(Recipe)})


def read_settings(recipe: str, pairs: Sequence[Sequence[str]] = ()) -> Settings:
    """A named recipe with the values of all ``--set``; raises `JinnError` if there is no such recipe or value."""
    loaded = load_recipe(recipe)
    settings = Settings(**{field.name: getattr(loaded, field.name) for field in fields(Recipe)})
    return override(settings, list(chain.from_iterable(pairs)))
