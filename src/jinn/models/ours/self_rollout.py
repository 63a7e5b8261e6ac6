"""Training on the model's own roll-outs: our own last phase of the dynamics.

`Dynamics.loss` shows true frames as the past, but in play there are none except the prompt. A frame that is
sampled a little wrong makes the next one worse, and a model that has never seen a past of its own does not
recover. Here a clip is true up to a frame drawn at random. From there on the model is conditioned on what it
sampled itself, and still has to predict the true tokens. (Scheduled sampling, Bengio et al. 2015, is the
ancestor; this is our form of it for MaskGIT.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from jinn.contracts import Generators, to_device, uniform
from jinn.models.dynamics import Dynamics
from jinn.models.maskgit import SamplingConfig
from jinn.models.transformer import Loss


def self_rollout_loss(
    dynamics: Dynamics,
    tokens_BTN: Tensor,
    actions_BTm1: Tensor,
    generators: Generators,
    sampling: SamplingConfig,
) -> Loss:
    """Cross-entropy of whole frames, predicted one after another as in play.

    Args:
        dynamics: the model.
        tokens_BTN: int64 targets; T may be longer than the window, as in play.
        actions_BTm1: int64, as for `Dynamics.loss`.
        generators: one per clip, for the frame where truth ends and for the sampled tokens.
        sampling: how frames are sampled in play, and here too. Samples carry no gradient.

    Returns:
        The loss, and for the log ``nll`` and ``accuracy`` as of `Dynamics.loss`.
    """
    (T, N), device = tokens_BTN.shape[1:], tokens_BTN.device
    actions_BTm1 = dynamics.perceive(actions_BTm1, generators)
    last_true_B1 = to_device(1 + (uniform(generators, 1) * (T - 1)).long(), device)
    masks_BN = torch.full_like(tokens_BTN[:, 0], dynamics.mask_token)
    cache, previous_BN = dynamics.prefill(tokens_BTN[:, :1], actions_BTm1[:, :0]), tokens_BTN[:, 0]
    nll, right = [], []
    for t in range(1, T):
        condition_BND = dynamics.condition(previous_BN.unsqueeze(1), actions_BTm1[:, t - 1 : t]).squeeze(1)
        x_BND = dynamics.next_frame(masks_BN, condition_BND, cache)
        nll_X, right_X = dynamics.digits.nll(x_BND.flatten(0, 1), tokens_BTN[:, t].flatten())
        nll.append(nll_X.mean())
        right.append(right_X.float().mean())
        if t + 1 < T:
            noise_BSNU = uniform(generators, sampling.steps, N, len(dynamics.levels) + 1)
            noise_SBNU = to_device(noise_BSNU.transpose(0, 1), device)
            with torch.no_grad():
                sampled_BN = dynamics.sample_frame(condition_BND, cache, noise_SBNU, sampling)
            previous_BN = torch.where(t < last_true_B1, tokens_BTN[:, t], sampled_BN)
            cache = dynamics.commit(previous_BN, condition_BND, cache)
    loss = torch.stack(nll).mean()
    return loss, {"nll": loss.detach(), "accuracy": torch.stack(right).mean()}
