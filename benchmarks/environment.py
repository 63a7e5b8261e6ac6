"""Speed of a world as an environment: ``python -m benchmarks.environment``.

Steps a second of all environments together, by batch size and backend. The reward head and new episodes are included.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measure import RESULTS, Row, interleaved, save
from jinn.env import WorldVectorEnv
from jinn.rewards import RewardHead
from jinn.world.backends import BackendName


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--world", default="coinrun", help="a world's name or folder")
    parser.add_argument("--num-envs", type=int, nargs="*", help="batch sizes")
    parser.add_argument("--backends", nargs="*", help="see jinn.world.backends")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    on_gpu = torch.device(args.device).type == "cuda"
    sizes = args.num_envs or ([64, 256, 1024] if on_gpu else [1, 8, 32, 64])
    backends: list[BackendName] = args.backends or (["cuda-graph"] if on_gpu else ["torch", "onnx-int8"])
    episodes = {
        f"{backend} {size}": episode(args.world, size, backend, args.device)
        for backend in backends
        for size in sizes
    }
    seconds = interleaved(episodes, args.turns, args.device, warmup=1)
    rows: list[Row] = []
    for backend in backends:
        for size in sizes:
            rate = size * (HORIZON + 1) / seconds[f"{backend} {size}"]
            rows.append({"backend": backend, "environments": size, "steps a second": rate})
            print(rows[-1], flush=True)
    save("environment", rows, torch.device(args.device), NOTE, args.out)


HORIZON = 30  # steps
NOTE = (
    f"Steps of all environments together, with a reward head, in episodes of {HORIZON} steps; medians of "
    "alternating runs."
)


def episode(world: str, size: int, backend: BackendName, device: str) -> Callable[[], None]:
    """A function that plays one episode in each environment, and the step that starts the next."""
    head = RewardHead().eval().to(device)
    envs = WorldVectorEnv(
        size, world, horizon=HORIZON, reward=head, as_tensors=True, backend=backend, device=device
    )
    envs.reset(seed=0)
    actions_B = torch.zeros(size, dtype=torch.long)

    def play() -> None:
        for _ in range(HORIZON + 1):
            envs.step(actions_B)

    return play


if __name__ == "__main__":
    main()
