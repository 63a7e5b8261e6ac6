"""An expert of a Procgen game: PPO on the real game, then its score on levels that it never saw, beside what
needs no skill: random presses, and the one key that earns most when it is held.

python scripts/expert.py CoinrunHard-v0 --out runs/expert_hard --ppo.steps 25000000
jinn data envpool:CoinrunHard-v0 --policy runs/expert_hard/act.py:act --levels 30000:5000 --out stores/expert

The same command goes on where the last one was stopped. On a CPU `--channels 8 16 32 --fold 2` learns seven
times as fast, and `--begin-as runner` begins as a clone of the policy that ``jinn data`` calls runner, which
knows to run and jump.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from jinn.agents.baselines import constant_action, random_actions
from jinn.agents.clone import CloneConfig, clone
from jinn.agents.game import SOLVED, TEST_LEVELS, TRAIN_LEVELS, Game, number_of_actions
from jinn.agents.network import Network, NetworkConfig, new_network
from jinn.agents.play import play
from jinn.agents.ppo import PPOConfig
from jinn.agents.progress import train_with_progress
from jinn.data.collect import collect
from jinn.data.games import PROCGEN_MOVES
from jinn.evaluation.estimate import bootstrap
from jinn.files import write_json, write_text

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
    network = new_network(NetworkConfig(number_of_actions(game), channels=channels, fold=fold), seed)
    if begin_as and not (out / "learning.safetensors").exists():
        begun = as_runner(network, game, seed, device) if begin_as == "runner" else Network.load(begin_as)
        if begun.config != network.config:
            raise SystemExit(f"{begin_as} is an agent of other sizes: {begun.config}")
        network = begun
    network = train_with_progress(Game(game, num_envs, TRAIN_LEVELS, seed), network, ppo, seed, device, out)
    write_text(out / "act.py", ACT.format(game=game, file=out / "act.py", steps=ppo.steps))
    generator, U = torch.Generator().manual_seed(seed), network.config.actions

    def agent(frames_BHWC: Tensor) -> Tensor:
        return network.act(frames_BHWC.to(device), generator).cpu()

    earned = [
        play(Game(game, 50, TRAIN_LEVELS, seed), constant_action(key), 50).mean()
        for key in range(PROCGEN_MOVES)
    ]
    best = int(np.argmax(earned))
    figures = {}
    for who, policy, levels in (
        ("agent, levels trained on", agent, TRAIN_LEVELS),
        ("agent", agent, TEST_LEVELS),
        ("random presses", random_actions(U, generator), TEST_LEVELS),
        (f"key {best} held", constant_action(best), TEST_LEVELS),
    ):
        returns = play(Game(game, 50, levels, seed + 1), policy, episodes)
        for what, values in (("return", returns), ("solved", (returns >= SOLVED).astype(float))):
            found = bootstrap(values, 0)
            figures[f"{who}: {what}"] = [found.value, found.low, found.high]
            print(f"{who}: {what} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}]", flush=True)
    write_json(out / "report.json", {"game": game, "steps": ppo.steps, "episodes": episodes, **figures})


def as_runner(network: Network, game: str, seed: int, device: str) -> Network:
    """It then does what the runner does; a fifth of its presses are random, so it still explores."""
    seen = list(collect(f"envpool:{game}", 60_000, seed, TRAIN_LEVELS, "runner"))
    frames_XHWC = torch.from_numpy(np.concatenate([piece.frames_THWC for piece in seen]))
    actions = [piece.actions_T for piece in seen if piece.actions_T is not None]
    actions_X = torch.from_numpy(np.concatenate(actions))
    return clone(frames_XHWC, actions_X, number_of_actions(game), CloneConfig(1_000), seed, device, network)


if __name__ == "__main__":
    tyro.cli(main)
