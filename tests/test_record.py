"""What a person plays is kept: frames, actions and rewards, episode by episode. And the screen."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jinn.cli import main
from jinn.contracts import JinnError
from jinn.data.copied import copy_store
from jinn.data.joined import JoinedStore
from jinn.data.screen import film
from jinn.data.store import FrameStore
from jinn.data.writer import StoreWriter

gymnasium = pytest.importorskip("gymnasium", reason="recording is tested with the extra 'games'")
pytest.importorskip("starlette", reason="recording is tested with the extra 'play'")

from starlette.testclient import TestClient  # noqa: E402

from jinn.player.record import Recorder, create_recorder_app  # noqa: E402


class Counter(gymnasium.Env):  # type: ignore[misc]
    """Shows its seed and how many steps it made; every action is rewarded by its number; it ends after five."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 200}  # noqa: RUF012
    observation_space = gymnasium.spaces.Discrete(1)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, render_mode: str = "rgb_array", names: bool = True) -> None:
        self.render_mode, self.names, self.steps, self.seed = render_mode, names, 0, 0

    def get_action_meanings(self) -> list[str]:
        return ["NOOP", "LEFT", "RIGHT"] if self.names else ["A", "B", "C"]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        self.steps, self.seed = 0, self.seed if seed is None else seed
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return 0, float(action), self.steps == 5, False, {}

    def render(self) -> np.ndarray:
        picture = np.zeros((12, 12, 3), np.uint8)
        picture[..., 0], picture[..., 1] = 10 * self.steps, self.seed
        return picture


@pytest.fixture(autouse=True)
def counter() -> Iterator[None]:
    gymnasium.register("Counter-v0", entry_point=Counter)
    yield
    del gymnasium.registry["Counter-v0"]


def recorder(out: Path, env: str = "gymnasium:Counter-v0", seed: int = 7) -> Recorder:
    return Recorder(env, out, (8, 8), seed, None)


