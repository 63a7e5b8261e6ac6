"""A published site as files: what it holds, what it says, and that its graphs compute what Python computes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from helpers_world import small_world
from jinn.cli import main
from jinn.cli.publish import check_speed
from jinn.data.images import Fit, resize
from jinn.errors import JinnError
from jinn.models.maskgit import frame_noise
from jinn.player.api import STATIC
from jinn.player.publish import Exported, Site, frames_per_second, publish
from jinn.player.runtime import SCRIPT, WASM, Runtime, find_runtime
from jinn.world.graph import INPUTS, name_tensors
from jinn.world.web import export_web
from jinn.world.world import World
from tiny_world import tiny_world

pytest_plugins = ["helpers_publish"]

RUNTIME = Runtime(b"script", b"wasm" * 100)
SITE = Site("Two <worlds>", 'A "street".', "https://me.example/street")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, exported: Exported) -> Path:
    """The site of two worlds, without a runtime that works."""
    out = tmp_path_factory.mktemp("two") / "site"
    sizes = publish({"tiny": exported, "other": exported}, out, SITE, RUNTIME)
    assert sizes == {
        str(path.relative_to(out)): path.stat().st_size for path in out.rglob("*") if path.is_file()
    }
    return out


def unpack(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What a world's page is told, and the parts of its pack."""
    world = json.loads((folder / "api/world").read_text())
    pack = world["model"]["pack"]
    packed = (folder / pack["file"]).read_bytes()
    assert len(packed) == pack["bytes"]
    assert hashlib.sha256(packed).hexdigest() == pack["sha256"]
    data = gzip.decompress(packed)
    return world, {name: data[begin:end] for name, (begin, end) in world["model"]["parts"].items()}


def session_of(parts: dict[str, bytes], name: str, folder: Path) -> onnxruntime.InferenceSession:
    (folder / "weights.bin").write_bytes(parts["weights"])
    (folder / f"{name}.onnx").write_bytes(parts[name])
    return onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])


# ---- The folder -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_links_are_relative(two: Path) -> None:
    for page in (two / "index.html", two / "tiny/index.html"):
        links = re.findall(r'(?:src|href|url)=["\']?([^"\'\s>]+)', page.read_text())
        for link in links:
            if not link.startswith("data:"):
                assert (page.parent / link).exists(), link
    html = (two / "other/index.html").read_text()
    assert '<script type="module" src="../static/play.js">' in html
    assert "<title>Two &lt;worlds&gt;</title>" in html
    assert 'content="https://me.example/street/preview.png"' in html
    assert "&quot;street&quot;" in html


@pytest.mark.slow
def test_the_service_worker_lists_every_file_that_a_page_loads(two: Path) -> None:
    first, _, rest = (two / "sw.js").read_text().partition("\n")
    assert rest == (STATIC / "sw.js").read_text()
    listed = json.loads(first.removeprefix("const SITE = ").removesuffix(";"))
    assert {"", "tiny/", "other/", "static/play.js", "tiny/api/world", f"ort-1.30.0/{SCRIPT}"} <= {
        *listed["files"]
    }
    assert len(listed["packs"]) == 3
    for path in (*listed["files"], *listed["packs"]):
        assert (two / path).exists()


@pytest.mark.slow
def test_pictures_for_people(two: Path, saved_world: World) -> None:
    assert Image.open(two / "preview.png").size == (1200, 630)
    for icon in json.loads((two / "manifest.webmanifest").read_text())["icons"]:
        assert "x".join(map(str, Image.open(two / icon["src"]).size)) == icon["sizes"]
    prompt = np.array(Image.open(two / "tiny/api/prompts/2.png"))
    np.testing.assert_array_equal(prompt, saved_world.prompts[2])


