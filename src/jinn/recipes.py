"""Whole runs as functions that return a full config.

Each docstring gives the command, the hardware, the minutes and the results to expect, or says that the recipe
was never run. Any value can be changed on the command line: ``--set dynamics.transformer.layers=6``.

Where the paper is open (see also the docstrings of the models), values are as wide as the residual stream, and
the feed-forward is a quarter of the width: so the parameter counts of its tables fit within 6%.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from jinn.contracts import JinnError
from jinn.files import load_function
from jinn.models.dynamics import DynamicsConfig
from jinn.models.latent_actions import LatentActionsConfig
from jinn.models.maskgit import SamplingConfig
from jinn.models.ours.conv_tokenizer import ConvConfig, ConvTokenizerConfig
from jinn.models.ours.motion_latent_actions import MotionLatentActionsConfig
from jinn.models.ours.previous_frame import PreviousFrameDynamicsConfig
from jinn.models.quantize import FSQConfig, VQConfig
from jinn.models.tokenizer import TokenizerConfig
from jinn.models.transformer import TransformerConfig
from jinn.training.optim import TrainingConfig
from jinn.training.recipe import Recipe


def tiny() -> Recipe:
    """The synthetic game (32 x 32 pixels) in two minutes on two CPU cores; tests and the tutorial.

    ``jinn data synthetic:game --size 32 32 --frames 12000 --out stores/game``
    ``jinn train stores/game --out runs/game --recipe tiny``

    Expect to find 90% of the true actions (the others run into walls), 41 dB after 20 frames, and a sprite that is
    whole after 300 frames whatever is pressed.
    """
    size_hw = (32, 32)
    frame_by_frame = TransformerConfig(layers=1, width=64, heads=4, feedforward=2.0, temporal_every=0)
    training = partial(TrainingConfig, final_learning_rate=1e-4, warmup=30)
    return Recipe(
        # Tokens of 4 x 4 pixels, which see nothing else: the board's stay the same while the player walks past.
        tokenizer=ConvTokenizerConfig(
            size_hw,
            cell=2,
            encoder=ConvConfig(fine=32, coarse=64, fine_blocks=1, coarse_blocks=1, kernel=1),
            decoder=ConvConfig(fine=32, coarse=64, fine_blocks=1),
            quantizer=FSQConfig(levels=(8, 5, 5)),
        ),
        latent_actions=MotionLatentActionsConfig(
            size_hw=size_hw,
            patch=2,
            encoder=frame_by_frame,
            decoder=frame_by_frame,
            quantizer=VQConfig(codes=5, dim=8),
            search_radius=2,
            downsample=2,
        ),
        dynamics=PreviousFrameDynamicsConfig(
            TransformerConfig(layers=2, width=64, heads=2, feedforward=2.0, window=4),
            clean_frames=0.3,
            doubt=1.0,
            digit_hidden=64,
        ),
        # A player who runs into a wall is in one of a few places: the last tokens are revealed one by one.
        sampling=SamplingConfig(
            6, temperature=0.0, choice_temperature=0.0, schedule="exponential", doubt=0.3
        ),
        tokenizer_training=training(steps=500, batch=32, frames=1, learning_rate=3e-3, optimizer="muon"),
        latent_action_training=training(steps=600, batch=40, frames=2, learning_rate=3e-3),
        dynamics_training=training(
            steps=1_500, batch=16, frames=4, learning_rate=4e-3, hold=0.6, optimizer="muon"
        ),
        self_rollout_training=training(
            steps=150, batch=8, frames=8, learning_rate=1e-3, warmup=10, optimizer="muon"
        ),
    )


def coinrun_cpu() -> Recipe:
    """Real CoinRun frames on two CPU cores: the recipe of the built-in worlds.

    ``jinn data envpool:CoinrunHard-v0 --frames 300000 --levels 0:10000 --policy sticky --out stores/coinrun``
    ``jinn data envpool:CoinrunHard-v0 --frames 200000 --levels 0:10000 --policy runner --out stores/coinrun``
    ``jinn train stores/coinrun --out runs/coinrun --recipe coinrun_cpu``

    64 tokens of six digits per frame; our own models. By the rates of undisturbed runs on two cores with AVX512-BF16:
    48 minutes (tokenizer 11, latent actions 1, dynamics 32, self-rollouts 4), measured before the dynamics'
    clips were encoded in float32, which takes longer; without such instructions expect some four hours.
    ``platforms`` is made by it before it had late masks (``--set sampling.temperature=0``, and ``--env
    use_backgrounds=false --env restrict_themes=true`` for both recordings: see its model card), ``coinrun``
    as its card says. Where the camera stands still, ``--set tokenizer.encoder.kernel=1`` lets a token see its patch
    alone; where something moves by chance, ``self_rollout_training=none sampling.steps=4 sampling.temperature=1
    sampling.random_tokens=0`` is better (the card of ``boxing``). The last phase has not been measured with the present
    sampling, which was chosen in play.
    """
    motion = TransformerConfig(layers=2, width=128, heads=4, feedforward=4.0, temporal_every=0)
    training = partial(TrainingConfig, final_learning_rate=2e-5, optimizer="muon")
    return Recipe(
        tokenizer=ConvTokenizerConfig(
            encoder=ConvConfig(fine=48, coarse=128),
            decoder=ConvConfig(fine=80, coarse=160, coarse_blocks=3),
            quantizer=FSQConfig(levels=(8,) * 6),
        ),
        latent_actions=MotionLatentActionsConfig(encoder=motion, decoder=motion, latent_noise=0.1),
        dynamics=PreviousFrameDynamicsConfig(
            # Half of the temporal layers, and a plateau at the peak learning rate below (research log).
            transformer=TransformerConfig(
                layers=4, width=192, heads=6, feedforward=4.0, window=8, temporal_every=2
            ),
            clean_frames=0.3,
            doubt=1.0,
            digit_hidden=384,
        ),
        sampling=SamplingConfig(
            4, temperature=0.7, choice_temperature=0.0, schedule="exponential", random_tokens=2
        ),
        tokenizer_training=training(steps=6_000, batch=32, frames=1, learning_rate=1.5e-3, warmup=200),
        latent_action_training=TrainingConfig(
            steps=1_100, batch=64, frames=2, learning_rate=1e-3, final_learning_rate=5e-5, warmup=100
        ),
        dynamics_training=training(steps=9_000, batch=8, frames=8, learning_rate=3e-3, warmup=100, hold=0.7),
        self_rollout_training=training(
            350, 4, frames=16, learning_rate=5e-4, warmup=20, checkpoint_every=50, preview_every=50
        ),
    )


def coinrun() -> Recipe:
    """CoinRun on one GPU with our own models, small enough to be played on two CPU cores.

    ``jinn train envpool:CoinrunHard-v0 --out runs/coinrun --recipe coinrun --device cuda
    --set stream.frames=10000000 stream.policy=sticky+runner --minutes 9 --report fvd256_16f``

    NEVER RUN on a GPU yet: it is meant for half an hour of an H200, steps and sizes are estimates
    (``jinn plan coinrun``), and docs/research-log.md says what is known. The command trains and writes a
    report; it goes on every time it is repeated.
    """
    cpu = coinrun_cpu()
    motion = TransformerConfig(layers=3, width=192, heads=6, temporal_every=0)
    rarely: dict[str, Any] = {"checkpoint_every": 1_000, "preview_every": 1_000}
    return replace(
        cpu,
        tokenizer=ConvTokenizerConfig(
            encoder=ConvConfig(fine=64, coarse=192, coarse_blocks=3),
            decoder=ConvConfig(fine=96, coarse=256, coarse_blocks=4),
            quantizer=FSQConfig(levels=(8,) * 10),
        ),
        latent_actions=MotionLatentActionsConfig(encoder=motion, decoder=motion, latent_noise=0.1),
        dynamics=replace(
            cpu.dynamics,
            transformer=TransformerConfig(layers=6, width=256, heads=8, feedforward=4.0, temporal_every=2),
        ),
        tokenizer_training=replace(cpu.tokenizer_training, steps=20_000, batch=512, **rarely),
        latent_action_training=TrainingConfig(
            steps=5_000, batch=512, frames=2, learning_rate=6e-4, warmup=500, checkpoint_every=1_000
        ),
        dynamics_training=replace(
            cpu.dynamics_training, steps=40_000, batch=64, frames=16, warmup=1_000, **rarely
        ),
        self_rollout_training=TrainingConfig(
            1_500, 64, frames=24, learning_rate=5e-4, final_learning_rate=2e-5, warmup=50, optimizer="muon"
        ),
    )


def platformers_cpu() -> Recipe:
    """Twelve platform games at 160 x 90 on two CPU cores: the paper's Platformers in small.

    ``python scripts/platformers.py stores/platformers``
    ``jinn train stores/platformers/train --out runs/platformers --recipe platformers_cpu``

    144 tokens of eight digits per frame, for each 10 x 10 pixels; else `coinrun_cpu`, of which a run has 2.4 times the
    FLOPs: so expect two hours where that takes 48 minutes. NEVER RUN to its end: docs/research-log.md says what a few
    hundred steps show. Enemies move by chance, for which `coinrun_cpu` names other values; they were not tried here.
    """
    cpu, size_hw = coinrun_cpu(), (90, 160)
    assert isinstance(cpu.tokenizer, ConvTokenizerConfig)
    return replace(
        cpu,
        tokenizer=replace(cpu.tokenizer, size_hw=size_hw, cell=5, quantizer=FSQConfig(levels=(8,) * 8)),
        latent_actions=replace(cpu.latent_actions, size_hw=size_hw),
    )


def robotics_cpu() -> Recipe:
    """A robot's arm that does twelve tasks, at 160 x 90 on two CPU cores: the paper's Robotics in small.

    ``python scripts/robots.py robots``
    ``jinn data robots --out stores/robots --size 90 160``
    ``jinn train stores/robots --out runs/robots --recipe robotics_cpu``

    `platformers_cpu` with tokens that see nothing but their patch, since the camera stands still, and two thirds of its
    steps, since all scenes are alike. NEVER RUN to its end: docs/research-log.md says what a few hundred steps show.
    """
    recipe = platformers_cpu()
    assert isinstance(recipe.tokenizer, ConvTokenizerConfig)
    encoder = replace(recipe.tokenizer.encoder, kernel=1)
    return replace(
        recipe,
        tokenizer=replace(recipe.tokenizer, encoder=encoder),
        tokenizer_training=replace(recipe.tokenizer_training, steps=4_000),
        dynamics_training=replace(recipe.dynamics_training, steps=6_000),
    )


def paper_transformer(layers: int, width: int, heads: int, head_width: int = 64) -> TransformerConfig:
    """A row of the paper's tables, with the feed-forward of the module's docstring and a window of 16 frames."""
    return TransformerConfig(layers, width, heads, head_width, feedforward=0.25)


def paper_training(steps: int, batch: int, learning_rate: float, final: float, warmup: int) -> TrainingConfig:
    """The paper's AdamW (tables 13 and 15): betas 0.9 and 0.9, weight decay 1e-4, 16 frames."""
    config = TrainingConfig(steps, batch, 16, learning_rate, final, warmup)
    return replace(config, betas=(0.9, 0.9), weight_decay=1e-4, checkpoint_every=1_000)


