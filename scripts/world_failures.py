"""Where does a world fall apart soonest? Prompts and held actions, as a test set for whoever builds worlds.

python scripts/world_failures.py platforms stores/test --out failures

Every place in a store of real video can be a prompt, and every action can be held. A map of failures
(`jinn.agents.illuminate`) looks for the prompts from which the picture leaves the videos soonest, for each action and
for dark and bright prompts. OUT.json has them, worst first; OUT.png shows the worst: the prompt, and frames on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

from jinn.agents.illuminate import Axis, SearchConfig, illuminate
from jinn.data.clips import read_clips
from jinn.data.store import FrameStore
from jinn.evaluation.appearance import PAIRS, Typical, appearance, fit_typical, real_pairs
from jinn.evaluation.estimate import bootstrap
from jinn.evaluation.stability import frames_inside
from jinn.files import replacing, write_json
from jinn.world.world import World

LOOK = 5  # a frame in so many is looked at, as `jinn eval` does
SHOWN = 8


def main(
    world: str,
    store: Path,
    /,
    out: Path = Path("failures"),
    frames: int = 60,
    search: SearchConfig = SearchConfig(rounds=10, batch=16, change=0.02),  # noqa: B008 it is frozen
    random: int = 64,
) -> None:
    """Map the prompts from which a world leaves the videos soonest.

    Args:
        world: A world, by name or folder.
        store: Frame store of levels or videos that it was not trained on.
        out: Path of the results without an ending.
        frames: For how long each action is held.
        search: How long is searched.
        random: Prompts and actions drawn at random, for comparison.
    """
    loaded, videos = World.load(world), FrameStore.open(store)
    typical = typical_frames(videos, search.seed)
    starts_X = places(videos)

    def case(genes_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Number of the place in the store, and action."""
        place_N, action_N = (
            (genes_ND[:, i] * count).astype(int).clip(max=count - 1)
            for i, count in enumerate((len(starts_X), loaded.num_actions))
        )
        return place_N, action_N

    def evaluate(genes_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place_N, action_N = case(genes_ND)
        prompts_NHWC = prompts_at(videos, starts_X[place_N])
        lasted_N = lasts(loaded, typical, prompts_NHWC, action_N, frames)[0]
        bright_N = prompts_NHWC.float().mean((1, 2, 3)).numpy()
        return 1 - lasted_N / frames, np.stack([action_N + 0.5, bright_N], -1)

    bright_X = prompts_at(videos, starts_X[:: max(1, len(starts_X) // 200)]).float().mean((1, 2, 3)).numpy()
    axes = (
        Axis("action", 0, loaded.num_actions, loaded.num_actions),
        Axis("brightness", float(bright_X.min()), float(bright_X.max()) + 1, 3),
    )
    found = illuminate(evaluate, 2, axes, search, lambda done, *_: print(f"round {done}", flush=True))
    chance = frames * (1 - evaluate(np.random.default_rng(search.seed + 1).random((random, 2)))[0])
    report(f"frames from {random} random prompts under random held actions", chance)
    report(f"frames from the {len(found.badness_K)} prompts that were found", frames * (1 - found.badness_K))
    place_K, action_K = case(found.genes_KD)
    write_json(
        out.with_suffix(".json"), rows(loaded, starts_X[place_K], action_K, frames * (1 - found.badness_K))
    )
    prompts_KHWC = prompts_at(videos, starts_X[place_K[:SHOWN]])
    save_sheet(out.with_suffix(".png"), *lasts(loaded, typical, prompts_KHWC, action_K[:SHOWN], frames)[1:])


def typical_frames(videos: FrameStore, seed: int) -> Typical:
    """What frames of the store look like beside their prompts, and the limit on other levels or videos."""
    groups = np.random.default_rng(seed).permutation(np.unique(videos.groups))
    fitted, held_out = (np.flatnonzero(np.isin(videos.groups, part)) for part in np.array_split(groups, 2))
    features: Callable[[Tensor, Tensor], Tensor] = lambda a, b: appearance(a, b[:, None]).squeeze(1)  # noqa: E731
    pairs = (real_pairs(videos, some, PAIRS, seed + i) for i, some in enumerate((fitted, held_out)))
    return fit_typical(*(features(*pair) for pair in pairs))


def places(videos: FrameStore) -> np.ndarray:
    """Episode and frame of every tenth frame of the store, ``X2``."""
    return np.concatenate(
        [np.stack([np.full(-(-n // 10), i), np.arange(0, n, 10)], -1) for i, n in enumerate(videos.lengths)]
    )


def prompts_at(videos: FrameStore, places_N2: np.ndarray) -> Tensor:
    """The frames of some places, uint8 ``NHWC``."""
    return read_clips(videos, places_N2[:, 0], places_N2[:, 1], 1).squeeze(1)


@torch.inference_mode()
def lasts(
    world: World, typical: Typical, prompts_NHWC: Tensor, action_N: np.ndarray, frames: int
) -> tuple[np.ndarray, Tensor, Tensor]:
    """For how many frames each roll-out looks like the videos; its prompts, and every tenth of its frames ``NTHWC``."""
    state, _ = world.reset(prompts_NHWC.unsqueeze(1), [0] * len(prompts_NHWC))
    looked, shown, actions_N = [], [], torch.from_numpy(action_N)
    for t in range(1, frames + 1):
        state, frames_NHWC = world.step(state, actions_N)
        if t % LOOK == 0:
            looked.append(typical.inside(appearance(prompts_NHWC, frames_NHWC.unsqueeze(1)))[:, 0])
        if t % 10 == 0:
            shown.append(frames_NHWC)
    times_X = torch.arange(LOOK, frames + 1, LOOK)
    lasted_N = frames_inside(torch.stack(looked, 1), times_X, frames).numpy()
    return lasted_N, prompts_NHWC, torch.stack(shown, 1)


def report(name: str, lasted_N: np.ndarray) -> None:
    """Print a mean with its interval."""
    found = bootstrap(torch.as_tensor(lasted_N).double(), 0)
    print(f"{name}: {found.value:.0f} [{found.low:.0f}, {found.high:.0f}]", flush=True)


def rows(
    world: World, places_K2: np.ndarray, action_K: np.ndarray, lasted_K: np.ndarray
) -> list[dict[str, Any]]:
    """The test set: what to start from, what to hold, and for how long this world lasts."""
    names = world.action_names or [str(action) for action in range(world.num_actions)]
    return [
        {"episode": int(place[0]), "frame": int(place[1]), "action": names[action], "inside_for": int(lasted)}
        for place, action, lasted in zip(places_K2, action_K, lasted_K, strict=True)
    ]


def save_sheet(path: Path, prompts_NHWC: Tensor, frames_NTHWC: Tensor) -> None:
    """A row for each roll-out: its prompt, then its frames."""
    rows_NTHWC = torch.cat([prompts_NHWC.unsqueeze(1), frames_NTHWC], 1)
    picture_HWC = torch.cat([torch.cat([*row_THWC], 1) for row_THWC in rows_NTHWC]).numpy()
    with replacing(path) as file:
        Image.fromarray(picture_HWC).save(file, "PNG")


if __name__ == "__main__":
    tyro.cli(main)
