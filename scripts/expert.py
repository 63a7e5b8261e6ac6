"""An expert of a Procgen game: PPO on the real game, then its score on levels that it never saw, beside what
needs no skill: random presses, and the one key that earns most when it is held.

python scripts/expert.py CoinrunHard-v0 --out runs/expert_hard --ppo.steps 25000000
jinn data envpool:CoinrunHard-v0 --policy runs/expert_hard/act.py:act --levels 30000:5000 --out stores/expert

The same command goes on where the last one was stopped. On a CPU `--channels 8 16 32 --fold 2` learns seven
times as fast, and `--begin-as runner` begins as a clone of the policy that ``jinn data`` calls runner, which
knows to run and jump.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from jinn.agents.clone import CloneConfig, clone
from jinn.agents.game import Game
from jinn.agents.network import Network, NetworkConfig, new_network
from jinn.agents.play import Policy, play
from jinn.agents.ppo import PPOConfig, train_ppo
from jinn.data.collect import collect
from jinn.data.games import PROCGEN_MOVES
from jinn.evaluation.estimate import bootstrap
from jinn.files import write_json, write_text

TRAIN, TEST = (0, 10_000), (20_000, 1_000)  # level seeds
SOLVED = 10.0  # what the end of a level earns in CoinRun, Climber, Jumper and Ninja; a star earns less

ACT = '''\
"""The agent of this folder: jinn data envpool:{game} --policy {file}:act"""

from pathlib import Path

from jinn.agents.play import actor

act = actor(Path(__file__).parent)  # after {steps:,} steps
'''


def main(
    game: str,
    /,
    out: Path,
    ppo: PPOConfig = PPOConfig(),  # noqa: B008 it is frozen
    num_envs: int = 64,
    channels: tuple[int, ...] = NetworkConfig(0).channels,
    fold: int = NetworkConfig(0).fold,
    begin_as: str | None = None,
    episodes: int = 500,
    seed: int = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    """Train, save, and measure.

    Args:
        game: EnvPool's name of a Procgen game.
        out: Folder of the agent; if it exists, learning goes on from there.
        ppo: How long and how it learns.
        num_envs: Games side by side.
        channels: Of the network's stages.
        fold: Of the same: squares of so many pixels a side are one place; with 2 and 8 16 32 channels it
            learns seven times as fast on a CPU.
        begin_as: "runner" clones the runner first; or the folder of an agent of the same sizes.
        episodes: How many episodes on levels from 20,000 on it is measured on.
        seed: Of everything.
        device: Where the network computes.
    """
    out.mkdir(parents=True, exist_ok=True)
    network = new_network(NetworkConfig(actions_of(game), channels=channels, fold=fold), seed)
    if begin_as and not (out / "learning.safetensors").exists():
        begun = as_runner(network, game, seed, device) if begin_as == "runner" else Network.load(begin_as)
        if begun.config != network.config:
            raise SystemExit(f"{begin_as} is an agent of other sizes: {begun.config}")
        network = begun
    network = learned(Game(game, num_envs, TRAIN, seed), network, ppo, seed, device, out)
    write_text(out / "act.py", ACT.format(game=game, file=out / "act.py", steps=ppo.steps))
    chance, U = torch.Generator().manual_seed(seed), network.config.actions

    def agent(frames_BHWC: Tensor) -> Tensor:
        return network.act(frames_BHWC.to(device), chance).cpu()

    earned = [play(Game(game, 50, TRAIN, seed), held(key), 50).mean() for key in range(PROCGEN_MOVES)]
    best = int(np.argmax(earned))
    figures = {}
    for who, policy, levels in (
        ("agent, levels trained on", agent, TRAIN),
        ("agent", agent, TEST),
        ("random presses", at_random(U, chance), TEST),
        (f"key {best} held", held(best), TEST),
    ):
        returns = play(Game(game, 50, levels, seed + 1), policy, episodes)
        for what, values in (("return", returns), ("solved", (returns >= SOLVED).astype(float))):
            found = bootstrap(values, 0)
            figures[f"{who}: {what}"] = [found.value, found.low, found.high]
            print(f"{who}: {what} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]", flush=True)
    write_json(out / "report.json", {"game": game, "steps": ppo.steps, "episodes": episodes, **figures})


def held(key: int) -> Policy:
    """It never lets go."""
    return lambda frames_BHWC: torch.full((len(frames_BHWC),), key)


def at_random(keys: int, chance: torch.Generator) -> Policy:
    """All keys alike."""
    return lambda frames_BHWC: torch.randint(keys, (len(frames_BHWC),), generator=chance)


def blind(counts_U: Tensor, chance: torch.Generator) -> Policy:
    """Each key as often as it was counted (float), whatever is to be seen; counts may still grow."""
    return lambda frames_BHWC: counts_U.multinomial(len(frames_BHWC), True, generator=chance)


def learned(envs: Any, network: Network, ppo: PPOConfig, seed: int, device: str, folder: Path) -> Network:
    """PPO with a bar, and a line of FOLDER/log.jsonl for each update."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    columns = (TextColumn(folder.name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, TimeRemainingColumn()) as bar, (folder / "log.jsonl").open("a") as log:
        task = bar.add_task("", total=ppo.steps, text="")

        def on_update(report: dict[str, float], _: Network) -> None:
            log.write(json.dumps({**report, "seconds": time.perf_counter() - began}) + "\n")
            log.flush()
            bar.update(task, completed=report["steps"], text=f"return {report['return']:.2f}")

        return train_ppo(envs, ppo, seed, device, network, folder, on_update)


def as_runner(network: Network, game: str, seed: int, device: str) -> Network:
    """It then does what the runner does; a fifth of its presses are random, so it still explores."""
    seen = list(collect(f"envpool:{game}", 60_000, seed, TRAIN, "runner"))
    frames_XHWC = torch.from_numpy(np.concatenate([piece.frames_THWC for piece in seen]))
    actions = [piece.actions_T for piece in seen if piece.actions_T is not None]
    actions_X = torch.from_numpy(np.concatenate(actions))
    return clone(frames_XHWC, actions_X, actions_of(game), CloneConfig(1_000), seed, device, network)


def actions_of(game: str) -> int:
    """How many buttons the game has."""
    space: Any = Game(game, 1).single_action_space
    return int(space.n)


if __name__ == "__main__":
    tyro.cli(main)
