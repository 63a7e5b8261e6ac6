"""The cost of a run, computed without running it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from jinn.cli import main
from jinn.models.transformer import STTransformer, TransformerConfig
from jinn.recipes import RECIPES
from jinn.training.parallel import (
    ParallelConfig,
    Ranks,
    distribute,
)
from jinn.training.plan import ClusterConfig, plan, transformer_part


@pytest.mark.parametrize("every", [0, 1, 2])
def test_flops_equal_pytorchs_count(every: int) -> None:
    config = TransformerConfig(layers=3, width=32, heads=4, feedforward=2.0, temporal_every=every)
    model, clip = STTransformer(config), torch.randn(1, 5, 6, 32)
    with (
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        model(clip)
    assert transformer_part(config, 5, 6).flops == counter.get_total_flops()


@pytest.mark.parametrize(
    "pair",
    ["tokenizer.cell=0", "tokenizer.cell=9007199254740992",
     "dynamics.transformer.width=9223372036854775808"],
)  # fmt: skip
def test_models_of_impossible_sizes_are_one_sentence(pair: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "tiny", "--set", pair]) == 2
    assert "no model has such sizes" in capsys.readouterr().err


@pytest.mark.parametrize("recompute", [False, True])
def test_activation_memory_equals_what_autograd_keeps(recompute: bool) -> None:
    """The memory of two more clips, compared with that of a model in mixed precision."""
    config = TransformerConfig(layers=3, width=32, heads=4, feedforward=2.0)

    def kept(clips: int) -> int:
        model = STTransformer(config)
        model.norm = nn.Identity()  # type: ignore[assignment]
        distribute(model, Ranks(ParallelConfig(recompute=recompute)))
        storages: dict[int, tuple[torch.Tensor, int]] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage()._cdata] = tensor, tensor.untyped_storage().nbytes()
            return tensor

        clip = torch.randn(clips, 5, 6, 32, requires_grad=True)
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with torch.autocast("cpu", torch.bfloat16), hooks:
            out = model(clip)
        del out
        return sum(size for _, size in storages.values())

    real = kept(3) - kept(1)
    part = transformer_part(config, 5, 6)
    expected = 2 * part.kept
    if recompute:  # those of one block exist only during its backward pass
        expected = 2 * (part.kept_recomputed - part.kept // config.layers)
    assert abs(real - expected) <= 0.25 * expected


@pytest.mark.slow
def test_the_plan_of_the_papers_largest_run() -> None:
    """Its tokens exactly, and its FLOPs to a tenth (the paper does not say how it counts)."""
    recipe = RECIPES["paper_platformers_10b"]()
    world = plan(recipe, ClusterConfig(gpus=256), ParallelConfig(tensor_parallel=2))[-1]
    assert world.tokens == 512 * 125_000 * 16 * 920
    assert world.tokens == pytest.approx(942e9, rel=1e-3)
    assert world.dynamics_flops == pytest.approx(6.6e22, rel=0.1)
    assert world.even


def test_a_plan_reports_a_batch_that_cannot_be_split() -> None:
    phases = plan(RECIPES["tiny"](), ClusterConfig(gpus=16), ParallelConfig())
    assert [phase.even for phase in phases] == [True, False, True, False]  # batches of 32, 40, 16 and 8


@pytest.mark.parametrize("name", ["tiny", "coinrun", "paper_coinrun"])
def test_plans_are_printed_without_a_store(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", name, "--gpus", "4"]) == 0
    said = capsys.readouterr().out
    for word in ("dynamics", "tokens", "days", "activations", "optimiser"):
        assert word in said
