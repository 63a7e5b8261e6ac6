"""Every metric of an evaluation, written once: its name, title, explanation, unit, direction and baselines.

What measures, what reports and what compares looks metrics up here by name. A name is a path: the part of
the world (or the kind of distance), the metric, and after these ``copy_last`` for the same metric of the
copy-last-frame baseline and ``high_motion`` for the same metric on the half of the clips with the most motion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Unit = Literal["dB", "score", "fraction", "bits", "count", "distance"]

DELTA_PSNR = "control/delta_psnr"
DELTA_PSNR_4 = f"{DELTA_PSNR}_4"
CONSISTENCY = "control/consistency"
HIGH_MOTION = "high_motion"


@dataclass(frozen=True)
class Metric:
    """What is measured, and how an estimate of it is read.

    Attributes:
        name: the key in report.json.
        title: a short name for charts, cards and tables.
        unit: "score" has three decimals, "fraction" is shown in percent.
        better: which way is better, empty where neither is.
        text: what it is: a sentence without its full stop.
        baselines: names of the metrics that it is read beside.
        zero: whether 0 is a baseline too, for it means that there is no effect.
    """

    name: str
    title: str
    unit: Unit
    better: Literal["higher", "lower", ""]
    text: str
    baselines: tuple[str, ...] = ()
    zero: bool = False

    @property
    def section(self) -> str:
        """The section in which it is reported, a key of `SECTIONS`."""
        first = self.name.partition("/")[0]
        return "distances" if first in DISTANCES else first


# Title and introduction of each section.
SECTIONS = {
    "tokenizer": ("Tokenizer", "Real frames are encoded and decoded: an upper bound for the world."),
    "next_frame": ("Next frame", "One frame is predicted from all real frames before it (teacher forcing)."),
    "inferred": (
        "Roll-out, inferred actions",
        "The world is rolled out from one frame with the actions that its own model infers from the real video.",
    ),
    "given": (
        "Roll-out, given actions",
        "The world is rolled out from one frame with the true actions. Latent ones take their place where the world "
        "has latent actions.",
    ),
    "control": ("Control", "Whether actions have an effect, and the same effect each time."),
    "actions": ("Latent actions", "How latent actions are used, and how much they say about the true ones."),
    "distances": (
        "Distances between sets of clips",
        "How far the distribution of generated clips is from that of real clips. Each distance is read "
        "between its floor, which other real clips reach, and its ceilings, which clips reach that are wrong "
        "in one known way. Lower is better.",
    ),
    "stability": (
        "Stability of long roll-outs",
        "Whether long roll-outs keep looking like the videos, in segments that end at 60, 300 and 1,000 frames.",
    ),
    "physics": (
        "Physics",
        "Whether actions are obeyed where real videos make them possible, and only there, and whether opposite "
        "actions lead back.",
    ),
}
# Sets of clips whose distance from the real clips is measured.
SETS = {
    "next_frame": "next frame, teacher forcing",
    "inferred": "roll-out, inferred actions",
    "given": "roll-out, given actions",
    "floor": "floor: other real clips",
    "static": "ceiling: static clips",
    "shuffled": "ceiling: shuffled frames",
    "other_level": "ceiling: one other level",
}
# Title and explanation of each kind of distance.
DISTANCES = {
    "fvd": ("FVD", "Fréchet video distance: features of a video network, so appearance and motion"),
    "frame_distance": ("frame distance", "Fréchet distance of an image network's features: appearance"),
    "motion_distance": ("motion distance", "Fréchet distance of velocities and accelerations: motion"),
}
# Title, unit and better direction of each metric that compares two pictures, and what it says.
PICTURES: dict[str, tuple[str, Unit, Literal["higher", "lower"], str]] = {
    "psnr": ("PSNR", "dB", "higher", "how close the pixels are, in decibels; 3 dB more is half the squared error"),
    "ssim": ("SSIM", "score", "higher", "how alike local structure is; 1 means that pictures are equal"),
    "lpips": ("LPIPS", "score", "lower",
        "how far apart an image network's features are; 0 means that pictures are equal"),
}  # fmt: skip
# What is compared with the real frames, and the copy-last-frame baseline of it.
SOURCES = {
    "tokenizer": ("Reconstruction", "reconstructed frames", ""),
    "next_frame": ("Next frame", "the predicted next frame", "a copy of the frame before"),
    "inferred": ("Roll-out, inferred actions", "the frames of the roll-out", "a copy of the prompt"),
    "given": ("Roll-out, given actions", "the frames of the roll-out", "a copy of the prompt"),
}
COPY_LAST = "copy-last-frame baseline"
ENDS = (60, 300, 1000)  # frames after which a segment of a long roll-out ends
POLICIES = {"random": "random actions", "constant": "constant actions"}
RETURNS = (2, 4, 8, 16)  # steps of an action, and then of its opposite
# What is measured in each segment of long roll-outs, beside the frame distance of `DISTANCES`.
SEGMENT: dict[str, tuple[str, Unit, Literal["higher", "lower"]]] = {
    "inside": ("Fraction of frames that look like the videos", "fraction", "higher"),
    "static": ("Fraction of roll-outs that are static", "fraction", "lower"),
    "diverged": (
        "Fraction of roll-outs whose image statistics lie outside the range of real frames", "fraction", "lower",
    ),
    "drift": ("Frame distance from real frames", "distance", "lower"),
}  # fmt: skip


def _pictures() -> Iterator[Metric]:
    for source, (title, text, copied) in SOURCES.items():
        for metric, (short, unit, better, _) in PICTURES.items():
            name, copy = f"{source}/{metric}", f"{source}/{metric}/copy_last"
            baselines = (copy,) if copied else ()
            yield Metric(name, f"{title}: {short}", unit, better, f"{short} of {text}", baselines)
            if copied:
                yield Metric(copy, COPY_LAST, unit, "", f"{short} of {copied}")


def _distances() -> Iterator[Metric]:
    for kind, (title, text) in DISTANCES.items():
        baselines = (f"{kind}/floor", f"{kind}/static")
        for name, what in SETS.items():
            if name in SOURCES:
                yield Metric(f"{kind}/{name}", f"{title}: {what}", "distance", "lower", text, baselines)
            else:
                yield Metric(f"{kind}/{name}", what, "distance", "", text)


def _stability() -> Iterator[Metric]:
    for policy, actions in POLICIES.items():
        yield Metric(
            f"stability/{policy}/frames_inside", f"frames that look like the videos, {actions}", "count", "higher",
            f"Number of frames before the picture leaves what the videos show, {actions}",
        )  # fmt: skip
        for end in ENDS:
            for what, (text, unit, better) in SEGMENT.items():
                baselines = (f"stability/floor/{what}",) if what in ("drift", "static") else ()
                name, title = f"stability/{policy}/{end}/{what}", f"{what} at {end} frames, {actions}"
                yield Metric(name, title, unit, better, f"{text}, before frame {end}, {actions}", baselines)


# In the order of the fields: name, title, unit, better direction, text, baselines.
_ALL = (
    *_pictures(),
    Metric("tokenizer/codes_used", "codes used", "fraction", "higher", "Fraction of the codebook that these clips use"),
    Metric("tokenizer/perplexity", "codebook perplexity", "count", "higher",
        "Exponential of the entropy of the codes: the effective number of codes in use"),
    Metric("tokenizer/bits", "bits per frame", "bits", "", "Entropy of a frame's tokens"),
    Metric("tokenizer/capacity_bits", "capacity in bits per frame", "bits", "",
        "Largest possible entropy of a frame's tokens: N log2 K"),
    Metric("next_frame/token_accuracy", "token accuracy", "fraction", "higher",
        "Fraction of tokens that are predicted exactly", ("next_frame/token_accuracy/copy_last",)),
    Metric("next_frame/token_accuracy/copy_last", COPY_LAST, "fraction", "",
        "Fraction of tokens that equal those of the frame before"),
    Metric(DELTA_PSNR, "Delta PSNR", "dB", "higher",
        "PSNR under inferred actions (given ones if the world was trained on known actions) minus PSNR under random "
        "actions, mean over the horizon", zero=True),
    Metric(DELTA_PSNR_4, "Delta_4 PSNR", "dB", "higher",
        "PSNR of frame 4 under inferred actions (given ones if the world was trained on known actions) minus that "
        "under random actions", zero=True),
    Metric(CONSISTENCY, "Action consistency", "fraction", "higher",
        "Fraction of frames generated under random actions in which the latent action model infers the action "
        "that was taken",
        (f"{CONSISTENCY}/chance", f"{CONSISTENCY}/reconstruction")),
    Metric(f"{CONSISTENCY}/reconstruction", "ceiling: reconstructed video", "fraction", "",
        "Action consistency of reconstructed real video under its inferred actions"),
    Metric(f"{CONSISTENCY}/chance", "chance level", "fraction", "", "Action consistency of guessing"),
    Metric("actions/used", "latent actions used", "fraction", "higher", "Fraction of the latent actions that occur"),
    Metric("actions/perplexity", "perplexity of the latent actions", "count", "higher",
        "Exponential of the entropy of the latent actions: the effective number of actions in use"),
    Metric("actions/nmi_scrolling", "NMI with the scrolling", "score", "higher",
        "Normalised mutual information of latent actions and the motion of the whole picture"),
    Metric("actions/nmi_true", "NMI with the true actions", "score", "higher",
        "Normalised mutual information of latent and true actions"),
    Metric("actions/purity", "purity", "fraction", "higher",
        "Fraction of frames whose true action is the most frequent one of their latent action",
        ("actions/purity/chance",)),
    Metric("actions/purity/chance", "chance level", "fraction", "", "Purity of latent actions that say nothing"),
    Metric("actions/map_accuracy", "accuracy of the action map, other levels", "fraction", "higher",
        "Fraction of frames whose true action is the most frequent one of their latent action in the "
        "reference clips",
        ("actions/map_accuracy/chance",)),
    Metric("actions/map_accuracy/chance", "chance level", "fraction", "",
        "Fraction of frames whose true action is the most frequent one of the reference clips"),
    *_distances(),
    *_stability(),
    Metric("physics/obedience", "obedience", "fraction", "higher",
        "Fraction of possible actions that the latent action model infers from the next frame",
        ("physics/obedience/chance",)),
    Metric("physics/obedience/chance", "chance level", "fraction", "", "Obedience of a frame that says nothing"),
    Metric("physics/reaction", "reaction to impossible actions", "dB", "higher",
        "PSNR between the next frame under an impossible action and that under the likeliest one",
        ("physics/reaction/possible",)),
    Metric("physics/reaction/possible", "reaction to possible actions", "dB", "",
        "PSNR between the next frame under a possible action and that under the likeliest one"),
    Metric("physics/possible", "possible actions", "fraction", "",
        "Fraction of the actions that have a probability of at least 5%, given the past"),
    *(Metric(f"physics/return/{k}", f"there and back, {k} steps", "dB", "higher",
        f"PSNR of the frame after {k} steps of an action and {k} of its opposite, and the frame before them")
        for k in RETURNS),
    Metric("stability/floor/drift", "long real videos", "distance", "",
        "Floor: frame distance of long segments of other real video"),
    Metric("stability/floor/static", "static real videos", "fraction", "",
        "Fraction of long real segments that are static"),
)  # fmt: skip


def _high_motion() -> Iterator[Metric]:
    """The metrics that are measured on the high-motion half of the clips too, as measured there."""
    for metric in _ALL:
        if metric.name == DELTA_PSNR or metric.name.split("/")[1] in PICTURES:
            yield replace(
                metric,
                name=f"{metric.name}/{HIGH_MOTION}",
                title=f"{metric.title}, high-motion half",
                text=f"{metric.text}, high-motion half of the clips",
                baselines=tuple(f"{name}/{HIGH_MOTION}" for name in metric.baselines),
            )


METRICS: dict[str, Metric] = {metric.name: metric for metric in (*_ALL, *_high_motion())}
# What the report shows first.
SUMMARY = ("tokenizer/psnr", "inferred/psnr", DELTA_PSNR_4, CONSISTENCY, "fvd/inferred")
