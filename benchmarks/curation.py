"""What curating videos costs, by stage, with one and two workers, and for the paper's data set.

``python -m benchmarks.curation`` writes videos of a texture that moves, and looks at them in this process, whose time
on the processor is counted by stage, and then by Ray.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmarks.measure import RESULTS, Row, save
from benchmarks.video import make_video
from jinn.curation.cluster import started
from jinn.curation.pipeline import curate
from jinn.curation.scan import ScanConfig, scan

SIZE_HW, RATE = (360, 640), 30
PAPER_CLIPS = 55_000_000
NOTE = (
    "Curating H.264 videos of 640 x 360 at 30 pictures a second (`jinn curate`, clips of {clip:g} seconds at 10 FPS). "
    "Stages: seconds of video a second of one core, by the time on the processor (videos: {films}); the "
    "core-hours are those of the paper's 55M clips of 16 seconds at this rate."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="Ignored: videos are looked at on the CPU.")
    parser.add_argument("--films", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=17.0, help="Of each film.")
    parser.add_argument("--clip-seconds", type=float, default=16.0)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="Of Ray; none leaves it out.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    config = ScanConfig(clip_seconds=args.clip_seconds)
    with tempfile.TemporaryDirectory() as folder:
        films = [
            make_video(Path(folder) / f"{number}.mp4", SIZE_HW, round(args.seconds * RATE))
            for number in range(args.films)
        ]
        rows = stages(films, config)
        for workers in args.workers:
            rows.append(by_ray(Path(folder), workers, config, args.films * args.seconds))
            print(rows[-1], flush=True)
    note = NOTE.format(clip=args.clip_seconds, films=args.films)
    if args.workers:
        note += " Ray: seconds of video a second on the clock, once it has started."
    save("curation", rows, note=note, folder=args.out)


def stages(films: list[Path], config: ScanConfig) -> list[Row]:
    """The rate of each stage, and of all together, on one core."""
    scan(films[0], config)  # loads the network
    scans = [scan(film, config) for film in films]
    rows: list[Row] = []
    costs = {
        stage: _median([found.spent[stage] / found.seconds for found in scans]) for stage in scans[0].spent
    }
    costs["all stages"] = sum(costs.values())
    for stage, cost in costs.items():
        rows.append(
            _row(stage, 1 / cost, config) | {"core-hours of 55M clips": PAPER_CLIPS * 16 * cost / 3600}
        )
        print(rows[-1], flush=True)
    return rows


def by_ray(folder: Path, workers: int, config: ScanConfig, seconds: float) -> Row:
    """The rate of the pipeline with some workers, on the clock, once Ray has started."""
    os.environ.update({"RAY_worker_niceness": "0"})  # or what else runs here would be measured
    with started(workers=workers):
        curate(
            [str(folder / f"{number}.mp4") for number in range(workers)], folder / f"warm{workers}", config
        )
        began = time.perf_counter()
        curate([str(folder)], folder / f"out{workers}", config)
        taken = time.perf_counter() - began
    return _row(f"Ray, {workers} {'worker' if workers == 1 else 'workers'}", seconds / taken, config)


def _row(what: str, rate: float, config: ScanConfig) -> Row:
    return {"what": what, "seconds of video a second": rate, "clips a second": rate / config.clip_seconds}


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    main()
