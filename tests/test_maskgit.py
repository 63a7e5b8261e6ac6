"""MaskGIT sampling is a pure function of logits and noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from jinn.models.maskgit import (
    SamplingConfig,
    Schedule,
    fill,
    frame_noise,
    least_confident,
    masked_after,
    sample_categorical,
)


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 25, 64, 100])
@pytest.mark.parametrize("tokens", [1, 16, 64, 256])
@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_every_step_unmasks_a_token_and_the_last_all(steps: int, tokens: int, schedule: Schedule) -> None:
    left = [tokens, *(masked_after(s, steps, tokens, schedule) for s in range(steps))]
    assert left[-1] == 0
    for before, after in itertools.pairwise(left):
        assert after < before or before == 0


def sampler(
    logits: Callable[[Tensor], Tensor], temperature: float
) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Tokens of one digit, sampled from these logits: the first argument of `fill`."""

    def sample(tokens_BN: Tensor, drawn_BR: Tensor, uniform_BRQ: Tensor) -> tuple[Tensor, Tensor]:
        logits_BRK = torch.take_along_dim(logits(tokens_BN), drawn_BR.unsqueeze(-1), dim=1)
        return sample_categorical(logits_BRK, uniform_BRQ[..., 0], temperature)

    return sample


def test_the_number_of_revealed_tokens_does_not_decrease() -> None:
    left = [64, *(masked_after(s, 8, 64) for s in range(8))]
    shown = [a - b for a, b in itertools.pairwise(left)]
    assert shown == sorted(shown)
    assert sum(shown) == 64


def test_the_exponential_schedule_ends_one_by_one() -> None:
    assert [masked_after(s, 6, 64, "exponential") for s in range(6)] == [28, 12, 5, 2, 1, 0]


def test_an_object_in_one_of_two_places_is_drawn_once_if_they_are_revealed_one_by_one() -> None:
    """Two positions of 64, of which each has the object if and only if the other one has not."""

    def logits(tokens_BN: Tensor) -> Tensor:
        probability_BN = torch.zeros(tokens_BN.shape)
        for here, there in ((5, 6), (6, 5)):
            known = tokens_BN[:, there]
            probability_BN[:, here] = torch.where(known == 2, 0.5, (known == 0).float())
        return torch.stack([1 - probability_BN, probability_BN], -1).clamp_min(1e-9).log()

    noise_SBNU = frame_noise(torch.arange(200), torch.zeros(200, dtype=torch.long), 6, 64)
    found = {}
    for schedule in get_args(Schedule):
        config = SamplingConfig(6, 1.0, 0.0, schedule)
        found[schedule] = (
            (fill(sampler(logits, config.temperature), noise_SBNU, 2, config).sum(1) == 1).float().mean()
        )
    assert found["exponential"] == 1.0
    assert 0.3 < found["cosine"] < 0.7  # half of the pictures show it twice or never


def test_tokens_follow_the_tempered_distribution() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0]).log_softmax(-1).expand(1, 60_000, 3)
    uniform = torch.rand(1, 60_000, generator=torch.Generator().manual_seed(0))
    for temperature in (0.5, 1.0, 2.0):
        tokens, confidence = sample_categorical(logits, uniform, temperature)
        want = (torch.tensor([0.0, 1.0, 2.0]) / temperature).softmax(-1)
        got = torch.bincount(tokens.flatten(), minlength=3) / 60_000
        torch.testing.assert_close(got, want, atol=0.01, rtol=0)
        torch.testing.assert_close(confidence[0, :9], want.log()[tokens[0, :9]])


@pytest.mark.parametrize("codes", [1, 2, 5, 16, 1000])
def test_tokens_equal_those_of_the_cumulative_sum_over_all_codes(codes: int) -> None:
    """Groups of codes are only faster: the token is the first whose cumulative sum exceeds the number."""
    logits_BNK = torch.randn(3, 50, codes, generator=torch.Generator().manual_seed(0)) * 3
    logits_BNK[..., ::3] -= 200.0  # codes with no probability
    uniform_BN = torch.rand(3, 50, generator=torch.Generator().manual_seed(1))
    uniform_BN[0, 0], uniform_BN[0, 1] = 0.0, 1 - 2**-24
    tokens_BN, log_BN = sample_categorical(logits_BNK, uniform_BN, 0.7)
    log_BNK = (logits_BNK.double() / 0.7).log_softmax(-1)
    running_BNK = log_BNK.exp().cumsum(-1)
    # Where the number equals a step of the cumulative sum up to rounding, either neighbour is correct.
    low_BN = (running_BNK <= (uniform_BN - 1e-5).unsqueeze(-1)).sum(-1)
    high_BN = (running_BNK <= (uniform_BN + 1e-5).unsqueeze(-1)).sum(-1)
    assert ((low_BN <= tokens_BN) & (tokens_BN <= high_BN)).all()
    torch.testing.assert_close(log_BN, log_BNK.gather(-1, tokens_BN[..., None])[..., 0].float())
    assert codes == 1 or (log_BN > -100).all()


def test_temperature_zero_takes_the_most_likely_code_for_any_noise() -> None:
    logits = torch.randn(2, 5, 7)
    tokens, _ = sample_categorical(logits, torch.rand(2, 5), 0.0)
    assert torch.equal(tokens, logits.argmax(-1))


