"""The documentation names what exists."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from jinn.cli import parse

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "jinn"


def names_of(file: Path) -> set[str]:
    """Functions, classes and constants of a module, and ``Class.member`` for methods and fields."""

    def defined(body: list[ast.stmt], prefix: str) -> set[str]:
        found: set[str] = set()
        for node in body:
            if isinstance(node, ast.FunctionDef):
                found.add(prefix + node.name)
            elif isinstance(node, ast.ClassDef):
                found |= {prefix + node.name} | defined(node.body, f"{node.name}.")
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(prefix + node.target.id)
            elif isinstance(node, ast.Assign):
                found |= {prefix + name.id for name in node.targets if isinstance(name, ast.Name)}
        return found

    return defined(ast.parse(file.read_text(encoding="utf-8")).body, "")


def claims(page: str) -> list[tuple[str, str | None]]:
    """The last column of every table: each file, and each name with the file before it."""
    found: list[tuple[str, str | None]] = []
    for line in page.splitlines():
        if line.startswith("| ") and not line.startswith("| The paper"):
            file = ""
            for word in re.findall(r"`([^`]+)`", line.rstrip(" |").rsplit(" | ", 1)[1]):
                file = word if word.endswith(".py") else file
                found.append((file, None if word == file else word))
    return found


PAPER = claims((ROOT / "docs" / "paper.md").read_text(encoding="utf-8"))


def test_the_table_of_the_paper_is_read() -> None:
    assert claims("| x | `no` | `a.py` `B.c`; `d.py` |") == [("a.py", None), ("a.py", "B.c"), ("d.py", None)]
    assert len(PAPER) > 60
    assert {"VQ.forward", "COMMITMENT", "VQConfig.codes"} <= names_of(SOURCE / "models" / "quantize.py")


@pytest.mark.parametrize("file", sorted({file for file, _ in PAPER}))
def test_the_table_of_the_paper_names_what_exists(file: str) -> None:
    assert (SOURCE / file).is_file()
    missing = {name for where, name in PAPER if where == file and name} - names_of(SOURCE / file)
    assert not missing


# Commands


def commands(page: str) -> list[list[str]]:
    """The words of every `jinn` command in the fenced blocks of a page, without those that are abridged (...)."""
    found: list[list[str]] = []
    for block in re.findall(r"^```(?:\w*)\n(.*?)^```", page, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.partition(" | ")[0], comments=True) if "jinn" in line else []
            for name in ("jinn", "jinn.cli"):
                if (
                    name in words
                    and "..." not in line
                    and not line.startswith((">>>", "import", "from", "with"))
                ):
                    found.append(words[words.index(name) + 1 :])
    return found


PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *SOURCE.glob("world/built_in/*/README.md"),
]
COMMANDS = [(page.name, command) for page in PAGES for command in commands(page.read_text(encoding="utf-8"))]


def test_commands_are_found() -> None:
    page = "```\ntorchrun -m jinn train A \\\n    --out B  # why\njinn plan ...\n```\njinn x\n"
    assert commands(page) == [["train", "A", "--out", "B"]]
    assert len(COMMANDS) > 20


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{p}: {' '.join(c)}"[:70] for p, c in COMMANDS])
def test_every_command_of_the_documentation_parses(page: str, command: list[str]) -> None:
    parse(command)
