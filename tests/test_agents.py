"""Agents learn: in games made for the test, and what they learn from is what it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium", reason="agents need gymnasium")

from gymnasium.vector import VectorEnv  # noqa: E402

from jinn.agents.network import Network, NetworkConfig  # noqa: E402
from jinn.agents.play import play  # noqa: E402
from jinn.agents.ppo import PPOConfig, Rollout, advantages, train_ppo  # noqa: E402
from jinn.contracts import JinnError  # noqa: E402


class Lamps(VectorEnv[Any, Any, Any]):
    """One of three places is lit; who presses its key earns one. An episode is five steps long."""

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


def test_ppo_learns_and_is_the_same_for_a_seed(tmp_path: Path) -> None:
    config = PPOConfig(steps=3072, length=32, epochs=2, minibatches=4, learning_rate=2e-3)
    reports: list[dict[str, float]] = []
    network = train_ppo(Lamps(8), config, seed=1, on_update=lambda report, _: reports.append(report))
    assert reports[0]["return"] < 3 < 4.5 < reports[-1]["return"]
    assert reports[-1]["steps"] == 3072
    again: list[dict[str, float]] = []

    def compare(report: dict[str, float], _: Network) -> None:
        again.append(report)
        if len(again) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_ppo(Lamps(8), config, seed=1, on_update=compare)
    assert again == reports[:3]
    network.save(tmp_path / "policy.safetensors")
    kept = Network.load(tmp_path / "policy.safetensors", network.config)
    chance = torch.Generator().manual_seed(0)
    returns = play(Lamps(8, seed=9), lambda frames: kept.act(frames, chance), episodes=40)
    assert len(returns) == 40
    assert returns.mean() > 4.5
    random = play(Lamps(8, seed=9), lambda frames: torch.randint(3, (8,), generator=chance), episodes=200)
    assert 1.2 < random.mean() < 2.2
    with pytest.raises(JinnError, match="4 actions"):
        Network.load(tmp_path / "policy.safetensors", NetworkConfig(4))


def test_advantages_stop_at_the_end_of_an_episode() -> None:
    """Against the definition, written out for one environment."""
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
    four = r[4] + discount * v[5] - v[4]  # it was cut: the value of its last frame stands for the rest
    three = r[3] + discount * v[4] - v[3] + discount * trace * four
    one = r[1] - v[1]
    zero = r[0] + discount * v[1] - v[0] + discount * trace * one
    for t, expected in ((6, six), (4, four), (3, three), (1, one), (0, zero)):
        assert found[t].item() == pytest.approx(expected, abs=1e-6)
