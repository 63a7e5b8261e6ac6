"""The player's server: addresses, the protocol of its WebSocket, pictures from strangers."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from helpers_player import PATIENCE, Player, decode, encode, noise
from jinn.contracts import JinnError
from jinn.models.maskgit import SamplingConfig
from jinn.player import create_app, read_picture, running
from jinn.player.client import ReceivedFrame
from jinn.player.history import History, num_bytes
from jinn.player.pictures import palette, read_pictures
from jinn.player.protocol import FrameHeader, FrameKind, Limits
from jinn.player.scheduler import Frame, Priority, Scheduler
from jinn.player.server import listen
from jinn.world.state import State
from jinn.world.world import World
from tiny_world import tiny_world


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    with running(create_app(world)) as address:
        yield address


# ---- Addresses --------------------------------------------------------------------------------------


def test_page_loads_nothing_from_elsewhere(address: str) -> None:
    page = httpx.get(address)
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("play.js", "keys.js", "screen.js", "style.css"):
        answer = httpx.get(f"{address}/static/{name}")
        assert answer.status_code == 200
        assert not re.search(r"https?://|@import|url\(", answer.text)


def test_describes_the_world(address: str, world: World) -> None:
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
    names = "name id actions legend idle height width fps fps_range sampling steps_range temperature_range"
    names += " window prompts palette max_upload_bytes max_clip_frames max_what_if_frames max_film_frames"
    assert set(told) == {*names.split(), "max_text", "text", "text_why_not"}


def test_prompts_are_lossless(address: str, world: World) -> None:
    answer = httpx.get(f"{address}/api/prompts/0.png")
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(decode(answer.content), world.prompts[0].numpy())


@pytest.mark.parametrize(
    "path", ["/api/prompts/999.png", "/api/prompts/-1.png", "/nothing", "/static/nothing.js"]
)
def test_absent_is_404(address: str, path: str) -> None:
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
def test_serves_its_own_files_only(address: str, path: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(address).netloc)  # sends the path as it is
    connection.request("GET", path)
    assert connection.getresponse().status == 404
    connection.close()


# ---- Playing ----------------------------------------------------------------------------------------


def test_frames_are_the_worlds(address: str, world: World) -> None:
    actions = [0, 1, 1, 0]
    state, frame_BHWC = world.reset(world.prompts[:1][None], seed=3)
    expected = [frame_BHWC[0].numpy()]
    for action in actions:
        state, frame_BHWC = world.step(state, torch.tensor([action]))
        expected.append(frame_BHWC[0].numpy())
    with Player(address) as player:
        assert np.array_equal(player.rollout(actions, seed=3), expected)


def test_players_do_not_disturb_each_other(address: str) -> None:
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


def test_reset_begins_again(address: str) -> None:
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
        frame = player.frame(acknowledge=False)  # the latest state wins
        assert (frame.action, frame.key) == (0, 8)
        player.send(type="keys", action=None, id=9)
        player.send(type="ack", frame=frame.number)
        player.send(type="nonsense")
        player.error()  # and no frame before it: the world waits


def test_runs_on_its_own_with_an_idle_action(address: str) -> None:
    with Player(address) as player:
        player.send(type="settings", idle=1, fps=30)
        player.send(type="start")
        assert [player.frame().action for _ in range(3)] == [-1, 1, 1]


def test_pause_plays_single_presses(address: str) -> None:
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


def test_no_frame_before_the_last_was_seen(address: str) -> None:
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
def test_garbage_gets_a_sentence_and_play_goes_on(address: str, message: str | bytes, word: str) -> None:
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
        player.error()  # and no frame before it: no key is down, and the world waits


def test_other_pages_may_not_play(address: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        Player(address, origin="http://elsewhere.example")
    assert refused.value.response.status_code == 403
    with Player(address, origin=address) as player:
        player.rollout([], seed=0)


def test_who_finds_no_place_waits_in_a_queue(world: World) -> None:
    with running(create_app(world, limits=Limits(players=1, max_queue=2))) as address, ExitStack() as stack:
        first, second, third, fourth = (stack.enter_context(Player(address)) for _ in range(4))
        first.rollout([0])
        assert second.hear() == {"type": "queue", "place": 1}
        assert third.hear() == {"type": "queue", "place": 2}
        assert "queue is full" in fourth.error()
        with pytest.raises(ConnectionClosed):
            fourth.socket.recv(timeout=PATIENCE)
        assert fourth.socket.close_code == 1013
        second.socket.close()  # gives up
        assert third.hear() == {"type": "queue", "place": 1}
        first.play(1)  # and all the while the first plays on
        first.socket.close()
        assert third.hear()["type"] == "session"
        third.rollout([0, 1])


def test_model_errors_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise JinnError("this world ends here: reset it")

    def break_down(*arguments: object) -> None:
        raise RuntimeError("a secret of the machine")

    with running(create_app(world)) as address, Player(address) as player:
        player.rollout([], seed=0)
        player.send("settings", look_ahead=False)  # or what it computed before would come
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


# ---- Back in time, other ways, ahead of time -----------------------------------------------------------


def test_going_back_and_taking_another_way(address: str) -> None:
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
        assert "step" in player.error()  # that future was given up
    with Player(address) as afresh:
        assert np.array_equal(afresh.rollout([3, 3], seed=4)[1:], other)


def test_history_is_bounded_and_complete(world: World) -> None:
    state, frame_BHWC = world.reset(world.prompts[:1][None])
    first = Frame(state, frame_BHWC[0].numpy().tobytes(), 0.0)
    history = History(world.prompts[:1][None], first, 12 * num_bytes(state))
    warm = replace(world.config.sampling, temperature=0.9)
    for step in range(1, 1001):
        history.add(step % 5, warm if step > 500 else None, first)
        assert len(history.cache) <= 12
    assert history.step == 1000
    assert max(step - history.cached_before(step) for step in range(1001)) <= 3 * 1000 / 12
    assert (history.input_of(500), history.input_of(501)) == ((0, None), (1, warm))
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
        for step in (3, 4, 5):  # and it comes true
            [foreseen] = [one for one in seen if (one.action, one.step) == (4, step)]
            assert np.array_equal(player.play(4).pixels_HWC, foreseen.pixels_HWC)


@pytest.mark.slow
def test_look_ahead_gives_the_same_frames(address: str) -> None:
    keys = [0, 3, 3, 1, 2, 0, 4, 1]

    def thinking(player: Player) -> list[ReceivedFrame]:
        frames = [player.start(0, seed=8)]
        for action in keys:
            time.sleep(0.3)  # the server may use it or not: the frames must not tell
            frames.append(player.play(action))
        return frames

    with Player(address) as player:
        with_it = thinking(player)
        player.send("settings", look_ahead=False)
        without = thinking(player)
    assert not any(frame.ready for frame in without)
    for one, other in zip(with_it, without, strict=True):
        assert np.array_equal(one.pixels_HWC, other.pixels_HWC)


def test_looks_ahead_while_nothing_is_due(world: World) -> None:
    scheduler = Scheduler(world)
    try:
        state = scheduler.start(lambda: world.reset(world.prompts[:1][None])).frame.result(PATIENCE).state
        ahead = [scheduler.step(state, action, None, Priority.LOOK_AHEAD) for action in range(5)]
        assert len({job.frame.result(PATIENCE).pixels for job in ahead}) > 1
        scheduler.set_due("somebody", time.monotonic())  # a frame is due: now nothing may run ahead
        late = scheduler.step(state, 0, None, Priority.LOOK_AHEAD)
        played = scheduler.step(state, 1, None)
        assert played.frame.result(PATIENCE).pixels == ahead[1].frame.result().pixels
        assert not late.frame.running()
        assert not late.frame.done()
        scheduler.raise_priority(late)  # unless it is wanted after all
        assert late.frame.result(PATIENCE).pixels == ahead[0].frame.result().pixels
    finally:
        scheduler.close()


def test_sampling_is_each_players_own(address: str, world: World) -> None:
    sampling = replace(world.config.sampling, steps=3, temperature=1.5)
    state, _ = world.reset(world.prompts[:1][None], seed=1)
    _, expected_BHWC = world.step(state, torch.tensor([2]), sampling)
    with Player(address) as player, Player(address) as other:
        usual = other.rollout([2], seed=1)
        player.send("settings", steps=3, temperature=1.5)
        frames = player.rollout([2], seed=1)
        assert np.array_equal(frames[1], expected_BHWC[0].numpy())
        assert not np.array_equal(frames[1], usual[1])
        player.play(0)
        player.send("settings", steps=2)
        player.back(1)  # is played again as it was
        assert np.array_equal(player.back(1).pixels_HWC, frames[1])


# ---- Many players ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_players_are_one_batch(world: World) -> None:
    """A player's frames do not depend on who else plays, and a batch is what computes them."""
    players = 12
    sizes: list[int] = []
    step = world.step

    def counting(state: State, actions_B: torch.Tensor, sampling: SamplingConfig | None) -> Any:
        sizes.append(len(actions_B))
        return step(state, actions_B, sampling)

    def keys(i: int) -> list[int]:
        return [(i + t) % 5 for t in range(6)]

    with running(create_app(world)) as address, ExitStack() as stack:
        alone = []
        for i in range(players):
            with Player(address) as player:
                alone.append(player.rollout(keys(i), seed=i))
        world.step = counting  # type: ignore[method-assign]
        try:
            everybody = [stack.enter_context(Player(address)) for _ in range(players)]
            together = list(
                ThreadPoolExecutor(players).map(
                    lambda i: everybody[i].rollout(keys(i), seed=i), range(players)
                )
            )
        finally:
            del world.step
    assert np.array_equal(together, alone)
    assert max(sizes) > 1


