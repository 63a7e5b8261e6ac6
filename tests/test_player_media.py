"""Videos that the server sends, and pictures that it receives."""

from __future__ import annotations

import asyncio
import io
import socket
import struct
import sys
import threading
import time
import zlib
from asyncio.subprocess import Process
from collections.abc import Callable
from urllib.parse import urlsplit

import av
import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from helpers_player import PATIENCE, Player, decode, encode, noise
from jinn.contracts import JinnError
from jinn.player import api
from jinn.player.api import create_app
from jinn.player.decoders import Decoders
from jinn.player.pictures import palette, read_picture, read_pictures
from jinn.player.protocol import FrameKind, Limits
from jinn.player.server import running
from jinn.web.film import FilmFormat, encode_film
from jinn.world.world import World

pytest_plugins = ["helpers_player"]


# ---- Videos ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_saved_videos_show_the_played_frames(address: str, world: World, kind: str) -> None:
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
def test_bad_video_requests_are_reported(address: str, path: str, body: bytes, status: int) -> None:
    answer = httpx.post(f"{address}/api/{path}", content=body, timeout=PATIENCE)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_a_film_whose_client_left_is_not_made(
    world: World, kind: FilmFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    height, width = world.size_hw
    frames_THWC = np.zeros((9, height, width, 3), np.uint8)
    asked = iter([False, False, True])  # so the fourth look would fail
    with pytest.raises(JinnError, match="not wanted"):
        encode_film(frames_THWC, 8.0, kind, lambda: next(asked))

    making, ended = threading.Event(), threading.Event()

    def encode(
        frames_THWC: np.ndarray, fps: float, format: FilmFormat, is_ended: Callable[[], bool]
    ) -> bytes:
        making.set()
        while not is_ended():
            time.sleep(0.001)
        ended.set()
        raise JinnError("the film is not wanted any more")

    app = create_app(world)
    monkeypatch.setattr(api, "encode_film", encode)
    with running(app) as address, socket.create_connection(urlsplit(address).netloc.split(":")) as client:
        head = f"POST /api/film.{kind} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {frames_THWC.nbytes}\r\n\r\n"
        client.sendall(head.encode() + frames_THWC.tobytes())
        assert making.wait(PATIENCE)
        client.close()
        assert ended.wait(PATIENCE)
    assert not app.state.lazy.shared.filming


# ---- Pictures -------------------------------------------------------------------------------------


def test_an_uploaded_picture_becomes_the_prompt(address: str, world: World) -> None:
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
        player.send(type="action", action=0)  # the roll-out before the bad picture continues
        assert player.frame().number == 2


def test_an_uploaded_clip_becomes_the_prompt(address: str, world: World) -> None:
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
            duration=100,  # the world's frame rate
            lossless=True,
        )
        begin = player.start(seed=5, pictures=[animation])
        player.send("clip", frames=2)
        player.socket.send(encode(frames_THWC[0]))
        player.socket.send(b"no picture")
        assert "picture" in player.error()  # and the clip is discarded
        assert player.play(1).step == 1
        player.send("reset", seed=5)
        assert player.frame().kind is FrameKind.START
        again = player.start(seed=5, pictures=[encode(frame_HWC) for frame_HWC in frames_THWC])
        assert np.array_equal(again.pixels_HWC, expected_BHWC[0].numpy())
        assert np.array_equal([player.play(k).pixels_HWC for k in (1, 2)], frames)


def test_an_animation_is_read_at_the_worlds_frame_rate() -> None:
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


def growing_gif(side: int) -> bytes:
    """A GIF whose first frame has one pixel, and its second ``side * side``."""
    small, large = (encode(Image.new("P", (size, size)), "GIF") for size in (1, side))
    palette_bytes = 3 << (large[10] & 7) + 1 if large[10] & 128 else 0
    frame = large[13 + palette_bytes :]
    return small.removesuffix(b";") + frame


