"""Folders of worlds that are damaged, of a newer version, or written in other ways: one sentence, or the world."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from helpers_world import make_world
from jinn.contracts import JinnError
from jinn.files import read_tensors
from jinn.world.graph import weights_digest
from jinn.world.world import World


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The config of the world in `folder`, to be changed."""
    folder = tmp_path_factory.mktemp("config")
    make_world().save(folder)
    values: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_world().save(tmp_path)
    return tmp_path


def put(path: str, value: object) -> Callable[[Any], object]:
    """A change of one value of nested dicts."""

    def change(values: Any) -> object:
        *groups, name = path.split(".")
        inner = values
        for group in groups:
            inner = inner[group]
        inner[name] = value
        return values

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: [], "is damaged"),
        (lambda _: None, "is damaged"),
        (put("dynamics", None), "dynamics is damaged: null"),
        (put("dynamics", 5), "is damaged"),
        (put("tokenizer", "conv"), 'tokenizer is damaged: "conv"'),
        (put("dynamics.transformer.layers", "two"), 'layers is damaged: "two" is not a whole number'),
        (put("dynamics.transformer.layers", True), "is not a whole number"),
        (put("dynamics.transformer.layers", 10**9), "at most 1000 layers"),
        (put("dynamics.transformer.layers", 9), "do not fit"),
        (put("dynamics.transformer.window", 10**9), "window of 1000"),
        (put("sampling.steps", 10**9), "from 1 to 1000 steps"),
        (put("dynamics.transformer.layers", 0), "at least 1"),
        (put("dynamics.transformer.width", 10**9), "damaged|do not fit"),
        (put("dynamics.transformer.width", 2**62), "damaged|do not fit"),
        (put("latent_actions.patch", 0), "no model has such sizes"),
        (put("tokenizer.size_hw", [32]), "size_hw is damaged"),
        (put("tokenizer.size_hw", [32, "32"]), r"size_hw\[1\] is damaged"),
        (put("tokenizer.size_hw", [10**6, 10**6]), "damaged|do not fit"),
        (put("sampling.temperature", None), "temperature is damaged: null is not a number"),
        (put("sampling.temperature", float("nan")), "temperature is damaged"),
        (put("sampling.schedule", "sine"), "schedule is damaged"),
        (put("fps", 0), "fps is above 0"),
        (put("name", None), "name is damaged"),
        (put("name", "half \ud800"), "half a character"),
        (put("dynamics.transformer.feedforward", -2), "not negative"),
        (put("dynamics.transformer.temporal_every", -1), "not negative"),
        (put("colour", 1), r"unknown keys \['colour'\]"),
        (put("format_version", 2), "newer jinn"),
        (lambda c: put("format_version", 2)(put("colour", 1)(c)), "newer jinn"),
    ],
)
def test_a_damaged_config_is_one_sentence(
    change: Callable[[Any], object], words: str, config: dict[str, Any], folder: Path
) -> None:
    (folder / "config.json").write_text(json.dumps(change(json.loads(json.dumps(config)))))
    with pytest.raises(JinnError, match=words):
        World.load(folder)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config.json", "[" * 100_000, "damaged"),
        ("config.json", "\xff", "damaged"),
        ("legend.json", "null", "legend.json is damaged"),
        ("legend.json", "[1]", "damaged"),
        ("legend.json", '[{"name": 1, "down": 0, "right": 0, "fraction": 1}]', "damaged"),
        ("legend.json", '[{"name": "\\ud800", "down": 0, "right": 0, "fraction": 1}]', "half a character"),
        ("keys.json", "{}", "keys.json is damaged"),
        ("keys.json", '[{"name": "\\udfff", "latent": 0, "count": 1, "seen": 1, "otherwise": 0}]', "half a"),
        ("keys.json", "[]", "keys.json is damaged"),
        ("trained_on.safetensors", "words", "damaged"),
    ],
)
def test_other_damaged_files_are_one_sentence(file: str, text: str, words: str, folder: Path) -> None:
    (folder / file).write_text(text, encoding="latin-1")
    with pytest.raises(JinnError, match=words):
        World.load(folder)


@pytest.mark.parametrize(
    ("file", "tensors"),
    [
        ("prompts.safetensors", {"frames_PHWC": torch.zeros(1, 8, 8, 3, dtype=torch.uint8)}),
        ("prompts.safetensors", {"frames_PHWC": torch.zeros(1, 32, 32, 3)}),
        ("prompts.safetensors", {"frames": torch.zeros(1, 32, 32, 3, dtype=torch.uint8)}),
        ("trained_on.safetensors", {"levels": torch.zeros(3, dtype=torch.int64)}),
    ],
)
def test_tensors_that_do_not_fit_are_one_sentence(
    file: str, tensors: dict[str, torch.Tensor], folder: Path
) -> None:
    save_file(tensors, folder / file)
    with pytest.raises(JinnError, match=file):
        World.load(folder)


def test_sharded_weights_are_loaded(folder: Path) -> None:
    whole, digest = read_tensors(folder / "model.safetensors"), weights_digest(folder)
    (folder / "model.safetensors").unlink()
    names = sorted(whole)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, part in shards.items():
        save_file({name: whole[name] for name in part}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {name: file for file, part in shards.items() for name in part}})
    )
    loaded = World.load(folder)
    assert all(torch.equal(value, whole[name]) for name, value in loaded.state_dict().items())
    assert weights_digest(folder) != digest
    for text in ("[]", "{}", '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(JinnError, match=r"index\.json is damaged"):
            World.load(folder)
    index.write_text('{"weight_map": {"x": "nowhere.safetensors"}}')
    with pytest.raises(JinnError, match=r"nowhere\.safetensors is damaged"):
        World.load(folder)


def test_compiled_parts_are_saved_under_their_own_names(tmp_path: Path) -> None:
    world = make_world()
    before = {name: value.clone() for name, value in world.state_dict().items()}
    world.dynamics = torch.compile(world.dynamics)  # type: ignore[assignment]
    world.save(tmp_path)
    loaded = World.load(tmp_path).state_dict()
    assert loaded.keys() == before.keys()
    assert all(torch.equal(loaded[name], value) for name, value in before.items())
