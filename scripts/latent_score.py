"""How much latent actions say about the true ones, over how much can be said at all: docs/research-log.md.

python scripts/latent_score.py stores/platforms stores/platforms_test --world platforms

The ceiling is a model of the same size that learns the true actions from the same pairs of frames
(`jinn.models.ours.known_actions`). Both are judged on other levels by the mutual information with the true action: how
much better than by its frequency the action is foretold, by a table of actions for each latent action or by the model.
"""

from __future__ import annotations

from pathlib import Path

import torch
import tyro
from torch import Tensor

from jinn.data.clips import ClipSampler, evenly_spaced_clips, read_actions, read_clips
from jinn.data.store import FrameStore
from jinn.evaluation.estimate import bootstrap
from jinn.files import write_json
from jinn.models.ours.known_actions import KnownActionModel, KnownActionsConfig
from jinn.models.ours.motion_latent_actions import MotionLatentActionsConfig
from jinn.world.world import World

LENGTH = 9  # frames of a clip that is judged


def main(
    store: Path,
    test: Path,
    /,
    world: str = "platforms",
    steps: int = 1_100,
    batch: int = 64,
    learning_rate: float = 1e-3,
    clips: int = 1_000,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Train the ceiling, judge both, and print the score with its interval.

    Args:
        store: Frame store with true actions that the ceiling and the table learn from.
        test: Frame store of other levels, with true actions.
        world: World with latent actions of our own kind.
        steps: Steps of the ceiling's training.
        batch: Pairs of frames of a step.
        learning_rate: Largest learning rate; it falls to 0 along a half cosine.
        clips: Number of clips of 9 frames that the table is made from, and that are judged.
        seed: Seed of the ceiling and of the interval.
        out: JSON file for the figures.
    """
    known, other = FrameStore.open(store), FrameStore.open(test)
    latent = World.load(world).latent_actions
    model = ceiling(latent.config, known, steps, batch, learning_rate, seed)
    learned_BTHWC, taken_BTm1 = labelled(known, "train", clips)
    judged_BTHWC, true_BTm1 = labelled(other, "all", clips)

    counts_KA = torch.ones(latent.num_actions, known.pressed_actions)
    codes_BTm1 = torch.cat([latent.encode(x) for x in learned_BTHWC.split(64)])
    counts_KA.index_put_((codes_BTm1.flatten(), taken_BTm1.flatten()), torch.tensor(1.0), accumulate=True)
    log_KA = (counts_KA / counts_KA.sum(1, keepdim=True)).log()
    frequency_A = (counts_KA.sum(0) / counts_KA.sum()).log()

    codes_BTm1 = torch.cat([latent.encode(x) for x in judged_BTHWC.split(64)])
    with torch.inference_mode():
        seen_BTm1A = torch.cat([model(x).log_softmax(-1) for x in judged_BTHWC.split(64)])

    def gain(log_BTm1A: Tensor) -> Tensor:
        """Nats by which the true actions of each clip are likelier than by their frequency, ``B``."""
        told_BTm1 = (log_BTm1A - frequency_A).gather(-1, true_BTm1.unsqueeze(-1)).squeeze(-1)
        return told_BTm1.mean(1)

    gains_B2 = torch.stack([gain(log_KA[codes_BTm1]), gain(seen_BTm1A)], dim=1)
    figures = {
        "latent actions, nats": bootstrap(gains_B2[:, 0], seed),
        "ceiling, nats": bootstrap(gains_B2[:, 1], seed),
        "score": bootstrap(gains_B2, seed, lambda means: means[:, 0] / means[:, 1]),
    }
    for name, x in figures.items():
        print(f"{name}: {x.value:.3f} [{x.low:.3f}, {x.high:.3f}], {x.count} clips")
    if out:
        write_json(out, {name: [x.value, x.low, x.high] for name, x in figures.items()} | {"seed": seed})


def labelled(store: FrameStore, split: str, clips: int) -> tuple[Tensor, Tensor]:
    """Evenly spaced clips and their true actions."""
    chosen = evenly_spaced_clips(store, LENGTH, split, clips)
    return read_clips(store, *chosen, LENGTH), read_actions(store, *chosen, LENGTH)


def ceiling(
    latent: object, store: FrameStore, steps: int, batch: int, learning_rate: float, seed: int
) -> KnownActionModel:
    """A model of true actions with the sizes of a latent action model's encoder, trained on pairs of frames."""
    if not isinstance(latent, MotionLatentActionsConfig):
        raise SystemExit("the world's latent actions are not of our own kind (MotionLatentActionsConfig)")
    torch.manual_seed(seed)
    model = KnownActionsConfig.sized_as(latent, store.pressed_actions).build()
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    sampler = ClipSampler(store, 2, seed)
    for step in range(steps):
        places = sampler.locate(range(step * batch, (step + 1) * batch))
        loss, report = model.loss(read_clips(store, *places, 2), read_actions(store, *places, 2))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            print(
                f"step {step + 1}: loss {float(loss):.3f}, right {float(report['accuracy']):.0%}", flush=True
            )
    return model.eval()


if __name__ == "__main__":
    tyro.cli(main)
