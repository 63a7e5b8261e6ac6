"""How fast agents look and learn: ``python -m benchmarks.agents``.

Frames a second of their networks, by size: looked at in batches of 64, as in 64 games side by side, and
learnt from in batches of 512. PPO with one epoch does both with every frame.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measure import RESULTS, Row, interleaved, save
from jinn.agents.network import Network, NetworkConfig, new_network

LOOKED, LEARNT = 64, 512  # frames a batch
# Procgen's own; a narrower one; and one that also sees 2 x 2 pixels as one place.
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
    looking = {f"{i} looks": looks(network, args.device) for i, network in enumerate(networks)}
    learning = {f"{i} learns": learns(network, args.device) for i, network in enumerate(networks)}
    seconds = interleaved({**looking, **learning}, args.turns, args.device)
    rows: list[Row] = []
    for i, config in enumerate(SIZES):
        look, learn = seconds[f"{i} looks"] / LOOKED, seconds[f"{i} learns"] / LEARNT
        rows.append(
            {
                "channels": " ".join(map(str, config.channels)),
                "fold": config.fold,
                "parameters": sum(parameter.numel() for parameter in networks[i].parameters()),
                "frames looked at a second": 1 / look,
                "frames learnt from a second": 1 / learn,
                "both": 1 / (look + learn),
            }
        )
        print(rows[-1], flush=True)
    save("agents", rows, torch.device(args.device), NOTE, args.out)


NOTE = (
    f"Networks of agents on frames of 64 x 64: looked at in batches of {LOOKED}, learnt from in batches of "
    f"{LEARNT} (forward, backward, Adam), `both` one after the other. Medians of turns; the game costs extra."
)


def frames(count: int, device: str) -> torch.Tensor:
    """Noise: convolutions do not care."""
    chance = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 64, 64, 3), dtype=torch.uint8, generator=chance).to(device)


def looks(network: Network, device: str) -> Callable[[], object]:
    """A function that acts once in every game."""
    frames_BHWC, chance = frames(LOOKED, device), torch.Generator().manual_seed(0)
    return lambda: network.act(frames_BHWC, chance)


def learns(network: Network, device: str) -> Callable[[], None]:
    """A function that makes one step of the optimiser."""
    frames_BHWC, optimizer = frames(LEARNT, device), torch.optim.Adam(network.parameters(), 0.0)

    def step() -> None:
        logits_BA, values_B = network(frames_BHWC)
        optimizer.zero_grad(set_to_none=True)
        (logits_BA.square().mean() + values_B.mean()).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
