"""What a frame of play spends its time on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from jinn.world.rollout import World, sample_frame


@torch.inference_mode()
def profile(world: World, repeats: int = 5) -> dict[str, float]:
    """Time the parts of one player's frame, as `World.next_frame` computes them in PyTorch.

    Args:
        world: a backend that it may have is passed over: its graphs are not made of parts.
        repeats: the median of so many, after one to warm up.

    Returns:
        Milliseconds of each part, in the order in which they come.
    """
    state, _ = world.reset(world.prompts[:1, None])
    sampling, dynamics = world.config.sampling, world.dynamics
    noise_SBNU = world.noise(state)
    actions_B1 = torch.zeros(1, 1, dtype=torch.long, device=world.device)
    change_BND = dynamics.change(state.tokens_BN.unsqueeze(1), actions_B1).squeeze(1)
    tokens_BN = state.tokens_BN
    parts: dict[str, Callable[[], object]] = {
        "the action, and the frame before": lambda: dynamics.change(tokens_BN.unsqueeze(1), actions_B1),
        f"{sampling.steps} MaskGIT steps": lambda: sample_frame(
            dynamics, change_BND, state.past, sampling, noise_SBNU
        ),
        "the finished frame joins the past": lambda: dynamics.commit(tokens_BN, change_BND, state.past),
        "tokens to pixels": lambda: world.tokenizer.decode_next(tokens_BN, state.drawn),
    }

    def timed(part: Callable[[], object]) -> float:
        begun = time.perf_counter()
        part()
        if world.device.type == "cuda":
            torch.cuda.synchronize()
        return 1000 * (time.perf_counter() - begun)

    for part in parts.values():
        timed(part)
    rounds = [{name: timed(part) for name, part in parts.items()} for _ in range(repeats)]
    return {name: statistics.median(one[name] for one in rounds) for name in parts}