@pytest.mark.slow
def test_a_site_is_replaced_and_other_folders_are_refused(tmp_path: Path, exported: Exported) -> None:
    publish({"tiny": exported}, tmp_path / "site", Site("A", "b"), RUNTIME)
    (tmp_path / "site/CNAME").write_text("me.example")
    [old] = (tmp_path / "site").glob("ort-*/*.pack")
    publish({"tiny": exported}, tmp_path / "site", Site("A", "b"), Runtime(b"script", b"other"))
    assert not old.exists()
    assert len([*(tmp_path / "site").glob("ort-*/*.pack")]) == 1
    assert (tmp_path / "site/CNAME").read_text() == "me.example"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(JinnError, match="name a new folder"):
        publish({"tiny": exported}, tmp_path / "mine", Site("A", "b"), RUNTIME)


# ---- The world ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_page_is_told_what_it_can_set(two: Path, saved_world: World) -> None:
    world, _ = unpack(two / "tiny")
    own = saved_world.config.sampling
    assert world["steps_range"] == [own.steps] * 2
    assert world["temperature_range"] == [own.temperature] * 2
    assert world["doubt_range"] == [-1, 1]
    assert world["id"].endswith("-web")
    assert not world["text"]
    assert json.loads((two / "tiny/api/worlds").read_text()) == {"worlds": ["tiny", "other"]}


@pytest.mark.slow
def test_graphs_compute_what_python_computes(two: Path, saved_world: World, tmp_path: Path) -> None:
    told, parts = unpack(two / "tiny")
    frame_BHWC = saved_world.prompts[1:2]
    state, reconstruction = saved_world.reset(frame_BHWC[:, None], seed=7)
    encode, start, frame = (session_of(parts, name, tmp_path) for name in ("encode", "start", "frame"))
    [tokens_BN] = encode.run(None, {"frame_BHWC": frame_BHWC.numpy()})
    # The tiny world's weights are float32, and the pack's have 16 bits: a token on the edge may differ.
    assert (tokens_BN == state.tokens_BN.numpy()).mean() > 0.98
    assert told["model"]["prompts"][1] == state.tokens_BN[0].tolist()

    outputs = [entry.name for entry in start.get_outputs()]
    started = dict(zip(outputs, start.run(None, {"tokens_BN": state.tokens_BN.numpy()}), strict=True))
    keys = state.dynamics_cache.keys_LBNHPC.numpy()
    assert np.abs(started["past_keys_LBNHPC"] - keys).max() < 0.1 * np.abs(keys).max()
    assert np.abs(started["frame_BHWC"].astype(int) - reconstruction.numpy()).mean() < 3

    noise = saved_world.noise(state)
    assert list(noise.shape[:1] + noise.shape[2:]) == told["model"]["noise"]
    python = saved_world.with_backend("onnx-int8")
    after, pixels = python.step(state, torch.tensor([3]))
    doubt_B = torch.tensor([saved_world.config.sampling.doubt])
    arguments = [*state[:3], torch.tensor([3]), noise, doubt_B]
    wanted = {entry.name for entry in frame.get_inputs()}
    inputs = {name: x.numpy() for name, x in name_tensors(arguments, INPUTS).items() if name in wanted}
    names = [entry.name for entry in frame.get_outputs()]
    result = dict(zip(names, frame.run(None, inputs), strict=True))
    assert (result["next_tokens_BN"] == after.tokens_BN.numpy()).mean() > 0.95
    assert np.abs(result["frame_BHWC"].astype(int) - pixels.numpy()).mean() < 3


@pytest.mark.long
@pytest.mark.parametrize("kind", ["video-tokenizer", "conv-tokenizer"])
def test_graphs_of_other_tokenizers_play_one_after_the_other(kind: str, tmp_path: Path) -> None:
    small_world(kind).save(tmp_path / "world")
    world = World.load(tmp_path / "world")
    web = export_web(world, tmp_path / "world")
    parts = {**web.graphs, "weights": web.weights}
    start, frame = (session_of(parts, name, tmp_path) for name in ("start", "frame"))
    state, _ = world.reset(world.prompts[:1, None], seed=7)
    outputs = [entry.name for entry in start.get_outputs()]
    tensors = dict(zip(outputs, start.run(None, {"tokens_BN": state.tokens_BN.numpy()}), strict=True))
    tensors["tokens_BN"] = state.tokens_BN.numpy()
    wanted = {entry.name for entry in frame.get_inputs()}
    assert wanted <= {*tensors, "actions_B", "noise_SBNU"}
    for step in range(3):
        noise = {"noise_SBNU": world.noise(state).numpy(), "actions_B": np.array([step])}
        result = frame.run(None, {name: x for name, x in (tensors | noise).items() if name in wanted})
        names = [entry.name.removeprefix("next_") for entry in frame.get_outputs()]
        tensors = dict(zip(names, result, strict=True))
        state, pixels = world.step(state, torch.tensor([step]))
        if step == 0:  # later ones differ where a token did
            assert np.abs(tensors["frame_BHWC"].astype(int) - pixels.numpy()).mean() < 12
    assert tensors["past_frames_B"] == state.dynamics_cache.frames_B.numpy()


