"""Makes videos as the wild has them, with the truth about each clip, and measures what a classifier learns of it.

    python scripts/rough_videos.py make videos/ --films 60 --seed 0
    python scripts/rough_videos.py measure videos/ --noise 0.1 --width 16

A film is of one game of EnvPool. It has play, and what is no good to learn the game from: menus, a black or a still
picture, noise, cuts from game to game, bars around the picture, a person's face over it. Some films are copies of
others, and some have a title that promises no play. Beside each film is its title as yt-dlp writes it, and truth.json
says what each part is. The same seed gives the same films.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

from jinn.curation.classifier import ClassifierConfig
from jinn.curation.clip import Clip, Row, read_clip, write_clips
from jinn.curation.learning import held_out, precision_and_recall, train_classifier
from jinn.curation.ratings import Rating, add_rating, labels, latest
from jinn.data.collect import collect
from jinn.files import read_json, write_json

FPS, SIZE_HW = 10, (144, 256)
GAMES = [
    f"{game}Easy-v0"
    for game in ("Coinrun", "Ninja", "Climber", "Jumper", "Starpilot", "Bigfish", "Caveflyer")
]
GAMES += [
    f"{game}-v5" for game in ("Pitfall", "MontezumaRevenge", "Kangaroo", "MsPacman", "Breakout", "Seaquest")
]
WANTED = ("{} gameplay, platformer", "let's play {} (super mario like)", "{} speedrun any%, sidescroller")
UNWANTED = ("{} soundtrack", "{} platformer gameplay trailer reaction", "unboxing {}")
WORDS = ("NEW GAME", "CONTINUE", "OPTIONS", "LOADING", "CREDITS", "SUBSCRIBE", "LEVEL SELECT", "QUIT")

Rng = np.random.Generator


def play(game: str, frames: int, seed: int) -> np.ndarray:
    """Some seconds of a game under held random movements, uint8 ``THWC``."""
    parts = collect(f"envpool:{game}", frames, seed, None, "sticky", 1, size_hw=SIZE_HW)
    return np.concatenate([episode.frames_THWC for episode in parts])


def menu(shown_THWC: np.ndarray, rng: Rng) -> np.ndarray:
    """Words on a dark picture of the game; a mark moves from one to the next now and then."""
    ground = Image.fromarray(shown_THWC[0] // int(rng.integers(2, 9)))
    words, font = (
        rng.permutation(WORDS)[: rng.integers(2, 6)],
        ImageFont.load_default(int(rng.integers(10, 22))),
    )
    left, pictures = int(rng.integers(10, 140)), []
    for chosen in range(3):
        picture = ground.copy()
        for line, word in enumerate(words):
            mark = "> " if line == chosen % len(words) else "  "
            place = (left, 15 + 24 * line)
            ImageDraw.Draw(picture).text(place, mark + str(word), fill=(230, 230, 210), font=font)
        pictures.append(np.asarray(picture))
    return np.stack(pictures)[np.arange(len(shown_THWC)) * 3 // len(shown_THWC)]


def black(shown_THWC: np.ndarray, rng: Rng) -> np.ndarray:
    """Nothing, as at the begin of a film."""
    return np.full_like(shown_THWC, rng.integers(0, 12))


def still(shown_THWC: np.ndarray, rng: Rng) -> np.ndarray:
    """A game that somebody left alone."""
    return shown_THWC[:1].repeat(len(shown_THWC), 0)


def noise(shown_THWC: np.ndarray, rng: Rng) -> np.ndarray:
    """A screen without a signal."""
    height, width = SIZE_HW
    small_THW = rng.integers(0, 256, (len(shown_THWC), height // 4, width // 4, 1), dtype=np.uint8)
    return small_THW.repeat(4, 1).repeat(4, 2).repeat(3, 3)


def cuts(shown_THWC: np.ndarray, rng: Rng) -> np.ndarray:
    """Half a second of this, half a second of that."""
    other = GAMES[rng.integers(len(GAMES))]
    other_THWC = play(other, len(shown_THWC), int(rng.integers(2**31)))
    is_other_T = np.arange(len(shown_THWC)) // (FPS // 2) % 2 == 1
    return np.where(is_other_T[:, None, None, None], other_THWC[::-1], shown_THWC)


def bars(shown_THWC: np.ndarray, rng: Rng) -> np.ndarray:
    """Play between black bars."""
    axis = int(rng.integers(1, 3))
    width = int(SIZE_HW[axis - 1] * rng.uniform(0.15, 0.3))
    moved_THWC = np.moveaxis(shown_THWC.copy(), axis, 1)
    moved_THWC[:, :width], moved_THWC[:, -width:] = 0, 0
    return np.moveaxis(moved_THWC, 1, axis)


def face(shown_THWC: np.ndarray, rng: Rng) -> np.ndarray:
    """Play behind the picture of the person who plays, who moves a little."""
    height, width = int(rng.integers(40, 70)), int(rng.integers(55, 90))
    top = int(rng.choice([0, SIZE_HW[0] - height]))
    left = int(rng.choice([0, SIZE_HW[1] - width]))
    skin, wall = (int(rng.integers(120, 240)), 140, 110), tuple(rng.integers(0, 256, 3).tolist())
    frames = []
    place = np.array([width / 2, height / 2])
    for frame_HWC in shown_THWC:
        place = np.clip(place + rng.normal(0, 1.5, 2), (16, 18), (width - 16, height - 18))
        picture, camera = Image.fromarray(frame_HWC), Image.new("RGB", (width, height), wall)
        (x, y), draw = place, ImageDraw.Draw(camera)
        draw.ellipse((x - 13, y - 16, x + 13, y + 16), fill=skin)
        draw.rectangle((x - 20, y + 14, x + 20, height), fill=(40, 40, 70))
        for side in (-5, 5):
            draw.ellipse((x + side - 2, y - 5, x + side + 2, y - 1), fill=(20, 20, 20))
        picture.paste(camera, (left, top))
        frames.append(np.asarray(picture))
    return np.stack(frames)


BAD: tuple[Callable[[np.ndarray, Rng], np.ndarray], ...] = (menu, black, still, noise, cuts, bars, face)


def film(game: str, parts: int, seconds: float, rng: Rng) -> Iterator[tuple[str, np.ndarray]]:
    """The parts of a film, half of them play: what each is, and its frames."""
    frames = round(seconds * FPS)
    played_XHWC = play(game, parts * frames, int(rng.integers(2**31)))
    light = rng.uniform(0.7, 1.2)
    for part in range(parts):
        shown_THWC = played_XHWC[part * frames : (part + 1) * frames]
        kind = None if rng.random() < 0.5 else BAD[rng.integers(len(BAD))]
        changed_THWC = shown_THWC if kind is None else kind(shown_THWC, rng)
        yield kind.__name__ if kind else "play", (changed_THWC * light).clip(0, 255).astype(np.uint8)


def write_film(path: Path, frames_THWC: np.ndarray, crf: int) -> None:
    """Encode frames as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FPS))
        stream.height, stream.width, stream.pix_fmt = *SIZE_HW, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        for frame_HWC in frames_THWC:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def make(
    out: tyro.conf.Positional[Path], /, films: int = 60, parts: int = 6, seconds: float = 4.0, seed: int = 0
) -> None:
    """Make films with their titles, and truth.json.

    Args:
        out: Folder of the films, which is made.
        films: Number of films. Every tenth is a copy of another one, encoded anew, and every eighth has a title that
            promises no play.
        parts: Clips of each film.
        seconds: Length of each clip.
        seed: The same seed gives the same films.
    """
    out.mkdir(parents=True, exist_ok=True)
    truth: list[dict[str, Any]] = []
    for number in range(films):
        rng = np.random.default_rng((seed, number))
        game, path = GAMES[number % len(GAMES)], out / f"{seed}-{number:04d}.mp4"
        original = truth[number - 5] if number % 10 == 9 else None
        if original is None:
            kinds, shown = zip(*film(game, parts, seconds, rng), strict=True)
            frames_THWC = np.concatenate(shown)
        else:
            game, kinds = original["game"], [clip["kind"] for clip in original["clips"]]
            frames_THWC = read_clip(Clip(str(out / original["file"]), 0, parts * seconds), FPS, SIZE_HW)
        write_film(path, frames_THWC, int(rng.integers(20, 34)))
        is_wanted = number % 8 != 7
        title = str(rng.choice(WANTED if is_wanted else UNWANTED)).format(game.partition("-")[0])
        write_json(path.with_suffix(".info.json"), {"title": title, "fps": FPS, "duration": parts * seconds})
        clips = [{"start": n * seconds, "seconds": seconds, "kind": kind, "good": kind == "play"}
                 for n, kind in enumerate(kinds)]  # fmt: skip
        truth.append({"file": path.name, "title": title, "game": game, "wanted": is_wanted,
                      "copy_of": original and original["file"], "clips": clips})  # fmt: skip
    write_json(out / "truth.json", {"seed": seed, "films": truth})


