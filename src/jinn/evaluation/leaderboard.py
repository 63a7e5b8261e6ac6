"""Leaderboards: anybody's world model measured on the same clips of one game, through twenty lines around it.

``jinn eval WORLD --protocol coinrun-2026 --out OUT`` plays the game for its test store (or finds it in the user's
cache), checks its checksum, and writes OUT/leaderboard.json. WORLD is a world of jinn, or ``FILE.py:FUNCTION`` of a
function that returns a `Contestant`. All are measured by the same code, which sees pixels and actions and nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from jinn import __version__
from jinn.data.clips import clip_generators
from jinn.data.ingest import Progress, ingest
from jinn.data.store import FrameStore
from jinn.errors import JinnError
from jinn.evaluation import distances, protocol, stability
from jinn.evaluation.catalogue import DELTA_PSNR, DELTA_PSNR_4
from jinn.evaluation.clips import Clips, choose
from jinn.evaluation.estimate import Records, bootstrap
from jinn.evaluation.measure import Measure, OnProgress
from jinn.evaluation.metrics import psnr
from jinn.evaluation.networks import Networks, load_networks
from jinn.evaluation.protocol import LEADERBOARDS, LeaderboardName
from jinn.evaluation.rollouts import compare_frames, roll_out
from jinn.files import cache_folder, load_function
from jinn.world.world import World

BATCH = 16
FRAMES = (1, 4, 10, 16)  # after the prompt, whose PSNR is reported


class Contestant(Protocol):
    """A world model on a leaderboard: a batch of roll-outs, in NumPy.

    Attributes:
        name: shown in the table.
        num_actions: A; actions are integers in [0, A).

    It may have one more method, ``infer(frames_BTHWC)``, which gives the actions of the steps between real frames,
    int64 ``B(T-1)``. Where there is none it is played by the game's own actions, and A is their number.
    """

    name: str
    num_actions: int

    def reset(self, frames_BHWC: np.ndarray) -> None:
        """Begin roll-outs from one uint8 frame each."""

    def step(self, actions_B: np.ndarray) -> np.ndarray:
        """The next frame of each roll-out, uint8 ``BHWC``, after int64 actions."""


def test_store(name: LeaderboardName, progress: Progress) -> FrameStore:
    """The test store of a leaderboard, played and checked where it is not in the user's cache.

    Raises:
        JinnError: the frames are others than everybody else's.
    """
    board, folder = LEADERBOARDS[name], cache_folder() / "leaderboards" / name
    if not (folder / "store.json").exists():
        ingest(
            [board.source], folder, frames=board.frames, seed=board.seed, levels=board.levels,
            policy=board.policy, progress=progress,
        )  # fmt: skip
    store = FrameStore.open(folder)
    if (found := checksum(store)) != board.checksum:
        raise JinnError(
            f"the frames of {folder} are not those of {name} (checksum {found} instead of {board.checksum}): remove "
            "the folder and try again with envpool 1.0.1 on x86-64, whose pictures these are"
        )
    return store


def checksum(store: FrameStore) -> str:
    """SHA-256 of all frames and actions, episode by episode."""
    found = hashlib.sha256()
    for episode, length in enumerate(store.lengths):
        found.update(store.frames(episode, 0, int(length)).tobytes())
        actions = store.actions(episode, 0, int(length) - 1)
        found.update(b"" if actions is None else np.asarray(actions, "<i8").tobytes())
    return found.hexdigest()


def contestant(name: str, device: torch.device | str) -> Contestant:
    """A world of jinn by its name or folder, or what the function at ``FILE.py:FUNCTION`` returns."""
    if ".py:" in name:
        return cast(Contestant, load_function(name)())
    return OurWorld(World.load(name, device))


class OurWorld:
    """A world of jinn as a `Contestant`; ``seed`` is that of its first roll-out."""

    def __init__(self, world: World, seed: int = 0) -> None:
        self.world, self.seed = world, seed
        self.name, self.num_actions = world.name, world.num_actions
        if not world.has_known_actions:
            self.infer = self._infer

    def reset(self, frames_BHWC: np.ndarray) -> None:
        """See `Contestant`."""
        self.state, _ = self.world.reset(torch.from_numpy(frames_BHWC).unsqueeze(1), self.seed)

    def step(self, actions_B: np.ndarray) -> np.ndarray:
        """See `Contestant`."""
        self.state, frame_BHWC = self.world.step(
            self.state, torch.from_numpy(actions_B).to(self.world.device)
        )
        return frame_BHWC.cpu().numpy()

    def _infer(self, frames_BTHWC: np.ndarray) -> np.ndarray:
        return self.world.infer_actions(torch.from_numpy(frames_BTHWC).to(self.world.device)).cpu().numpy()


class _Seat:
    """A contestant behind what `rollouts.roll_out` and `stability.records` ask of a world; one batch at a time."""

    device = torch.device("cpu")

    def __init__(self, player: Contestant) -> None:
        self.player = player

    def reset(self, frames_B1HWC: Tensor, _: list[int]) -> tuple[None, Tensor]:
        self.player.reset(frames_B1HWC[:, 0].numpy())
        return None, frames_B1HWC[:, 0]

    def step(self, _: None, actions_B: Tensor) -> tuple[None, Tensor]:
        frames_BHWC = np.asarray(self.player.step(actions_B.numpy()))
        if frames_BHWC.dtype != np.uint8 or frames_BHWC.shape[0] != len(actions_B):
            raise JinnError(
                f"{self.player.name} steps to {frames_BHWC.dtype} of shape {frames_BHWC.shape}: a step returns a uint8 "
                "frame, height x width x 3, of each roll-out"
            )
        return None, torch.from_numpy(np.ascontiguousarray(frames_BHWC))


@torch.inference_mode()
def measure(
    player: Contestant,
    store: FrameStore,
    how: protocol.Protocol,
    on_progress: OnProgress = lambda *_: None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Measure a contestant on a store that it was not trained on; returns what leaderboard.json holds.

    Raises:
        JinnError: the contestant returns something else than frames, or a world of jinn was trained on these levels.
    """
    world = player.world if isinstance(player, OurWorld) else None
    if world is not None and world.trained_on is not None and np.isin(store.groups, world.trained_on).any():
        raise JinnError(f"{player.name} was trained on levels of this leaderboard: it cannot take part")
    held_out = choose(store, [], how.frames + 1, how.clips, how.seed)
    networks = load_networks(torch.device(device), store.size_hw, how.frames)
    real = Measure(networks, held_out, how, BATCH, None, on_progress).real()
    parts = []
    for first in range(0, len(held_out.measured), BATCH):
        rows = slice(first, min(first + BATCH, len(held_out.measured)))
        parts.append(clip_records(player, held_out.measured.rows(rows), rows.start, how.seed, networks))
        on_progress(f"{player.name}: clips", rows.stop, len(held_out.measured))
    clips = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    estimates = {
        name: bootstrap(clips[name].double().mean(1), how.seed)
        for name in clips
        if name == DELTA_PSNR or "/" not in name
    }
    for t in (t for t in FRAMES if t <= how.frames):
        estimates[f"psnr_{t}"] = bootstrap(clips["psnr"][:, t - 1], how.seed)
    estimates[DELTA_PSNR_4] = bootstrap(clips[DELTA_PSNR][:, 3], how.seed)
    found = dict(distances.estimates(clips, real, how.seed))
    estimates |= {key: found[key] for key in found if key.endswith(("/inferred", "/floor"))}
    long = long_records(player, held_out.measured, how, networks, on_progress)
    estimates |= dict(stability.estimates(long, real, how.long_frames, how.seed))
    return {
        "world": player.name,
        "actions": "its own" if hasattr(player, "infer") else "the game's",
        "clips": len(held_out.measured),
        "missing": list(networks.missing),
        "jinn": __version__,
        "estimates": {name: asdict(estimate) for name, estimate in estimates.items()},
    }