@pytest.mark.slow
def test_equal_weights_lie_there_once(two: Path) -> None:
    _, parts = unpack(two / "tiny")
    places: dict[str, set[tuple[str, str]]] = {}
    for name in ("start", "frame"):
        model = onnx.load_from_string(parts[name])
        for constant in model.graph.initializer:
            entries = {entry.key: entry.value for entry in constant.external_data}
            if entries:
                places.setdefault(name, set()).add((entries["offset"], entries["length"]))
    shared = sum(int(length) for _, length in places["start"] & places["frame"])
    assert shared > 0.7 * sum(int(length) for _, length in places["start"])


def test_a_world_too_heavy_for_a_browser_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    fast = frames_per_second(tiny_world())
    assert fast > 100
    check_speed("tiny", fast, 5.0, anyway=False)
    with pytest.raises(JinnError, match=r"street would play at about 0\.3 frames .* --anyway"):
        check_speed("street", 0.3, 5.0, anyway=False)
    check_speed("street", 0.3, 5.0, anyway=True)
    assert "0.3 frames" in capsys.readouterr().out


# ---- The runtime ----------------------------------------------------------------------------------------


def test_a_wrong_runtime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JinnError, match=f"there is no {re.escape(SCRIPT)}"):
        find_runtime(tmp_path)
    for name in (SCRIPT, WASM):
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(JinnError, match="checksum"):
        find_runtime(tmp_path)


