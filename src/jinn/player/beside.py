"""The real game beside the dream: an environment that does what the player does, from the same first frame.

The page opens a WebSocket for it, ``/game``, and sends ``{"type": "start", "seed": 7}`` or ``{"type": "step", "action":
3}``, an action of the world. Each is answered with the game's frame as RGB, row by row, of the world's size. Where the
game has ended, ``{"type": "ended"}`` follows, and the next step begins another of its levels.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from jinn.data.games import Games, open_games
from jinn.data.images import Fit, resize
from jinn.errors import JinnError
from jinn.player.admission import MessageRate
from jinn.player.shared import IDLE_NAMES, Shared, buttons
from jinn.web.answers import refuse, send, tell
from jinn.world.world import World

NOBODY_PLAYS = "the real game runs only beside a world that you play: open its page once"


@dataclass(frozen=True)
class RealGame:
    """The game that a world was learned from.

    Attributes:
        env: such as ``envpool:CoinrunHard-v0``.
        actions: of the game, one for each action of the world.
        size_hw: height and width of the frames that players see, pixels: the world's.
        fit: what becomes of the game's frames if they have another shape.
    """

    env: str
    actions: tuple[int, ...]
    size_hw: tuple[int, int]
    fit: Fit


def real_game(env: str, world: World) -> RealGame:
    """A game that is played by those buttons of a world which are called as its actions.

    Raises:
        JinnError: there is no such environment, or no button has the name of one of its actions.
    """
    games = open_games(env, num_envs=1)
    games.close()
    numbers: dict[str, int] = {}
    for number, name in enumerate(games.action_names or ()):
        numbers.setdefault(name.strip().lower(), number)
    played: dict[int, int] = {}
    for name, action in buttons(world):
        if name.strip().lower() in numbers:
            played.setdefault(action, numbers[name.strip().lower()])
    if not played:
        raise JinnError(
            f"no action of {world.name} is called as one of {env}: name the game that it was learned from, or teach it "
            "the keys first (jinn teach)"
        )
    idle = next((number for name, number in numbers.items() if name in IDLE_NAMES), 0)
    actions = tuple(played.get(action, idle) for action in range(world.num_actions))
    return RealGame(env, actions, world.size_hw, world.config.fit)


async def play_beside(socket: WebSocket) -> None:
    """The real game of one page, for as long as it is connected."""
    await socket.accept()
    try:
        shared: Shared = await socket.app.state.lazy.get()
    except JinnError as error:
        return await refuse(socket, str(error))
    if shared.real_game is None:
        return await refuse(
            socket, "this server has no real game: start it with jinn play WORLD --beside ENV"
        )
    address = socket.client.host if socket.client else ""
    # So there are never more games than players, whose number is bounded.
    if shared.beside[address] >= shared.admission.sockets[address]:
        return await refuse(socket, NOBODY_PLAYS)
    shared.beside[address] += 1
    try:
        with suppress(WebSocketDisconnect):
            await _Beside(socket, shared).run(shared.real_game)
    finally:
        shared.beside[address] -= 1


class _Beside:
    """The real game of one page."""

    def __init__(self, socket: WebSocket, shared: Shared) -> None:
        self.socket, self.limits = socket, shared.limits
        self.games: Games | None = None

    async def run(self, game: RealGame) -> None:
        """Answer messages until the page leaves."""
        rate = MessageRate(self.limits)
        try:
            while True:
                async with asyncio.timeout(self.limits.idle_seconds):
                    text = await self.socket.receive_text()
                await asyncio.sleep(rate.count())
                if len(text) > self.limits.max_message:
                    raise JinnError(
                        f"the real game takes messages of at most {self.limits.max_message} characters"
                    )
                await self._answer(text, game)
        except TimeoutError:
            await refuse(self.socket, "the real game has not been played for a while: start it again")
        except (JinnError, KeyError) as error:  # what Starlette raises for bytes is a KeyError
            said = str(error) if isinstance(error, JinnError) else "the real game takes messages of text only"
            await refuse(self.socket, said)
        finally:
            if self.games is not None:
                await asyncio.to_thread(self.games.close)

    async def _answer(self, text: str, game: RealGame) -> None:
        kind, number = _parse(text, len(game.actions))
        if kind == "start":
            if self.games is not None:
                await asyncio.to_thread(self.games.close)
            self.games = await asyncio.to_thread(open_games, game.env, number, None, 1)
            obs_BHWC, is_final = (await asyncio.to_thread(self.games.reset))[0], False
        elif self.games is None:
            raise JinnError('the real game has not begun: send {"type": "start", "seed": 0} first')
        else:
            actions_B = np.array([game.actions[number]])
            obs_BHWC, _, final_B = await asyncio.to_thread(self.games.step, actions_B)
            is_final = bool(final_B[0])
        await send(self.socket, resize(obs_BHWC, game.size_hw, game.fit).tobytes())
        if is_final:
            await tell(self.socket, "ended")


def _parse(text: str, num_actions: int) -> tuple[str, int]:
    """The kind of a message and its seed or action; raises `JinnError` if it is none."""
    try:
        message = json.loads(text)
        kind = message["type"]
        number, bound = (message["seed"], 2**31) if kind == "start" else (message["action"], num_actions)
        if kind in ("start", "step") and type(number) is int and 0 <= number < bound:
            return kind, number
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise JinnError(
        f'the real game takes {{"type": "start", "seed": S}} with S below {2**31}, and {{"type": "step", "action": A}} '
        f"with A from 0 to {num_actions - 1}"
    )
