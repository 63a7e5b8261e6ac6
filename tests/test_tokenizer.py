"""Tokenizers: their contract, their initialisation, and the frames that a token depends on."""

from __future__ import annotations

import pytest
import torch

from helpers_models import (
    ST,
    conv_tokenizer,
    frames,
    no_gradient,
    seeded,
    small_tokenizer,
)
from jinn.contracts import JinnError, to_float
from jinn.models.ours.conv_tokenizer import ConvConfig, ConvTokenizerConfig
from jinn.models.quantize import (
    FSQConfig,
    VQConfig,
)
from jinn.models.space_time import SpaceTimeConfig
from jinn.models.tokenizer import Autoencoder, TokenizerConfig, VideoTokenizer


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


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


@pytest.mark.parametrize("size_hw", [(16, 16), (18, 30)])
def test_conv_tokenizer_contract(size_hw: tuple[int, int]) -> None:
    """Any size; a frame is encoded alone as in a clip, and decoded one after another as all at once."""
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
    for _ in range(2):  # layers initialised to zero pass no gradient in the first step
        optimizer.zero_grad()
        model.loss(frames())[0].backward()
        optimizer.step()
    assert no_gradient(model) == set()


@pytest.mark.parametrize("kernel", [1, 3])
def test_with_a_kernel_of_1_a_token_sees_its_patch_alone(kernel: int) -> None:
    encoder = ConvConfig(fine=8, coarse=16, fine_blocks=1, coarse_blocks=1, kernel=kernel)
    model = ConvTokenizerConfig((16, 16), 2, encoder, ConvConfig(8, 16), FSQConfig((8, 5, 5))).build()
    for parameter in model.encoder.parameters():  # residual paths begin at zero
        torch.nn.init.normal_(parameter, std=0.3)
    clip = frames(2, 1)
    changed = clip.clone()
    changed[:, :, 5, 6] = 255 - changed[:, :, 5, 6]  # in the patch of 4 x 4 pixels in row 1, column 1
    a, b = model.encode_pixels(to_float(clip)), model.encode_pixels(to_float(changed))
    differs = (a != b).any(-1).any(0).flatten().nonzero().flatten().tolist()
    assert differs == [5] if kernel == 1 else len(differs) == 16


def test_a_kernel_is_odd() -> None:
    with pytest.raises(ValueError, match="odd side"):
        ConvConfig(kernel=2)


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
    assert used >= 14  # of 16 clusters, or of a grid of 80 codes
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


@pytest.mark.parametrize("quantizer", [VQConfig(32, 8), FSQConfig((8, 5, 5))])
def test_tokenizer_loss_reaches_every_parameter(quantizer: VQConfig | FSQConfig) -> None:
    tokenizer = small_tokenizer(quantizer)
    loss, _ = tokenizer.loss(frames())
    loss.backward()
    assert no_gradient(tokenizer) == set()


def test_a_tokenizer_of_space_time_blocks_decodes_frame_by_frame_as_at_once() -> None:
    """C-ViViT, which a study compares with the paper's own."""
    small = SpaceTimeConfig(layers=2, width=32, heads=4, window=3)
    torch.manual_seed(0)
    model = TokenizerConfig((16, 16), 4, small, small, VQConfig(codes=16, dim=8)).build().eval()
    tokens_BTN = torch.randint(0, 16, (2, 5, 16))
    whole_BTHWC = model.decode(tokens_BTN).int()
    frames, cache = model.prefill(tokens_BTN[:, :2])
    assert (frames.int() - whole_BTHWC[:, :2]).abs().max() <= 1  # rounding to whole pixels
    for t in range(2, 5):
        frame_BHWC, cache = model.decode_next(tokens_BTN[:, t], cache)
        assert (frame_BHWC.int() - whole_BTHWC[:, t]).abs().max() <= 1
