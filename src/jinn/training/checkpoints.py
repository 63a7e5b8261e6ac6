"""Checkpoints: written by any number of processes, read by any other number, and never unpickled.

A checkpoint is a folder ``step-00000250`` with one safetensors file for each process that wrote it, and a
``state.json`` that names them. Each file holds shards of tensors, and its header says where they belong:
``{module}.{parameter}`` are weights, ``optimizer.{module}.{parameter}.exp_avg`` and so on belong to the
optimiser. `torch.distributed.checkpoint` writes and reads them; its own format would be unpickled.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import Tensor, nn

from jinn.contracts import JinnError
from jinn.files import read_config, read_json, to_dict, write_json
from jinn.training.optim import momentum_of
from jinn.training.parallel import Precision, Ranks

# PyTorch warns of this at each save and load of a single process, where it is no problem.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


@dataclass(frozen=True)
class CheckpointState:
    """The state.json of a checkpoint.

    Attributes:
        step: number of steps done.
        precision: of the matrix products.
        finished: whether nothing remains to be computed of the phase.
        files: the names of its safetensors.
    """

    step: int
    precision: Precision
    finished: bool
    files: tuple[str, ...]


class Saver(AbstractContextManager["Saver"]):
    """Writes the checkpoints of a phase into its folder while the training goes on; all ranks write."""

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self._folder, self._ranks = folder, ranks
        # One thread: with a second team of OpenMP threads in the process, those of the training would no longer spin
        # but sleep between two operations, which makes every step on a CPU 1.4 times as long.
        alone = partial(torch.set_num_threads, 1)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="jinn-checkpoint", initializer=alone)
        self._pending: Future[Any] | None = None
        if ranks.first and (last := newest(folder)):
            self._keep(last)

    def _keep(self, checkpoint: Path) -> None:
        """Remove what else lies in the folder: older checkpoints, and halves that a killed process left."""
        for other in self._folder.iterdir():
            if other != checkpoint:
                shutil.rmtree(other, ignore_errors=True)

    def save(
        self, step: int, finished: bool, tensors: dict[str, Tensor], export: Callable[[], object] | None
    ) -> None:
        """Copy the tensors (from `state_of`), and write them in the background as the checkpoint after so many steps.

        Once it is complete, the first rank calls ``export``, also in the background. ``finished`` says that nothing
        remains to be computed of the phase.
        """
        self.wait()
        new = self._folder / f".step-{step:08d}.tmp"
        if self._ranks.first:
            shutil.rmtree(new, ignore_errors=True)
            with told_when_full(self._folder):
                new.mkdir(parents=True)
        self._ranks.agree(step)
        writer = dcp.HuggingFaceStorageWriter(str(new), save_distributed=True)
        written = dcp.async_save(tensors, storage_writer=writer, process_group=self._ranks.writers)
        assert isinstance(written, Future)
        state = CheckpointState(step, self._ranks.precision, finished, ())
        first = self._ranks.first
        self._pending = self._pool.submit(self._finish, written, new, state, export) if first else written

    def _finish(
        self, written: Future[Any], new: Path, state: CheckpointState, export: Callable[[], object] | None
    ) -> None:
        written.result()  # it is done on the first rank only when it is on all ranks
        files = tuple(sorted(path.name for path in new.glob("*.safetensors")))
        for file in files:
            (new / file).chmod(0o644)  # safetensors makes files that nobody else may read
        write_json(new / "state.json", to_dict(replace(state, files=files)))
        final = self._folder / f"step-{state.step:08d}"
        shutil.rmtree(final, ignore_errors=True)
        os.rename(new, final)
        self._keep(final)
        if export is not None:
            export()

    def wait(self) -> None:
        """Wait until the last checkpoint is complete; raises `JinnError` if it could not be written."""
        pending, self._pending = self._pending, None
        if pending is not None:
            with told_when_full(self._folder):
                pending.result()

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Raise the errors of writing checkpoints, above all that there is no room, as a `JinnError`."""
    try:
        yield
    except (dcp.CheckpointException, SafetensorError, OSError) as error:
        for half in folder.glob(".step-*.tmp"):
            shutil.rmtree(half, ignore_errors=True)
        raise JinnError(
            f"no checkpoint can be written to {folder} ({last_line(error)}): make room, and the same command goes on "
            "from the last one"
        ) from None


def last_line(error: BaseException) -> str:
    """What an error says in the end; of one of `torch.distributed.checkpoint`, what the first rank's says."""
    if isinstance(error, dcp.CheckpointException):
        error = min(error.failures.items())[1][0]
    return str(error).strip().rpartition("\n")[2]


def state_of(modules: dict[str, nn.Module], optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, not copies; moments that do not exist yet are created as zeros."""
    tensors: dict[str, Tensor] = {}
    updates = {p: optimizer for optimizer in optimizers for g in optimizer.param_groups for p in g["params"]}
    for name, module in modules.items():
        tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for key, parameter in module.named_parameters():
            if parameter.requires_grad:
                momentum_of(updates[parameter], parameter)
                state = updates[parameter].state[parameter]
                tensors |= {f"optimizer.{name}.{key}.{entry}": value for entry, value in state.items()}
    return tensors


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint in a folder, if any."""
    return max((p for p in folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", p.name)), default=None)


def steps_done(folder: Path) -> int:
    """The number of steps of the newest complete checkpoint in a folder, 0 if there is none."""
    found = newest(folder)
    return int(found.name.removeprefix("step-")) if found else 0


def resume(folder: Path, tensors: dict[str, Tensor], ranks: Ranks) -> tuple[int, bool]:
    """Fill tensors (from `state_of`) from a phase's newest checkpoint, if any.

    Returns:
        The number of steps done, and whether nothing remains to be computed of the phase.

    Raises:
        JinnError: the checkpoint is damaged or of another model.
    """
    step = ranks.agree(steps_done(folder))
    if not step:
        return 0, False
    checkpoint = folder / f"step-{step:08d}"
    values = read_json(checkpoint / "state.json")
    if isinstance(values, dict):
        values = {"finished": False, **values}  # earlier versions computed the rest at every start
    state = read_config(CheckpointState, checkpoint / "state.json", values)
    missing = [file for file in state.files if not (checkpoint / file).is_file()]
    if missing:
        raise JinnError(f"{checkpoint} lacks {', '.join(missing)}: restore it or train again")
    if state.step != step:
        raise JinnError(
            f"{checkpoint} is damaged: it says that it is of step {state.step}; restore it or train again"
        )
    reader = dcp.HuggingFaceStorageReader(str(checkpoint))
    try:
        reader.read_metadata()  # of damaged files `load` would print a traceback first
        # In place: each rank reads its own shards, whichever ranks wrote them.
        dcp.load(tensors, storage_reader=reader)
    except (dcp.CheckpointException, Exception) as error:  # a damaged file leads to errors of all kinds
        failures = error.failures.values() if isinstance(error, dcp.CheckpointException) else []
        if any(isinstance(failure, KeyboardInterrupt) for failure, _ in failures):
            raise KeyboardInterrupt from None
        raise JinnError(
            f"{checkpoint} is damaged or of another model ({last_line(error)}): restore it or train again"
        ) from None
    return state.step, state.finished
