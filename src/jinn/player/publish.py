"""Worlds as a folder of plain files, for any web server: the same page, with the model in the player's own browser.

    index.html                 the page of the only world, or the way to the first of several
    NAME/index.html            the page of each of several
    [NAME/]api/...             what a server would answer, see docs/protocol.md
    [NAME/]model-*.pack        the world's graphs and weights (`jinn.world.web`), compressed
    static/, ort-*/            the page's modules and ONNX Runtime Web, which all worlds share
    sw.js, manifest.webmanifest, icon-*.png, preview.png, README.md

All links are relative, so the folder may lie anywhere on a host. A pack is named by its content: a browser never takes
an old one for a new one.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import torch
from torch.utils.flop_counter import FlopCounterMode

from jinn.errors import JinnError
from jinn.files import TEMPORARY, replacing, write_json
from jinn.player.api import STATIC, card, describe_world
from jinn.player.decoders import Decoders
from jinn.player.pictures import to_png
from jinn.player.preview import draw_icon, draw_preview
from jinn.player.protocol import Limits
from jinn.player.runtime import PACKAGE, SCRIPT, WASM, Runtime
from jinn.player.shared import Shared
from jinn.world.web import WebWorld
from jinn.world.world import World

RUNTIME = f"ort-{PACKAGE.rpartition('@')[2]}"  # the folder of the runtime
UNFINISHED = ".jinn-publish"  # lists the files of a site that is being written, and of the one before
SITE = "const SITE = "  # how sw.js begins, which lists the files of the site
SLOWEST = 5.0  # frames per second; a slower world is refused
# Floating-point operations per second of WebAssembly on one core of a usual laptop, from the built-in worlds.
FLOPS = 30e9
NO_TEXT = "this page plays without a server, and only jinn play --text starts from a text"
# Nothing is loaded from elsewhere. WebAssembly counts as a script that is evaluated.
POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "form-action 'none'; base-uri 'none'"
)


class Site(NamedTuple):
    """What is said of a site.

    Attributes:
        title: of the page, for people.
        description: one sentence for previews of links.
        address: where it will be, such as ``https://me.github.io/street/``; previews of links want the whole address
            of a picture. Empty if that is not known.
    """

    title: str
    description: str
    address: str = ""


class Exported(NamedTuple):
    """A world with its graphs, from `jinn.world.web.export_web`."""

    world: World
    web: WebWorld


def publish(worlds: dict[str, Exported], out: Path, site: Site, runtime: Runtime) -> dict[str, int]:
    """Write the site of worlds, by the names of their folders in it; returns the size of every file in bytes.

    An earlier site in the folder is replaced, and what else lies there stays. Raises `JinnError` if the folder holds
    something else.
    """
    old = earlier_files(out)
    files: dict[str, bytes] = {}
    for part in sorted(STATIC.iterdir()):
        if part.name not in ("index.html", "sw.js", "record.html", "record.js"):
            files[f"static/{part.name}"] = part.read_bytes()
    files[f"{RUNTIME}/{SCRIPT}"] = runtime.script
    wasm, described_runtime = _pack(f"{RUNTIME}/{WASM.partition('.')[0]}", runtime.wasm)
    files |= wasm
    engine = {"script": f"{RUNTIME}/{SCRIPT}", "pack": described_runtime}
    for name, exported in worlds.items():
        folder = f"{name}/" if len(worlds) > 1 else ""
        files |= {
            f"{folder}{path}": data for path, data in _world_files(exported, list(worlds), engine, site)
        }
    if len(worlds) > 1:
        files["index.html"] = _forward(next(iter(worlds)), site).encode()
    files |= _shared_files([exported.world for exported in worlds.values()], site)
    files["sw.js"] = _service_worker(files)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / UNFINISHED, sorted(old | set(files)))
    for path, data in files.items():  # the service worker last: browsers look there for what is new
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(out / path) as temporary:
            temporary.write_bytes(data)
    for path in old - set(files):
        (out / path).unlink(missing_ok=True)
    (out / UNFINISHED).unlink()
    return {path: len(data) for path, data in files.items()}


def earlier_files(out: Path) -> set[str]:
    """The files of the site that lies in a folder, finished or not; raises `JinnError` if it holds something else."""
    if not out.exists() or (out.is_dir() and all(path.name.endswith(TEMPORARY) for path in out.iterdir())):
        return set()
    try:
        if (out / UNFINISHED).exists():
            paths = set(json.loads((out / UNFINISHED).read_text(encoding="utf-8")))
        else:
            first = (out / "sw.js").read_text(encoding="utf-8").partition("\n")[0]
            listed = json.loads(first.removeprefix(SITE).rstrip(";")) if first.startswith(SITE) else {}
            paths = {*listed["files"], *listed["packs"]}
        return {path for path in paths if path and not path.endswith("/") and _is_inside(path)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise JinnError(f"{out} holds something that jinn publish did not write: name a new folder") from None


def _is_inside(path: str) -> bool:
    """Whether a path that a file names stays in the site's folder."""
    return not Path(path).is_absolute() and ".." not in Path(path).parts


