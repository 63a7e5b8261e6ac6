"""Checkpoints: written by any number of processes, read by any other number, and never unpickled.

A checkpoint is a folder ``step-00000250`` with one safetensors file for each process that wrote, and a
``state.json`` that names them. Each file holds parts of tensors and, in its header, where they belong:
``{module}.{parameter}`` are weights, ``optimizer.{module}.{parameter}.exp_avg`` and so on the optimiser's.
`torch.distributed.checkpoint` writes and reads them; its own format would be unpickled.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import Tensor, nn

from jinn.checkpoint import read_json, write_json
from jinn.contracts import JinnError
from jinn.training.optim import momentum_of
from jinn.training.parallel import Ranks

# Said at each save and load of a process that trains alone, which is nothing to be warned of.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


class Saver:
    """Writes checkpoints while the training goes on.

    Args:
        folder: of the stage's checkpoints.
        ranks: all of them write.
    """

    def __init__(self, folder: Path, ranks: Ranks) -> None:
        self._folder, self._ranks = folder, ranks
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="jinn-checkpoint")
        self._pending: list[Future[Any]] = []

    def save(self, step: int, tensors: dict[str, Tensor], afterwards: Callable[[], object]) -> None:
        """Copy the tensors, and write them as the checkpoint of a step in the background.

        Args:
            step: how many are done.
            tensors: of `state_of`.
            afterwards: what the first rank does in the background as well, once the checkpoint stands.
        """
        self.wait()
        new = self._folder / f".step-{step:08d}.tmp"
        if self._ranks.first:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(parents=True)
        self._ranks.agree(step)
        writer = dcp.HuggingFaceStorageWriter(str(new), save_distributed=True)
        written = dcp.async_save(tensors, storage_writer=writer, process_group=self._ranks.writers)
        assert isinstance(written, Future)
        self._pending = [written]
        if self._ranks.first:
            self._pending.append(self._pool.submit(self._finish, written, new, step, afterwards))

    def _finish(self, written: Future[Any], new: Path, step: int, afterwards: Callable[[], object]) -> None:
        written.result()  # when the first rank hears that it is done, all ranks are
        files = sorted(path.name for path in new.glob("*.safetensors"))
        for file in files:
            (new / file).chmod(0o644)  # safetensors makes files that nobody else may read
        write_json(new / "state.json", {"step": step, "precision": self._ranks.precision, "files": files})
        place = self._folder / f"step-{step:08d}"
        shutil.rmtree(place, ignore_errors=True)
        os.rename(new, place)
        for other in self._folder.iterdir():
            if other != place:
                shutil.rmtree(other, ignore_errors=True)
        afterwards()

    def wait(self) -> None:
        """Until the last checkpoint stands; raises what went wrong with it."""
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


def state_of(modules: dict[str, nn.Module], optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """What a checkpoint holds, by name; the tensors themselves, not copies.

    Moments that the optimisers do not have yet are made, as zeros.
    """
    tensors: dict[str, Tensor] = {}
    moves = {p: optimizer for optimizer in optimizers for g in optimizer.param_groups for p in g["params"]}
    for name, module in modules.items():
        tensors |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
        for key, parameter in module.named_parameters():
            if parameter.requires_grad:
                momentum_of(moves[parameter], parameter)
                state = moves[parameter].state[parameter]
                tensors |= {f"optimizer.{name}.{key}.{entry}": value for entry, value in state.items()}
    return tensors


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint in a folder, if any."""
    if not folder.is_dir():
        return None
    return max((p for p in folder.iterdir() if re.fullmatch(r"step-\d{8,}", p.name)), default=None)


def resume(folder: Path, tensors: dict[str, Tensor], ranks: Ranks) -> int:
    """Fill tensors (of `state_of`) from a stage's newest checkpoint, if any; returns its step, else 0.

    Raises:
        JinnError: it is damaged, or of another model.
    """
    place = newest(folder)
    step = ranks.agree(int(place.name.removeprefix("step-")) if place else 0)
    if not step:
        return 0
    place = folder / f"step-{step:08d}"
    state = read_json(place / "state.json")
    if "files" not in state:
        raise JinnError(f"{place} was written by an older jinn: end that run with it, or give another --out")
    missing = [file for file in state["files"] if not (place / file).is_file()]
    if missing:
        raise JinnError(f"{place} lacks {', '.join(missing)}: restore it or train again")
    try:
        # In place, each rank its own parts, whichever ranks wrote them.
        dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(place)))
    except (dcp.CheckpointException, SafetensorError, RuntimeError, ValueError, OSError) as error:
        first = str(error).strip().splitlines()[-1]
        raise JinnError(
            f"{place} is damaged or of another model ({first}): restore it or train again"
        ) from None
    return int(state["step"])
