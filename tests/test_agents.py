"""Agents: they learn in small games, and their inputs are correct."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium", reason="agents need gymnasium")

from gymnasium.vector import VectorEnv  # noqa: E402

from jinn.agents.clone import CloneConfig, clone  # noqa: E402
from jinn.agents.game import Game  # noqa: E402
from jinn.agents.network import Network, NetworkConfig, new_network  # noqa: E402
from jinn.agents.play import actor, play  # noqa: E402
from jinn.agents.ppo import PPOConfig, Rollout, advantages, train_ppo  # noqa: E402
from jinn.contracts import JinnError  # noqa: E402
from jinn.data.collect import collect  # noqa: E402
from jinn.env import WorldVectorEnv  # noqa: E402
from jinn.world.keys import Dictionary  # noqa: E402
from tiny_world import tiny_world  # noqa: E402


class Lamps(VectorEnv[Any, Any, Any]):
    """One of three areas is lit, and its action has a reward of 1. An episode has five steps."""

    def __init__(self, num_envs: int, seed: int = 0) -> None:
        self.num_envs = num_envs
        self.single_observation_space = gymnasium.spaces.Box(0, 255, (16, 24, 3), np.uint8)
        self.single_action_space = gymnasium.spaces.Discrete(3)
        self.rng = np.random.default_rng(seed)

    def reset(self, **_: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.age, self.over = np.zeros(self.num_envs, int), np.zeros(self.num_envs, bool)
        return self.light(), {}

    def light(self) -> np.ndarray:
        self.lit = self.rng.integers(3, size=self.num_envs)
        frames = np.zeros((self.num_envs, 16, 24, 3), np.uint8)
        for frame, place in zip(frames, self.lit, strict=True):
            frame[4:12, 8 * place : 8 * place + 8] = (250, 220, 20)
        return frames

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        rewards = np.where(self.over, 0.0, actions == self.lit)
        self.age = np.where(self.over, 0, self.age + 1)
        self.over = self.age == 5
        return self.light(), rewards, self.over.copy(), np.zeros(self.num_envs, bool), {}


def small(actions: int = 3) -> Network:
    return new_network(NetworkConfig(actions, (16, 24), (8, 16), 64), seed=1)


@pytest.mark.slow
def test_ppo_learns_and_is_reproducible(tmp_path: Path) -> None:
    config = PPOConfig(steps=3072, length=32, epochs=2, minibatches=4, learning_rate=2e-3)
    reports: list[dict[str, float]] = []
    network = train_ppo(
        Lamps(8), config, 1, network=small(), on_update=lambda report, _: reports.append(report)
    )
    assert reports[0]["return"] < 3 < 4.5 < reports[-1]["return"]
    assert reports[-1]["steps"] == 3072
    again: list[dict[str, float]] = []

    def compare(report: dict[str, float], _: Network) -> None:
        again.append(report)
        if len(again) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ppo(Lamps(8), config, 1, network=small(), on_update=compare)
    assert again == reports[:3]
    network.save(tmp_path)
    kept = Network.load(tmp_path)
    chance = torch.Generator().manual_seed(0)
    returns = play(Lamps(8, seed=9), lambda frames: kept.act(frames, chance), episodes=40)
    assert len(returns) == 40
    assert returns.mean() > 4.5
    random = play(
        Lamps(8, seed=9), lambda frames: torch.randint(3, (len(frames),), generator=chance), episodes=200
    )
    assert 1.2 < random.mean() < 2.2
    with pytest.raises(JinnError, match="no agent"):
        Network.load(tmp_path / "nowhere")


@pytest.mark.slow
def test_ppo_resumes_where_it_was_stopped(tmp_path: Path) -> None:
    config = PPOConfig(steps=3072, length=32, epochs=2, minibatches=4, learning_rate=2e-3, save_every=5)
    reports: list[dict[str, float]] = []

    def stop(report: dict[str, float], _: Network) -> None:
        reports.append(report)
        if len(reports) == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ppo(Lamps(8), config, 1, network=small(), folder=tmp_path, on_update=stop)
    network = train_ppo(Lamps(8), config, 2, network=small(), folder=tmp_path, on_update=stop)
    steps = [report["steps"] / 256 for report in reports]
    assert steps == [*range(1, 9), *range(6, 13)]
    assert reports[-1]["return"] > 4.5
    # The training is complete.
    again = train_ppo(Lamps(8), config, 3, network=small(), folder=tmp_path, on_update=stop)
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    act = actor(tmp_path)
    returns = play(Lamps(8), lambda frames: torch.from_numpy(act(frames.numpy())), episodes=16)
    assert returns.mean() > 4.5
    # Half of the actions are random, and a third of those are right by chance.
    frames_XHWC, lit_X = shown(600, seed=3)
    right = actor(tmp_path, random=0.5)(frames_XHWC.numpy()) == lit_X.numpy()
    assert right.mean() == pytest.approx(2 / 3, abs=0.08)
    with pytest.raises(JinnError, match="between 0 and 1"):
        actor(tmp_path, random=20)


def shown(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames of lamps and the right action in each."""
    lamps = Lamps(count, seed)
    frames, _ = lamps.reset()
    return torch.from_numpy(frames), torch.from_numpy(lamps.lit)


