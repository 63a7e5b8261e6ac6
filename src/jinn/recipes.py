"""Whole runs as functions that return a full config.

Each docstring holds the command, the hardware, the minutes and the figures to expect. Any number can be
overridden on the command line: ``jinn train STORE --out RUN --recipe tiny --dynamics.transformer.layers 6``.

Where the paper is open (see also the docstrings of the models): values are as wide as the stream, the
feed-forward is a quarter of the width, which lets the parameter counts of its table fit within 6%.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jinn.models.conv_tokenizer import ConvConfig, ConvTokenizerConfig
from jinn.models.dynamics import DynamicsConfig
from jinn.models.latent_actions import LatentActionsConfig
from jinn.models.quantize import FSQConfig, VQConfig
from jinn.models.sampling import SamplingConfig
from jinn.models.tokenizer import TokenizerConfig
from jinn.models.transformer import TransformerConfig
from jinn.training.optim import TrainingConfig
from jinn.training.run import Recipe


def tiny() -> Recipe:
    """The synthetic game (32 x 32 pixels) in a minute on two CPU cores; tests and the tutorial.

    ``jinn data synthetic:game --size 32 32 --frames 12000 --out stores/game``
    ``jinn train stores/game --out runs/game --recipe tiny``

    Expect a mutual information with the true actions near 1, and 34 to 38 dB after 20 frames.
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
            patch=2,
            encoder=frame_by_frame,
            decoder=frame_by_frame,
            quantizer=VQConfig(codes=5, dim=8),
            pairs=True,
            predict_change=True,
            reach=2,
            shrink=2,
        ),
        dynamics=DynamicsConfig(
            transformer=TransformerConfig(layers=2, width=64, heads=2, feedforward=2.0),
            clean_frames=0.3,
            previous_frame=True,
            digits=True,
        ),
        sampling=SamplingConfig(steps=4, temperature=0.5, choice_temperature=0.5),
        tokenizer_training=TrainingConfig(
            steps=200, batch=32, frames=1, learning_rate=3e-3, final_learning_rate=1e-4, warmup=30
        ),
        latent_action_training=TrainingConfig(
            steps=350, batch=40, frames=2, learning_rate=3e-3, final_learning_rate=1e-4, warmup=30
        ),
        world_training=TrainingConfig(
            steps=300, batch=8, frames=6, learning_rate=4e-3, final_learning_rate=1e-4, warmup=30
        ),
    )


def coinrun_cpu() -> Recipe:
    """Real CoinRun frames on two CPU cores: the recipe of the built-in world.

    ``jinn data envpool:CoinrunHard-v0 --frames 300000 --levels 0:10000 --policy sticky --out stores/coinrun``
    ``jinn data envpool:CoinrunHard-v0 --frames 300000 --levels 0:10000 --policy runner --out stores/coinrun``
    ``jinn train stores/coinrun --out runs/coinrun --recipe coinrun_cpu``

    64 tokens a frame instead of the paper's 256, of 18 bits that are predicted digit by digit; a tokenizer of
    convolutions that sees one frame at a time; latent actions from pairs of half-size frames; the dynamics
    trained as they are played, at the end on frames of their own. Three hours. Expect a tokenizer of 32 dB
    and about the figures of the built-in world's model card, whose dynamics had a trained agent's play to
    learn from as well.
    """
    motion = TransformerConfig(layers=2, width=128, heads=4, feedforward=4.0, temporal_every=0)
    return Recipe(
        tokenizer=ConvTokenizerConfig(
            size_hw=(64, 64),
            encoder=ConvConfig(fine=48, coarse=128),
            decoder=ConvConfig(fine=80, coarse=160, coarse_blocks=3),
            quantizer=FSQConfig(levels=(8,) * 6),
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
            # Half of the temporal layers, and below the highest rate held (research log).
            transformer=TransformerConfig(
                layers=4, width=192, heads=6, feedforward=4.0, window=8, temporal_every=2
            ),
            clean_frames=0.3,
            previous_frame=True,
            factored=True,
            context_noise=0.05,
        ),
        sampling=SamplingConfig(steps=1, temperature=0.0, choice_temperature=0.5),
        tokenizer_training=TrainingConfig(
            steps=6_000,
            batch=32,
            frames=1,
            learning_rate=1.5e-3,
            final_learning_rate=2e-5,
            warmup=200,
            optimizer="muon",
        ),
        world_training=TrainingConfig(
            steps=4_500,
            batch=8,
            frames=8,
            learning_rate=3e-3,
            final_learning_rate=2e-5,
            warmup=100,
            hold=0.7,
            optimizer="muon",
        ),
        latent_action_training=TrainingConfig(
            steps=1_100, batch=64, frames=2, learning_rate=1e-3, final_learning_rate=5e-5, warmup=100
        ),
        play_training=TrainingConfig(
            steps=350,
            batch=4,
            frames=16,
            learning_rate=5e-4,
            final_learning_rate=2e-5,
            warmup=20,
            optimizer="muon",
            checkpoint_every=50,
            preview_every=50,
        ),
    )


