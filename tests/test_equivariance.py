"""`scripts/equivariance.py`, on an untrained world."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from equivariance import main, moved

from jinn.data.synthetic import write_game
from tiny_world import tiny_world


def test_what_is_moved_back_is_what_it_was_but_for_the_edges() -> None:
    frames_BTHWC = torch.randint(0, 256, (4, 3, 16, 16, 3), dtype=torch.uint8)
    shifts_B2 = torch.tensor([[2, 1], [-1, 2], [0, -2], [2, 2]])
    back_BTHWC = moved(moved(frames_BTHWC, shifts_B2), -shifts_B2)
    assert torch.equal(back_BTHWC[:, :, 2:-2, 2:-2], frames_BTHWC[:, :, 2:-2, 2:-2])
    assert not torch.equal(back_BTHWC, frames_BTHWC)


def test_prompts_that_are_not_moved_lead_to_the_same_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_world().save(tmp_path / "world")
    write_game(tmp_path / "store", episodes=4, length=12, seed=0)
    main(str(tmp_path / "world"), tmp_path / "store", shifts=(0, 4), steps=(1, 3), clips=4)
    lines = capsys.readouterr().out.splitlines()
    names = ["other random numbers"]
    names += [f"moved by {shift} {where}" for shift in (0, 4) for where in ("and back", "only")]
    assert [line.partition(":")[0] for line in lines] == names
    first, last = ([float(x) for x in re.findall(r"([\d.]+) \[", line)] for line in (lines[1], lines[3]))
    assert min(first) >= 100 > max(last)
