"""Dynamics models: masks, targets, cached equals uncached, and the loss of each clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from helpers_models import (
    KINDS,
    OUR_LAM,
    PAPER_LAM,
    ST,
    dynamics_of,
    frames,
    generators,
    no_gradient,
    seeded,
    small_tokenizer,
)
from jinn.models.maskgit import SamplingConfig, fill
from jinn.models.ours.previous_frame import (
    PreviousFrame,
    PreviousFrameDynamics,
    PreviousFrameDynamicsConfig,
    believe,
)
from jinn.models.ours.self_rollout import self_rollout_loss
from jinn.models.quantize import (
    VQConfig,
    perplexity,
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("kind", KINDS)
def test_dynamics_loss_reaches_every_parameter(kind: str) -> None:
    model = dynamics_of(kind)
    tokens = torch.arange(32).repeat(20)[: 8 * 5 * 16].view(8, 5, 16)
    loss, metrics = model.loss(tokens, torch.arange(32).view(8, 4) % 5, generators(8))
    loss.backward()
    assert no_gradient(model) == set()
    assert 0 <= float(metrics["accuracy"]) <= 1


def test_targets_are_not_masked() -> None:
    """Otherwise a model that predicts the mask or copies its input would have a low loss."""
    model = dynamics_of()
    tokens = torch.randint(0, 32, (8, 5, 16), generator=seeded())
    loss, _ = model.loss(tokens, torch.zeros(8, 4, dtype=torch.long), generators(8))
    assert abs(float(loss.detach()) - torch.tensor(32.0).log().item()) < 0.5
    assert model.digits.begin(torch.zeros(1, ST.width)).shape == (1, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_a_mean_over_independent_clips(kind: str) -> None:
    """So a batch may be split into micro-batches and over ranks, for any number of masked tokens in a clip."""
    model = dynamics_of(kind)
    tokens = torch.randint(0, 32, (6, 5, 16), generator=seeded())
    actions = torch.randint(0, 5, (6, 4), generator=seeded())
    whole, _ = model.loss(tokens, actions, generators(6))
    parts = [model.loss(tokens[i : i + 1], actions[i : i + 1], generators(6)[i : i + 1])[0] for i in range(6)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_the_other_losses_are_means_over_independent_clips_at_a_given_scale() -> None:
    clips = torch.cat([frames(3), frames(1) // 8])
    for model in (small_tokenizer(VQConfig(32, 8)), PAPER_LAM.build(), OUR_LAM.build()):
        scale = model.loss_scale(clips)
        whole, _ = model.loss(clips, scale)
        torch.testing.assert_close(model.loss(clips)[0], whole)
        parts = [model.loss(clip[None], scale)[0] for clip in clips]
        torch.testing.assert_close(torch.stack(parts).mean(), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_self_rollout_feeds_back_sampled_tokens(kind: str) -> None:
    """The past is true up to some frame, and sampled by the model after it; the targets are true."""
    model = dynamics_of(kind)
    tokens = torch.randint(0, 32, (4, 6, 16), generator=seeded())
    actions = torch.randint(0, 5, (4, 5), generator=seeded(1))
    play = SamplingConfig(steps=3, temperature=0.0, choice_temperature=0.0)
    loss, report = self_rollout_loss(model, tokens, actions, generators(4), play)
    ends = 1 + torch.stack([torch.rand(1, generator=g) * 5 for g in generators(4)]).long()
    assert len(ends.unique()) > 1
    seen, nll = tokens[:, :1], []
    for t in range(1, 6):

        def predicted(tokens_BN: Tensor, t: int = t, seen: Tensor = seen) -> Tensor:
            hidden = torch.cat([seen, tokens_BN.unsqueeze(1)], dim=1)
            return model(hidden, actions[:, :t], torch.cat([seen, tokens[:, t : t + 1]], dim=1))[:, -1]

        def sample(
            tokens_BN: Tensor,
            drawn_BR: Tensor,
            uniform_BRQ: Tensor,
            predicted: Callable[[Tensor], Tensor] = predicted,
        ) -> tuple[Tensor, Tensor]:
            x_BRD = torch.take_along_dim(predicted(tokens_BN), drawn_BR.unsqueeze(-1), dim=1)
            return model.digits.sample(x_BRD, uniform_BRQ, 0.0)

        x_BND = predicted(torch.full_like(tokens[:, 0], model.mask_token))
        nll.append(model.digits.nll(x_BND.flatten(0, 1), tokens[:, t].flatten())[0].mean())
        noise_SBNU = torch.zeros(3, 4, 16, len(model.levels) + 1)
        drawn = fill(sample, noise_SBNU, model.mask_token, play)
        seen = torch.cat([seen, torch.where(t < ends, tokens[:, t], drawn).unsqueeze(1)], dim=1)
    assert not torch.equal(seen, tokens)
    torch.testing.assert_close(loss, torch.stack(nll).mean())
    assert torch.equal(report["nll"], loss)
    loss.backward()
    assert no_gradient(model) == set()


def test_the_self_rollout_loss_is_a_mean_over_independent_clips() -> None:
    model = dynamics_of("ours")
    tokens = torch.randint(0, 32, (4, 6, 16), generator=seeded())
    actions = torch.randint(0, 5, (4, 5), generator=seeded(1))

    def played(rows: slice, given: list[torch.Generator]) -> Tensor:
        return self_rollout_loss(model, tokens[rows], actions[rows], given[rows], SamplingConfig(steps=2))[0]

    whole = played(slice(4), generators(4))
    parts = [played(slice(i, i + 1), generators(4)) for i in range(4)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
    assert not torch.equal(whole, played(slice(4), generators(8)[4:]))


def test_perplexity_counts_the_codes_in_use() -> None:
    assert float(perplexity(torch.tensor([[0, 1], [1, 0]]), 8)) == pytest.approx(2.0)
    assert float(perplexity(torch.zeros(5, dtype=torch.long), 8)) == pytest.approx(1.0)


def test_masks_follow_the_paper_or_our_recipe() -> None:
    paper = dynamics_of().sample_mask(6, 16, generators(400)).double().mean(2)
    assert not paper[:, 0].any()
    assert 0.72 < paper[:, 1:].mean() < 0.78  # mean of a rate uniform in [0.5, 1]
    assert paper[:, 1:].std(1).mean() < 0.15  # one rate a clip
    ours = dynamics_of("ours").sample_mask(6, 1024, generators(400)).double().mean(2)
    clean = (ours[:, 1:-1] == 0).double().mean()
    assert 0.45 < clean < 0.55
    last = ours[:, -1]
    assert (
        0.5 < (last > 0.45).double().mean() < 0.62
    )  # half at a rate of at least 0.5, and a tenth of the others
    assert (
        0.05 < (last < 4 / 1024).double().mean() < 0.15
    )  # N^-u: a fifth of the others, less those clean by chance
    assert (last > 0).double().mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_dynamics_cached_equals_uncached(kind: str) -> None:
    model = dynamics_of(kind)
    tokens = torch.randint(0, 32, (2, 7, 16), generator=seeded())
    actions = torch.randint(0, 5, (2, 6), generator=seeded(1))
    hidden = tokens.clone()
    hidden[:, -1, ::2] = model.mask_token
    whole = model(hidden, actions, tokens)[:, -1]
    past = model.prefill(tokens[:, :3], actions[:, :2])
    for t in range(3, 6):
        condition = model.condition(tokens[:, t - 1 : t], actions[:, t - 1 : t]).squeeze(1)
        past = model.commit(tokens[:, t], condition, past)
    condition = model.condition(tokens[:, -2:-1], actions[:, -1:]).squeeze(1)
    cached = model.next_frame(hidden[:, -1], condition, past)
    torch.testing.assert_close(cached, whole, atol=1e-4, rtol=1e-4)


def test_a_first_frame_from_long_before_is_seen_as_in_play() -> None:
    """One layer, since deeper ones remember more than the window."""
    config = PreviousFrameDynamicsConfig(replace(ST, layers=1, temporal_every=1, window=4), keep_first=True)
    model = config.build((32,), (4, 4), 5)
    tokens_BTN = torch.randint(0, 32, (2, 9, 16), generator=seeded())
    actions_BTm1 = torch.randint(0, 5, (2, 8), generator=seeded(1))
    past = model.prefill(tokens_BTN[:, :1], actions_BTm1[:, :0])
    for t in range(1, 8):
        condition_BND = model.condition(tokens_BTN[:, t - 1 : t], actions_BTm1[:, t - 1 : t]).squeeze(1)
        past = model.commit(tokens_BTN[:, t], condition_BND, past)
    condition_BND = model.condition(tokens_BTN[:, 7:8], actions_BTm1[:, 7:8]).squeeze(1)
    masks_BN = torch.full_like(tokens_BTN[:, 8], model.mask_token)
    played_BND = model.next_frame(masks_BN, condition_BND, past)
    clip_BTN, inputs_BTN = tokens_BTN[:, 5:], tokens_BTN[:, 5:].clone()
    inputs_BTN[:, 0], inputs_BTN[:, -1] = tokens_BTN[:, 0], masks_BN
    learned_BTND = model(inputs_BTN, actions_BTm1[:, 5:], clip_BTN)
    torch.testing.assert_close(learned_BTND[:, -1], played_BND, atol=1e-4, rtol=1e-4)

    def loss(first_BN: Tensor | None) -> Tensor:
        return model.loss(clip_BTN, actions_BTm1[:, 5:], generators(2), first_BN)[0]

    assert torch.equal(loss(clip_BTN[:, 0]), loss(None))
    assert not torch.equal(loss(tokens_BTN[:, 0]), loss(None))


def test_the_previous_frame_is_read_three_by_three_and_depends_on_the_action() -> None:
    model = PreviousFrame((8, 4), 32, (4, 4), 5)
    tokens, action = torch.zeros(1, 1, 16, dtype=torch.long), torch.tensor([[1]])
    plain = model(tokens, action)
    other = tokens.clone()
    other[0, 0, 0] = 9  # the corner
    touched = (model(other, action) - plain).abs().amax(-1)[0, 0] > 1e-6
    assert touched.nonzero().flatten().tolist() == [0, 1, 4, 5]
    assert (model(tokens, torch.tensor([[2]])) - plain).abs().max() > 1e-3


def test_tokens_of_several_digits_are_factorised() -> None:
    """One logit per level of a digit; codes with the same digit share its vector, and the mask has its own."""
    model = dynamics_of("paper-fsq")
    assert model.levels == (8, 4)
    assert model.digits.begin(torch.zeros(1, ST.width)).shape == (1, 12)
    embed = model.token_embed
    torch.testing.assert_close(
        embed(torch.tensor(9)) - embed(torch.tensor(8)), embed(torch.tensor(1)) - embed(torch.tensor(0))
    )
    mask = embed(torch.tensor(model.mask_token))
    assert all((embed(code) - mask).abs().max() > 0.1 for code in torch.arange(32))
    tokens = torch.randint(0, 32, (8, 5, 16), generator=seeded())
    loss, _ = model.loss(tokens, torch.zeros(8, 4, dtype=torch.long), generators(8))
    assert abs(float(loss.detach()) - torch.tensor(32.0).log().item()) < 0.5


def test_logits_do_not_depend_on_later_tokens_or_actions() -> None:
    model = dynamics_of("ours")
    tokens = torch.randint(0, 32, (1, 5, 16), generator=seeded())
    actions = torch.tensor([[0, 1, 2, 3]])
    logits = model(tokens, actions, tokens)
    later, other = tokens.clone(), actions.clone()
    later[:, 3] = (later[:, 3] + 1) % 32
    other[:, 2] = 4  # the action that leads to frame 3
    for a, b in ((later, actions), (tokens, other)):
        differs = (model(a, b, a) - logits).abs().amax(dim=(0, 2, 3)) > 1e-6
        assert differs.tolist() == [False, False, False, True, True]


# ---- Doubt about the action --------------------------------------------------------------------------


def doubtful(doubt: float) -> PreviousFrameDynamics:
    torch.manual_seed(0)
    return PreviousFrameDynamicsConfig(ST, clean_frames=0.5, doubt=doubt).build((8, 4), (4, 4), 5)


def test_without_doubt_actions_are_what_they_are() -> None:
    actions = torch.randint(0, 5, (6, 4), generator=seeded())
    assert doubtful(0.0).perceive(actions, generators(6)) is actions


def test_doubt_replaces_actions_as_often_as_the_belief_says() -> None:
    actions = torch.full((400, 50), 2)
    belief = doubtful(0.6).perceive(actions, generators(400))
    assert belief.shape == (400, 50, 5)
    torch.testing.assert_close(belief.sum(-1), torch.ones(400, 50))
    # A belief of 1 - d + d / 5 in the shown action: from it we read the doubt of a clip.
    doubt = (1 - belief.amax(-1)) * 5 / 4
    assert torch.allclose(doubt, doubt[:, :1].expand(-1, 50), atol=1e-6)
    assert 0 <= doubt.min() < 0.02
    assert 0.58 < doubt.max() <= 0.6
    replaced = (belief.argmax(-1) != 2).float().mean(1)
    sure, unsure = doubt[:, 0] < 0.2, doubt[:, 0] > 0.4
    assert abs(float(replaced[unsure].mean()) - float(doubt[unsure].mean()) * 4 / 5) < 0.03
    assert abs(float(replaced[sure].mean()) - float(doubt[sure].mean()) * 4 / 5) < 0.03


def test_a_certain_belief_is_the_action_itself() -> None:
    model = doubtful(0.6)
    tokens = torch.randint(0, 32, (3, 4, 16), generator=seeded())
    actions = torch.randint(0, 5, (3, 3), generator=seeded())
    certain = model(tokens, believe(actions, 5, 0.0), tokens)
    torch.testing.assert_close(certain, model(tokens, actions, tokens), rtol=0, atol=1e-5)
    ignored = [model(tokens, believe(actions + shift, 5, 1.0), tokens) for shift in (0, 1 - actions)]
    torch.testing.assert_close(ignored[0], ignored[1], rtol=0, atol=1e-5)
    assert not torch.allclose(certain, ignored[0], atol=1e-3)


def test_doubt_is_part_of_both_losses_and_splits_with_the_batch() -> None:
    model = doubtful(0.6)
    tokens = torch.randint(0, 32, (6, 5, 16), generator=seeded())
    actions = torch.randint(0, 5, (6, 4), generator=seeded())
    for loss in (
        model.loss,
        partial(self_rollout_loss, model, sampling=SamplingConfig(steps=1, temperature=0.0)),
    ):
        whole, _ = loss(tokens, actions, generators(6))
        parts = [
            loss(tokens[i : i + 3], actions[i : i + 3], generators(6)[i : i + 3])[0].detach() for i in (0, 3)
        ]
        torch.testing.assert_close(whole.detach(), torch.stack(parts).mean(), rtol=0, atol=1e-5)
        model.doubt = 0.0
        assert loss(tokens, actions, generators(6))[0].item() != pytest.approx(whole.item())
        model.doubt = 0.6


def test_a_head_has_no_negative_number_of_units() -> None:
    with pytest.raises(ValueError, match="digit_hidden"):
        PreviousFrameDynamicsConfig(ST, digit_hidden=-1)


@pytest.mark.parametrize("doubt", [-0.1, 1.1])
def test_doubt_is_a_probability(doubt: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        PreviousFrameDynamicsConfig(ST, doubt=doubt)
