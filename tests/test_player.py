"""The player's server: addresses, play, and going back in time."""

from __future__ import annotations

import http.client
import re
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosed

from helpers_player import PATIENCE, Player, decode
from helpers_world import make_world
from jinn.contracts import JinnError
from jinn.player.api import create_app
from jinn.player.client import ReceivedFrame
from jinn.player.history import History, num_bytes
from jinn.player.protocol import FrameKind, Limits
from jinn.player.scheduler import Frame, Job, Priority, Scheduler
from jinn.player.server import running
from jinn.world.world import World

pytest_plugins = ["helpers_player"]


# ---- Addresses ------------------------------------------------------------------------------------


def test_page_loads_nothing_from_elsewhere(address: str) -> None:
    page = httpx.get(address)
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("play.js", "keys.js", "screen.js", "style.css"):
        answer = httpx.get(f"{address}/static/{name}")
        assert answer.status_code == 200
        assert not re.search(r"https?://|@import|url\(", answer.text)


def test_the_server_describes_the_world(address: str, world: World) -> None:
    told = httpx.get(f"{address}/api/world").json()
    assert told["name"] == world.name
    assert told["actions"] == world.num_actions
    assert world.legend is not None
    assert told["legend"] == [asdict(meaning) for meaning in world.legend]
    assert (told["height"], told["width"]) == tuple(world.size_hw)
    assert told["prompts"] == len(world.prompts)
    assert 1 <= told["fps"] <= 30
    limits = Limits()
    assert told["fps_range"] == list(limits.fps_range)
    assert told["max_film_frames"] == limits.max_film_bytes // world.prompts[0].numel()
    names = """name id about actions legend idle height width fit fps fps_range sampling steps_range temperature_range
        doubt_range buttons window prompts palette max_upload_bytes max_clip_frames max_what_if_frames
        max_film_frames"""
    assert set(told) == {*names.split(), "max_text", "real_game", "text", "text_why_not"}


def test_prompts_are_lossless(address: str, world: World) -> None:
    answer = httpx.get(f"{address}/api/prompts/0.png")
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(decode(answer.content), world.prompts[0].numpy())


@pytest.mark.parametrize(
    "path", ["/api/prompts/999.png", "/api/prompts/-1.png", "/nothing", "/static/nothing.js"]
)
def test_unknown_paths_are_404(address: str, path: str) -> None:
    assert httpx.get(address + path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static/..%5cserver.py",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
    ],
)
def test_the_server_serves_only_its_own_files(address: str, path: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc)  # sends the path unchanged
    connection.request("GET", path)
    assert connection.getresponse().status == 404
    connection.close()


# ---- Playing --------------------------------------------------------------------------------------


def test_frames_equal_those_of_the_world(address: str, world: World) -> None:
    actions = [0, 1, 1, 0]
    state, frame_BHWC = world.reset(world.prompts[:1][None], seed=3)
    expected = [frame_BHWC[0].numpy()]
    for action in actions:
        state, frame_BHWC = world.step(state, torch.tensor([action]))
        expected.append(frame_BHWC[0].numpy())
    with Player(address) as player:
        assert np.array_equal(player.rollout(actions, seed=3), expected)


def test_players_are_independent(address: str) -> None:
    with Player(address) as alone:
        expected = alone.rollout([0, 1, 0, 1, 1], seed=5)
    done = threading.Event()

    def play_on() -> None:
        with Player(address) as other:
            while not done.is_set():
                other.rollout([1, 1, 0], seed=6)

    thread = threading.Thread(target=play_on)
    thread.start()
    try:
        with Player(address) as player:
            beside = player.rollout([0, 1, 0, 1, 1], seed=5)
    finally:
        done.set()
        thread.join()
    assert np.array_equal(beside, expected)


def test_reset_starts_a_new_roll_out(address: str) -> None:
    with Player(address) as player:
        frames = player.rollout([1], seed=1)
        player.send(type="reset", seed=1)
        again = player.frame()
        assert (again.kind, again.number, again.step) == (FrameKind.START, 3, 0)
        assert np.array_equal(again.pixels_HWC, frames[0])
        assert np.array_equal(player.play(1).pixels_HWC, frames[1])


def test_held_key_plays_until_released(address: str) -> None:
    with Player(address) as player:
        player.rollout([], seed=0)
        player.send(type="keys", action=1, id=7)
        for _ in range(3):
            frame = player.frame()
            assert (frame.action, frame.key) == (1, 7)
        last = player.frame(acknowledge=False)
        player.send(type="keys", action=0, id=8)
        player.send(type="ack", frame=last.number)
        frame = player.frame(acknowledge=False)  # the latest state counts
        assert (frame.action, frame.key) == (0, 8)
        player.send(type="keys", action=None, id=9)
        player.send(type="ack", frame=frame.number)
        player.send(type="nonsense")
        player.error()  # with no frame before it: the world waits


