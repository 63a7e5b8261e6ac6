"""The kinds of input of `fuzz.py`: a few valid ones of each, and how jinn reads one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from fuzzing.files import Files, check, files_in, opened
from fuzzing.media import SIZE_HW, animation, encoded, picture, read_picture_file, valid_films, valid_pictures
from fuzzing.messages import conversations, serving_messages
from fuzzing.sessions import reading_sessions
from jinn.data.clips import ClipSampler, evenly_spaced_clips, read_actions, read_clips
from jinn.data.ingest import ingest
from jinn.data.store import FrameStore
from jinn.data.writer import StoreWriter
from jinn.models.ours.conv_tokenizer import ConvConfig
from jinn.models.transformer import TransformerConfig
from jinn.overrides import override
from jinn.recipes import tiny
from jinn.training.optim import learning_rate, make_optimizers
from jinn.training.plan import empty_world, parameters_of
from jinn.training.recipe import Recipe, phases
from jinn.training.run import new_world, run_recipe
from jinn.world.folder import copy_taught
from jinn.world.keys import Key
from jinn.world.legend import ActionMeaning
from jinn.world.state import State
from jinn.world.world import World

# Parameters of a config up to which its models are also built and played: above, they would only cost time.
BUILT = 2_000_000

# Reads the input in a folder; raises `JinnError` if it refuses it, and anything else if the result is not right.
Read = Callable[[Path], None]


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        valid: makes valid inputs.
        reading: makes what reads one, and what it needs for as long as the context lasts, such as a server.
    """

    valid: Callable[[], list[Files]]
    reading: Callable[[], Any]


def reader(read: Read) -> Callable[[], Any]:
    """The `Kind.reading` of a function that needs nothing else."""

    @contextmanager
    def reading() -> Iterator[Read]:
        yield read

    return reading


# ---- What the inputs are made of --------------------------------------------------------------------------


def small_recipe() -> Recipe:
    """`tiny` with smaller models and two steps a phase."""
    recipe: Any = tiny()  # whose parts have types that only this function knows
    model = TransformerConfig(layers=1, width=16, heads=2, window=4)
    conv = ConvConfig(fine=8, coarse=16, fine_blocks=1, coarse_blocks=1, kernel=1)
    names = ("tokenizer_training", "latent_action_training", "dynamics_training")
    short = {n: replace(getattr(recipe, n), steps=2, batch=2, warmup=1, log_every=1) for n in names}
    return replace(
        recipe,
        tokenizer=replace(recipe.tokenizer, encoder=conv, decoder=conv),
        latent_actions=replace(recipe.latent_actions, encoder=model, decoder=model),
        dynamics=replace(recipe.dynamics, transformer=model, digit_hidden=16),
        **short,
        self_rollout_training=None,
    )  # fmt: skip


@lru_cache(maxsize=1)
def game_store() -> Files:
    """A store of play."""
    with TemporaryDirectory() as folder:
        ingest(["synthetic:game"], folder, size_hw=SIZE_HW, frames=200)
        return files_in(Path(folder), "*.json", "*.npz", "*.bin")


def small_world() -> World:
    """An untrained world with all that a world may have."""
    with opened(game_store()) as folder:
        world = new_world(small_recipe(), FrameStore.open(folder), "small", seed=0).eval()
    world.legend = tuple(ActionMeaning(name, 0.5, -1.25, 0.2) for name in "abcde")
    world.trained_on = np.arange(5, dtype=np.uint64)
    return world


def play(world: World) -> None:
    """Play a few frames from a prompt."""
    state, frame_BHWC = world.reset(world.prompts[:1, None], seed=3)
    for action in range(2):
        state, frame_BHWC = world.step(state, action)
    check(frame_BHWC.shape == (1, *world.size_hw, 3) and frame_BHWC.dtype == torch.uint8, "no frame")
    check(int(state.frames_B) == 2, "the state counts other frames")
    for name in (world.name, *(world.action_names or ()), *(key.name for key in world.keys or ())):
        name.encode()  # as a page is told


# ---- Films, stores, runs, worlds, states, configs ----------------------------------------------------------------


def read_film_folder(folder: Path) -> None:
    """As ``jinn data`` reads a folder of films."""
    out = folder / "store"
    ingest([str(folder)], out, size_hw=(16, 16))
    read_store_folder(out)


