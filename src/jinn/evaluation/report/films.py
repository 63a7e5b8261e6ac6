"""Film strips: real clips next to generated ones, and roll-outs of each prompt under each constant action.

A clip is one PNG with its frames side by side, in a window of one frame. All strips of a sheet move together.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace
from html import escape

import numpy as np
from PIL import Image
from torch import Tensor

from jinn.evaluation.report.legend import arrow, fastest
from jinn.evaluation.report.parts import scroll, section, table
from jinn.evaluation.results import Results, WorldResults

USUAL_FPS = 10.0


@dataclass(frozen=True)
class Column:
    """Clips of one kind, and the names of all worlds whose clips these are."""

    kind: str
    frames: np.ndarray  # BTHWC
    worlds: tuple[str, ...]


def film(frames_THWC: np.ndarray, alt: str) -> str:
    """A clip as a film strip in its window."""
    T, H, W, _ = frames_THWC.shape
    file = io.BytesIO()
    # Side by side and not one below the other: PNG then finds static parts near enough to compress them.
    Image.fromarray(np.concatenate(list(frames_THWC), axis=1)).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<span class="film" style="--frames:{T};aspect-ratio:{W}/{H}">'
        f'<img src="data:image/png;base64,{data}" width="{T * W}" height="{H}" alt="{escape(alt)}"></span>'
    )


def sheet(body: str, frames: int, results: Results) -> str:
    """Films that run together, over their controls, which the script shows."""
    try:
        fps = float(results.settings.get("fps", USUAL_FPS))
    except ValueError:
        fps = USUAL_FPS
    fps = fps if 0 < fps <= 240 else USUAL_FPS
    return f"""<div class="sheet" data-frames="{frames}" data-fps="{fps:g}">
{body}
<div class="controls" hidden>
<button type="button" aria-keyshortcuts="p">Play</button>
<input type="range" min="0" max="{frames - 1}" step="1" value="0" aria-label="Frame">
<output></output>
</div></div>
"""


def clips(results: Results) -> str:
    """Real clips next to generated ones."""
    shown: list[Column] = []
    for world in results.worlds:
        for kind, clips_BTHWC in (world.pictures.clips if world.pictures else {}).items():
            frames = _array(clips_BTHWC)
            # Clips that worlds share, such as the real ones, are shown once.
            same = (k for k, c in enumerate(shown) if c.kind == kind and np.array_equal(c.frames, frames))
            if (k := next(same, None)) is not None:
                shown[k] = replace(shown[k], worlds=(*shown[k].worlds, world.name))
            else:
                shown.append(Column(kind, frames, (world.name,)))
    if not shown:
        return ""
    sets = []
    for i in range(max(len(column.frames) for column in shown)):
        tiles = ""
        for column in shown:
            if i < len(column.frames):
                everyone = len(column.worlds) == len(results.worlds)
                label = column.kind if everyone else f"{' and '.join(column.worlds)}: {column.kind}"
                strip = film(column.frames[i], f"clip {i + 1}, {label}")
                tiles += f"<figure>{strip}<figcaption>{escape(label)}</figcaption></figure>"
        sets.append(f'<div class="clip" role="group" aria-label="Clip {i + 1}">{tiles}</div>')
    body = f'<div class="clips" style="--tiles:{len(shown)}">{"".join(sets)}</div>'
    how = (
        "Held-out clips beside roll-outs from their first frame. "
        '<span class="keys"><kbd>←</kbd> <kbd>→</kbd> single frames, <kbd>P</kbd> play and pause.</span>'
    )
    frames_T = max(column.frames.shape[1] for column in shown)
    return section("Real next to generated", how, sheet(body, frames_T, results))


def constant_actions(results: Results) -> str:
    """Roll-outs of each prompt under each constant action (the paper's figure of latent actions)."""
    parts = []
    for world in results.worlds:
        if world.pictures is not None and world.pictures.constant_PATHWC.numel():
            title = f"<h3>{escape(world.name)}</h3>" if len(results.worlds) > 1 else ""
            grid_PATHWC = _array(world.pictures.constant_PATHWC)
            body = scroll(
                _grid(world, grid_PATHWC, fastest(results.worlds)), f"{world.name}: prompts by actions"
            )
            parts.append(title + sheet(body, grid_PATHWC.shape[2], results))
    how = "A row is one prompt, a column one constant action: it should have the same effect in every row."
    return section("Same prompt, each latent action", how, "".join(parts))


def _grid(world: WorldResults, grid_PATHWC: np.ndarray, longest: float) -> str:
    heads, labels = "", []
    for a in range(grid_PATHWC.shape[1]):
        meant = world.legend[a] if a < len(world.legend) else None
        icon, name = (arrow(meant, longest), f" {meant.name}") if meant else ("", "")
        heads += f'<th scope="col">{icon}<b>{a + 1}</b>{escape(name)}</th>'
        labels.append(f"constant action {a + 1}{name}")
    rows = ""
    for p, row_ATHWC in enumerate(grid_PATHWC, start=1):
        films = (film(*pair) for pair in zip(row_ATHWC, (f"prompt {p}, {x}" for x in labels), strict=True))
        rows += f"<tr>{''.join(f'<td>{strip}</td>' for strip in films)}</tr>"
    return table(heads, rows, "constant")


def _array(frames: Tensor) -> np.ndarray:
    return frames.detach().cpu().numpy()