def frames_per_second(world: World) -> float:
    """About how many frames a browser computes in a second on one core, from the operations of one frame."""
    state, _ = world.reset(world.prompts[:1, None])
    with FlopCounterMode(display=False) as counter:
        world.step(state, torch.zeros(1, dtype=torch.long))
    return FLOPS / max(1, counter.get_total_flops())


def _world_files(
    exported: Exported, names: list[str], engine: dict[str, Any], site: Site
) -> Iterator[tuple[str, bytes]]:
    world, web = exported
    parts: dict[str, tuple[int, int]] = {}
    data = b""
    for name, part in (*web.graphs.items(), ("weights", web.weights)):
        parts[name] = len(data), len(data) + len(part)
        data += part
    pack, described = _pack("model", data)
    yield from pack.items()
    up = "../" if len(names) > 1 else ""
    description = describe(world, site.title) | {"runtime": engine}
    description["model"] |= {"pack": described, "parts": parts}
    yield "api/world", json.dumps(description).encode()
    yield "api/card.txt", card(world).encode()
    yield "api/worlds", json.dumps({"worlds": names}).encode()
    yield "index.html", _page(world.name, up, site).encode()
    prompts = [to_png(frame_HWC) for frame_HWC in world.prompts.cpu().numpy()]
    yield "api/thumbnail.png", prompts[0]
    yield from ((f"api/prompts/{i}.png", prompt) for i, prompt in enumerate(prompts))


def describe(world: World, title: str = "") -> dict[str, Any]:
    """What ``api/world`` says of a world whose page computes its frames; without the pack of its model."""
    own = world.config.sampling
    limits = replace(
        Limits(),
        actions=world.num_actions,
        prompts=len(world.prompts),
        # The graph samples in one way; only the doubt is an input of it.
        steps_range=(own.steps, own.steps),
        temperature_range=(own.temperature, own.temperature),
    )
    shared = Shared(
        world, limits, [frame_HWC[None, None] for frame_HWC in world.prompts], None, Decoders(limits)
    )
    shared.scheduler.close()
    tokens_PN = world.tokenizer.encode(world.prompts[:, None])[:, 0]
    state, _ = world.reset(world.prompts[:1, None])
    steps, _, tokens, digits = world.noise(state).shape
    described = describe_world(shared)
    weights = described["id"].partition("-")[0]
    return described | {
        "id": f"{weights}-web",
        "title": title,
        "text_why_not": NO_TEXT,
        # Tokens of the prompts, so that these start on every machine as they do in Python.
        "model": {
            "noise": [steps, tokens, digits],
            "prompts": tokens_PN.tolist(),
            "fps": round(frames_per_second(world), 2),
        },
    }


