"""Does a command that was killed, however often, end with the same result as one that never was?

    python scripts/kill.py data curate train ranks eval export publish --kills 100 --seed 0

Each command runs once undisturbed. Then it is killed (SIGKILL, all of its processes) at moments that are drawn
uniformly from that duration and started again, some times in the same folder, until it may end by itself. What then
lies there has to be what the undisturbed command wrote, apart from times of day and durations; what lies there right
after a kill has to be whole; and nothing temporary may be left in the end. The exit code is 1 if any does not hold.

Everything is tiny and on the CPU. Commands of one process are forked from a process that has imported jinn, so that
kills hit their work and not Python's imports; "ranks" is `train` with two processes by torchrun, and "curate" has
Ray's with two workers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from safetensors.numpy import load_file

from jinn.data.store import FrameStore
from jinn.data.synthetic import game_rollout
from jinn.errors import JinnError
from jinn.files import LOCK, TEMPORARY, cache_folder, locked, temporary_folder, write_json
from jinn.web.film import encode_film

Name = Literal["data", "curate", "train", "ranks", "eval", "export", "publish"]
FILMS = 4  # of five seconds
IN_ROW = 5  # kills in one folder before the command may end
TRAIN = """
    --device cpu --recipe tiny --set sampling.steps=2 dynamics.transformer.layers=1
    tokenizer_training.steps=4 tokenizer_training.batch=4 tokenizer_training.warmup=1
    tokenizer_training.log_every=1 tokenizer_training.checkpoint_every=1 tokenizer_training.preview_every=3
    latent_action_training.steps=4 latent_action_training.batch=4 latent_action_training.warmup=1
    latent_action_training.log_every=1 latent_action_training.checkpoint_every=1
    dynamics_training.steps=4 dynamics_training.batch=4 dynamics_training.warmup=1
    dynamics_training.log_every=1 dynamics_training.checkpoint_every=1 dynamics_training.preview_every=3
    self_rollout_training.steps=2 self_rollout_training.batch=4 self_rollout_training.warmup=1
    self_rollout_training.log_every=1 self_rollout_training.checkpoint_every=1
"""
EVAL = "--quick --clips 4 --frames 4 --draws 1 --long-rollouts 2 --long-frames 60 --device cpu"
COMMANDS: dict[Name, str] = {
    "data": "data synthetic:game --size 32 32 --frames 35000 --out store",
    "curate": "curate ../base/films --out curated --clip-seconds 2 --motion 0 --overlay 1 --workers 2",
    "train": f"train ../base/store --out run {TRAIN}",
    "ranks": f"train ../base/store --out run {TRAIN}",
    "eval": f"eval dream ../base/other --out report {EVAL}",
    "export": "export dream --start",
    "publish": "publish dream --out site --anyway --runtime ../base/runtime",
}
PRELOADED = """
    jinn.cli jinn.curation.pipeline jinn.data.ingest jinn.evaluation.suite jinn.evaluation.report jinn.player.publish
    jinn.world.export onnx onnxscript onnxruntime onnxruntime.quantization torch.onnx torch.utils.tensorboard
