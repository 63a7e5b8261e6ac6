"""Environments that start from given frames, and environments that fork: what planning needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

gymnasium = pytest.importorskip("gymnasium", reason="environments need gymnasium")

import jinn.env  # noqa: E402
from jinn.contracts import JinnError  # noqa: E402
from jinn.world.world import World  # noqa: E402
from tiny_world import tiny_world  # noqa: E402


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


def vector(world: World, **options: Any) -> jinn.env.WorldVectorEnv:
    return jinn.env.WorldVectorEnv(3, world, **options)


def test_an_episode_starts_from_given_frames(world: World) -> None:
    clips_BTHWC = torch.randint(0, 256, (3, 2, 32, 32, 3), dtype=torch.uint8)
    envs = vector(world)
    frames, info = envs.reset(seed=1, options={"frames": clips_BTHWC.numpy()})
    state, first = world.reset(clips_BTHWC, info["seed"])
    assert info["prompt"].tolist() == [-1] * 3
    assert np.array_equal(frames, first)
    assert np.array_equal(envs.step([0, 1, 2])[0], world.step(state, torch.tensor([0, 1, 2]))[1])
    mask = np.array([False, True, False])
    frames, info = envs.reset(options={"frames": clips_BTHWC[0].numpy(), "reset_mask": mask})
    assert np.array_equal(frames[1], world.reset(clips_BTHWC[:1], info["seed"][1:2])[1][0])
    for options, words in (
        ({"frames": clips_BTHWC[:2]}, "one for each of 3"),
        ({"frames": np.zeros((1, 8, 8, 3), np.uint8)}, "32"),
        ({"frames": clips_BTHWC, "prompt": 0}, "prompt or frames"),
        ({"frames": 3}, "frames"),
    ):
        with pytest.raises(JinnError, match=words):
            envs.reset(options=options)


def test_environments_fork(world: World) -> None:
    """Each goes on as a copy of another, also in the number of its steps."""
    envs = vector(world, horizon=3)
    with pytest.raises(JinnError, match="before a fork"):
        envs.reset(options={"fork": 0})
    envs.reset(seed=0)
    before = envs.step([0, 1, 2])[0]
    envs.reset(options={"reset_mask": np.array([False, False, True])})
    frames, _ = envs.reset(options={"fork": [1, 0, 1]})
    assert np.array_equal(frames, before[[1, 0, 1]])
    after, _, _, truncated, _ = envs.step([3, 3, 3])
    assert np.array_equal(after[0], after[2])
    assert not np.array_equal(after[0], after[1])
    assert not truncated.any()
    assert envs.step([3, 0, 3])[3].all()
    for options in ({"fork": 3}, {"fork": [0, 1]}, {"fork": 0, "prompt": 0}):
        with pytest.raises(JinnError, match="fork"):
            envs.reset(options=options)