def _pack(stem: str, data: bytes) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A compressed file by its path, and what a page needs to know of it."""
    packed = gzip.compress(data, 9, mtime=0)
    digest = hashlib.sha256(packed).hexdigest()
    path = f"{stem}-{digest[:12]}.pack"
    return {path: packed}, {"file": path, "bytes": len(packed), "sha256": digest}


def _page(name: str, up: str, site: Site) -> str:
    """The page of a world; ``up`` leads from it to the site's folder."""
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">'
    title = site.title or f"{name} · jinn"
    page = page.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n  {policy}')
    page = page.replace(
        "<title>jinn</title>", f"<title>{html.escape(title)}</title>\n{_preview_tags(site, up)}"
    )
    page = page.replace(
        '<script type="module"', '<script src="static/check.js"></script>\n  <script type="module"'
    )
    return re.sub(r'(src|href)="static/', rf'\1="{up}static/', page)


def _forward(first: str, site: Site) -> str:
    """The way to the first world's page."""
    target = quote(first)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n  <meta charset="utf-8">\n'
        f"  <title>{html.escape(site.title)}</title>\n{_preview_tags(site, '')}\n"
        f'  <meta http-equiv="refresh" content="0; url={target}/">\n</head>\n'
        f'<body><p><a href="{target}/">Play {html.escape(first)}</a></p></body>\n</html>\n'
    )


def _preview_tags(site: Site, up: str) -> str:
    """What previews of links show, and what an installed page needs."""
    picture = f"{site.address.rstrip('/')}/preview.png" if site.address else f"{up}preview.png"
    title, description = html.escape(site.title), html.escape(site.description)
    tags = [
        f'<meta name="description" content="{description}">',
        f'<meta property="og:title" content="{title}">',
        f'<meta property="og:description" content="{description}">',
        '<meta property="og:type" content="website">',
        f'<meta property="og:image" content="{html.escape(picture)}">',
        '<meta name="twitter:card" content="summary_large_image">',
        f'<link rel="manifest" href="{up}manifest.webmanifest">',
        f'<link rel="apple-touch-icon" href="{up}icon-192.png">',
    ]
    return "\n".join(f"  {tag}" for tag in tags)


def _shared_files(worlds: Sequence[World], site: Site) -> dict[str, bytes]:
    """The files of an installed page and of link previews, and how two hosts are to serve them."""
    manifest = {
        "name": site.title,
        "short_name": site.title[:24],
        "description": site.description,
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "background_color": "#0f1116",
        "theme_color": "#0f1116",
        "icons": [
            {
                "src": f"icon-{side}.png",
                "sizes": f"{side}x{side}",
                "type": "image/png",
                "purpose": "any maskable",
            }
            for side in (192, 512)
        ],
    }
    # Spaces of Hugging Face read their settings here; the headers allow threads. JSON is YAML.
    readme = (
        f"---\ntitle: {json.dumps(site.title)}\nsdk: static\ncustom_headers:\n"
        "  cross-origin-embedder-policy: require-corp\n  cross-origin-opener-policy: same-origin\n"
        f"---\n{site.description}\n\nMade by `jinn publish`. Try it: `python -m http.server`, "
        "then open the address that it prints.\n"
    )
    return {
        "manifest.webmanifest": json.dumps(manifest).encode(),
        "icon-192.png": draw_icon(192),
        "icon-512.png": draw_icon(512),
        "preview.png": draw_preview([world.prompts[0].cpu().numpy() for world in worlds]),
        "README.md": readme.encode(),
        ".nojekyll": b"",  # GitHub Pages serves the files as they are
    }


def _service_worker(files: dict[str, bytes]) -> bytes:
    """sw.js, which keeps the small files when a page is opened for the first time, and each pack when it is used."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path} {hashlib.sha256(files[path]).hexdigest()}\n".encode())
    packs = [path for path in files if path.endswith(".pack")]
    folders = [path.removesuffix("index.html") for path in files if path.endswith("index.html")]
    small = [
        path for path in files if path not in packs and path not in ("README.md", ".nojekyll", "preview.png")
    ]
    listed = {"version": digest.hexdigest()[:16], "files": [*folders, *small], "packs": packs}
    return f"{SITE}{json.dumps(listed)};\n".encode() + (STATIC / "sw.js").read_bytes()
