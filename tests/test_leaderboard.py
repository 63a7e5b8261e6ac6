"""Leaderboards: anybody's world model behind two functions is measured as ours are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers_evaluation import STEPS_A2, TrueGame, measure_little, no_networks
from helpers_world import make_world
from jinn.cli import main
from jinn.data.store import FrameStore
from jinn.data.synthetic import CELL, write_game
from jinn.errors import JinnError
from jinn.evaluation import leaderboard, protocol
from jinn.evaluation.leaderboard import OurWorld, checksum, contestant, measure
from jinn.evaluation.protocol import LEADERBOARDS, Leaderboard, Protocol

FEW = Protocol(clips=12, frames=6, draws=1, long_rollouts=3, long_frames=60)


@pytest.fixture(autouse=True)
def little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINN_CACHE", str(tmp_path / "cache"))
    measure_little(monkeypatch)
    monkeypatch.setattr(leaderboard, "load_networks", no_networks)


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> FrameStore:
    return write_game(tmp_path_factory.mktemp("game") / "store", episodes=24, length=60, seed=500)


class Itself:
    """The synthetic game as a contestant, played by its own actions, as another program would write it."""

    name, num_actions = "the game", 5

    def __init__(self, store: FrameStore) -> None:
        self.game = TrueGame(store)

    def reset(self, frames_BHWC: np.ndarray) -> None:
        self.boards_BHWC, self.cells_B2 = self.game.parse(torch.from_numpy(frames_BHWC))

    def step(self, actions_B: np.ndarray) -> np.ndarray:
        edge = torch.tensor(self.game.size_hw) // CELL - 1
        self.cells_B2 = (self.cells_B2 + STEPS_A2[actions_B]).clamp_min(0).minimum(edge)
        return self.game.render(self.boards_BHWC, self.cells_B2).numpy()


class Still(Itself):
    """A model that always shows its prompt."""

    name = "still"

    def step(self, actions_B: np.ndarray) -> np.ndarray:
        return self.game.render(self.boards_BHWC, self.cells_B2).numpy()


def test_the_game_itself_is_perfect_and_a_picture_that_stands_still_is_not(game: FrameStore) -> None:
    perfect, still = (measure(player(game), game, FEW)["estimates"] for player in (Itself, Still))
    assert perfect["psnr"]["value"] > 90  # equal frames
    assert perfect["control/delta_psnr"]["value"] > 10
    assert perfect["stability/random/60/inside"]["value"] > 0.9
    assert perfect["stability/random/60/static"]["value"] == 0
    assert still["psnr"] == still["psnr_copy_last"]
    assert still["control/delta_psnr"]["value"] == 0
    assert still["stability/random/60/static"]["value"] == 1


def test_a_world_of_jinn_is_measured_through_the_same_door(game: FrameStore) -> None:
    world = make_world("conv-tokenizer")
    found = measure(OurWorld(world), game, FEW)
    assert found["actions"] == "its own"
    assert found["clips"] == 12
    assert found["estimates"]["psnr"]["low"] <= found["estimates"]["psnr"]["value"]
    world.trained_on = game.groups[:1]
    with pytest.raises(JinnError, match="was trained on levels of this leaderboard"):
        measure(OurWorld(world), game, FEW)


def test_what_is_no_frame_is_refused(game: FrameStore) -> None:
    class Floats(Still):
        def step(self, actions_B: np.ndarray) -> np.ndarray:
            return super().step(actions_B) / np.float32(255)

    with pytest.raises(JinnError, match="a step returns a uint8 frame"):
        measure(Floats(game), game, FEW)


def test_the_command_measures_a_function_of_a_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache" / "leaderboards" / "coinrun-2026"
    store = write_game(folder, episodes=24, length=60, seed=500)
    board = replace(LEADERBOARDS["coinrun-2026"], protocol=FEW)
    monkeypatch.setitem(LEADERBOARDS, "coinrun-2026", board)
    file = tmp_path / "mine.py"
    tests, path = str(Path(__file__).parent), str(folder)
    file.write_text(
        f"import sys\nsys.path.insert(0, {tests!r})\nfrom test_leaderboard import Itself\n"
        f"from jinn.data.store import FrameStore\ndef mine():\n    return Itself(FrameStore.open({path!r}))\n"
    )
    command = ["eval", f"{file}:mine", "--protocol", "coinrun-2026", "--out", str(tmp_path / "out")]
    assert main(command) == 2  # these are not the frames of the leaderboard
    assert "are not those of coinrun-2026 (checksum" in capsys.readouterr().err
    monkeypatch.setitem(LEADERBOARDS, "coinrun-2026", replace(board, checksum=checksum(store)))
    assert main(command) == 0
    written = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert written["worlds"][0]["world"] == "the game"
    assert written["worlds"][0]["actions"] == "the game's"
    assert main([*command, "--clips", "5"]) == 2
    assert "is the same for everybody" in capsys.readouterr().err


def test_our_world_plays_as_it_does_elsewhere(game: FrameStore) -> None:
    world = make_world("conv-tokenizer")
    player = OurWorld(world, seed=3)
    frames_BHWC = np.stack([game.frames(episode, 0, 1)[0] for episode in range(2)])
    player.reset(frames_BHWC)
    mine = player.step(np.array([0, 1]))
    state, _ = world.reset(torch.from_numpy(frames_BHWC)[:, None], 3)
    assert np.array_equal(mine, world.step(state, [0, 1])[1].numpy())
    with pytest.raises(JinnError):
        contestant("no-such-world", "cpu")


def test_every_leaderboard_names_its_levels_and_frames() -> None:
    for board in LEADERBOARDS.values():
        assert isinstance(board, Leaderboard)
        assert len(board.checksum) == 64
        assert board.levels[0] >= 10_000  # the paper trains on those below
    assert protocol.LEADERBOARDS is LEADERBOARDS
