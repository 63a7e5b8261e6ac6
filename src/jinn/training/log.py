"""The log of a run: log.jsonl, TensorBoard, preview pictures."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from jinn.files import named, replacing, write_text


class Meter:
    """Clips per second, and the fraction of the time spent waiting for them, without previews and checkpoints."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._waited, self._spent, self._seconds = 0.0, 0.0, 0.0
        self._last: float | None = None

    def count(self, waited: float) -> None:
        """A step is done, which has waited so many seconds for its clips."""
        now = time.perf_counter()
        if self._last is not None:
            spent = now - self._last
            self._spent += spent
            self._waited += waited
            self._seconds = 0.9 * self._seconds + 0.1 * spent if self._seconds else spent
        self._last = now

    def waiting(self) -> float:
        """Fraction of the time since the last call that went into waiting, in [0, 1]."""
        fraction = self._waited / self._spent if self._spent else 0.0
        self._waited, self._spent = 0.0, 0.0
        return min(1.0, fraction)

    def pause(self) -> None:
        """The time until the next `count` does not belong to a step."""
        self._last = None

    @property
    def clips_a_second(self) -> float:
        """A running mean; 0 until two steps are done."""
        return self._batch / self._seconds if self._seconds else 0.0


class RunLog(AbstractContextManager["RunLog"]):
    """Writes the log of one phase into the run's folder, with the precision of matrix products in every line.

    Lines that a killed run logged after ``step``, the one from which the phase goes on, are removed.
    """

    def __init__(self, run: Path, phase: str, step: int, precision: str) -> None:
        self.last_loss = float("nan")
        self._phase, self._precision, self._path = phase, precision, run / "log.jsonl"
        self._previews = run / "previews"
        self._previews.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
            write_text(self._path, "".join(f"{line}\n" for line in lines if self._stays(line, step)))
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 closed by __exit__
        self._board: Any = None
        with suppress(ImportError):  # without the extra `train` there is still log.jsonl
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(run / "tensorboard" / phase), purge_step=step + 1)

    def _stays(self, line: str, step: int) -> bool:
        try:
            entry = json.loads(line)
            return bool(entry["phase"] != self._phase or entry["step"] <= step)
        except (ValueError, RecursionError, KeyError, TypeError):  # the last line of a killed run may be half
            return False

    def scalars(self, step: int, values: dict[str, float], meter: Meter) -> None:
        """Log the metrics of a step, and the meter's."""
        self.last_loss = values["loss"]
        speed = {"clips_a_second": round(meter.clips_a_second, 2), "waiting": round(meter.waiting(), 4)}
        scalars = {**values, **speed}
        entry = {"phase": self._phase, "step": step, "time": round(time.time(), 1)}
        entry |= {"precision": self._precision, **scalars}
        with named(self._path):
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        if self._board:
            for key, value in scalars.items():
                self._board.add_scalar(f"{self._phase}/{key}", value, step)

    def picture(self, step: int, picture_HWC: np.ndarray) -> None:
        """Save a preview as PNG and in TensorBoard."""
        if self._board:
            self._board.add_image(f"{self._phase}/preview", picture_HWC, step, dataformats="HWC")
        with suppress(ImportError):
            from PIL import Image

            with replacing(self._previews / f"{self._phase}-{step:08d}.png") as temporary:
                Image.fromarray(picture_HWC).save(temporary, format="png")

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # where there is no room, an error on its way says so
            self._file.close()
            if self._board:
                self._board.close()
