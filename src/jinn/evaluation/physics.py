"""Physics: whether a world obeys actions where they are possible, and only there; and whether it leads back.

A latent action says how the picture changes, and in most states most changes are impossible: nobody sinks into the
ground. Asked for an impossible action, a world should do what it would do by itself. Which actions are possible in
a state is learned from real video: `Foresight` gives P(action | past), and an action is possible from 5% on. All of
this is our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.evaluation.catalogue import RETURNS
from jinn.evaluation.clips import Clips
from jinn.evaluation.estimate import Estimate, Records, bootstrap, exactly
from jinn.evaluation.metrics import psnr
from jinn.world.legend import ActionMeaning
from jinn.world.world import World

POSSIBLE = 0.05  # an action of at least this probability is possible
SIDE = 32  # of the frames that `Foresight` sees, pixels
STEPS, BATCH = 250, 64  # of its training


class Foresight(nn.Module):
    """P(action | past) from the two newest frames and the action between them: a small convolutional network."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.num_actions = num_actions
        layers: list[nn.Module] = []
        for before, after in pairwise((6, 16, 32, 64)):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GELU()]
        self.see = nn.Sequential(*layers, nn.Flatten())
        self.decide = nn.Sequential(
            nn.Linear(64 * (SIDE // 8) ** 2 + num_actions, 128), nn.GELU(), nn.Linear(128, num_actions)
        )

    def forward(self, frames_BTHWC: Tensor, actions_BTm1: Tensor) -> Tensor:
        """``logits_BA`` of the next action; of a longer past the newest two frames are used."""
        pixels = frames_BTHWC[:, -2:].movedim(-1, 2).flatten(1, 2).float()
        small = F.adaptive_avg_pool2d(pixels, SIDE) / 128 - 1
        before = F.one_hot(actions_BTm1[:, -1], self.num_actions).float()
        return self.decide(torch.cat([self.see(small), before], dim=1))


@torch.inference_mode(False)
@torch.enable_grad()
def learn_foresight(frames_BTHWC: Tensor, actions_BTm1: Tensor, num_actions: int, seed: int) -> Foresight:
    """Train `Foresight` to tell the last action of real clips of three frames from what is before it.

    The clips, of three frames or more, are of other levels or videos than those it is used on. The seed is that of
    the initial weights and of the batches.
    """
    frames_BTHWC, actions_BTm1 = frames_BTHWC.clone(), actions_BTm1.clone()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Foresight(num_actions).to(frames_BTHWC.device)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    for _ in range(STEPS):
        rows = torch.randint(len(frames_BTHWC), (BATCH,), generator=generator)
        # The past ends anywhere in the clip, before its last frame.
        end = int(torch.randint(2, frames_BTHWC.shape[1], (), generator=generator))
        logits_BA = model(frames_BTHWC[rows, end - 2 : end], actions_BTm1[rows, end - 2 : end - 1])
        loss = F.cross_entropy(logits_BA, actions_BTm1[rows, end - 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.requires_grad_(False).eval()


def foresee(world: World, clips: Clips, seed: int, count: int = 4000) -> Foresight:
    """`learn_foresight` on clips of four frames from the episodes of these clips."""
    clips = Clips.spread(clips.store, np.unique(clips.episodes), 4, count)
    frames_BTHWC = clips.read().to(world.device)
    actions_BTm1 = torch.cat([world.infer_actions(part) for part in frames_BTHWC.split(64)])
    return learn_foresight(frames_BTHWC, actions_BTm1, world.num_actions, seed)


def branch_records(
    world: World, clips: Clips, rows: slice, seed: int, foresight: Callable[[], Foresight]
) -> Records:
    """What each action does to the first half of some of these real clips; the seed is that of the roll-outs.

    ``foresight`` gives that of other levels or videos. The records are ``BA`` each: ``probability`` of the action;
    ``found``, whether the latent action model infers it from the new frame; ``like_likeliest``, PSNR (dB) between
    the new frame and that under the likeliest action.
    """
    past_BTHWC = clips.rows(rows).read()[:, : clips.frames // 2].to(world.device)
    B, A = len(past_BTHWC), world.num_actions
    probability_BA = foresight()(past_BTHWC, world.infer_actions(past_BTHWC)).softmax(-1)
    branches_XTHWC = past_BTHWC.repeat_interleave(A, 0)
    actions_X = torch.arange(A, device=world.device).repeat(B)
    seeds = [seed + row for row in range(rows.start, rows.stop) for _ in range(A)]
    state, _ = world.reset(branches_XTHWC, seeds)
    _, new_XHWC = world.step(state, actions_X)
    inferred_XT = world.infer_actions(torch.cat([branches_XTHWC, new_XHWC[:, None]], dim=1))
    new_BAHWC = new_XHWC.unflatten(0, (B, A))
    likeliest_BHWC = new_BAHWC[torch.arange(B), probability_BA.argmax(1)]
    return {
        "probability": probability_BA,
        "found": (inferred_XT[:, -1] == actions_X).unflatten(0, (B, A)),
        "like_likeliest": psnr(new_BAHWC, likeliest_BHWC[:, None].expand_as(new_BAHWC)),
    }


def opposites(legend: Sequence[ActionMeaning]) -> list[tuple[int, int]]:
    """Pairs of actions whose motions undo each other: together they move by less than half of either."""
    motions = torch.tensor([[meant.down, meant.right] for meant in legend])
    pairs = []
    for a, motion in enumerate(motions):
        rest = (motions + motion).norm(dim=-1)
        b = int(rest.argmin())
        if a < b and rest[b] < 0.5 * min(motion.norm(), motions[b].norm()):
            pairs.append((a, b))
    return pairs


def return_records(
    world: World, clips: Clips, rows: slice, seed: int, pairs: Sequence[tuple[int, int]]
) -> Records:
    """``physics/return/<k>``: PSNR (dB) ``B`` of the frame after k steps of an action and k of its opposite.

    It is compared with the frame before them, which is the last of the first half of a real clip, as the tokenizer
    reconstructs it. The mean is over all pairs in both orders.
    """
    past_BTHWC = clips.rows(rows).read()[:, : clips.frames // 2].to(world.device)
    B, orders = len(past_BTHWC), [*pairs, *((b, a) for a, b in pairs)]
    there_X, back_X = (torch.tensor(column).repeat(B) for column in zip(*orders, strict=True))
    seeds = [seed + row for row in range(rows.start, rows.stop) for _ in orders]
    state, start_XHWC = world.reset(past_BTHWC.repeat_interleave(len(orders), 0), seeds)
    found = {}
    for k in range(1, max(RETURNS) + 1):
        state, _ = world.step(state, there_X)
        if k in RETURNS:
            returning, frame_XHWC = state, start_XHWC
            for _ in range(k):
                returning, frame_XHWC = world.step(returning, back_X)
            found[f"physics/return/{k}"] = psnr(frame_XHWC, start_XHWC).view(B, -1).mean(1)
    return found


def estimates(records: Records, seed: int) -> Iterator[tuple[str, Estimate]]:
    """Obedience on possible actions, reaction to impossible ones, and the way back."""
    probability_BA = records["probability"]
    possible_BA = probability_BA >= POSSIBLE
    other_BA = probability_BA < probability_BA.amax(1, keepdim=True)  # than the likeliest
    yield "physics/possible", bootstrap(possible_BA.double().mean(1), seed)
    yield "physics/obedience/chance", exactly(1 / possible_BA.shape[1], len(possible_BA), seed)
    for name, record, chosen_BA in (
        ("physics/obedience", "found", possible_BA),
        ("physics/reaction", "like_likeliest", ~possible_BA & other_BA),
        ("physics/reaction/possible", "like_likeliest", possible_BA & other_BA),
    ):
        # NaN where none is chosen.
        values_B = (records[record].double() * chosen_BA).sum(1) / chosen_BA.sum(1)
        if bool(values_B.isfinite().any()):
            yield name, bootstrap(values_B, seed)
    for name in (f"physics/return/{k}" for k in RETURNS):
        if name in records:
            yield name, bootstrap(records[name], seed)