def simulate(
    folder: Path, noise: float, people: int, seed: int
) -> tuple[list[Clip], list[str], dict[str, bool]]:
    """Rate the clips of all films but copies, into the folder's table and ratings.

    Each person takes a good clip for bad, or a bad one for good, with a probability of `noise`, and gives what they
    take for good 5 (80%), 4 or 3, and what they take for bad 1 (80%), 2 or 3.

    Returns:
        The clips, what each is in truth, and the labels that come of the ratings.
    """
    films = [film for film in read_json(folder / "truth.json")["films"] if not film["copy_of"]]
    rows = [
        (
            Row(str((folder / film["file"]).resolve()), 0, clip["start"], clip["seconds"], film["title"]),
            clip["kind"],
        )
        for film in films
        for clip in film["clips"]
    ]
    write_clips(folder, [row for row, _ in rows])
    rng = np.random.default_rng(seed)
    ratings: list[Rating] = []
    for row, kind in rows:
        for person in range(people):
            away = int(rng.choice([0, 1, 2], p=[0.8, 0.15, 0.05]))
            rating = 5 - away if (kind == "play") != (rng.random() < noise) else 1 + away
            ratings.append(Rating(row.clip.name, f"person {person}", rating, float(len(ratings))))
            add_rating(folder, ratings[-1])
    return [row.clip for row, _ in rows], [kind for _, kind in rows], labels(latest(ratings))