"""
# What may differ: locks are empty, TensorBoard's files are named by the time, and a cache may hold more.
IGNORED = ("tensorboard", "tmp", "cache", "said.txt")


@dataclass
class Outcome:
    """What was found of a command."""

    seconds: float
    kills: int = 0
    compared: int = 0
    differences: list[str] = field(default_factory=list)


def main(
    commands: tuple[Name, ...],
    /,
    kills: int = 100,
    seed: int = 0,
    work: Path | None = None,
    report: Path | None = None,
) -> None:
    """Kill commands, and compare how they end with how they end undisturbed.

    Args:
        commands: What is killed.
        kills: Number of kills of all commands together.
        seed: Seed of the moments.
        work: Folder to work in, which is kept. The default is a temporary one.
        report: JSON file for the figures.
    """
    with contextlib.ExitStack() as stack:
        folder = work.absolute() if work else stack.enter_context(temporary_folder("jinn-kill")) / "work"
        os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported where the commands are forked
        prepare(folder / "base", commands)
        outcomes = {}
        for i, name in enumerate(commands):
            share = kills * (i + 1) // len(commands) - kills * i // len(commands)
            outcomes[name] = attack(name, folder, share, random.Random(f"{seed} {name}"))
            print(row(name, outcomes[name]), flush=True)
    print("\n| command | undisturbed | kills | results compared | the same |\n|---|---|---|---|---|")
    print("\n".join(row(*item) for item in outcomes.items()))
    for name, outcome in outcomes.items():
        print("".join(f"{name}: {sentence}\n" for sentence in outcome.differences), end="")
    if report:
        write_json(report, {name: vars(outcome) for name, outcome in outcomes.items()})
    raise SystemExit(any(outcome.differences for outcome in outcomes.values()))


def row(name: str, outcome: Outcome) -> str:
    """A row of the table."""
    same = "no" if outcome.differences else "yes"
    return f"| {name} | {outcome.seconds:.1f} s | {outcome.kills} | {outcome.compared} | {same} |"


def prepare(base: Path, commands: tuple[Name, ...]) -> None:
    """The inputs of the commands: two stores, films, a world, and the runtime of published pages."""
    base.mkdir(parents=True, exist_ok=True)
    for name, seed in ("store", "0"), ("other", "1"):
        if not (base / name).exists():
            run(base, f"data synthetic:game --size 32 32 --frames 2000 --seed {seed} --out {name}")
    if "curate" in commands and not (base / "films").exists():
        (base / "films").mkdir()
        for number in range(FILMS):
            frames_THWC, _ = game_rollout(number, 50, (36, 64))
            (base / "films" / f"{number}.mp4").write_bytes(encode_film(frames_THWC, 10, "mp4"))
    if not (base / "run").exists() and {"eval", "export", "publish"} & set(commands):
        run(base, f"train store --out run {TRAIN}")
    if "publish" in commands and not (base / "runtime").exists():
        from jinn.player.runtime import PACKAGE, find_runtime

        find_runtime()
        shutil.copytree(cache_folder() / PACKAGE.replace("@", "-"), base / "runtime")


def attack(name: Name, folder: Path, kills: int, moments: random.Random) -> Outcome:
    """Kill a command so many times, and compare each folder in which it then ended."""
    whole = fresh(folder, f"{name}-whole")
    outcome = Outcome(run(whole, COMMANDS[name], ranks=name == "ranks"))
    wanted = contents(whole)
    while outcome.kills < kills:
        place = fresh(folder, f"{name}-{outcome.compared}")
        for _ in range(min(IN_ROW, kills - outcome.kills)):
            if run(place, COMMANDS[name], moments.uniform(0, outcome.seconds), name == "ranks") >= 0:
                break  # it ended by itself before
            outcome.kills += 1
            outcome.differences += [
                f"{place.name}, after a kill: {what}" for what in half(place, whole, wanted)
            ]
        else:
            run(place, COMMANDS[name], ranks=name == "ranks")
        outcome.compared += 1
        found = contents(place)
        unlike = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
        outcome.differences += [f"{place.name}: {path} is not the same" for path in unlike]
        outcome.differences += [f"{place.name}: {path} is left" for path in leftovers(place)]
        if not outcome.differences:
            shutil.rmtree(place)
    return outcome


def fresh(folder: Path, name: str) -> Path:
    """A new folder to run a command in, with a copy of the world."""
    place = folder / name
    shutil.rmtree(place, ignore_errors=True)
    (place / "tmp").mkdir(parents=True)
    if (folder / "base" / "run").exists():
        # One called "world" would have the name of the place.
        shutil.copytree(folder / "base" / "run" / "world", place / "dream")
    return place


def run(place: Path, arguments: str, until: float | None = None, ranks: bool = False) -> float:
    """Run a command in a folder; the seconds that it took, or -1 if it was killed, which it is ``until`` seconds after
    its start. Raises `SystemExit` if it fails by itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED.split())
    process = context.Process(target=ranks_command if ranks else command, args=(place, arguments))
    process.start()
    began = time.monotonic()
    process.join(until)
    if process.exitcode is None and process.pid:
        for number in list(stopped(process.pid)):  # torchrun's ranks and Ray have groups of their own
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.join()
    if process.exitcode == -signal.SIGKILL:
        return -1
    if process.exitcode:
        raise SystemExit(f"{place}: {arguments} failed:\n{(place / 'said.txt').read_text()}")
    return time.monotonic() - began


