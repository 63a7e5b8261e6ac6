"""Make the README's animation from a world's weights: one prompt, every latent action held constant.

python scripts/make_animation.py --world coinrun --out docs/coinrun.gif
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from jinn.world.world import World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="coinrun")
    parser.add_argument("--out", type=Path, default=Path("docs/coinrun.gif"))
    parser.add_argument("--prompt", type=int, default=0, help="index of the prompt")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=int, default=2)
    options = parser.parse_args()

    world = World.load(options.world)
    A = world.num_actions
    prompt_BTHWC = world.prompts[options.prompt][None, None].expand(A, 1, -1, -1, -1)
    state, frame_BHWC = world.reset(prompt_BTHWC, seed=options.seed)
    frames = [frame_BHWC]
    for _ in range(options.frames):
        state, frame_BHWC = world.step(state, torch.arange(A))
        frames.append(frame_BHWC)
    names = world.action_names or [f"action {a}" for a in range(A)]
    pictures = [render(frame.numpy(), names, options.scale) for frame in frames]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(
        options.out,
        save_all=True,
        append_images=pictures[1:],
        duration=[600] + [round(1000 / world.fps)] * options.frames,
        loop=0,
        optimize=True,
    )
    print(f"{options.out}: {len(pictures)} frames, {options.out.stat().st_size:,} bytes")


def render(frame_BHWC: np.ndarray, names: list[str], scale: int, columns: int = 4) -> Image.Image:
    """One frame of all roll-outs in a grid, each above its action's name."""
    A, H, W, _ = frame_BHWC.shape
    h, w, line, gap = H * scale, W * scale, 14, 4
    rows = -(-A // columns)
    sheet = Image.new("RGB", (columns * (w + gap) + gap, rows * (h + line + gap) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for a in range(A):
        x, y = gap + a % columns * (w + gap), gap + a // columns * (h + line + gap)
        sheet.paste(Image.fromarray(frame_BHWC[a]).resize((w, h), Image.Resampling.NEAREST), (x, y))
        pen.text((x + 2, y + h + 1), f"{a + 1}: {names[a]}", fill="black")
    return sheet


if __name__ == "__main__":
    main()
