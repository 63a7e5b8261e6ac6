"""``jinn label``"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro

from jinn.cli.console import progress, say
from jinn.data.store import FrameStore
from jinn.files import check_writable, write_tensors
from jinn.world.label import label as label_store
from jinn.world.world import World


def label(world: tyro.conf.Positional[str], store: tyro.conf.Positional[Path], /, out: Path) -> None:
    """Label every frame of a store with its latent action.

    Args:
        world: Name of a built-in world, or folder of a world or of a run.
        store: Frame store made by jinn data. If it has true actions, the NMI of labels and true actions is
            printed as well.
        out: A safetensors file to write. It holds actions (int64, one for each frame in the store's order: the
            action that leads to the next frame, -1 at the end of an episode) and lengths (int64, number of frames
            of each episode).
    """
    from jinn.evaluation.actions import nmi_with_true_actions

    loaded, frames = World.load(world), FrameStore.open(store)
    check_writable(out.parent)
    with progress() as show:
        actions = label_store(loaded, frames, on_episode=partial(show, "labelling"))
    lengths = torch.tensor(frames.lengths, dtype=torch.long)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(out, {"actions": torch.from_numpy(actions), "lengths": lengths})
    counts = torch.bincount(torch.from_numpy(actions[actions >= 0]), minlength=loaded.num_actions).tolist()
    summary: dict[str, Any] = {"frames": len(actions), "uses of each action": counts}
    if nmi := nmi_with_true_actions(actions, frames, loaded.num_actions):
        interval = [round(x, 3) for x in (nmi.value, nmi.low, nmi.high)]
        summary["NMI with the true actions, 95% interval"] = interval
    say(json.dumps(summary))
