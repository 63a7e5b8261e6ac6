"""Cloning from video (paper section 3.3, appendix E): do what was seen, and find out the keys later.

Latent actions label videos of an expert; a policy learns to name the latent action of a frame; and a few
steps whose true actions are known say which keys each latent action stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from jinn.agents.network import Network, NetworkConfig, new_network
from jinn.contracts import JinnError, check_frames


@dataclass(frozen=True)
class CloneConfig:
    """How a policy is cloned.

    Attributes:
        steps: of the optimiser.
        batch: frames a step.
        learning_rate: of Adam; falls linearly to nothing.
        shift: frames are moved by up to so many pixels, or the policy learns the videos by heart.
    """

    steps: int = 2_000
    batch: int = 128
    learning_rate: float = 1e-3
    shift: int = 3


def clone(
    frames_XHWC: Tensor,
    actions_X: Tensor,
    num_actions: int,
    config: CloneConfig | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    network: Network | None = None,
    on_step: Callable[[int, float], None] = lambda *_: None,
) -> Network:
    """Learn which action follows a frame. The paper's policy also sees the three frames before; ours one.

    Args:
        frames_XHWC: uint8, X frames in any order.
        actions_X: int64, what was done in each; frames with a negative one are left out.
        num_actions: latent or true ones, whichever `actions_X` are.
        config: see `CloneConfig`.
        seed: of weights, order and shifts.
        device: where to train.
        network: what learns; None makes a new one.
        on_step: told (steps done, loss).

    Raises:
        JinnError: no frame has an action, or one has an action that does not exist.
    """
    config = config or CloneConfig()
    check_frames(frames_XHWC[:1, None])
    known_K = (actions_X >= 0).nonzero().squeeze(-1)
    if len(known_K) == 0:
        raise JinnError("there is no frame with an action to learn from")
    if int(actions_X.max()) >= num_actions:
        raise JinnError(f"an action of {int(actions_X.max())} where there are {num_actions} of them")
    if network is None:
        height, width = frames_XHWC.shape[1:3]
        network = new_network(NetworkConfig(num_actions, (height, width)), seed)
    network = network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
    chance = torch.Generator().manual_seed(seed)
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - step / config.steps)
        rows_B = known_K[torch.randint(len(known_K), (config.batch,), generator=chance)]
        frames_BHWC = moved(frames_XHWC[rows_B], config.shift, chance).to(device)
        loss = F.cross_entropy(network(frames_BHWC)[0], actions_X[rows_B].to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        on_step(step + 1, loss.item())
    return network.eval()


def moved(frames_BHWC: Tensor, most: int, chance: torch.Generator) -> Tensor:
    """Each frame moved by up to so many pixels both ways; what comes in repeats the edge."""
    if not most:
        return frames_BHWC
    _, H, W, _ = frames_BHWC.shape
    moves_B2 = torch.randint(-most, most + 1, (len(frames_BHWC), 2), generator=chance)
    rows_BH = (torch.arange(H) + moves_B2[:, :1]).clamp(0, H - 1)
    columns_BW = (torch.arange(W) + moves_B2[:, 1:]).clamp(0, W - 1)
    each_B11 = torch.arange(len(frames_BHWC))[:, None, None]
    return frames_BHWC[each_B11, rows_BH[:, :, None], columns_BW[:, None, :]]


class Dictionary:
    """Which true actions a latent one was seen with (the paper's D): the map between two sets of keys.

    Args:
        latents_X, actions_X: int64, the latent and the true actions of a few steps; none at all is allowed.
        num_latents, num_actions: how many there are of each.

    Raises:
        JinnError: as many of one as of the other, or numbers that do not exist.
    """

    def __init__(self, latents_X: Tensor, actions_X: Tensor, num_latents: int, num_actions: int) -> None:
        if latents_X.shape != actions_X.shape:
            raise JinnError(f"{len(latents_X)} latent actions for {len(actions_X)} true ones")
        for given, count in ((latents_X, num_latents), (actions_X, num_actions)):
            if len(given) and not (given.min() >= 0 and given.max() < count):
                raise JinnError(f"actions are numbers from 0 to {count - 1}")
        pairs_X = latents_X * num_actions + actions_X
        counts = torch.bincount(pairs_X, minlength=num_latents * num_actions)
        self.counts_AU = counts.reshape(num_latents, num_actions)

    def to_true(self, latents_B: Tensor, chance: torch.Generator) -> Tensor:
        """int64 ``actions_B``: one of those seen with the latent action, as often as it was; else any."""
        weights_AU = self.counts_AU.double()
        weights_AU[weights_AU.sum(1) == 0] = 1.0
        return torch.multinomial(weights_AU[latents_B.cpu()], 1, generator=chance).squeeze(-1)

    def to_latent(self) -> list[int]:
        """For each true action the latent one that speaks most for it; the commonest where it never was seen.

        Played through these, a dream has the game's own keys (`jinn.env`, its argument ``actions``). Not the
        one seen with it most often (our own idea): who holds a key that jumps falls as long as he rises, and
        stands still before walls, as with any key. What counts is how much more often the two came together
        than by chance, times how often: their term of the likelihood ratio test of independence.
        """
        counts_AU = self.counts_AU.double()
        latents_A1, actions_U = counts_AU.sum(1, keepdim=True), counts_AU.sum(0)
        by_chance_AU = latents_A1 * actions_U / counts_AU.sum().clamp_min(1)
        evidence_AU = torch.xlogy(counts_AU, counts_AU / by_chance_AU.clamp_min(1e-9))
        best_U = evidence_AU.argmax(0)
        best_U[actions_U == 0] = latents_A1.argmax()
        return best_U.tolist()
