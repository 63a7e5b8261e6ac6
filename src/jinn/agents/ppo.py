"""Proximal policy optimisation (Schulman et al. 2017), with Procgen's settings (Cobbe et al. 2020).

It takes any environment of frames with Gymnasium's vector interface: EnvPool's games and learned ones (`jinn.env`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jinn.agents.network import Network, NetworkConfig, new_network, sample_actions
from jinn.agents.play import check_envs
from jinn.contracts import find_device
from jinn.files import load_weights, read_tensors, write_tensors


@dataclass(frozen=True)
class PPOConfig:
    """How long and how an agent learns.

    Attributes:
        steps: Number of steps of all environments together.
        length: Steps of each environment between two updates.
        epochs, minibatches: Numbers of epochs of an update, and of minibatches of an epoch.
        learning_rate: Learning rate of Adam; falls linearly to 0.
        discount, trace: gamma and lambda of the generalised advantage estimate.
        clip: Range to which the policy's ratio and the value are clipped.
        entropy: Weight of the entropy bonus; falls with the learning rate, so that in the end only rewards count.
        value: Weight of the value's error.
        max_norm: Norm to which larger gradients are scaled down.
        save_every: Updates between checkpoints.
    """

    steps: int = 25_000_000
    length: int = 256
    epochs: int = 3
    minibatches: int = 8
    learning_rate: float = 5e-4
    discount: float = 0.999
    trace: float = 0.95
    clip: float = 0.2
    entropy: float = 0.01
    value: float = 0.5
    max_norm: float = 0.5
    save_every: int = 10

    def __post_init__(self) -> None:
        if min(self.steps, self.length, self.epochs, self.minibatches, self.save_every) < 1:
            raise ValueError("steps, length, epochs, minibatches and save_every are at least 1")


@dataclass
class Rollout:
    """The experience between two updates: T steps of B environments.

    Attributes:
        frames_TBHWC: uint8.
        actions_TB, logprobs_TB, values_TB: actions, their log-probabilities, and the values of the frames.
        rewards_TB: scaled.
        terminated_TB: whether the step terminated its episode.
        over_TB: whether the step terminated or truncated its episode.
        empty_TB: whether the step only started the next episode: its action was ignored, and it teaches nothing.
        last_values_B: values after the last step.
    """

    frames_TBHWC: Tensor
    actions_TB: Tensor
    logprobs_TB: Tensor
    values_TB: Tensor
    rewards_TB: Tensor
    terminated_TB: Tensor
    over_TB: Tensor
    empty_TB: Tensor
    last_values_B: Tensor


class RewardScale:
    """Divides rewards by the standard deviation of the discounted returns so far (as Procgen's baselines do)."""

    def __init__(self, num_envs: int, discount: float) -> None:
        self.discount = discount
        self.returns_B = np.zeros(num_envs)
        self.count, self.mean, self.square = 1e-4, 0.0, 0.0

    def __call__(self, rewards_B: np.ndarray, over_B: np.ndarray) -> np.ndarray:
        """Scaled rewards of one step."""
        self.returns_B = self.returns_B * self.discount + rewards_B
        for value in self.returns_B:  # Welford's algorithm needs no sum of large squares
            self.count += 1
            off = value - self.mean
            self.mean += off / self.count
            self.square += off * (value - self.mean)
        self.returns_B[over_B] = 0.0
        return rewards_B / np.sqrt(self.square / self.count + 1e-8)


class Learner:
    """A network that learns, and all else that its training changes.

    Args:
        network: on the device where it learns.
        seed: of actions and minibatches.
    """

    def __init__(self, network: Network, config: PPOConfig, num_envs: int, seed: int) -> None:
        self.network, self.config, self.updates = network, config, 0
        self.optimizer = torch.optim.Adam(network.parameters(), config.learning_rate, eps=1e-5)
        self.scale = RewardScale(num_envs, config.discount)
        self.generator = torch.Generator().manual_seed(seed)

    def save(self, folder: Path) -> None:
        """Save the agent, and ``learning.safetensors`` for `resume`."""
        self.network.save(folder)
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for i, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{name}": value for name, value in moments.items()}
        scale = self.scale
        tensors["scale"] = torch.tensor([scale.count, scale.mean, scale.square], dtype=torch.float64)
        tensors |= {"generator": self.generator.get_state(), "updates": torch.tensor(self.updates)}
        write_tensors(folder / "learning.safetensors", tensors)

    def resume(self, folder: Path) -> None:
        """Restore what `save` wrote, if it did.

        Raises:
            JinnError: the folder holds another network.
        """
        path = folder / "learning.safetensors"
        if not path.exists():
            return
        kept = read_tensors(path)
        weights, state = {}, self.optimizer.state_dict()
        for name, value in kept.items():
            part, _, rest = name.partition(".")
            if part == "network":
                weights[rest] = value
            elif part == "adam":
                i, moment = rest.split(".")
                state["state"].setdefault(int(i), {})[moment] = value
        load_weights(self.network, weights, path)
        self.optimizer.load_state_dict(state)
        self.scale.count, self.scale.mean, self.scale.square = kept["scale"].tolist()
        self.generator.set_state(kept["generator"])
        self.updates = int(kept["updates"])

    def learn(self, rollout: Rollout, remaining: float) -> dict[str, float]:
        """One update: some epochs over a rollout, at this fraction of the learning rate."""
        network, config = self.network, self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * remaining
        advantages_TB = advantages(rollout, config.discount, config.trace)
        returns_TB = advantages_TB + rollout.values_TB
        real_X = (~rollout.empty_TB).flatten().nonzero().squeeze(-1)
        frames_XHWC = rollout.frames_TBHWC.flatten(0, 1)
        actions_X, logprobs_X, values_X, advantages_X, returns_X = (
            x.flatten().clone()  # made in inference mode, which autograd cannot use
            for x in (rollout.actions_TB, rollout.logprobs_TB, rollout.values_TB, advantages_TB, returns_TB)
        )
        entropies = []
        for _ in range(config.epochs):
            order = real_X[torch.randperm(len(real_X), generator=self.generator).to(real_X.device)]
            for rows in order.chunk(config.minibatches):
                logits_RA, now_R = network(frames_XHWC[rows].clone())
                log_RA = logits_RA.log_softmax(-1)
                ratio_R = (log_RA.gather(-1, actions_X[rows, None]).squeeze(-1) - logprobs_X[rows]).exp()
                worth_R = advantages_X[rows]
                worth_R = (worth_R - worth_R.mean()) / (worth_R.std() + 1e-8)
                clipped_R = ratio_R.clamp(1 - config.clip, 1 + config.clip)
                policy_loss = -torch.minimum(ratio_R * worth_R, clipped_R * worth_R).mean()
                near_R = values_X[rows] + (now_R - values_X[rows]).clamp(-config.clip, config.clip)
                errors_R = torch.maximum((now_R - returns_X[rows]) ** 2, (near_R - returns_X[rows]) ** 2)
                entropy = -(log_RA.exp() * log_RA).sum(-1).mean()
                value_loss = config.value * 0.5 * errors_R.mean()
                loss = policy_loss + value_loss - config.entropy * remaining * entropy
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.max_norm)
                self.optimizer.step()
                entropies.append(float(entropy.detach()))
        self.updates += 1
        values_X, returns_X = values_X[real_X], returns_X[real_X]
        unexplained = F.mse_loss(values_X, returns_X) / returns_X.var().clamp_min(1e-8)
        return {"entropy": float(np.mean(entropies)), "explained": 1 - float(unexplained)}


