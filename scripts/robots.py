"""A set of robot video like the paper's Robotics: the scripted experts of Meta-World, as a data set of LeRobot (v3.0).

pip install -e ".[robots]" -c constraints.txt    # and on Linux: apt-get install libosmesa6
python scripts/robots.py robots
jinn data robots --out stores/robots --size 90 160
jinn train stores/robots --out runs/robots --recipe robotics_cpu

One camera looks at a robot's arm that does twelve tasks. Each attempt begins with up to half a second of motion in a
random direction, so that one scene goes on in different ways; then an expert takes over, until shortly after it
succeeds. The same command again goes on with the task in which it was stopped.

The robot takes four numbers (a step along each axis, and how firmly the gripper closes), the feature `action.robot`.
A frame store holds discrete actions, so `action` is what they come to: the main direction in which the gripper moves
until the next frame. It is measured, and no command: where the arm is blocked, it is still.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import tyro
from pyarrow import parquet

from jinn.cli.console import progress, say
from jinn.contracts import JinnError
from jinn.files import read_json, replacing, write_json

FPS, SIZE_HW = 20, (90, 160)
HOLD = 4  # of the robot's 80 steps a second, for which it repeats what it was told
MAX_FRAMES, AFTER = 64, 12  # frames of an attempt at most, and after its success
WANDER = 10  # frames of random motion before it, at most
CAMERA, CORNER, ZOOM = "observation.images.corner", "corner2", 0.5
MOTIONS = ("still", "left", "right", "back", "forward", "down", "up")  # as the robot sees it
STILL = 0.004  # metres from frame to frame
TASKS = (
    "reach", "push", "pick-place", "door-open", "door-close", "drawer-open", "drawer-close", "button-press",
    "window-open", "window-close", "faucet-open", "plate-slide",
)  # fmt: skip
FILES = {
    "table": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "video": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    "episodes": "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
}


@dataclass(frozen=True)
class Attempt:
    """What was seen and done in one attempt at a task.

    Attributes:
        frames_THWC: uint8.
        commands_T4: float32 in [-1, 1], steps to the right, forward and up, and how firmly the gripper closes; entry t
            leads from frame t to t + 1, and the last one is zero.
        hands_T3: float32, position of the gripper at each frame, metres to the right, forward and up.
    """

    frames_THWC: np.ndarray
    commands_T4: np.ndarray
    hands_T3: np.ndarray


def main(out: Path, /, episodes: int = 30, tasks: tuple[str, ...] = TASKS, seed: int = 0) -> None:
    """Film the experts, a video and a table for each task.

    Args:
        out: Folder of the data set.
        episodes: Attempts at each task.
        tasks: Names of Meta-World's tasks, without their version.
        seed: Seed of where things lie and of the random motion.
    """
    experts = open_metaworld()
    if unknown := [task for task in tasks if task not in experts]:
        raise JinnError(f"Meta-World has no task {unknown[0]!r}: choose among {', '.join(experts)}")
    keep_seed(out, seed)
    with progress() as show:
        for number, task in enumerate(tasks):
            expert = experts[task]
            write_task(out, number, task, film(task, expert, episodes, seed + 1000 * number), episodes)
            show("filming", number + 1, len(tasks), task)
    write_info(out, tasks)
    say(f"{out}: {episodes * len(tasks)} attempts at {len(tasks)} tasks; now jinn data {out} --out STORE")


def keep_seed(out: Path, seed: int) -> None:
    """Note the seed in the folder, and refuse a folder that was begun with another one."""
    noted = out / "meta" / "seed.json"
    if noted.exists() and read_json(noted) != seed:
        raise JinnError(
            f"{out} was begun with --seed {read_json(noted)}: name another folder or give the same seed"
        )
    noted.parent.mkdir(parents=True, exist_ok=True)
    write_json(noted, seed)


def open_metaworld() -> dict[str, Any]:
    """The class of the expert of each task."""
    if sys.platform == "linux":  # no screen is needed, and no GPU
        os.environ.setdefault("MUJOCO_GL", "osmesa")
    warnings.filterwarnings("ignore", module="(gymnasium|metaworld)")
    try:
        import_module("mujoco")
        experts = import_module("metaworld.policies").ENV_POLICY_MAP
        return {name.removesuffix("-v3"): expert for name, expert in experts.items()}
    except ImportError as error:
        raise JinnError(f"Meta-World is not installed ({error}): run pip install 'jinn[robots]'") from error
    except AttributeError as error:  # PyOpenGL finds no library
        raise JinnError(
            "MuJoCo cannot draw here: install OSMesa (Debian: apt-get install libosmesa6), or set MUJOCO_GL=egl"
        ) from error


def film(task: str, expert: Any, episodes: int, seed: int) -> Iterator[Attempt]:
    """Attempts at a task."""
    import gymnasium
    import mujoco

    height, width = SIZE_HW
    env: Any = gymnasium.make(
        "Meta-World/MT1", env_name=f"{task}-v3", seed=seed, render_mode="rgb_array", camera_name=CORNER,
        width=width, height=height, disable_env_checker=True,
    )  # fmt: skip
    model, rng = env.unwrapped.model, np.random.default_rng(seed)
    model.cam_fovy[model.camera(CORNER).id] *= ZOOM
    model.vis.quality.shadowsize = 0  # a frame in 30 ms, and with shadows in 170
    for _ in range(episodes):
        first = env.reset()[0]
        env.render()
        env.unwrapped.mujoco_renderer.viewer.scn.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        yield attempt(env, first, expert(), rng)
    env.close()


def attempt(env: Any, obs: np.ndarray, expert: Any, rng: np.random.Generator) -> Attempt:
    """Wander in a random direction, and then do what the expert does until it has succeeded."""
    frames, commands, hands = [], [], []
    wander, direction, left = int(rng.integers(WANDER + 1)), rng.normal(size=3), MAX_FRAMES
    random = np.append(direction / np.abs(direction).max(), 0).astype(np.float32)
    while True:
        frames.append(env.render()[::-1, ::-1])  # this camera hangs upside down
        hands.append(obs[:3])
        left -= 1
        if left <= 0:
            commands.append(np.zeros(4, np.float32))
            return Attempt(np.stack(frames), np.stack(commands), np.stack(hands).astype(np.float32))
        asked = random if len(commands) < wander else expert.get_action(obs)
        commands.append(np.clip(asked, -1, 1).astype(np.float32))
        for _ in range(HOLD):
            obs, *_, info = env.step(commands[-1])
            if info["success"] and len(commands) > wander:
                left = min(left, AFTER)


def motions(hands_T3: np.ndarray) -> np.ndarray:
    """The main direction in which the gripper moves until the next frame, int64 ``(T,)``, a number of `MOTIONS`.

    The last entry is "still".
    """
    moved_T3 = np.diff(hands_T3, axis=0, append=hands_T3[-1:])
    axis = np.abs(moved_T3).argmax(1)
    most = np.take_along_axis(moved_T3, axis[:, None], 1)[:, 0]
    return np.where(np.abs(most) < STILL, 0, 1 + 2 * axis + (most > 0)).astype(np.int64)


def write_task(out: Path, number: int, task: str, attempts: Iterator[Attempt], episodes: int) -> None:
    """Write the video, the table and the list of episodes of a task, unless they are there; `number` is its own."""
    video, table, listed = (place(out, kind, number) for kind in ("video", "table", "episodes"))
    if listed.exists():
        found = parquet.read_table(listed, columns=["tasks"]).column("tasks").to_pylist()
        if found != [[task]] * episodes:
            raise JinnError(f"{out} holds other tasks or another number of episodes: name another folder")
        return
    for path in (video, table, listed):
        path.parent.mkdir(parents=True, exist_ok=True)
    seen = []
    with replacing(video) as temporary, av.open(temporary, "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", FPS, options={"crf": "18", "g": "2"}
        )  # as LeRobot's, quick to seek
        stream.height, stream.width, stream.pix_fmt = *SIZE_HW, "yuv420p"
        for shown in attempts:
            seen.append((shown.commands_T4, shown.hands_T3))
            for frame_HWC in shown.frames_THWC:
                container.mux(
                    stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), "rgb24"))
                )
        container.mux(stream.encode())
    write_tables(out, number, task, seen)


def write_tables(out: Path, number: int, task: str, seen: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write what was done in the attempts at a task, commands and positions of the gripper, and the list of them."""
    lengths = np.array([len(commands_T4) for commands_T4, _ in seen])
    starts, first = (
        np.cumsum(lengths) - lengths,
        sum(lengths_of(out, earlier).sum() for earlier in range(number)),
    )
    frame = np.concatenate([np.arange(length) for length in lengths])
    episode = number * len(seen) + np.arange(len(seen))
    rows = {
        "index": first + np.arange(lengths.sum()),
        "episode_index": np.repeat(episode, lengths),
        "frame_index": frame,
        "timestamp": (frame / FPS).astype(np.float32),
        "task_index": np.full(len(frame), number),
        "action": np.concatenate([motions(hands_T3) for _, hands_T3 in seen]),
        "action.robot": [row for commands_T4, _ in seen for row in commands_T4],
        "observation.state": [row for _, hands_T3 in seen for row in hands_T3],
    }
    chunks = {f"{of}/chunk_index": np.zeros(len(seen), int) for of in ("data", f"videos/{CAMERA}")}
    files = {f"{of}/file_index": np.full(len(seen), number) for of in ("data", f"videos/{CAMERA}")}
    episodes = (
        chunks
        | files
        | {
            "episode_index": episode,
            "tasks": [[task]] * len(seen),
            "length": lengths,
            "dataset_from_index": first + starts,
            "dataset_to_index": first + starts + lengths,
            f"videos/{CAMERA}/from_timestamp": starts / FPS,
            f"videos/{CAMERA}/to_timestamp": (starts + lengths) / FPS,
        }
    )
    for kind, columns in (("table", rows), ("episodes", episodes)):  # a task is there when its list is
        with replacing(place(out, kind, number)) as temporary:
            parquet.write_table(pa.table(columns), temporary)