def paper_coinrun() -> Recipe:
    """The paper's reproducible case study (appendix F): three days on one 16 GB TPU for the tokenizer.

    ``jinn data envpool:CoinrunHard-v0 --frames 10000000 --levels 0:10000 --out stores/10m``
    ``jinn train stores/10m --out runs/paper --recipe paper_coinrun --device cuda``

    NEVER RUN to its end here. Paper: tokenizer 300k steps of batch 48, dynamics 200k steps of batch 36; its own
    results for this study are curves only.
    """
    model = paper_transformer(8, 512, 8)
    return Recipe(
        tokenizer=TokenizerConfig((64, 64), 4, model, model, VQConfig(1024, 32)),
        latent_actions=LatentActionsConfig((64, 64), 16, model, model, VQConfig(6, 32)),
        dynamics=DynamicsConfig(paper_transformer(12, 512, 8)),
        sampling=SamplingConfig(steps=25, temperature=1.0),
        tokenizer_training=paper_training(300_000, 48, 3e-4, 3e-4, 10_000),
        dynamics_training=paper_training(200_000, 36, 3e-5, 3e-6, 5_000),
    )


# The paper's scaling study (section 3.1): layers, width, heads and head width of the dynamics.
PLATFORMERS = {
    "41m": (18, 512, 8, 64),
    "96m": (16, 768, 16, 64),
    "192m": (20, 1024, 18, 64),
    "404m": (21, 1536, 12, 128),
    "811m": (20, 2048, 20, 128),
    "1b6": (28, 2560, 22, 128),
    "2b7": (36, 3072, 22, 128),
    "10b": (48, 5120, 36, 128),
}


