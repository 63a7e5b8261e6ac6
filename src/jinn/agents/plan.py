"""Planning: a policy that looks ahead in a learned environment before it acts (model-predictive control).

    dream = jinn.env.WorldVectorEnv(64, "runs/mine", reward=GoalImage(picture_HWC))
    returns = play(game, Planner(dream, beam_search), episodes=10)

From the last frames of the game, each environment of the dream tries one candidate. The first actions of the best one
are played, and then comes the next plan. Whatever the dream rewards is the objective.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jinn.agents.play import check_envs
from jinn.contracts import JinnError, as_actions

# Frames uint8 BHWC -> values B: the discounted rewards to expect from there, in the unit of the dream's rewards.
Value = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class PlanConfig:
    """How far a plan looks ahead, and how much of it is played.

    Attributes:
        moves: Number of moves of a plan, K.
        hold: Number of steps for which a move repeats its action.
        play: Number of moves that are played before the next plan is made.
        context: Largest number of last frames of the game from which a plan starts.
        discount: Factor of rewards for each step.

    Raises:
        JinnError: a number is out of range.
    """

    moves: int = 12
    hold: int = 1
    play: int = 1
    context: int = 4
    discount: float = 0.99

    def __post_init__(self) -> None:
        if min(self.moves, self.hold, self.play, self.context) < 1 or self.play > self.moves:
            raise JinnError(
                "moves, hold, play and context are at least 1, and no more is played than is planned"
            )
        if not 0 < self.discount <= 1:
            raise JinnError("the discount lies above 0 and is at most 1")


class Lookahead:
    """N roll-outs of the dream from one moment of a game, all with the same random numbers.

    Args:
        envs: the dream, which was reset before.
        value: see `Planner`.
        frames_THWC: uint8, the last frames of the game.
        seed: of the roll-outs.

    Attributes:
        N, A, K: the number of roll-outs, of actions, and of moves of a plan.
        over_N: bool, whether a roll-out has come to the end of its episode.
        frames_NHWC: uint8, the present frames; any where a roll-out is over.
    """

    def __init__(
        self, envs: Any, config: PlanConfig, value: Value | None, frames_THWC: Tensor, seed: int
    ) -> None:
        self.envs, self.config, self.value = envs, config, value
        self.start_THWC, self.seed = frames_THWC.cpu().numpy(), seed
        self.N, self.A, self.K = int(envs.num_envs), int(envs.single_action_space.n), config.moves
        self.restart()

    def restart(self) -> None:
        """Go back to the moment from which plans start."""
        # One prompt is read, and not N equal ones; a fork also has the same random numbers.
        only_first_N = np.arange(self.N) == 0
        self.envs.reset(seed=self.seed, options={"frames": self.start_THWC, "reset_mask": only_first_N})
        self.frames_NHWC = torch.as_tensor(self.envs.reset(options={"fork": 0})[0])
        self.returns_N, self.over_N = torch.zeros(self.N, dtype=torch.float64), torch.zeros(self.N).bool()
        self.discount = 1.0

    def fork(self, rows_N: Tensor) -> None:
        """Go on as copies of these roll-outs."""
        self.frames_NHWC = torch.as_tensor(self.envs.reset(options={"fork": rows_N.numpy()})[0])
        self.returns_N, self.over_N = self.returns_N[rows_N], self.over_N[rows_N]

    def move(self, actions_N: Tensor) -> None:
        """Take an action in each roll-out, for as many steps as a move has."""
        for _ in range(self.config.hold):
            if self.over_N.all():
                return
            frames, *results, _ = self.envs.step(actions_N.numpy())
            rewards_N, terminated_N, truncated_N = (torch.as_tensor(x).cpu() for x in results)
            self.frames_NHWC = torch.as_tensor(frames)
            self.returns_N += (self.discount * rewards_N).where(~self.over_N, 0.0)
            self.discount *= self.config.discount
            ended_N = terminated_N | truncated_N
            if ended_N.any():
                cut_N = truncated_N & ~self.over_N
                self.returns_N = self.returns_N.where(~cut_N, self._with_values())
                self.over_N = self.over_N | ended_N
                if not self.over_N.all():  # a copy of another needs no new episode, whose prompt takes time
                    rows_N = torch.arange(self.N).where(~ended_N, self.over_N.int().argmin())
                    self.envs.reset(options={"fork": rows_N.numpy()})

    def scores(self) -> Tensor:
        """float64 ``N``: discounted rewards so far, and the value of the present frame if the episode goes on."""
        return self.returns_N.where(self.over_N, self._with_values())

    def _with_values(self) -> Tensor:
        if self.value is None:
            return self.returns_N
        with torch.no_grad():
            values_N = torch.as_tensor(self.value(self.frames_NHWC))
        return self.returns_N + self.discount * values_N.double().cpu()

    def evaluate(self, plans_NK: Tensor) -> Tensor:
        """float64 ``N``: the scores of whole plans."""
        self.restart()
        for actions_N in plans_NK.T:
            self.move(actions_N)
        return self.scores()

    def best(self, scores_N: Tensor) -> int:
        """The roll-out with the highest score; of equals, the first whose episode goes on."""
        best = (scores_N == scores_N.max()).nonzero().squeeze(-1)
        going = best[~self.over_N[best]]
        return int((going if len(going) else best)[0])


# The look-ahead, what is left of the last plan, and the generator -> a plan, int64 of 1 to K moves.
Method = Callable[[Lookahead, Tensor, torch.Generator], Tensor]


def random_shooting(ahead: Lookahead, kept: Tensor, generator: torch.Generator) -> Tensor:
    """The best of N random plans; one of them begins with what is left of the last plan."""
    plans_NK = torch.randint(ahead.A, (ahead.N, ahead.K), generator=generator)
    plans_NK[0, : len(kept)] = kept
    return plans_NK[ahead.best(ahead.evaluate(plans_NK))]


def cross_entropy(
    ahead: Lookahead,
    kept: Tensor,
    generator: torch.Generator,
    rounds: int = 4,
    elites: float = 0.1,
    inertia: float = 0.3,
) -> Tensor:
    """The best plan that the cross-entropy method finds (Rubinstein 1999), with a distribution for each move.

    Args:
        rounds: number of times that N plans are drawn and tried.
        elites: fraction of the plans that the distributions are then fitted to.
        inertia: weight of the distributions before, in [0, 1].
    """
    probabilities_KA = torch.full((ahead.K, ahead.A), 1 / ahead.A, dtype=torch.float64)
    for _ in range(rounds):
        plans_NK = torch.multinomial(probabilities_KA, ahead.N, True, generator=generator).T.contiguous()
        plans_NK[0, : len(kept)] = kept
        scores_N = ahead.evaluate(plans_NK)
        kept = plans_NK[ahead.best(scores_N)]
        least = scores_N.topk(max(1, round(elites * ahead.N))).values[-1]
        # Where few plans earn anything, those that earn least are no examples.
        elite_N = (scores_N >= least) & (scores_N > scores_N.min())
        if elite_N.any():
            fitted_KA = F.one_hot(plans_NK[elite_N], ahead.A).double().mean(0)
            probabilities_KA = inertia * probabilities_KA + (1 - inertia) * fitted_KA
    return kept


def beam_search(ahead: Lookahead, kept: Tensor, generator: torch.Generator) -> Tensor:
    """The best plan of a tree of which each level keeps the best N / A nodes; all their actions are tried at once.

    Nodes that show the same picture count once. What is left of the last plan is always among those that are kept.

    Raises:
        JinnError: the dream has fewer environments than actions.
    """
    N, A = ahead.N, ahead.A
    if N < A:
        raise JinnError(f"make the dream with at least {A} environments, one for each action: it has {N}")
    plans_NK, parents = torch.zeros(N, ahead.K, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    best, plan = -torch.inf, plans_NK[0]
    for k in range(ahead.K):
        children = len(parents) * A
        slots_N = torch.arange(N) % children  # fewer children than places: the rest repeats them
        rows_N = parents[slots_N // A]
        ahead.fork(rows_N)
        plans_NK = plans_NK[rows_N]
        plans_NK[:, k] = slots_N % A
        ahead.move(plans_NK[:, k])
        scores, over = ahead.scores()[:children], ahead.over_N[:children]
        ended = scores.where(over, -torch.inf)
        if ended.max() > best:
            best, plan = float(ended.max()), plans_NK[ended.argmax(), : k + 1]
        if over.all():
            return plan
        going = scores.where(~over, -torch.inf)
        first = (plans_NK[:children, : k + 1] == kept[: k + 1]).all(1) if k < len(kept) else over & False
        order = torch.randperm(children, generator=generator)  # of equals, any
        order = order[going.where(~first, torch.inf)[order].argsort(descending=True, stable=True)]
        pictures: dict[bytes, Tensor] = {}
        for i in order[~over[order]]:
            pictures.setdefault(ahead.frames_NHWC[i].cpu().numpy().tobytes(), i)
        parents = torch.stack(list(pictures.values())[: N // A])
    if going.max() >= best:
        plan = plans_NK[max(parents.tolist(), key=lambda i: float(going[i]))]
    return plan


@dataclass
class Memory:
    """What a planner remembers of one game: its last frames, what it will play, and the rest of its plan."""

    generator: torch.Generator
    frames: list[Tensor] = field(default_factory=list)
    queue: list[int] = field(default_factory=list)
    kept: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))


class Planner:
    """A policy that plans, for `jinn.agents.play.play`. Several games are planned for one after another.

    Args:
        envs: the dream, a vector environment of N candidates with discrete actions whose ``reset`` takes ``frames`` and
            ``fork``, such as `jinn.env.WorldVectorEnv`. Its rewards are the objective.
        method: `beam_search`, `cross_entropy`, `random_shooting`, or another function of the kind.
        actions: the game's action for each of the dream's; None: they are the same.
        value: of the frames in which plans end; None is 0. PPO's network knows returns in a scale of its own.
        seed: of plans and roll-outs; environment b of the game has ``seed + b``.

    Raises:
        JinnError: the dream's actions are not discrete or not as many as are mapped, or its episodes start otherwise.
    """

    def __init__(
        self,
        envs: Any,
        method: Method = beam_search,
        config: PlanConfig | None = None,
        actions: Sequence[int] | None = None,
        value: Value | None = None,
        seed: int = 0,
    ) -> None:
        check_envs(envs)
        count = getattr(envs.single_action_space, "n", None)
        if count is None:
            raise JinnError(f"plans are made of discrete actions: these are {envs.single_action_space}")
        given = range(int(count)) if actions is None else actions
        self.actions = as_actions(given, (int(count),), max(given, default=0) + 1).tolist()
        self.envs, self.method, self.config = envs, method, config or PlanConfig()
        self.value, self.seed = value, seed
        self.memories: dict[int, Memory] = {}
        self.rows: list[int] | None = None
        envs.reset(seed=seed)  # later resets are of one environment, which needs the others

    def begin(self, rows_B: Sequence[int] | np.ndarray, first_B: Sequence[bool] | np.ndarray) -> None:
        """Say what the next call shows; without it, the same games in the same order go on.

        Args:
            rows_B: the numbers of the games.
            first_B: whether a frame is the first of an episode: the planner then forgets the one before.
        """
        self.rows = [int(row) for row in rows_B]
        for row, first in zip(self.rows, first_B, strict=True):
            if first and row in self.memories:
                self.memories[row] = Memory(self.memories[row].generator)

    def __call__(self, frames_BHWC: Tensor) -> Tensor:
        """uint8 frames of games to int64 ``actions_B``."""
        rows, self.rows = self.rows or range(len(frames_BHWC)), None
        return torch.tensor([self._act(row, x) for row, x in zip(rows, frames_BHWC, strict=True)])

    def _act(self, row: int, frame_HWC: Tensor) -> int:
        if row not in self.memories:
            self.memories[row] = Memory(torch.Generator().manual_seed(self.seed + row))
        memory, config = self.memories[row], self.config
        memory.frames = [*memory.frames, frame_HWC.clone()][-config.context :]
        if not memory.queue:
            plan = self.plan(torch.stack(memory.frames), memory.kept, memory.generator)
            memory.queue = plan[: config.play].repeat_interleave(config.hold).tolist()
            memory.kept = plan[config.play :]
        return self.actions[memory.queue.pop(0)]

    def plan(self, frames_THWC: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
        """One plan, int64 of 1 to K of the dream's actions; arguments as of a `Method`, from these last frames."""
        seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
        return self.method(Lookahead(self.envs, self.config, self.value, frames_THWC, seed), kept, generator)
