"""A person plays an environment in the browser, and frames, actions and rewards are kept: what ``jinn record`` serves.

The page sends JSON: ``{"type": "keys", "action": 3}`` is what is held now (null: nothing), ``{"type": "action", ...}``
what was pressed, however shortly, and ``{"type": "restart"}`` begins another episode. It gets each frame as RGB, row by
row, and after it how many frames and episodes are kept.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from jinn.data.games import Games, open_games
from jinn.data.images import resize
from jinn.data.ingest import level_name
from jinn.data.writer import StoreWriter
from jinn.errors import JinnError
from jinn.player.api import STATIC
from jinn.player.shared import IDLE_NAMES
from jinn.web.answers import refuse
from jinn.web.auth import Auth

MIN_FRAMES = 2  # a shorter episode shows no action


class Recorder:
    """One environment that a person plays, and the store that keeps it.

    Args:
        env: The environment, such as ``envpool:CoinrunHard-v0``.
        out: Directory of the store, which is made or added to.
        size_hw: Height and width of the stored frames, pixels. The page shows the environment's own.
        seed: Of the first episode; each one has the next.
        levels: First level seed and number of levels, None for all.

    Raises:
        JinnError: There is no such environment, it has no discrete actions, or the store does not fit.
    """

    def __init__(
        self, env: str, out: Path, size_hw: tuple[int, int], seed: int, levels: tuple[int, int] | None
    ) -> None:
        self.env, self.seed, self.levels, self.size_hw = env, seed, levels, size_hw
        self.games: Games = open_games(env, seed, levels, num_envs=1)
        if self.games.num_actions is None or self.games.rewards_B is None:
            raise JinnError(f"{env} has no discrete actions, so no key can play it: name another environment")
        self.names = self.games.action_names or tuple(
            f"action {n}" for n in range(1, self.games.num_actions + 1)
        )
        # What is done while no key is down; None: the environment waits.
        idle = (n for n, name in enumerate(self.names) if name.strip().lower() in IDLE_NAMES)
        self.idle = next(idle, None)
        named = self.games.action_names
        self.writer = StoreWriter(out, size_hw, self.games.fps, self.games.num_actions, action_names=named)
        self.source = f"{env}#recorded={secrets.token_hex(8)}"
        self.lock = threading.Lock()  # a step may still go on when the server stops
        self.kept = self.attempts = 0  # frames and episodes that were ended
        self.is_final = False  # whether the episode has ended
        self.shown_HWC = self._begin()

    def restart(self) -> None:
        """End the episode and begin another one."""
        with self.lock:
            self._end()
            self.games.close()
            self.seed += 1
            self.games = open_games(self.env, self.seed, self.levels, num_envs=1)
            self.shown_HWC = self._begin()

    def step(self, action: int) -> None:
        """Do an action and keep what it leads to; behind the last frame of an episode the next one begins."""
        with self.lock:
            self._step(action)

    def _step(self, action: int) -> None:
        if self.is_final:  # environments ignore the action of this step, see `jinn.data.games`
            self._end()
            obs_BHWC, levels_B, _ = self.games.step(np.array([action]))
            self.shown_HWC = self._add_first(obs_BHWC, levels_B)
            return
        obs_BHWC, _, final_B = self.games.step(np.array([action]))
        assert self.games.rewards_B is not None
        self.actions.append(action)
        self.rewards.append(float(self.games.rewards_B[0]))
        self.shown_HWC, self.is_final = obs_BHWC[0].copy(), bool(final_B[0])
        self.writer.append(resize(obs_BHWC, self.size_hw, self.writer.fit))

    def close(self) -> None:
        """Keep the episode as it is now, and release environment and store."""
        with self.lock:
            self._end()
            self.games.close()
            if self.attempts:
                self.writer.finish_source(self.source)
            self.writer.close()

    def _begin(self) -> np.ndarray:
        return self._add_first(*self.games.reset())

    def _add_first(self, obs_BHWC: np.ndarray, levels_B: np.ndarray | None) -> np.ndarray:
        self.level = None if levels_B is None else int(levels_B[0])
        self.actions: list[int] = []
        self.rewards: list[float] = []
        self.is_final = False
        self.writer.append(resize(obs_BHWC, self.size_hw, self.writer.fit))
        first_HWC: np.ndarray = obs_BHWC[0].copy()
        return first_HWC

    def _end(self) -> None:
        """Keep the open episode, on the disk, unless nothing was done in it."""
        if self.writer.open_frames < MIN_FRAMES:
            return self.writer.drop_open()
        level, source = self.level, self.source
        group = f"{source} {self.attempts}" if level is None else level_name(self.env, level)
        self.kept, self.attempts = self.kept + self.writer.open_frames, self.attempts + 1
        actions_T, rewards_T = np.array([*self.actions, -1]), np.array([*self.rewards, np.nan])
        self.writer.end_episode(source, actions_T, level, group, rewards_T=rewards_T)
        self.writer.commit()


def create_recorder_app(recorder: Recorder) -> Starlette:
    """The web application that records; close the recorder after it."""
    playing = asyncio.Lock()

    async def get_page(_: Request) -> Response:
        return FileResponse(STATIC / "record.html")

    async def get_game(_: Request) -> Response:
        height, width = recorder.shown_HWC.shape[:2]
        about = {"name": recorder.env, "buttons": recorder.names, "height": height, "width": width}
        return JSONResponse({**about, "fps": recorder.games.fps, "waits": recorder.idle is None})

    async def play(socket: WebSocket) -> None:
        await socket.accept()
        if playing.locked():
            return await refuse(socket, "Somebody records on another page: close that one.")
        async with playing:
            held = Held()
            frames = asyncio.create_task(_show_frames(socket, recorder, held))
            with suppress(WebSocketDisconnect):
                while not frames.done():
                    _take(await socket.receive_text(), held, len(recorder.names))
            frames.cancel()
            await asyncio.gather(frames, return_exceptions=True)

    routes = [Route("/", get_page), Route("/api/game", get_game), WebSocketRoute("/ws", play),
              Mount("/static", StaticFiles(directory=STATIC))]  # fmt: skip
    return Starlette(routes=routes, middleware=[Middleware(Auth, token=None)])


class Held:
    """What the person does: the action of the keys that are down, one that was pressed since, and wishes."""

    def __init__(self) -> None:
        self.down: int | None = None
        self.pressed: int | None = None
        self.wants_restart = False

    def take(self, idle: int | None) -> int | None:
        """The next action; None: wait."""
        pressed, self.pressed = self.pressed, None
        if pressed is not None:
            return pressed
        return idle if self.down is None else self.down


def _take(text: str, held: Held, num_actions: int) -> None:
    """Apply a message; what is none is ignored."""
    try:
        message = json.loads(text)
        kind, action = message["type"], message.get("action")
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    held.wants_restart |= kind == "restart"
    if action is None or (type(action) is int and 0 <= action < num_actions):
        if kind == "keys":
            held.down = action
        elif kind == "action":
            held.pressed = action


async def _show_frames(socket: WebSocket, recorder: Recorder, held: Held) -> None:
    """Step at the environment's rate, and show what there is; the environment waits where nobody plays."""
    due, changed = time.monotonic(), True
    while True:
        if held.wants_restart:
            held.wants_restart, changed = False, True
            await asyncio.to_thread(recorder.restart)
        elif (action := held.take(recorder.idle)) is not None:
            changed = True
            await asyncio.to_thread(recorder.step, action)
        if changed:
            frames = recorder.kept + recorder.writer.open_frames
            count = {"frames": frames, "episodes": recorder.attempts, "reward": sum(recorder.rewards)}
            await socket.send_bytes(recorder.shown_HWC.tobytes())
            await socket.send_text(json.dumps(count))
        changed = False
        due = max(due + 1 / recorder.games.fps, time.monotonic())
        await asyncio.sleep(due - time.monotonic())
