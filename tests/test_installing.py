"""The Makefile installs, says what it does, and tests briefly."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = "python", "pip", "jinn", "pytest", "ruff", "mypy", "lint-imports", "mkdocs"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def make(folder: Path, *arguments: str) -> list[str]:
    """What `make` prints where each program only prints how it was called, and whether CI is set."""
    programs = folder / "venv" / "bin"
    programs.mkdir(parents=True)
    for name in PROGRAMS:
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" ${{CI+with CI}}\n')
        (programs / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--silent", *arguments, f"VENV={programs.parent}"],
        cwd=ROOT, env=environment | {"CI": "true"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_a_torch_without_cuda_can_be_chosen(tmp_path: Path) -> None:
    torch, rest, started = make(tmp_path, "play", "TORCH_INDEX=https://torch.example")[1:]
    assert "torch --index-url https://torch.example" in torch
    assert "--quiet" not in rest  # pip shows its progress
    assert started.startswith("jinn play")


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64") or shutil.which("nvidia-smi") is not None,
    reason="it is said on Linux on x86-64 without an NVIDIA GPU",
)
def test_the_size_of_cuda_is_said_before_it_is_loaded(tmp_path: Path) -> None:
    said = make(tmp_path, "play")
    assert "3 GB" in said[1]
    assert "make play TORCH_INDEX=https://" in said[2]
    assert said[3].startswith("pip install")


def test_pytest_is_as_brief_in_continuous_integration_as_elsewhere(tmp_path: Path) -> None:
    ran = make(tmp_path, "test", "TORCH_INDEX=https://torch.example")[-1]
    assert ran.startswith("pytest ")
    assert "with CI" not in ran


def test_the_description_on_an_index_has_no_dead_links() -> None:
    """It is README.md after these substitutions, without neighbours."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"\]\((?!https?:)", text)
    for change in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    assert "](https://arxiv.org" in text
    assert re.findall(r"\]\((?!https?:)[^)]*\)?", text) == []
    assert "![" not in text
    assert "the pressed key is below" not in text  # a caption without its picture
    assert "## Play" in text
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for needed in ("Makefile", "scripts", "docs", "tests", "constraints.txt", "mkdocs.yml"):
        assert needed in included
        assert (ROOT / needed).exists()
