"""A run's folder: what the run depends on, what may be changed when it goes on, and who trains in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from jinn.contracts import JinnError
from jinn.data.clips import evenly_spaced_clips, read_clips
from jinn.data.store import FrameStore
from jinn.data.stream import Source, StoreSource
from jinn.files import locked, read_config, read_json, to_dict, weights_hash, write_json
from jinn.models.ours.known_actions import KnownActionsConfig
from jinn.training.checkpoints import newest, steps_done
from jinn.training.loop import Phase
from jinn.training.optim import INTERVALS, fastest_precision
from jinn.training.parallel import Precision
from jinn.training.recipe import Recipe, phases
from jinn.world.world import World

LOCK = "training.lock"


@dataclass(frozen=True)
class RunConfig:
    """What a run depends on: its config.json.

    Attributes:
        seed: of weights, clips and all other randomness.
        precision: of matrix products.
        store: path of the store, or of those, that ``jinn eval RUN`` measures on; a run may go on with the same store
            elsewhere.
        stream: the config of a stream and its source, None for a store.
        frames: `fingerprint` of the store, None for a stream.
        base: `weights_hash` of the world whose tokenizer and latent actions are used, None if they are learned.
        recipe: the configs.
    """

    seed: int
    precision: Precision
    store: tuple[str, ...] | str
    stream: dict[str, Any] | None
    frames: str | None
    base: str | None
    recipe: Recipe


@contextmanager
def hold(run: Path) -> Iterator[None]:
    """Make the folder of a run and keep other processes from training in it.

    Raises:
        JinnError: another process trains in it, or it holds something that is not a run.
    """
    others = [path for path in run.glob("*") if path.name != LOCK and path.suffix != ".tmp"]
    if others and not (run / "config.json").exists():
        raise JinnError(f"{run} holds something that is not a run ({others[0].name}): give another --out")
    run.mkdir(parents=True, exist_ok=True)
    with locked(run / LOCK, f"another process trains in {run}: wait for it to end, or give another --out"):
        yield


def start_or_resume(
    run: Path,
    recipe: Recipe,
    seed: int,
    source: Source,
    base: World | None,
    precision: Precision | Literal["auto"],
    device: torch.device,
) -> Precision:
    """Write the run's config, or check it against the one that it started with; returns the run's precision."""
    path = run / "config.json"
    stores = tuple(str(store.resolve()) for store in source.evaluation_paths)
    config = RunConfig(
        seed,
        fastest_precision(device) if precision == "auto" else precision,
        stores if len(stores) > 1 else stores[0],
        json.loads(json.dumps(source.stream_config)),
        fingerprint(source.chunk(0)) if isinstance(source, StoreSource) else None,
        None if base is None else weights_hash(base.tokenizer, base.latent_actions),
        recipe,
    )
    if path.exists():
        saved = read_run_config(path)
        if precision == "auto":
            config = replace(config, precision=saved.precision)
        if found := changes(run, saved, config):
            raise JinnError(
                f"{run} was started with {', '.join(found)}: give the same again, or another --out"
            )
        check_order(run, config)
        if config == saved:
            return config.precision
    write_json(path, to_dict(config))
    return config.precision


def read_run_config(path: Path) -> RunConfig:
    """The config.json of a run; raises `JinnError` if it is damaged."""
    values = read_json(path)
    if isinstance(values, dict):
        values.setdefault("frames", None)  # a run that began before they were recorded
    return read_config(RunConfig, path, values)


def fingerprint(store: FrameStore) -> str:
    """A hash that tells the training frames of a store from others: lengths of episodes, 64 frames, and weights."""
    episodes = store.select("train")
    digest = hashlib.sha256(store.lengths[episodes].astype(np.int64).tobytes())
    digest.update(read_clips(store, *evenly_spaced_clips(store, 1, episodes, 64), 1).numpy().tobytes())
    if store.weights is not None:
        digest.update(store.weights.tobytes())
    return digest.hexdigest()


def changes(run: Path, saved: RunConfig, now: RunConfig) -> list[str]:
    """What a run was started with and may not change, as on the command line.

    What is logged and kept may change, and so may the training of phases that have not begun.
    """
    known, others = (isinstance(x.recipe.latent_actions, KnownActionsConfig) for x in (saved, now))
    found = {
        "another --base": saved.base != now.base,
        f"--actions {'known' if known else 'latent'}": known != others,
        f"--seed {saved.seed}": saved.seed != now.seed,
        "other frames, or with its store and weights as they were then": saved.stream != now.stream
        or saved.frames not in (None, now.frames),
        f"--precision {saved.precision}": saved.precision != now.precision,
    }
    begun = {phase.setting for phase in begun_phases(run, saved)}

    def fixed(path: str) -> bool:
        group, _, name = path.partition(".")
        if group.endswith("_training"):
            return group in begun and name not in INTERVALS
        return known == others or group != "latent_actions"

    was, wanted = (dict(flat(to_dict(x.recipe))) for x in (saved, now))
    paths = [path for path in {**was, **wanted} if fixed(path) and was.get(path, ()) != wanted.get(path, ())]
    values = [f"{path}={in_words(was[path])}" if path in was else f"no {path}" for path in paths]
    if len(values) > 5:
        values[5:] = ["and so on"]
    return [name for name, is_changed in found.items() if is_changed] + values


def begun_phases(run: Path, config: RunConfig) -> list[Phase]:
    """The phases of a run that have a checkpoint."""
    planned = phases(config.recipe, config.base is None)
    return [phase for phase in planned if newest(run / "checkpoints" / phase.name)]


def check_order(run: Path, config: RunConfig) -> None:
    """Raise `JinnError` if a phase has no checkpoint but a later one has: it learned from what is gone."""
    begun = [phase.name for phase in begun_phases(run, config)]
    planned = [phase.name for phase in phases(config.recipe, config.base is None)]
    if begun != planned[: len(begun)]:
        (missing, *_) = (name for name in planned if name not in begun)
        raise JinnError(
            f"{run / 'checkpoints'} has no {missing}, which {begun[-1]} was trained after: restore it, or remove "
            "the later phases there, too"
        )


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, which may have just begun."""
    return (folder / "config.json").is_file() and (
        (folder / LOCK).exists() or (folder / "checkpoints").is_dir()
    )


def what_is_learned(run: Path) -> str | None:
    """How far a run is, such as "1,500 of 6,000 steps of the phase dynamics"; None if it is at its end.

    Raises:
        JinnError: its config.json is damaged.
    """
    config = read_run_config(run / "config.json")
    planned = phases(config.recipe, config.base is None)
    done = {phase: steps_done(run / "checkpoints" / phase.name) for phase in planned}
    if done[planned[-1]] >= planned[-1].config.steps:
        return None
    phase = max((phase for phase in planned if done[phase]), key=planned.index, default=planned[0])
    return f"{done[phase]:,} of {phase.config.steps:,} steps of the phase {phase.name}"


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested dicts by their path, such as ``dynamics.transformer.layers``."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def in_words(value: Any) -> str:
    """A value as ``--set`` takes it."""
    if isinstance(value, tuple | list):
        return ",".join(map(in_words, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