@pytest.mark.slow
def test_a_policy_is_cloned_from_latent_actions_and_a_dictionary_maps_them() -> None:
    """The latent actions are the true ones under other numbers; two of them correspond to the same action."""
    frames, keys = shown(300, seed=0)
    chance = torch.Generator().manual_seed(0)
    latents = torch.tensor([2, 0, 3])[keys]
    latents[(keys == 1) & (torch.rand(300, generator=chance) < 0.5)] = 1
    latents[::7] = -1  # the last frames of videos
    told: list[float] = []
    config = CloneConfig(steps=120, batch=32, shift=1)
    policy = clone(frames, latents, 4, config, network=small(4), on_step=lambda _, loss: told.append(loss))
    assert len(told) == 120
    assert told[-1] < 0.6 < 1.2 < told[0]
    labelled = latents[:40] >= 0
    for some, least, most in ((labelled, 4.5, 5.0), (labelled & False, 1.2, 2.2)):
        dictionary = Dictionary(latents[:40][some], keys[:40][some], 4, 3)
        returns = play(
            Lamps(8, 9), lambda x, d=dictionary: d.to_true(policy.act(x, chance), chance), episodes=80
        )
        assert least <= returns.mean() <= most
    again = clone(frames, latents, 4, config, network=small(4))
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), again.parameters(), strict=True))
    with pytest.raises(JinnError, match="no frame"):
        clone(frames, torch.full((300,), -1), 4)
    with pytest.raises(JinnError, match="there are 3"):
        clone(frames, latents, 3)


