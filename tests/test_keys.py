"""The game's own keys: the map from input to latent actions, how a world keeps it, and who plays by it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers_world import make_world
from jinn.cli import main
from jinn.contracts import JinnError
from jinn.data.store import FrameStore
from jinn.data.synthetic import ACTIONS, CELL, SPRITE, write_game
from jinn.data.writer import StoreWriter
from jinn.env import WorldVectorEnv
from jinn.player.shared import Button, buttons
from jinn.world.folder import BUILT_IN
from jinn.world.graph import weights_digest
from jinn.world.keys import Dictionary, Key, key_names, teach
from jinn.world.world import World
from tiny_world import tiny_world

LATENTS = [3, 0, 4, 2, 1]  # of the synthetic game's actions, in the eyes of `sees_the_sprite`
MOVES = [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)]


@pytest.fixture
def sees_the_sprite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every world's latent actions become the sprite's true movements, which walls can stop, under other numbers."""

    def encode(self: object, frames_BTHWC: Tensor) -> Tensor:
        B, T, H, W, _ = frames_BTHWC.shape
        cells = frames_BTHWC.reshape(B, T, H // CELL, CELL, W // CELL, CELL, 3).transpose(3, 4).flatten(2, 3)
        found_BT = (cells == torch.from_numpy(SPRITE)).flatten(3).all(-1).long().argmax(-1)
        cells_BT2 = torch.stack([found_BT // (W // CELL), found_BT % (W // CELL)], -1)
        moves_BTm12 = cells_BT2[:, 1:] - cells_BT2[:, :-1]
        action_BTm1 = (moves_BTm12.unsqueeze(2) == torch.tensor(MOVES)).all(-1).long().argmax(-1)
        return torch.tensor(LATENTS)[action_BTm1]

    monkeypatch.setattr(type(tiny_world().latent_actions), "encode", encode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_world().save(tmp_path / "world")
    return tmp_path / "world"


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


# ---- The map ----------------------------------------------------------------------------------------------


def test_the_dictionary_maps_both_ways() -> None:
    latents, keys = torch.tensor([0, 0, 0, 1, 1, 3]), torch.tensor([2, 2, 1, 1, 1, 0])
    dictionary = Dictionary(latents, keys, 4, 5)
    assert dictionary.to_latent() == [3, 1, 0, 0, 0]  # actions 3 and 4 do not occur
    drawn = dictionary.to_true(torch.tensor([0, 1, 2, 3]).repeat(3000), torch.Generator().manual_seed(0))
    drawn = drawn.reshape(-1, 4)
    assert (drawn[:, 0] == 2).float().mean() == pytest.approx(2 / 3, abs=0.04)
    assert set(drawn[:, 0].tolist()) == {1, 2}
    assert set(drawn[:, 1].tolist()) == {1}
    assert torch.bincount(drawn[:, 2]).float() / 3000 == pytest.approx(torch.full((5,), 0.2), abs=0.04)
    # Action 1 occurs with latent action 0 (nothing moves) most often, like every action; but 1 occurs only with it.
    latents, keys = torch.tensor([0] * 20 + [0, 0, 0, 1, 1]), torch.tensor([0] * 20 + [1] * 5)
    assert Dictionary(latents, keys, 2, 2).to_latent() == [0, 1]
    with pytest.raises(JinnError, match="25 latent actions for 5"):
        Dictionary(latents, keys[:5], 2, 2)
    with pytest.raises(JinnError, match="0 to 0"):
        Dictionary(latents, keys, 1, 2)


def test_a_rare_pair_does_not_win_and_a_wall_does_not_hide_an_action() -> None:
    # Latent action 0 is "nothing moves". Action 1 stands at a wall in most steps, and moves (1) in the others; once, by
    # chance, latent action 2 is seen with it.
    latents = torch.tensor([0] * 60 + [1] * 3 + [0] * 27 + [1] * 12 + [2])
    keys = torch.tensor([0] * 63 + [1] * 40)
    assert Dictionary(latents, keys, 3, 2).to_latent() == [0, 1]


def test_a_minute_of_play_teaches_the_keys(tmp_path: Path) -> None:
    store = write_game(tmp_path, episodes=8, length=60)
    labels = np.concatenate([store.actions(episode, 0, 60) for episode in range(8)])
    labels[labels >= 0] = np.array(LATENTS)[labels[labels >= 0]]
    labels[::3] = np.where(labels[::3] >= 0, 3, -1)  # a wall in every third step
    taught = teach(labels, store, 5)
    assert [key.name for key in taught.keys] == list(ACTIONS)
    assert [key.latent for key in taught.keys] == LATENTS
    assert sum(key.count for key in taught.keys) == 8 * 59
    assert 0.6 < taught.agreement < 0.85
    assert 0.15 < taught.guessing < 0.3
    stay, left = taught.keys[:2]
    assert stay.seen == 1
    assert 0.2 < stay.otherwise < 0.5
    assert left.otherwise == 0
    shuffled = labels.copy()
    shuffled[labels >= 0] = np.random.default_rng(0).permutation(labels[labels >= 0])
    nothing = teach(shuffled, store, 5)
    assert nothing.agreement == pytest.approx(nothing.guessing, abs=0.05)


def test_actions_are_named_after_their_game(tmp_path: Path) -> None:
    def store(name: str, names: tuple[str, ...] | None) -> FrameStore:
        with StoreWriter(tmp_path / name, (32, 32), 10, 2, action_names=names) as writer:
            writer.append(np.zeros((3, 32, 32, 3), np.uint8))
            writer.end_episode(name, np.array([0, 1, -1]))
        return FrameStore.open(tmp_path / name)

    assert key_names(store("named", ("up", "down"))) == ("up", "down")
    unknown = store("unknown", None)
    assert key_names(unknown) == ("action 0", "action 1")
    assert key_names(unknown, ["left", " right"]) == ("left", "right")
    for names in (["left"], ["left", ""]):
        with pytest.raises(JinnError, match="has 2 actions: give as many names"):
            key_names(unknown, names)


# ---- The command ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("sees_the_sprite")
def test_a_world_is_taught_in_place_and_plays_by_its_keys(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["teach", str(folder), "synthetic:game", "--frames", "500"]) == 0
    words = said(capsys)
    assert "left" in words
    assert "by guessing it would be" in words
    assert "NMI" in words
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "keys.json"} == before
    world = World.load(folder)
    assert world.keys is not None
    assert [(key.name, key.latent) for key in world.keys] == list(zip(ACTIONS, LATENTS, strict=True))
    assert main(["info", str(folder)]) == 0
    assert "seen otherwise" in said(capsys)

    envs, latent = WorldVectorEnv(2, folder), WorldVectorEnv(2, folder, actions="latent")
    given = WorldVectorEnv(2, folder, actions=[2])
    assert [e.single_action_space.n for e in (envs, latent, given)] == [5, 5, 1]
    envs.reset(seed=0)
    latent.reset(seed=0)
    assert np.array_equal(envs.step([1, 4])[0], latent.step([LATENTS[1], LATENTS[4]])[0])

    world.save(folder)
    assert World.load(folder).keys == world.keys
    world.keys = None
    world.save(folder)
    assert World.load(folder).keys is None
    assert WorldVectorEnv(2, folder).map_U.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("sees_the_sprite")
def test_a_store_with_names_of_ones_own_teaches_a_copy(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_game(tmp_path / "store", episodes=4, length=60)
    (folder / "frame-int8.onnx").write_bytes(b"a graph")
    command = ["teach", str(folder), str(tmp_path / "store"), "--out", str(tmp_path / "copy")]
    assert main([*command, "--names", "wait,A,B,C,D"]) == 0
    assert not (folder / "keys.json").exists()
    copied = {path.name: path.read_bytes() for path in (tmp_path / "copy").iterdir()}
    assert copied.pop("keys.json")
    assert copied == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert weights_digest(tmp_path / "copy") == weights_digest(folder)  # so its graph is played
    copy = World.load(tmp_path / "copy")
    assert [button.name for button in buttons(copy)] == ["wait", "A", "B", "C", "D"]
    state, _ = copy.reset(copy.prompts[:1, None])
    copy.step(state, torch.tensor([LATENTS[1]]))
    said(capsys)
    assert main(command) == 2
    assert "copy exists already: name a new folder" in said(capsys)


def test_mistakes_are_sentences_with_exit_code_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with StoreWriter(tmp_path / "video", (32, 32), 10) as writer:
        writer.append(np.zeros((20, 32, 32, 3), np.uint8))
        writer.end_episode("a.mp4")
    write_game(tmp_path / "large", episodes=1, length=20, size_hw=(64, 64))
    write_game(tmp_path / "small", episodes=1, length=20)
    built_in = {path: path.stat().st_mtime_ns for path in (BUILT_IN / "coinrun").iterdir()}
    for arguments, words in (
        ((folder, tmp_path / "video"), "has no true actions: record an environment"),
        ((folder, tmp_path / "large"), "frames are 64x64 but this model was trained on 32x32"),
        ((folder, tmp_path / "small", "--names", "a,b"), "has 5 actions: give as many names"),
        ((folder, tmp_path / "small", "--frames", 9), "--frames and --env are for environments"),
        ((folder, "synthetic:game", "--frames", 0), "above zero"),
        ((folder, "nowhere"), "nowhere is not a frame store"),
        (("coinrun", tmp_path / "small"), "coinrun is built in and stays as it is: name a folder"),
        ((BUILT_IN / "coinrun", tmp_path / "small"), "built in and stays as it is"),
    ):
        assert main(["teach", *map(str, arguments)]) == 2, arguments
        assert words in said(capsys)
    assert not (folder / "keys.json").exists()
    assert {path: path.stat().st_mtime_ns for path in (BUILT_IN / "coinrun").iterdir()} == built_in


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "is damaged: remove it"),
        ({"keys": 1}, "is damaged.*: remove it"),
        ([{"name": "left"}], "lacks the keys"),
        ([{"name": 3, "latent": 0, "count": 1, "seen": 1.0, "otherwise": 0.0}], "is damaged.*: remove it"),
        ([{"name": "up", "latent": 5, "count": 1, "seen": 1.0, "otherwise": 0.0}], "the world has 0 to 4"),
    ],
)
def test_damaged_keys_are_reported(folder: Path, values: object, words: str) -> None:
    (folder / "keys.json").write_text(json.dumps(values))
    with pytest.raises(JinnError, match=words):
        World.load(folder)


# ---- The player -------------------------------------------------------------------------------------------


def test_the_buttons_of_a_taught_world_are_its_keys() -> None:
    world = make_world()
    assert buttons(world)[1] == Button("b", 1)
    world.legend = None
    assert buttons(world)[1] == Button("action 2", 1)
    world.keys = [Key("left", 2, 9, 1.0, 0.0), Key("Q", 2, 0, 0.0, 0.0), Key("right", 2, 5, 1.0, 0.0)]
    assert buttons(world) == [Button("left", 2), Button("right", 2)]  # Q was never pressed
