"""The paper's figure of agents (appendix E): what is cloned from videos without actions, by labelled steps.

python scripts/clone_expert.py CoinrunHard-v0 stores/expert_hard --world coinrun --out report_agents

Latent actions label an expert's videos, which the latent action model never saw; a policy is cloned from
them; a few steps whose true actions are known make the dictionary from latent to true actions; and levels
that nobody saw are played. Beside it: a policy cloned from true actions (the oracle), the same oracle
behind a dictionary of as few steps (what a perfect latent action model would give), random presses, which
are also what a dictionary of no steps gives, and blind ones: as often as in the labelled steps, whatever the
frame. What the latent actions are worth is what lies above the blind line.

With `--unseen STORE`, more videos of the same expert on other levels, it is also measured how often each of
them presses what the expert pressed: an expert who is hardly better than a held key has clones that solve as
much without looking, and here it shows whether they look.

What is done is kept in OUT/rows.jsonl: the same command goes on from there, other games join the figure
OUT/agents.svg.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

from jinn.agents.baselines import blind_actions, random_actions
from jinn.agents.clone import CloneConfig, clone
from jinn.agents.game import SOLVED, TEST_LEVELS, Game, number_of_actions
from jinn.agents.network import Network, NetworkConfig, new_network
from jinn.agents.play import Policy, play
from jinn.contracts import JinnError
from jinn.data.clips import load_frames
from jinn.data.store import FrameStore
from jinn.evaluation.estimate import Estimate
from jinn.evaluation.report.charts import STYLE, Line, draw
from jinn.files import read_tensors, write_tensors, write_text
from jinn.world.keys import Dictionary
from jinn.world.label import label
from jinn.world.world import World

LABELLED = (0, 100, 200, 400, 600, 800, 1000)
NOISE = 0.1  # how often the paper's oracle presses at random
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}

KEYS = ("game", "measure", "who", "labelled", "seed")
WHO = ("cloned", "perfect latent actions")  # behind a dictionary of the labelled steps
TITLES = {"solved": "levels solved", "agreement": "keys as the expert's"}

# Read off the paper's figure: shares of test levels solved, by labelled steps; then its oracle, and random.
PAPER: dict[str, tuple[tuple[float, ...], float, float]] = {
    "CoinrunEasy-v0": ((0.29, 0.458, 0.483, 0.525, 0.518, 0.506, 0.530), 0.546, 0.338),
    "CoinrunHard-v0": ((0.26, 0.451, 0.494, 0.536, 0.518, 0.526, 0.519), 0.514, 0.252),
}


def main(
    game: str,
    store: Path,
    /,
    world: str = "coinrun",
    unseen: Path | None = None,
    out: Path = Path("report_agents"),
    cloning: CloneConfig = CloneConfig(),  # noqa: B008 it is frozen
    channels: tuple[int, ...] = NetworkConfig(0).channels,
    fold: int = NetworkConfig(0).fold,
    seeds: int = 5,
    episodes: int = 100,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> None:
    """Label, clone, look up, play; then draw.

    Args:
        game: EnvPool's name of a Procgen game.
        store: Videos of its expert, with true actions for the dictionary and the oracle.
        world: Whose latent actions label them.
        unseen: Videos of the same expert on levels that STORE does not show.
        out: Folder of the figure.
        cloning: How policies are cloned.
        channels: Of the stages of their network.
        fold: Pixel-unshuffle factor of its input; 2 with 8 16 32 channels is seven times as fast on a CPU.
        seeds: Number of seeds, from 0, of policies, labelled steps and the order of levels.
        episodes: Number of episodes that each of them plays.
        device: Where the world labels.
    """
    out.mkdir(parents=True, exist_ok=True)
    frames, world_actions = FrameStore.open(store), World.load(world, device).num_actions
    latents_X = latent_labels(game, frames, world, device, out)
    frames_XHWC, actions_X = load_frames(frames, torch.device("cpu")), true_actions(frames)
    U = number_of_actions(game)
    known_K = ((latents_X >= 0) & (actions_X >= 0)).nonzero().squeeze(-1)
    measures: dict[str, Callable[[Policy, int], np.ndarray]] = {"solved": partial(solved, game, episodes)}
    if unseen is not None:
        measures["agreement"] = agreement(FrameStore.open(unseen), frames)
    results = Results(out / "rows.jsonl", game, measures)

    def cloned(kind: str, labels_X: Tensor, count: int, seed: int) -> Network:
        folder = out / "policies" / f"{game}-{kind}-{seed}"
        if not (folder / "policy.safetensors").exists():
            network = new_network(NetworkConfig(count, frames.size_hw, channels, fold=fold), seed)
            clone(frames_XHWC, labels_X, count, cloning, seed, network=network).save(folder)
        return Network.load(folder)

    for seed in range(seeds):
        order_K = known_K[torch.randperm(len(known_K), generator=torch.Generator().manual_seed(seed))]
        imitator, oracle = (
            cloned("latent", latents_X, world_actions, seed),
            cloned("true", actions_X, U, seed),
        )
        results.add("random", 0, seed, partial(random_actions, U))
        results.add("oracle", 0, seed, partial(by_network, oracle))
        results.add("oracle, a tenth random", 0, seed, partial(noisy, oracle, U))
        labels = (latents_X, world_actions), (actions_X, U)
        add_dictionaries(results, (imitator, oracle), labels, order_K, seed)
    write_text(out / "agents.svg", figure(results.rows))
    print(table(results.rows))


def add_dictionaries(
    results: Results,
    policies: tuple[Network, Network],
    labels: tuple[tuple[Tensor, int], tuple[Tensor, int]],
    order_K: Tensor,
    seed: int,
) -> None:
    """Policies behind dictionaries of ever more labelled steps, and actions as frequent as in these steps.

    Args:
        results: where they go.
        policies: cloned from latent and from true actions.
        labels: latent and true actions of all frames, and how many of them there are.
        order_K: frames with both, in the order in which their true actions become known.
        seed: of the row.
    """
    actions_X, U = labels[1]
    for count in LABELLED[1:]:
        some_K = order_K[:count]
        for who, policy, (codes_X, codes) in zip(WHO, policies, labels, strict=True):
            book = Dictionary(codes_X[some_K], actions_X[some_K], codes, U)
            results.add(who, count, seed, partial(by_dictionary, policy, book))
        counts_U = torch.bincount(actions_X[some_K], minlength=U).double()
        results.add("blind", count, seed, partial(blind_actions, counts_U))


def solved(game: str, episodes: int, policy: Policy, seed: int) -> np.ndarray:
    """Whether a policy solves each of so many levels that nobody was trained on."""
    return play(Game(game, 50, TEST_LEVELS, seed), policy, episodes) >= SOLVED


def latent_labels(game: str, frames: FrameStore, world: str, device: str, out: Path) -> Tensor:
    """The world's latent actions of a store, computed once.

    Raises:
        JinnError: the store shows levels that agents are tested on, or that the world was trained on.
    """
    levels = {frames.level_seed(episode) for episode in range(frames.num_episodes)}
    if any(level is not None and TEST_LEVELS[0] <= level < sum(TEST_LEVELS) for level in levels):
        raise JinnError(f"{frames.path} shows levels that agents are tested on: record others, see expert.py")
    loaded = World.load(world, device)
    if loaded.trained_on is not None and np.isin(frames.groups, loaded.trained_on).any():
        raise JinnError(
            f"{world} was trained on levels of {frames.path}: record others, such as --levels 30000:5000"
        )
    labels = out / f"{game}-latents.safetensors"
    if not labels.exists():
        write_tensors(labels, {"latents": torch.from_numpy(label(loaded, frames))})
    return read_tensors(labels)["latents"]


class Results:
    """The rows of a figure, kept in a file: what is there already is not measured again.

    Args:
        path: of the file, a line of JSON for each row.
        game: that is measured.
        measures: from a policy and a seed to what it got right.
    """

    def __init__(
        self, path: Path, game: str, measures: dict[str, Callable[[Policy, int], np.ndarray]]
    ) -> None:
        self.path, self.game, self.measures = path, game, measures
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.done = {tuple(row[key] for key in KEYS) for row in self.rows}

    def add(self, who: str, labelled: int, seed: int, policy: Callable[[torch.Generator], Policy]) -> None:
        """Measure a policy, by each measure that has no row of it yet."""
        for measure, found in self.measures.items():
            row: dict[str, Any] = dict(zip(KEYS, (self.game, measure, who, labelled, seed), strict=True))
            if tuple(row.values()) in self.done:
                continue
            # A generator of its own: rows that were there already must not change those that come after.
            right = found(policy(torch.Generator().manual_seed(seed)), seed)
            self.rows.append({**row, "share": float(right.mean()), "of": len(right)})
            with self.path.open("a") as file:
                file.write(json.dumps(self.rows[-1]) + "\n")
            print(json.dumps(self.rows[-1]), flush=True)


def agreement(store: FrameStore, cloned_from: FrameStore) -> Callable[[Policy, int], np.ndarray]:
    """Whether a policy draws the key that the expert pressed, frame by frame."""
    if np.isin(store.groups, cloned_from.groups).any():
        raise JinnError(
            f"{store.path} shows levels of {cloned_from.path}: record others, such as --levels 35000:1000"
        )
    actions_X = true_actions(store)
    known_X = actions_X >= 0
    frames_KHWC = load_frames(store, torch.device("cpu"))[known_X]

    def agrees(policy: Policy, _: int) -> np.ndarray:
        drawn_K = torch.cat([policy(frames_BHWC) for frames_BHWC in frames_KHWC.split(500)])
        return (drawn_K == actions_X[known_X]).numpy()

    return agrees


def true_actions(store: FrameStore) -> Tensor:
    """int64, one a frame in the store's order."""
    parts = []
    for episode, length in enumerate(store.lengths):
        actions_T = store.actions(episode, 0, int(length))
        if actions_T is None:
            raise JinnError(f"{store.path} has no true actions: record a game")
        parts.append(actions_T.astype(np.int64))
    return torch.from_numpy(np.concatenate(parts))


