"""The real game beside the dream: the same first frame, the same actions, on the server and on the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from helpers_browser import OpenPage, begins, colour_of, rewind, single_steps, until
from helpers_player import PATIENCE, Player
from jinn.cli import main
from jinn.errors import JinnError
from jinn.player.api import create_app
from jinn.player.beside import RealGame, real_game
from jinn.player.server import running
from jinn.world.world import World

gymnasium = pytest.importorskip("gymnasium", reason="the real game is tested with the extra 'games'")
pytest_plugins = ["helpers_player", "helpers_browser"]

STEPS = 12  # until the game ends


class Shades(gymnasium.Env):  # type: ignore[misc]
    """Its picture says how often left (red) and right (green) were played, and the level (blue)."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = gymnasium.spaces.Discrete(1)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, render_mode: str = "rgb_array") -> None:
        self.render_mode, self.played, self.level = render_mode, [0, 0, 0], 0

    def get_action_meanings(self) -> list[str]:
        return ["NOOP", "LEFT", "RIGHT"]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        self.played, self.level = [0, 0, 0], self.level if seed is None else seed % 200
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.played[action] += 1
        return 0, 0.0, sum(self.played) == STEPS, False, {}

    def render(self) -> np.ndarray:
        _, left, right = self.played
        return np.broadcast_to(np.array([20 * left, 20 * right, self.level], np.uint8), (48, 48, 3))


class Nameless(Shades):
    """Other names."""

    def get_action_meanings(self) -> list[str]:
        return ["A", "B", "C"]


@pytest.fixture(autouse=True)
def shades() -> Iterator[None]:
    gymnasium.register("Shades-v0", entry_point=Shades)
    gymnasium.register("Nameless-v0", entry_point=Nameless)
    yield
    del gymnasium.registry["Shades-v0"], gymnasium.registry["Nameless-v0"]


@pytest.fixture
def game(world: World, shades: None) -> RealGame:
    return real_game("gymnasium:Shades-v0", world)


@pytest.fixture
def address(world: World, game: RealGame) -> Iterator[str]:
    with running(create_app(world, beside=game)) as address:
        yield address


def ask(socket: ClientConnection, **message: str | int) -> list[int]:
    """Send a message; returns the colour of the frame that answers it."""
    socket.send(json.dumps(message))
    answer = socket.recv(timeout=PATIENCE)
    assert isinstance(answer, bytes), answer
    pixels = np.frombuffer(answer, np.uint8).reshape(32, 32, 3)  # of the world's size
    assert (pixels == pixels[0, 0]).all()
    return list(map(int, pixels[0, 0]))


def test_it_does_what_the_player_does(address: str, game: RealGame) -> None:
    assert game.actions == (1, 2, 0, 0, 0)  # by name; what the game does not know is its "noop"
    with Player(address) as player:
        player.start(0)
        with connect(f"{address.replace('http', 'ws')}/game") as socket:
            assert ask(socket, type="start", seed=7) == [0, 0, 7]
            for action, colour in ((0, [20, 0, 7]), (1, [20, 20, 7]), (2, [20, 20, 7]), (0, [40, 20, 7])):
                assert ask(socket, type="step", action=action) == colour
            assert ask(socket, type="start", seed=9) == [0, 0, 9]
            for count in range(1, STEPS + 1):
                assert ask(socket, type="step", action=1) == [0, 20 * count, 9]
            assert json.loads(socket.recv(timeout=PATIENCE)) == {"type": "ended"}


@pytest.mark.parametrize(
    "text",
    ["x", "[]", "{}", "3", '{"type": "step"}', '{"type": "step", "action": 5}', '{"type": "step", "action": true}',
     '{"type": "start", "seed": -1}', '{"type": "start", "seed": 2147483648}', '{"type": "fly", "action": 1}',
     "[" * 10_000, "x" * 20_000, b"\0", '{"type": "step", "action": 1}'],
)  # fmt: skip
def test_other_messages_end_it_with_a_sentence(address: str, text: str | bytes) -> None:
    with Player(address) as player:
        player.start(0)
        with connect(f"{address.replace('http', 'ws')}/game") as socket:
            socket.send(text)
            said = json.loads(socket.recv(timeout=PATIENCE))["message"]
            assert said.startswith("the real game ")
            assert "\n" not in said


def test_nobody_has_more_games_than_sessions(address: str, world: World) -> None:
    place = f"{address.replace('http', 'ws')}/game"
    with connect(place) as socket:
        assert "beside a world that you play" in json.loads(socket.recv(timeout=PATIENCE))["message"]
    with Player(address) as player:
        player.start(0)
        with connect(place) as first:
            assert ask(first, type="start", seed=1) == [0, 0, 1]
            with connect(place) as second:
                assert "beside a world that you play" in json.loads(second.recv(timeout=PATIENCE))["message"]
    with running(create_app(world)) as other, connect(f"{other.replace('http', 'ws')}/game") as socket:
        assert "--beside" in json.loads(socket.recv(timeout=PATIENCE))["message"]


def test_mistakes_are_sentences(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(JinnError, match="no action of tiny is called as one of gymnasium:Nameless-v0"):
        real_game("gymnasium:Nameless-v0", world)
    for arguments, words in (
        ("play platforms coinrun --beside gymnasium:Shades-v0", "belongs to one world"),
        ("play platforms --beside gymnasium:Nowhere-v0", "Nowhere-v0"),
        ("play platforms --env a=b", "--beside"),
    ):
        assert main([*arguments.split(), "--backend", "torch", "--no-browser"]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_shows_it(open_page: OpenPage) -> None:
    page = open_page()
    assert not page.locator("#beside").is_visible()
    page.click("#real")
    begins(page)
    until(page, "!document.getElementById('beside').hidden")
    level = colour_of(page, "game")
    assert level[:2] == [0, 0]
    single_steps(page, "111")  # left
    until(page, f"{shown()}[0] === 60")
    rewind(page, 1)
    page.keyboard.press("2")  # plays on from there, which the game cannot
    until(page, "document.getElementById('game-note').textContent.includes('cannot go back')")
    assert colour_of(page, "game") == [60, *level[1:]]
    page.keyboard.press("r")
    until(page, f"{shown()}[0] === 0")
    assert colour_of(page, "game") == level  # the same level again
    page.locator("#prompts button").first.click()
    until(page, "document.getElementById('beside').hidden")


def shown() -> str:
    return "[...document.getElementById('game').getContext('2d').getImageData(0, 0, 1, 1).data]"
