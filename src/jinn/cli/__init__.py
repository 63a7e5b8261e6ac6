"""The command line: one module for each command, without any domain logic.

tyro makes a command's options from the signature of its function, and its help from the docstring. A user's
mistake ends as one sentence and exit code 2.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

if importlib.util.find_spec("tyro") is None or importlib.util.find_spec("rich") is None:
    print("jinn: the command line needs two more packages: pip install 'jinn[cli]'", file=sys.stderr)
    raise SystemExit(2)

import tyro

from jinn import __version__
from jinn.cli.console import console, errors
from jinn.cli.curate import curate
from jinn.cli.data import data
from jinn.cli.eval import evaluate
from jinn.cli.export import export
from jinn.cli.info import info
from jinn.cli.label import label
from jinn.cli.plan import plan
from jinn.cli.play import play
from jinn.cli.publish import publish
from jinn.cli.rate import rate
from jinn.cli.record import record
from jinn.cli.study import study
from jinn.cli.teach import teach
from jinn.cli.train import train
from jinn.errors import JinnError
from jinn.files import what_to_do

# Each command, and the extra of the package that it needs.
COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "play": (play, "play"),
    "publish": (publish, "play"),
    "curate": (curate, "curate"),
    "rate": (rate, "all"),
    "data": (data, "video"),
    "record": (record, "play"),
    "train": (train, "train"),
    "plan": (plan, "cli"),
    "eval": (evaluate, "eval"),
    "study": (study, "study"),
    "label": (label, "eval"),
    "teach": (teach, "all"),
    "export": (export, "export"),
    "info": (info, "cli"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, by default that of the process's command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parse(arguments)()
    except JinnError as error:
        say_error(str(error))
        return 2
    except OSError as error:
        say_error(what_to_do(error))
        return 2
    except ModuleNotFoundError as error:
        package, extra = (error.name or "jinn").partition(".")[0], COMMANDS[arguments[0]][1]
        if package == "jinn":
            raise
        say_error(f"jinn {arguments[0]} needs the package {package}: pip install 'jinn[{extra}]'")
        return 2
    except KeyboardInterrupt:
        say_error("the command was stopped")
        return 130
    return 0


def parse(arguments: Sequence[str]) -> Callable[[], None]:
    """The call that a command line asks for, not run yet; raises `SystemExit` once help or a mistake is printed."""
    if list(arguments) == ["--version"]:
        return partial(console.print, f"jinn {__version__}")
    call: Callable[[], None] = tyro.extras.subcommand_cli_from_dict(
        {name: deferred(command) for name, (command, _) in COMMANDS.items()},
        prog="jinn",
        description="Learn playable worlds from video, and play them. (jinn --version prints the version.)",
        args=list(arguments),
        sort_subcommands=False,
    )
    return call


def deferred(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """The command with the same signature and help, which returns its call instead of running it."""

    @functools.wraps(command)
    def call(*values: object, **options: object) -> Callable[[], None]:
        return partial(command, *values, **options)

    return call


def say_error(sentence: str) -> None:
    """Print a sentence to the standard error, if the terminal is still there."""
    with suppress(OSError):
        errors.print(f"jinn: {sentence}", style="red", markup=False, soft_wrap=True)
