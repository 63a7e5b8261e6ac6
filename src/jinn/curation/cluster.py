"""Ray on one machine or a cluster: quiet, without a network, and with nothing left behind."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinn.contracts import JinnError
from jinn.cpus import num_cpus
from jinn.files import temporary_folder

# Characters of a folder in which Ray's sockets find room: their paths have 107 at most, of which 86 are
# ray.********.jinn.tmp/session_<date>_<microseconds>_<process>/sockets/plasma_store and slashes.
LONGEST = 21
STORE_BYTES = 100 * 2**20  # for what travels between processes: only rows do
MOST_TASKS = 10_000  # of one pipeline; beyond, a task has several films
RETRIES = 1  # of a task whose process died; Ray Data would try for ever
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_DATA_DISABLE_PROGRESS_BARS": "1", "RAY_DATA_LOG_LEVEL": "CRITICAL"}  # fmt: skip


@contextmanager
def started(address: str | None = None, workers: int | None = None) -> Iterator[None]:
    """Start Ray on this machine, or join the cluster at an address; it is left, or stopped and removed, in the end.

    Args:
        address: Such as ``HEAD:6379`` or ``auto``; None starts Ray here.
        workers: Processes that work at once, by default one for each CPU; a cluster knows by itself.

    Raises:
        JinnError: Ray is not installed, or there is no cluster at the address.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    ray = _ray()
    if ray.is_initialized():  # somebody else's, who ends it
        yield
        return
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": True}
    with temporary_folder("ray", place()) as folder:
        try:
            if address is None:
                ray.init(
                    num_cpus=workers or num_cpus(), include_dashboard=False, _temp_dir=str(folder),
                    object_store_memory=STORE_BYTES, **quiet,
                )  # fmt: skip
            else:
                ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise JinnError(f"Ray cannot be started or joined ({error}): check --ray-address") from error
        try:
            yield
        finally:
            ray.shutdown()


def place() -> Path:
    """Where the temporary folder of Ray is made."""
    usual = Path(tempfile.gettempdir())
    return usual if len(str(usual)) <= LONGEST else Path("/tmp")


def mapped(function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
    """What a function makes of each item, as soon as it is made, in any order; Ray is `started`.

    Ray Data lets as many tasks run as there are CPUs, waits with more while nobody takes their results, and repeats
    those whose machine was lost. An item whose process dies again and again, or whose function raises, has no result.

    Args:
        function: Of an item that can be sent to another machine; it returns another such item.
        items: Any number; a task takes several if there are more than `MOST_TASKS`.
    """
    if not items:
        return
    ray = _ray()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # what a process died of is missing, and nothing else
    context.target_max_block_size = 1  # each result is sent as soon as it is there
    tasks = min(len(items), MOST_TASKS)
    source = ray.data.from_items([{"item": item} for item in items], override_num_blocks=tasks)
    with warnings.catch_warnings():  # Ray deprecates this option, and has no other for it yet
        warnings.simplefilter("ignore")
        made = source.map(lambda row: {"made": function(row["item"])}, num_cpus=1, max_retries=RETRIES)
    for row in made.iter_rows():
        yield row["made"]


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise JinnError("curation needs Ray: run pip install 'jinn[curate]'") from error
    return ray
