"""Videos -> a folder with the table of their clips: what ``jinn curate`` does.

Films are looked at side by side, each in one process that never holds more than some seconds of it. What comes back are
rows; a film's rows are kept as soon as it is done, so the same call again goes on with the others, and ends with the
table of a call that was never stopped. The rules, and which clips are copies, are decided at the end, for all clips.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jinn.contracts import JinnError
from jinn.curation.clip import Row, read_clip, write_clips
from jinn.curation.cluster import mapped, place, started
from jinn.curation.journal import Journal, opened
from jinn.curation.rules import Rules, decide, summary_of
from jinn.curation.scan import Scan, ScanConfig, scan
from jinn.curation.shots import installed
from jinn.data.film import Film, printable
from jinn.data.folder import find_films
from jinn.files import remove_left

Score = Callable[[np.ndarray], Any]  # uint8 frames_NTHWC -> probabilities of being good, float ``(N,)``
Progress = Callable[[int, int, str], None]  # of films or clips: done, in all, what is done

BATCH = 8  # clips that a classifier sees at once
LOST = "the process that looked at it ended without a result: the same command tries again"
NOT_VIDEO = "it is no video file: jinn data reads it as it is"


@dataclass
class Summary:
    """What one call of `curate` did.

    Attributes:
        films: Number that were looked at now.
        resumed: Number that an earlier call had looked at.
        kept: Clips that are kept, of all films.
        left_out: Number of clips, and of films without clips, by the reason.
        skipped: (file, reason) of what is no video, or could not be read to its end.
        seconds: Of the films that were looked at now.
        spent: Seconds of one core by stage, of these films.
    """

    films: int = 0
    resumed: int = 0
    kept: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    spent: dict[str, float] = field(default_factory=dict)


def curate(
    sources: Sequence[str],
    out: str | Path,
    config: ScanConfig | None = None,
    rules: Rules | None = None,
    score: Score | None = None,
    address: str | None = None,
    workers: int | None = None,
    progress: Progress = lambda done, total, text: None,
) -> Summary:
    """Look at videos, and write the table of their clips into a folder, which is made or continued.

    Args:
        sources: Videos, folders of them, or lists, as of `jinn.data.folder.find_films`.
        out: The folder. `jinn.data.ingest.ingest` takes it as a source: the clips that are kept.
        config: How films become clips.
        rules: Which clips are kept.
        score: A classifier, asked about the clips that the rules keep; frames are those of `read_clip`.
        address: Of a Ray cluster, all of whose machines see the videos at the same paths; None works on this one.
        workers: Processes on this machine, by default one for each CPU.
        progress: Called now and then.

    Raises:
        JinnError: A source does not exist, there is no video, the folder was made with other settings, or a package is
            missing.
        OSError: The folder cannot be written.
    """
    out, config = Path(out), config or ScanConfig()
    found = [find_films(_absolute(source), out) for source in sources]
    # A file of JSON beside a film is its title's.
    others = [other for _, some in found for other in some if not other[0].endswith(".json")]
    summary = Summary(skipped=others)
    files = _videos([film for films, _ in found for film in films], summary)
    if not files:
        raise JinnError(
            f"there are no videos in {' '.join(sources) or 'nothing'}: name videos or folders of them"
        )
    with opened(out, config) as journal:
        lacking = [file for file in files if not journal.is_done(file)]
        summary.resumed = len(files) - len(lacking)
        if lacking:
            installed()
        remove_left(
            place()
        )  # a process that was killed with all films done left Ray's, and this one may not need Ray
        with started(address, workers) if lacking or score else nullcontext():
            _scan_all(lacking, config, journal, summary, progress)
            # What an earlier call's classifier found does not count.
            rows = decide([dataclasses.replace(row, score=None) for row in journal.rows()], rules)
            if score:
                rows = decide(_scored(rows, score, progress), rules)
        write_clips(out, rows)
        journal.finish()
    summary.left_out = summary_of(rows)
    summary.kept = summary.left_out.pop("", 0)
    return summary


def _absolute(source: str) -> Path:
    """The path by which films are known, from wherever the command is given; links stay, as machines share them."""
    path = Path(source)
    return path.resolve() if ".." in path.parts else path.absolute()


def _videos(films: Sequence[Film], summary: Summary) -> list[str]:
    """The paths of video files, each once; what else is a film is told to the summary."""
    files: dict[str, None] = {}
    for film in films:
        file = film.files[0]
        if type(film) is not Film or len(film.files) > 1 or file.suffix.lower() == ".webp":
            summary.skipped.append((film.name, NOT_VIDEO))
        elif str(file) != printable(str(file)):
            summary.skipped.append((film.name, "its path is not UTF-8: rename it"))
        else:
            files[str(file)] = None
    return list(files)


def _scan_all(
    files: Sequence[str], config: ScanConfig, journal: Journal, summary: Summary, progress: Progress
) -> None:
    def scan_one(file: str) -> str:
        try:
            found = scan(file, config)
        except (
            Exception
        ) as error:  # a fault of ours, or a machine that lacks something, must not end the rest
            found = _failed(file, f"it failed ({type(error).__name__}: {error})")
        # As text: what Ray Data would make of lists of values depends on which are missing.
        return json.dumps({"file": file, **dataclasses.asdict(found)})

    for text in _with_lost(mapped(scan_one, files), files):
        made = json.loads(text)
        journal.add(made["file"], [Row(**values) for values in made["rows"]])
        summary.films += 1
        summary.seconds += made["seconds"]
        for stage, seconds in made["spent"].items():
            summary.spent[stage] = summary.spent.get(stage, 0.0) + seconds
        if made["problem"]:
            summary.skipped.append((Path(made["file"]).name, made["problem"]))
        progress(summary.films, len(files), "films")


def _failed(file: str, problem: str) -> Scan:
    """What is known of a film that could not be looked at. No film has this size, so the next call tries again."""
    return Scan([Row(file, -1, 0.0, 0.0, Path(file).stem, reason=problem)], problem)


def _with_lost(texts: Iterable[str], files: Sequence[str]) -> Iterator[str]:
    """The films that came back, and then those that did not."""
    lost = dict.fromkeys(files)
    for text in texts:
        lost.pop(json.loads(text)["file"], None)
        yield text
    for file in lost:
        yield json.dumps({"file": file, **dataclasses.asdict(_failed(file, LOST))})


def _scored(rows: Sequence[Row], score: Score, progress: Progress) -> list[Row]:
    """The rows with the classifier's probabilities of those that are kept so far; the others have none."""
    asked = [number for number, row in enumerate(rows) if not row.reason]

    def score_some(numbers: list[int]) -> str:
        frames_NTHWC = np.stack([read_clip(rows[number].clip) for number in numbers])
        return json.dumps([numbers, np.asarray(score(frames_NTHWC), np.float64).tolist()])

    batches = [asked[first : first + BATCH] for first in range(0, len(asked), BATCH)]
    scores: dict[int, float] = {}
    for text in mapped(score_some, batches):
        scores |= dict(zip(*json.loads(text), strict=True))
        progress(len(scores), len(asked), "clips for the classifier")
    return [dataclasses.replace(row, score=scores.get(number)) for number, row in enumerate(rows)]
