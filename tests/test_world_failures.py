"""The script that finds the prompts from which a world falls apart soonest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import world_failures as script
from PIL import Image

from jinn.agents.illuminate import SearchConfig
from jinn.data.synthetic import write_game
from jinn.files import read_json
from tiny_world import tiny_world


def test_the_script_writes_a_test_set_and_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_game(tmp_path / "store", episodes=12, length=41)
    world = tiny_world()
    world.save(tmp_path / "world")
    script.main(
        str(tmp_path / "world"),
        tmp_path / "store",
        tmp_path / "found",
        20,
        SearchConfig(rounds=2, batch=6),
        random=4,
    )
    said, rows = capsys.readouterr().out, read_json(tmp_path / "found.json")
    assert f"frames from the {len(rows)} prompts that were found" in said
    assert {row["episode"] for row in rows} <= set(range(12))
    assert all(row["frame"] % 10 == 0 and 0 < row["inside_for"] <= 20 for row in rows)
    assert [row["inside_for"] for row in rows] == sorted(row["inside_for"] for row in rows)
    shown = Image.open(tmp_path / "found.png")
    assert shown.size == (3 * 32, 32 * min(len(rows), script.SHOWN))
    assert len(script.places(store)) == 12 * 5


def test_real_play_stays_and_grey_pictures_leave_at_once(tmp_path: Path) -> None:
    store = write_game(tmp_path / "store", episodes=40, length=41)
    typical = script.typical_frames(store, 0)

    class Replay:
        """A world that shows a real video, or grey."""

        def __init__(self, grey: bool) -> None:
            self.grey, self.time = grey, 0

        def reset(self, *_: object) -> tuple[None, None]:
            self.time = 0
            return None, None

        def step(self, *_: object) -> tuple[None, torch.Tensor]:
            self.time += 1
            real = torch.from_numpy(
                np.stack([store.frames(i, self.time, self.time + 1)[0] for i in range(8)])
            )
            return None, torch.full_like(real, 128) if self.grey else real

    prompts = script.prompts_at(store, np.stack([np.arange(8), np.zeros(8, int)], -1))
    real, grey = (
        script.lasts(Replay(grey), typical, prompts, np.zeros(8, int), 40)[0]  # type: ignore[arg-type]
        for grey in (False, True)
    )
    assert (real == 40).mean() >= 0.75
    assert (grey == script.LOOK).all()