class Player:
    """Plays an agent in its environments, rollout after rollout; episodes go on from one to the next."""

    def __init__(self, envs: Any, learner: Learner, device: str | torch.device) -> None:
        self.envs, self.learner, self.device = envs, learner, device
        self.frames_BHWC = torch.as_tensor(envs.reset()[0], device=device)
        self.over_B = np.zeros(envs.num_envs, bool)
        self.return_B = np.zeros(envs.num_envs)
        self.returns: list[float] = []  # of the episodes that ended since it was last emptied

    def rollout(self) -> Rollout:
        """The steps of all environments between two updates."""
        learner = self.learner
        rows: list[tuple[Tensor, ...]] = []
        for _ in range(learner.config.length):
            with torch.inference_mode():
                logits_BA, values_B = learner.network(self.frames_BHWC)
                actions_B = sample_actions(logits_BA, learner.generator)
                logprobs_B = logits_BA.log_softmax(-1).gather(-1, actions_B[:, None]).squeeze(-1)
            frames, rewards, terminated, truncated, _ = self.envs.step(actions_B.cpu().numpy())
            empty_B, rewards_B = self.over_B, np.asarray(rewards, np.float64)
            terminated_B = np.asarray(terminated, bool)
            self.over_B = terminated_B | np.asarray(truncated, bool)
            self.return_B += rewards_B
            self.returns += self.return_B[self.over_B].tolist()
            self.return_B[self.over_B] = 0.0
            scaled_B = learner.scale(rewards_B, self.over_B).astype(np.float32)
            arrays = scaled_B, terminated_B, self.over_B, empty_B
            tensors = (torch.from_numpy(x.copy()).to(self.device) for x in arrays)
            rows.append((self.frames_BHWC, actions_B, logprobs_B, values_B, *tensors))
            self.frames_BHWC = torch.as_tensor(frames, device=self.device)
        with torch.inference_mode():
            last_values_B = learner.network(self.frames_BHWC)[1]
        columns = [torch.stack(part) for part in zip(*rows, strict=True)]
        return Rollout(*columns, last_values_B=last_values_B)  # type: ignore[misc]