def measure_all(
    folder: tyro.conf.Positional[Path], /, noise: float = 0.1, people: int = 3, width: int = 64,
    epochs: int = 40, precision: float = 0.9, seed: int = 0,
) -> None:  # fmt: skip
    """Train on simulated ratings, and measure on the truth about the clips of held-out films.

    Args:
        folder: Of films that `make` made.
        noise: Probability with which a person takes a good clip for bad, or a bad one for good.
        people: Who rate each clip.
        width: Of the classifier.
        epochs: Of the training.
        precision: That is asked for.
        seed: Of ratings and training.
    """
    clips, kinds, learned = simulate(folder, noise, people, seed)
    good_N, films_N = np.array(kinds) == "play", np.array([Path(clip.file).name for clip in clips])
    rated_N = np.array([clip.name in learned for clip in clips])
    rated = [clip for clip in clips if clip.name in learned]
    labels_N = np.array([learned[clip.name] for clip in rated])
    began = time.perf_counter()
    classifier, held = train_classifier(
        rated, labels_N.tolist(), ClassifierConfig(width), precision=precision, epochs=epochs, seed=seed
    )
    seconds = time.perf_counter() - began
    classifier.save(folder / "classifier")
    held_N = np.isin(films_N, films_N[rated_N][held_out(films_N[rated_N])])
    scores_N = np.concatenate([classifier.score(read_clip(clips[n])[None]) for n in np.flatnonzero(held_N)])
    kept_N = scores_N >= classifier.config.confidence
    shown = np.array(kinds)[held_N]
    fractions = precision_and_recall(kept_N, good_N[held_N], films_N[held_N], seed)
    found = {
        "films": len(set(films_N)),
        "clips": len(clips),
        "labels": len(rated),
        "labels that are wrong": int((labels_N != good_N[rated_N]).sum()),
        "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "seconds of training": round(seconds),
        "on the labels of held-out films": {key: str(value) for key, value in vars(held).items()},
        "on the truth about all clips of held-out films": dict(
            zip(("precision", "recall"), map(str, fractions), strict=True)
        ),
        "kept, of all": {
            kind: f"{kept_N[shown == kind].sum()} of {(shown == kind).sum()}" for kind in sorted(set(kinds))
        },
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"make": make, "measure": measure_all})
