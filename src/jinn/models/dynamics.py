"""The dynamics model (paper section 2.1): a MaskGIT on an ST-transformer.

Given the tokens of the frames so far and the latent action of each step, it predicts the tokens of the
next frame. Training masks tokens at random and asks for them; play starts from a frame of masks and
fills it in a few steps (`jinn.models.sampling`).

The paper masks all frames of a clip at one rate in [0.5, 1], and shows them clean in play. Changes of our
own, off in the paper's recipes:

* ``clean_frames`` trains as one plays: every frame has its own rate, and a share of the frames is not
  masked at all;
* ``previous_frame``: each place is shown the tokens that stood there and around it one frame before, and
  the action says what of it matters. A picture that scrolls by less than a patch comes from there, and a
  model that need not find this out by attention learns the rest sooner;
* ``digits``: codes of FSQ are numbers, and codes with nearly the same digits look nearly the same;
  ``factored`` goes on from there and predicts every digit by itself, so that a token may have any number of
  codes;
* `Dynamics.played_loss`, at the end of training: the past is what the model drew itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jinn.contracts import Chance, to_device
from jinn.models.motion import neighbourhood
from jinn.models.quantize import digits_of, split_digits
from jinn.models.sampling import draw_digits
from jinn.models.transformer import Past, STTransformer, TransformerConfig


@dataclass(frozen=True)
class DynamicsConfig:
    """A dynamics model. Codebook, token grid and number of actions come from the other two models.

    Attributes:
        transformer: sizes.
        clean_frames: share of frames that stay unmasked in training, each of the others having a rate of
            its own in [min_rate, 1]. 0 is the paper's: one rate for the whole clip.
        min_rate: lowest rate of masking.
        previous_frame: show each place the 3 x 3 tokens around it one frame before, through a layer whose
            channels the action opens and shuts.
        digits: embed a code, and read its logit, as the sum of a vector of its own and one for each of its
            FSQ digits.
        factored: embed a code as the sum of its FSQ digits' vectors, and predict each digit by itself: given
            the context, digits of one token are drawn independently. Then ``digits`` says nothing more.
        context_noise: share of the context's tokens replaced by random ones in training, drawn anew from
            [0, context_noise] for every clip; against drift in long roll-outs. 0 is the paper's.
    """

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    clean_frames: float = 0.0
    min_rate: float = 0.5
    previous_frame: bool = False
    digits: bool = False
    factored: bool = False
    context_noise: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.clean_frames < 1 and 0 <= self.min_rate <= 1 and 0 <= self.context_noise < 1):
            raise ValueError("clean_frames, min_rate and context_noise are shares between 0 and 1")


class Codes(nn.Module):
    """A vector for each code; with digits, the sum of one of its own and one for each of its digits.

    Args:
        size: how many codes.
        width: of a vector.
        std: of the vectors at the start.
        levels: of the FSQ that the first codes come from; None knows no digits.
    """

    digits_KF: Tensor

    def __init__(self, size: int, width: int, std: float, levels: tuple[int, ...] | None) -> None:
        super().__init__()
        self.own_KD = nn.Parameter(torch.empty(size, width))
        self.digit_FD: nn.Parameter | None = None
        if levels is not None:
            std /= math.sqrt(1 + len(levels))
            places_KF = F.pad(digits_of(levels), (0, 0, 0, size - math.prod(levels)))
            self.register_buffer("digits_KF", places_KF, persistent=False)
            self.digit_FD = nn.Parameter(torch.empty(sum(levels), width))
            nn.init.normal_(self.digit_FD, std=std)
        nn.init.normal_(self.own_KD, std=std)

    def vectors(self) -> Tensor:
        """One row a code, ``KD``."""
        return self.own_KD if self.digit_FD is None else self.own_KD + self.digits_KF @ self.digit_FD

    def forward(self, codes: Tensor) -> Tensor:
        """Codes to vectors, a last axis more."""
        return F.embedding(codes, self.vectors())


class Digits(nn.Module):
    """A vector for each code: the sum of those of its FSQ digits.

    Args:
        size: how many codes; one more than the FSQ has is the mask, with a vector of its own.
        width: of a vector.
        std: of the vectors at the start.
        levels: of the FSQ.
    """

    def __init__(self, size: int, width: int, std: float, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels, self.mask = levels, math.prod(levels)
        self.digit_FD = nn.Parameter(torch.empty(sum(levels), width))
        nn.init.normal_(self.digit_FD, std=std / math.sqrt(len(levels)))
        self.mask_D: nn.Parameter | None = None
        if size > self.mask:
            self.mask_D = nn.Parameter(torch.empty(width))
            nn.init.normal_(self.mask_D, std=std)

    def forward(self, codes: Tensor) -> Tensor:
        """Codes to vectors, a last axis more."""
        first = torch.tensor([0, *self.levels[:-1]], device=codes.device).cumsum(0)
        vectors = F.embedding(split_digits(codes, self.levels) + first, self.digit_FD).sum(-2)
        if self.mask_D is None:
            return vectors
        return torch.where((codes == self.mask).unsqueeze(-1), self.mask_D, vectors)


class Surroundings(nn.Module):
    """What stood around each place one frame before, seen through the action.

    Where a picture moves to depends on the action, and what is then to be seen at a place depends on both
    what was beside it and which way it moved: a product, so the action multiplies the channels.
    """

    def __init__(
        self,
        width: int,
        grid_hw: tuple[int, int],
        num_actions: int,
        codes: Codes | Digits,
    ) -> None:
        super().__init__()
        self.grid_hw = grid_hw
        self.codes = codes
        self.spread = nn.Linear(9 * (width // 4), 2 * width)
        self.gate = nn.Embedding(num_actions, 2 * width)
        self.gather = nn.Linear(2 * width, width)
        nn.init.normal_(self.gate.weight, std=0.5)

    def forward(self, previous_BTN: Tensor, actions_BT: Tensor) -> Tensor:
        """Tokens of the frames before and the actions that lead away from them, to ``BTND``."""
        around_BTNP = neighbourhood(self.codes(previous_BTN), self.grid_hw)
        gate_BT1P = 1 + self.gate(actions_BT).unsqueeze(2)
        return self.gather(F.gelu(self.spread(around_BTNP) * gate_BT1P))


class Dynamics(nn.Module):
    """Tokens and actions to logits of tokens.

    Attributes:
        mask_token: the number that stands for a hidden token: the first after the codes.
        levels: of the digits of a token that are drawn one by one; K alone where it is drawn as a whole.
            The last axis of ``logits_BTNF`` has a place for each level of each digit.
    """

    def __init__(
        self,
        config: DynamicsConfig,
        codebook_size: int,
        grid_hw: tuple[int, int],
        num_actions: int,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.codebook_size = codebook_size
        self.mask_token = codebook_size
        width = config.transformer.width
        if (config.digits or config.factored) and levels is None:
            raise ValueError("digits are those of FSQ: this tokenizer has none")
        self.levels = levels if config.factored and levels else (codebook_size,)

        def codes(size: int, width: int, std: float) -> Codes | Digits:
            if config.factored and levels:
                return Digits(size, width, std, levels)
            return Codes(size, width, std, levels if config.digits else None)

        self.token_embed = codes(codebook_size + 1, width, 0.5)
        self.action_embed = nn.Embedding(num_actions, width)
        nn.init.normal_(self.action_embed.weight, std=0.5)
        self.surroundings: Surroundings | None = None
        if config.previous_frame:
            around = codes(codebook_size, width // 4, 0.5)
            self.surroundings = Surroundings(width, grid_hw, num_actions, around)
        self.place_ND = nn.Parameter(torch.randn(grid_hw[0] * grid_hw[1], width) * 0.02)
        self.transformer = STTransformer(config.transformer)
        self.code_logits: nn.Linear | Codes
        if config.factored:
            self.code_logits = nn.Linear(width, sum(self.levels), bias=False)
            nn.init.normal_(self.code_logits.weight, std=0.5 * width**-0.5)
        else:
            self.code_logits = Codes(
                codebook_size, width, 0.5 * width**-0.5, levels if config.digits else None
            )

    def change(self, previous_BTN: Tensor, actions_BT: Tensor) -> Tensor:
        """What is known of a frame before any of its tokens is: the action, and the frame before.

        Args:
            previous_BTN: tokens of the frames before, without masks.
            actions_BT: the actions that lead away from them.

        Returns:
            ``BTND`` (or ``BT1D``), to be added to the embedding of the frames' own tokens.
        """
        change_BTND = self.action_embed(actions_BT).unsqueeze(2)
        if self.surroundings is not None:
            change_BTND = change_BTND + self.surroundings(previous_BTN, actions_BT)
        return change_BTND

    def embed(self, tokens_BTN: Tensor, actions_BTm1: Tensor, seen_BTN: Tensor) -> Tensor:
        """Clips to the transformer's input.

        Args:
            tokens_BTN: in [0, K], K being the mask.
            actions_BTm1: ``actions_BTm1[:, t]`` leads from frame t to t + 1; added to all of frame t + 1.
            seen_BTN: the tokens without masks, for what is known of the frame before.
        """
        x_BTND = self.token_embed(tokens_BTN) + self.place_ND
        change_BTND = self.change(seen_BTN[:, :-1], actions_BTm1)
        return torch.cat([x_BTND[:, :1], x_BTND[:, 1:] + change_BTND], dim=1)

    def to_logits(self, x: Tensor) -> Tensor:
        """The transformer's output ``(..., D)`` to ``(..., F)``."""
        read = self.code_logits
        return F.linear(x, read.vectors() if isinstance(read, Codes) else read.weight)

    def forward(self, tokens_BTN: Tensor, actions_BTm1: Tensor, seen_BTN: Tensor) -> Tensor:
        """``logits_BTNF`` of every place, masked or not; arguments as in `embed`."""
        return self.to_logits(self.transformer(self.embed(tokens_BTN, actions_BTm1, seen_BTN)))

    def prefill(self, tokens_BTN: Tensor, actions_BTm1: Tensor) -> Past:
        """Clean frames to the `Past` that the next frame looks back on."""
        return self.transformer.prefill(self.embed(tokens_BTN, actions_BTm1, tokens_BTN))[1]

    def next_logits(self, tokens_BN: Tensor, change_BND: Tensor, past: Past) -> Tensor:
        """``logits_BNF`` of the next frame, some of whose tokens may be masks: one MaskGIT step.

        Args:
            tokens_BN: as they are so far.
            change_BND: of `change`, the same in all steps of a frame.
            past: the frames before.
        """
        x_BND = self.token_embed(tokens_BN) + self.place_ND + change_BND
        return self.to_logits(self.transformer.next_frame(x_BND, past)[0])

    def commit(self, tokens_BN: Tensor, change_BND: Tensor, past: Past) -> Past:
        """The `Past` once the frame is finished: its clean tokens' keys and values join."""
        x_BND = self.token_embed(tokens_BN) + self.place_ND + change_BND
        _, keys_LBNHC, values_LBNHC = self.transformer.next_frame(x_BND, past)
        return past.append(keys_LBNHC, values_LBNHC)

    def draw_mask(self, frames: int, places: int, chance: Chance) -> Tensor:
        """Bool ``BTN`` on the CPU, True where training hides the token. Frame 0 is the prompt: whole."""
        T, N = frames, places
        low = self.config.min_rate
        if self.config.clean_frames:
            rate_BT1 = low + (1 - low) * uniform(chance, T, 1)
            clean_BT1 = uniform(chance, T, 1) < self.config.clean_frames
            # The last frame is nobody's context: clean, it would teach nothing.
            clean_BT1[:, -1] = False
            rate_BT1 = rate_BT1.masked_fill(clean_BT1, 0.0)
        else:
            rate_BT1 = (low + (1 - low) * uniform(chance, 1, 1)).repeat(1, T, 1)
        rate_BT1[:, 0] = 0.0
        return uniform(chance, T, N) < rate_BT1

    def nll(self, logits_XF: Tensor, targets_X: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each token (nats, the sum of its digits'), and whether the likeliest is right."""
        logits_XF, targets_XD = logits_XF.float(), split_digits(targets_X, self.levels)
        nll_X, right_X = torch.zeros_like(logits_XF[:, 0]), torch.ones_like(targets_X, dtype=torch.bool)
        for logits_Xl, target_X in zip(logits_XF.split(self.levels, -1), targets_XD.unbind(-1), strict=True):
            nll_X = nll_X + F.cross_entropy(logits_Xl, target_X, reduction="none")
            right_X &= logits_Xl.detach().argmax(-1) == target_X
        return nll_X, right_X

    def loss(
        self, tokens_BTN: Tensor, actions_BTm1: Tensor, chance: Chance
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of the hidden tokens: their mean in each clip, and of these the mean over clips.

        So a clip counts the same whichever others share its batch, and a batch may be split.

        Args:
            tokens_BTN: int64 from the frozen tokenizer; these are the targets, and no mask ever
                touches them.
            actions_BTm1: int64 from the LAM. Indices carry no gradient: the paper's stop-gradient.
            chance: of masks and noise.

        Returns:
            The loss, and for the log: ``nll`` in nats a token, ``accuracy`` of the likeliest token (of all
            its digits together).
        """
        (B, T, N), device = tokens_BTN.shape, tokens_BTN.device
        # Drawn and indexed on the CPU: to ask a GPU which places are hidden is to wait for it.
        hidden_BTN = self.draw_mask(T, N, chance)
        places_X = hidden_BTN.flatten().nonzero().squeeze(1)
        share_B = 1 / (B * hidden_BTN.sum((1, 2)).clamp_min(1))
        shares_X = to_device(share_B[places_X // (T * N)], device)
        places_X, hidden_BTN = to_device(places_X, device), to_device(hidden_BTN, device)
        seen_BTN = tokens_BTN
        if self.config.context_noise:
            replaced_BTN = uniform(chance, T, N) < self.config.context_noise * uniform(chance, 1, 1)
            others_BTN = torch.stack([torch.randint(self.codebook_size, (T, N), generator=g) for g in chance])
            seen_BTN = torch.where(to_device(replaced_BTN, device), to_device(others_BTN, device), tokens_BTN)
        inputs_BTN = seen_BTN.masked_fill(hidden_BTN, self.mask_token)
        x_BTND = self.transformer(self.embed(inputs_BTN, actions_BTm1, seen_BTN))
        nll_X, right_X = self.nll(
            self.to_logits(x_BTND.flatten(0, 2)[places_X]), tokens_BTN.flatten()[places_X]
        )
        nll = (nll_X * shares_X).sum()
        return nll, {"nll": nll.detach(), "accuracy": (right_X * shares_X).sum()}

    def played_loss(
        self, tokens_BTN: Tensor, actions_BTm1: Tensor, chance: Chance, temperature: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of whole frames on the way of play, true frames giving way to the model's own.

        `loss` shows true frames as the past, play has none but the prompt: what is drawn a little wrong is
        drawn worse in the next frame, and a model that has seen no past of its own does not know how to go on
        from one. Here a clip is true up to a frame that is drawn at random; from there on the model looks
        back on what it drew, and is still asked for the true tokens. (Our own way for MaskGIT; scheduled
        sampling, Bengio et al. 2015, is its ancestor.)

        Args:
            tokens_BTN, actions_BTm1: as for `loss`; T may be longer than the window, as in play.
            chance: of the frame where truth ends, and of the draws.
            temperature: of the draws, which take one MaskGIT step a frame. No gradient goes through a draw.

        Returns:
            The loss, and for the log ``nll`` and ``accuracy`` as `loss` has them.
        """
        (T, N), device = tokens_BTN.shape[1:], tokens_BTN.device
        ends_B1 = to_device(1 + (uniform(chance, 1) * (T - 1)).long(), device)
        masks_BN = torch.full_like(tokens_BTN[:, 0], self.mask_token)
        past, seen_BN = self.prefill(tokens_BTN[:, :1], actions_BTm1[:, :0]), tokens_BTN[:, 0]
        nll, right = [], []
        for t in range(1, T):
            change_BND = self.change(seen_BN.unsqueeze(1), actions_BTm1[:, t - 1 : t]).squeeze(1)
            logits_BNF = self.next_logits(masks_BN, change_BND, past)
            nll_X, right_X = self.nll(logits_BNF.flatten(0, 1), tokens_BTN[:, t].flatten())
            nll.append(nll_X.mean())
            right.append(right_X.float().mean())
            if t + 1 < T:
                noise_BND = to_device(uniform(chance, N, len(self.levels)), device)
                drawn_BN, _ = draw_digits(logits_BNF.detach(), noise_BND, temperature, self.levels)
                seen_BN = torch.where(t < ends_B1, tokens_BTN[:, t], drawn_BN)
                past = self.commit(seen_BN, change_BND, past)
        loss = torch.stack(nll).mean()
        return loss, {"nll": loss.detach(), "accuracy": torch.stack(right).mean()}


def uniform(chance: Chance, *shape: int) -> Tensor:
    """Uniform numbers ``(B, *shape)`` on the CPU, each row from the generator of its clip."""
    return torch.stack([torch.rand(shape, generator=generator) for generator in chance])
