"""Protocols: how much an evaluation measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jinn.contracts import JinnError
from jinn.evaluation.catalogue import ENDS


@dataclass(frozen=True)
class Protocol:
    """How much is measured.

    Attributes:
        clips: largest number of clips. Distances depend on it: compare only those of equal numbers.
        frames: T, number of frames to predict after the prompt.
        draws: number of random action sequences for each clip.
        long_rollouts: number of long roll-outs under random actions, and as many under constant ones.
        long_frames: T of long roll-outs.
        shown: number of clips in the report.
        seed: seed of roll-outs, random actions and the bootstrap.
    """

    clips: int = 256
    frames: int = 16
    draws: int = 3
    long_rollouts: int = 16
    long_frames: int = 1000
    shown: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clips < 2 or self.frames < 4 or self.draws < 1 or self.shown < 1:
            raise JinnError("an evaluation needs at least 2 clips of 4 frames, 1 draw and 1 clip to show")
        if self.long_rollouts < 2 or self.long_frames < ENDS[0]:
            raise JinnError(f"long roll-outs need at least 2 of them, and {ENDS[0]} frames")


ProtocolName = Literal["quick", "fvd256_16f", "fvd2048_16f"]
PROTOCOLS: dict[ProtocolName, Protocol] = {
    "quick": Protocol(clips=16, draws=2, long_rollouts=4, long_frames=300, shown=6),
    "fvd256_16f": Protocol(),
    "fvd2048_16f": Protocol(clips=2048, long_rollouts=100),
}


@dataclass(frozen=True)
class Leaderboard:
    """What anybody's world models are measured on alike (`jinn.evaluation.leaderboard`).

    Attributes:
        source: environment that is played for the test store.
        frames, seed, levels, policy: how, as of `jinn.data.ingest`.
        checksum: SHA-256 of the store's frames and actions.
        protocol: how much is measured.
    """

    source: str
    frames: int
    seed: int
    levels: tuple[int, int]
    policy: str
    checksum: str
    protocol: Protocol


LeaderboardName = Literal["coinrun-2026"]
LEADERBOARDS: dict[str, Leaderboard] = {
    # The paper's reproducible case study: CoinRun hard with all its themes; train on levels 0 to 10,000.
    "coinrun-2026": Leaderboard(
        source="envpool:CoinrunHard-v0",
        frames=60_000,
        seed=2026,
        levels=(20_000, 1_000),
        policy="sticky",
        checksum="57d8d4d2417f9c56f0eeb5f45bf697ee70c3c02d66645fb145125de9d8274975",
        protocol=Protocol(clips=256, draws=1, long_frames=300, seed=2026),
    )
}
