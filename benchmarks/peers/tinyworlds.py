"""TinyWorlds (github.com/AlmondGod/tinyworlds), from the folder of a checkout.

Its models, losses, optimiser and schedule are used as its scripts use them, on the CPU in bfloat16; sizes are chosen so
that each model has about as many parameters as ours, with its own patch, codebook and number of blocks of the README.
Its rate of 0.01 for the dynamics is for a width of 32; all stages take 0.001 here. It needs the package einops.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers.side import ACTIONS, BATCH, PATCH, STAGES, WINDOW, Side
from jinn.data.clips import ClipSampler
from jinn.data.store import FrameStore
from jinn.evaluation.leaderboard import Contestant
from jinn.training.plan import parameters_of

SIZES: dict[str, dict[str, int]] = {  # width, hidden units of the feed-forward and blocks
    "tokenizer": {"embed_dim": 136, "hidden_dim": 544, "num_blocks": 4},
    "latent actions": {"embed_dim": 120, "hidden_dim": 480, "num_blocks": 2},
    "dynamics": {"embed_dim": 136, "hidden_dim": 544, "num_blocks": 8},
}
DIGITS, BINS = 5, 4  # a token is one of 1,024
RATE, STEPS = 1e-3, 10  # learning rate; steps of its MaskGIT


def side(folder: Path, store: FrameStore, seed: int) -> Side:
    """Its side."""
    sys.path.insert(0, str(folder))
    torch.manual_seed(seed)
    models = build()
    optimizers = {name: optimizer(model) for name, model in models.items()}
    losses = losses_of(models)

    def step(name: str, frames_BTHWC: Tensor) -> float:
        model, (adam,) = models[name].train(), optimizers[name]
        adam.zero_grad(set_to_none=True)
        loss = losses[name](signed(frames_BTHWC))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        adam.step()
        return float(loss.detach())

    def train(steps: dict[str, int]) -> Contestant:
        schedule = importlib.import_module("utils.scheduler_utils").create_cosine_scheduler
        sampler = ClipSampler(store, WINDOW, seed)
        for name in STAGES:
            scheduler = schedule(optimizers[name][0], steps[name])
            for number in range(steps[name]):
                step(name, sampler.batch(number * BATCH, BATCH))
                scheduler.step()
        return TinyWorlds(models)

    shown = subprocess.run(
        ["git", "-C", str(folder), "log", "-1", "--format=%h %cs"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return Side(
        f"TinyWorlds {shown}".strip(),
        {name: parameters_of(model) for name, model in models.items()},
        {name: partial(step, name) for name in STAGES},
        train,
    )


def build() -> dict[str, Any]:
    """Its three models."""

    def model(module: str, kind: str, stage: str, **values: Any) -> Any:
        of = getattr(importlib.import_module(module), kind)
        return of(frame_size=(64, 64), patch_size=PATCH, num_heads=8, **SIZES[stage], **values)

    actions = model("models.latent_actions", "LatentActionModel", "latent actions", n_actions=ACTIONS)
    tokens = {"latent_dim": DIGITS, "num_bins": BINS}
    return {
        "tokenizer": model("models.video_tokenizer", "VideoTokenizer", "tokenizer", **tokens),
        "latent actions": actions,
        "dynamics": model(
            "models.dynamics", "DynamicsModel", "dynamics", conditioning_dim=actions.action_dim, **tokens
        ),
    }


def optimizer(model: nn.Module) -> Any:
    """Its AdamW, in a list."""
    make = importlib.import_module("utils.optimizer_utils").create_optimizer
    return make(model, SimpleNamespace(optimizer="adamw", learning_rate=RATE))


def losses_of(models: dict[str, Any]) -> dict[str, Callable[[Tensor], Tensor]]:
    """The loss of each stage on its own frames ``BTCHW``, as its scripts compute it."""

    def dynamics(frames_BTCHW: Tensor) -> Tensor:
        models["tokenizer"].eval()
        models["latent actions"].eval()
        with torch.no_grad():
            tokens_BTN = models["tokenizer"].tokenize(frames_BTCHW)
            vectors_BTNL = models["tokenizer"].quantizer.get_latents_from_indices(tokens_BTN, dim=-1)
            actions_BTm1A = models["latent actions"].encode(frames_BTCHW)
        with torch.autocast("cpu", torch.bfloat16):
            loss: Tensor = models["dynamics"](
                vectors_BTNL, training=True, conditioning=actions_BTm1A, targets=tokens_BTN
            )[2]
        return loss

    def first(name: str) -> Callable[[Tensor], Tensor]:
        def loss(frames_BTCHW: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                found: Tensor = models[name](frames_BTCHW)[0]
            return found

        return loss

    return {"tokenizer": first("tokenizer"), "latent actions": first("latent actions"), "dynamics": dynamics}


def signed(frames_BTHWC: Tensor) -> Tensor:
    """uint8 ``BTHWC`` to its float ``BTCHW`` in [-1, 1]."""
    return frames_BTHWC.permute(0, 1, 4, 2, 3).float() / 127.5 - 1


class TinyWorlds:
    """Its world as a contestant: the loop of its run_inference.py, one frame at a time."""

    name, num_actions = "TinyWorlds", ACTIONS

    def __init__(self, models: dict[str, Any]) -> None:
        self.models = {name: model.eval() for name, model in models.items()}

    @torch.no_grad()
    def reset(self, frames_BHWC: np.ndarray) -> None:
        """See `Contestant`."""
        self.frames_BTCHW = signed(torch.from_numpy(frames_BHWC).unsqueeze(1))
        self.actions_BT = torch.zeros(len(frames_BHWC), 0, dtype=torch.long)

    @torch.no_grad()
    def step(self, actions_B: np.ndarray) -> np.ndarray:
        """See `Contestant`."""
        tokenizer, past = self.models["tokenizer"], self.frames_BTCHW[:, 1 - WINDOW :]
        self.actions_BT = torch.cat([self.actions_BT, torch.from_numpy(actions_B)[:, None]], dim=1)
        lookup = tokenizer.quantizer.get_latents_from_indices
        vectors = self.models["dynamics"].forward_inference(
            context_latents=lookup(tokenizer.tokenize(past)),
            prediction_horizon=1,
            num_steps=STEPS,
            index_to_latents_fn=lambda tokens: lookup(tokens, dim=-1),
            conditioning=self.models["latent actions"].quantizer.get_latents_from_indices(
                self.actions_BT[:, -past.shape[1] :]
            ),
        )
        frame = tokenizer.detokenize(vectors)[:, -1:].clamp(-1, 1)
        self.frames_BTCHW = torch.cat([past, frame], dim=1)
        return ((frame[:, 0] + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()

    @torch.no_grad()
    def infer(self, frames_BTHWC: np.ndarray) -> np.ndarray:
        """See `Contestant`; in pieces as long as the clips of its training."""
        model, frames = self.models["latent actions"], signed(torch.from_numpy(frames_BTHWC))
        pieces = [frames[:, t : t + WINDOW] for t in range(0, frames.shape[1] - 1, WINDOW - 1)]
        found = [model.quantizer.get_indices_from_latents(model.encode(piece)) for piece in pieces]
        return torch.cat(found, dim=1).numpy()
