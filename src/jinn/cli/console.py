"""What all commands share: where they print, their progress bar, and their default device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import rich.console
import rich.progress
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

console = rich.console.Console(highlight=False)
errors = rich.console.Console(stderr=True, highlight=False)


def say(sentence: object) -> None:
    """Print a line as it is, whatever its length and its brackets."""
    console.print(sentence, markup=False, soft_wrap=True)


@contextmanager
def progress_bar(*columns: rich.progress.ProgressColumn) -> Iterator[rich.progress.Progress]:
    """A live progress display with the columns of every command, and some of its own."""
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
        yield bar
