"""Make the README's film from a world's weights: one uncut run under scripted keys, from one prompt.

python scripts/make_animation.py --world platforms --keys "stay 8, right 30, up-right 12" --out docs/platforms.webp
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from jinn.player.shared import buttons
from jinn.world.world import World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="platforms")
    parser.add_argument("--out", type=Path, default=Path("docs/platforms.webp"))
    parser.add_argument("--keys", required=True, help="names of keys, and for how many frames each is held")
    parser.add_argument("--prompt", type=int, default=0, help="index of the prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=int, default=4)
    options = parser.parse_args()

    world = World.load(options.world)
    script = read_script(options.keys, world)
    state, frame_BHWC = world.reset(world.prompts[options.prompt][None, None], seed=options.seed)
    pictures = [render(frame_BHWC[0].numpy(), "", options.scale)]
    for name, action in script:
        state, frame_BHWC = world.step(state, torch.tensor([action]))
        pictures.append(render(frame_BHWC[0].numpy(), name, options.scale))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(
        options.out,
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / world.fps),
        quality=60,
        method=6,
    )
    print(f"{options.out}: {len(pictures)} frames, {options.out.stat().st_size:,} bytes")


def read_script(text: str, world: World) -> list[tuple[str, int]]:
    """The name of the key and the action of each frame."""
    actions = {button.name: button.action for button in buttons(world)}
    script = []
    for part in text.split(","):
        name, _, frames = part.strip().rpartition(" ")
        if name not in actions or not frames.isdecimal():
            raise SystemExit(f"{part.strip()!r} is no key and number of frames; keys: {', '.join(actions)}")
        script += [(name, actions[name])] * int(frames)
    return script


def render(frame_HWC: np.ndarray, name: str, scale: int) -> Image.Image:
    """A frame above the name of the key that is held."""
    H, W, _ = frame_HWC.shape
    sheet = Image.new("RGB", (W * scale, H * scale + 18), "white")
    sheet.paste(Image.fromarray(frame_HWC).resize((W * scale, H * scale), Image.Resampling.NEAREST))
    ImageDraw.Draw(sheet).text((4, H * scale + 2), name, fill="black", font_size=13)
    return sheet


if __name__ == "__main__":
    main()
