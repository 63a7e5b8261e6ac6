"""Is the player good to hundreds? A crowd that plays, and a soak of clients that misbehave.

    python scripts/stress_player.py crowd --players 50 --seconds 600
    python scripts/stress_player.py soak --minutes 30

Both start `jinn play` as a process of its own and speak to it as any client would. The first compares with as
many players computed one after the other, without a server; the second lets clients join, leave, vanish, come
back, flood, lie and upload what they should not, beside a few polite ones, and then asks whether the server
is as it was. The exit code is 1 if something does not hold.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from websockets.exceptions import WebSocketException

from jinn.contracts import JinnError
from jinn.player import Client
from jinn.player.protocol import FrameKind
from jinn.world.world import World

# What a client sees when its connection ends: his own doing or the server's, and in a soak both are meant.
ENDED = (OSError, EOFError, WebSocketException, TimeoutError, JinnError)


@dataclass
class Server:
    """A running `jinn play`."""

    process: subprocess.Popen[str]
    address: str
    log: Path

    def megabytes(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def handles(self) -> int:
        """Open files and sockets."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


@contextlib.contextmanager
def serving(world: str, *options: str) -> Iterator[Server]:
    log = Path(f"jinn-play-{time.time():.0f}.log")
    command = [sys.executable, "-m", "jinn", "play", world, "--port", "0", "--no-browser", *options]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("jinn is playing"):
            break
    else:
        raise SystemExit(f"the server did not start: see {log}")
    try:
        yield Server(process, line.split(" at ")[1].split()[0], log)
    finally:
        process.terminate()
        process.wait(30)