def clip_records(player: Contestant, clips: Clips, first: int, seed: int, networks: Networks) -> Records:
    """Metrics of each frame of some clips ``BT``, and features of the roll-outs for distances."""
    seat, real_BTHWC = cast(World, _Seat(player)), clips.read()
    if hasattr(player, "infer"):
        actions_BT = torch.from_numpy(np.asarray(player.infer(real_BTHWC.numpy())))
    elif (actions := clips.actions()) is not None:
        actions_BT = actions
    else:
        raise JinnError(f"{clips.store.path} has no true actions, and {player.name} infers none")
    shape, rngs = actions_BT.shape[1:], clip_generators(seed, range(first, first + len(clips)))
    random_BT = torch.stack([torch.randint(player.num_actions, shape, generator=rng) for rng in rngs])
    future_BTHWC = real_BTHWC[:, 1:]
    made, other = (roll_out(seat, real_BTHWC[:, 0], plan, [])[:, 1:] for plan in (actions_BT, random_BT))
    found = compare_frames(networks, made, future_BTHWC, "")
    copied = compare_frames(networks, real_BTHWC[:, :1].expand_as(future_BTHWC), future_BTHWC, "")
    records = {name.strip("/"): values for name, values in found.items()}
    records |= {f"{name.strip('/')}_copy_last": values for name, values in copied.items()}
    records[DELTA_PSNR] = records["psnr"] - psnr(other, future_BTHWC)
    return records | distances.features(networks, {"inferred": made})


def long_records(
    player: Contestant, clips: Clips, how: protocol.Protocol, networks: Networks, on_progress: OnProgress
) -> Records:
    """Records of long roll-outs, first those under random actions, then under constant ones."""
    seat, count = cast(World, _Seat(player)), how.long_rollouts
    prompts_BHWC = clips.rows(np.tile(clips.evenly_spaced(count), 2)).read()[:, 0]
    actions_BT = stability.long_actions(player.num_actions, count, how.long_frames, how.seed)
    parts = []
    for first in range(0, 2 * count, BATCH):
        rows = slice(first, min(first + BATCH, 2 * count))

        def on_frame(t: int, rows: slice = rows) -> None:
            done = rows.start * how.long_frames + (rows.stop - rows.start) * t
            on_progress(f"{player.name}: long play", done, 2 * count * how.long_frames)

        parts.append(stability.records(seat, networks, prompts_BHWC[rows], actions_BT[rows], [], on_frame))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
