"""Environments that fail, and those of other packages."""

from __future__ import annotations

import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from jinn import cpus
from jinn.contracts import JinnError
from jinn.data import collect as module
from jinn.data.collect import collect
from jinn.data.ingest import ingest
from jinn.data.store import FrameStore


class Fragile(gymnasium.Env):
    """Fails after some pictures; an episode has 30 steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(3)
    left = 0  # number of pictures

    def __init__(self, fault: str = "", render_mode: str | None = None) -> None:
        self.render_mode, self.fault = render_mode, fault
        assert fault != "breaks"

    def reset(self, *, seed: int | None = None, options: object = None) -> tuple[int, dict[str, object]]:
        self.steps = 0
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, object]]:
        self.steps += 1
        return 0, 0.0, self.steps == 29, False, {}

    def render(self) -> np.ndarray:  # type: ignore[override]
        if self.fault == "blind":
            return None  # type: ignore[return-value]
        Fragile.left -= 1
        if Fragile.left == 0:
            raise RuntimeError("the emulator crashed")
        return np.full((8, 8, 3), self.steps, np.uint8)


gymnasium.register("JinnFragile-v0", Fragile)


def test_what_was_played_before_an_environment_failed_is_kept(tmp_path: Path) -> None:
    Fragile.left = 80
    with pytest.raises(
        JinnError, match=r"failed after (\d+) frames \(RuntimeError: the emulator crashed\): what"
    ):
        ingest(["gymnasium:JinnFragile-v0"], tmp_path / "out", size_hw=(8, 8), frames=200)
    lengths = FrameStore.open(tmp_path / "out").lengths.tolist()
    assert lengths[:2] == [30, 30]
    assert 60 < sum(lengths) < 80
    summary = ingest(["gymnasium:JinnFragile-v0"], tmp_path / "out", frames=200)
    assert (summary.resumed, summary.frames) == (1, 200 - sum(lengths))


@pytest.mark.filterwarnings("ignore:.*RGB-array rendering")
@pytest.mark.parametrize(("fault", "said"), [("breaks", "cannot open"), ("blind", "not RGB pictures")])
def test_an_environment_that_cannot_be_recorded_is_a_sentence(fault: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(JinnError, match=said):
        ingest([f"gymnasium:JinnFragile-v0?fault={fault}"], tmp_path / "out")


def test_large_pictures_become_shorter_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10 * 8 * 8 * 3)
    episodes = list(collect("gymnasium:JinnFragile-v0", 60, 0, num_envs=1))
    assert max(len(episode.frames_THWC) for episode in episodes) == 10
    assert sum(len(episode.frames_THWC) for episode in episodes) == 60


def test_games_of_ale_py_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gymnasium knows them only once that package was imported."""
    lines = [
        "import gymnasium, test_data_games",
        "gymnasium.register('ALE/Fake-v5', test_data_games.Fragile)",
    ]
    (tmp_path / "ale_py.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ale_py", raising=False)
    assert len(next(collect("gymnasium:ALE/Fake-v5", 30, 0, num_envs=1)).frames_THWC) == 30


@pytest.mark.parametrize(
    ("quota", "count"), [("max 100000", 4), ("150000 100000", 2), ("900000 100000", 4), ("", 4)]
)
def test_cpus_are_those_of_the_process(
    quota: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 2, 4, 6}, raising=False)
    monkeypatch.setattr(cpus, "CGROUP", tmp_path)
    if quota:
        (tmp_path / "cpu.max").write_text(quota)
    assert cpus.num_cpus() == count
