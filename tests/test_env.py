"""Worlds as Gymnasium environments, and reward functions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium", reason="environments need gymnasium")

from gymnasium.utils.env_checker import check_env  # noqa: E402

import jinn.env  # noqa: E402
from jinn.contracts import JinnError  # noqa: E402
from jinn.data.clips import read_clips  # noqa: E402
from jinn.data.ingest import ingest  # noqa: E402
from jinn.data.store import FrameStore  # noqa: E402
from jinn.models.maskgit import SamplingConfig  # noqa: E402
from jinn.rewards import GoalImage, RewardHead, train_reward_head  # noqa: E402
from jinn.world.world import World  # noqa: E402
from tiny_world import tiny_world  # noqa: E402


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


def vector(world: World, num_envs: int = 3, **options: Any) -> jinn.env.WorldVectorEnv:
    made = gymnasium.make_vec("jinn/World-v0", num_envs=num_envs, world=world, **options)
    assert isinstance(made.unwrapped, jinn.env.WorldVectorEnv)
    return made.unwrapped


def test_the_environment_checker_of_gymnasium_passes(world: World) -> None:
    env = gymnasium.make("jinn/World-v0", world=world, horizon=5, render_mode="rgb_array")
    check_env(env.unwrapped)
    env.reset(seed=0)
    assert np.array_equal(env.render(), env.step(1)[0]) is False
    assert env.render().shape == (32, 32, 3)


def test_the_environment_plays_the_worlds_frames(world: World) -> None:
    envs = vector(world)
    frames, _ = envs.reset(seed=1)
    again, _ = envs.reset(seed=1)
    assert np.array_equal(frames, again)
    chance = np.random.default_rng(0)
    played = [chance.integers(5, size=3) for _ in range(4)]
    seen = [envs.step(actions)[0] for actions in played]
    prompts = [world.prompts[i] for i in range(3)]
    for row in range(3):  # each row is a separate roll-out
        fits = []
        for prompt_HWC in prompts:
            _, frame_BHWC = world.reset(prompt_HWC[None, None])
            fits.append(np.array_equal(frame_BHWC[0].numpy(), frames[row]))
        assert sum(fits) == 1
    envs.reset(seed=1)
    assert all(
        np.array_equal(envs.step(actions)[0], frame) for actions, frame in zip(played, seen, strict=True)
    )
    envs.reset(seed=2)
    assert not all(
        np.array_equal(envs.step(actions)[0], frame) for actions, frame in zip(played, seen, strict=True)
    )


def test_episodes_are_truncated_and_new_ones_start(world: World) -> None:
    envs = vector(world, horizon=3)
    envs.reset(seed=0)
    for t in range(1, 9):
        _, rewards, terminated, truncated, _ = envs.step([0, 1, 2])
        assert truncated.tolist() == [t % 4 == 3] * 3  # the next step starts a new episode
        assert not terminated.any()
        assert not rewards.any()


def test_reward_functions_give_rewards_and_terminations(world: World) -> None:
    def reward(before: torch.Tensor, actions: torch.Tensor, after: torch.Tensor) -> Any:
        assert before.shape == after.shape == (3, 32, 32, 3)
        return actions.float(), actions == 2

    envs = vector(world, reward=reward, actions=[4, 3, 2])
    assert envs.single_action_space.n == 3
    envs.reset(seed=0)
    _, rewards, terminated, _, _ = envs.step([0, 1, 2])
    assert (rewards.tolist(), terminated.tolist()) == ([0, 1, 2], [False, False, True])
    begins, rewards, terminated, _, _ = envs.step([1, 1, 2])
    assert (rewards.tolist(), terminated.tolist()) == ([1, 1, 0], [False, False, False])
    first = [world.reset(prompt[None, None])[1][0].numpy() for prompt in world.prompts]
    assert any(np.array_equal(begins[2], frame) for frame in first)
    _, rewards, _, _, _ = envs.step([0, 0, 2])
    assert rewards.tolist() == [0, 0, 2]


def test_episodes_use_the_given_sampling_settings(world: World) -> None:
    """A temperature gives other frames for another seed, temperature 0, which is the world's own, the same."""
    warm = SamplingConfig(steps=1, temperature=1.0)

    def frames(sampling: SamplingConfig | None, seed: int) -> np.ndarray:
        envs = vector(world, num_envs=1, sampling=sampling, prompts=world.prompts[:1, None])
        envs.reset(seed=seed)
        return np.stack([envs.step([action])[0] for action in (0, 1, 2)])

    assert np.array_equal(frames(None, 1), frames(None, 2))
    assert not np.array_equal(frames(warm, 1), frames(warm, 2))


def test_mapped_actions_play_the_given_latent_actions(world: World) -> None:
    latent, mapped = vector(world), vector(world, actions=[3, 3, 1])
    latent.reset(seed=0)
    mapped.reset(seed=0)
    assert np.array_equal(latent.step([3, 3, 1])[0], mapped.step([0, 1, 2])[0])
    with pytest.raises(JinnError, match="0 to 4"):
        vector(world, actions=[5])


