"""Reconstruction: how much of a real frame the tokenizer keeps, and how it uses its codebook."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from jinn.evaluation.estimate import Estimate, Records, bootstrap, exactly
from jinn.evaluation.metrics import entropy, fraction_used, perplexity
from jinn.evaluation.networks import Networks
from jinn.evaluation.rollouts import Rollouts, compare_frames
from jinn.world.world import World

COUNTED_CODES = 2**16  # a few clips cannot tell how a larger codebook is used


def records(world: World, rollouts: Rollouts, networks: Networks) -> Records:
    """Picture metrics of reconstructed clips ``B``, and how often each code occurs in a clip ``BK``."""
    found = compare_frames(networks, rollouts.reconstructed_BTHWC, rollouts.real_BTHWC, "tokenizer")
    found = {name: values.double().mean(1) for name, values in found.items()}
    K = world.tokenizer.codebook_size
    if K <= COUNTED_CODES:
        counts = [torch.bincount(tokens.flatten(), minlength=K) for tokens in rollouts.tokens_BTN]
        found["code_counts"] = torch.stack(counts)
    return found


def estimates(world: World, clips: Records, seed: int) -> Iterator[tuple[str, Estimate]]:
    """How the codebook is used. Of a codebook that is too large to be counted, the capacity only."""
    N = int(np.prod(world.tokenizer.grid_hw))
    capacity = N * float(np.log2(world.tokenizer.codebook_size))
    yield "tokenizer/capacity_bits", exactly(capacity, len(clips["motion"]), seed)
    if "code_counts" not in clips:
        return
    counts_BK = clips["code_counts"].double()
    fractions_BK = counts_BK / counts_BK.sum(1, keepdim=True)
    yield "tokenizer/codes_used", bootstrap(fractions_BK, seed, fraction_used, least=0, most=1)
    yield "tokenizer/perplexity", bootstrap(fractions_BK, seed, perplexity)
    bits = bootstrap(fractions_BK, seed, lambda means: N * entropy(means) / np.log(2), most=capacity)
    yield "tokenizer/bits", bits
