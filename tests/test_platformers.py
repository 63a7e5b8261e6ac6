"""The set like the paper's Platformers: it is what its script says, and its recipe learns from it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from helpers_training import SMALL
from jinn.contracts import JinnError
from jinn.data.games import ATARI_NAMES, PROCGEN_NAMES, open_games
from jinn.data.store import FrameStore
from jinn.overrides import override
from jinn.recipes import load_recipe
from jinn.training.run import run_recipe


@pytest.fixture(scope="module")
def platformers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames of each of sixteen attempts at two games, and of one that is unseen."""
    pytest.importorskip("envpool", reason="EnvPool IS MISSING: the set of platformers is not tested")
    from platformers import main

    out = tmp_path_factory.mktemp("platformers")
    main(out, frames=320, unseen_frames=32, games=("CoinrunHard-v0", "Pitfall-v5", "NinjaHard-v0"))
    return out


def test_platformers_are_wide_and_games_are_held_out(platformers: Path) -> None:
    train, unseen = (FrameStore.open(platformers / part) for part in ("train", "unseen"))
    assert train.size_hw == unseen.size_hw == (90, 160)
    assert train.fps == unseen.fps == 10
    games = ["envpool:CoinrunHard-v0", "envpool:Pitfall-v5", "envpool:NinjaHard-v0"]
    names = [[store.source(i) for i in range(store.num_episodes)] for store in (train, unseen)]
    assert {name.split("?")[0].split("#")[0] for name in names[0]} == set(games[:2])
    assert {name.split("#")[0] for name in names[1]} == {games[2]}
    assert train.num_frames == 640
    assert not set(train.groups) & set(unseen.groups)


def test_an_action_has_one_name_in_all_platformers(platformers: Path) -> None:
    """The stored names, given to the games again, lead to the stored frames."""
    store = FrameStore.open(platformers / "unseen")
    assert store.action_names == ATARI_NAMES
    names = [store.action_names[store.actions(i, 0, 2)[0]] for i in range(store.num_episodes)]
    with closing(open_games("envpool:NinjaHard-v0", 0, num_envs=16)) as games:
        first_BHWC, _ = games.reset()
        then_BHWC, *_ = games.step(np.array([PROCGEN_NAMES.index(name) for name in names]))
    # The middle 36 rows of 64, enlarged: each pixel of the games is seen in some of the store.
    for shown, frames_BHWC in ((0, first_BHWC), (1, then_BHWC)):
        stored = [store.frames(i, shown, shown + 1)[0, 1::5, 1::5].astype(int) for i in range(16)]
        assert np.abs(np.stack(stored) - frames_BHWC[:, 14:50:2, ::2]).max() == 0
    assert len(set(names)) > 3


def test_platformers_go_on_and_refuse_unknown_games(platformers: Path, capsys: pytest.CaptureFixture) -> None:
    from platformers import main

    main(platformers, frames=320, unseen_frames=32, games=("CoinrunHard-v0",))
    assert "0 frames of 1 games added" in capsys.readouterr().out
    with pytest.raises(JinnError, match="no game Pacman"):
        main(platformers, games=("Pacman",))


@pytest.mark.long
def test_the_recipe_learns_from_platformers(platformers: Path, tmp_path: Path) -> None:
    recipe = override(load_recipe("platformers_cpu"), SMALL)
    world = run_recipe(recipe, FrameStore.open(platformers / "train"), tmp_path / "run", "platforms")
    assert world.size_hw == (90, 160)
    assert world.tokenizer.grid_hw == (9, 16)