def coinrun() -> Recipe:
    """CoinRun on one GPU with our own choices, small enough to be played on two CPU cores.

    ``jinn train envpool:CoinrunHard-v0 --out runs/coinrun --recipe coinrun --device cuda
    --stream.frames 10000000 --stream.policy sticky+runner --minutes 9 --report fvd256_16f``

    From frames to a report; the same command goes on every time. Meant for half an hour of an H200, and
    not run on one yet: steps and sizes are estimates (``--plan``), docs/research-log.md says what is known.
    The paper's recipe with as many FLOPs: ``--recipe paper_coinrun --tokenizer-training.steps 720
    --world-training.steps 3300``.
    """
    cpu = coinrun_cpu()
    motion = TransformerConfig(layers=3, width=192, heads=6, temporal_every=0)
    return replace(
        cpu,
        tokenizer=ConvTokenizerConfig(
            size_hw=(64, 64),
            encoder=ConvConfig(fine=64, coarse=192, coarse_blocks=3),
            decoder=ConvConfig(fine=96, coarse=256, coarse_blocks=4),
            quantizer=FSQConfig(levels=(8,) * 10),
        ),
        latent_actions=replace(cpu.latent_actions, encoder=motion, decoder=motion),
        dynamics=replace(
            cpu.dynamics,
            transformer=TransformerConfig(layers=6, width=256, heads=8, feedforward=4.0, temporal_every=2),
        ),
        tokenizer_training=replace(
            cpu.tokenizer_training, steps=20_000, batch=512, checkpoint_every=1_000, preview_every=1_000
        ),
        latent_action_training=TrainingConfig(
            steps=5_000, batch=512, frames=2, learning_rate=6e-4, warmup=500, checkpoint_every=1_000
        ),
        world_training=replace(
            cpu.world_training,
            steps=40_000,
            batch=64,
            frames=16,
            warmup=1_000,
            checkpoint_every=1_000,
            preview_every=1_000,
        ),
        play_training=TrainingConfig(
            steps=1_500,
            batch=64,
            frames=24,
            learning_rate=5e-4,
            final_learning_rate=2e-5,
            warmup=50,
            optimizer="muon",
        ),
    )


def paper_transformer(layers: int, width: int, heads: int, head_width: int = 64) -> TransformerConfig:
    """A row of the paper's tables: feed-forward as the module's docstring says, window of 16 frames."""
    return TransformerConfig(layers, width, heads, head_width, feedforward=0.25)


def paper_training(steps: int, batch: int, learning_rate: float, final: float, warmup: int) -> TrainingConfig:
    """The paper's AdamW (tables 13 and 15): betas 0.9 and 0.9, weight decay 1e-4, 16 frames."""
    return TrainingConfig(
        steps,
        batch,
        16,
        learning_rate,
        final,
        warmup,
        betas=(0.9, 0.9),
        weight_decay=1e-4,
        checkpoint_every=1_000,
    )


