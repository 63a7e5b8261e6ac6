"""An agent that learns in a dream alone, and what it is worth in the real game.

python scripts/train_in_dream.py CoinrunHard-v0 stores/coinrun --world coinrun --out report_dream

A thousand labelled steps of the real game tell two things: which latent action each key stands for, and
what a coin and an end look like (a head of rewards). Then PPO plays the world, from moments of the videos,
with the game's own keys. Measured: its score in the dream and in levels that nobody saw, random presses,
one held key and the agent's own presses without looking in both, and PPO in the real game. OUT/dream.gif
shows dreams of the agent, with a golden edge where it was rewarded: whether a coin was there, or the head
was fooled. The same command goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

from jinn.agents.baselines import blind_actions, constant_action, random_actions
from jinn.agents.clone import Dictionary
from jinn.agents.game import TEST_LEVELS, TRAIN_LEVELS, Game, number_of_actions
from jinn.agents.network import Network, NetworkConfig, new_network
from jinn.agents.play import Policy, play
from jinn.agents.ppo import PPOConfig
from jinn.agents.progress import train_with_progress
from jinn.data.games import JUMP_RIGHT
from jinn.data.store import FrameStore
from jinn.env import WorldVectorEnv
from jinn.evaluation.estimate import bootstrap
from jinn.files import read_json, write_json
from jinn.rewards import RewardHead, train_reward_head
from jinn.world.world import World

HOLD = 6  # steps for which labelled play holds a key, on the mean


def main(
    game: str,
    store: Path,
    /,
    world: str = "coinrun",
    out: Path = Path("report_dream"),
    ppo: PPOConfig = PPOConfig(steps=300_000, length=128, discount=0.99),  # noqa: B008 it is frozen
    real: PPOConfig = PPOConfig(steps=600_000),  # noqa: B008 it is frozen
    channels: tuple[int, ...] = NetworkConfig(0).channels,
    fold: int = NetworkConfig(0).fold,
    num_envs: int = 32,
    horizon: int = 128,
    labelled: int = 1_000,
    episodes: int = 500,
    dreams: int = 200,
    seed: int = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    """Label, train the reward head, train in the dream and in reality, measure both.

    Args:
        game: EnvPool's name of the Procgen game of the world.
        store: Videos of it, from which episodes of the learned environment start.
        world: The learned environment.
        out: Folder of agents and results.
        ppo: Training in the learned environment.
        real: Training in the real game, to compare with.
        channels: Of the agents' networks.
        fold: Pixel-unshuffle factor of their input; 2 with 8 16 32 channels is seven times as fast on a CPU.
        num_envs: Learned environments side by side.
        horizon: Steps of an episode in the learned environment.
        labelled: Steps of the real game with known actions, rewards and terminations.
        episodes: Episodes of the real game that measure each agent.
        dreams: Episodes of the learned environment that do.
        seed: Of everything.
        device: Where networks compute.
    """
    out.mkdir(parents=True, exist_ok=True)
    loaded = World.load(world, device, "auto")
    keys, head = learned_labels(game, loaded, labelled, out, seed)
    moments = FrameStore.open(store)

    def dream(count: int, split: str) -> WorldVectorEnv:
        return WorldVectorEnv(count, loaded, moments, 1, split, horizon, head, keys, render_mode="rgb_array")

    def trained(envs: Any, config: PPOConfig, name: str) -> Network:
        network = new_network(NetworkConfig(len(keys), channels=channels, fold=fold), seed)
        return train_with_progress(envs, network, config, seed, device, out / name)

    dreamer = trained(dream(num_envs, "train"), ppo, "dreamer")
    realist = trained(Game(game, 64, TRAIN_LEVELS, seed), real, "realist")
    agents = policies(dreamer, realist, len(keys), seed, device)
    report: dict[str, Any] = {"world": world, "steps": ppo.steps, "labelled": labelled, "keys": keys}
    places: dict[str, tuple[Callable[[], Any], int]] = {
        "dream": (lambda: dream(num_envs, "heldout"), dreams),
        "game": (lambda: Game(game, 50, TEST_LEVELS, seed + 1), episodes),
    }
    report |= measured(agents, places, seed)
    write_json(out / "report.json", report)
    film(dream(16, "heldout"), agents["trained in the dream"], horizon, out / "dream.gif")


def policies(
    dreamer: Network, realist: Network, num_actions: int, seed: int, device: str
) -> dict[str, Policy]:
    """The two agents, and the baselines that need no skill."""
    generator, counts_U = torch.Generator().manual_seed(seed), torch.zeros(num_actions)

    def dreaming(frames_BHWC: Tensor) -> Tensor:
        actions_B = dreamer.act(frames_BHWC.to(device), generator).cpu()
        counts_U.add_(torch.bincount(actions_B, minlength=num_actions))
        return actions_B

    return {
        "holds right and jump": constant_action(JUMP_RIGHT),
        "random": random_actions(num_actions, generator),
        "trained in the dream": dreaming,
        "presses as often as that, blind": blind_actions(counts_U, generator),
        "trained in the game": lambda x: realist.act(x.to(device), generator).cpu(),
    }


def measured(
    agents: dict[str, Policy], places: dict[str, tuple[Callable[[], Any], int]], seed: int
) -> dict[str, list[float]]:
    """The fraction of episodes in which each agent earns something in each place, with its interval."""
    found: dict[str, list[float]] = {}
    for who, policy in agents.items():
        for where, (envs, count) in places.items():
            earned = bootstrap((play(envs(), policy, count) > 0).astype(float), seed)
            found[f"{who}, {where}"] = [earned.value, earned.low, earned.high]
            print(f"{who}, {where}: {earned.value:.3f} [{earned.low:.3f}, {earned.high:.3f}] earn something")
    return found


def learned_labels(game: str, world: World, count: int, out: Path, seed: int) -> tuple[list[int], RewardHead]:
    """Keys as latent actions, and the head of rewards, from so many labelled steps."""
    if (out / "head.safetensors").exists():
        return read_json(out / "keys.json"), RewardHead.load(out / "head.safetensors")
    before_XHWC, actions_X, after_XHWC, rewards_X, ended_X = labelled_steps(game, count, seed)
    pairs_XTHWC = torch.stack([before_XHWC, after_XHWC], 1).to(world.device)
    with torch.inference_mode():
        latents_X = torch.cat([world.latent_actions.encode(x)[:, 0] for x in pairs_XTHWC.split(64)]).cpu()
    book = Dictionary(latents_X, actions_X, world.num_actions, number_of_actions(game))
    head = train_reward_head(before_XHWC, after_XHWC, rewards_X, ended_X, seed)
    write_json(out / "keys.json", book.to_latent())
    head.save(out / "head.safetensors")
    return book.to_latent(), head


def labelled_steps(game: str, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Steps of the real game under held random keys; up to a third of them end an episode."""
    envs, chance = Game(game, 16, TRAIN_LEVELS, seed), np.random.default_rng(seed)
    keys = number_of_actions(game)
    plain: list[tuple[Any, ...]] = []
    ends: list[tuple[Any, ...]] = []
    before, over_B = envs.reset()[0].copy(), np.zeros(16, bool)
    held_B = chance.integers(keys, size=16)
    while len(ends) < count // 3:
        held_B = np.where(chance.random(16) < 1 / HOLD, chance.integers(keys, size=16), held_B)
        after, rewards, ended, cut, _ = envs.step(held_B)
        for i in np.flatnonzero(~over_B):
            step = (before[i].copy(), held_B[i], after[i].copy(), rewards[i], ended[i])
            if ended[i]:
                ends.append(step)
            elif chance.random() < 0.1:  # neighbours teach little
                plain.append(step)
        before, over_B = after.copy(), ended | cut
    rows = [ends[i] for i in chance.permutation(len(ends))[: count // 3]]
    rows += [plain[i] for i in chance.permutation(len(plain))[: count - len(rows)]]
    first, actions, second, rewards, over = (np.stack(part) for part in zip(*rows, strict=True))
    return (
        torch.from_numpy(first),
        torch.from_numpy(actions).long(),
        torch.from_numpy(second),
        torch.from_numpy(rewards).float(),
        torch.from_numpy(over),
    )


def film(envs: WorldVectorEnv, policy: Policy, steps: int, place: Path) -> None:
    """Dreams side by side; a frame that was rewarded has a golden edge, one that only ended it a red one."""
    frames_BHWC, _ = envs.reset(seed=0)
    pictures = []
    for _ in range(steps):
        frames_BHWC, rewards, ended, _, _ = envs.step(policy(torch.from_numpy(frames_BHWC)))
        shown_BHWC = frames_BHWC.copy()
        for rows, colour in ((ended, (220, 40, 40)), (rewards > 0, (255, 200, 0))):
            for edge in np.s_[:, :3], np.s_[:, -3:], np.s_[:, :, :3], np.s_[:, :, -3:]:
                part = shown_BHWC[rows]
                part[edge] = colour
                shown_BHWC[rows] = part
        B, H, W, _ = shown_BHWC.shape
        grid = shown_BHWC.reshape(B // 8, 8, H, W, 3).swapaxes(1, 2).reshape(B // 8 * H, 8 * W, 3)
        pictures.append(Image.fromarray(grid))
    rate = round(1000 / float(envs.metadata["render_fps"]))
    pictures[0].save(place, save_all=True, append_images=pictures[1:], duration=rate, loop=0)


if __name__ == "__main__":
    tyro.cli(main)
