"""A classifier of clips is trained on their ratings and measured on films that it has not seen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from jinn.curation.classifier import BATCH, Classifier, ClassifierConfig, seen_frames
from jinn.curation.clip import Clip, read_clip
from jinn.errors import JinnError

HELD_OUT = 0.3  # of the films
DRAWS = 1000  # of the bootstrap
Show = Callable[[str, int, int], None]  # what is done, how much of it, and of how much


@dataclass(frozen=True)
class Fraction:
    """A fraction with the ends of its 95% interval, by bootstrap over films; NaN where there is nothing to count."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Held:
    """What a classifier reaches on the clips of held-out films, where it keeps those that it is sure enough of.

    Attributes:
        precision: Of the clips that are kept, how many are good.
        recall: Of the good clips, how many are kept.
        confidence: From which on clips are kept, chosen on all held-out clips. For `precision` and `recall` of each
            film it was chosen on the others, or they would flatter.
        reaches: Whether the confidence gives the precision that was asked for on the clips that it was chosen on.
        clips, good, films: How many there are.
        trained_on: Clips that the classifier was trained on.
    """

    precision: Fraction
    recall: Fraction
    confidence: float
    reaches: bool
    clips: int
    good: int
    films: int
    trained_on: int


def train_classifier(
    clips: Sequence[Clip],
    is_good: Sequence[bool],
    config: ClassifierConfig | None = None,
    *,
    precision: float = 0.9,
    epochs: int = 40,
    learning_rate: float = 1e-3,
    seed: int = 0,
    device: str = "cpu",
    show: Show = lambda *_: None,
) -> tuple[Classifier, Held]:
    """Train a classifier on some films and choose its confidence on the others.

    Args:
        clips: That were rated.
        is_good: Of each clip, see `jinn.curation.ratings.labels`.
        config: What to train; its confidence is replaced.
        precision: That the clips which are kept should have, above 0 to 1.
        epochs, learning_rate, seed, device: Of the training. A seed gives the same classifier on the same machine.
        show: Is told how far reading and training are.

    Raises:
        JinnError: There are too few clips or films, or one cannot be read.
    """
    if not 0 < precision <= 1 or epochs < 1:
        raise JinnError("the precision is above 0 and at most 1, and there is at least one epoch")
    config, good_N = config or ClassifierConfig(), np.array(is_good, bool)
    films_N = np.array([Path(clip.file).name for clip in clips], str)
    held_N = held_out(films_N)
    for part_N, what in ((~held_N, "to train on"), (held_N, "of other films to measure on")):
        few = min(good_N[part_N].sum(), (~good_N[part_N]).sum()) if len(clips) else 0
        if few < 2:
            raise JinnError(f"there are too few clips {what}: rate more as 5 and as 1, of more films")
    seen = []
    for number, clip in enumerate(clips):
        show("reading clips", number, len(clips))
        seen.append(seen_frames(read_clip(clip, size_hw=config.size_hw)[None], config.size_hw)[0])
    show("reading clips", len(clips), len(clips))
    seen_NTHWC = np.stack(seen)
    classifier = _fit(seen_NTHWC[~held_N], good_N[~held_N], config, epochs, learning_rate, seed, device, show)
    scores_N = classifier.score_seen(seen_NTHWC[held_N])
    held = measure(scores_N, good_N[held_N], films_N[held_N], precision, int((~held_N).sum()), seed)
    return classifier.with_confidence(held.confidence), held


def held_out(films_N: np.ndarray) -> np.ndarray:
    """Which clips are of held-out films: those whose names have the smallest hashes, at least one film."""
    films = sorted(set(films_N), key=lambda film: hashlib.blake2b(film.encode("utf-8", "replace")).digest())
    return np.isin(films_N, films[: max(1, round(HELD_OUT * len(films)))])