def train_ppo(
    envs: Any,
    config: PPOConfig,
    seed: int = 0,
    device: str | torch.device = "cpu",
    network: Network | None = None,
    folder: Path | str | None = None,
    on_update: Callable[[dict[str, float], Network], None] = lambda *_: None,
) -> Network:
    """Learn a policy by playing.

    Args:
        envs: a Gymnasium vector environment of uint8 frames and discrete actions, whose step after the last
            one of an episode starts the next (`AutoresetMode.NEXT_STEP`; EnvPool's do so too).
        seed: of weights, actions and minibatches.
        network: to start from, such as a cloned policy; None starts from scratch.
        folder: for the agent and the state of its training: the same call goes on from there, with a reset of `envs`.
        on_update: is called after each update with a report and the network. The report has the number of steps so
            far, mean return and number of the episodes that ended since the last update, the entropy, and the
            explained fraction of the variance of the values.

    Raises:
        JinnError: there is no such device, the folder holds another network, or the environments start episodes in
            another way.
    """
    check_envs(envs)
    device = find_device(device)
    B = int(envs.num_envs)
    if network is None:
        height, width, _ = envs.single_observation_space.shape
        network = new_network(NetworkConfig(int(envs.single_action_space.n), (height, width)), seed)
    learner = Learner(network.to(device).train(), config, B, seed)
    if folder:
        learner.resume(Path(folder).expanduser())
    player = Player(envs, learner, device)
    updates = max(1, config.steps // (B * config.length))
    while learner.updates < updates:
        report = learner.learn(player.rollout(), 1 - learner.updates / updates)
        report["steps"] = learner.updates * B * config.length
        report["episodes"] = len(player.returns)
        report["return"] = float(np.mean(player.returns)) if player.returns else float("nan")
        player.returns.clear()
        on_update(report, network)
        if folder and (learner.updates % config.save_every == 0 or learner.updates == updates):
            learner.save(Path(folder).expanduser())
    return network.eval()


def advantages(rollout: Rollout, discount: float, trace: float) -> Tensor:
    """Generalised advantage estimates ``TB`` (Schulman et al. 2016); none reaches beyond the end of its episode.

    A truncated episode continues with the value of its last frame, which is that of the next, empty step.
    """
    next_values_TB = torch.cat([rollout.values_TB[1:], rollout.last_values_B[None]])
    continues_TB = 1 - rollout.terminated_TB.float()
    errors_TB = rollout.rewards_TB + discount * next_values_TB * continues_TB - rollout.values_TB
    found_TB = torch.zeros_like(errors_TB)
    later_B = torch.zeros_like(rollout.last_values_B)
    for t in reversed(range(len(errors_TB))):
        later_B = errors_TB[t] + discount * trace * later_B * (1 - rollout.over_TB[t].float())
        found_TB[t] = later_B
    return found_TB