def test_a_slow_player_slows_nobody(address: str) -> None:
    with Player(address) as slow, Player(address) as quick:
        slow.send("settings", idle=0, fps=30)
        slow.send("start")
        slow.frame(acknowledge=False)  # and never says that he saw it
        quick.rollout([0] * 10)


@pytest.mark.slow
def test_a_flood_of_keys_harms_nobody_else(address: str) -> None:
    with Player(address) as flood, Player(address) as other:
        flood.rollout([])

        def shout() -> None:
            with suppress(ConnectionClosed):
                while True:
                    flood.send("keys", action=1)

        def listen() -> None:
            with suppress(ConnectionClosed, JinnError):
                while True:
                    flood.receive(acknowledge=False)

        threads = [threading.Thread(target=target) for target in (shout, listen)]
        for thread in threads:
            thread.start()
        other.rollout([0, 1, 2, 3])
        for thread in threads:
            thread.join(PATIENCE)
        assert flood.socket.close_code == 1008  # in the end he is not heard at all
        other.rollout([0, 1])


def test_an_address_has_a_bounded_number_of_sockets(world: World) -> None:
    with running(create_app(world, limits=Limits(sockets_per_address=2))) as address:
        with Player(address) as one, Player(address) as two:
            one.rollout([0])
            with Player(address) as three:
                assert "close some" in three.error()
            two.rollout([0])
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:  # its places are free again when the server notices, soon
            with Player(address) as again:
                again.send("start")
                if again.hear()["type"] == "session":
                    return
        raise AssertionError("no place came free")