def test_play_continues_with_an_idle_action(address: str) -> None:
    with Player(address) as player:
        player.send(type="settings", idle=1, fps=30)
        player.send(type="start")
        assert [player.frame().action for _ in range(3)] == [-1, 1, 1]


def test_in_pause_each_press_plays_one_frame(address: str) -> None:
    with Player(address) as player:
        player.send(type="settings", idle=1, paused=True, fps=30)
        player.send(type="start")
        player.frame()
        player.send(type="action", action=0)
        assert player.frame().action == 0
        player.send(type="nonsense")
        player.error()
        player.send(type="settings", paused=False)
        assert player.frame().action == 1


def test_no_frame_is_sent_before_the_last_is_acknowledged(address: str) -> None:
    with Player(address) as player:
        player.send(type="settings", idle=0, fps=30)
        player.send(type="start")
        first = player.frame(acknowledge=False)
        for _ in range(3):
            player.send(type="ack", frame=first.number + 1)  # not sent yet
            assert "frame" in player.error()
        player.send(type="ack", frame=first.number)
        assert player.frame().number == first.number + 1


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ("{", "JSON"),
        ('{"type": "keys", "action": 64}', "action"),
        ('{"type": "back", "step": 0}', "start"),
        ('{"type": "what_if"}', "start"),
        ('{"type": "reset"}', "start"),
        ('{"type": "ack", "frame": 1}', "frame"),
        ('{"type": "text", "text": "a cave"}', "--text"),
        (b"", "picture"),
        (b"<svg/>", "picture"),
    ],
)
def test_invalid_messages_are_answered_with_an_error_and_play_continues(
    address: str, message: str | bytes, word: str
) -> None:
    with Player(address) as player:
        player.socket.send(message)
        assert word in player.error()
        assert len(player.rollout([0], seed=0)) == 2


def test_a_message_with_one_bad_field_changes_nothing(address: str) -> None:
    with Player(address) as player:
        player.rollout([], seed=0)
        player.send("keys", action=1, id=2**32)
        assert "id" in player.error()
        player.send("settings", idle=1, fps=0)
        assert "fps" in player.error()
        player.send("nonsense")
        player.error()  # with no frame before it: no key is down, and the world waits


def test_players_without_a_slot_wait_in_a_queue(world: World) -> None:
    with running(create_app(world, limits=Limits(players=1, max_queue=2))) as address, ExitStack() as stack:
        first, second, third, fourth = (stack.enter_context(Player(address)) for _ in range(4))
        first.rollout([0])
        assert second.hear() == {"type": "queue", "place": 1}
        assert third.hear() == {"type": "queue", "place": 2}
        assert "queue is full" in fourth.error()
        with pytest.raises(ConnectionClosed):
            fourth.socket.recv(timeout=PATIENCE)
        assert fourth.socket.close_code == 1013
        second.socket.close()  # leaves the queue
        assert third.hear() == {"type": "queue", "place": 1}
        first.play(1)  # meanwhile the first plays on
        first.socket.close()
        assert third.hear()["type"] == "session"
        third.rollout([0, 1])


