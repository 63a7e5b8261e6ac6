"""What all benchmarks share: timing, the machine's matrix rate, its description, and keeping results.

On a shared machine a single time is unreliable, and a ratio of times measured alternately is reliable:
`interleaved` runs the candidates alternately and returns medians.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"

Row = dict[str, Any]


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has finished its work; a CPU always has."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device | str = "cpu",
    warmup: int = 1,
) -> dict[str, float]:
    """Time functions alternately, so that other load on the machine affects all of them alike.

    Args:
        candidates: by name; each is called ``warmup + repeats`` times.
        repeats: timed calls of each.
        device: waited for before the clock is read.
        warmup: calls of each that are not timed (compilation, caches).

    Returns:
        The median seconds of a call, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(warmup + repeats):
        # Back and forth, so that none always follows one that leaves the caches hot or the core throttled.
        for name in list(candidates)[:: 1 if turn % 2 else -1]:
            synchronize(device)
            began = time.perf_counter()
            candidates[name]()
            synchronize(device)
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def matrix_product(
    dtype: torch.dtype, device: torch.device | str, size: int = 0
) -> tuple[Callable[[], object], float]:
    """A large square matrix product, to be timed, and its floating point operations.

    Args:
        dtype: of the factors.
        device: where.
        size: side of the squares; 0 is large enough for the device.
    """
    size = size or (8192 if torch.device(device).type == "cuda" else 2048)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out), 2.0 * size**3


def matrix_rate(
    dtype: torch.dtype, device: torch.device | str = "cpu", repeats: int = 10, size: int = 0
) -> float:
    """FLOP a second of large square matrix products: what model FLOP utilisation is measured against."""
    product, flops = matrix_product(dtype, device, size)
    return flops / interleaved({"product": product}, repeats, device, warmup=3)["product"]


def peak_memory(device: torch.device | str = "cpu") -> int:
    """Bytes: on CUDA the allocator's peak since its last reset, else the largest resident set so far."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def hardware(device: torch.device | str = "cpu") -> dict[str, Any]:
    """The hardware and software of a measurement: processor, threads, GPU, matrix units, versions."""
    flags = _cpu_field("flags").split()
    facts: dict[str, Any] = {
        "cpu": _cpu_field("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bfloat16_units": [flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags],
        "environment": {
            k: v for k, v in os.environ.items() if k.startswith(("OMP_", "GOMP_", "KMP_", "MKL_"))
        },
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if torch.device(device).type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
        facts["cuda"] = torch.version.cuda
    return facts


def _cpu_field(name: str) -> str:
    """A field of the first processor in /proc/cpuinfo; "" where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def commit() -> str:
    """The commit that was measured, with a ``+`` if the package differs from it; "unknown" outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "src", "benchmarks/*.py")
        return git("rev-parse", "--short=10", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def save(
    name: str,
    rows: Sequence[Row],
    device: torch.device | str = "cpu",
    note: str = "",
    folder: Path = RESULTS,
) -> Path:
    """Keep a benchmark's rows with commit, hardware and date: one file a benchmark and hardware.

    Args:
        name: of the benchmark.
        rows: flat dictionaries with the same keys, in the order of the table's columns; units in the keys.
        device: what was measured.
        note: what a reader of the table must know; a sentence or two.
        folder: where.
    """
    facts = hardware(device)
    slug = re.sub(r"[^a-z0-9]+", "-", (facts.get("gpu") or f"{facts['cpu']} {facts['threads']}t").lower())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.{slug.strip('-')}.json"
    result = {
        "benchmark": name,
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "hardware": facts,
        "note": note,
        "rows": list(rows),
    }
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path