@pytest.mark.slow
def test_a_thousand_sockets_harm_only_their_owner(world: World) -> None:
    # Whoever takes a place and does nothing loses it after five seconds; the polite one needs a fraction of that.
    limits = Limits(players=8, max_queue=32, start_seconds_when_full=5.0)
    with running(create_app(world, limits=limits)) as address, ExitStack() as stack:
        where = urlsplit(address)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # of which server and clients share one here
        for _ in range(min(1000, most // 3)):  # that never say a word
            stack.enter_context(socket.create_connection((where.hostname, where.port)))
        for _ in range(12):  # that take places and do nothing with them
            stack.enter_context(connect(address.replace("http", "ws") + "/ws"))
        polite = stack.enter_context(Player(address))
        while (told := polite.hear())["type"] == "queue":
            pass  # those before are sent away one after the other
        assert told["type"] == "session"
        polite.rollout([0, 1])


def test_who_has_left_the_page_alone_gives_his_place_back(world: World) -> None:
    with (
        running(create_app(world, limits=Limits(players=1, idle_seconds=0.0))) as address,
        Player(address) as player,
    ):
        with pytest.raises(JinnError, match="not played for a while"):
            list(player.frames())
        with pytest.raises(ConnectionClosed):
            player.receive()
        assert player.socket.close_code == 4000  # a page that sees it does not come back by itself


def test_a_lost_connection_is_found_again(address: str) -> None:
    keys = [0, 1, 2, 3]
    with Player(address) as undisturbed:
        expected = undisturbed.rollout([*keys, 1], seed=6)
    with Player(address) as lost:
        lost.rollout(keys, seed=6)
        [name] = [told["session"] for told in lost.messages]
        lost.socket.socket.close()  # without a word
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with Player(address) as found:
            found.send("settings", idle=None, fps=30)
            found.send("resume", session=name)
            assert found.hear()["type"] == "session"
            data = found.socket.recv(timeout=PATIENCE)
            if isinstance(data, str):
                assert json.loads(data) == {"type": "gone"}  # the server has not noticed yet
                continue
            assert FrameHeader.unpack(data).kind is FrameKind.BACK
            found.send("ack", frame=1)
            assert np.array_equal(found.play(1).pixels_HWC, expected[-1])
            break
    else:
        raise AssertionError("it was not kept")
    with Player(address) as stranger:
        stranger.send("resume", session=name)  # it is not parked any more
        assert stranger.hear()["type"] == "session"
        assert stranger.hear() == {"type": "gone"}


# ---- The door ---------------------------------------------------------------------------------------------


def test_a_token_is_asked_for(world: World) -> None:
    with running(create_app(world, token="open sesame")) as address:
        for url in ("/", "/api/world", "/static/play.js", "/api/world?token=open"):
            answer = httpx.get(address + url)
            assert answer.status_code == 403
            assert "token" in answer.text
        with pytest.raises(InvalidStatus) as refused:
            connect(address.replace("http", "ws") + "/ws")
        assert refused.value.response.status_code == 403
        with httpx.Client() as browser:
            assert browser.get(f"{address}/?token=open sesame").status_code == 200
            assert browser.get(f"{address}/static/play.js").status_code == 200  # by its cookie
        bearer = {"Authorization": "Bearer open sesame"}
        assert httpx.get(f"{address}/api/world", headers=bearer).status_code == 200
        with Player(address, token="open sesame") as player:
            player.rollout([0])


def test_other_names_of_this_machine_need_a_token(address: str, world: World) -> None:
    """Or a page elsewhere, whose name is made to point here, would pass for ours."""
    answer = httpx.get(address, headers={"Host": "elsewhere.example"})
    assert answer.status_code == 403
    assert "--token" in answer.text
    port = urlsplit(address).port
    assert httpx.get(address, headers={"Host": f"localhost:{port}"}).status_code == 200
    with running(create_app(world, token="x")) as guarded:
        answer = httpx.get(f"{guarded}/?token=x", headers={"Host": "elsewhere.example"})
        assert answer.status_code == 200


# ---- Films ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_films_show_what_was_played(address: str, world: World, kind: str) -> None:
    height, width = world.size_hw
    colours = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [240, 240, 240]], np.uint8)
    frames_THWC = np.broadcast_to(colours[:, None, None], (4, height, width, 3))
    answer = httpx.post(f"{address}/api/film.{kind}?fps=8", content=frames_THWC.tobytes(), timeout=PATIENCE)
    assert answer.status_code == 200
    with av.open(io.BytesIO(answer.content)) as container:
        seen = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(seen) == 4
        assert abs(float(container.streams.video[0].average_rate or 0) - 8) < 0.4
    for frame_HWC, colour in zip(seen, colours, strict=True):
        assert frame_HWC.shape[0] >= 256
        assert np.abs(frame_HWC.mean((0, 1)) - colour).max() < 12


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("film.mp4?fps=8", b"", 400),
        ("film.mp4?fps=8", b"123", 400),
        ("film.mp4?fps=x", b"\0" * 3072, 400),
        ("film.gif?fps=0", b"\0" * 3072, 400),
        ("film.avi?fps=8", b"\0" * 3072, 400),
        ("film.gif?fps=8", b"\0" * (49 * 2**20), 400),
    ],
)
def test_bad_films_are_told(address: str, path: str, body: bytes, status: int) -> None:
    answer = httpx.post(f"{address}/api/{path}", content=body, timeout=PATIENCE)
    assert answer.status_code == status
    assert answer.json()["error"]


