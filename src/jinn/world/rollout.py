"""A world: `reset` with a prompt, `step` with actions. The whole of play, evaluation and agents rests on
these two functions.

The past is computed once: a MaskGIT step computes the present frame only, against cached keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from jinn.checkpoint import (
    from_dict,
    load_weights,
    read_json,
    read_tensors,
    to_dict,
    write_json,
    write_tensors,
)
from jinn.contracts import JinnError, check_frames
from jinn.models.conv_tokenizer import ConvTokenizerConfig
from jinn.models.dynamics import Dynamics, DynamicsConfig
from jinn.models.latent_actions import LatentActionModel, LatentActionsConfig
from jinn.models.quantize import FSQConfig
from jinn.models.sampling import SamplingConfig, draw_digits, frame_noise, keep_masked, masked_after
from jinn.models.tokenizer import TokenizerConfig
from jinn.models.transformer import Past
from jinn.world.legend import ActionMeaning, read_legend, write_legend
from jinn.world.state import State

# tokens_BN, past, drawn, actions_B, noise_SBNU -> tokens_BN, past, drawn, frame_BHWC: `World.next_frame`.
Frame = tuple[Tensor, Past, Past, Tensor]
NextFrame = Callable[[Tensor, Past, Past, Tensor, Tensor], Frame]

BUILT_IN = Path(__file__).parent / "built_in"


@dataclass(frozen=True)
class WorldConfig:
    """What config.json of a world holds.

    Attributes:
        name: shown to people.
        fps: frames a second of the videos it learned from.
        tokenizer, latent_actions, dynamics: the three models.
        sampling: how frames are drawn in play.
    """

    name: str
    fps: float
    tokenizer: TokenizerConfig | ConvTokenizerConfig
    latent_actions: LatentActionsConfig
    dynamics: DynamicsConfig
    sampling: SamplingConfig


class World(nn.Module):
    """Three models joined up.

    Attributes:
        config: see `WorldConfig`.
        folder: where it was loaded from, None if it was not.
        prompts: uint8 ``(P, H, W, 3)``, frames to start from.
        legend: a guess at what each action does, None if nobody has measured it.
        trained_on: uint64, `FrameStore.groups` of the levels and videos that it was trained on, None if
            that is not known; an evaluation refuses them.
    """

    prompts: Tensor
    # All three are set by `jinn.world.backends`. None is `next_frame` as it reads. One thread is given many
    # players as one batch; several threads are given one player each.
    backend: NextFrame | None = None
    backend_name: str = "torch"
    backend_threads: int = 1

    def __init__(self, config: WorldConfig, prompts_PHWC: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.folder: Path | None = None
        self.legend: tuple[ActionMeaning, ...] | None = None
        self.trained_on: np.ndarray | None = None
        self.tokenizer = config.tokenizer.build()
        self.latent_actions = LatentActionModel(config.latent_actions)
        self.dynamics = Dynamics(
            config.dynamics,
            self.tokenizer.codebook_size,
            self.tokenizer.grid_hw,
            config.latent_actions.quantizer.codes,
            quantizer.levels if isinstance(quantizer := config.tokenizer.quantizer, FSQConfig) else None,
        )
        if prompts_PHWC is None:
            prompts_PHWC = torch.zeros(1, *config.tokenizer.size_hw, 3, dtype=torch.uint8)
        self.register_buffer("prompts", prompts_PHWC, persistent=False)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def fps(self) -> float:
        """Pace of the videos it learned from."""
        return self.config.fps

    @property
    def num_actions(self) -> int:
        """A; actions are integers in [0, A)."""
        return self.config.latent_actions.quantizer.codes

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of its frames in pixels."""
        return self.config.tokenizer.size_hw

    @property
    def action_names(self) -> list[str] | None:
        """A guess at each action's meaning, or None."""
        return [meaning.name for meaning in self.legend] if self.legend else None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.prompts.device

    @torch.inference_mode()
    def reset(
        self,
        frames_BTHWC: Tensor,
        seed: int | Sequence[int] = 0,
        actions_BTm1: Tensor | None = None,
    ) -> tuple[State, Tensor]:
        """Start from one or more prompt frames.

        Args:
            frames_BTHWC: uint8, of the world's size; of a longer prompt the newest window is used.
            seed: of the roll-outs' chance; one number gives each row its own, a sequence is used as is.
            actions_BTm1: int64, the actions between the prompt's frames; inferred by the latent action
                model if not given.

        Returns:
            The state, and the last prompt frame as the tokenizer sees it, uint8 ``BHWC``.

        Raises:
            JinnError: frames of another kind or size, actions that do not fit.
        """
        check_frames(frames_BTHWC, self.size_hw)
        if 0 in frames_BTHWC.shape[:2]:
            raise JinnError("a prompt needs at least one frame")
        window = self.config.dynamics.transformer.window
        frames_BTHWC = frames_BTHWC[:, -window:].to(self.device)
        B, T = frames_BTHWC.shape[:2]
        if actions_BTm1 is None:
            actions_BTm1 = (
                self.latent_actions.encode(frames_BTHWC)
                if T > 1
                else torch.zeros(B, 0, dtype=torch.long, device=frames_BTHWC.device)
            )
        else:
            actions_BTm1 = actions_BTm1.to(frames_BTHWC.device)[:, actions_BTm1.shape[1] - T + 1 :]
            self._check_actions(actions_BTm1, (B, T - 1))
        tokens_BTN = self.tokenizer.encode(frames_BTHWC)
        past = self.dynamics.prefill(tokens_BTN, actions_BTm1)
        if isinstance(seed, int):
            seed = [seed + row for row in range(B)]
        if len(seed) != B:
            raise JinnError(f"{len(seed)} seeds for {B} roll-outs: give one each")
        frames_BTHWC, drawn = self.tokenizer.prefill(tokens_BTN)
        seeds_B = torch.tensor(seed, dtype=torch.long)
        state = State(tokens_BTN[:, -1], past, drawn, seeds_B, torch.zeros(B, dtype=torch.long))
        return state, frames_BTHWC[:, -1]

    @torch.inference_mode()
    def step(
        self, state: State, actions_B: Tensor, sampling: SamplingConfig | None = None
    ) -> tuple[State, Tensor]:
        """Play one frame.

        Args:
            state: of B roll-outs; it stays as it is, and may be stepped again with other actions.
            actions_B: int64 in [0, A).
            sampling: how the frame is drawn; None is the world's own. With another one the frame is computed
                by `next_frame` as it reads: a backend knows only the world's own.

        Returns:
            The next state, and the new frame, uint8 ``BHWC``.

        Raises:
            JinnError: actions out of range, or not one for each roll-out.
        """
        self._check_actions(actions_B, (len(state.seeds_B),))
        sampling = sampling or self.config.sampling
        noise_SBNU = self.noise(state, sampling)
        device = self.device
        next_frame = self.backend
        if next_frame is None or sampling != self.config.sampling:
            next_frame = partial(self.next_frame, sampling=sampling)
        tokens_BN, past, drawn, frame_BHWC = next_frame(
            state.tokens_BN, state.past, state.drawn, actions_B.to(device), noise_SBNU
        )
        return State(tokens_BN, past, drawn, state.seeds_B, state.frames_B + 1), frame_BHWC

    def noise(self, state: State, sampling: SamplingConfig | None = None) -> Tensor:
        """The uniform ``noise_SBNU`` that the next frame is drawn with, on the world's device."""
        steps, places = (sampling or self.config.sampling).steps, state.tokens_BN.shape[1]
        digits = len(self.dynamics.levels)
        return frame_noise(state.seeds_B, state.frames_B, steps, places, digits).to(self.device)

    @torch.inference_mode()
    def observe(self, state: State, actions_B: Tensor, tokens_BN: Tensor) -> State:
        """The state after a frame that was seen, not drawn: what teacher forcing and following a video need.

        Args:
            state: before that frame.
            actions_B: int64 in [0, A), the actions that led to it.
            tokens_BN: int64, its tokens; of `Tokenizer.encode` on the video up to it.
        """
        self._check_actions(actions_B, (len(state.seeds_B),))
        actions_B1, tokens_BN = actions_B.to(self.device).unsqueeze(1), tokens_BN.to(self.device)
        change_BND = self.dynamics.change(state.tokens_BN.unsqueeze(1), actions_B1).squeeze(1)
        past = self.dynamics.commit(tokens_BN, change_BND, state.past)
        _, drawn = self.tokenizer.decode_next(tokens_BN, state.drawn)
        return State(tokens_BN, past, drawn, state.seeds_B, state.frames_B + 1)

    def next_frame(
        self,
        tokens_BN: Tensor,
        past: Past,
        drawn: Past,
        actions_B: Tensor,
        noise_SBNU: Tensor,
        sampling: SamplingConfig | None = None,
    ) -> Frame:
        """`step` as a function of tensors alone: what `jinn.world.backends` may compute in another way.

        Args:
            tokens_BN, past, drawn: as in `State`.
            actions_B: int64 in [0, A).
            noise_SBNU: uniform, from `jinn.models.sampling.frame_noise`.
            sampling: None is the world's own.

        Returns:
            ``tokens_BN``, past and drawn one frame later, and the new frame, uint8 ``BHWC``.
        """
        change_BND = self.dynamics.change(tokens_BN.unsqueeze(1), actions_B.unsqueeze(1)).squeeze(1)
        tokens_BN = sample_frame(
            self.dynamics, change_BND, past, sampling or self.config.sampling, noise_SBNU
        )
        past = self.dynamics.commit(tokens_BN, change_BND, past)
        frame_BHWC, drawn = self.tokenizer.decode_next(tokens_BN, drawn)
        return tokens_BN, past, drawn, frame_BHWC

    def _check_actions(self, actions: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(actions.shape) != shape or actions.dtype.is_floating_point:
            raise JinnError(f"actions must be integers of shape {shape}, got {tuple(actions.shape)}")
        if actions.numel() and not (int(actions.min()) >= 0 and int(actions.max()) < self.num_actions):
            raise JinnError(f"this world has the actions 0 to {self.num_actions - 1}")

    def save(self, folder: Path | str, dtype: torch.dtype = torch.float32) -> None:
        """Write config.json, model.safetensors and prompts.safetensors; where they are known, legend.json
        and trained_on.safetensors.

        Args:
            folder: is made; files in it are replaced one by one, the config last.
            dtype: of the weights on disk; they are float32 again when loaded.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.to(dtype) if v.is_floating_point() else v for k, v in self.state_dict().items()}
        write_tensors(folder / "model.safetensors", weights)
        write_tensors(folder / "prompts.safetensors", {"frames_PHWC": self.prompts})
        legend, trained_on = folder / "legend.json", folder / "trained_on.safetensors"
        if self.legend:
            write_legend(legend, self.legend)
        else:
            legend.unlink(missing_ok=True)  # that of another world
        if self.trained_on is not None:
            # safetensors of PyTorch knows no uint64: the same bits as int64.
            write_tensors(trained_on, {"groups": torch.from_numpy(self.trained_on.view(np.int64))})
        else:
            trained_on.unlink(missing_ok=True)
        write_json(folder / "config.json", to_dict(self.config))

    @classmethod
    def load(cls, name_or_path: str | Path, device: str | torch.device = "cpu") -> World:
        """Load a world that is built in ("coinrun"), or from its folder, or from the run that made it.

        Raises:
            JinnError: there is none, or its files are damaged.
        """
        folder = find_world(name_or_path)
        values = read_json(folder / "config.json")
        # Older worlds have names of actions here (jinn eval measures them anew), and no factored tokens.
        values.pop("action_names", None)
        values.get("dynamics", {}).setdefault("factored", False)
        config = from_dict(WorldConfig, values, str(folder / "config.json"))
        prompts_PHWC = read_tensors(folder / "prompts.safetensors").get("frames_PHWC")
        world = cls(config, prompts_PHWC)
        weights = {
            k: v.float() if v.is_floating_point() else v
            for k, v in read_tensors(folder / "model.safetensors").items()
            if not k.endswith("usage_K")  # older worlds counted the use of their codes
        }
        load_weights(world, weights, folder)
        world.folder = folder
        world.legend = read_legend(folder / "legend.json")
        if world.legend and len(world.legend) != world.num_actions:
            raise JinnError(
                f"{folder / 'legend.json'} names {len(world.legend)} actions, but the world has "
                f"{world.num_actions}: remove it or restore it"
            )
        if (folder / "trained_on.safetensors").exists():
            groups = read_tensors(folder / "trained_on.safetensors")["groups"]
            world.trained_on = groups.numpy().view(np.uint64)
        return world.to(device).eval()


def find_world(name_or_path: str | Path) -> Path:
    """The folder of a world.

    Raises:
        JinnError: there is none of that name or at that path.
    """
    path = Path(name_or_path)
    for folder in (path, path / "world", BUILT_IN / path.name if path.name == str(path) else path):
        if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
            return folder
    known = sorted(p.parent.name for p in BUILT_IN.glob("*/config.json"))
    raise JinnError(
        f"there is no world at {str(name_or_path)!r}: name the folder of a world or a run, "
        f"or a built-in world ({', '.join(known) or 'none here'})"
    )


def sample_frame(
    dynamics: Dynamics, change_BND: Tensor, past: Past, config: SamplingConfig, noise_SBNU: Tensor
) -> Tensor:
    """Fill a frame of masks in ``config.steps`` MaskGIT steps; int64 ``tokens_BN``.

    Args:
        dynamics: the model.
        change_BND: what the action and the frame before say, from `Dynamics.change`.
        past: the frames before.
        config: steps and temperatures.
        noise_SBNU: uniform, from `jinn.models.sampling.frame_noise`.
    """
    B, N = noise_SBNU.shape[1:3]
    tokens_BN = torch.full((B, N), dynamics.mask_token, device=noise_SBNU.device)
    masked_BN = torch.ones_like(tokens_BN, dtype=torch.bool)
    for step in range(config.steps):
        logits_BNF = dynamics.next_logits(tokens_BN, change_BND, past)
        drawn_BN, confidence_BN = draw_digits(
            logits_BNF, noise_SBNU[step, ..., :-1], config.temperature, dynamics.levels
        )
        tokens_BN = torch.where(masked_BN, drawn_BN, tokens_BN)
        remaining = masked_after(step, config.steps, N)
        if remaining == 0:
            break
        fading = config.choice_temperature * (1 - (step + 1) / config.steps)
        masked_BN = keep_masked(confidence_BN, masked_BN, noise_SBNU[step, ..., -1], fading, remaining)
        tokens_BN = tokens_BN.masked_fill(masked_BN, dynamics.mask_token)
    return tokens_BN