def by_network(network: Network, chance: torch.Generator) -> Policy:
    """The game's own keys, as the network draws them."""
    return lambda frames_BHWC: network.act(frames_BHWC, chance)


def by_dictionary(network: Network, book: Dictionary, chance: torch.Generator) -> Policy:
    """What the network draws, looked up."""
    return lambda frames_BHWC: book.to_true(network.act(frames_BHWC, chance), chance)


def noisy(network: Network, keys: int, chance: torch.Generator) -> Policy:
    """A tenth of the network's actions are random ones instead."""

    def act(frames_BHWC: Tensor) -> Tensor:
        actions_B = network.act(frames_BHWC, chance)
        random_B = torch.randint(keys, actions_B.shape, generator=chance)
        return torch.where(torch.rand(actions_B.shape, generator=chance) < NOISE, random_B, actions_B)

    return act


def over_seeds(rows: list[dict[str, Any]]) -> Estimate:
    """Mean of the seeds' shares, and Student's interval of it."""
    shares = [row["share"] for row in rows]
    mean = float(np.mean(shares))
    spread = (
        STUDENT.get(len(shares), 1.96) * float(np.std(shares, ddof=1)) / math.sqrt(len(shares))
        if len(shares) > 1
        else math.nan
    )
    return Estimate(mean, mean - spread, mean + spread, sum(row["of"] for row in rows), 0)