# ---- Pictures ---------------------------------------------------------------------------------------


def test_upload_becomes_the_beginning(address: str, world: World) -> None:
    height, width = world.size_hw
    picture = noise(height, width)
    _, expected_BHWC = world.reset(torch.from_numpy(picture)[None, None], seed=0)
    with Player(address) as player:
        player.send(type="settings", idle=None)
        player.socket.send(
            encode(Image.fromarray(picture).resize((4 * width, 4 * height), Image.Resampling.NEAREST))
        )
        frame = player.frame()
        assert (frame.kind, frame.number) == (FrameKind.PROMPT, 0)
        assert np.array_equal(frame.pixels_HWC, picture)
        frame = player.frame()
        assert frame.kind is FrameKind.START
        assert np.array_equal(frame.pixels_HWC, expected_BHWC[0].numpy())
        for bad in (b"0" * (4 * 2**20 + 1), encode(noise(300, 300), "JPEG")[:9000]):
            player.socket.send(bad)
            assert "picture" in player.error()
        player.send(type="action", action=0)  # what was played before the bad picture goes on
        assert player.frame().number == 2


def test_a_clip_becomes_the_beginning(address: str, world: World) -> None:
    height, width = world.size_hw
    frames_THWC = np.stack([np.roll(noise(height, width), 4 * t, axis=1) for t in range(3)])
    _, expected_BHWC = world.reset(torch.from_numpy(frames_THWC)[None], seed=[5])
    with Player(address) as player:
        begin = player.start(seed=5, pictures=[encode(frame_HWC) for frame_HWC in frames_THWC])
        assert np.array_equal(begin.pixels_HWC, expected_BHWC[0].numpy())
        frames = [player.play(k).pixels_HWC for k in (1, 2)]
        animation = encode(
            Image.fromarray(frames_THWC[0]),
            "WEBP",
            save_all=True,
            append_images=[Image.fromarray(x) for x in frames_THWC[1:]],
            duration=100,  # the world's own pace
            lossless=True,
        )
        begin = player.start(seed=5, pictures=[animation])
        player.send("clip", frames=2)
        player.socket.send(encode(frames_THWC[0]))
        player.socket.send(b"no picture")
        assert "picture" in player.error()  # and the clip is given up
        assert player.play(1).step == 1
        player.send("reset", seed=5)
        assert player.frame().kind is FrameKind.START
        again = player.start(seed=5, pictures=[encode(frame_HWC) for frame_HWC in frames_THWC])
        assert np.array_equal(again.pixels_HWC, expected_BHWC[0].numpy())
        assert np.array_equal([player.play(k).pixels_HWC for k in (1, 2)], frames)


