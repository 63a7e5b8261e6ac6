"""A published site of the tiny world, and a plain web server for it. A module names it in `pytest_plugins`."""

from __future__ import annotations

import functools
import http.server
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jinn.errors import JinnError
from jinn.player.publish import Exported, Site, publish
from jinn.player.runtime import Runtime, find_runtime
from jinn.world.web import export_web
from jinn.world.world import World
from tiny_world import tiny_world

FOLDER = "some/folder"  # of the host in which the site lies


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def hosted(root: Path) -> Iterator[str]:
    """The address of ``python -m http.server`` in a folder."""
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    try:
        return find_runtime()
    except JinnError as error:
        sentence = f"PUBLISHED PAGES ARE NOT TESTED: {error}"
        warnings.warn(sentence, stacklevel=1)
        pytest.skip(sentence)


@pytest.fixture(scope="session")
def saved_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("saved") / "tiny"
    tiny_world().save(folder)
    return World.load(folder)


@pytest.fixture(scope="session")
def exported(saved_world: World) -> Exported:
    assert saved_world.folder is not None
    return Exported(saved_world, export_web(saved_world, saved_world.folder))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, exported: Exported, runtime: Runtime) -> Path:
    """The folder of a host with the site in `FOLDER`."""
    root = tmp_path_factory.mktemp("host")
    publish({"tiny": exported}, root / FOLDER, Site("A tiny world", "Noise."), runtime)
    return root


@pytest.fixture(scope="session")
def published(site: Path) -> Iterator[str]:
    with hosted(site) as host:
        yield f"{host}/{FOLDER}/"
