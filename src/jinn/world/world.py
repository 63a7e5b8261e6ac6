"""A world: `World.reset` with a prompt, `World.step` with actions. Play, evaluation and agents rest on these two.

The past is computed once: a MaskGIT step computes the present frame only, against cached keys and values.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from jinn.contracts import JinnError, as_actions, as_frames, as_seeds, find_device
from jinn.models.attention import KVCache
from jinn.models.latent_actions import LatentActionModel
from jinn.models.maskgit import SamplingConfig, frame_noise
from jinn.models.ours.known_actions import KnownActionModel
from jinn.models.ours.previous_frame import PreviousFrameDynamics, believe
from jinn.models.token_latent_actions import TokenLatentActionModel, TokenLatentActionsConfig
from jinn.world import hub
from jinn.world.backends import Backend, BackendName, make_backend, while_unchanged
from jinn.world.config import WorldConfig
from jinn.world.folder import find_world, is_saved, read_world, write_world
from jinn.world.graph import Frame
from jinn.world.keys import Key
from jinn.world.legend import ActionMeaning
from jinn.world.state import State


class World(nn.Module):
    """The three models of Genie as one.

    Attributes:
        config: see `WorldConfig`.
        backend: how frames are computed; see `with_backend`.
        folder: where it was loaded from, None if it was not.
        prompts: uint8 ``(P, H, W, 3)``, frames to start from.
        legend: what each action does: guessed, or named by the store where actions are known; None if nobody has
            measured it.
        keys: the actions of the real game and the latent ones that play them; None if nobody has taught them.
        trained_on: uint64, `FrameStore.groups` of the levels and videos that it was trained on, None if that is
            unknown. An evaluation refuses them.
    """

    prompts: Tensor

    def __init__(self, config: WorldConfig, prompts_PHWC: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.backend = Backend()
        self.folder: Path | None = None
        self.legend: Sequence[ActionMeaning] | None = None
        self.keys: Sequence[Key] | None = None
        self.trained_on: np.ndarray | None = None
        self.tokenizer = config.tokenizer.build()
        self.latent_actions: LatentActionModel | KnownActionModel
        if isinstance(config.latent_actions, TokenLatentActionsConfig):
            positions, channels = math.prod(self.tokenizer.grid_hw), self.tokenizer.quantizer.dim
            self.latent_actions = config.latent_actions.build(positions, channels)
        else:
            self.latent_actions = config.latent_actions.build()
        self.dynamics = config.dynamics.build(
            self.tokenizer.levels, self.tokenizer.grid_hw, self.latent_actions.num_actions
        )
        if prompts_PHWC is None:
            prompts_PHWC = torch.zeros(1, *config.tokenizer.size_hw, 3, dtype=torch.uint8)
        self.register_buffer("prompts", prompts_PHWC, persistent=False)

    @property
    def name(self) -> str:
        """As shown to people."""
        return self.config.name

    @property
    def fps(self) -> float:
        """Frames per second of the videos that it was trained on."""
        return self.config.fps

    @property
    def num_actions(self) -> int:
        """A; actions are integers in [0, A)."""
        return self.latent_actions.num_actions

    @property
    def has_known_actions(self) -> bool:
        """Whether its actions are those of the game itself, and no latent ones."""
        return isinstance(self.latent_actions, KnownActionModel)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of its frames in pixels."""
        return self.config.tokenizer.size_hw

    @property
    def action_names(self) -> list[str] | None:
        """The name of each action, which is a guess unless actions are known, or None."""
        return [meaning.name for meaning in self.legend] if self.legend else None

    @property
    def device(self) -> torch.device:
        """The device on which it computes."""
        return self.prompts.device

    @torch.no_grad()
    def seen_by_actions(self, frames_BTHWC: Tensor) -> Tensor:
        """What the latent action model sees of uint8 frames: themselves, or the vectors ``BTNC`` of their tokens."""
        if isinstance(self.latent_actions, TokenLatentActionModel):
            return self.tokenizer.quantizer.lookup(self.tokenizer.encode(frames_BTHWC))
        return frames_BTHWC

    def infer_actions(self, frames_BTHWC: Tensor) -> Tensor:
        """The action of each step between neighbours of uint8 frames, int64 ``BTm1``, by the latent action model."""
        return self.latent_actions.encode(self.seen_by_actions(frames_BTHWC))

    @torch.no_grad()  # not inference_mode: its tensors cannot take part in a loss
    def reset(
        self,
        frames_BTHWC: Tensor | np.ndarray,
        seed: int | Sequence[int] | Tensor | np.ndarray = 0,
        actions_BTm1: Tensor | np.ndarray | None = None,
    ) -> tuple[State, Tensor]:
        """Start from one or more prompt frames.

        Args:
            frames_BTHWC: uint8, of the world's size; of a longer prompt the newest window is used.
            seed: of the roll-outs. From one number row b gets ``seed + b``; a sequence gives each row its own.
            actions_BTm1: integers, the actions between the prompt's frames; inferred by the latent action
                model if not given.

        Returns:
            The state, and the last prompt frame as the tokenizer reconstructs it, uint8 ``BHWC``.

        Raises:
            JinnError: frames of another kind or size, actions that do not fit.
        """
        frames_BTHWC = as_frames(frames_BTHWC, self.size_hw)
        if 0 in frames_BTHWC.shape[:2]:
            raise JinnError("a prompt needs at least one frame")
        B, T = frames_BTHWC.shape[:2]
        seeds_B = as_seeds(seed, B)
        window = self.config.dynamics.transformer.window
        frames_BTHWC = frames_BTHWC[:, -window:].to(self.device)
        if actions_BTm1 is not None:
            actions_BTm1 = as_actions(actions_BTm1, (B, T - 1), self.num_actions).to(self.device)
            actions_BTm1 = actions_BTm1[:, max(0, T - window) :]
        with self.precision():
            if actions_BTm1 is None:
                actions_BTm1 = torch.zeros(B, 0, dtype=torch.long, device=self.device)
                if frames_BTHWC.shape[1] > 1:
                    actions_BTm1 = self.infer_actions(frames_BTHWC)
            tokens_BTN = self.tokenizer.encode(frames_BTHWC)
            dynamics_cache = self.dynamics.prefill(tokens_BTN, actions_BTm1)
            frames_BTHWC, decoder_cache = self.tokenizer.prefill(tokens_BTN)
        frames_B = torch.zeros(B, dtype=torch.long)
        return State(tokens_BTN[:, -1], dynamics_cache, decoder_cache, seeds_B, frames_B), frames_BTHWC[:, -1]

    @torch.no_grad()
    def step(
        self,
        state: State,
        actions_B: int | Sequence[int] | Tensor | np.ndarray,
        sampling: SamplingConfig | None = None,
    ) -> tuple[State, Tensor]:
        """Play one frame.

        Args:
            state: of B roll-outs; it stays as it is, and may be stepped again with other actions.
            actions_B: integers in [0, A), or one number for one roll-out.
            sampling: how the frame is sampled; None is the world's own. Any other is computed by `next_frame`
                itself, since a backend knows only the world's own, except for its doubt.

        Returns:
            The next state, and the new frame, uint8 ``BHWC``.

        Raises:
            JinnError: actions out of range, or not one for each roll-out; doubt in a world that was trained without.
        """
        actions_B = as_actions(actions_B, (len(state.seeds_B),), self.num_actions).to(self.device)
        own, sampling = self.config.sampling, sampling or self.config.sampling
        next_frame = self.backend.next_frame
        if next_frame is None or replace(sampling, doubt=own.doubt) != own:
            next_frame = partial(self.next_frame, sampling=sampling)
        doubt_B = self._doubt(len(actions_B), sampling)
        noise_SBNU = self.noise(state, sampling)
        inputs = [*state[:3], actions_B, noise_SBNU, *([] if doubt_B is None else [doubt_B])]
        with self.precision():
            tokens_BN, dynamics_cache, decoder_cache, frame_BHWC = next_frame(*inputs)
        frames_B = state.frames_B + 1
        return State(tokens_BN, dynamics_cache, decoder_cache, state.seeds_B, frames_B), frame_BHWC

    def precision(self) -> AbstractContextManager[object]:
        """What computes a world of half precision (``world.half()``, ``world.bfloat16()``): sums stay in float32."""
        dtype = next(self.parameters()).dtype
        is_half = dtype in (torch.float16, torch.bfloat16)
        return torch.autocast(self.device.type, dtype) if is_half else nullcontext()

    def noise(self, state: State, sampling: SamplingConfig | None = None) -> Tensor:
        """The uniform ``noise_SBNU`` that the next frame is sampled with, on the world's device."""
        steps, tokens = (sampling or self.config.sampling).steps, state.tokens_BN.shape[1]
        digits = len(self.dynamics.levels)
        return frame_noise(state.seeds_B, state.frames_B, steps, tokens, digits).to(self.device)

    @torch.no_grad()
    def observe(self, state: State, actions_B: Tensor, tokens_BN: Tensor) -> State:
        """The state after a true frame instead of a sampled one, as teacher forcing and following a video need it.

        Args:
            state: before that frame.
            actions_B: int64 in [0, A), the actions that led to it.
            tokens_BN: int64, its tokens, from `Tokenizer.encode` of the video up to it.
        """
        actions_B = as_actions(actions_B, (len(state.seeds_B),), self.num_actions).to(self.device)
        tokens_BN = tokens_BN.to(self.device)
        doubt_B = self._doubt(len(actions_B), self.config.sampling)
        with self.precision():
            condition_BND = self._condition(state.tokens_BN, actions_B, doubt_B)
            dynamics_cache = self.dynamics.commit(tokens_BN, condition_BND, state.dynamics_cache)
            _, decoder_cache = self.tokenizer.decode_next(tokens_BN, state.decoder_cache)
        return State(tokens_BN, dynamics_cache, decoder_cache, state.seeds_B, state.frames_B + 1)

    def next_frame(
        self,
        tokens_BN: Tensor,
        dynamics_cache: KVCache,
        decoder_cache: KVCache | None,
        actions_B: Tensor,
        noise_SBNU: Tensor,
        doubt_B: Tensor | None = None,
        sampling: SamplingConfig | None = None,
    ) -> Frame:
        """`step` as a function of tensors alone, which a backend may compute in another way.

        Args:
            tokens_BN, dynamics_cache, decoder_cache: as in `State`.
            actions_B: int64 in [0, A).
            noise_SBNU: uniform, from `jinn.models.maskgit.frame_noise`.
            doubt_B: float32, of worlds that can doubt.
            sampling: None is the world's own; its doubt is not read.

        Returns:
            Tokens and caches one frame later, and the new frame, uint8 ``BHWC``.
        """
        sampling = sampling or self.config.sampling
        condition_BND = self._condition(tokens_BN, actions_B, doubt_B)

        tokens_BN = self.dynamics.sample_frame(condition_BND, dynamics_cache, noise_SBNU, sampling)
        dynamics_cache = self.dynamics.commit(tokens_BN, condition_BND, dynamics_cache)
        frame_BHWC, decoder_cache = self.tokenizer.decode_next(tokens_BN, decoder_cache)
        return tokens_BN, dynamics_cache, decoder_cache, frame_BHWC

    def with_backend(self, name: BackendName, threads: int = 1) -> World:
        """This world with another way to compute its frames; weights are shared.

        Args:
            name: see `jinn.world.backends`; "auto" is the fastest that is at hand.
            threads: of ONNX Runtime for one frame.

        Raises:
            JinnError: there is no such backend, or something that it needs is missing. `step` raises it if the weights
                have changed since: a graph would go on with the old ones.
        """
        other = copy.copy(self)
        # A graph in the folder is that of the saved weights.
        folder = self.folder if self.folder and name != "torch" and is_saved(self, self.folder) else None
        backend = make_backend(name, self.next_frame, self.device, folder, threads)
        if backend.next_frame is not None:
            backend = backend._replace(next_frame=while_unchanged(self, backend))
        other.backend = backend
        return other

    def __copy__(self) -> World:
        other = self.__class__.__new__(self.__class__)
        other.__dict__.update(self.__dict__)
        return other

    def __getstate__(self) -> dict[str, Any]:
        # A graph belongs to its process, and is made again where the world is unpickled.
        return self.__dict__ | {"backend": self.backend._replace(next_frame=None)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self.backend.name != "torch":
            self.backend = self.with_backend(cast(BackendName, self.backend.name)).backend

    def __repr__(self) -> str:
        height, width = self.size_hw
        millions = sum(parameter.numel() for parameter in self.parameters()) / 1e6
        return (
            f"World({self.name!r}, {width} x {height} pixels, {self.fps:g} fps, {self.num_actions} actions, "
            f"{millions:.1f}M parameters, backend {self.backend.name!r}, on {self.device})"
        )

    @property
    def can_doubt(self) -> bool:
        """Whether its dynamics were trained with doubt about the actions."""
        return isinstance(self.dynamics, PreviousFrameDynamics) and self.dynamics.doubt > 0

    def _doubt(self, rollouts: int, sampling: SamplingConfig) -> Tensor | None:
        """The doubt of each roll-out, None if the world cannot doubt."""
        if self.can_doubt:
            return torch.full((rollouts,), float(sampling.doubt), device=self.device)
        if sampling.doubt:
            raise JinnError("this world was trained without doubt about the actions: leave the doubt at 0")
        return None

    def _condition(self, tokens_BN: Tensor, actions_B: Tensor, doubt_B: Tensor | None) -> Tensor:
        if doubt_B is not None:
            actions_B = believe(actions_B, self.num_actions, doubt_B)
        return self.dynamics.condition(tokens_BN.unsqueeze(1), actions_B.unsqueeze(1)).squeeze(1)

    def save(self, folder: Path | str, dtype: torch.dtype = torch.float32) -> None:
        """Write the world's folder; see `jinn.world.folder`.

        Args:
            folder: is created; files in it are replaced one by one, the config last.
            dtype: of the weights on disk; they are float32 again when loaded.
        """
        write_world(self, Path(folder).expanduser(), dtype)

    def save_pretrained(self, folder: Path | str) -> None:
        """`save`, by the name that it has in the libraries of Hugging Face."""
        self.save(folder)

    def push_to_hub(self, repo: str, private: bool | None = None, message: str = "Upload a world") -> str:
        """Put the world on the Hugging Face hub. It needs the extra `hub`, and `hf auth login`.

        Args:
            repo: OWNER/NAME; is created, or gets a new commit.
            private: whether a new repository is private; None is the account's default.
            message: of the commit.

        Returns:
            The repository's address.

        Raises:
            JinnError: the extra is missing, or the hub refuses.
        """
        return hub.upload(self, repo, private, message)

    @classmethod
    def from_pretrained(
        cls,
        name_or_repo: str | Path,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        backend: BackendName = "torch",
    ) -> World:
        """`load`, or a world from the Hugging Face hub, which needs the extra `hub`.

        Args:
            name_or_repo: as of `load`; where there is no such folder, the repository OWNER/NAME.
            revision: branch, tag or commit of the repository; None is its newest.
            device, backend: as of `load`.

        Raises:
            JinnError: as of `load`; the extra is missing, or the hub has no such world.
        """
        name = str(name_or_repo)
        if hub.is_repository(name) and not Path(name).exists():
            name_or_repo = hub.download(name, revision)
        return cls.load(name_or_repo, device, backend)

    @classmethod
    def load(
        cls, name_or_path: str | Path, device: str | torch.device = "cpu", backend: BackendName = "torch"
    ) -> World:
        """Load a built-in world ("coinrun"), or one from its folder or from the run that made it.

        Args:
            name_or_path: of the world.
            device: where it computes.
            backend: how it computes its frames, see `with_backend`.

        Raises:
            JinnError: there is none, its files are damaged or of a newer jinn, there is no such device, or something
                that the backend needs is missing.
        """
        device = find_device(device)  # before a large world is read
        world = read_world(find_world(name_or_path), cls)
        return world.to(device).eval().with_backend(backend)
