"""Many players, and where the server listens."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from helpers_player import PATIENCE, Player, wait_for
from helpers_training import HAS_AMX
from jinn.contracts import JinnError
from jinn.models.maskgit import SamplingConfig
from jinn.player import server
from jinn.player.api import create_app
from jinn.player.protocol import FrameHeader, FrameKind, Limits
from jinn.player.server import listen, running
from jinn.world.state import State
from jinn.world.world import World

pytest_plugins = ["helpers_player"]


# ---- Many players ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_many_players_are_computed_as_one_batch(world: World) -> None:
    """A player's frames do not depend on other players, and all are computed in one batch."""
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
    # With AMX a larger batch rounds a few pixels by one grey level, and never a token.
    difference = np.abs(np.array(together, dtype=np.int16) - np.array(alone, dtype=np.int16))
    assert difference.max() <= HAS_AMX
    assert (difference > 0).mean() < 1e-3
    assert max(sizes) > 1


def test_a_slow_player_does_not_slow_others(address: str) -> None:
    with Player(address) as slow, Player(address) as quick:
        slow.send("settings", idle=0, fps=30)
        slow.send("start")
        slow.frame(acknowledge=False)  # never acknowledged
        quick.rollout([0] * 10)


@pytest.mark.slow
def test_a_flood_of_messages_does_not_affect_others(address: str) -> None:
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
        assert flood.socket.close_code == 1008  # finally the connection is closed
        other.rollout([0, 1])


def test_an_address_has_a_bounded_number_of_sockets(world: World) -> None:
    with running(create_app(world, limits=Limits(sockets_per_address=2))) as address:
        with Player(address) as one, Player(address) as two:
            one.rollout([0])
            with Player(address) as three:
                assert "close some" in three.error()
            two.rollout([0])
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:  # its slots are free again as soon as the server notices
            with Player(address) as again:
                again.send("start")
                if again.hear()["type"] == "session":
                    return
        raise AssertionError("no place came free")


@pytest.mark.slow
def test_a_thousand_sockets_affect_only_their_owner(world: World) -> None:
    # An idle client loses its slot after five seconds; the regular client needs a fraction of that.
    limits = Limits(players=8, max_queue=32, start_seconds_when_full=5.0)
    with running(create_app(world, limits=limits)) as address, ExitStack() as stack:
        where = urlsplit(address)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]  # server and clients have the same limit here
        for _ in range(min(1000, most // 3)):  # that never send anything
            stack.enter_context(socket.create_connection((where.hostname, where.port)))
        for _ in range(12):  # that take slots and remain idle
            stack.enter_context(connect(address.replace("http", "ws") + "/ws"))
        polite = stack.enter_context(Player(address))
        while (told := polite.hear())["type"] == "queue":
            pass  # the idle ones are disconnected one after another
        assert told["type"] == "session"
        polite.rollout([0, 1])


def test_idle_players_lose_their_slot_and_may_go_on(world: World) -> None:
    app = create_app(world)
    with running(app) as address:
        with Player(address) as player:
            frames = player.rollout([0, 1])
            [name] = [told["session"] for told in player.messages]
            [session] = app.state.lazy.shared.admission.playing
            session.last_input -= Limits().idle_seconds
            assert "not played for a while" in player.error()
            with pytest.raises(ConnectionClosed):
                player.receive()
            assert player.socket.close_code == 4000  # with this code the page does not reconnect by itself
        wait_for(lambda: name in app.state.lazy.shared.parking.sessions)
        with Player(address) as again:
            again.send("resume", session=name)
            assert np.array_equal(again.frame().pixels_HWC, frames[-1])


def test_a_ping_is_answered_in_the_queue_too_and_is_no_input(world: World) -> None:
    limits = Limits(players=1, idle_seconds_when_full=0.5)
    with running(create_app(world, limits=limits)) as address, ExitStack() as stack:
        first, second = (stack.enter_context(Player(address)) for _ in range(2))
        assert [first.hear()["type"], second.hear()["type"]] == ["session", "queue"]
        for player in (first, second):
            player.send("ping")
            assert player.hear() == {"type": "pong"}
        first.rollout([1])
        first.send("ping")
        while (told := first.hear())["type"] == "pong":
            first.send("ping")
        assert "not played for a while" in told["message"]


def test_a_lost_connection_is_resumed(address: str) -> None:
    keys = [0, 1, 2, 3]
    with Player(address) as undisturbed:
        expected = undisturbed.rollout([*keys, 1], seed=6)
    with Player(address) as lost:
        lost.rollout(keys, seed=6)
        [name] = [told["session"] for told in lost.messages]
        lost.socket.socket.close()  # without a close message
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


# ---- Listening ------------------------------------------------------------------------------------


def test_the_default_port_may_change_and_a_chosen_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("JINN_PORT", str(port))
        with listen("127.0.0.1", None) as other:
            assert other.getsockname()[1] not in (0, port)
        with pytest.raises(JinnError, match=f"port {port}.*choose another"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize("value", ["x", "-1", "70000", "\uff18\uff10"])
def test_the_default_port_must_be_valid(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("JINN_PORT", value)
    with pytest.raises(JinnError, match="JINN_PORT"):
        listen("127.0.0.1", None)


@pytest.mark.parametrize(("host", "port"), [("no such host", 0), ("127.0.0.1", 70000), ("127.0.0.1", -1)])
def test_bad_addresses_are_reported(host: str, port: int) -> None:
    with pytest.raises(JinnError):
        listen(host, port)


def test_half_a_request_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.1)
    with running(create_app(world)) as address, Player(address) as player:
        where = urlsplit(address)
        for before in (b"", b"GET /api/worlds HTTP/1.1\r\nHost: localhost\r\n\r\n"):
            with socket.create_connection((where.hostname, where.port), timeout=PATIENCE) as half:
                half.sendall(before + b"GET / HTTP/1.1\r\nHost: local")
                answer = b""
                while part := half.recv(4096):  # until it is closed
                    answer += part
                assert (b"worlds" in answer) == bool(before)
        player.rollout([0])  # a WebSocket is not a request any more


def serving(world: World, folder: Path, **options: object) -> tuple[subprocess.Popen[str], str]:
    """A server in its own process, and the address that it prints."""
    world.save(folder)
    program = "import sys; from jinn.player.server import serve; from jinn import World; "
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
def test_the_server_stops_cleanly(world: World, tmp_path: Path, how: signal.Signals) -> None:
    process, address = serving(world, tmp_path)
    with Player(address) as player:  # a player is connected while it stops
        player.rollout([0], seed=0)
        player.send("settings", idle=0, fps=30)
        process.send_signal(how)
        with pytest.raises(ConnectionClosed):
            list(player.frames())
        assert player.socket.close_code == 1012  # the server restarts: reconnect
        rest, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, rest, errors) == (0, "", "")
