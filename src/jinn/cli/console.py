"""What all commands share: where they print, their progress bar, and their default device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

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
def progress() -> Iterator[Callable[..., None]]:
    """A display of tasks: live on a terminal, and a line now and then where the output goes elsewhere.

    It yields a function that shows how much of a task is done, with ``text`` in place of the task's name and a ``note``
    behind the numbers.
    """
    if not console.is_terminal:
        yield Lines().show
        return
    with rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TextColumn("{task.fields[note]}"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
        console=console,
    ) as bar:
        tasks: dict[str, rich.progress.TaskID] = {}

        def show(task: str, done: int, total: int | None, text: str = "", note: str = "") -> None:
            description = rich.markup.escape(text or task)
            if task not in tasks:
                tasks[task] = bar.add_task(description, total=total, completed=done, note=note)
            bar.update(tasks[task], completed=done, total=total, description=description, note=note)

        yield show


class Lines:
    """Prints how far each task is: at its end, and in between once in ``seconds`` of ``clock``."""

    def __init__(self, seconds: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock, self._printed = seconds, clock, clock()
        self._first: dict[
            str, tuple[int, float]
        ] = {}  # of each task: what was done when it was first shown, and when

    def show(self, task: str, done: int, total: int | None, text: str = "", note: str = "") -> None:
        """See `progress`."""
        now = self._clock()
        before, began = self._first.setdefault(task, (done, now))
        ends = done == total and done > before
        if not ends and now - self._printed < self._seconds:
            return
        self._printed = now
        parts = [f"{text or task}: {done:,}" + (f" of {total:,}" if total else "")]
        parts += [note] if note else []
        parts.append(f"{span(now - began)} passed")
        if total and before < done < total:
            parts.append(f"about {span((now - began) / (done - before) * (total - done))} left")
        with suppress(OSError):  # a reader that left, as `head` does, is no reason to stop
            say(", ".join(parts))


def span(seconds: float) -> str:
    """A time such as 0:02:03."""
    return str(timedelta(seconds=round(seconds)))