def valid_stores() -> list[Files]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        # Small shards, so that episodes straddle two.
        with StoreWriter(folder, (8, 8), 10.0, 3, shard_bytes=30 * 192) as writer:
            for i, length in enumerate((20, 25, 17)):
                writer.append(np.full((length, 8, 8, 3), i, np.uint8))
                actions = np.arange(length) % 3 if i != 1 else None
                writer.end_episode("a", actions, level_seed=i, group=f"level {i}")
            writer.finish_source("a")
        return [game_store(), files_in(folder, "*.json", "*.npz", "*.bin")]


def read_store_folder(folder: Path) -> None:
    """All episodes, clips for training and evaluation, and one more episode as ``jinn data`` adds it."""
    store = FrameStore.open(folder)
    for episode in range(min(store.num_episodes, 50)):
        length = int(store.lengths[episode])
        frames_THWC, actions_T = store.frames(episode, 0, length), store.actions(episode, 0, length)
        check(frames_THWC.shape == (length, *store.size_hw, 3), "other frames")
        check(actions_T is None or len(actions_T) == length, "other actions")
        store.level_seed(episode)
    check(store.pressed_actions >= 0, "no actions")
    for split in ("train", "heldout"):
        if len(store.select(split)) and store.lengths[store.select(split)].max() >= 4:
            ClipSampler(store, 4, 0, split).batch(0, 2)
            clips = evenly_spaced_clips(store, 4, split, 8)
            read_clips(store, *clips, 4)
            read_actions(store, *clips, 4)
    with StoreWriter(folder, store.size_hw, store.fps) as writer:
        writer.append(np.zeros((4, *store.size_hw, 3), np.uint8))
        writer.end_episode("more", group="more")
        writer.finish_source("more")
    again = FrameStore.open(folder)
    check(again.num_episodes == store.num_episodes + 1, "the new episode is missing")
    check(not again.frames(again.num_episodes - 1, 0, 4).any(), "the new episode has other frames")


def valid_runs() -> list[Files]:
    with opened(game_store()) as store, TemporaryDirectory() as run:
        run_recipe(small_recipe(), FrameStore.open(store), run, "small")
        return [files_in(Path(run), "*.json", "*.jsonl", "*.safetensors")]


@contextmanager
def reading_runs() -> Iterator[Read]:
    """A training goes on, and the world that it made is played."""
    with opened(game_store()) as folder:
        store = FrameStore.open(folder)

        def read(run: Path) -> None:
            run_recipe(small_recipe(), store, run, "small")
            play(World.load(run))

        yield read


def valid_worlds() -> list[Files]:
    with TemporaryDirectory() as name:
        folder, taught = Path(name) / "world", Path(name) / "taught"
        small_world().save(folder)
        keys = [Key("jump", 3, 20, 0.9, 0.1), Key("wait", 0, 0, 0.0, 0.0)]
        copy_taught(folder, keys, taught)
        return [files_in(folder, "*"), files_in(taught, "*")]


def read_world_folder(folder: Path) -> None:
    """A world is loaded and played, and saved."""
    world = World.load(folder)
    play(world)
    world.save(folder / "again")


def valid_states() -> list[Files]:
    world = small_world()
    state, _ = world.reset(world.prompts[:2, None], seed=3)
    states = [state, world.step(state, [1, 2])[0]]
    with TemporaryDirectory() as folder:
        for number, some in enumerate(states):
            some.save(Path(folder) / f"{number}.safetensors")
        return [{name: data} for name, data in files_in(Path(folder), "*").items()]


@contextmanager
def reading_states() -> Iterator[Read]:
    """A roll-out goes on from a state."""
    world = small_world()

    def read(folder: Path) -> None:
        for path in folder.iterdir():
            state = State.load(path, world)
            repr(state)
            actions = [1] * len(state.seeds_B)
            for _ in range(2):
                state, frames_BHWC = world.step(state, actions)
            check(frames_BHWC.shape == (len(actions), *SIZE_HW, 3), "no frames")

    yield read