def write_info(out: Path, tasks: Sequence[str]) -> None:
    """Write the tables' description, and the names of the tasks."""
    lengths = np.concatenate([lengths_of(out, number) for number in range(len(tasks))])
    height, width = SIZE_HW
    number = {"dtype": "int64", "shape": [1], "names": None}
    with replacing(out / "meta" / "tasks.parquet") as temporary:
        parquet.write_table(pa.table({"task_index": np.arange(len(tasks)), "task": list(tasks)}), temporary)
    write_json(out / "meta" / "info.json", {
        "codebase_version": "v3.0",
        "robot_type": "sawyer",
        "fps": FPS,
        "total_episodes": len(lengths),
        "total_frames": int(lengths.sum()),
        "total_tasks": len(tasks),
        "chunks_size": 1000,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": FILES["table"],
        "video_path": FILES["video"],
        "features": {
            CAMERA: {"dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"]},
            "observation.state": {"dtype": "float32", "shape": [3], "names": ["x", "y", "z"]},
            "action": number | {"names": list(MOTIONS)},
            "action.robot": {"dtype": "float32", "shape": [4], "names": ["dx", "dy", "dz", "gripper"]},
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), number),
        },
    })  # fmt: skip


def lengths_of(out: Path, number: int) -> np.ndarray:
    """The numbers of frames of the attempts at a task."""
    return np.array(parquet.read_table(place(out, "episodes", number), columns=["length"]).column("length"))


def place(out: Path, kind: str, number: int) -> Path:
    """The path of a task's file."""
    return out / FILES[kind].format(chunk_index=0, file_index=number, video_key=CAMERA)


if __name__ == "__main__":
    tyro.cli(main)