def test_the_page_of_agents_trains_and_plays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks from the first environment to the returns run as they stand, with smaller numbers."""
    page = (Path(__file__).parent.parent / "docs" / "agents.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    code = "\n".join(block for block in blocks if "horizon=200" in block or "train_ppo" in block)
    smaller = {"num_envs=16": "num_envs=2", "horizon=200": "horizon=3", "episodes=100": "episodes=2"}
    smaller['"platforms"'] = "small_world"
    smaller["steps=100_000"] = "steps=8, length=4, epochs=1, minibatches=1"
    for large, small_one in smaller.items():
        assert large in code
        code = code.replace(large, small_one)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"small_world": tiny_world()}
    exec(code, names)
    assert names["returns"].shape == (2,)
    assert Network.load("runs/agent").config.actions == names["envs"].single_action_space.n


def test_arrays_are_cloned_from_as_tensors_are() -> None:
    frames, keys = shown(20, seed=0)
    config = CloneConfig(steps=2, batch=4)
    one = clone(frames, keys, 3, config, network=small())
    other = clone(frames.numpy(), keys.numpy().astype(np.uint8), 3, config, network=small())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    dictionary = Dictionary(keys.numpy(), keys.numpy(), 3, 3)
    assert dictionary.counts_AU.sum() == 20
    with pytest.raises(JinnError, match="one for each of 20 frames"):
        clone(frames, keys.float(), 3)


def test_agents_need_episodes_that_start_in_the_next_step() -> None:
    envs = WorldVectorEnv(1, tiny_world(), autoreset_mode="SameStep")
    for use in (lambda: train_ppo(envs, PPOConfig()), lambda: play(envs, lambda x: x[:, 0, 0, 0], 1)):
        with pytest.raises(JinnError, match='autoreset_mode="NextStep": theirs is "SameStep"'):
            use()


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_a_device_that_is_not_here_is_one_sentence(name: str) -> None:
    with pytest.raises(JinnError, match=f"there is no device '{name}' here.*choose one of cpu"):
        train_ppo(Lamps(1), PPOConfig(steps=1), device=name)
    with pytest.raises(JinnError, match=f"there is no device '{name}' here.*choose one of cpu"):
        clone(np.zeros((2, 8, 8, 3), np.uint8), [0, 1], 2, device=name)


def test_a_network_with_pixel_unshuffle_uses_every_pixel() -> None:
    """No pixel of a square is left out, and each has another effect."""
    network = new_network(NetworkConfig(3, (16, 24), (8, 16), 64, fold=2), seed=0)
    frames = torch.zeros(16 * 24, 16, 24, 3, dtype=torch.uint8)
    frames.view(16 * 24, 16 * 24, 3)[torch.arange(16 * 24), torch.arange(16 * 24)] = 255
    logits = network(torch.cat([frames, frames[:1] * 0]))[0]
    assert len(logits.detach().unique(dim=0)) == 16 * 24 + 1
    with pytest.raises(ValueError, match="16 x 24"):
        NetworkConfig(3, (16, 24), fold=5)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    half = 1.96 * values.std() / len(values) ** 0.5
    return values.mean() - half, values.mean() + half


@pytest.mark.slow
def test_agents_learn_in_the_real_game() -> None:
    """A clone of a little play of the runner, then trained by PPO, on levels of neither."""
    pytest.importorskip("envpool", reason="the real game needs EnvPool")
    game, chance = "CoinrunEasy-v0", torch.Generator().manual_seed(0)

    def earned(policy: Any) -> np.ndarray:
        envs, total = Game(game, 16, levels=(100, 50), seed=1), np.zeros(16)
        frames, _ = envs.reset()
        for _ in range(150):
            frames, rewards, _, _, _ = envs.step(policy(torch.from_numpy(frames)))
            total += rewards
        envs.close()
        return total

    seen = list(collect(f"envpool:{game}", 4000, 0, (0, 50), "runner"))
    frames_XHWC = torch.from_numpy(np.concatenate([piece.frames_THWC for piece in seen]))
    actions_X = torch.from_numpy(np.concatenate([piece.actions_T for piece in seen]))
    network = new_network(NetworkConfig(15, (64, 64), (4, 8, 16), 64, fold=2), seed=0)
    config = CloneConfig(steps=100, batch=64, learning_rate=3e-3)
    clone(frames_XHWC, actions_X, 15, config, network=network)
    _, random_most = mean_interval(earned(lambda x: torch.randint(15, (len(x),), generator=chance)))
    cloned_least, _ = mean_interval(earned(lambda x: network.act(x, chance)))
    assert cloned_least > random_most
    settings = PPOConfig(steps=1024, length=64)
    train_ppo(Game(game, 16, levels=(0, 50)), settings, network=network)
    taught_least, _ = mean_interval(earned(lambda x: network.act(x, chance)))
    assert taught_least > random_most


@pytest.mark.slow
def test_the_real_game_follows_the_gymnasium_interface() -> None:
    pytest.importorskip("envpool", reason="the real game needs EnvPool")
    envs = Game("CoinrunEasy-v0", 4, levels=(0, 5), render_mode="rgb_array")
    first, info = envs.reset(seed=3)
    assert envs.observation_space.contains(first)
    assert set(info["level_seed"]) <= set(range(5))
    frames = [envs.step([7, 8, 4, 1])[0].copy() for _ in range(10)]
    assert np.array_equal(np.stack(envs.render()), frames[-1])
    assert np.array_equal(envs.reset(seed=3)[0], first)
    assert all(np.array_equal(envs.step([7, 8, 4, 1])[0], frame) for frame in frames)
    envs.close()
    with pytest.raises(JinnError, match="no 'Coinrun'"):
        Game("Coinrun")
    with pytest.raises(JinnError, match="at least 1"):
        Game(num_envs=0)


@pytest.mark.slow
def test_an_agent_learns_in_a_learned_environment() -> None:
    """Red frames are rewarded."""

    def reward(before: torch.Tensor, actions: torch.Tensor, after: torch.Tensor) -> Any:
        redness = after[..., 0].float().mean((1, 2)) - after[..., 1].float().mean((1, 2))
        return redness / 25, torch.zeros(len(after), dtype=torch.bool)

    envs = WorldVectorEnv(16, tiny_world(), horizon=10, reward=reward)
    chance = torch.Generator().manual_seed(0)
    random = play(envs, lambda x: torch.randint(5, (len(x),), generator=chance), episodes=32)
    config = PPOConfig(steps=2560, length=32, epochs=2, minibatches=4, learning_rate=4e-3, discount=0.9)
    network = train_ppo(envs, config, network=new_network(NetworkConfig(5, (32, 32), (8, 16), 64), seed=0))
    learned = play(envs, lambda x: network.act(x, chance), episodes=32)
    assert mean_interval(learned)[0] > mean_interval(random)[1] + 1


def test_advantages_stop_at_the_end_of_an_episode() -> None:
    """Compared with the definition, written out for one environment."""
    T, discount, trace = 7, 0.9, 0.8
    chance = torch.Generator().manual_seed(0)
    values, rewards = torch.rand(T, 1, generator=chance), torch.rand(T, 1, generator=chance)
    ended, cut = torch.zeros(T, 1, dtype=torch.bool), torch.zeros(T, 1, dtype=torch.bool)
    ended[1], cut[4] = True, True  # steps 2 and 5 are empty
    last = torch.rand(1, generator=chance)
    nothing = torch.zeros(T, 1)
    rollout = Rollout(nothing, nothing, nothing, values, rewards, ended, ended | cut, nothing.bool(), last)
    found = advantages(rollout, discount, trace)
    v = [*values.flatten().tolist(), last.item()]
    r = rewards.flatten().tolist()
    six = r[6] + discount * v[7] - v[6]
    four = r[4] + discount * v[5] - v[4]  # truncated: the value of the last frame replaces the rest
    three = r[3] + discount * v[4] - v[3] + discount * trace * four
    one = r[1] - v[1]
    zero = r[0] + discount * v[1] - v[0] + discount * trace * one
    for t, expected in ((6, six), (4, four), (3, three), (1, one), (0, zero)):
        assert found[t].item() == pytest.approx(expected, abs=1e-6)
