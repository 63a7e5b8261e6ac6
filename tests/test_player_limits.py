"""The limits of the server are those of the docs, and what happens beyond those that no other test passes."""

from __future__ import annotations

import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from helpers_player import PATIENCE, Player, wait_for
from jinn.player.api import create_app
from jinn.player.protocol import Limits
from jinn.player.server import MAX_MESSAGE_BYTES, SOCKETS_PER_ADDRESS, running
from jinn.world.world import World

pytest_plugins = ["helpers_player"]
UNITS = {"MB": 2**20, "GB": 2**30}


def test_the_docs_have_every_limit() -> None:
    page = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| ([-\d.,]+)(?: to ([-\d.,]+))? ?(\w*)", page.partition("## Limits")[2], re.M
    )
    table: dict[str, object] = {}
    for name, first, last, unit in rows:
        low, high = (
            float(text.replace(",", "")) * UNITS.get(unit, 1) if text else None for text in (first, last)
        )
        table[name] = low if high is None else (low, high)
    limits = asdict(replace(Limits(), sockets_per_address=SOCKETS_PER_ADDRESS))
    assert table == {name: limits[name] for name in limits if name not in ("actions", "prompts")}
    assert f"{MAX_MESSAGE_BYTES // 2**20} MB the socket is closed" in page


def test_a_message_that_no_client_needs_closes_the_socket(address: str) -> None:
    with Player(address) as player:
        length = (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big")
        player.socket.socket.sendall(b"\x82\xff" + length + bytes(4))  # the head of a binary message
        assert player.hear()["type"] == "session"
        with pytest.raises(ConnectionClosed):
            player.hear()
        assert player.socket.close_code == 1009


def test_a_text_that_is_not_utf8_closes_the_socket_and_fills_no_log(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Player(address) as player:
        assert player.hear()["type"] == "session"
        player.socket.send(b'{"type": "ping\xff"}', text=True)
        with pytest.raises(ConnectionClosed):
            player.hear()
        assert player.socket.close_code == 1007
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def post_without_end(address: str, path: str) -> socket.socket:
    """A request whose body never comes."""
    where = urlsplit(address)
    client = socket.create_connection((where.hostname, where.port), timeout=PATIENCE)
    client.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n".encode())
    return client


def test_frames_of_a_film_must_arrive_soon(world: World) -> None:
    app = create_app(world, limits=Limits(film_upload_seconds=0.0))
    with running(app) as address, post_without_end(address, "/api/film.gif") as client:
        assert client.recv(99).startswith(b"HTTP/1.1 408")


def test_a_network_address_makes_one_film_at_a_time(world: World) -> None:
    app = create_app(world)
    with running(app) as address, post_without_end(address, "/api/film.gif"):
        wait_for(lambda: app.state.lazy.shared and app.state.lazy.shared.filming)
        with post_without_end(address, "/api/film.mp4") as second:
            assert second.recv(99).startswith(b"HTTP/1.1 429")


def post_film(address: str) -> int:
    return httpx.post(f"{address}/api/film.gif", content=bytes(32 * 32 * 3), timeout=PATIENCE).status_code


def test_films_wait_for_those_that_are_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of three players behind a proxy that names their addresses."""
    may_end, begun = threading.Event(), []

    def encode(*_: object) -> bytes:
        begun.append(1)
        assert may_end.wait(PATIENCE)
        return b"GIF"

    monkeypatch.setattr("jinn.player.api.encode_film", encode)
    app = create_app(world, limits=Limits(max_films=2))
    with running(app) as address, ThreadPoolExecutor(3) as pool:
        httpx.get(f"{address}/api/world")  # which loads the world
        app.state.lazy.shared.filming = Forgetful()
        films = [pool.submit(post_film, address) for _ in range(3)]
        slots = app.state.lazy.shared.film_slots
        wait_for(lambda: len(begun) == 2 and slots._waiters)
        may_end.set()
        assert [film.result() for film in films] == [200] * 3
    assert len(begun) == 3


class Forgetful(set[str]):
    """All come from this machine, and are taken for different ones."""

    def add(self, _: str) -> None:
        pass


def test_a_session_that_waits_to_be_resumed_keeps_few_states(world: World) -> None:
    """It goes back to the same frames all the same."""
    app = create_app(world, limits=Limits(parked_states=3))
    with running(app) as address:
        with Player(address) as lost:
            frames = lost.rollout([step % 5 for step in range(60)])
            shared = app.state.lazy.shared
            [name] = [told["session"] for told in lost.messages]
            [session] = shared.admission.playing
            assert len(session.control.history.cache) > 3
        wait_for(lambda: shared.parking.sessions)
        assert len(shared.parking.sessions[name].history.cache) == 3
        with Player(address) as found:
            found.send("resume", session=name)
            assert np.array_equal(found.frame().pixels_HWC, frames[-1])
            found.send("back", step=21)
            assert np.array_equal(found.frame().pixels_HWC, frames[21])


def test_one_can_go_back_for_so_many_frames(world: World) -> None:
    with running(create_app(world, limits=Limits(max_back=20))) as address, Player(address) as player:
        frames = player.rollout([step % 5 for step in range(60)])
        player.send("back", step=30)
        assert player.error() == "step must be a whole number from 40 to 60"
        player.send("back", step=41)
        assert np.array_equal(player.frame().pixels_HWC, frames[41])


def test_a_session_can_be_resumed_only_for_a_while(world: World) -> None:
    app = create_app(world, limits=Limits(parked_seconds=0.0))
    with running(app) as address:
        with Player(address) as lost:
            lost.rollout([0])
            [name] = [told["session"] for told in lost.messages]
        with Player(address) as found:
            wait_for(lambda: len(app.state.lazy.shared.admission.playing) == 1)  # it has noticed
            found.send("resume", session=name)
            assert found.hear()["type"] == "session"
            assert found.hear() == {"type": "gone"}