def _fit(
    seen_NTHWC: np.ndarray, good_N: np.ndarray, config: ClassifierConfig, epochs: int, learning_rate: float,
    seed: int, device: str, show: Show,
) -> Classifier:  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = Classifier(config).to(device)
    optimizer = torch.optim.AdamW(classifier.parameters(), learning_rate, weight_decay=0.05)
    steps = epochs * -(-len(seen_NTHWC) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps)
    rng = np.random.default_rng(seed)
    seen, targets = torch.from_numpy(seen_NTHWC), torch.from_numpy(good_N).float()
    for epoch in range(epochs):
        show("training", epoch, epochs)
        order = rng.permutation(len(seen))
        for chosen in np.array_split(order, -(-len(order) // BATCH)):  # no batch is of one clip alone
            optimizer.zero_grad()
            logits_B = classifier.train()(varied(seen[chosen], rng).to(device))
            F.binary_cross_entropy_with_logits(logits_B, targets[chosen].to(device)).backward()
            optimizer.step()
            schedule.step()
    show("training", epochs, epochs)
    return classifier.eval()


def varied(seen_BTHWC: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Clips some of which are mirrored, and some run backwards: what is good stays good."""
    seen_BTHWC = seen_BTHWC.clone()
    for n, (mirrored, backwards) in enumerate(rng.random((len(seen_BTHWC), 2)) < 0.5):
        axes = [axis for axis, turned in ((0, backwards), (2, mirrored)) if turned]
        seen_BTHWC[n] = seen_BTHWC[n].flip(axes)
    return seen_BTHWC


def choose_confidence(scores_N: np.ndarray, good_N: np.ndarray, precision: float) -> tuple[float, bool]:
    """The least confidence, at least 0.5, from which on clips have a precision; and whether there is one.

    Where there is none, it is that of the highest precision.
    """
    choices = np.unique(np.append(scores_N[scores_N >= 0.5], 0.5))
    reached = np.array([good_N[scores_N >= choice].mean() if (scores_N >= choice).any() else 0.0
                        for choice in choices])  # fmt: skip
    enough = np.flatnonzero(reached >= precision)
    best = enough[0] if len(enough) else reached.argmax()
    return float(choices[best]), bool(len(enough))


def measure(
    scores_N: np.ndarray,
    good_N: np.ndarray,
    films_N: np.ndarray,
    precision: float,
    trained_on: int,
    seed: int,
) -> Held:
    """What the rule reaches on held-out clips, given their scores, whether they are good, and their films."""
    confidence, reaches = choose_confidence(scores_N, good_N, precision)
    kept_N, films = np.zeros(len(scores_N), bool), np.unique(films_N)
    for film in films:
        own_N = films_N == film
        others_N = own_N if own_N.all() else ~own_N
        kept_N[own_N] = (
            scores_N[own_N] >= choose_confidence(scores_N[others_N], good_N[others_N], precision)[0]
        )
    fractions = precision_and_recall(kept_N, good_N, films_N, seed)
    return Held(*fractions, confidence, reaches, len(scores_N), int(good_N.sum()), len(films), trained_on)


def precision_and_recall(
    kept_N: np.ndarray, good_N: np.ndarray, films_N: np.ndarray, seed: int
) -> tuple[Fraction, Fraction]:
    """How many of the clips that are kept are good, and how many of the good ones are kept."""
    counts_N3 = np.stack([kept_N & good_N, kept_N, good_N], 1)
    counts_F3 = np.stack([counts_N3[films_N == film].sum(0) for film in np.unique(films_N)])
    draws_DF = np.random.default_rng(seed).integers(len(counts_F3), size=(DRAWS, len(counts_F3)))
    drawn_D3, total_3 = counts_F3[draws_DF].sum(1), counts_F3.sum(0)

    def fraction(of: int) -> Fraction:
        if not total_3[of]:
            return Fraction(np.nan, np.nan, np.nan)
        some_D = drawn_D3[drawn_D3[:, of] > 0]
        low, high = np.quantile(some_D[:, 0] / some_D[:, of], [0.025, 0.975])
        return Fraction(float(total_3[0] / total_3[of]), float(low), float(high))

    return fraction(1), fraction(2)
