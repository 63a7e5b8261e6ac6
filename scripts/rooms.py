"""Agents in a game in which one must look (`jinn.agents.rooms`): one command for each method, five seeds, intervals.

python scripts/rooms.py offline --out runs/rooms   learning from recorded play, good and bad, beside cloning all of it
python scripts/rooms.py curriculum                 which levels to learn on: any, or those that are solved now and then
python scripts/rooms.py distill                    learning within the context, beside cloning the learners' last play
python scripts/rooms.py illuminate runs/rooms/0    the levels on which a policy of `offline` fails
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

from jinn.agents.baselines import constant_action, random_actions
from jinn.agents.curriculum import Curriculum, CurriculumConfig
from jinn.agents.distill import DistillConfig, Histories, distill, learning_histories, play_in_context
from jinn.agents.illuminate import Axis, SearchConfig, illuminate
from jinn.agents.network import Network, NetworkConfig, new_network
from jinn.agents.offline import OfflineConfig, Recording, learn_offline, record
from jinn.agents.play import Policy, play
from jinn.agents.ppo import PPOConfig, train_ppo
from jinn.agents.rooms import (
    Levels,
    Rooms,
    Source,
    edited,
    empty_rooms,
    join,
    opened,
    path_lengths,
    random_levels,
)
from jinn.data.synthetic import ACTIONS, CELL
from jinn.evaluation.estimate import bootstrap
from jinn.files import replacing
from jinn.studies.rows import over_seeds

SIDE, HORIZON = 6, 24
LEVELS = partial(random_levels, most_walls=0.4, side=SIDE)
HELD_OUT_SEED = 1_000_000


def show(name: str, *runs: np.ndarray) -> None:
    """Print the mean of one value for each level or task, and of one run for each seed, with its 95% interval."""
    found = over_seeds([bootstrap(torch.as_tensor(run).double(), 0) for run in runs])
    print(f"{name}: {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]", flush=True)


def held_out(count: int) -> Levels:
    """Levels that nobody learns on."""
    return LEVELS(count, np.random.default_rng(HELD_OUT_SEED))


def offline(
    out: Path = Path("runs/rooms"),
    seeds: int = 5,
    players: int = 256,
    steps: int = 400,
    config: OfflineConfig = OfflineConfig(steps=2_000, batch=128, lag=0.95),  # noqa: B008 it is frozen
    widths: tuple[int, ...] = (32,),
    levels: int = 512,
) -> None:
    """Record players of every skill, and learn from them: all of it, what turned out better, or the better the more.

    Args:
        out: Folder for the agents, OUT/SEED of the first width.
        seeds: Number of seeds, from 0.
        players: Number of games that are recorded together; each has a skill of its own.
        steps: Recorded steps of each.
        config: How is learned; --config.copy and --config.shifts are set by the rows.
        widths: Channels of the networks, one row of each method for each.
        levels: Number of held-out levels.
    """
    tests, generator = held_out(levels), torch.Generator().manual_seed(0)
    envs = partial(Rooms, tests, horizon=HORIZON)
    show("random actions", play(envs(), random_actions(len(ACTIONS), generator), levels))
    for action, name in enumerate(ACTIONS[1:], 1):
        show(f"{name} held", play(envs(), constant_action(action), levels))
    recordings = [recorded(players, steps, seed) for seed in range(seeds)]
    ended = sum(float(x.over_X.sum()) for x in recordings)
    started = sum(float((x.actions_X < 0).sum()) for x in recordings)
    print(f"the recorded players: {min(1.0, ended / max(started, 1)):.2f} of their episodes", flush=True)
    weighted = replace(config, copy="weighted")
    rows = {
        "all": replace(config, copy="all"),
        "better": replace(config, copy="better"),
        "weighted": weighted,
        "weighted, shifted": replace(weighted, shifts=(-CELL, 0, CELL)),
    }
    for width in widths:
        sizes = NetworkConfig(
            len(ACTIONS), (SIDE * CELL, SIDE * CELL), channels=(width,), width=8 * width, fold=CELL
        )
        scores: dict[str, list[np.ndarray]] = {}
        for name, settings in rows.items():
            for seed, recording in enumerate(recordings):
                policy = learn_offline(recording, len(ACTIONS), settings, seed, sizes=sizes)
                scores.setdefault(name, []).append(play(envs(), acting(policy, seed), levels))
                if name == "weighted" and width == widths[0]:
                    policy.save(out / str(seed))
            show(f"{width} channels, copies {name}, {seeds} seeds", *scores[name])
        for name, usual in (("better", "all"), ("weighted", "all"), ("weighted, shifted", "weighted")):
            pairs = zip(scores[name], scores[usual], strict=True)
            show(f"{width} channels, {name} less {usual}", *(found - other for found, other in pairs))


def recorded(
    players: int, steps: int, seed: int, levels: Source = LEVELS, horizon: int = HORIZON
) -> Recording:
    """Play of players who each know the way at a rate of their own, from never to half of the time."""
    rng = np.random.default_rng(seed)
    envs, skill_B = Rooms(levels, players, horizon, seed=seed), rng.uniform(0, 0.5, players)

    def act(_: Tensor) -> Tensor:
        random_B = rng.integers(len(ACTIONS), size=players)
        return torch.from_numpy(np.where(rng.random(players) < skill_B, envs.best_actions(), random_B))

    return record(envs, act, steps)


def acting(policy: Network, seed: int) -> Policy:
    """The policy, with random numbers of its own."""
    generator = torch.Generator().manual_seed(seed)
    return lambda frames_BHWC: policy.act(frames_BHWC, generator)


# Rows of `curricula`: how many of the episodes are on kept levels, and how many candidates are edits of these.
CURRICULA = {"domain randomisation": (0.0, 0.0), "level replay": (0.5, 0.0), "replay and edits": (0.5, 0.5)}


def curricula(
    seeds: int = 5,
    config: PPOConfig = PPOConfig(  # noqa: B008 it is frozen
        200_000, length=16, minibatches=4, learning_rate=1e-3, discount=0.95
    ),
    choose: CurriculumConfig = CurriculumConfig(every=30),  # noqa: B008 it is frozen
    side: int = 5,
    horizon: int = 16,
    levels: int = 512,
) -> None:
    """Learn by PPO on levels that are chosen in three ways, and play levels that nobody learned on.

    Args:
        seeds: Number of seeds, from 0.
        config: Of PPO, the same for all; steps that judge levels come on top and are counted.
        choose: How levels are kept; --choose.replay and --choose.edits are set by the rows.
        side: Cells along a side of a level.
        horizon: Steps of an episode.
        levels: Number of held-out levels; "far" are the half of them with the longest paths.
    """
    draw = partial(random_levels, side=side)
    tests = draw(levels, np.random.default_rng(HELD_OUT_SEED))
    far = np.argsort(path_lengths(tests), kind="stable")[levels // 2 :]
    show(
        "random actions",
        play(Rooms(tests, horizon=horizon), random_actions(len(ACTIONS), torch.Generator()), levels),
    )

    def judge(some: Levels, network: Network, episodes: int) -> np.ndarray:
        repeated = some[np.repeat(np.arange(len(some)), episodes)]
        return play(Rooms(repeated, horizon=horizon), acting(network, 0), len(repeated)).reshape(-1, episodes)

    scores: dict[str, list[np.ndarray]] = {}
    for name, (replay, edits) in CURRICULA.items():
        judged, began = 0, time.perf_counter()
        for seed in range(seeds):
            settings = replace(choose, replay=replay, edits=edits)
            source = Curriculum(draw, join, judge, settings, edited, seed)
            sizes = NetworkConfig(
                len(ACTIONS), (side * CELL, side * CELL), channels=(32,), width=128, fold=CELL
            )
            network = new_network(sizes, seed)
            train_ppo(
                Rooms(source, 64, horizon, seed=seed), config, seed, network=network, on_update=source.renew
            )
            scores.setdefault(name, []).append(
                play(Rooms(tests, horizon=horizon), acting(network, seed), levels)
            )
            judged += source.judged
        rate = seeds * config.steps / (time.perf_counter() - began)
        print(f"{name}: {rate:.0f} steps a second, and {judged / seeds:.0f} episodes to judge levels, a seed")
        show("  all levels", *scores[name])
        show("  far goals", *(found[far] for found in scores[name]))
        if len(scores) > 1:
            pairs = zip(scores[name], next(iter(scores.values())), strict=True)
            show("  all levels, less domain randomisation", *(found - usual for found, usual in pairs))


def dark_tasks(cells: np.ndarray, side: int) -> Levels:
    """Dark rooms whose players start in the middle; a task is the cell of its goal."""
    rooms, count = empty_rooms(len(cells), np.random.default_rng(0), side), len(cells)
    return Levels(rooms.walls_LYX, np.full((count, 2), side // 2), np.stack(np.divmod(cells, side), -1))


def distilled(
    seeds: int = 5,
    side: int = 5,
    horizon: int = 15,
    episodes: int = 40,
    copies: int = 16,
    rate: float = 0.3,
    config: DistillConfig = DistillConfig(context=60, steps=3_500),  # noqa: B008 it is frozen
    played: int = 12,
) -> None:
    """Learn to learn in dark rooms: where the goal is has to be found out, and a quarter of the goals is held out.

    Args:
        seeds: Number of seeds, from 0; each holds out other goals.
        side: Cells along a side of the room.
        horizon: Steps of an episode.
        episodes: Of each learner, from its first to its last.
        copies: Learners of each task.
        rate: Of the learners.
        config: Of the transformer.
        played: Episodes that are played for each goal, those of the histories too, with nothing remembered of them.
    """
    rows: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        cells = np.delete(np.arange(side * side), side * side // 2)
        cells = np.random.default_rng(seed).permutation(cells)
        new, old = cells[: len(cells) // 4], cells[len(cells) // 4 :]

        def rooms(tasks: np.ndarray) -> Rooms:
            return Rooms(dark_tasks(np.repeat(tasks, copies), side), horizon=horizon, dark=True)

        histories = learning_histories(rooms(old), episodes, horizon, seed, rate)
        late = slice(-len(histories.actions_KT[0]) // 5, None)
        last = Histories(
            *(part[:, late] for part in (histories.seen_KTD, histories.actions_KT, histories.rewards_KT))
        )
        source = learning_histories(rooms(new), episodes, horizon, seed, rate)
        earned_KE = source.rewards_KT.unflatten(1, (episodes, horizon)).sum(-1).numpy()
        rows.setdefault("the source, new goals", []).append(earned_KE[:, :played])
        rows.setdefault("the source at its end, new goals", []).append(earned_KE[:, -played:])
        for row, lived in (("algorithm distillation", histories), ("cloning of the last fifth", last)):
            model = distill(lived, len(ACTIONS), config, seed)
            for which, goals in (("new", new), ("known", old)):
                found_KE = play_in_context(model, rooms(goals), played, horizon, config.context, seed)
                rows.setdefault(f"{row}, {which} goals", []).append(found_KE)
        print(f"seed {seed} is done", flush=True)
    for row, returns in rows.items():
        print(f"{row}, by episode: " + " ".join(f"{value:.2f}" for value in np.concatenate(returns).mean(0)))
        show("  first episode", *(x[:, 0] for x in returns))
        show("  last three", *(x[:, -3:].mean(1) for x in returns))
        show("  gain", *(x[:, -3:].mean(1) - x[:, 0] for x in returns))


def level_of(genes_ND: np.ndarray) -> Levels:
    """Levels from genes in [0, 1]: one for each cell, a wall above 0.7, and one each for start and goal."""
    cells = SIDE * SIDE
    walls_NYX = (genes_ND[:, :cells] > 0.7).reshape(-1, SIDE, SIDE)
    ends_N2 = (genes_ND[:, cells:] * cells).astype(np.int64).clip(max=cells - 1)
    start_N2, goal_N2 = (np.stack(np.divmod(ends_N2[:, i], SIDE), -1) for i in (0, 1))
    return opened(walls_NYX, start_N2, goal_N2)


def failing(
    agent: Path,
    /,
    out: Path = Path("failures.png"),
    search: SearchConfig = SearchConfig(rounds=40, batch=32),  # noqa: B008 it is frozen
    tries: int = 8,
    again: int = 32,
) -> None:
    """Map the levels on which an agent fails: regret by the number of walls and the length of the shortest path.

    Args:
        agent: Folder of an agent of `offline`.
        out: Picture of the worst level of each kind, the worst first.
        search: How long is searched.
        tries: Episodes by which a level is judged in the search.
        again: Episodes by which what was found is judged again: the search itself picks bad luck.
    """
    policy = acting(Network.load(agent), 0)

    def regret(levels: Levels, episodes: int) -> np.ndarray:
        """What a shortest path earns, 1, less what the agent earns."""
        each = levels[np.repeat(np.arange(len(levels)), episodes)]
        return 1 - play(Rooms(each, horizon=HORIZON), policy, len(each)).reshape(-1, episodes).mean(1)

    def evaluate(genes_ND: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        levels = level_of(genes_ND)
        path_N = path_lengths(levels)
        fits = np.flatnonzero((path_N > 0) & (path_N <= HORIZON // 2))
        bad_N = np.full(len(levels), np.nan)
        if len(fits):
            bad_N[fits] = regret(levels[fits], tries)
        return bad_N, np.stack([levels.walls_LYX.sum((1, 2)), path_N], -1).astype(float)

    axes = (Axis("walls", 0, 18, 6), Axis("steps", 1, HORIZON // 2 + 1, 6))
    found = illuminate(evaluate, SIDE * SIDE + 2, axes, search)
    levels = level_of(found.genes_KD)
    judged = regret(levels, again)
    print(f"{len(levels)} kinds of {axes[0].cells * axes[1].cells}, {found.tried} levels tried")
    show("regret of what was found, judged again", judged)
    show("regret on as many random levels", regret(held_out(len(levels)), again))
    frames = Rooms(levels).reset()[0]
    for (walls, steps), once, twice in zip(found.measures_KM, found.badness_K, judged, strict=True):
        print(f"{walls:.0f} walls, {steps:.0f} steps: regret {once:.2f}, judged again {twice:.2f}")
    row_HWC = np.concatenate([*np.pad(frames[:12], ((0, 0), (0, 0), (0, CELL), (0, 0)))], 1)
    with replacing(out) as file:
        Image.fromarray(row_HWC.repeat(CELL, 0).repeat(CELL, 1)).save(file, "PNG")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {"offline": offline, "curriculum": curricula, "distill": distilled, "illuminate": failing}
    )