def test_every_frame_is_checked_before_it_is_decoded() -> None:
    file = growing_gif(6000)
    assert read_picture(file, (4, 4)).shape == (4, 4, 3)
    with pytest.raises(JinnError, match="32 million pixels"):
        read_pictures(file, (4, 4), 32, 10.0)


def count_processes(decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """The processes that are started from now on."""
    processes: list[Process] = []
    start = decoders._start

    async def counting() -> Process:
        processes.append(await start())
        return processes[-1]

    monkeypatch.setattr(decoders, "_start", counting)
    return processes


def test_a_decode_has_little_time_and_ends_with_its_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        file = encode(noise(8, 8))
        impatient = Decoders(Limits(decode_seconds=0.0))
        late = count_processes(impatient, monkeypatch)
        for _ in range(3):  # each ends its process, and gives its place back
            with pytest.raises(JinnError, match="more than 0 seconds"):
                await impatient.read("a", file, (4, 4), 1, 1.0)
        decoders = Decoders(Limits())
        left = count_processes(decoders, monkeypatch)
        reading = asyncio.create_task(decoders.read("a", file, (4, 4), 1, 1.0))
        while not left:
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert [len(late), len(left)] == [3, 1]
        assert all(process.returncode is not None for process in (*late, *left))
        assert np.array_equal((await decoders.read("a", file, (8, 8), 1, 1.0))[0], noise(8, 8))
        await decoders.close()

    asyncio.run(check())


def test_an_address_has_one_decode_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        file = encode(noise(8, 8))
        decoders = Decoders(Limits(max_decodes=2))
        started = count_processes(decoders, monkeypatch)
        await asyncio.gather(*(decoders.read("a", file, (4, 4), 1, 1.0) for _ in range(4)))
        assert len(started) == 1
        await asyncio.gather(*(decoders.read(address, file, (4, 4), 1, 1.0) for address in "abcd"))
        assert len(started) == 2
        await decoders.close()
        assert not decoders.turns

    asyncio.run(check())


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of memory")
def test_a_decode_has_little_memory() -> None:
    async def check() -> None:
        decoders = Decoders(Limits(decode_bytes=300 * 2**20))
        large = encode(Image.fromarray(np.zeros((5600, 5600), np.uint16)), compress_level=1)
        with pytest.raises(JinnError, match="save it smaller"):
            await decoders.read("a", large, (4, 4), 1, 1.0)
        assert (await decoders.read("a", encode(noise(8, 8)), (4, 4), 1, 1.0)).shape == (1, 4, 4, 3)
        await decoders.close()

    asyncio.run(check())


def test_the_palette_has_colours_of_small_and_large_areas() -> None:
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


def test_a_picture_is_cropped_and_resized() -> None:
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = (10, 20, 30)
    assert (read_picture(encode(wide), (20, 20)) == (10, 20, 30)).all()  # the middle
    rotation = Image.Exif()
    rotation[0x0112] = 6  # the camera was rotated: the left of the file is the top of the picture
    file = np.zeros((40, 80, 3), np.uint8)
    file[:, :40] = 255
    upright = read_picture(encode(file, "JPEG", exif=rotation, quality=95), (80, 40))
    assert upright[:30].min() > 240
    assert upright[50:].max() < 15


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "I;16"])
def test_pictures_of_any_mode_are_read(mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 65535, np.uint16))
    elif mode == "PA":  # a palette with a transparent entry
        image = Image.new("P", (8, 8), 0)
        image.info["transparency"] = 0
    else:
        image = Image.new("RGB", (8, 8), "white").convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert read_picture(encode(image, kind), (4, 4)).min() > 250


def test_transparency_is_shown_on_white() -> None:
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (0, 0, 8, 4))
    frame = read_picture(encode(half), (8, 8))
    assert (frame[0, 0] == (0, 0, 255)).all()
    assert (frame[7, 7] == (255, 255, 255)).all()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [6000, 9500, 60000])
def test_a_decompression_bomb_is_not_decoded(side: int) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6)))
    with pytest.raises(JinnError, match="million pixels"):
        read_picture(bomb, (64, 64))
