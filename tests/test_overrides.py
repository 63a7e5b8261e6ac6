"""``--set PATH=VALUE``: a value is read as the type of its field, and an error is one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jinn.cli.settings import read_settings
from jinn.contracts import JinnError
from jinn.data.stream import StreamConfig
from jinn.overrides import override
from jinn.recipes import tiny
from jinn.training.parallel import ParallelConfig


def test_values_are_read_as_their_types() -> None:
    first = [
        "dynamics.transformer.layers=6",
        "tokenizer_training.betas=0.8,0.9",
        "dynamics_training.optimizer=muon",
    ]
    second = [
        "tokenizer.quantizer.levels=4,4",
        "stream.levels=0,40",
        "stream.policy=a.py:f",
        "parallel.compile=true",
    ]
    settings = read_settings("tiny", [first, [], second])
    recipe = tiny()
    assert settings.recipe == replace(
        recipe,
        tokenizer=replace(recipe.tokenizer, quantizer=replace(recipe.tokenizer.quantizer, levels=(4, 4))),  # type: ignore[arg-type]
        dynamics=replace(recipe.dynamics, transformer=replace(recipe.dynamics.transformer, layers=6)),
        tokenizer_training=replace(recipe.tokenizer_training, betas=(0.8, 0.9)),
        dynamics_training=replace(recipe.dynamics_training, optimizer="muon"),
    )
    assert settings.stream == StreamConfig(levels=(0, 40), policy="a.py:f")
    assert settings.parallel == ParallelConfig(compile=True)


def test_without_overrides_the_recipe_is_unchanged() -> None:
    assert read_settings("tiny").recipe == override(tiny(), []) == tiny()


def test_all_values_are_set_before_the_config_is_checked() -> None:
    """Either value alone would overlap other levels of the stream."""
    settings = read_settings("tiny", [["stream.levels=30000,10000", "stream.test_levels=0,5"]])
    assert settings.stream.test_levels == (0, 5)
    assert (
        read_settings("tiny", [["stream.test_levels=50000,5", "stream.levels=0,40000"]]).stream.levels[1]
        == 40_000
    )


def test_an_optional_part_can_be_set_to_none() -> None:
    assert override(tiny(), ["latent_action_training=none"]).latent_action_training is None


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (
            "dynamics.transformer.layer=6",
            "no value dynamics.transformer.layer: .*dynamics.transformer.layers$",
        ),
        ("dynamic.transformer.layers=6", "nearest one is dynamics.transformer.layers$"),
        ("paralel.accumulate=6", "nearest one is parallel.accumulate$"),
        ("dynamics.transformer.layers.more=6", "nearest one is dynamics.transformer.layers$"),
        ("dynamics.transformer.layers=six", "is a whole number, and not 'six'"),
        ("tokenizer_training.learning_rate=fast", "is a number, and not 'fast'"),
        ("parallel.recompute=yes", "is true or false"),
        ("tokenizer_training.optimizer=sgd", "is one of adamw, muon"),
        ("stream.levels=1,2,3", "separated by commas, each of them a whole number"),
        ("tokenizer_training.steps=none", "is a whole number"),
        ("dynamics.transformer=6", "a group of values"),
        ("latent_action_training=6", "a group of values"),
        ("tokenizer_training.steps=0", "is impossible: .*at least 1"),
        ("dynamics_training.learning_rate=-1", "is impossible: .*not negative"),
        ("dynamics_training.betas=0.9,1", "is impossible: betas are fractions"),
        ("dynamics.transformer.layers", "PATH=VALUE"),
    ],
)
def test_user_errors_are_one_sentence(pair: str, words: str) -> None:
    with pytest.raises(JinnError, match=words):
        read_settings("tiny", [[pair]])


def test_a_phase_that_a_recipe_lacks_cannot_be_changed() -> None:
    with pytest.raises(JinnError, match="this recipe has no self_rollout_training"):
        read_settings("paper_coinrun", [["self_rollout_training.steps=6"]])