def test_tensors_equal_the_arrays(world: World) -> None:
    arrays, tensors = vector(world), vector(world, as_tensors=True)
    arrays.reset(seed=3)
    frames, _ = tensors.reset(seed=3)
    assert isinstance(frames, torch.Tensor)
    one, other = arrays.step([0, 1, 2]), tensors.step(torch.tensor([0, 1, 2]))
    assert all(isinstance(part, torch.Tensor) for part in other[:4])
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(one[:4], other[:4], strict=True))


def test_prompts_from_a_store(world: World, tmp_path: Path) -> None:
    ingest(["synthetic:game"], tmp_path / "store", size_hw=(32, 32), frames=300)
    store = FrameStore.open(tmp_path / "store")
    # An untrained decoder without the videos' mean draws every frame alike.
    world = copy.deepcopy(world)
    world.tokenizer.initialize_from_data(
        read_clips(store, np.arange(3), np.zeros(3, int), 1), torch.Generator()
    )
    envs = vector(world, prompts=tmp_path / "store", context=3)
    frames, _ = envs.reset(seed=5)
    assert np.array_equal(frames, envs.reset(seed=5)[0])
    assert not np.array_equal(frames, envs.reset(seed=6)[0])
    assert vector(world, prompts=store).reset(seed=0)[0].shape == (3, 32, 32, 3)
    with pytest.raises(JinnError, match="no store"):
        vector(world, prompts=tmp_path / "nowhere")


@pytest.mark.parametrize("actions", [[0, 1], [0, 1, 5], [-1, 0, 0]])
def test_bad_actions_are_reported(world: World, actions: list[int]) -> None:
    envs = vector(world)
    with pytest.raises(JinnError, match="reset"):
        envs.step([0, 0, 0])
    envs.reset(seed=0)
    with pytest.raises(JinnError, match="3 actions from 0 to 4"):
        envs.step(actions)


def test_a_goal_image_rewards_frames_like_it() -> None:
    goal = torch.full((8, 8, 3), 200, dtype=torch.uint8)
    near, far = torch.full_like(goal, 190)[None], torch.full_like(goal, 100)[None]
    rewards, terminated = GoalImage(goal)(far, torch.zeros(1), near)
    assert (rewards.tolist(), terminated.tolist()) == ([1.0], [True])
    rewards, terminated = GoalImage(goal, shaped=True)(far, torch.zeros(1), far)
    assert (rewards.tolist(), terminated.tolist()) == ([0.0], [False])
    rewards, _ = GoalImage(goal, close=0, shaped=True)(far, torch.zeros(1), near)
    assert rewards.item() == pytest.approx(90 / 255)


@pytest.mark.slow
def test_a_reward_head_learns_from_few_frames(tmp_path: Path) -> None:
    """A sprite that touches a coin is rewarded; touching a saw terminates the episode."""
    chance = np.random.default_rng(0)

    def steps(count: int) -> tuple[torch.Tensor, ...]:
        frames = np.full((count, 2, 32, 32, 3), 120, np.uint8)
        kinds = chance.choice(3, size=count, p=(0.8, 0.1, 0.1))
        for clip, kind in zip(frames, kinds, strict=True):
            y, x = chance.integers(4, 24, 2)
            for t in range(2):
                clip[t, y : y + 4, x + 2 * t : x + 2 * t + 4] = (40, 40, 220)
            thing = (250, 220, 20) if kind == 1 else (220, 20, 20)
            left = x + 6 if kind else (x + 16) % 28
            clip[:, y : y + 4, left : left + 4] = (
                thing if kind else chance.choice(((250, 220, 20), (220, 20, 20)))
            )
        before, after = torch.from_numpy(frames).unbind(1)
        return before, after, torch.from_numpy(10.0 * (kinds == 1)), torch.from_numpy(kinds > 0)

    head = train_reward_head(*steps(400), seed=0)
    before, after, rewards, terminated = steps(300)
    found_rewards, found_terminated = head(before, torch.zeros(300), after)
    assert (found_terminated == terminated).float().mean() > 0.9
    assert (found_rewards == rewards).float().mean() > 0.9
    head.save(tmp_path / "head.safetensors")
    kept = RewardHead.load(tmp_path / "head.safetensors")
    assert torch.equal(kept(before, torch.zeros(300), after)[0], found_rewards)
    with pytest.raises(JinnError):
        RewardHead.load(tmp_path / "nothing.safetensors")


def test_stable_baselines_trains_on_it_unchanged(world: World) -> None:
    """Red frames are rewarded; frames of 32 pixels are too small for the usual Atari network."""
    baselines = pytest.importorskip("stable_baselines3", reason="needs stable-baselines3")

    def reward(before: torch.Tensor, actions: torch.Tensor, after: torch.Tensor) -> Any:
        return after[..., 0].float().mean((1, 2)) / 255, torch.zeros(len(after), dtype=torch.bool)

    env = gymnasium.make("jinn/World-v0", world=world, horizon=8, reward=reward)
    agent = baselines.PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0)
    agent.learn(64)
    action, _ = agent.predict(env.reset(seed=0)[0])
    assert env.action_space.contains(int(action))