def test_model_errors_are_reported(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise JinnError("this world ends here: reset it")

    def break_down(*arguments: object) -> None:
        raise RuntimeError("a secret of the machine")

    with running(create_app(world)) as address, Player(address) as player:
        player.rollout([], seed=0)
        player.send("settings", look_ahead=False)  # otherwise a frame computed earlier would come
        with monkeypatch.context() as patch:
            patch.setattr(world, "step", refuse)
            player.send(type="keys", action=0)
            assert player.error() == "this world ends here: reset it"
        player.send(type="keys", action=None)
        player.rollout([0], seed=0)
        monkeypatch.setattr(world, "step", break_down)
        player.send(type="action", action=0)
        assert "secret" not in player.error()
        with pytest.raises(ConnectionClosed):
            player.socket.recv(timeout=PATIENCE)


# ---- Rewinding, branches, look-ahead -------------------------------------------------------------


def test_rewinding_and_taking_another_branch(address: str) -> None:
    keys = [0, 1, 1, 0, 2] * 5  # more than the frames between two states that are kept
    with Player(address) as player:
        frames = player.rollout(keys, seed=4)
        for step in (23, 9, 9, 0):
            seen = player.back(step)
            assert (seen.kind, seen.step) == (FrameKind.BACK, step)
            assert np.array_equal(seen.pixels_HWC, frames[step])
        other = [player.play(3).pixels_HWC, player.play(3).pixels_HWC]
        assert not np.array_equal(other[0], frames[1])
        player.send("back", step=3)
        assert "step" in player.error()  # that future was discarded
    with Player(address) as afresh:
        assert np.array_equal(afresh.rollout([3, 3], seed=4)[1:], other)


def test_history_is_bounded_and_complete(world: World) -> None:
    state, frame_BHWC = world.reset(world.prompts[:1][None])
    first = Frame(state, frame_BHWC[0].numpy().tobytes(), 0.0)
    history = History(world.prompts[:1][None], first, 12 * num_bytes(state))
    plain, warm = world.config.sampling, replace(world.config.sampling, temperature=0.9)
    for step in range(1, 1001):
        history.add(step % 5, warm if step > 500 else plain, first)
        assert len(history.cache) <= 12
    assert history.step == 1000
    assert max(step - history.cached_before(step) for step in range(1001)) <= 3 * 1000 / 12
    assert history.inputs[499:501] == [(0, plain), (1, warm)]
    history.go_back(700, first)
    assert history.step == 700
    assert max(history.cache) <= 700


def test_what_if_shows_every_action(address: str, world: World) -> None:
    with Player(address) as player:
        player.rollout([0, 1], seed=2)
        player.send("what_if", depth=3)
        seen = [player.frame() for _ in range(3 * world.num_actions)]
        assert {(one.kind, one.number) for one in seen} == {(FrameKind.WHAT_IF, 0)}
        assert {(one.action, one.step) for one in seen} == {
            (action, step) for action in range(world.num_actions) for step in (3, 4, 5)
        }
        for step in (3, 4, 5):  # and playing it gives the same frames
            [foreseen] = [one for one in seen if (one.action, one.step) == (4, step)]
            assert np.array_equal(player.play(4).pixels_HWC, foreseen.pixels_HWC)


@pytest.mark.slow
def test_look_ahead_gives_the_same_frames(address: str) -> None:
    keys = [0, 3, 3, 1, 2, 0, 4, 1]

    def thinking(player: Player) -> list[ReceivedFrame]:
        frames = [player.start(0, seed=8)]
        for action in keys:
            time.sleep(0.3)  # the server may use this time or not: the frames must be the same
            frames.append(player.play(action))
        return frames

    with Player(address) as player:
        with_it = thinking(player)
        player.send("settings", look_ahead=False)
        without = thinking(player)
    assert not any(frame.ready for frame in without)
    for one, other in zip(with_it, without, strict=True):
        assert np.array_equal(one.pixels_HWC, other.pixels_HWC)


def test_look_ahead_runs_while_no_frame_is_due(world: World) -> None:
    scheduler = Scheduler(world)
    try:
        state = (
            scheduler.submit(Job(start=lambda: world.reset(world.prompts[:1][None])))
            .frame.result(PATIENCE)
            .state
        )
        ahead = [scheduler.submit(Job(state, action, None, Priority.LOOK_AHEAD)) for action in range(5)]
        assert len({job.frame.result(PATIENCE).pixels for job in ahead}) > 1
        scheduler.set_due("somebody", time.monotonic())  # a frame is due: now nothing may run ahead
        late = scheduler.submit(Job(state, 0, None, Priority.LOOK_AHEAD))
        played = scheduler.submit(Job(state, 1))
        assert played.frame.result(PATIENCE).pixels == ahead[1].frame.result().pixels
        assert not late.frame.running()
        assert not late.frame.done()
        scheduler.raise_priority(late)  # unless it is now needed
        assert late.frame.result(PATIENCE).pixels == ahead[0].frame.result().pixels
    finally:
        scheduler.close()


def test_each_player_has_its_own_sampling_settings(address: str, world: World) -> None:
    sampling = replace(world.config.sampling, steps=3, temperature=1.5, doubt=0.8)
    state, _ = world.reset(world.prompts[:1][None], seed=1)
    _, expected_BHWC = world.step(state, torch.tensor([2]), sampling)
    with Player(address) as player, Player(address) as other:
        usual = other.rollout([2], seed=1)
        player.send("settings", steps=3, temperature=1.5, doubt=0.8)
        frames = player.rollout([2], seed=1)
        assert np.array_equal(frames[1], expected_BHWC[0].numpy())
        assert not np.array_equal(frames[1], usual[1])
        player.play(0)
        player.send("settings", steps=2)
        player.back(1)  # replayed with its own settings
        assert np.array_equal(player.back(1).pixels_HWC, frames[1])


def test_a_world_that_cannot_doubt_refuses_it() -> None:
    world = make_world()
    with running(create_app(world)) as address, Player(address) as player:
        assert httpx.get(f"{address}/api/world").json()["sampling"].keys() == {"steps", "temperature"}
        player.start(0)
        player.send("settings", doubt=0.5)
        assert "trained without doubt" in player.error()
        player.send("settings", doubt=0)
        player.play(1)
