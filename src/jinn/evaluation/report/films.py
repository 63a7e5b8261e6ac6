"""Film strips: real clips next to generated ones, and roll-outs of each prompt under each constant action.

A clip is one PNG with its frames side by side, in a window of one frame. All strips of a sheet move together.
"""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from jinn.evaluation.report.charts import arrow_svg
from jinn.evaluation.report.parts import scroll, section, table, world_title
from jinn.evaluation.report.tables import fastest
from jinn.evaluation.results import Results


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
    return f"""<div class="sheet" data-frames="{frames}" data-fps="{results.settings["fps"]}">
{body}
<div class="controls" hidden>
<button type="button" aria-keyshortcuts="p">Play</button>
<input type="range" min="0" max="{frames - 1}" step="1" value="0" aria-label="Frame">
<output></output>
</div></div>
"""


def clips(results: Results) -> str:
    """Real clips next to generated ones."""
    # Clips that worlds share, such as the real ones, are shown once, with the names of these worlds.
    shown: dict[tuple[str, bytes], tuple[np.ndarray, list[str]]] = {}
    for world in results.worlds:
        for kind, clips_BTHWC in (world.pictures.clips if world.pictures else {}).items():
            frames_BTHWC = clips_BTHWC.numpy()
            shown.setdefault((kind, frames_BTHWC.tobytes()), (frames_BTHWC, []))[1].append(world.name)
    if not shown:
        return ""
    labels = [
        kind if len(names) == len(results.worlds) else f"{' and '.join(names)}: {kind}"
        for (kind, _), (_, names) in shown.items()
    ]
    sets = ""
    for i, row_THWC in enumerate(zip(*(frames for frames, _ in shown.values()), strict=True), start=1):
        tiles = "".join(
            f"<figure>{film(frames, f'clip {i}, {label}')}<figcaption>{escape(label)}</figcaption></figure>"
            for frames, label in zip(row_THWC, labels, strict=True)
        )
        sets += f'<div class="clip" role="group" aria-label="Clip {i}">{tiles}</div>'
    body = f'<div class="clips" style="--tiles:{len(shown)}">{sets}</div>'
    how = (
        "Held-out clips beside roll-outs from their first frame. "
        '<span class="keys"><kbd>←</kbd> <kbd>→</kbd> single frames, <kbd>P</kbd> play and pause.</span>'
    )
    return section("Real next to generated", how, sheet(body, frames_BTHWC.shape[1], results))


def constant_actions(results: Results) -> str:
    """Roll-outs of each prompt under each constant action (the paper's figure of latent actions)."""
    longest = fastest(results.worlds)
    body = ""
    for world in results.worlds:
        if world.pictures is None:
            continue
        grid_PATHWC = world.pictures.constant_PATHWC.numpy()
        actions = list(enumerate(world.legend, start=1))
        heads = "".join(
            f'<th scope="col">{arrow_svg(meant.down, meant.right, longest)}<b>{a}</b> {escape(meant.name)}</th>'
            for a, meant in actions
        )
        rows = ""
        for p, row_ATHWC in enumerate(grid_PATHWC, start=1):
            cells = "".join(
                f"<td>{film(frames, f'prompt {p}, constant action {a} {meant.name}')}</td>"
                for frames, (a, meant) in zip(row_ATHWC, actions, strict=True)
            )
            rows += f"<tr>{cells}</tr>"
        films = scroll(table(heads, rows, "constant"), f"{world.name}: prompts by actions")
        body += world_title(world, results.worlds) + sheet(films, grid_PATHWC.shape[2], results)
    how = "A row is one prompt, a column one constant action: it should have the same effect in every row."
    return section("Same prompt, each latent action", how, body)