def lines_of(rows: list[dict[str, Any]], game: str, measure: str) -> list[Line]:
    """Ours, and the paper's where it has any."""

    def ours(who: str, labelled: int) -> Estimate:
        wanted = (game, measure, who, labelled)
        return over_seeds([r for r in rows if (r["game"], r["measure"], r["who"], r["labelled"]) == wanted])

    def curve(who: str) -> list[tuple[float, Estimate]]:
        return [(float(n), ours(who, n) if n else ours("random", 0)) for n in LABELLED]

    def flat(figure: Estimate) -> list[tuple[float, Estimate]]:
        return [(float(x), figure) for x in LABELLED]

    # The paper's oracle plays a tenth at random; who is asked what the expert pressed does not.
    best = "oracle, a tenth random" if measure == "solved" else "oracle"
    lines = [
        Line("cloned", 1, curve("cloned")),
        Line("perfect LAM", 2, curve("perfect latent actions")),
        Line("blind", 0, curve("blind")),
        Line("oracle", 3, flat(ours(best, 0)), dashed=True),
    ]
    if game in PAPER and measure == "solved":
        shares, oracle, random = PAPER[game]
        exact = lambda x: Estimate(x, x, x, 500, 0)  # noqa: E731
        points = [(float(n), exact(x)) for n, x in zip(LABELLED, shares, strict=True)]
        lines += [
            Line("paper: cloned", 4, points),
            Line("paper: oracle", 5, flat(exact(oracle)), dashed=True),
            Line("paper: random", 6, flat(exact(random)), dashed=True),
        ]
    return lines


def panels(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Games with their measures, in the order in which they were measured."""
    return list(dict.fromkeys((row["game"], row["measure"]) for row in rows))


def figure(rows: list[dict[str, Any]]) -> str:
    """All games side by side, their measures below each other, as one SVG."""
    games = list(dict.fromkeys(game for game, _ in panels(rows)))
    measures = [measure for measure in TITLES if any(measure == found for _, found in panels(rows))]
    with matplotlib.rc_context(fname=STYLE):
        drawing = Figure((3.8 * len(games), 2.26 * len(measures)), layout="constrained")
        grid = drawing.subplots(len(measures), len(games), squeeze=False)
        for game, measure in panels(rows):
            axes = grid[measures.index(measure)][games.index(game)]
            name = f"{game}: {TITLES[measure]} by labelled steps"
            draw(axes, lines_of(rows, game, measure), name, (0, 1) if measure == "solved" else None)
        file = io.StringIO()
        drawing.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, a line a game and kind."""
    text = [f"| | {' | '.join(map(str, LABELLED))} |", "|---" * (1 + len(LABELLED)) + "|"]
    for game, measure in panels(rows):
        for line in lines_of(rows, game, measure):
            cells = " | ".join(percent(figure) for _, figure in line.points)
            text.append(f"| {game}, {measure}, {line.label} | {cells} |")
    return "\n".join(text)


def percent(figure: Estimate) -> str:
    """With its interval, where there is one: the paper's points have none that could be read off."""
    between = f" [{100 * figure.low:.0f}, {100 * figure.high:.0f}]" if figure.low < figure.high else ""
    return f"{100 * figure.value:.0f}{between}"


if __name__ == "__main__":
    tyro.cli(main)