def paper_coinrun() -> Recipe:
    """The paper's reproducible case study (appendix F): three days on one 16 GB TPU for the tokenizer.

    ``jinn data envpool:CoinrunHard-v0 --frames 10000000 --levels 0:10000 --out stores/10m``
    ``jinn train stores/10m --out runs/paper --recipe paper_coinrun --device cuda``

    Paper: tokenizer 300k steps of batch 48, dynamics 200k steps of batch 36. Its own figures for this study
    are curves only; nobody has run this recipe here to its end yet.
    """
    model = paper_transformer(8, 512, 8)
    return Recipe(
        tokenizer=TokenizerConfig((64, 64), 4, model, model, VQConfig(1024, 32)),
        latent_actions=LatentActionsConfig((64, 64), 16, model, model, VQConfig(6, 32)),
        dynamics=DynamicsConfig(paper_transformer(12, 512, 8)),
        sampling=SamplingConfig(steps=25, temperature=1.0),
        tokenizer_training=paper_training(300_000, 48, 3e-4, 3e-4, 10_000),
        world_training=paper_training(200_000, 36, 3e-5, 3e-6, 5_000),
    )


def paper_platformers(dynamics: TransformerConfig, batch: int = 256, steps: int = 200_000) -> Recipe:
    """Platformers at 160 x 90 (tables 2, 5 and 14) with a dynamics model of the given size.

    The tokenizer has 200M parameters in the paper and the LAM 300M. 90 is no multiple of 4 or 16: the last
    row of patches reaches over the edge.
    """
    large = paper_transformer(20, 1024, 16)
    return Recipe(
        tokenizer=TokenizerConfig((90, 160), 4, paper_transformer(12, 512, 8), large, VQConfig(1024, 32)),
        latent_actions=LatentActionsConfig((90, 160), 16, large, large, VQConfig(8, 32)),
        dynamics=DynamicsConfig(dynamics),
        sampling=SamplingConfig(steps=25, temperature=2.0),
        tokenizer_training=paper_training(300_000, 384, 3e-4, 3e-4, 10_000),
        world_training=paper_training(steps, batch, 3e-5, 3e-6, 5_000),
    )


def paper_platformers_41m() -> Recipe:
    """Platformers, dynamics of 41M parameters (paper, scaling study: batch 256, 200k steps)."""
    return paper_platformers(paper_transformer(18, 512, 8))


def paper_platformers_96m() -> Recipe:
    """Platformers, dynamics of 96M parameters."""
    return paper_platformers(paper_transformer(16, 768, 16))


def paper_platformers_192m() -> Recipe:
    """Platformers, dynamics of 192M parameters."""
    return paper_platformers(paper_transformer(20, 1024, 18))


def paper_platformers_404m() -> Recipe:
    """Platformers, dynamics of 404M parameters."""
    return paper_platformers(paper_transformer(21, 1536, 12, 128))


def paper_platformers_811m() -> Recipe:
    """Platformers, dynamics of 811M parameters."""
    return paper_platformers(paper_transformer(20, 2048, 20, 128))


def paper_platformers_1b6() -> Recipe:
    """Platformers, dynamics of 1.6B parameters."""
    return paper_platformers(paper_transformer(28, 2560, 22, 128))


def paper_platformers_2b7() -> Recipe:
    """Platformers, dynamics of 2.7B parameters."""
    return paper_platformers(paper_transformer(36, 3072, 22, 128))


def paper_platformers_10b() -> Recipe:
    """Genie itself: dynamics of 10.1B parameters, batch 512, 125k steps on 256 TPUv5p."""
    return paper_platformers(paper_transformer(48, 5120, 36, 128), batch=512, steps=125_000)


def paper_robotics() -> Recipe:
    """RT-1 robot video: 2.5B parameters in all, the other hyperparameters as for Platformers.

    The paper prints no table of sizes for it. Here: the Platformers tokenizer and LAM, and a dynamics
    model of the width of the batch-size study, with the layers that bring the three to 2.5B.
    """
    return paper_platformers(paper_transformer(36, 2560, 20, 128))


RECIPES: dict[str, Callable[[], Recipe]] = {
    recipe.__name__: recipe
    for recipe in (
        tiny,
        coinrun_cpu,
        coinrun,
        paper_coinrun,
        paper_platformers_41m,
        paper_platformers_96m,
        paper_platformers_192m,
        paper_platformers_404m,
        paper_platformers_811m,
        paper_platformers_1b6,
        paper_platformers_2b7,
        paper_platformers_10b,
        paper_robotics,
    )
}
