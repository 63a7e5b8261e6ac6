"""The heads of the dynamics: digits of a token by themselves, and digits that know of each other."""

from __future__ import annotations

import pytest
import torch

from jinn.models.digits import Digits, IndependentDigits
from jinn.models.maskgit import sample_categorical
from jinn.models.ours.causal_digits import CausalDigits
from jinn.models.quantize import join_digits, split_digits

LEVELS = (3, 2, 4)


def head(kind: str, levels: tuple[int, ...] = LEVELS) -> Digits:
    torch.manual_seed(0)
    return IndependentDigits(8, levels) if kind == "independent" else CausalDigits(8, levels, hidden=32)


@pytest.mark.parametrize("kind", ["independent", "causal"])
@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_tokens_are_sampled_as_often_as_their_probability_says(kind: str, temperature: float) -> None:
    """The probability of a token is the product over its digits, whatever the head."""
    digits, x_D = head(kind), 3 * torch.randn(8, generator=torch.Generator().manual_seed(1))
    uniform_BNQ = torch.rand(1, 100_000, 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        tokens_BN, log_BN = digits.sample(x_D.expand(1, 100_000, 8), uniform_BNQ, temperature)
        every_K = torch.arange(24)
        log_K = torch.zeros(24)
        for token in every_K:
            state, values_Q = digits.begin(x_D), split_digits(token, LEVELS)
            for digit, value in enumerate(values_Q):
                log_K[token] += (digits.logits(state, digit) / temperature).log_softmax(-1)[value]
                state = digits.reveal(state, digit, value)
        nll_K, _ = digits.nll(x_D.expand(24, 8), every_K)
    torch.testing.assert_close(log_K.exp().sum(), torch.tensor(1.0))
    torch.testing.assert_close(log_BN[0], log_K[tokens_BN[0]])
    got_K = torch.bincount(tokens_BN[0], minlength=24) / 100_000
    torch.testing.assert_close(got_K, log_K.exp(), atol=0.01, rtol=0)
    if temperature == 1.0:
        torch.testing.assert_close(nll_K, -log_K)


def test_a_token_of_one_digit_is_sampled_from_its_softmax() -> None:
    """A VQ with the head of the paper."""
    digits, x_BND = head("independent", (7,)), torch.randn(2, 9, 8)
    uniform_BN1 = torch.rand(2, 9, 1)
    tokens_BN, log_BN = digits.sample(x_BND, uniform_BN1, 0.8)
    plain_BN, plain_log_BN = sample_categorical(digits.begin(x_BND), uniform_BN1[..., 0], 0.8)
    assert torch.equal(tokens_BN, plain_BN)
    assert torch.equal(log_BN, plain_log_BN)


@pytest.mark.parametrize("kind", ["independent", "causal"])
def test_at_temperature_zero_a_token_is_right_if_its_likeliest_digits_are(kind: str) -> None:
    digits, x_XD = head(kind), torch.randn(50, 8)
    tokens_XN, _ = digits.sample(x_XD[:, None], torch.rand(50, 1, 3), 0.0)
    assert digits.nll(x_XD, tokens_XN[:, 0])[1].all()
    assert not digits.nll(x_XD, (tokens_XN[:, 0] + 1) % 24)[1].any()


def test_only_causal_digits_learn_which_digits_belong_together() -> None:
    """Every digit is 0 or 1 with equal probability, but all digits of a token are the same."""
    value_X = torch.arange(64) % 2
    tokens_X = join_digits(value_X[:, None].expand(-1, 3), LEVELS)
    found = {}
    for kind in ("independent", "causal"):
        digits = head(kind)
        optimizer = torch.optim.Adam(digits.parameters(), 0.05)
        for _ in range(200):
            optimizer.zero_grad()
            digits.nll(torch.ones(64, 8), tokens_X)[0].mean().backward()
            optimizer.step()
        drawn_BN, _ = digits.sample(torch.ones(1, 1000, 8), torch.rand(1, 1000, 3), 1.0)
        drawn_XQ = split_digits(drawn_BN[0], LEVELS)
        found[kind] = (drawn_XQ == drawn_XQ[:, :1]).all(-1).float().mean()
    assert found["causal"] > 0.98
    assert 0.15 < found["independent"] < 0.35
