"""Several worlds on one server: their addresses, and when they are loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from starlette.applications import Starlette
from websockets.sync.client import connect

from helpers_player import PATIENCE, Player, decode
from helpers_world import make_world, small_world
from jinn.cli import main
from jinn.cli.play import load
from jinn.errors import JinnError
from jinn.player import server
from jinn.player.api import create_app
from jinn.player.gallery import GalleryWorld, gallery
from jinn.player.server import running
from jinn.world import folder
from jinn.world.world import World
from tiny_world import tiny_world


def entry(name: str, world: World, load: Callable[[], World] | None = None) -> GalleryWorld:
    return GalleryWorld(name, world.prompts[0].numpy(), load or (lambda: world))


@pytest.fixture(scope="module")
def worlds() -> dict[str, World]:
    return {"tiny": tiny_world(), "other": make_world()}


@pytest.fixture(scope="module")
def address(worlds: dict[str, World]) -> Iterator[str]:
    with running(create_app([entry(*item) for item in worlds.items()])) as address:
        yield address


def first_frames(world: World) -> list[np.ndarray]:
    state, start_BHWC = world.reset(world.prompts[:1, None], seed=3)
    _, next_BHWC = world.step(state, torch.tensor([1]))
    return [start_BHWC[0].numpy(), next_BHWC[0].numpy()]


def test_each_address_plays_its_own_world(address: str, worlds: dict[str, World]) -> None:
    places = {"/tiny": "tiny", "/other": "other", "": "tiny"}  # programs find the first without its name
    with Player(address + "/tiny") as one, Player(address + "/other") as other, Player(address) as nameless:
        for player, name in zip((one, other, nameless), places.values(), strict=True):
            assert player.world["name"] == worlds[name].name
            assert np.array_equal(player.rollout([1], seed=3), first_frames(worlds[name]))
    for place in places:
        assert httpx.get(f"{address}{place}/api/worlds").json() == {"worlds": ["tiny", "other"]}


def test_the_page_opens_with_the_first_world(address: str) -> None:
    for asked, answered in (("/?token=a%20b", "/tiny/?token=a%20b"), ("/", "/tiny/"), ("/other", "/other/")):
        answer = httpx.get(address + asked, follow_redirects=True)
        assert (answer.status_code, str(answer.url)) == (200, address + answered)
        assert answer.text.startswith("<!doctype html>")


@pytest.mark.parametrize("path", ["/nothing", "/nothing/", "/tiny/nothing", "/other/static/nothing.js"])
def test_unknown_paths_are_404_with_a_sentence(address: str, path: str) -> None:
    answer = httpx.get(address + path)
    assert answer.status_code == 404
    assert answer.json() == {"error": "there is nothing at this address: play at /tiny/, /other/"}


def test_a_token_is_needed_everywhere(worlds: dict[str, World]) -> None:
    with running(create_app([entry(*item) for item in worlds.items()], token="sesame")) as address:
        for path in ("/", "/tiny", "/tiny/", "/other/api/world", "/other/api/thumbnail.png", "/nothing"):
            assert httpx.get(address + path).status_code == 403
        with connect(address.replace("http", "ws") + "/other/ws") as socket:
            assert "A token is needed" in str(socket.recv(timeout=PATIENCE))
        with httpx.Client(follow_redirects=True) as browser:
            assert browser.get(f"{address}/?token=sesame").status_code == 200
            assert browser.get(f"{address}/other/api/world").status_code == 200  # by the cookie
        with Player(address + "/other", token="sesame") as player:
            player.rollout([0])


def test_one_world_stays_where_it_was(worlds: dict[str, World]) -> None:
    with running(create_app([entry("tiny", worlds["tiny"])])) as address:
        assert httpx.get(address).status_code == 200
        assert httpx.get(f"{address}/tiny/").status_code == 404
        assert httpx.get(f"{address}/api/worlds").json() == {"worlds": ["tiny"]}
        with Player(address) as player:
            player.rollout([0])


def lazies(app: Starlette) -> list[Any]:
    return [route.app.state.lazy for route in app.routes if getattr(route, "path", "") in ("/tiny", "/other")]


def test_a_world_is_loaded_when_it_is_opened_and_closed_at_the_end(worlds: dict[str, World]) -> None:
    may_load = threading.Event()

    def slowly() -> World:
        assert may_load.wait(PATIENCE)
        return worlds["other"]

    app = create_app([entry("tiny", worlds["tiny"]), entry("other", worlds["other"], slowly)])
    first, second = lazies(app)
    with running(app) as address, ThreadPoolExecutor() as pool:
        thumbnail = httpx.get(f"{address}/other/api/thumbnail.png").content
        assert np.array_equal(decode(thumbnail), worlds["other"].prompts[0].numpy())
        assert httpx.get(f"{address}/other/").status_code == 200
        assert first.shared is not None
        assert second.shared is None
        opened = [pool.submit(httpx.get, f"{address}/other/api/world", timeout=PATIENCE) for _ in range(3)]
        with Player(address + "/tiny") as player:  # others play on meanwhile
            player.rollout([0, 1])
        assert not any(answer.done() for answer in opened)
        may_load.set()
        assert {answer.result().json()["name"] for answer in opened} == {worlds["other"].name}
    assert first.shared.scheduler.closed
    assert second.shared.scheduler.closed


def test_a_world_that_cannot_be_loaded_is_a_sentence(worlds: dict[str, World]) -> None:
    errors: list[Exception] = [JinnError("its file is gone"), ValueError("a secret of the machine")]

    def fail() -> World:
        if errors:
            raise errors.pop(0)
        return worlds["other"]

    with running(
        create_app([entry("tiny", worlds["tiny"]), entry("other", worlds["other"], fail)])
    ) as address:
        for why in ("its file is gone", "see the server log"):
            answer = httpx.get(f"{address}/other/api/world")
            assert answer.status_code == 500
            assert answer.json() == {"error": f"the world other cannot be loaded: {why}"}
        assert httpx.get(f"{address}/other/api/world").status_code == 200  # the next one tries again


def test_worlds_are_called_as_their_folders(worlds: dict[str, World], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a b", "runs/mine/world", "mine")]
    for path in paths:
        worlds["other"].save(path)
    entries = gallery([paths[0], tmp_path / "runs/mine", paths[2]], World.load)
    assert [entry.name for entry in entries] == ["a-b", "mine", "mine-2"]
    assert np.array_equal(entries[1].thumbnail_HWC, worlds["other"].prompts[0].numpy())
    assert entries[1].load().folder == paths[1]
    with pytest.raises(JinnError, match="no world at 'atlantis'"):
        gallery([paths[0], "atlantis"], World.load)


def test_play_serves_all_built_in_worlds_or_those_that_are_named(
    worlds: dict[str, World],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    served: list[str] = []
    monkeypatch.setattr(server, "serve", lambda entries, *_: served.extend(entry.name for entry in entries))
    monkeypatch.setattr(folder, "BUILT_IN", tmp_path)
    assert main(["play"]) == 2
    assert "no world is built in" in capsys.readouterr().err
    for name in ("anvil", "coinrun", "platforms", "zoo"):
        worlds["other"].save(tmp_path / name)
    for arguments, names in (([], "platforms coinrun anvil zoo"), (["zoo", "coinrun"], "zoo coinrun")):
        assert main(["play", *arguments, "--backend", "torch", "--device", "cpu"]) == 0
        assert served == names.split()
        served.clear()


@pytest.mark.slow
def test_the_graph_of_a_world_is_made_when_it_is_loaded(tmp_path: Path) -> None:
    small_world().save(tmp_path)
    assert load(tmp_path, "cpu", "auto").backend.name == "onnx-int8"
    small_world().save(tmp_path / "no graph")
    assert load(tmp_path / "no graph", "cpu", "torch").backend.name == "torch"
