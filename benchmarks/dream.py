"""How fast a world is as an environment: ``python -m benchmarks.dream``.

Steps a second of all its roll-outs together, judge and new beginnings included, by batch size and backend.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.measure import RESULTS, Row, save, synchronize
from jinn.env import WorldVectorEnv
from jinn.judges import Head
from jinn.world.backends import Backend


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--world", default="coinrun", help="a world's name or folder")
    parser.add_argument("--num-envs", type=int, nargs="*", help="batch sizes")
    parser.add_argument("--backends", nargs="*", help="see jinn.world.backends")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    on_gpu = torch.device(args.device).type == "cuda"
    sizes = args.num_envs or ([64, 256, 1024] if on_gpu else [1, 8, 32, 64])
    backends: list[Backend] = args.backends or (["cuda-graph"] if on_gpu else ["torch", "onnx-int8"])
    rows: list[Row] = []
    for backend in backends:
        for size in sizes:
            rate = steps_a_second(args.world, size, backend, args.device, args.steps)
            rows.append({"backend": backend, "environments": size, "steps a second": rate})
            print(rows[-1], flush=True)
    save("dream", rows, torch.device(args.device), NOTE, args.out)


HORIZON = 30  # steps
NOTE = (
    f"Steps of all environments together, a head of rewards as judge, episodes of {HORIZON} steps; "
    "one run each, one after another."
)


def steps_a_second(world: str, size: int, backend: Backend, device: str, steps: int) -> float:
    """Over so many steps, after a warm-up that fills the past; all begin anew once a horizon."""
    head = Head().eval().to(device)
    envs = WorldVectorEnv(
        size, world, horizon=HORIZON, judge=head.judge, as_tensors=True, backend=backend, device=device
    )
    envs.reset(seed=0)
    actions_B = torch.zeros(size, dtype=torch.long)
    for _ in range(20):
        envs.step(actions_B)
    synchronize(device)
    began = time.perf_counter()
    for _ in range(steps):
        envs.step(actions_B)
    synchronize(device)
    return size * steps / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