def test_an_animation_is_seen_at_the_worlds_pace() -> None:
    shades = [0, 50, 100, 150, 200, 250]
    pictures = [Image.new("L", (8, 8), shade) for shade in shades]
    file = encode(pictures[0], "GIF", save_all=True, append_images=pictures[1:], duration=50)
    assert [int(x.mean()) for x in read_pictures(file, (4, 4), 32, 20.0)] == shades
    assert [int(x.mean()) for x in read_pictures(file, (4, 4), 2, 20.0)] == shades[-2:]
    half = [int(x.mean()) for x in read_pictures(file, (4, 4), 32, 10.0)]
    assert len(half) in (3, 4)
    assert half == sorted(half)
    assert len(read_pictures(file, (4, 4), 32, 30.0)) >= 8
    assert read_picture(file, (4, 4)).mean() == 0


def test_an_endless_animation_is_refused() -> None:
    pictures = [Image.new("1", (1, 1), i % 2) for i in range(1100)]
    file = encode(pictures[0], "GIF", save_all=True, append_images=pictures[1:], duration=20)
    with pytest.raises(JinnError, match="1100 frames"):
        read_pictures(file, (4, 4), 32, 10.0)
    assert read_picture(file, (4, 4)).shape == (4, 4, 3)
    large = [Image.new("1", (1000, 1000), i % 2) for i in range(40)]
    file = encode(large[0], "GIF", save_all=True, append_images=large[1:], duration=20)
    with pytest.raises(JinnError, match="40 frames"):
        read_pictures(file, (4, 4), 32, 10.0)


def test_palette_has_the_small_and_the_large() -> None:
    frame_HWC = np.zeros((64, 64, 3), np.uint8)
    frame_HWC[:32] = (40, 90, 200)
    frame_HWC[40:44, 40:44] = (250, 220, 10)  # a coin
    assert palette(frame_HWC[None]) == ["#000000", "#285ac8", "#fadc0a"]