def command(place: Path, arguments: str) -> None:
    """What a forked process does: the command, as if it were typed in the folder."""
    enter(place)
    from jinn.cli import main as jinn

    sys.exit(jinn(arguments.split()))


def ranks_command(place: Path, arguments: str) -> None:
    """The same with two processes of torchrun."""
    enter(place)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "jinn"]
    os.execv(sys.executable, [sys.executable, *launch, *arguments.split()])


def enter(place: Path) -> None:
    """Work in a folder, with the cache and all temporary files in it, and print into it."""
    os.setsid()
    os.chdir(place)
    with open("said.txt", "a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    (place / "tmp").mkdir(exist_ok=True)
    tempfile.tempdir = None  # it is asked for again
    os.environ |= {"TMPDIR": str(place / "tmp"), "JINN_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}


def stopped(number: int) -> Iterator[int]:
    """A process, those that it started, and theirs; each is stopped before, so that it starts no other one."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGSTOP)
    yield number
    for tasks in Path(f"/proc/{number}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            yield from stopped(child)


def contents(place: Path) -> dict[str, str]:
    """A hash of each file of a result by its path, of the log without times."""
    found = {}
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        parts = path.relative_to(place).parts
        if not {*parts} & {*IGNORED} and not any(part.endswith(".tmp") for part in parts):
            found["/".join(parts)] = digest(path)
    return found


def digest(path: Path) -> str:
    """A hash of a file's content; times, speeds and the order of tensors do not count."""
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        tensors = sorted(load_file(path).items())
        data = b"".join(f"{name} {x.dtype} {x.shape}".encode() + x.tobytes() for name, x in tensors)
    if path.name == "log.jsonl":
        lines = [json.loads(line) for line in data.decode().splitlines() if line.endswith("}")]
        for line in lines:
            for name in ("time", "clips_a_second", "waiting"):
                del line[name]
        data = json.dumps(lines).encode()
    return hashlib.sha256(data).hexdigest()


def half(place: Path, whole: Path, wanted: dict[str, str]) -> Iterator[str]:
    """What lies in a folder after a kill and is not whole, though a later command would take it."""
    if (place / "store" / "store.json").exists():
        yield from unlike(FrameStore.open(place / "store"), FrameStore.open(whole / "store"))
    for state in (place / "run" / "checkpoints").glob("*/step-*/state.json"):
        missing = [
            file for file in json.loads(state.read_text())["files"] if not load_file(state.with_name(file))
        ]
        yield from (f"{state.with_name(file)} is empty" for file in missing)
    if (place / "run" / "world" / "config.json").exists():
        shapes = [
            {name: value.shape for name, value in load_file(run / "run/world/model.safetensors").items()}
            for run in (place, whole)
        ]
        if shapes[0] != shapes[1]:
            yield "the world has other weights"
    for path, found in contents(place).items():
        if (
            path.startswith(("curated/c", "dream/", "report/report", "site/"))
            and wanted.get(path, found) != found
        ):
            yield f"{path} is neither missing nor whole"


def unlike(store: FrameStore, whole: FrameStore) -> Iterator[str]:
    """The episodes of a store that differ from those of a whole one, which may be more."""
    for i in range(store.num_episodes):
        length = int(store.lengths[i])
        if (
            length != whole.lengths[i]
            or not np.array_equal(store.view(i, 0, length), whole.view(i, 0, length))
            or not np.array_equal(known_actions(store, i), known_actions(whole, i))
        ):
            yield f"episode {i} differs"


def known_actions(store: FrameStore, episode: int) -> np.ndarray:
    """The true actions of an episode; there are always some in the synthetic game."""
    actions = store.actions(episode, 0, int(store.lengths[episode]))
    assert actions is not None
    return actions


def leftovers(place: Path) -> Iterator[str]:
    """Temporary files and folders that nobody will use again."""
    for path in place.rglob("*"):
        if path.name.endswith(".tmp") or path.name.startswith(".tmp"):
            yield str(path.relative_to(place))
    for path in Path("/tmp").glob(f"ray.*{TEMPORARY}"):  # Ray's, whose names must be short
        with contextlib.suppress(JinnError, OSError):  # it is in use, or gone
            locked(path / LOCK, "").close()
            yield str(path)


if __name__ == "__main__":
    tyro.cli(main)