def valid_configs() -> list[Files]:
    lines = [
        *(
            "tokenizer.cell=2",
            "tokenizer.encoder.fine=16",
            "tokenizer.encoder.kernel=3",
            "tokenizer.quantizer.levels=8,5",
        ),
        *("latent_actions.search_radius=1", "latent_actions.downsample=2", "latent_actions.patch=2"),
        *(
            "latent_actions.encoder.width=16",
            "latent_actions.encoder.heads=2",
            "latent_actions.quantizer.codes=4",
        ),
        *("latent_actions.latent_noise=0.1", "tokenizer.size_hw=32,32", "latent_actions.size_hw=32,32"),
        *("dynamics.transformer.layers=1", "dynamics.transformer.width=16", "dynamics.transformer.heads=2"),
        *("dynamics.transformer.head_width=4", "dynamics.transformer.feedforward=1.5", "dynamics.doubt=0.5"),
        *(
            "dynamics.transformer.temporal_every=1",
            "dynamics.transformer.window=3",
            "dynamics.clean_frames=0.1",
        ),
        *(
            "dynamics.keep_first=true",
            "dynamics.digit_hidden=8",
            "sampling.steps=2",
            "sampling.temperature=1",
        ),
        *("sampling.choice_temperature=0.5", "sampling.schedule=cosine", "sampling.doubt=0.1"),
        *("dynamics_training.steps=10", "dynamics_training.learning_rate=1e-3", "dynamics_training.warmup=2"),
        *(
            "dynamics_training.betas=0.9,0.99",
            "dynamics_training.weight_decay=0",
            "dynamics_training.hold=0.5",
        ),
        *("dynamics_training.optimizer=adamw", "dynamics_training.clip_norm=0", "dynamics_training.batch=2"),
        *(
            "dynamics_training.frames=3",
            "dynamics_training.log_every=5",
            "dynamics_training.final_learning_rate=0",
        ),
    ]
    return [{"pairs.txt": "\n".join(lines[i::2]).encode()} for i in range(2)] + [
        {"pairs.txt": "\n".join(lines).encode()}
    ]


@contextmanager
def reading_configs() -> Iterator[Read]:
    """As ``--set`` is read, and the models that it describes are built, played and made ready to learn."""
    with opened(game_store()) as folder:
        store = FrameStore.open(folder)

        def read(input: Path) -> None:
            text = (input / "pairs.txt").read_bytes().decode(errors="surrogateescape")
            recipe = override(tiny(), text.split("\n"))
            if parameters_of(empty_world(recipe)) > BUILT:
                return
            world = new_world(recipe, store, "small", seed=0)
            play(world.eval())
            for phase in phases(recipe):
                make_optimizers(phase.config, [world.get_submodule(name) for name in phase.learns])
                rates = [learning_rate(phase.config, step) for step in range(5)]
                check(np.isfinite(rates).all(), f"learning rates of {rates}")

        yield read


# ---- Messages and sessions --------------------------------------------------------------------------------


def valid_conversations() -> list[Files]:
    return conversations([encoded(picture(0), "PNG"), encoded(picture(1), "GIF", **animation())])


@contextmanager
def reading_messages() -> Iterator[Read]:
    with serving_messages(small_world()) as read:
        yield read


def valid_sessions() -> list[Files]:
    url = "data:image/png;base64," + base64.b64encode(encoded(picture(0, SIZE_HW), "PNG")).decode()
    keys = [{"action": i % 5, "steps": 2, "temperature": 0.5, "doubt": 0.1, "frames": 3} for i in range(4)]
    session = {
        "format": "jinn session",
        "version": 1,
        "world": {"name": "small", "id": "0123abcd-torch"},
        "prompt": {"index": 0},
        "seed": 7,
        "keys": keys,
        "last": "9a3f01c2",
    }
    own = {**session, "prompt": {"pictures": [url, url]}}
    return [
        {"session.json": json.dumps(values).encode()} for values in (session, own, {**session, "keys": []})
    ]


KINDS = {
    "pictures": Kind(valid_pictures, reader(read_picture_file)),
    "films": Kind(valid_films, reader(read_film_folder)),
    "messages": Kind(valid_conversations, reading_messages),
    "sessions": Kind(valid_sessions, reading_sessions),
    "stores": Kind(valid_stores, reader(read_store_folder)),
    "runs": Kind(valid_runs, reading_runs),
    "worlds": Kind(valid_worlds, reader(read_world_folder)),
    "states": Kind(valid_states, reading_states),
    "configs": Kind(valid_configs, reading_configs),
}
