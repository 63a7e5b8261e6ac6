"""Train an agent in a learned environment alone, and measure it in the real game.

python scripts/train_in_world.py CoinrunHard-v0 stores/coinrun --world coinrun --out report_environment

A thousand labelled steps of the real game give two things: the latent action that each input action
corresponds to, and a reward head, which recognises coins and terminations. Then PPO plays the world from frames
of the videos, with the game's input actions. The script measures how often the agent earns a reward in
the learned environment and in test levels of the game, beside random actions, a constant action, the agent's own
frequencies of actions without looking at the frame, and an agent trained by PPO in the real game.
OUT/learned_environment.gif shows roll-outs of the agent. A golden border marks a frame that was rewarded: it
shows whether there was a coin, or the reward head was wrong. The same command resumes an interrupted run.
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
from jinn.world.keys import Dictionary
from jinn.world.world import World

HOLD = 6  # mean number of steps for which labelled play repeats an action


def main(
    game: str,
    store: Path,
    /,
    world: str = "coinrun",
    out: Path = Path("report_environment"),
    ppo: PPOConfig = PPOConfig(steps=300_000, length=128, discount=0.99),  # noqa: B008 it is frozen
    real: PPOConfig = PPOConfig(steps=600_000),  # noqa: B008 it is frozen
    channels: tuple[int, ...] = NetworkConfig(0).channels,
    fold: int = NetworkConfig(0).fold,
    num_envs: int = 32,
    horizon: int = 128,
    labelled: int = 1_000,
    episodes: int = 500,
    world_episodes: int = 200,
    seed: int = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    """Label, train the reward head, train an agent in the world and one in the game, measure both.

    Args:
        game: EnvPool's name of the Procgen game of the world.
        store: Videos of the game, from which episodes of the learned environment start.
        world: The learned environment.
        out: Folder for agents and results.
        ppo: Settings of the training in the learned environment.
        real: Settings of the training in the real game, for comparison.
        channels: Channels of the agents' networks.
        fold: Pixel-unshuffle factor of their input; 2 with 8 16 32 channels is seven times as fast on a CPU.
        num_envs: Number of learned environments in a batch.
        horizon: Steps of an episode in the learned environment.
        labelled: Steps of the real game with known actions, rewards and terminations.
        episodes: Number of episodes of the real game that measure each agent.
        world_episodes: Number of episodes of the learned environment that measure each agent.
        seed: Seed of networks, actions and levels.
        device: Device of the networks.
    """
    loaded, prompts = World.load(world, device, "auto"), FrameStore.open(store)
    to_latent, head = learned_labels(game, loaded, labelled, out, seed)

    def learned(count: int, split: str) -> WorldVectorEnv:
        return WorldVectorEnv(
            count, loaded, prompts, 1, split, horizon, head, to_latent, render_mode="rgb_array"
        )

    def trained(envs: Any, config: PPOConfig, name: str) -> Network:
        network = new_network(NetworkConfig(len(to_latent), channels=channels, fold=fold), seed)
        return train_with_progress(envs, network, config, seed, device, out / name)

    from_world = trained(learned(num_envs, "train"), ppo, "trained_in_world")
    from_game = trained(Game(game, 64, TRAIN_LEVELS, seed), real, "trained_in_game")
    agents = policies(from_world, from_game, len(to_latent), seed, device)
    report = {"world": world, "steps": ppo.steps, "labelled": labelled, "latent_actions": to_latent}
    environments: dict[str, tuple[Callable[[], Any], int]] = {
        "learned environment": (lambda: learned(num_envs, "heldout"), world_episodes),
        "game": (lambda: Game(game, 50, TEST_LEVELS, seed + 1), episodes),
    }
    write_json(out / "report.json", report | measured(agents, environments, seed))
    best = agents["trained in the learned environment"]
    film(learned(16, "heldout"), best, horizon, out / "learned_environment.gif")


def policies(
    from_world: Network, from_game: Network, num_actions: int, seed: int, device: str
) -> dict[str, Policy]:
    """The two agents and the baselines, by name."""
    generator, counts_U = torch.Generator().manual_seed(seed), torch.zeros(num_actions)

    def counted(frames_BHWC: Tensor) -> Tensor:
        actions_B = from_world.act(frames_BHWC.to(device), generator).cpu()
        counts_U.add_(torch.bincount(actions_B, minlength=num_actions))
        return actions_B

    return {
        "always right and jump": constant_action(JUMP_RIGHT),
        "random actions": random_actions(num_actions, generator),
        "trained in the learned environment": counted,
        "the same frequencies of actions, blind": blind_actions(counts_U, generator),
        "trained in the game": lambda x: from_game.act(x.to(device), generator).cpu(),
    }


def measured(
    agents: dict[str, Policy], environments: dict[str, tuple[Callable[[], Any], int]], seed: int
) -> dict[str, list[float]]:
    """The fraction of episodes in which each agent earns a reward in each environment, with its interval."""
    found: dict[str, list[float]] = {}
    for name, policy in agents.items():
        for where, (envs, count) in environments.items():
            earned = bootstrap((play(envs(), policy, count) > 0).astype(float), seed)
            found[f"{name}, {where}"] = [earned.value, earned.low, earned.high]
            print(f"{name}, {where}: {earned.value:.3f} [{earned.low:.3f}, {earned.high:.3f}] earn a reward")
    return found


def learned_labels(game: str, world: World, count: int, out: Path, seed: int) -> tuple[list[int], RewardHead]:
    """The latent action of each input action, and a reward head, from labelled steps of the game."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / "head.safetensors").exists():
        return read_json(out / "latent_actions.json"), RewardHead.load(out / "head.safetensors")
    before_XHWC, actions_X, after_XHWC, rewards_X, ended_X = labelled_steps(game, count, seed)
    pairs_XTHWC = torch.stack([before_XHWC, after_XHWC], 1).to(world.device)
    with torch.inference_mode():
        latents_X = torch.cat([world.latent_actions.encode(x)[:, 0] for x in pairs_XTHWC.split(64)]).cpu()
    dictionary = Dictionary(latents_X, actions_X, world.num_actions, number_of_actions(game))
    head = train_reward_head(before_XHWC, after_XHWC, rewards_X, ended_X, seed)
    write_json(out / "latent_actions.json", dictionary.to_latent())
    head.save(out / "head.safetensors")
    return dictionary.to_latent(), head