def test_the_largest_noise_gives_a_valid_code() -> None:
    logits = torch.randn(1, 100, 1024, generator=torch.Generator().manual_seed(0)).bfloat16()
    tokens, _ = sample_categorical(logits, torch.full((1, 100), 1 - 2**-24), 1.0)
    assert int(tokens.max()) < 1024


def test_the_least_confident_tokens_become_masks_again() -> None:
    confidence = torch.tensor([[-0.1, -5.0, -9.0, -0.2]])
    still = least_confident(confidence, torch.full((1, 4), 0.5), 0.0, 2)
    assert sorted(still[0].tolist()) == [1, 2]
    for noise in torch.rand(20, 1, 4, generator=torch.Generator().manual_seed(0)):
        assert len({*least_confident(confidence, noise, 10.0, 2)[0].tolist()}) == 2


def test_gumbel_noise_changes_the_order() -> None:
    noise = torch.rand(30, 1, 16, generator=torch.Generator().manual_seed(0))
    kept = {tuple(sorted(least_confident(torch.zeros(1, 16), n, 1.0, 8)[0].tolist())) for n in noise}
    assert len(kept) > 20


def test_noise_is_a_function_of_seed_and_frame() -> None:
    batch = frame_noise(torch.tensor([3, 4, 3]), torch.tensor([7, 7, 8]), 2, 5)
    assert batch.shape == (2, 3, 5, 2)
    assert torch.equal(batch[:, :1], frame_noise(torch.tensor([3]), torch.tensor([7]), 2, 5))
    assert not torch.equal(batch[:, 0], batch[:, 1])
    assert not torch.equal(batch[:, 0], batch[:, 2])
    assert float(batch.min()) >= 0
    assert float(batch.max()) < 1


def test_a_fill_of_three_steps_computed_by_hand() -> None:
    """Four positions, two codes, mask 2; three tokens remain masked after the first step, two after the second.

    At temperature 2 the odds of code 1 are 9, 4, 1.5 and 1/3, so code 0 has the probabilities 0.1, 0.2, 0.4, 0.75.
    The choice noise is g = -ln(-ln u) times 2 in the first step and 1 in the second (3 fading to 0).
    """
    odds_N = torch.tensor([9.0, 4.0, 1.5, 1 / 3])
    logits_BNF = torch.stack([torch.zeros(4), 2 * odds_N.log()], -1)[None]
    noise_SBNU = torch.tensor(
        [
            # u of the token and u of the choice at each position.
            # Tokens 0 1 1 0, log-probabilities -2.30 -0.22 -0.51 -0.29, scores 3.64 0.51 0.22 0.45: position 0.
            [[0.05, 0.95], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]],
            # Tokens . 0 1 0, log-probabilities . -1.61 -0.51 -0.29, scores . -0.58 -1.35 0.08: position 3.
            [[0.9, 0.5], [0.1, 0.7], [0.5, 0.1], [0.5, 0.5]],
            # Tokens . 1 0 .: all that remain.
            [[0.9, 0.5], [0.9, 0.5], [0.3, 0.5], [0.9, 0.5]],
        ]
    )[:, None]
    asked: list[list[int]] = []

    def logits(tokens_BN: torch.Tensor) -> torch.Tensor:
        asked.append(tokens_BN[0].tolist())
        return logits_BNF

    config = SamplingConfig(steps=3, temperature=2.0, choice_temperature=3.0)
    filled_BN = fill(sampler(logits, config.temperature), noise_SBNU, 2, config)
    assert asked == [[2, 2, 2, 2], [0, 2, 2, 2], [0, 2, 2, 0]]
    assert filled_BN.tolist() == [[0, 1, 0, 0]]


@pytest.mark.parametrize(("steps", "random_tokens"), [(4, 2), (3, 60), (2, 200), (1, 2)])
def test_the_first_step_reveals_tokens_at_random_places(steps: int, random_tokens: int) -> None:
    """Whatever their confidence: here that of the first half of the tokens is far higher."""
    logits_BNK = torch.zeros(50, 64, 3)
    logits_BNK[:, :32, 1] = 50.0
    asked: list[torch.Tensor] = []

    def logits(tokens_BN: torch.Tensor) -> torch.Tensor:
        asked.append(tokens_BN < 3)
        return logits_BNK

    noise_SBNU = frame_noise(torch.arange(50), torch.zeros(50, dtype=torch.long), steps, 64)
    config = SamplingConfig(steps, choice_temperature=0.0, random_tokens=random_tokens)
    filled_BN = fill(sampler(logits, 1.0), noise_SBNU, 3, config)
    assert (filled_BN < 3).all()
    assert (filled_BN[:, :32] == 1).all()
    assert len(asked) == steps
    if steps > 1:
        assert (asked[1].sum(1) == min(random_tokens, 63)).all()
        in_first_half = asked[1][:, :32].sum() / asked[1].sum()
        assert 0.3 < in_first_half < 0.7
        # Those that were revealed stay, and each later step reveals more until the last.
        assert all((later | ~earlier).all() for earlier, later in itertools.pairwise(asked))
