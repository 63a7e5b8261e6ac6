"""Worlds as Gymnasium environments, and reward functions."""

from __future__ import annotations

import copy
import subprocess
import sys
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


@pytest.mark.parametrize(
    "imports", ["import gymnasium", "import jinn, gymnasium", "import gymnasium, jinn", "import jinn.env"]
)
def test_gymnasium_knows_the_environment_whatever_was_imported_first(imports: str) -> None:
    script = f"{imports}; import gymnasium; gymnasium.make('jinn:jinn/World-v0', world='nowhere')"
    process = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    assert "there is no world at 'nowhere'" in process.stderr


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


@pytest.mark.parametrize(
    "actions",
    [
        [0, 1],
        [0, 1, 5],
        [-1, 0, 0],
        [1.7, 0, 1],
        ["2", 0, 0],
        [True] * 3,
        np.zeros(3, complex),
        [[0], [1, 2]],
    ],
)
def test_bad_actions_are_reported(world: World, actions: Any) -> None:
    envs = vector(world)
    with pytest.raises(JinnError, match="reset"):
        envs.step([0, 0, 0])
    envs.reset(seed=0)
    with pytest.raises(JinnError, match=r"integers from 0 to 4 of shape \(3,\), got"):
        envs.step(actions)


def test_what_the_environment_returns_may_be_changed(world: World) -> None:
    def reward(before: torch.Tensor, actions: torch.Tensor, after: torch.Tensor) -> Any:
        seen.append(before.clone())
        return after.zero_()[:, 0, 0, 0].float(), False

    for as_tensors in (False, True):
        seen: list[torch.Tensor] = []
        envs = vector(world, as_tensors=as_tensors, reward=reward, render_mode="rgb_array")
        frames, _ = envs.reset(seed=0)
        first = torch.as_tensor(frames).clone()
        frames[:] = 0
        envs.render()[0][:] = 0
        frames = envs.step([0, 1, 2])[0]
        assert torch.equal(seen[0], first)
        second = torch.as_tensor(frames).clone()
        assert second.any()
        frames[:] = 0
        envs.step([0, 1, 2])
        assert torch.equal(seen[1], second)


@pytest.mark.parametrize("result", [(np.ones(3), np.array([True, False, True])), (1.0, [True, False, True])])
def test_reward_functions_may_return_arrays_and_numbers(world: World, result: Any) -> None:
    envs = vector(world, reward=lambda *_: result)
    envs.reset(seed=0)
    _, rewards, terminated, _, _ = envs.step([0, 0, 0])
    assert (rewards.dtype, terminated.dtype) == (np.float32, bool)
    assert (rewards.tolist(), terminated.tolist()) == ([1, 1, 1], [True, False, True])


@pytest.mark.parametrize(
    "result",
    [
        (torch.zeros(3, 1), torch.zeros(3, 1, dtype=torch.bool)),
        (np.zeros(3), np.zeros(3)),
        (np.zeros(2), False),
        (np.zeros(3, complex), False),
        np.zeros(3),
        None,
    ],
)
def test_other_results_of_reward_functions_are_reported(world: World, result: Any) -> None:
    envs = vector(world, reward=lambda *_: result)
    envs.reset(seed=0)
    with pytest.raises(JinnError, match="a reward function returns"):
        envs.step([0, 0, 0])


def test_some_environments_are_reset(world: World) -> None:
    envs = vector(world, autoreset_mode="Disabled", horizon=2)
    with pytest.raises(JinnError, match="all environments before"):
        envs.reset(options={"reset_mask": np.array([True, False, False])})
    envs.reset(seed=0)
    before = envs.step([0, 1, 2])[0]
    frames, info = envs.reset(options={"reset_mask": np.array([False, True, False]), "prompt": 2})
    assert np.array_equal(frames[[0, 2]], before[[0, 2]])
    assert np.array_equal(frames[1], world.reset(world.prompts[2:, None])[1][0])
    assert info["_prompt"].tolist() == [False, True, False]
    assert envs.step([0, 1, 2])[3].tolist() == [True, False, True]
    with pytest.raises(JinnError, match=r"reset the environments \[0, 2\] first"):
        envs.step([0, 1, 2])
    envs.reset(options={"reset_mask": np.array([True, False, True])})
    assert envs.step([0, 1, 2])[3].tolist() == [False, True, False]
    for mask in (np.zeros(3, bool), np.ones(2, bool), [0, 1, 0]):
        with pytest.raises(JinnError, match="reset_mask is a bool for each of 3"):
            envs.reset(options={"reset_mask": mask})


