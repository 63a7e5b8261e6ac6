"""Algorithm distillation (Laskin et al. 2022): a policy that gets better while it plays, without learning anything.

A learning algorithm plays many tasks, and everything that it sees, does and earns on the way from its first clumsy
episode to its last one is kept, in order: a history. A causal transformer learns to foretell the actions of histories.
To foretell the next one it has to work out from the past how far the learner has come and what it has found out. In a
new task, with its own play as the history, it goes on as a learner would: it explores, and then repeats what paid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.agents.network import sample_actions
from jinn.agents.play import check_envs


@dataclass(frozen=True)
class Histories:
    """What learners lived through: K tasks, T steps each, in order and over all episodes.

    Attributes:
        seen_KTD: float32, what was seen before each step, as small vectors (`thumbnails`).
        actions_KT: int64, what was done.
        rewards_KT: float32, what it earned.
    """

    seen_KTD: Tensor
    actions_KT: Tensor
    rewards_KT: Tensor


def thumbnails(frames_BHWC: Tensor, cell: int = 4) -> Tensor:
    """Frames averaged over squares of pixels, float32 ``BD`` in [0, 1]: enough for games whose cells are as large."""
    x_BCHW = frames_BHWC.permute(0, 3, 1, 2).float() / 255
    return F.avg_pool2d(x_BCHW, cell).flatten(1)


class Learner:
    """Learns one task in each environment by itself, from what it sees: the source of histories.

    Proximal policy optimisation on a table: a row of logits and a value for every picture that a task has shown. A
    picture is known by its bytes, so a task may show a few thousand different ones.
    """

    def __init__(self, num_envs: int, num_actions: int, seed: int, rate: float) -> None:
        self.logits_BSA = np.zeros((num_envs, 1, num_actions))
        self.values_BS = np.zeros((num_envs, 1))
        self.known: dict[bytes, int] = {}
        self.rng, self.rate = np.random.default_rng(seed), rate

    def rows(self, frames_BHWC: np.ndarray) -> np.ndarray:
        """The row of the table for each frame."""
        found_B = np.array([self.known.setdefault(frame.tobytes(), len(self.known)) for frame in frames_BHWC])
        missing = len(self.known) - self.values_BS.shape[1]
        if missing > 0:
            self.logits_BSA = np.pad(self.logits_BSA, ((0, 0), (0, missing), (0, 0)))
            self.values_BS = np.pad(self.values_BS, ((0, 0), (0, missing)))
        return found_B

    def act(self, rows_B: np.ndarray) -> np.ndarray:
        """An action for each environment, drawn from its policy."""
        each_B = np.arange(len(rows_B))
        noise_BA = self.rng.gumbel(size=self.logits_BSA.shape[::2])
        return (self.logits_BSA[each_B, rows_B] + noise_BA).argmax(-1)

    def learn(self, rows_TB: np.ndarray, actions_TB: np.ndarray, rewards_TB: np.ndarray) -> None:
        """One update after an episode: advantages with lambda 0.95, and four clipped steps of the policy."""
        T, B = rows_TB.shape
        each_B = np.arange(B)
        values_TB = self.values_BS[each_B, rows_TB]
        worth_TB, later_B, discount = np.zeros((T, B)), np.zeros(B), 0.95
        for t in reversed(range(T)):
            next_B = values_TB[t + 1] if t + 1 < T else 0.0
            later_B = rewards_TB[t] + discount * next_B - values_TB[t] + discount * 0.95 * later_B
            worth_TB[t] = later_B
        np.add.at(self.values_BS, (each_B[None].repeat(T, 0), rows_TB), 0.1 * worth_TB)
        before_TBA = softmax(self.logits_BSA[each_B, rows_TB])
        chosen_TBA = np.eye(before_TBA.shape[-1])[actions_TB]
        for _ in range(4):
            now_TBA = softmax(self.logits_BSA[each_B, rows_TB])
            ratio_TB = ((now_TBA / before_TBA) * chosen_TBA).sum(-1)
            is_free_TB = np.where(worth_TB > 0, ratio_TB < 1.2, ratio_TB > 0.8)  # the clip of PPO
            step_TBA = (ratio_TB * worth_TB * is_free_TB)[..., None] * (chosen_TBA - now_TBA)
            np.add.at(self.logits_BSA, (each_B[None].repeat(T, 0), rows_TB), self.rate * step_TBA)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def learning_histories(envs: Any, episodes: int, horizon: int, seed: int = 0, rate: float = 1.0) -> Histories:
    """Let a `Learner` learn the task of each environment, and keep everything.

    Args:
        envs: as of `jinn.agents.ppo.train_ppo`, one task each, whose episodes all have the same length.
        episodes: of each task.
        horizon: steps of an episode.
        seed: of the actions.
        rate: learning rate of the policy's table.
    """
    check_envs(envs)
    learner = Learner(envs.num_envs, int(envs.single_action_space.n), seed, rate)
    seen, actions, rewards = [], [], []
    for _ in range(episodes):
        episode: list[tuple[np.ndarray, ...]] = []
        frames = envs.reset()[0]
        for _ in range(horizon):
            rows_B = learner.rows(frames)
            actions_B = learner.act(rows_B)
            seen.append(thumbnails(torch.from_numpy(frames)))
            frames, rewards_B, *_ = envs.step(actions_B)
            episode.append((rows_B, actions_B, rewards_B))
        rows_TB, actions_TB, rewards_TB = (np.stack(part) for part in zip(*episode, strict=True))
        learner.learn(rows_TB, actions_TB, rewards_TB)
        actions.append(torch.from_numpy(actions_TB))
        rewards.append(torch.from_numpy(rewards_TB).float())
    return Histories(
        torch.stack(seen, 1), torch.cat(actions).T.contiguous(), torch.cat(rewards).T.contiguous()
    )


@dataclass(frozen=True)
class DistillConfig:
    """The transformer and its training.

    Attributes:
        context: steps that it sees, the present one included; several episodes, or there is nothing to learn from.
        layers, width, heads: of the transformer.
        steps, batch: of the training; a clip of ``context`` steps each.
        learning_rate: of AdamW; falls linearly to 0.
    """

    context: int = 80
    layers: int = 3
    width: int = 64
    heads: int = 4
    steps: int = 2_000
    batch: int = 32
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if min(self.context, self.layers, self.width, self.heads, self.steps, self.batch) < 1:
            raise ValueError("all sizes and numbers are at least 1")


class HistoryTransformer(nn.Module):
    """What was seen, done before and earned by it, to the logits of the next action, for every step of a history."""

    def __init__(self, seen: int, actions: int, config: DistillConfig) -> None:
        super().__init__()
        self.see = nn.Linear(seen, config.width)
        self.done = nn.Embedding(actions + 1, config.width)  # the last one: nothing was done before
        self.earned = nn.Linear(1, config.width)
        self.position_TD = nn.Parameter(0.02 * torch.randn(config.context, config.width))
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 4 * config.width, 0.0, F.gelu, batch_first=True, norm_first=True
        )
        self.trunk = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(config.width), False)
        self.choose = nn.Linear(config.width, actions)

    def forward(self, seen_BTD: Tensor, done_BT: Tensor, earned_BT: Tensor) -> Tensor:
        """Logits ``BTA``; ``done_BT`` and ``earned_BT`` are the action and the reward of the step before each."""
        T = seen_BTD.shape[1]
        x_BTD = self.see(seen_BTD) + self.done(done_BT) + self.earned(earned_BT[..., None])
        later_TT = torch.ones(T, T, dtype=torch.bool, device=x_BTD.device).triu(1)
        return self.choose(self.trunk(x_BTD + self.position_TD[:T], later_TT, is_causal=True))


def distill(
    histories: Histories,
    num_actions: int,
    config: DistillConfig | None = None,
    seed: int = 0,
    on_step: Callable[[int, float], None] = lambda *_: None,
) -> HistoryTransformer:
    """Learn to foretell the actions of histories.

    Args:
        histories: of many tasks. With their last episodes alone the same training is behaviour cloning.
        num_actions: A.
        seed: of weights and clips.
        on_step: is called with the number of steps done and the loss.

    Raises:
        ValueError: the histories are shorter than the context.
    """
    config = config or DistillConfig()
    (K, T), context = histories.actions_KT.shape, config.context
    if context > T:
        raise ValueError(f"histories of {T} steps are shorter than the context of {context}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HistoryTransformer(histories.seen_KTD.shape[-1], num_actions, config)
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(seed)
    done_KT = F.pad(histories.actions_KT[:, :-1], (1, 0), value=num_actions)
    earned_KT = F.pad(histories.rewards_KT[:, :-1], (1, 0))
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - step / config.steps)
        tasks_B1 = torch.randint(K, (config.batch, 1), generator=generator)
        # Play begins with an empty past, so more clips begin there than chance would have it.
        starts_B1 = (torch.randint(T + 1, (config.batch, 1), generator=generator) - context).clamp_min(0)
        times_BT = starts_B1 + torch.arange(context)
        picked = tasks_B1, times_BT
        logits_BTA = model(histories.seen_KTD[picked], done_KT[picked], earned_KT[picked])
        loss = F.cross_entropy(logits_BTA.flatten(0, 1), histories.actions_KT[picked].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        on_step(step + 1, float(loss.detach()))
    return model.eval()


@torch.no_grad()
def play_in_context(
    model: HistoryTransformer, envs: Any, episodes: int, horizon: int, context: int, seed: int = 0
) -> np.ndarray:
    """Returns of each task's episodes one after another, float64 ``KE``; weights stay as they are.

    Args:
        model: from `distill`.
        envs: as of `learning_histories`, of tasks that no history is about.
        episodes, horizon: how many are played, and how long they are.
        context: steps that are remembered, at most those of the training.
        seed: of the actions.
    """
    check_envs(envs)
    generator, num_actions = torch.Generator().manual_seed(seed), model.done.num_embeddings - 1
    B = int(envs.num_envs)
    seen, returns_BE = [], np.zeros((B, episodes))
    done, earned = [torch.full((B,), num_actions)], [torch.zeros(B)]
    for episode in range(episodes):
        frames = envs.reset()[0]
        for _ in range(horizon):
            seen.append(thumbnails(torch.from_numpy(frames)))
            past = (torch.stack(part[-context:], 1) for part in (seen, done, earned))
            actions_B = sample_actions(model(*past)[:, -1], generator)
            frames, rewards_B, *_ = envs.step(actions_B.numpy())
            returns_BE[:, episode] += rewards_B
            done.append(actions_B)
            earned.append(torch.from_numpy(np.asarray(rewards_B)).float())
    return returns_BE
