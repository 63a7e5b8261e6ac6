"""What the figures mean, for people: a section, a sentence, a unit, and which way is better."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"

METRICS = {
    "psnr": "<b>PSNR</b>: how close the pixels are, in decibels; 3 dB more is half the squared error.",
    "ssim": "<b>SSIM</b>: how alike local structure is; 1 is the same picture.",
    "lpips": "<b>LPIPS</b>: how far apart an image network's features are; 0 is the same picture.",
    "fvd": "<b>FVD</b>: how far apart a video network's features of many real and many generated clips are; "
    "0 is the same distribution.",
}
SECTIONS = {
    "tokenizer": "Tokenizer",
    "next_frame": "Next frame",
    "inferred": "Roll-out, inferred actions",
    "given": "Roll-out, given actions",
    "control": "Control",
    "actions": "Latent actions",
    "distances": "Distances between sets of clips",
    "stability": "Stability of long roll-outs",
    "other": "Other",
}
INTRODUCTIONS = {
    "tokenizer": "True frames to tokens and back: what the world can show at best.",
    "next_frame": "One frame ahead, given all true frames before.",
    "inferred": "From one frame on its own, with the latent actions inferred from the true video.",
    "given": "From one frame on its own, with the game's own actions, each as its best latent action.",
    "control": "Whether the actions do something, and the same thing each time.",
    "actions": "How the latent actions are used, and what they share with the true ones.",
    "distances": "How far generated clips are from real ones, as sets. Read each beside the floor, which "
    "real clips reach among themselves, and the ceilings, which clips reach that are wrong in one known way. "
    "Lower is better.",
    "stability": "How far frames drift from real ones in long roll-outs. Lower is better.",
    "other": "",
}
SETS = {
    "next_frame": "next frame from true ones",
    "inferred": "roll-out, inferred actions",
    "given": "roll-out, given actions",
    "floor": "floor: real against real",
    "static": "ceiling: nothing moves",
    "shuffled": "ceiling: frames shuffled",
    "other_level": "ceiling: one other level only",
}
DISTANCES = {
    "frame_distance": "Fréchet distance of what an image network sees in single frames: how they look",
    "motion_distance": "Fréchet distance of how fast, and how jerkily, the parts of the picture move",
}
FVD = re.compile(r"fvd(\d+)_(\d+)f")


@dataclass(frozen=True)
class Meaning:
    """What a figure is.

    Attributes:
        text: a sentence, without its full stop; empty if the figure is not known.
        unit: "dB", "share", "score" (three decimals), "bits", "number", "distance" or "" for unknown ones.
        better: "higher", "lower", or empty where neither is.
    """

    text: str = ""
    unit: str = ""
    better: str = ""


PICTURES = {"psnr": ("dB", "higher"), "ssim": ("score", "higher"), "lpips": ("score", "lower")}
SOURCES = {
    "tokenizer": ("reconstructed frames", ""),
    "next_frame": ("the next frame", "the frame before, repeated"),
    "inferred": ("the roll-out", "the prompt, repeated"),
    "given": ("the roll-out", "the prompt, repeated"),
}
KNOWN = {
    "tokenizer/codes_used": Meaning("Share of the codebook that these clips use", "share", "higher"),
    "tokenizer/perplexity": Meaning(
        "Codes in use, counted as if all were equally frequent", "number", "higher"
    ),
    "tokenizer/bits": Meaning("Entropy of a frame's tokens: what a frame really says", "bits"),
    "tokenizer/capacity_bits": Meaning("What a frame's tokens could say at most: N log2 K", "bits"),
    "next_frame/token_accuracy": Meaning("Share of tokens predicted exactly", "share", "higher"),
    "next_frame/token_accuracy/frozen": Meaning("The same of the frame before, repeated", "share"),
    "control/delta_psnr": Meaning(
        "PSNR under inferred actions less that under random ones, mean over the horizon", "dB", "higher"
    ),
    "control/delta_psnr/moving": Meaning("The same of the moving half of the clips", "dB", "higher"),
    "control/agreement": Meaning(
        "How often the latent action model finds in a generated video the random action that was pressed",
        "share",
        "higher",
    ),
    "control/agreement/reconstruction": Meaning(
        "Ceiling: how often it finds its own action again in reconstructed real video", "share"
    ),
    "control/agreement/chance": Meaning("The same by guessing", "share"),
    "actions/used": Meaning("Share of the latent actions that occur", "share", "higher"),
    "actions/perplexity": Meaning(
        "Latent actions in use, counted as if all were equally frequent", "number", "higher"
    ),
    "actions/nmi_true": Meaning(
        "Normalised mutual information with the true actions, 0 to 1", "score", "higher"
    ),
    "actions/nmi_scrolling": Meaning(
        "Normalised mutual information with how the picture scrolls, 0 to 1", "score", "higher"
    ),
    "actions/purity": Meaning(
        "How often a latent action meets the true action that it meets most", "share", "higher"
    ),
    "actions/purity/chance": Meaning("The same if latent actions told nothing", "share"),
    "actions/map_accuracy": Meaning(
        "How often the true action is the one that its latent action met most on other levels",
        "share",
        "higher",
    ),
    "actions/map_accuracy/chance": Meaning("The same if latent actions told nothing", "share"),
    "stability/floor": Meaning("Floor: stretches of other real video against real frames", "distance"),
    "stability/floor/frozen": Meaning("Share of real stretches in which nothing moves", "share"),
}
STABILITY = {"random": "random actions", "held": "one action held"}


def section_of(name: str) -> str:
    """The section in which a figure is shown, a key of `SECTIONS`."""
    first = name.split("/")[0]
    if first in DISTANCES or FVD.fullmatch(first):
        return "distances"
    return first if first in SECTIONS else "other"


def meaning(name: str) -> Meaning:
    """What a figure is, by its name; an empty meaning if nobody knows."""
    if name in KNOWN:
        return KNOWN[name]
    what, *rest = name.split("/")
    if what in SOURCES and rest and rest[0] in PICTURES and set(rest[1:]) <= {"frozen", "moving"}:
        unit, better = PICTURES[rest[0]]
        frozen = "frozen" in rest
        half = ", moving half of the clips" if "moving" in rest else ""
        return Meaning(f"{rest[0].upper()} of {SOURCES[what][frozen]}{half}", unit, "" if frozen else better)
    if delta := re.fullmatch(r"control/delta_psnr_(\d+)", name):
        text = f"PSNR of frame {delta[1]} under inferred actions less that under random ones"
        return Meaning(text, "dB", "higher")
    if section_of(name) == "distances":
        made = rest in (["next_frame"], ["inferred"], ["given"])
        return Meaning(distance(what), "distance", "lower" if made else "")
    if what == "stability" and len(rest) == 2 and rest[0] in STABILITY:
        return _stability(STABILITY[rest[0]], rest[1])
    return Meaning()


def distance(kind: str) -> str:
    """What a kind of distance is."""
    if found := FVD.fullmatch(kind):
        return f"FVD of {found[1]} clips a side, {found[2]} frames each: how they look and move"
    return DISTANCES[kind]


def _stability(actions: str, what: str) -> Meaning:
    if stretch := re.fullmatch(r"frames_(\d+)_(\d+)", what):
        text = f"Distance of frames {stretch[1]} to {stretch[2]} to real frames, {actions}"
        return Meaning(text, "distance", "lower")
    ends = {"frozen": "end still", "exploded": "end beyond all real frames in contrast or roughness"}
    return (
        Meaning(f"Share of roll-outs that {ends[what]}, {actions}", "share", "lower")
        if what in ends
        else Meaning()
    )


def show(value: float, unit: str, sign: bool = False) -> str:
    """A number with as many digits as help, and its unit; with ``sign`` as a difference."""
    if not math.isfinite(value):
        return NONE
    plus = "+" if sign else ""
    if unit == "share":
        text = f"{100 * value:{plus}.1f}" + (" points" if sign else "%")
    elif unit == "score":
        text = f"{value:{plus}.3f}"
    elif unit in ("dB", "bits", "number"):
        text = f"{value:{plus},.{2 if unit == 'dB' else 1}f}" + (f" {unit}" if unit != "number" else "")
    else:
        text = f"{value:{plus},.0f}" if abs(value) >= 99.95 else f"{value:{plus}#.3g}"
    return text.replace("-", MINUS)