def test_frames_actions_and_rewards_of_each_episode_are_kept(tmp_path: Path) -> None:
    played = recorder(tmp_path / "s")
    assert (played.names, played.idle) == (("noop", "left", "right"), 0)
    for action in (1, 2, 0, 2, 1):
        played.step(action)
    assert played.is_final
    assert played.shown_HWC.shape == (12, 12, 3)  # the page shows the environment's own pictures
    played.step(2)  # begins the next episode, whatever is pressed
    played.step(2)
    played.restart()
    played.restart()  # an episode in which nothing was done is not kept
    played.step(1)
    assert FrameStore.open(tmp_path / "s").lengths.tolist() == [6, 2]  # on the disk, each when it ends
    played.close()
    store = FrameStore.open(tmp_path / "s")
    assert store.lengths.tolist() == [6, 2, 2]
    assert (store.fps, store.num_actions, store.action_names) == (200, 3, ("noop", "left", "right"))
    assert store.frames(0, 0, 6)[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert store.frames(2, 0, 2)[:, 0, 0].tolist() == [
        [0, 9, 0],
        [10, 9, 0],
    ]  # the seed of the second restart
    assert [list(store.actions(n, 0, store.lengths[n])) for n in range(3)] == [  # type: ignore[arg-type]
        [1, 2, 0, 2, 1, -1], [2, -1], [1, -1]
    ]  # fmt: skip
    rewards = store.rewards(0, 0, 6)
    assert rewards is not None
    assert rewards[:5].tolist() == [1, 2, 0, 2, 1]
    assert np.isnan(rewards[5])
    assert len(set(store.groups)) == 3  # each episode may be held out by itself


def test_a_second_recording_is_added(tmp_path: Path) -> None:
    for _ in range(2):
        played = recorder(tmp_path / "s")
        played.step(1)
        played.close()
    recorder(tmp_path / "none").close()
    assert FrameStore.open(tmp_path / "s").num_episodes == 2
    assert not (tmp_path / "none").exists()


def test_rewards_follow_a_store_that_had_none(tmp_path: Path) -> None:
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    with StoreWriter(tmp_path / "s", (8, 8), 10) as writer:
        for rewards_T in (None, np.array([1.0, 2, 3, 0]), None):
            writer.append(frames)
            writer.end_episode("x", rewards_T=rewards_T)
        writer.finish_source("x")
    store = FrameStore.open(tmp_path / "s")
    assert store.rewards(0, 0, 4) is None
    assert store.rewards(2, 0, 4) is None
    assert list(store.rewards(1, 1, 3)) == [2, 3]  # type: ignore[arg-type]
    with StoreWriter(tmp_path / "copy", (8, 8), 10) as writer:
        copy_store(writer, store, lambda *_: None)
    both = JoinedStore([FrameStore.open(tmp_path / "copy"), store])
    assert list(both.rewards(1, 0, 3)) == list(both.rewards(4, 0, 3)) == [1, 2, 3]  # type: ignore[arg-type]
    with StoreWriter(tmp_path / "none", (8, 8), 10) as writer:
        writer.append(frames)
        writer.end_episode("x")
    assert FrameStore.open(tmp_path / "none").rewards(0, 0, 4) is None
    assert not (tmp_path / "none" / "rewards.bin").exists()


def test_the_page_plays_by_messages(tmp_path: Path) -> None:
    played = recorder(tmp_path / "s", "gymnasium:Counter-v0?names=false")
    assert played.idle is None  # nothing is called doing nothing: the environment waits
    with TestClient(create_recorder_app(played), base_url="http://127.0.0.1") as client:
        assert "record.js" in client.get("/").text
        assert client.get("/api/game").json()["buttons"] == ["a", "b", "c"]
        assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 403
        with client.websocket_connect("ws://127.0.0.1/ws") as socket:
            assert socket.receive_bytes() == played.shown_HWC.tobytes()
            assert socket.receive_json() == {"frames": 1, "episodes": 0, "reward": 0}
            for text in (
                "no",
                "[]",
                "{}",
                '{"type": "action", "action": 3}',
                '{"type": "keys", "action": "a"}',
            ):
                socket.send_text(text)  # all of them are ignored
            socket.send_json({"type": "action", "action": 2})
            socket.receive_bytes()
            assert socket.receive_json() == {"frames": 2, "episodes": 0, "reward": 2}
            with client.websocket_connect("ws://127.0.0.1/ws") as other:
                assert "another page" in other.receive_json()["message"]
            socket.send_json({"type": "restart"})
            socket.receive_bytes()
            assert socket.receive_json() == {"frames": 3, "episodes": 1, "reward": 0}
            socket.send_json({"type": "keys", "action": 1})
            while socket.receive()["type"] and socket.receive_json()["episodes"] < 2:
                pass  # it is held, and the episode ends by itself
            socket.send_json({"type": "keys", "action": None})
    played.close()
    store = FrameStore.open(tmp_path / "s")
    assert store.lengths[:2].tolist() == [2, 6]
    assert list(store.actions(1, 0, 5)) == [1] * 5  # type: ignore[arg-type]


def test_what_keys_cannot_play_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JinnError, match="Nowhere-v0"):
        recorder(tmp_path / "s", "gymnasium:Nowhere-v0")
    assert not (tmp_path / "s").exists()


def test_the_screen_is_filmed_at_its_rate(tmp_path: Path) -> None:
    pictures = (np.full((30, 40, 3), number, np.uint8) for number in itertools.count())
    assert film(lambda: next(pictures), tmp_path / "s", (8, 8), fps=100, seconds=0.2) == 20
    store = FrameStore.open(tmp_path / "s")
    assert store.lengths.tolist() == [20]
    shown = store.frames(0, 0, 20)[:, 0, 0, 0].tolist()
    assert shown == sorted(shown)  # where the machine is slow, pictures repeat
    assert shown[0] == 0

    def grab() -> np.ndarray:
        picture = next(pictures)
        if picture[0, 0, 0] > shown[-1] + 3:
            raise KeyboardInterrupt
        return picture

    assert film(grab, tmp_path / "t", (8, 8), fps=100, seconds=float("inf")) >= 3  # what there is stays


def test_where_there_is_no_screen_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mss", reason="the screen is tested with the extra 'screen'")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["record", "--screen", "0,0,8,8", "--out", str(tmp_path / "s"), "--minutes", "0.01"]) in (
        0,
        2,
    )
    assert "this screen cannot be filmed" in capsys.readouterr().err or (tmp_path / "s").exists()
