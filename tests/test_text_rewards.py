"""Rewards from a text, by a vision-language model of a few thousand weights that learns three colours here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers_world import make_world
from jinn.env import WorldVectorEnv
from jinn.errors import JinnError
from jinn.rewards import TextGoal, check_rewards, roc_area

transformers = pytest.importorskip("transformers", reason="the tests of texts need transformers")

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}


def pictures(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy frames of one colour each, uint8 ``BHWC``, and the number of the colour."""
    generator = torch.Generator().manual_seed(seed)
    kinds_B = torch.randint(3, (count,), generator=generator)
    noise = torch.randint(-30, 31, (count, 32, 32, 3), generator=generator)
    plain = torch.tensor(list(COLOURS.values()))[kinds_B][:, None, None]
    return (plain + noise).clamp(0, 255).to(torch.uint8), kinds_B


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP that has learned which word goes with which colour, as transformers saves one."""
    folder = tmp_path_factory.mktemp("clip")
    tokens = [*COLOURS, "<|startoftext|>", "<|endoftext|>"]
    words = {f"{token}</w>" if i < 3 else token: i for i, token in enumerate(tokens)}
    letters = sorted({letter for colour in COLOURS for letter in colour})
    merges, found = [], dict(words)
    for colour in COLOURS:
        parts = [*colour[:-1], f"{colour[-1]}</w>"]
        while len(parts) > 1:
            merges.append(f"{parts[0]} {parts[1]}")
            parts = [parts[0] + parts[1], *parts[2:]]
            found.setdefault(parts[0], len(found))
    for piece in [*letters, *(f"{letter}</w>" for letter in letters)]:
        found.setdefault(piece, len(found))
    (folder / "vocab.json").write_text(json.dumps(found))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    tokenizer = transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=8, pad_token="<|endoftext|>"
    )
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = dict(
        sizes, vocab_size=len(found), max_position_embeddings=8, projection_dim=16,
        bos_token_id=3, eos_token_id=4, pad_token_id=4,
    )  # fmt: skip
    vision = dict(sizes, image_size=16, patch_size=8, projection_dim=16)
    torch.manual_seed(0)
    clip = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    )
    clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3})
    )
    said = tokenizer(list(COLOURS), padding="max_length", return_tensors="pt")
    optimizer = torch.optim.AdamW(clip.parameters(), 3e-3)
    for step in range(60):
        frames_BHWC, kinds_B = pictures(32, step)
        pixels = torch.nn.functional.interpolate((frames_BHWC / 255 - 0.5).movedim(-1, 1) / 0.25, (16, 16))
        logits = clip(pixel_values=pixels, **said).logits_per_image
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, kinds_B).backward()
        optimizer.step()
    clip.save_pretrained(folder)
    return folder


def test_a_text_rewards_the_frames_that_show_it(model: Path) -> None:
    frames_BHWC, kinds_B = pictures(60, 1000)
    for kind, colour in enumerate(COLOURS):
        reward = TextGoal(colour, [other for other in COLOURS if other != colour], str(model))
        probability_B = reward.probability(frames_BHWC)
        assert roc_area(probability_B, kinds_B == kind) > 0.99
        rewards_B, terminated_B = reward(frames_BHWC, torch.zeros(60), frames_BHWC)
        assert torch.equal(terminated_B, rewards_B > 0)
        assert (terminated_B == (kinds_B == kind)).double().mean() > 0.95


def test_probabilities_are_those_of_one_choice_and_the_threshold_is_the_users(model: Path) -> None:
    frames_BHWC, _ = pictures(5, 0)
    total_B = torch.zeros(5)
    for colour in COLOURS:
        goal = TextGoal(
            colour, [other for other in COLOURS if other != colour], str(model), threshold=0.999999
        )
        total_B += goal.probability(frames_BHWC)
        check_rewards(goal(frames_BHWC, torch.zeros(5), frames_BHWC), 5)
        assert goal(frames_BHWC, torch.zeros(5), frames_BHWC)[0].sum() < 5
    torch.testing.assert_close(total_B, torch.ones(5))


def test_it_is_the_reward_of_a_learned_environment(model: Path) -> None:
    goal = TextGoal("red", ["green", "blue"], str(model))
    envs = WorldVectorEnv(3, make_world(), reward=goal, horizon=4)
    envs.reset(seed=0)
    after, rewards, terminated, *_ = envs.step(np.zeros(3, np.int64))
    wanted = goal.probability(torch.from_numpy(np.asarray(after))) >= 0.5
    assert rewards.tolist() == wanted.float().tolist()
    assert terminated.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("red", [], "x"), "at least one negative text"),
        (("red", ["blue"], "x", 1.5), "a threshold between 0 and 1"),
        (("red", ["blue"], "/no/such/folder"), "there is no vision-language model /no/such/folder"),
    ],
)
def test_mistakes_are_sentences(arguments: tuple, sentence: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(JinnError, match=sentence):
        TextGoal(*arguments)


def test_the_area_under_a_roc_curve() -> None:
    assert roc_area([1, 2, 3, 4], [False, False, True, True]) == 1
    assert roc_area([1, 1, 1, 1], [False, True, False, True]) == 0.5
    assert roc_area([1, 3, 2, 4], [False, False, True, True]) == 0.75
    with pytest.raises(ValueError, match="events that are true"):
        roc_area([1.0], [True])
