"""Whole runs as functions that return a full config.

Each docstring holds the command, the hardware, the minutes and the figures to expect. Any number can be
overridden on the command line: ``jinn train STORE --out RUN --recipe tiny --dynamics.transformer.layers 6``.

Where the paper is open (see also the docstrings of the models): values are as wide as the stream, the
feed-forward is a quarter of the width, which lets the parameter counts of its table fit within 6%.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jinn.models.dynamics import DynamicsConfig
from jinn.models.latent_actions import LatentActionsConfig
from jinn.models.quantize import FSQConfig, VQConfig
from jinn.models.sampling import SamplingConfig
from jinn.models.tokenizer import TokenizerConfig
from jinn.models.transformer import TransformerConfig
from jinn.training.optim import TrainingConfig
from jinn.training.run import Recipe
from jinn.training.stages import LatentActionSchedule


def tiny() -> Recipe:
    """The synthetic game (32 x 32 pixels) in about a minute on two CPU cores; tests and the tutorial.

    ``jinn data synthetic:game --out stores/game && jinn train stores/game --out runs/game --recipe tiny``
    """
    frame_by_frame = TransformerConfig(layers=1, width=64, heads=4, feedforward=2.0, temporal_every=0)
    return Recipe(
        tokenizer=TokenizerConfig(
            size_hw=(32, 32),
            patch=4,
            encoder=frame_by_frame,
            decoder=frame_by_frame,
            quantizer=FSQConfig(levels=(8, 5, 5)),
        ),
        latent_actions=LatentActionsConfig(
            size_hw=(32, 32),
            patch=8,
            encoder=frame_by_frame,
            decoder=frame_by_frame,
            quantizer=VQConfig(codes=5, dim=8),
            pairs=True,
            predict_change=True,
            reach=4,
        ),
        dynamics=DynamicsConfig(
            transformer=TransformerConfig(layers=3, width=64, heads=4, feedforward=2.0),
            clean_frames=0.5,
            previous_frame=True,
        ),
        sampling=SamplingConfig(steps=4),
        tokenizer_training=TrainingConfig(
            steps=600, batch=32, frames=1, learning_rate=3e-3, final_learning_rate=1e-4, checkpoint_every=100
        ),
        world_training=TrainingConfig(
            steps=500, batch=16, frames=6, learning_rate=2e-3, final_learning_rate=1e-4, checkpoint_every=100
        ),
        latent_action_schedule=LatentActionSchedule(warmup=100, alone=150, until=250, restart_every=10),
    )


def coinrun_cpu() -> Recipe:
    """Real CoinRun frames on two CPU cores: the recipe of the built-in world.

    ``jinn data envpool:CoinrunHard-v0 --frames 300000 --levels 0:10000 --policy sticky --out stores/coinrun``
    ``jinn train stores/coinrun --out runs/coinrun --recipe coinrun_cpu``

    64 tokens a frame from 8 x 8 patches instead of the paper's 256, a tokenizer that sees one frame at a
    time, latent actions from pairs of half-size frames, and the dynamics trained as they are played.
    """
    frame_by_frame = TransformerConfig(layers=2, width=256, heads=8, feedforward=4.0, temporal_every=0)
    motion = TransformerConfig(layers=2, width=128, heads=4, feedforward=4.0, temporal_every=0)
    return Recipe(
        tokenizer=TokenizerConfig(
            size_hw=(64, 64),
            patch=8,
            encoder=frame_by_frame,
            decoder=replace(frame_by_frame, layers=4),
            quantizer=FSQConfig(levels=(8, 8, 5, 5)),
        ),
        latent_actions=LatentActionsConfig(
            size_hw=(64, 64),
            patch=8,
            encoder=motion,
            decoder=motion,
            quantizer=VQConfig(codes=8, dim=4),
            pairs=True,
            predict_change=True,
            reach=4,
            shrink=2,
            latent_noise=0.1,
        ),
        dynamics=DynamicsConfig(
            transformer=TransformerConfig(layers=4, width=256, heads=8, feedforward=4.0, window=8),
            clean_frames=0.5,
            previous_frame=True,
            context_noise=0.05,
        ),
        sampling=SamplingConfig(steps=6),
        tokenizer_training=TrainingConfig(
            steps=3_200, batch=32, frames=1, learning_rate=1.5e-3, final_learning_rate=2e-5, warmup=200
        ),
        world_training=TrainingConfig(
            steps=3_500, batch=8, frames=8, learning_rate=1e-3, final_learning_rate=2e-5, warmup=100
        ),
        latent_action_schedule=LatentActionSchedule(warmup=600, alone=900, until=1_200, restart_every=20),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {f.__name__: f for f in (tiny, coinrun_cpu)}