def test_episodes_start_anew_in_the_step_that_ends_them(world: World) -> None:
    envs = vector(world, autoreset_mode="SameStep", horizon=2)
    envs = gymnasium.wrappers.vector.RecordEpisodeStatistics(envs)
    other = vector(world, horizon=9)
    assert np.array_equal(envs.reset(seed=0)[0], other.reset(seed=0)[0])
    envs.step([0, 1, 2])
    other.step([0, 1, 2])
    frames, _, _, truncated, info = envs.step([0, 1, 2])
    assert truncated.all()
    assert np.array_equal(np.stack(info["final_obs"]), other.step([0, 1, 2])[0])
    for row in range(3):
        prompt_BTHWC = world.prompts[info["prompt"][row]][None, None]
        assert np.array_equal(frames[row], world.reset(prompt_BTHWC, info["seed"][row])[1][0])
    assert info["episode"]["l"].tolist() == [2, 2, 2]
    assert not envs.step([0, 1, 2])[3].any()


def test_an_episode_starts_from_the_wanted_prompt(world: World) -> None:
    env = gymnasium.make("jinn/World-v0", world=world, actions=[3, 1])
    frame, info = env.reset(seed=np.int64(4), options={"prompt": 2})
    assert (info["prompt"], info["action_names"]) == (2, ("down-right", "right"))
    state, first = world.reset(world.prompts[2:, None], info["seed"])
    assert np.array_equal(frame, first[0])
    assert np.array_equal(env.step(0)[0], world.step(state, 3)[1][0])
    frames, info = vector(world).reset(options={"prompt": [2, 0, 2]})
    assert info["prompt"].tolist() == [2, 0, 2]
    assert info["action_names"][1][0] == "left"
    assert np.array_equal(frames[0], frames[2])
    for options in ({"prompt": 3}, {"prompt": [0, 1]}, {"prompt": 0.5}, {"start": 1}):
        with pytest.raises(JinnError, match="prompt"):
            vector(world).reset(options=options)


def test_a_finished_episode_does_not_go_on(world: World) -> None:
    env = gymnasium.make("jinn/World-v0", world=world, horizon=1).unwrapped
    env.reset()
    assert env.step(np.array([0]))[3]
    with pytest.raises(JinnError, match="their episodes are over"):
        env.step(0)


def test_a_goal_image_rewards_frames_like_it() -> None:
    goal = torch.full((8, 8, 3), 200, dtype=torch.uint8)
    near, far = torch.full_like(goal, 190)[None], torch.full_like(goal, 100)[None]
    rewards, terminated = GoalImage(goal.numpy())(far, torch.zeros(1), near)
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


def test_stable_baselines_takes_a_batch(world: World) -> None:
    baselines = pytest.importorskip("stable_baselines3", reason="needs stable-baselines3")
    from jinn.agents.stable_baselines import BatchVecEnv

    with pytest.raises(JinnError, match="SameStep"):
        BatchVecEnv(vector(world))
    prompts = world.prompts[:1, None]
    batch = BatchVecEnv(vector(world, horizon=2, autoreset_mode="SameStep", prompts=prompts))
    batch.seed(3)
    first = batch.reset()
    batch.step(np.array([0, 1, 2]))
    frames, _, over, infos = batch.step(np.array([0, 1, 2]))
    assert over.all()
    assert np.array_equal(frames, first)  # the first frames of the next episodes
    assert all(info["TimeLimit.truncated"] for info in infos)
    assert not np.array_equal(infos[1]["terminal_observation"], frames[1])
    agent = baselines.PPO("MlpPolicy", batch, n_steps=4, batch_size=12, n_epochs=1, seed=0)
    agent.learn(12)
    assert agent.num_timesteps == 12


def test_torchrl_takes_a_batch(world: World) -> None:
    """The environments whose episodes are over are reset, and no others."""
    libs = pytest.importorskip("torchrl.envs", reason="needs torchrl")

    def reward(before: torch.Tensor, actions: torch.Tensor, after: torch.Tensor) -> Any:
        return actions.float(), actions == 2

    envs = vector(world, horizon=3, reward=reward, autoreset_mode="Disabled")
    batch = libs.GymWrapper(envs, categorical_action_encoding=True)
    batch.set_seed(0)
    played = iter([[0, 1, 2], [2, 1, 0], [0, 1, 3], [0, 0, 0]])
    steps = batch.rollout(4, lambda observation: torch.tensor(next(played)), break_when_any_done=False)
    assert steps["next", "reward"][..., 0].T.tolist() == [[0, 1, 2], [2, 1, 0], [0, 1, 3], [0, 0, 0]]
    assert steps["next", "terminated"][..., 0].T.int().tolist() == [
        [0, 0, 1],
        [1, 0, 0],
        [0, 0, 0],
        [0, 0, 0],
    ]
    assert steps["next", "truncated"][..., 0].T.int().tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]]
    observed, after = steps["observation"][:, 1:], steps["next", "observation"][:, :-1]
    is_new = steps["next", "done"][:, :-1, 0]
    assert torch.equal(observed[~is_new], after[~is_new])
    firsts = [world.reset(prompt[None, None])[1][0] for prompt in world.prompts]
    for frame in observed[is_new]:
        assert any(torch.equal(frame, first) for first in firsts)
