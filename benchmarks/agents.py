"""Speed of agents' networks: ``python -m benchmarks.agents``.

Frames a second by size of network: in inference with batches of 64, as in 64 games side by side, and in
training with batches of 512. PPO with one epoch does both with every frame.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measure import RESULTS, Row, interleaved, save
from jinn.agents.network import Network, NetworkConfig, new_network

INFERENCE, TRAINING = 64, 512  # frames in a batch
# Procgen's network; a narrower one; and one that also takes 2 x 2 pixels as one position.
SIZES = (
    NetworkConfig(15),
    NetworkConfig(15, channels=(8, 16, 16)),
    NetworkConfig(15, channels=(8, 16, 32), fold=2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    networks = [new_network(config, 0).to(args.device) for config in SIZES]
    inference = {f"{i} inference": inference_step(network, args.device) for i, network in enumerate(networks)}
    training = {f"{i} training": training_step(network, args.device) for i, network in enumerate(networks)}
    seconds = interleaved({**inference, **training}, args.turns, args.device)
    rows: list[Row] = []
    for i, config in enumerate(SIZES):
        infer = seconds[f"{i} inference"] / INFERENCE
        train = seconds[f"{i} training"] / TRAINING
        rows.append(
            {
                "channels": " ".join(map(str, config.channels)),
                "fold": config.fold,
                "parameters": sum(parameter.numel() for parameter in networks[i].parameters()),
                "inference, frames a second": 1 / infer,
                "training, frames a second": 1 / train,
                "both, frames a second": 1 / (infer + train),
            }
        )
        print(rows[-1], flush=True)
    save("agents", rows, torch.device(args.device), NOTE, args.out)


NOTE = (
    f"Agents' networks on frames of 64 x 64: inference in batches of {INFERENCE}, training (forward, backward, "
    f"Adam) in batches of {TRAINING}, and both, one after the other. Medians of alternating runs, without the game."
)


def frames(count: int, device: str) -> torch.Tensor:
    """Random frames; the content makes no difference to the time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 64, 64, 3), dtype=torch.uint8, generator=generator).to(device)


def inference_step(network: Network, device: str) -> Callable[[], object]:
    """A function that acts once in every game."""
    frames_BHWC, generator = frames(INFERENCE, device), torch.Generator().manual_seed(0)
    return lambda: network.act(frames_BHWC, generator)


def training_step(network: Network, device: str) -> Callable[[], None]:
    """A function that makes one step of the optimiser."""
    frames_BHWC, optimizer = frames(TRAINING, device), torch.optim.Adam(network.parameters(), 0.0)

    def step() -> None:
        logits_BA, values_B = network(frames_BHWC)
        optimizer.zero_grad(set_to_none=True)
        (logits_BA.square().mean() + values_B.mean()).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