def test_prompt_of_the_caller_comes_first(world: World) -> None:
    height, width = world.size_hw
    picture = noise(height, width)
    enlarged = picture.repeat(3, axis=0).repeat(3, axis=1)
    with running(create_app(world, enlarged)) as address:
        assert httpx.get(f"{address}/api/world").json()["prompts"] == len(world.prompts) + 1
        assert np.array_equal(decode(httpx.get(f"{address}/api/prompts/0.png").content), picture)
    with pytest.raises(JinnError, match="uint8"):
        create_app(world, picture / 255)


def test_picture_is_fitted() -> None:
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = (10, 20, 30)
    assert (read_picture(encode(wide), (20, 20)) == (10, 20, 30)).all()  # the middle
    rotation = Image.Exif()
    rotation[0x0112] = 6  # the camera was turned: the left of the file is the top of the picture
    file = np.zeros((40, 80, 3), np.uint8)
    file[:, :40] = 255
    upright = read_picture(encode(file, "JPEG", exif=rotation, quality=95), (80, 40))
    assert upright[:30].min() > 240
    assert upright[50:].max() < 15


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "I;16"])
def test_picture_of_any_mode(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 65535, np.uint16))
    elif mode == "PA":  # a palette with a transparent entry
        image = Image.new("P", (8, 8), 0)
        image.info["transparency"] = 0
    else:
        image = Image.new("RGB", (8, 8), "white").convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert read_picture(encode(image, kind), (4, 4)).min() > 250


def test_transparency_lies_over_white() -> None:
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (0, 0, 8, 4))
    frame = read_picture(encode(half), (8, 8))
    assert (frame[0, 0] == (0, 0, 255)).all()
    assert (frame[7, 7] == (255, 255, 255)).all()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [6000, 9500, 60000])
def test_pixel_bomb_is_not_decoded(side: int) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6)))
    with pytest.raises(JinnError, match="million pixels"):
        read_picture(bomb, (64, 64))


# ---- Listening --------------------------------------------------------------------------------------


def test_usual_port_gives_way_and_a_chosen_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("JINN_PORT", str(port))
        with listen("127.0.0.1", None) as other:
            assert other.getsockname()[1] not in (0, port)
        with pytest.raises(JinnError, match=f"port {port}.*choose another"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("value", ["x", "-1", "70000", "\uff18\uff10"])
def test_usual_port_must_be_a_port(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("JINN_PORT", value)
    with pytest.raises(JinnError, match="JINN_PORT"):
        listen("127.0.0.1", None)


@pytest.mark.parametrize(("host", "port"), [("no such host", 0), ("127.0.0.1", 70000), ("127.0.0.1", -1)])
def test_bad_addresses_are_told(host: str, port: int) -> None:
    with pytest.raises(JinnError):
        listen(host, port)


def serving(world: World, folder: Path, **options: object) -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, and the address that it prints."""
    world.save(folder)
    program = "import sys; from jinn.player import serve; from jinn import World; "
    program += f"serve(World.load(sys.argv[1]), open_browser=False, **{options!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JINN_PORT": "0"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("jinn is playing "), process.communicate()
    return process, line.split(" at ")[1].split()[0]


@pytest.mark.slow
def test_other_machines_need_the_token_that_is_printed(world: World, tmp_path: Path) -> None:
    process, printed = serving(world, tmp_path, host="0.0.0.0")
    try:
        address, token = printed.split("/?token=")
        assert len(token) >= 16
        assert httpx.get(address).status_code == 403
        assert httpx.get(printed).status_code == 200
        with Player(address, token=token) as player:
            player.rollout([0])
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_stops_cleanly(world: World, tmp_path: Path, how: signal.Signals) -> None:
    process, address = serving(world, tmp_path)
    with Player(address) as player:  # somebody plays on while it stops
        player.rollout([0], seed=0)
        player.send("settings", idle=0, fps=30)
        process.send_signal(how)
        with pytest.raises(ConnectionClosed):
            list(player.frames())
        assert player.socket.close_code == 1012  # the server restarts: come again
        rest, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, rest, errors) == (0, "", "")
