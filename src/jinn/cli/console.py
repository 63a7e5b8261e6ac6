"""What all commands share: where they print, their progress bar, and their default device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rich.console
import rich.markup
import rich.progress
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

console = rich.console.Console(highlight=False)
errors = rich.console.Console(stderr=True, highlight=False)


def say(sentence: object) -> None:
    """Print a line as it is, whatever its length and its brackets."""
    console.print(sentence, markup=False, soft_wrap=True)


@contextmanager
def progress(*columns: rich.progress.ProgressColumn) -> Iterator[Callable[..., None]]:
    """A live display of tasks, with the columns of every command and some of its own.

    It yields a function that shows how much of a task is done, with ``text`` in place of the task's name.
    """
    with rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        *columns,
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
        console=console,
    ) as bar:
        tasks: dict[str, rich.progress.TaskID] = {}

        def show(task: str, done: int, total: int | None, text: str = "", **fields: Any) -> None:
            description = rich.markup.escape(text or task)
            if task not in tasks:
                tasks[task] = bar.add_task(description, total=total, completed=done, **fields)
            bar.update(tasks[task], completed=done, total=total, description=description, **fields)

        yield show