def labelled_steps(game: str, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Steps of the real game under repeated random actions; a third of them end an episode."""
    envs, generator = Game(game, 16, TRAIN_LEVELS, seed), np.random.default_rng(seed)
    num_actions = number_of_actions(game)
    plain: list[tuple[Any, ...]] = []
    ends: list[tuple[Any, ...]] = []
    before, over_B = envs.reset()[0].copy(), np.zeros(16, bool)
    actions_B = generator.integers(num_actions, size=16)
    while len(ends) < count // 3:
        actions_B = np.where(
            generator.random(16) < 1 / HOLD, generator.integers(num_actions, size=16), actions_B
        )
        after, rewards, ended, truncated, _ = envs.step(actions_B)
        for i in np.flatnonzero(~over_B):
            step = (before[i].copy(), actions_B[i], after[i].copy(), rewards[i], ended[i])
            if ended[i]:
                ends.append(step)
            elif generator.random() < 0.1:  # neighbouring steps are much alike
                plain.append(step)
        before, over_B = after.copy(), ended | truncated
    rows = [ends[i] for i in generator.permutation(len(ends))[: count // 3]]
    rows += [plain[i] for i in generator.permutation(len(plain))[: count - len(rows)]]
    first, actions, second, rewards, over = (np.stack(part) for part in zip(*rows, strict=True))
    return (
        torch.from_numpy(first),
        torch.from_numpy(actions).long(),
        torch.from_numpy(second),
        torch.from_numpy(rewards).float(),
        torch.from_numpy(over),
    )


def film(envs: WorldVectorEnv, policy: Policy, steps: int, path: Path) -> None:
    """Write roll-outs side by side: a golden border marks a reward, a red one a termination without reward."""
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
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=rate, loop=0)


if __name__ == "__main__":
    tyro.cli(main)
