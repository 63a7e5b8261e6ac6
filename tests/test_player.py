"""The player's server: addresses, the protocol of its WebSocket, pictures from strangers."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from jinn.contracts import JinnError
from jinn.player import create_app, read_picture, running
from jinn.player.server import listen
from jinn.player.sessions import HEADER, PROMPT_FRAME
from jinn.recipes import tiny
from jinn.world.legend import ActionMeaning
from jinn.world.rollout import World, WorldConfig

PATIENCE = 30  # seconds after which a missing answer is a failure and not a slow machine


def tiny_world() -> World:
    """A world of 32 x 32 pixels that has learned nothing: its dreams are noise, but its own."""
    recipe = tiny()
    torch.manual_seed(0)
    prompts_PHWC = torch.randint(0, 256, (3, *recipe.tokenizer.size_hw, 3), dtype=torch.uint8)
    models = recipe.tokenizer, recipe.latent_actions, recipe.dynamics, recipe.sampling
    world = World(WorldConfig("tiny", 10.0, *models), prompts_PHWC).eval()
    world.legend = tuple(
        ActionMeaning(*meaning)
        for meaning in (
            ("left", 0.0, -4.0, 0.3),
            ("right", 0.0, 2.0, 0.3),
            ("up", -2.0, 0.1, 0.2),
            ("down-right", 1.5, 1.5, 0.2),
            ("unused", 0.0, 0.0, 0.0),
        )
    )
    return world


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world()


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    with running(create_app(world)) as address:
        yield address


@dataclass(frozen=True)
class Frame:
    number: int
    key: int
    action: int
    pixels: np.ndarray


class Player:
    """A browser reduced to its WebSocket."""

    socket: ClientConnection

    def __init__(self, address: str, origin: Any = None) -> None:
        self.connecting = connect(address.replace("http", "ws") + "/ws", origin=origin)

    def __enter__(self) -> Player:
        self.socket = self.connecting.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()

    def send(self, **message: object) -> None:
        self.socket.send(json.dumps(message))

    def frame(self, ack: bool = True) -> Frame:
        data = self.socket.recv(timeout=PATIENCE)
        assert isinstance(data, bytes), data
        number, key, _, action = HEADER.unpack_from(data)
        if ack:
            self.send(type="ack", frame=number)
        pixels = np.frombuffer(data, np.uint8, offset=HEADER.size).reshape(32, 32, 3)
        return Frame(number, key, action, pixels)

    def error(self) -> str:
        data = self.socket.recv(timeout=PATIENCE)
        assert isinstance(data, str), "a frame came instead of an error"
        message = json.loads(data)
        assert message["type"] == "error"
        return message["message"]

    def rollout(self, actions: list[int], seed: int) -> list[np.ndarray]:
        """Begin from prompt 0 and play the actions, a frame for each."""
        self.send(type="settings", idle=None, fps=30)
        self.send(type="start", prompt=0, seed=seed)
        frames = [self.frame().pixels]
        for action in actions:
            self.send(type="action", action=action)
            frames.append(self.frame().pixels)
        return frames


def decode(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)))


def encode(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


# ---- Addresses --------------------------------------------------------------------------------------


def test_page_loads_nothing_from_elsewhere(address: str) -> None:
    page = httpx.get(address)
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("play.js", "keys.js", "link.js", "style.css"):
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
        assert again.action == PROMPT_FRAME
        assert again.number == 3
        assert np.array_equal(again.pixels, frames[0])
        player.send(type="action", action=1)
        assert np.array_equal(player.frame().pixels, frames[1])


def test_held_key_plays_until_released(address: str) -> None:
    with Player(address) as player:
        player.rollout([], seed=0)
        player.send(type="keys", action=1, id=7)
        for _ in range(3):
            frame = player.frame()
            assert (frame.action, frame.key) == (1, 7)
        last = player.frame(ack=False)
        player.send(type="keys", action=0, id=8)
        player.send(type="ack", frame=last.number)
        frame = player.frame(ack=False)  # the latest state wins
        assert (frame.action, frame.key) == (0, 8)
        player.send(type="keys", action=None, id=9)
        player.send(type="ack", frame=frame.number)
        player.send(type="nonsense")
        player.error()  # and no frame before it: the world waits


def test_runs_on_its_own_with_an_idle_action(address: str) -> None:
    with Player(address) as player:
        player.send(type="settings", idle=1, fps=30)
        player.send(type="start")
        assert [player.frame().action for _ in range(3)] == [PROMPT_FRAME, 1, 1]


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
        first = player.frame(ack=False)
        for _ in range(3):
            player.send(type="ack", frame=first.number + 1)  # not sent yet
            assert "frame" in player.error()
        player.send(type="ack", frame=first.number)
        assert player.frame().number == first.number + 1


@pytest.mark.parametrize(
    ("message", "word"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[1]", "JSON"),
        ("{}", "type"),
        ('{"type": ["keys"]}', "type"),
        ('{"type": "keys", "action": 64}', "action"),
        ('{"type": "action", "action": -1}', "action"),
        ('{"type": "keys", "action": true}', "action"),
        ('{"type": "keys", "action": 1e400}', "action"),
        ('{"type": "keys", "action": 0, "id": 4294967296}', "id"),
        ('{"type": "start", "prompt": 10000}', "prompt"),
        ('{"type": "start", "seed": "x"}', "seed"),
        ('{"type": "settings", "fps": 0}', "fps"),
        ('{"type": "settings", "fps": NaN}', "fps"),
        ('{"type": "settings", "paused": 1}', "paused"),
        ('{"type": "settings", "idle": 64}', "idle"),
        ('{"type": "reset"}', "start"),
        (b"", "picture"),
        (b"<svg/>", "picture"),
    ],
)
def test_garbage_gets_a_sentence_and_play_goes_on(address: str, message: str | bytes, word: str) -> None:
    with Player(address) as player:
        player.socket.send(message)
        assert word in player.error()
        assert len(player.rollout([0], seed=0)) == 2


def test_other_pages_may_not_play(address: str) -> None:
    with pytest.raises(InvalidStatus) as refused, Player(address, origin="http://elsewhere.example"):
        pass
    assert refused.value.response.status_code == 403
    with Player(address, origin=address) as player:
        player.rollout([], seed=0)


def test_sessions_are_bounded_and_end(world: World) -> None:
    with running(create_app(world, max_sessions=1)) as address:
        with Player(address) as first:
            first.rollout([], seed=0)
            with Player(address) as second:
                assert "no room" in second.error()
                with pytest.raises(ConnectionClosed):
                    second.socket.recv(timeout=PATIENCE)
                assert second.socket.close_code == 1013
        while True:  # the place becomes free when the server notices, soon
            with Player(address) as third:
                third.send(type="start")
                if isinstance(third.socket.recv(timeout=PATIENCE), bytes):
                    break


def test_model_errors_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise JinnError("this world ends here: reset it")

    def break_down(*arguments: object) -> None:
        raise RuntimeError("a secret of the machine")

    with running(create_app(world)) as address, Player(address) as player:
        player.rollout([], seed=0)
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
        assert frame.action == PROMPT_FRAME
        assert np.array_equal(frame.pixels, expected_BHWC[0].numpy())
        for bad in (b"0" * (4 * 2**20 + 1), encode(noise(300, 300), "JPEG")[:9000]):
            player.socket.send(bad)
            assert "picture" in player.error()
        player.send(type="action", action=0)  # what was played before the bad picture goes on
        assert player.frame().number == 2


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


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_stops_it_cleanly(world: World, tmp_path: Path) -> None:
    world.save(tmp_path)
    program = "import sys; from jinn.player import serve; from jinn import World; "
    program += "serve(World.load(sys.argv[1]), open_browser=False)"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JINN_PORT": "0"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("jinn is playing "), process.communicate()
    address = line.split(" at ")[1].split()[0]
    with Player(address) as player:  # somebody plays on while it stops
        player.rollout([0], seed=0)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, rest, errors) == (0, "", "")
