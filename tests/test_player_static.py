"""The page's modules: no cycle of imports, no long file, no long function."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from jinn.player.api import STATIC

MODULES = sorted(STATIC.glob("*.js"))
FUNCTION = re.compile(r"(?:\bfunction\b.*|=>|^\s+(?:get )?\w+\([^()]*\)) \{$")


def function_lengths(source: str) -> dict[int, int]:
    """The number of lines of every function whose first line ends with its brace, by its first line."""
    lines = source.splitlines()
    lengths = {}
    for start, line in enumerate(lines):
        if FUNCTION.search(line) and not re.match(r"\s*(if|for|while|switch)\b", line):
            depth = 0
            for end in range(start, len(lines)):
                depth += lines[end].count("{") - lines[end].count("}")
                if depth <= 0:
                    break
            lengths[start + 1] = end - start + 1
    return lengths


def test_modules_import_each_other_without_a_cycle() -> None:
    imports = {
        path.name: set(re.findall(r'^import (?:.* from )?"\./([\w-]+\.js)";$', path.read_text(), re.M))
        for path in MODULES
    }
    order = list(TopologicalSorter(imports).static_order())  # raises CycleError
    assert set(order) == set(imports)
    assert order.index("state.js") < order.index("input.js") < order.index("play.js")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_and_functions_are_short(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 250
    assert max(function_lengths(source).values(), default=0) <= 60


def test_functions_are_found() -> None:
    source = (
        "function a(b) {\n  if (b) {\n    c();\n  }\n}\nconst d = () => {\n};\nclass E {\n  f(g) {\n  }\n}\n"
    )
    assert function_lengths(source) == {1: 5, 6: 2, 9: 2}
