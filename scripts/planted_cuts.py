"""How well `jinn.curation.shots` finds cuts that were planted in play of many games, beside detectors of PySceneDetect.

python scripts/planted_cuts.py --seed 0    (PySceneDetect: pip install scenedetect-headless)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from jinn.curation.scan import SIZE_HW
from jinn.curation.shots import cut_scores, shots
from jinn.data.collect import collect

PROCGEN = ("Coinrun", "Jumper", "Ninja", "Climber", "Caveflyer", "Starpilot", "Dodgeball", "Plunder")
ATARI = ("Boxing", "Breakout", "MsPacman", "Pitfall", "Frostbite", "Seaquest")
GAMES = (*(f"envpool:{name}Hard-v0" for name in PROCGEN), *(f"envpool:{name}-v5" for name in ATARI))
FRAMES = 900  # of each game, of which parts are taken
SLOWER = 1.5  # the games show 15 frames a second, and 10 are looked at
FADE = 4  # frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    frames_THWC, cuts, is_fade = planted(parts_of_games(rng))
    print(f"{len(frames_THWC)} frames, {len(cuts)} cuts, {is_fade.sum()} of which are fades")
    scores_T = cut_scores(frames_THWC)
    for threshold in (0.1, 0.2, 0.3, 0.5, 0.7):
        found = [begin for begin, _ in shots(scores_T, threshold)[1:]]
        print(f"TransNetV2, threshold {threshold}: {judged(found, cuts, is_fade)}")
    for name, found in by_scenedetect(frames_THWC):
        print(f"{name}: {judged(found, cuts, is_fade)}")


def parts_of_games(rng: np.random.Generator) -> list[np.ndarray]:
    """Parts of play between 20 and 90 frames long, uint8 ``THWC``, in random order."""
    parts = []
    for game in GAMES:
        for episode in collect(game, FRAMES, 0, num_envs=1, policy="sticky", size_hw=SIZE_HW):
            for first in range(0, len(episode.frames_THWC) - 30, 90):
                part_THWC = episode.frames_THWC[first : first + int(rng.integers(25, 90))]
                parts.append(part_THWC[np.floor(np.arange(0, len(part_THWC), SLOWER)).astype(int)])
    return [parts[number] for number in rng.permutation(len(parts))]


def planted(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One film of all parts, the frames that begin new shots, and which cuts are fades; each fifth part has a flash."""
    film: list[np.ndarray] = []
    cuts, length = [], 0
    for number, part_THWC in enumerate(parts):
        part_THWC = part_THWC.copy()
        if number % 5 == 0:  # a flash is no cut
            middle = len(part_THWC) // 2
            part_THWC[middle] = np.minimum(255, part_THWC[middle].astype(int) + 120)
        if number:
            fades = number % 6 == 0
            cuts.append((length - FADE // 2 * fades, fades))
            for step in range(FADE * fades):
                weight = (step + 1) / (FADE + 1)
                mixed = film[-1][step - FADE] * (1 - weight) + part_THWC[0] * weight
                film[-1][step - FADE] = mixed.astype(np.uint8)
        film.append(part_THWC)
        length += len(part_THWC)
    return np.concatenate(film), np.array([at for at, _ in cuts]), np.array([fades for _, fades in cuts])


def judged(found: list[int], cuts: np.ndarray, is_fade: np.ndarray) -> str:
    """Precision and recall: a cut is found to a frame, a fade to three."""
    near = np.abs(np.array(found, int)[:, None] - cuts) <= np.where(is_fade, 3, 1)
    precision, recall = near.any(1).mean() if found else 0.0, near.any(0).mean()
    return (
        f"precision {precision:.3f}, recall {recall:.3f}, F1 {2 * precision * recall / (precision + recall):.3f}, "
        f"fades {near[:, is_fade].any(0).mean():.2f}"
    )


def by_scenedetect(frames_THWC: np.ndarray) -> Iterator[tuple[str, list[int]]]:
    """What the detectors of PySceneDetect find, nothing where it is not installed."""
    try:
        import scenedetect
    except ImportError:
        return
    detectors = {"PySceneDetect, adaptive (3.0)": scenedetect.AdaptiveDetector(3.0, 5)}
    for threshold in (20, 27, 35):
        detectors[f"PySceneDetect, content ({threshold})"] = scenedetect.ContentDetector(threshold, 5)
    for name, detector in detectors.items():
        found = []
        for number, frame_HWC in enumerate(frames_THWC):
            code = scenedetect.FrameTimecode(number, 10.0)
            found += detector.process_frame(code, np.ascontiguousarray(frame_HWC[..., ::-1]))
        found += detector.post_process(scenedetect.FrameTimecode(len(frames_THWC) - 1, 10.0))
        yield name, [code.frame_num for code in found]


if __name__ == "__main__":
    main()
