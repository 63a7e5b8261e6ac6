"""The physics of the models: what may see what, cached equals uncached, gradients reach what they should."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from jinn.contracts import JinnError, to_float, to_uint8
from jinn.models.dynamics import Dynamics, DynamicsConfig
from jinn.models.latent_actions import LatentActionsConfig
from jinn.models.maskgit import sample_tokens
from jinn.models.ours.conv_tokenizer import ConvConfig, ConvTokenizer, ConvTokenizerConfig
from jinn.models.ours.motion import displaced, matching_costs, move
from jinn.models.ours.motion_latent_actions import MotionLatentActionsConfig
from jinn.models.ours.previous_frame import PreviousFrame, PreviousFrameDynamicsConfig
from jinn.models.ours.self_rollout import self_rollout_loss
from jinn.models.patches import grid_of, patchify, unpatchify
from jinn.models.quantize import (
    FSQ,
    VQ,
    FSQConfig,
    VQConfig,
    join_digits,
    perplexity,
    split_digits,
)
from jinn.models.tokenizer import Autoencoder, TokenizerConfig, VideoTokenizer
from jinn.models.transformer import (
    Attention,
    STTransformer,
    TransformerConfig,
    attend,
    rotate,
    rotation_matrices,
)

ST = TransformerConfig(layers=2, width=32, heads=4, window=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generators(clips: int) -> list[torch.Generator]:
    return [seeded(clip) for clip in range(clips)]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def frames(B: int = 2, T: int = 5, H: int = 16, W: int = 16, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (B, T, H, W, 3), dtype=torch.uint8, generator=seeded(seed))


def test_pixels_survive_the_round_trip() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)
    with pytest.raises(ValueError, match="uint8"):
        to_float(torch.zeros(3))


@pytest.mark.parametrize("size", [(16, 16), (18, 20), (90, 160)])
def test_patches_cover_the_frame_and_come_back(size: tuple[int, int]) -> None:
    pixels = torch.rand(2, 3, *size, 3)
    patches = patchify(pixels, 4)
    assert patches.shape[2] == grid_of(size, 4)[0] * grid_of(size, 4)[1]
    assert torch.equal(unpatchify(patches, 4, size), pixels)


def test_patches_are_squares_in_reading_order() -> None:
    pixels = torch.zeros(1, 1, 8, 12, 3)
    pixels[0, 0, 4:8, 4:8] = 1.0
    assert patchify(pixels, 4)[0, 0].mean(-1).tolist() == [0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("length", [3, 4, 9])
@pytest.mark.parametrize("every", [1, 2])
def test_cached_equals_uncached(length: int, every: int) -> None:
    """Also when the clip is longer than the window and the oldest frames have left."""
    model = STTransformer(TransformerConfig(layers=4, width=32, heads=4, window=4, temporal_every=every))
    x_BTND = torch.randn(2, length, 6, 32)
    whole = model(x_BTND)
    for first in range(1, length):
        head, past = model.prefill(x_BTND[:, :first])
        torch.testing.assert_close(head, whole[:, :first], atol=1e-5, rtol=1e-5)
        for t in range(first, length):
            y, keys, values = model.next_frame(x_BTND[:, t], past)
            past = past.append(keys, values)
            torch.testing.assert_close(y, whole[:, t], atol=1e-4, rtol=1e-4)


def test_a_roll_out_is_the_same_after_a_hundred_thousand_frames() -> None:
    """Only distances in time matter: the same past, that many frames later, gives the same frame."""
    model = STTransformer(TransformerConfig(layers=2, width=32, heads=4, window=4))
    x_BTND = torch.randn(2, 5, 6, 32)
    _, young = model.prefill(x_BTND[:, :4])
    later = torch.full((3,), 100_000)  # for the three frames that the window holds
    old = young._replace(keys_LBNHPC=rotate(young.keys_LBNHPC, later), frames_B=young.frames_B + 100_000)
    for t in (4, 0, 1):
        y, *new = model.next_frame(x_BTND[:, t], young)
        z, *late = model.next_frame(x_BTND[:, t], old)
        young, old = young.append(*new), old.append(*late)
        torch.testing.assert_close(y, z, atol=1e-5, rtol=1e-5)


def test_the_future_touches_no_earlier_frame_and_the_window_ends() -> None:
    model = STTransformer(TransformerConfig(layers=1, width=32, heads=4, window=3))
    x_BTND = torch.randn(1, 6, 4, 32)
    changed = x_BTND.clone()
    changed[:, 2] = torch.randn(4, 32)
    differs = (model(x_BTND) - model(changed)).abs().amax(dim=(0, 2, 3)) > 1e-6
    assert differs.tolist() == [False, False, True, True, True, False]


def test_rotation_matrices_rotate() -> None:
    x_BPC, positions = torch.randn(3, 7, 10), torch.arange(-2, 5)
    turned_BPC = (x_BPC[..., None, :] @ rotation_matrices(positions, 10).float()).squeeze(-2)
    torch.testing.assert_close(turned_BPC, rotate(x_BPC, positions), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("widths", [(12, 15), (16, 10), (16, 16)])
def test_queries_and_values_may_differ_in_width(widths: tuple[int, int]) -> None:
    query, key = torch.randn(2, 3, 5, widths[0], requires_grad=True), torch.randn(2, 3, 5, widths[0])
    value = torch.randn(2, 3, 5, widths[1], requires_grad=True)
    wanted = (query @ key.transpose(-1, -2) * widths[0] ** -0.5).softmax(-1) @ value
    given = attend(query, key, value)
    torch.testing.assert_close(given, wanted, atol=1e-5, rtol=1e-5)
    grad = torch.randn_like(wanted)
    torch.testing.assert_close(
        torch.autograd.grad(given, [query, value], grad),
        torch.autograd.grad(wanted, [query, value], grad),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("window", [3, 7, 16])
def test_temporal_attention_is_what_its_formula_says(window: int) -> None:
    """Output and gradients against scores, mask and softmax written out place by place."""
    attention = Attention(TransformerConfig(width=30, heads=2, head_width=12)).double()
    x_BTND = torch.randn(2, 7, 5, 30, dtype=torch.double, requires_grad=True)
    y_BTND, key_BNHTC, value_BNHTC = attention.temporal(x_BTND, window)

    query, key, value = (y.permute(0, 2, 3, 1, 4) for y in attention.project(x_BTND))
    torch.testing.assert_close(key_BNHTC, key)
    torch.testing.assert_close(value_BNHTC, value)
    t = torch.arange(7)
    scores = rotate(query, t) @ rotate(key, t).transpose(-1, -2) * 12**-0.5
    hidden = (t > t[:, None]) | (t <= t[:, None] - window)
    wanted = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ value
    wanted_BTND = attention.out(wanted.permute(0, 3, 1, 2, 4).flatten(3))
    torch.testing.assert_close(y_BTND, wanted_BTND, atol=1e-6, rtol=1e-5)
    inputs = [x_BTND, *attention.parameters()]
    grad = torch.randn_like(y_BTND)
    torch.testing.assert_close(
        torch.autograd.grad(y_BTND, inputs, grad), torch.autograd.grad(wanted_BTND, inputs, grad)
    )


def test_every_place_of_a_frame_sees_every_other() -> None:
    model = STTransformer(TransformerConfig(layers=1, width=32, heads=4, temporal_every=0))
    x_BTND = torch.randn(1, 2, 4, 32)
    changed = x_BTND.clone()
    changed[:, 1, 3] = torch.randn(32)
    differs = (model(x_BTND) - model(changed)).abs().amax(dim=(0, 3)) > 1e-6
    assert differs.tolist() == [[False] * 4, [True] * 4]


def test_a_per_frame_transformer_has_an_empty_past() -> None:
    model = STTransformer(TransformerConfig(layers=2, width=32, heads=4, temporal_every=0, window=3))
    x_BTND = torch.randn(2, 3, 4, 32)
    y, past = model.prefill(x_BTND[:, :2])
    assert past.keys_LBNHPC.shape[0] == 0
    z, keys, values = model.next_frame(x_BTND[:, 2], past)
    past.append(keys, values)
    torch.testing.assert_close(torch.cat([y, z[:, None]], 1), model(x_BTND))


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="heads"):
        TransformerConfig(width=30, heads=4)
    with pytest.raises(ValueError, match="even"):
        TransformerConfig(width=12, heads=4)
    with pytest.raises(ValueError, match="2 to 64"):
        LatentActionsConfig(quantizer=VQConfig(codes=65))


# Quantisers


def test_vq_takes_the_nearest_code_and_passes_the_gradient_through() -> None:
    vq = VQ(VQConfig(codes=4, dim=2))
    with torch.no_grad():
        vq.codebook_KD.copy_(torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]]))
    latents = torch.tensor([[0.9, 0.2], [0.1, 0.8]], requires_grad=True)
    quantized = vq(latents)
    assert quantized.codes.tolist() == [1, 2]
    torch.testing.assert_close(quantized.latents, torch.tensor([[1.0, 0], [0, 1]]))
    torch.testing.assert_close(vq.lookup(quantized.codes), quantized.latents)
    (quantized.latents * torch.tensor([[1.0, 2], [3, 4]])).sum().backward()
    torch.testing.assert_close(latents.grad, torch.tensor([[1.0, 2], [3, 4]]))
    assert vq.codebook_KD.grad is None or not vq.codebook_KD.grad.any()
    vq(latents.detach()).loss.backward()
    used = vq.codebook_KD.grad.abs().sum(1) > 0
    assert used.tolist() == [False, True, True, False]


def test_clusters_are_found() -> None:
    vq = VQ(VQConfig(codes=3, dim=2))
    centres = torch.tensor([[0.0, 0], [4, 0], [0, 4]])
    cloud = centres.repeat(40, 1) + 0.1 * torch.randn(120, 2, generator=seeded())
    vq.cluster(cloud, seeded(1))
    nearest = torch.cdist(centres, vq.codebook_KD).amin(1)
    assert nearest.max() < 0.2


def test_fsq_reaches_every_code_and_looks_it_up() -> None:
    fsq = FSQ(FSQConfig((4, 3)))
    latents = torch.cartesian_prod(torch.linspace(-3, 3, 200), torch.linspace(-3, 3, 200))
    quantized = fsq(latents)
    assert set(quantized.codes.tolist()) == set(range(12))
    torch.testing.assert_close(fsq.lookup(quantized.codes), quantized.latents, atol=1e-5, rtol=0)
    extreme = fsq(torch.tensor([[100.0, 100.0], [-100.0, -100.0]])).codes
    assert extreme.tolist() == [11, 0]


def test_digits_are_the_levels_that_fsq_looks_up() -> None:
    fsq, levels = FSQ(FSQConfig(levels=(4, 3, 2))), (4, 3, 2)
    codes = torch.arange(24)
    digits = split_digits(codes, levels)
    assert torch.equal(join_digits(digits, levels), codes)
    half = (torch.tensor(levels) - 1) / 2
    torch.testing.assert_close((digits - half) / half, fsq.lookup(codes))


def test_fsq_gradient_passes_through() -> None:
    latents = torch.full((1, 2), 0.1, requires_grad=True)
    FSQ(FSQConfig((5, 5)))(latents).latents.sum().backward()
    assert bool((latents.grad > 0.5).all())


# Tokenizer


def test_digits_split_and_join() -> None:
    levels = (4, 3, 2)
    codes = torch.arange(24).view(2, 12)
    digits = split_digits(codes, levels)
    assert torch.equal(digits, FSQ(FSQConfig(levels)).digits(codes))
    assert torch.equal(join_digits(digits, levels), codes)


def small_tokenizer(quantizer: VQConfig | FSQConfig | None = None) -> VideoTokenizer:
    return VideoTokenizer(TokenizerConfig((16, 16), 4, ST, ST, quantizer or VQConfig(32, 8)))


def test_tokenizer_contract() -> None:
    tokenizer = small_tokenizer()
    assert tokenizer.grid_hw == (4, 4)
    assert tokenizer.codebook_size == 32
    clip = frames()
    tokens = tokenizer.encode(clip)
    assert tokens.shape == (2, 5, 16)
    assert tokens.dtype == torch.int64
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == clip.shape
    assert decoded.dtype == torch.uint8
    with pytest.raises(JinnError, match="trained on 16x16"):
        tokenizer.encode(frames(H=20))
    with pytest.raises(JinnError, match="uint8"):
        tokenizer.encode(clip.float())


def conv_tokenizer(
    size_hw: tuple[int, int] = (16, 16), quantizer: VQConfig | FSQConfig | None = None
) -> ConvTokenizer:
    sizes = ConvConfig(fine=8, coarse=16, fine_blocks=1, coarse_blocks=1)
    return ConvTokenizer(ConvTokenizerConfig(size_hw, 2, sizes, sizes, quantizer or FSQConfig((8, 5, 5))))


@pytest.mark.parametrize("size_hw", [(16, 16), (18, 30)])
def test_conv_tokenizer_contract(size_hw: tuple[int, int]) -> None:
    """Any size; each frame by itself, alone as in a clip, and one after another as all at once."""
    model = conv_tokenizer(size_hw)
    assert model.grid_hw == (-(-size_hw[0] // 4), -(-size_hw[1] // 4))
    clip = frames(2, 3, *size_hw)
    model.initialize_from_data(clip, seeded())
    tokens = model.encode(clip)
    assert tokens.shape == (2, 3, model.grid_hw[0] * model.grid_hw[1])
    assert torch.equal(model.encode(clip[:, 1:2]), tokens[:, 1:2])
    decoded, past = model.prefill(tokens[:, :1])
    assert torch.equal(decoded, model.decode(tokens)[:, :1])
    assert decoded.shape[2:] == clip.shape[2:]
    later, past = model.decode_next(tokens[:, 1], past)
    assert torch.equal(later, model.decode(tokens)[:, 1])
    assert past is None
    with pytest.raises(JinnError, match="trained on"):
        model.encode(frames(H=20))


@pytest.mark.parametrize("quantizer", [VQConfig(32, 8), FSQConfig((8, 5, 5))])
def test_conv_tokenizer_loss_reaches_every_parameter(quantizer: VQConfig | FSQConfig) -> None:
    model = conv_tokenizer((16, 16), quantizer)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # layers that begin at zero hide those before them for one step
        optimizer.zero_grad()
        model.loss(frames())[0].backward()
        optimizer.step()
    assert no_gradient(model) == set()


def test_channels_come_in_groups() -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        ConvConfig(fine=12)


@pytest.mark.parametrize("kind", ["transformer", "convolutions"])
@pytest.mark.parametrize("quantizer", [VQConfig(codes=16, dim=4), FSQConfig(levels=(5, 4, 4))])
def test_a_tokenizer_begins_at_its_first_frames(quantizer: VQConfig | FSQConfig, kind: str) -> None:
    model: Autoencoder = VideoTokenizer(TokenizerConfig((16, 16), 4, ST, ST, quantizer))
    if kind == "convolutions":
        model = conv_tokenizer((16, 16), quantizer)
    dark = frames(8, 1) // 4
    model.initialize_from_data(dark, seeded())
    latents = model.encode_pixels(to_float(dark)).flatten(0, 2)
    torch.testing.assert_close(latents.mean(0), torch.zeros(latents.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(0), torch.ones(latents.shape[1]), atol=1e-3, rtol=0)
    used = model.encode(dark).unique().numel()
    assert used >= 14  # 16 clusters, or most of a grid of 80
    made = model.decode_latents(model.quantizer(model.encode_pixels(to_float(dark))).latents)
    assert abs(float((made - to_float(dark)).mean().detach())) < 0.02  # not grey, which is 0.4 off


def test_tokens_do_not_know_the_future_but_know_the_past() -> None:
    tokenizer = small_tokenizer(FSQConfig((8, 8, 8)))
    clip = frames()
    changed = clip.clone()
    changed[:, 3] = 255 - changed[:, 3]
    a, b = tokenizer.encode_pixels(to_float(clip)), tokenizer.encode_pixels(to_float(changed))
    differs = (a - b).abs().amax(dim=(0, 2, 3)) > 1e-6
    assert differs.tolist() == [False, False, False, True, True]
    tokens = tokenizer.encode(clip)
    later = tokens.clone()
    later[:, 3] = (later[:, 3] + 1) % 512
    same = [
        torch.equal(x, y)
        for x, y in zip(tokenizer.decode(tokens)[0], tokenizer.decode(later)[0], strict=True)
    ]
    assert same[:3] == [True, True, True]
    assert not same[3]


def no_gradient(module: nn.Module) -> set[str]:
    return {n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}


@pytest.mark.parametrize("quantizer", [VQConfig(32, 8), FSQConfig((8, 5, 5))])
def test_tokenizer_loss_reaches_every_parameter(quantizer: VQConfig | FSQConfig) -> None:
    tokenizer = small_tokenizer(quantizer)
    loss, _ = tokenizer.loss(frames())
    loss.backward()
    assert no_gradient(tokenizer) == set()


# Latent actions


PAPER_LAM = LatentActionsConfig((16, 16), 8, ST, ST, VQConfig(4, 8))
OUR_LAM = MotionLatentActionsConfig((16, 16), 4, ST, ST, VQConfig(4, 8), search_radius=2, downsample=2)
LAMS = pytest.mark.parametrize("config", [PAPER_LAM, OUR_LAM], ids=["paper", "ours"])


@LAMS
def test_lam_loss_reaches_every_parameter(config: LatentActionsConfig | MotionLatentActionsConfig) -> None:
    model = config.build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):  # layers that begin at zero hide those before them for one step
        optimizer.zero_grad()
        loss, report = model.loss(frames())
        loss.backward()
        optimizer.step()
    assert no_gradient(model) == set()
    assert report["actions"].shape == (2, 4)


def test_continuous_lam_training_leaves_the_codebook_alone_and_its_noise_counts() -> None:
    model = OUR_LAM.build()
    noise = torch.randn(2, 4, 8)
    loss, _ = model.continuous_loss(frames(), noise)
    loss.backward()
    assert model.quantizer.codebook_KD.grad is None
    assert model.to_pixels.weight.grad.any()
    with torch.no_grad():
        model.to_pixels.weight.normal_()  # it begins at zero, where the latents have no effect
        assert model.continuous_loss(frames(), noise)[0] != model.continuous_loss(frames(), 2 * noise)[0]


@LAMS
def test_an_action_does_not_know_frames_after_its_step(
    config: LatentActionsConfig | MotionLatentActionsConfig,
) -> None:
    model = config.build()
    clip = frames()
    changed = clip.clone()
    changed[:, 3] = 255 - changed[:, 3]
    a, b = (model.encode_pixels(model.preprocess(x)) for x in (clip, changed))
    assert ((a - b).abs().amax(dim=(0, 2)) > 1e-6).tolist() == [False, False, True, True]


def test_the_lam_decoder_does_not_see_the_frame_it_predicts() -> None:
    model = PAPER_LAM.build()
    pixels = model.preprocess(frames())
    latents = torch.randn(2, 4, 8)
    changed = pixels.clone()
    changed[:, 2] = 1 - changed[:, 2]
    a, b = model.predict_next(pixels[:, :-1], latents), model.predict_next(changed[:, :-1], latents)
    # The outputs are frames 1..4: changing frame 2 may change the predictions of 3 and 4 only.
    assert ((a - b).abs().amax(dim=(0, 2, 3, 4)) > 1e-6).tolist() == [False, False, True, True]


def test_a_lam_that_moves_pixels_begins_as_a_copy_of_the_last_frame() -> None:
    model = OUR_LAM.build()
    pixels = model.preprocess(torch.full((1, 2, 16, 16, 3), 120, dtype=torch.uint8))
    drawn = model.predict_next(pixels[:, :1], torch.zeros(1, 1, 8))
    torch.testing.assert_close(drawn, pixels[:, :1], atol=1e-5, rtol=0)


def test_motion_helpers_agree_with_a_known_shift() -> None:
    picture = torch.rand(1, 1, 12, 12, 3, generator=seeded())
    moved = torch.roll(picture, (1, -2), dims=(2, 3))  # down by 1, left by 2
    every = displaced(picture, 2)
    shift = (1 + 2) * 5 + (-2 + 2)
    torch.testing.assert_close(every[0, 0, shift, 4:8, 4:8], moved[0, 0, 4:8, 4:8])
    costs = matching_costs(picture, moved, 2, 4)
    assert int(costs[0, 0, 4].argmin()) == shift  # the middle one of 3 x 3 patches
    every_cost = (displaced(picture, 2) - moved.unsqueeze(2)).abs().mean(-1)[0, 0]
    # Patches are 4 pixels wide.
    means = every_cost.reshape(25, 3, 4, 3, 4).mean((2, 4)).reshape(25, 9).T
    means = means - means.mean(-1, keepdim=True)
    torch.testing.assert_close(costs[0, 0], means / (means.square().mean(-1, keepdim=True).sqrt() + 0.01))
    weights = torch.zeros(1, 1, 9, 25)
    weights[..., shift] = 1.0
    torch.testing.assert_close(move(picture, weights, 2, 4)[0, 0, 4:8, 4:8], moved[0, 0, 4:8, 4:8])


# Dynamics


PAPER, OURS = DynamicsConfig(ST), PreviousFrameDynamicsConfig(ST, clean_frames=0.5)
KINDS = {
    "paper": (PAPER, (32,)),
    "paper-fsq": (PAPER, (8, 4)),
    "ours": (OURS, (8, 4)),
    "ours-vq": (OURS, (32,)),
}


def dynamics_of(kind: str = "paper") -> Dynamics:
    config, levels = KINDS[kind]
    return config.build(levels, (4, 4), 5)


@pytest.mark.parametrize("kind", KINDS)
def test_dynamics_loss_reaches_every_parameter(kind: str) -> None:
    model = dynamics_of(kind)
    tokens = torch.arange(32).repeat(20)[: 8 * 5 * 16].view(8, 5, 16)
    loss, metrics = model.loss(tokens, torch.arange(32).view(8, 4) % 5, generators(8))
    loss.backward()
    assert no_gradient(model) == set()
    assert 0 <= float(metrics["accuracy"]) <= 1


def test_targets_are_not_masked() -> None:
    """A model that always answers "mask" or copies its input would score well if they were."""
    model = dynamics_of()
    tokens = torch.randint(0, 32, (8, 5, 16), generator=seeded())
    loss, _ = model.loss(tokens, torch.zeros(8, 4, dtype=torch.long), generators(8))
    assert abs(float(loss.detach()) - torch.tensor(32.0).log().item()) < 0.5
    assert model.to_logits(torch.zeros(1, ST.width)).shape == (1, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_clips_part_of_the_loss_is_its_own(kind: str) -> None:
    """So a batch may be split over parts and ranks, whatever each clip's number of masked tokens."""
    model = dynamics_of(kind)
    tokens = torch.randint(0, 32, (6, 5, 16), generator=seeded())
    actions = torch.randint(0, 5, (6, 4), generator=seeded())
    whole, _ = model.loss(tokens, actions, generators(6))
    parts = [model.loss(tokens[i : i + 1], actions[i : i + 1], generators(6)[i : i + 1])[0] for i in range(6)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_a_clips_part_of_the_other_losses_is_its_own_at_a_given_scale() -> None:
    clips = torch.cat([frames(3), frames(1) // 8])
    for model in (small_tokenizer(VQConfig(32, 8)), PAPER_LAM.build(), OUR_LAM.build()):
        scale = model.loss_scale(clips)
        whole, _ = model.loss(clips, scale)
        torch.testing.assert_close(model.loss(clips)[0], whole)
        parts = [model.loss(clip[None], scale)[0] for clip in clips]
        torch.testing.assert_close(torch.stack(parts).mean(), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_self_rollout_is_a_rollout(kind: str) -> None:
    """The past is true for a while, then what the model sampled; the target is true."""
    model = dynamics_of(kind)
    tokens = torch.randint(0, 32, (4, 6, 16), generator=seeded())
    actions = torch.randint(0, 5, (4, 5), generator=seeded(1))
    loss, report = self_rollout_loss(model, tokens, actions, generators(4), temperature=0.0)
    ends = 1 + torch.stack([torch.rand(1, generator=g) * 5 for g in generators(4)]).long()
    assert len(ends.unique()) > 1
    seen, nll = tokens[:, :1], []
    for t in range(1, 6):
        hidden = torch.cat([seen, torch.full_like(tokens[:, :1], model.mask_token)], dim=1)
        logits = model(hidden, actions[:, :t], torch.cat([seen, tokens[:, t : t + 1]], dim=1))[:, -1]
        nll.append(model.nll(logits.flatten(0, 1), tokens[:, t].flatten())[0].mean())
        drawn, _ = sample_tokens(logits, torch.zeros(4, 16, len(model.levels)), 0.0, model.levels)
        seen = torch.cat([seen, torch.where(t < ends, tokens[:, t], drawn).unsqueeze(1)], dim=1)
    assert not torch.equal(seen, tokens)
    torch.testing.assert_close(loss, torch.stack(nll).mean())
    assert torch.equal(report["nll"], loss)
    loss.backward()
    assert no_gradient(model) == set()


def test_a_clips_part_of_the_self_rollout_loss_is_its_own() -> None:
    model = dynamics_of("ours")
    tokens = torch.randint(0, 32, (4, 6, 16), generator=seeded())
    actions = torch.randint(0, 5, (4, 5), generator=seeded(1))

    def played(rows: slice, given: list[torch.Generator]) -> Tensor:
        return self_rollout_loss(model, tokens[rows], actions[rows], given[rows], temperature=1.0)[0]

    whole = played(slice(4), generators(4))
    parts = [played(slice(i, i + 1), generators(4)) for i in range(4)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
    assert not torch.equal(whole, played(slice(4), generators(8)[4:]))


def test_perplexity_counts_the_codes_in_use() -> None:
    assert float(perplexity(torch.tensor([[0, 1], [1, 0]]), 8)) == pytest.approx(2.0)
    assert float(perplexity(torch.zeros(5, dtype=torch.long), 8)) == pytest.approx(1.0)


def test_masks_are_the_papers_or_our_own() -> None:
    paper = dynamics_of().sample_mask(6, 16, generators(400)).double().mean(2)
    assert not paper[:, 0].any()
    assert 0.72 < paper[:, 1:].mean() < 0.78  # mean of a rate uniform in [0.5, 1]
    assert paper[:, 1:].std(1).mean() < 0.15  # one rate a clip
    ours = dynamics_of("ours").sample_mask(6, 16, generators(400)).double().mean(2)
    clean = (ours[:, 1:-1] == 0).double().mean()
    assert 0.45 < clean < 0.55
    assert (ours[:, -1] > 0).all()


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
    cached = model.next_logits(hidden[:, -1], condition, past)
    torch.testing.assert_close(cached, whole, atol=1e-4, rtol=1e-4)


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
    assert model.to_logits(torch.zeros(1, ST.width)).shape == (1, 12)
    embed = model.token_embed
    torch.testing.assert_close(
        embed(torch.tensor(9)) - embed(torch.tensor(8)), embed(torch.tensor(1)) - embed(torch.tensor(0))
    )
    mask = embed(torch.tensor(model.mask_token))
    assert all((embed(code) - mask).abs().max() > 0.1 for code in torch.arange(32))
    tokens = torch.randint(0, 32, (8, 5, 16), generator=seeded())
    loss, _ = model.loss(tokens, torch.zeros(8, 4, dtype=torch.long), generators(8))
    assert abs(float(loss.detach()) - torch.tensor(32.0).log().item()) < 0.5


def test_logits_do_not_know_later_tokens_or_actions() -> None:
    model = dynamics_of(previous_frame=True)
    tokens = torch.randint(0, 32, (1, 5, 16), generator=seeded())
    actions = torch.tensor([[0, 1, 2, 3]])
    logits = model(tokens, actions, tokens)
    later, other = tokens.clone(), actions.clone()
    later[:, 3] = (later[:, 3] + 1) % 32
    other[:, 2] = 4  # leads to frame 3
    for a, b in ((later, actions), (tokens, other)):
        differs = (model(a, b, a) - logits).abs().amax(dim=(0, 2, 3)) > 1e-6
        assert differs.tolist() == [False, False, False, True, True]
