"""An agent that learns in a learned world alone, in a game in which one must look (`jinn.agents.rooms`).

python scripts/rooms_in_dream.py --out runs/rooms_in_dream

For each seed, players of every skill are recorded. From the recording alone come a world (`jinn train --actions known`,
recipe `tiny`), a head that sees rewards, and the clones that it is to beat; PPO then learns in the world, from frames
of the recording. Beside it is PPO in the game itself, with the same network, settings and number of steps. All play
levels that were never recorded; how often the agent of the dream reaches a goal in the dream says how far the two are
apart: so far it finds what is wrong with the world instead (docs/agents.md). The same command goes on where it was
stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from rooms import HELD_OUT_SEED, acting, recorded, show

from jinn.agents.baselines import constant_action, random_actions
from jinn.agents.network import Network, NetworkConfig, new_network
from jinn.agents.offline import OfflineConfig, Recording, learn_offline
from jinn.agents.play import play
from jinn.agents.ppo import PPOConfig, train_ppo
from jinn.agents.rooms import Levels, Rooms, random_levels
from jinn.data.store import FrameStore
from jinn.data.synthetic import ACTIONS, CELL
from jinn.data.writer import StoreWriter
from jinn.env import WorldVectorEnv
from jinn.models.maskgit import SamplingConfig
from jinn.overrides import override
from jinn.recipes import tiny
from jinn.rewards import RewardHead, train_reward_head
from jinn.training.run import run_recipe
from jinn.world.world import World

SIDE, HORIZON = 5, 16  # cells along a side of a room, and steps of an episode
LEVELS = partial(random_levels, side=SIDE)
# The game rolls no dice: the likeliest frame is the right one.
SAMPLING = SamplingConfig(2, temperature=0.0, choice_temperature=0.0, schedule="exponential")
# A dream is to be fast, and so simple a game needs no second layer. Its rules know no exceptions: nothing is to be
# doubted. With doubt, PPO learned to make the player vanish, and then the walls, where the head saw rewards.
SMALL = (
    "dynamics.transformer.layers=1",
    "dynamics.doubt=0",
    "sampling.doubt=0",
    "latent_action_training.steps=100",
    "dynamics_training.steps=800",
    "self_rollout_training.steps=100",
)
COPIES: tuple[Literal["all", "weighted"], ...] = ("all", "weighted")
# Of all agents.
SIZES = NetworkConfig(len(ACTIONS), (SIDE * CELL, SIDE * CELL), channels=(32,), width=128, fold=CELL)


def main(
    out: Path = Path("runs/rooms_in_dream"),
    seeds: int = 5,
    players: int = 256,
    steps: int = 400,
    config: PPOConfig = PPOConfig(  # noqa: B008 it is frozen
        200_000, length=16, minibatches=4, learning_rate=1e-3, discount=0.95
    ),
    copy: OfflineConfig = OfflineConfig(steps=2_000, batch=128, lag=0.95),  # noqa: B008 it is frozen
    num_envs: int = 64,
    levels: int = 512,
    settings: tuple[str, ...] = SMALL,
) -> None:
    """Record, learn the world, learn in it, and play the game.

    Args:
        out: Folder, with one for each seed.
        seeds: Number of seeds, from 0: of the recording, the world and the agents.
        players: Number of games that are recorded together; each player has a skill of their own.
        steps: Recorded steps of each.
        config: Of PPO, in the dream and in the game.
        copy: Of the clones.
        num_envs: Number of dreams, and of games, that PPO learns in at once.
        levels: Number of levels that nobody learned on; each is played once.
        settings: Changes of the world's recipe, as of `jinn train --set`.
    """
    envs = partial(Rooms, held_out(levels), horizon=HORIZON)
    show_blind(envs, levels)
    scores: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        folder, recording = out / str(seed), recorded(players, steps, seed, LEVELS, HORIZON)
        world, store = learned_world(recording, folder, seed, settings)
        head = learned_rewards(recording, folder, seed)
        dreams = partial(
            WorldVectorEnv, world=world, prompts=store, horizon=HORIZON, reward=head, sampling=SAMPLING
        )
        games = Rooms(LEVELS, num_envs, HORIZON, seed=seed)
        agents = {
            "PPO in the dream": learned(dreams(num_envs, split="train"), config, folder / "dream", seed),
            "PPO in the game": learned(games, config, folder / "game", seed),
        }
        for kind in COPIES:
            how = replace(copy, copy=kind)
            agents[f"copies {kind}"] = learn_offline(recording, len(ACTIONS), how, seed, sizes=SIZES)
        for name, agent in agents.items():
            scores.setdefault(name, []).append(play(envs(), acting(agent, seed), levels))
        dreamt = play(dreams(num_envs, split="heldout"), acting(agents["PPO in the dream"], seed), levels)
        scores.setdefault("PPO in the dream, where it learned", []).append(dreamt)
        for name, runs in scores.items():
            show(f"seeds 0 to {seed}, {name}", *runs)
    for other in ("copies all", "copies weighted", "PPO in the game"):
        pairs = zip(scores["PPO in the dream"], scores[other], strict=True)
        show(f"PPO in the dream less {other}", *(found - usual for found, usual in pairs))


def held_out(count: int) -> Levels:
    """Levels that nobody learns on."""
    return LEVELS(count, np.random.default_rng(HELD_OUT_SEED))


def show_blind(envs: Callable[[], Rooms], levels: int) -> None:
    """Print what players reach who do not look."""
    generator = torch.Generator().manual_seed(0)
    show("random actions", play(envs(), random_actions(len(ACTIONS), generator), levels))
    held = [play(envs(), constant_action(action), levels) for action in range(1, len(ACTIONS))]
    show("the best action held", max(held, key=lambda found: float(found.mean())))


def learned_world(
    recording: Recording, folder: Path, seed: int, settings: tuple[str, ...]
) -> tuple[World, FrameStore]:
    """The world of a recording, and the recording as a store."""
    if not (folder / "store" / "store.json").exists():
        write_store(recording, folder / "store")
    store = FrameStore.open(folder / "store")
    recipe = override(tiny(), list(settings))
    return run_recipe(recipe, store, folder / "run", "rooms", seed, actions="known"), store


def write_store(recording: Recording, path: Path) -> None:
    """A recording as a store, episode by episode. A negative action marks the last frame of one."""
    size = SIDE * CELL
    with StoreWriter(path, (size, size), 10, num_actions=len(ACTIONS), action_names=ACTIONS) as writer:
        start = 0
        for end in (recording.actions_X < 0).nonzero().flatten().tolist():
            writer.append(recording.frames_XHWC[start : end + 1].numpy())
            writer.end_episode("rooms", recording.actions_X[start : end + 1].numpy(), level_seed=start)
            start = end + 1


def learned_rewards(recording: Recording, folder: Path, seed: int) -> RewardHead:
    """A head that sees in two frames whether the goal was reached."""
    path = folder / "head.safetensors"
    if not path.exists():
        before = (recording.actions_X >= 0).nonzero().flatten()
        frames_XHWC = recording.frames_XHWC
        head = train_reward_head(
            frames_XHWC[before],
            frames_XHWC[before + 1],
            recording.rewards_X[before],
            recording.over_X[before],
            seed,
        )
        head.save(path)
    return RewardHead.load(path)


def learned(envs: Any, config: PPOConfig, folder: Path, seed: int) -> Network:
    """An agent that learned there by PPO."""
    return train_ppo(envs, config, seed, network=new_network(SIZES, seed), folder=folder)


if __name__ == "__main__":
    tyro.cli(main)
