"""Records of worlds and of real clips, computed batch by batch and cached on disk.

A row depends on its clip, the seed and the world, and not on the other clips of its batch. So an evaluation
that was stopped goes on from its last batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jinn.evaluation import (
    actions,
    appearance,
    control,
    distances,
    physics,
    reconstruction,
    rollouts,
    stability,
)
from jinn.evaluation.cache import cached, clips_digest
from jinn.evaluation.clips import Clips, HeldOut
from jinn.evaluation.estimate import Records
from jinn.evaluation.networks import Networks
from jinn.evaluation.protocol import Protocol
from jinn.files import cache_folder, to_dict, weights_hash
from jinn.world.legend import ActionMeaning, describe_actions
from jinn.world.world import World

# Called with what is being measured, how much of it is done, and how much there is.
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class WorldRecords:
    """All records of one world.

    Attributes:
        clips: records of the measured clips.
        fitted_AU: how often latent and true actions occur together in the reference clips, None if it is unknown.
        latent_U: the world's action for each true action: itself where the world's are known, a latent one else. None
            if true actions are unknown.
        long: records of the long roll-outs, first those under random actions, then under constant ones.
        legend: what each action does in the measured clips.
        physics: of `jinn.evaluation.physics`: none without reference clips, and no returns without opposite actions.
    """

    clips: Records
    fitted_AU: Tensor | None
    latent_U: Tensor | None
    long: Records
    legend: tuple[ActionMeaning, ...]
    physics: Records


@dataclass(frozen=True)
class Measure:
    """What the records of all worlds depend on alike.

    Attributes:
        networks, held_out, protocol: see there.
        batch: number of clips at once.
        work: folder of the records of worlds, None to keep none. Those of real clips are in the user's cache.
        on_progress: see `OnProgress`.
    """

    networks: Networks
    held_out: HeldOut
    protocol: Protocol
    batch: int
    work: Path | None
    on_progress: OnProgress

    def real(self) -> Records:
        """Records of all real clips, which are the same for all worlds."""
        held_out, networks, how = self.held_out, self.networks, self.protocol
        parts = (how.frames, how.seed, how.long_rollouts, how.long_frames)
        folder = cache_folder() / "real" / clips_digest(held_out, networks, *parts)
        short = partial(distances.real_records, networks, held_out, seed=how.seed)
        found = self._in_batches("real videos", "short", len(held_out.measured), short, folder)
        for name, clips in (("measured", held_out.measured), ("reference", held_out.reference)):
            if clips is not None:
                pairs = partial(appearance.real_records, clips, name, seed=how.seed)
                title = f"real videos, {name} pairs"
                found |= self._in_batches(title, f"pairs-{name}", appearance.PAIRS, pairs, folder, 250)
        if (long := self._long_real_clips()) is not None:
            segment = partial(stability.real_records, networks, long)
            found |= self._in_batches("real videos, long", "long", len(long), segment, folder)
        return found

    def _in_batches(
        self,
        title: str,
        what: str,
        count: int,
        measure: Callable[[slice], Records],
        folder: Path | None,
        batch: int = 0,
        frames: int = 1,
    ) -> Records:
        """Records of ``count`` rows, batch by batch, each in a file that begins with ``what``, if there is a folder.

        Progress is reported under the ``title``, in frames if a row has several.
        """
        batch, parts = batch or self.batch, []
        for first in range(0, count, batch):
            rows = slice(first, min(first + batch, count))
            file = folder / f"{what}-{rows.start}-{rows.stop}.safetensors" if folder else None
            parts.append(cached(file, partial(measure, rows)))
            self.on_progress(title, rows.stop * frames, count * frames)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _long_real_clips(self) -> Clips | None:
        """Reference clips as long as a segment of a long roll-out, None if fewer than two videos are so long."""
        reference = self.held_out.reference
        if reference is None:
            return None
        length = max(map(len, stability.segments(self.protocol.long_frames).values()))
        store, ids = reference.store, np.unique(reference.episodes)
        ids = ids[store.lengths[ids] >= length]
        if len(ids) < 2:
            return None
        return Clips.spread(store, ids, length, self.protocol.long_rollouts)

    def world(self, world: World, name: str) -> WorldRecords:
        """Records of a world, which ``name`` stands for in progress reports."""
        measured, reference, how = self.held_out.measured, self.held_out.reference, self.protocol
        folder, fitted_AU, latent_U = None, None, None
        if self.work is not None:
            own = to_dict(world.config), weights_hash(world)
            folder = self.work / clips_digest(self.held_out, self.networks, how, *own)
        if reference is not None:
            pairs = partial(actions.reference_records, world, reference)
            found = self._in_batches(f"{name}: actions", "reference", len(reference), pairs, folder)
            fitted_AU = actions.confusion(found, world.num_actions)
        # If only some of the clips have true actions, none are given: an estimate is one of all clips.
        if measured.actions() is not None:
            if world.has_known_actions:
                latent_U = torch.arange(world.num_actions)
            elif fitted_AU is not None:
                latent_U = fitted_AU.argmax(0)

        def short(rows: slice) -> Records:
            clips = measured.rows(rows)
            played = rollouts.play_clips(world, clips, rows.start, how.seed, how.draws, latent_U)
            return (
                reconstruction.records(world, played, self.networks)
                | rollouts.records(played, self.networks)
                | control.records(world, played)
                | actions.records(played)
                | distances.features(self.networks, played.generated)
            )

        found = self._in_batches(f"{name}: clips", "clips", len(measured), short, folder)
        legend = describe_actions(world, measured.rows(slice(0, 256)).read())
        branches = self._physics(world, name, legend, folder)
        long = self._long_rollouts(world, name, folder)
        return WorldRecords(found, fitted_AU, latent_U, long, legend, branches)

    def _physics(
        self, world: World, name: str, legend: tuple[ActionMeaning, ...], folder: Path | None
    ) -> Records:
        measured, reference, seed = self.held_out.measured, self.held_out.reference, self.protocol.seed
        if reference is None:
            return {}
        # It is trained once, and not at all if all branches are cached.
        foresight = cache(partial(physics.foresee, world, reference, seed))
        branch = partial(physics.branch_records, world, measured, seed=seed, foresight=foresight)
        found = self._in_batches(f"{name}: branches", "branches", len(measured), branch, folder)
        if pairs := physics.opposites(legend):
            some = measured.rows(measured.evenly_spaced(self.protocol.long_rollouts))
            there_and_back = partial(physics.return_records, world, some, seed=seed, pairs=pairs)
            found |= self._in_batches(f"{name}: there and back", "returns", len(some), there_and_back, folder)
        return found

    def _long_rollouts(self, world: World, name: str, folder: Path | None) -> Records:
        how, measured = self.protocol, self.held_out.measured
        count, frames = how.long_rollouts, how.long_frames
        title = f"{name}: long play"
        prompts_BHWC = measured.rows(np.tile(measured.evenly_spaced(count), 2)).read()[:, 0]
        actions_BT = stability.long_actions(world.num_actions, count, frames, how.seed)

        def long(rows: slice) -> Records:
            def on_frame(t: int) -> None:
                done = rows.start * frames + (rows.stop - rows.start) * t
                self.on_progress(title, done, 2 * count * frames)

            seeds = [how.seed + row for row in range(rows.start, rows.stop)]
            return stability.records(
                world, self.networks, prompts_BHWC[rows], actions_BT[rows], seeds, on_frame
            )

        return self._in_batches(title, "long", 2 * count, long, folder, frames=frames)
