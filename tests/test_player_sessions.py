"""Messages that overtake each other, and roll-outs that wait for their players."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from helpers_player import PATIENCE, Player, encode, noise, wait_for
from jinn.player import control
from jinn.player.api import create_app
from jinn.player.history import History
from jinn.player.parking import Parking
from jinn.player.protocol import FrameKind, Limits
from jinn.player.scheduler import Frame
from jinn.player.server import running
from jinn.player.shared import Shared
from jinn.world.world import World

pytest_plugins = ["helpers_player"]


@contextmanager
def blocked(world: World) -> Iterator[threading.Event]:
    """A world that computes no frame; the event is set when it is asked for one."""
    asked, go_on = threading.Event(), threading.Event()
    step = world.step

    def wait(*arguments: object) -> tuple[object, torch.Tensor]:
        asked.set()
        assert go_on.wait(PATIENCE)
        return step(*arguments)  # type: ignore[arg-type]

    world.step = wait  # type: ignore[method-assign, assignment]
    try:
        yield asked
    finally:
        del world.step
        go_on.set()


def until_handled(player: Player) -> None:
    """Wait until the server has handled all messages so far."""
    player.send("nonsense")
    assert "type" in player.error()


@pytest.mark.parametrize("latest", ["back", "reset"])
def test_the_latest_request_cuts_the_one_before_it_short(address: str, world: World, latest: str) -> None:
    with Player(address) as player:
        player.send("settings", look_ahead=False)
        frames = player.rollout([0, 1, 2, 1, 0, 3, 1, 2, 0, 1, 3, 0], seed=4)
        player.messages.clear()
        with blocked(world) as asked:
            player.send("back", step=7)
            assert asked.wait(PATIENCE)
            player.send("back", step=11) if latest == "back" else player.send("reset", seed=4)
            until_handled(player)
        seen = player.frame()
        kind, step = (FrameKind.BACK, 11) if latest == "back" else (FrameKind.START, 0)
        assert (seen.kind, seen.step, seen.number) == (kind, step, 14)
        assert np.array_equal(seen.pixels_HWC, frames[step])
        assert np.array_equal(player.play(0).pixels_HWC, frames[12] if latest == "back" else frames[1])


def test_reset_starts_from_the_prompt_that_was_chosen_last(address: str, world: World) -> None:
    picture = noise(*world.size_hw)
    _, expected_BHWC = world.reset(torch.from_numpy(picture)[None, None], seed=1)
    with Player(address) as player:
        player.start(prompt=0)
        player.send("action", action=0)
        unseen = player.frame(acknowledge=False)  # so requests wait
        player.socket.send(encode(picture))
        player.send("reset", seed=1)
        until_handled(player)
        player.send("ack", frame=unseen.number)
        assert np.array_equal(player.frame().pixels_HWC, expected_BHWC[0].numpy())


def test_going_far_back_shows_that_it_works(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REPORT_EVERY", 4)
    with Player(address) as player:
        player.rollout([0] * 8)
        player.back(7)
        player.back(3)  # soon done: nothing is said
        until_handled(player)
        notes = [told["message"] for told in player.messages if told["type"] == "note"]
        assert notes == ["Going back: 4 of 7 frames are computed again.", ""]


def test_what_ifs_that_nobody_waits_for_are_dropped(world: World) -> None:
    app = create_app(world)
    with running(app) as address, Player(address) as player, Player(address) as other:
        for one in (player, other):
            one.send("settings", look_ahead=False)
            one.rollout([])
        shared: Shared = app.state.lazy.shared
        with blocked(world) as asked:
            other.send("action", action=0)
            assert asked.wait(PATIENCE)
            for _ in range(5):
                player.send("what_if", depth=2)
                until_handled(player)
            wait_for(lambda: len(shared.scheduler.waiting) <= world.num_actions)
            player.socket.close()
            wait_for(lambda: not shared.scheduler.waiting)
        assert other.frame().kind is FrameKind.NEXT


def test_a_stranger_pushes_out_only_their_own_parked_sessions(world: World) -> None:
    state, frame_BHWC = world.reset(world.prompts[:1][None])
    first = Frame(state, frame_BHWC[0].numpy().tobytes(), 0.0)

    def history() -> History:
        return History(world.prompts[:1][None], first, 1)

    async def names(limits: Limits) -> list[str]:
        parking = Parking(limits)
        parking.park("mine", "192.0.2.1", history())
        for i in range(6):
            parking.park(f"{i}", "192.0.2.2", history())
        return list(parking.sessions)

    assert asyncio.run(names(Limits(max_parked=4))) == ["mine", "3", "4", "5"]
    assert asyncio.run(names(Limits(parked_bytes=3 * history().num_bytes))) == ["mine", "4", "5"]


def test_all_sessions_share_the_memory_of_cached_states(world: World) -> None:
    app = create_app(world, limits=Limits(players=4, all_history_bytes=8000))
    with running(app) as address, Player(address) as player:
        player.rollout([])
        [session] = app.state.lazy.shared.admission.playing
        assert session.control.history_bytes == 2000