@pytest.mark.parametrize("npm", [None, "exit 1", "true", "echo cut > onnxruntime-web-1.30.0.tgz"])
def test_a_runtime_that_cannot_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, npm: str | None
) -> None:
    """Without npm, without a network, with no file and with a download that was cut off."""
    monkeypatch.setenv("JINN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    if npm is not None:
        program = tmp_path / "bin/npm"
        program.write_text(f"#!/bin/sh\n{npm}\n")
        program.chmod(0o755)
    with pytest.raises(JinnError, match="--runtime FOLDER"):
        find_runtime()


def test_the_command_line_says_what_is_wrong(
    tmp_path: Path, saved_world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert saved_world.folder is not None
    command = ["publish", str(saved_world.folder), "--out", str(tmp_path / "site")]
    assert main([*command, "--runtime", str(tmp_path)]) == 2
    assert "--runtime" not in capsys.readouterr().out
    (tmp_path / "site").mkdir()
    (tmp_path / "site/letter.txt").write_text("dear")
    assert main(command) == 2
    assert "name a new folder" in capsys.readouterr().err


# ---- The page's own arithmetic --------------------------------------------------------------------------

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="the page's modules are run by node")


def run_in_node(names: str, module: str, expression: str) -> Any:
    """The value of an expression of the names that a module of the page exports."""
    script = f"import {{ {names} }} from '{(STATIC / module).as_uri()}'; console.log(JSON.stringify({expression}));"
    assert NODE is not None
    command = [NODE, "--input-type=module", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@needs_node
@pytest.mark.parametrize(("seed", "frame"), [(0, 0), (7, 3), (2**32 - 1, 199), (123456789, 100_000)])
def test_noise_is_that_of_python_bit_for_bit(seed: int, frame: int) -> None:
    wanted = frame_noise(torch.tensor([seed]), torch.tensor([frame]), 3, 64, 6).flatten()
    found = run_in_node("frameNoise", "noise.js", f"[...frameNoise({seed}, {frame}, {len(wanted)})]")
    assert torch.equal(torch.tensor(found, dtype=torch.float64), wanted.double())


@needs_node
@pytest.mark.parametrize("size_hw", [(50, 70), (64, 64), (129, 64), (31, 45), (20, 9)])
def test_pictures_are_fitted_in_as_in_python(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    pixels_HWC = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    rgba = np.dstack([pixels_HWC, np.full(size_hw, 255, np.uint8)]).flatten().tolist()
    picture = f"{{ data: {rgba}, width: {width}, height: {height} }}"
    fits = get_args(Fit)
    calls = ", ".join(f"[...resize({picture}, 32, 32, '{fit}')]" for fit in fits)
    for fit, found in zip(fits, run_in_node("resize", "crop.js", f"[{calls}]"), strict=True):
        np.testing.assert_array_equal(found, resize(pixels_HWC[None], (32, 32), fit).flatten())


@needs_node
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "fine"),
        ({"prompt": {"pictures": ["data:image/png;base64,AAAA"]}}, "fine"),
        ({"world": {"id": None}}, "fine"),
        ({"prompt": {"pictures": ["data:image/png;base64,A"]}}, "damaged"),
        ({"prompt": {"pictures": ["data:image/png;base64,!!!!"]}}, "damaged"),
        ({"prompt": {"pictures": ["data:image/png;base64,"]}}, "damaged"),
        ({"keys": [{"action": 1, "steps": 2, "frames": 10**6}] * 2000}, "damaged"),  # more than memory holds
    ],
)
def test_a_session_is_read_or_refused(changes: dict[str, Any], words: str) -> None:
    keys = [{"action": 1, "steps": 2, "frames": 3}]
    session = {
        "format": "jinn session",
        "version": 1,
        "prompt": {"index": 0},
        "seed": 7,
        "keys": keys,
    } | changes
    world = {"id": "a-b", "actions": 5, "prompts": 3, "max_clip_frames": 4, "sampling": {}}
    world |= {"steps_range": [1, 25], "temperature_range": [0, 4]}
    deep = f"JSON.stringify({json.dumps(session)}).replace('null', '['.repeat(9e4) + ']'.repeat(9e4))"
    call = f"readSession({deep}, {json.dumps(world)}).script.length"
    read = (
        f"(() => {{ try {{ return {call} === 3 && 'fine'; }} catch (error) {{ return error.message; }} }})()"
    )
    assert words in run_in_node("readSession", "tape.js", read)


def gif_of(frames: Sequence[np.ndarray], fps: float) -> Image.Image:
    arrays = ", ".join(f"Uint8Array.from({frame.flatten().tolist()})" for frame in frames)
    height, width = frames[0].shape[:2]
    call = f"gif([{arrays}], {width}, {height}, {fps}, 3).flatMap((part) => [...part])"
    return Image.open(io.BytesIO(bytes(run_in_node("gif", "gif.js", call))))


@needs_node
def test_a_gif_has_the_frames_and_their_times() -> None:
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 256, (200, 3), dtype=np.uint8)  # no more than a palette holds
    frames = [colours[generator.integers(0, 200, (24, 16))] for _ in range(7)]
    film = gif_of(frames, 15)
    durations = []
    for index, frame_HWC in enumerate(frames):
        film.seek(index)
        durations.append(film.info["duration"])
        shown = np.array(film.convert("RGB"))
        np.testing.assert_array_equal(shown, frame_HWC.repeat(3, 0).repeat(3, 1))
    assert (film.n_frames, film.info["loop"]) == (7, 0)
    assert sum(durations) == 470


@needs_node
def test_a_gif_of_many_colours_is_close() -> None:
    """More colours than a palette holds, and more pixels than one table of codes."""
    frame_HWC = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    shown = np.array(gif_of([frame_HWC, frame_HWC], 10).convert("RGB"))
    apart = np.abs(shown.astype(int) - frame_HWC.repeat(3, 0).repeat(3, 1))
    assert apart.mean() < 20
