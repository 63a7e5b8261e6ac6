"""Processes for tests: forked from a server that has imported jinn, so that none spends seconds on imports."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from jinn.cli import main

HAS_FORKS = "forkserver" in multiprocessing.get_all_start_methods()
CONTEXT: Any = multiprocessing.get_context("forkserver" if HAS_FORKS else "spawn")
if HAS_FORKS:
    imported = ("data.synthetic", "player.server", "recipes", "training.run", "world.world")
    CONTEXT.set_forkserver_preload(
        ["pytest", "torch.utils.tensorboard", *(f"jinn.{name}" for name in imported)]
    )
PATIENCE = 240  # seconds until a process that has not ended counts as a failure


def command(arguments: list[str]) -> None:
    """The command line; the process ends with its exit code."""
    sys.exit(main(arguments))


def fork(said: Path, function: Callable[..., object], *arguments: Any, **environment: str) -> BaseProcess:
    """Call a function of a module in a process with one thread, whose output is written to the file ``said``."""
    process: BaseProcess = CONTEXT.Process(target=_call, args=(said, function, arguments, environment))
    process.start()
    return process


def _call(
    said: Path, function: Callable[..., object], arguments: tuple[Any, ...], environment: dict[str, str]
) -> None:
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.environ.update(environment)
    torch.set_num_threads(1)
    function(*arguments)


def on_two_ranks(folder: Path, function: Callable[..., object], *arguments: Any) -> None:
    """Call a function in two processes that train together, as torchrun would; returns when both have ended well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    said = [folder / f"said by rank {rank}" for rank in range(2)]
    ranks = [
        fork(file, function, *arguments, **place, RANK=str(rank), LOCAL_RANK=str(rank))
        for rank, file in enumerate(said)
    ]
    for process in ranks:
        process.join(PATIENCE)
    ended = [process.exitcode for process in ranks]
    for process in ranks:
        process.kill()
    assert ended == [0, 0], "\n".join(file.read_text() for file in said)