def paper_platformers(size: str) -> Recipe:
    """Platformers at 160 x 90 (tables 2, 5 and 14) with a dynamics model of a size of `PLATFORMERS`.

    NEVER RUN here. In the paper the tokenizer has 200M parameters and the LAM 300M. Genie itself is "10b": batch
    512, 125k steps on 256 TPUv5p. 90 is no multiple of 4 or 16: the last row of patches reaches over the edge.
    """
    large = paper_transformer(20, 1024, 16)
    batch, steps = (512, 125_000) if size == "10b" else (256, 200_000)
    return Recipe(
        tokenizer=TokenizerConfig((90, 160), 4, paper_transformer(12, 512, 8), large, VQConfig(1024, 32)),
        latent_actions=LatentActionsConfig((90, 160), 16, large, large, VQConfig(8, 32)),
        dynamics=DynamicsConfig(paper_transformer(*PLATFORMERS[size])),
        sampling=SamplingConfig(steps=25, temperature=2.0),
        tokenizer_training=paper_training(300_000, 384, 3e-4, 3e-4, 10_000),
        dynamics_training=paper_training(steps, batch, 3e-5, 3e-6, 5_000),
    )


def paper_robotics() -> Recipe:
    """RT-1 robot video: 2.5B parameters in total, the other hyperparameters as for Platformers.

    NEVER RUN here. The paper prints no table of sizes for it. We use the Platformers tokenizer and LAM, and a
    dynamics model of the width of the batch-size study with the layers that bring the three to 2.5B.
    """
    return replace(paper_platformers("2b7"), dynamics=DynamicsConfig(paper_transformer(36, 2560, 20, 128)))


RECIPES: dict[str, Callable[[], Recipe]] = {
    "tiny": tiny,
    "coinrun_cpu": coinrun_cpu,
    "coinrun": coinrun,
    "platformers_cpu": platformers_cpu,
    "robotics_cpu": robotics_cpu,
    "paper_coinrun": paper_coinrun,
    **{f"paper_platformers_{size}": partial(paper_platformers, size) for size in PLATFORMERS},
    "paper_robotics": paper_robotics,
}


def load_recipe(name: str) -> Recipe:
    """The recipe of this name, or the one that the function at ``FILE.py:FUNCTION`` returns.

    Raises:
        JinnError: there is no such recipe, file or function, or it returns something else.
    """
    if name in RECIPES:
        return RECIPES[name]()
    if ":" not in name:
        known = ", ".join(RECIPES)
        raise JinnError(f"there is no recipe {name!r}: choose one of {known}, or FILE.py:FUNCTION")
    recipe = load_function(name)()
    if not isinstance(recipe, Recipe):
        kind = type(recipe).__name__
        raise JinnError(f"{name} returns {kind}: let it return a jinn.training.recipe.Recipe")
    return recipe