def crowd(world: str = "coinrun", players: int = 50, seconds: float = 60.0, backend: str = "auto") -> int:
    """Players who hold keys as fast as the server lets them.

    Args:
        world: What is played.
        players: How many.
        seconds: For how long.
        backend: How frames are computed.
    """
    singles = in_turn(world, players, backend)
    frames = [0] * players
    done = threading.Event()
    failures: list[str] = []

    def play(address: str, i: int) -> None:
        try:
            with Client(address, seconds=120) as player:
                chance = random.Random(i)
                player.start(chance.randrange(player.world["prompts"]), seed=i)
                player.send("keys", action=chance.randrange(player.world["actions"]))
                while not done.is_set():
                    if player.receive().kind is FrameKind.NEXT:
                        frames[i] += 1
                    if chance.random() < 0.1:
                        player.send("keys", action=chance.randrange(player.world["actions"]))
        except Exception as error:
            failures.append(f"player {i}: {type(error).__name__}: {error}")

    with serving(world, "--backend", backend, "--players", str(players)) as server:
        threads = [threading.Thread(target=play, args=(server.address, i)) for i in range(players)]
        for thread in threads:
            thread.start()
        while min(frames) < 1 and not failures:
            time.sleep(0.1)
        before, begun, memory = list(frames), time.monotonic(), []
        while time.monotonic() < begun + seconds and not failures:
            time.sleep(min(seconds / 10, 30))
            memory.append(server.megabytes())
            print(f"{time.monotonic() - begun:5.0f} s  {sum(frames)} frames  {memory[-1]:.0f} MB", flush=True)
        elapsed, played = time.monotonic() - begun, np.array(frames) - before
        done.set()
        for thread in threads:
            thread.join()
    rate = played.sum() / elapsed
    apart = played.max() / max(1, played.min()) - 1
    late = memory[len(memory) // 3 :]
    print(f"{players} in turn, no server   {singles:6.1f} frames/s")
    print(f"{players} players              {rate:6.1f} frames/s: {rate / singles:.2f} times as many")
    print(f"frames of a player      {played.min()} to {played.max()}: {100 * apart:.1f}% apart")
    print(f"memory                  {memory[0]:.0f} MB at first, {min(late):.0f} to {max(late):.0f} MB later")
    print("\n".join(failures) or "no error")
    return report(
        {
            "nobody failed": not failures,
            "1.5 times as many as in turn": rate >= 1.5 * singles,
            "fair within 10%": apart <= 0.1,
            "memory flat within 5%": max(late) <= 1.05 * min(late),
            "the server's log is empty": not server.log.read_text(),
        }
    )


def in_turn(name: str, players: int, backend: Any) -> float:
    """Frames a second of players that are stepped one after the other."""
    world = World.load(name, backend=backend)
    prompts = world.prompts
    states = [world.reset(prompts[i % len(prompts)][None, None], seed=[i])[0] for i in range(players)]
    actions = [torch.tensor([i % world.num_actions]) for i in range(players)]
    for i in range(3):
        world.step(states[i], actions[i])
    begun = time.perf_counter()
    rounds = 0
    while time.perf_counter() < begun + 10:
        states = [world.step(state, action)[0] for state, action in zip(states, actions, strict=True)]
        rounds += 1
    return rounds * players / (time.perf_counter() - begun)


# ---- A soak -----------------------------------------------------------------------------------------------


def picture(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(
        file, "PNG"
    )
    return file.getvalue()


def polite(address: str, chance: random.Random) -> None:
    """Plays, goes back, looks what would be, and checks that the same keys give the same frames."""
    with Client(address, seconds=60) as player:
        seed, keys = chance.randrange(1000), [chance.randrange(player.world["actions"]) for _ in range(12)]
        player.start(0, seed)
        frames = [player.play(key).pixels_HWC for key in keys]
        player.back(chance.randrange(6))
        player.send("what_if", depth=2)
        player.start(0, seed)
        again = [player.play(key).pixels_HWC for key in keys]
        if not np.array_equal(frames, again):
            raise AssertionError("the same keys gave other frames")


def vanishing(address: str, chance: random.Random) -> None:
    """Is gone in the middle of a frame, without a word."""
    player = Client(address, seconds=30)
    player.send("settings", idle=0, fps=30)
    player.send("start")
    time.sleep(chance.random())
    player.socket.socket.close()


def returning(address: str, chance: random.Random) -> None:
    """Loses the connection and resumes."""
    player = Client(address, seconds=30)
    player.start(0, 1)
    player.play(1)
    name = player.messages[0]["session"]
    player.socket.socket.close()
    time.sleep(0.2)
    with Client(address, seconds=30) as again:
        again.send("settings", idle=None, fps=30)
        again.send("resume", session=name)
        again.send("start")
        again.receive()
        again.play(0)


def babbling(address: str, chance: random.Random) -> None:
    """Sends what is no message."""
    with Client(address, seconds=10) as player:
        for _ in range(30):
            rubbish = [
                b"\x00" * 100,
                "{",
                "[]",
                '{"type": "keys", "action": 1e99}',
                "x" * 10_000,
                b"GIF89a" + b"1" * 50,
            ]
            with contextlib.suppress(JinnError):
                player.socket.send(chance.choice(rubbish))
                player.receive()


def flooding(address: str, chance: random.Random) -> None:
    """Sends keys as fast as the wire takes them, and reads nothing."""
    with Client(address, seconds=10) as player:
        player.send("settings", idle=0, fps=30)
        player.send("start")
        until = time.monotonic() + 3
        while time.monotonic() < until:
            player.send("keys", action=chance.randrange(player.world["actions"]))


def hoarding(address: str, chance: random.Random) -> None:
    """Opens many sockets and does nothing with them."""
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            with contextlib.suppress(*ENDED):
                stack.enter_context(Client(address, seconds=5))
        time.sleep(1)


def dozing(address: str, chance: random.Random) -> None:
    """Never says that a frame was seen."""
    with Client(address, seconds=10) as player:
        player.send("settings", idle=0, fps=30)
        player.send("start")
        player.receive(acknowledge=False)
        time.sleep(3)


def burdening(address: str, chance: random.Random) -> None:
    """Uploads what is too large, broken, or a bomb."""
    with Client(address, seconds=30) as player:
        whole = picture(600, 800)
        for upload in (whole[: len(whole) // 2], b"\x89PNG" + bytes(2**20), bytes(5 * 2**20), whole):
            with contextlib.suppress(JinnError):
                player.socket.send(upload)
                player.receive()


ROLES: tuple[Callable[[str, random.Random], None], ...] = (
    polite,
    polite,
    polite,
    vanishing,
    returning,
    babbling,
    flooding,
    hoarding,
    dozing,
    burdening,
)


def soak(world: str = "coinrun", minutes: float = 30.0, clients: int = 12) -> int:
    """Clients of all kinds, coming and going.

    Args:
        world: What is played.
        minutes: For how long.
        clients: How many at a time; one of them opens a hundred sockets.
    """
    done = threading.Event()
    times: Counter[str] = Counter()
    failures: list[str] = []

    def live(address: str, i: int) -> None:
        chance = random.Random(i)
        while not done.is_set():
            role = ROLES[i] if i < len(ROLES) else chance.choice(ROLES)
            try:
                role(address, chance)
                times[role.__name__] += 1
            except ENDED as error:
                times[f"{role.__name__}: {type(error).__name__}"] += 1
                if role is polite:
                    failures.append(f"{type(error).__name__}: {error}")
            except Exception as error:
                failures.append(f"{role.__name__}: {type(error).__name__}: {error}")

    # Places enough for those who hoard: the polite should be served all the while.
    with serving(world, "--players", "512") as server:
        polite(server.address, random.Random(0))
        before = server.handles()
        threads = [
            threading.Thread(target=live, args=(server.address, i), daemon=True) for i in range(clients)
        ]
        for thread in threads:
            thread.start()
        begun, memory = time.monotonic(), []
        while time.monotonic() < begun + 60 * minutes:
            time.sleep(min(30, 6 * minutes))
            memory.append(server.megabytes())
            print(
                f"{time.monotonic() - begun:5.0f} s  {sum(times.values())} visits, {memory[-1]:.0f} MB, "
                f"{server.handles()} handles",
                flush=True,
            )
        done.set()
        for thread in threads:
            thread.join(120)
        time.sleep(5)
        handles = server.handles()
        polite(server.address, random.Random(1))
        said = server.log.read_text()
        server.process.terminate()
        code = server.process.wait(30)
    print(json.dumps(times, indent=1))
    return verdict(failures, memory, handles - before, said, code)


def verdict(failures: list[str], memory: list[float], handles: int, said: str, code: int) -> int:
    """Print whether the server withstood the soak; returns the exit code.

    Args:
        failures: errors of the clients that behaved.
        memory: of the server in MB, over time.
        handles: number of handles that the server kept.
        said: the server's log.
        code: its exit code.
    """
    print("\n".join(failures[:20]))
    late = memory[len(memory) // 3 :]
    print(f"memory {memory[0]:.0f} MB at first, {min(late):.0f} to {max(late):.0f} MB later")
    print(f"{handles} handles more than before when all have left")
    return report(
        {
            "the polite were served": not failures,
            "memory has stopped growing": bool(np.mean(late[-3:]) <= 1.1 * np.mean(late[:3])),
            "no socket is left": handles < 4,
            "the server's log is empty": not said,
            "it ended in good order": code == 0,
        }
    )


def report(holds: dict[str, bool]) -> int:
    for what, held in holds.items():
        print(f"{'holds' if held else 'DOES NOT HOLD'}: {what}")
    return 0 if all(holds.values()) else 1


if __name__ == "__main__":
    sys.exit(tyro.extras.subcommand_cli_from_dict({"crowd": crowd, "soak": soak}))
