"""Lightning's precision "transformer-engine" and products in fp8 of the user's own, traced without an accelerator."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from builders.jobs import Tiny, Transformer, job
from builders.plans import predict_one
from builders.versions import needs_version
from trainfare.fake_step import trace_changed, trace_job
from trainfare.fake_step.equal_blocks import WORTHWHILE
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import JobProfile, OperationGroup
from trainfare_core.variants import CAST_TO_8_BITS, variants_of, with_precisions

TOKENS, WIDTH, INNER = 4 * 6, 16, 32


def trace_module(
    precision: str = "transformer-engine", module: Any = Transformer, **options: Any
) -> JobProfile:
    return trace_job(job(module, batch=module.batch, precision=precision, **options))


def products(profile: JobProfile, dtype: str) -> list[OperationGroup]:
    return [group for group in profile.operations if group.kind == "matmul" and group.dtype == dtype]


@pytest.mark.parametrize(
    ("precision", "true", "half"),
    [("transformer-engine", "bf16-true", "bf16"), ("transformer-engine-float16", "16-true", "fp16")],
)
def test_layers_that_lightning_replaces_run_in_fp8_and_all_else_in_16_bits(
    precision: str, true: str, half: str
) -> None:
    """Two linear layers do, forward and for both gradients. Attention's projections are no `nn.Linear`, and 50 is no multiple of 16."""
    profile, plain = trace_module(precision), trace_module(true)
    assert {group.shape for group in products(profile, "fp8")} == {
        (1, TOKENS, INNER, WIDTH), (1, TOKENS, WIDTH, INNER), (1, INNER, WIDTH, TOKENS), (1, WIDTH, INNER, TOKENS),
    }  # fmt: skip
    assert sum(group.launches for group in products(profile, "fp8")) == 6
    assert {group.dtype for group in profile.parameters} == {half}
    launches = [sum(group.launches for group in products(profile, half)) for profile in (plain, profile)]
    assert launches[0] - launches[1] == 6
    assert profile.step_flops == plain.step_flops


def test_the_casts_of_their_operands_are_counted_once_a_product() -> None:
    """Two bytes read and one written an element: of 16 bits of input, weight or gradient. The work by module has them too."""
    profile = trace_module()
    casts = [group for group in profile.operations if group.name == CAST_TO_8_BITS]
    number = TOKENS * WIDTH + TOKENS * INNER + WIDTH * INNER  # input, gradient and weight of either layer
    # Two layers, and every operand in two of three products; biases are read besides.
    assert sum(group.bytes_read for group in casts) == pytest.approx(2 * 2 * 2 * number, rel=0.05)
    assert sum(2 * group.bytes_written for group in casts) == sum(group.bytes_read for group in casts)
    assert {group.dtype for group in casts} == {"bf16"}
    for phase in ("forward", "backward"):
        moved = sum(group.bytes_moved for group in profile.operations if group.phase == phase)
        assert sum(work.bytes_moved for work in profile.modules if work.phase == phase) == moved


def test_equal_blocks_stand_for_each_other() -> None:
    """A module of many blocks is traced from short versions of it, with the same products and casts."""

    class Deep(Transformer):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(
                *(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0) for _ in range(12))
            )

    training_job = job(Deep, batch=Deep.batch, precision="transformer-engine")
    short, whole = (trace_changed(training_job, None, worthwhile=each) for each in (WORTHWHILE, 0))
    assert short.operations == whole.operations
    assert sum(group.launches for group in products(short, "fp8")) == 12 * 6


def test_a_gpu_without_fp8_has_no_answer_and_one_with_it_a_wide_interval() -> None:
    profile, plain = trace_module(), trace_module("bf16-true")
    assert "no fp8" in predict_one(profile, "A100-SXM-80GB").unknown_because[0]
    eight, sixteen = (predict_one(profile, "H100-SXM-80GB") for profile in (profile, plain))
    assert eight.log_sigma[0] > sixteen.log_sigma[0]
    assert eight.memory_log_sigma[0] > 0.4
    assert eight.memory_log_sigma[0] > 1.5 * sixteen.memory_log_sigma[0]


def test_a_job_with_nothing_to_run_in_fp8_says_so() -> None:
    with pytest.raises(TraceError, match=r"nothing runs in fp8: use bf16-true"):
        trace_job(job(Tiny, precision="transformer-engine"))


def test_a_plan_in_fp8_has_the_trace_in_it_and_its_doubt() -> None:
    """For `--allow precision`; a job with nothing to run in fp8 says so in a note."""
    own = with_precisions(trace_module("bf16-true"), trace_module, ["transformer-engine"])
    (planned,) = (
        variant.of(own) for variant in variants_of(own, precision=True)[1:] if variant.changes_training
    )
    assert (planned.operations, planned.memory) == (trace_module().operations, trace_module().memory)
    plans = (predict_one(profile, "H100-SXM-80GB") for profile in (own, planned))
    sixteen, eight = ((plan.log_sigma[0], plan.memory_log_sigma[0]) for plan in plans)
    assert eight[0] > sixteen[0]
    assert eight[1] > sixteen[1]
    tiny = job(Tiny, precision="bf16-true")
    profile = with_precisions(
        trace_job(tiny), lambda text: trace_job(replace(tiny, precision=text)), ["transformer-engine"]
    )
    assert not profile.precisions
    assert any("nothing runs in fp8" in note for note in profile.notes)


def test_rows_that_transformer_engine_refuses_are_named() -> None:
    class Odd(Transformer):
        @staticmethod
        def batch() -> Any:
            return torch.zeros(4, 5, dtype=torch.long)

    assert any("refuses inputs" in note for note in trace_module(module=Odd).notes)
    (note,) = [note for note in trace_module().notes if "fp8" in note]
    assert "refuses" not in note


class _Scaled(torch.autograd.Function):
    """A product in fp8 with one scale a tensor, a row or a block of 32, as torchao's float8 and MX training run it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scaled_by: str) -> Tensor:
        eight = [tensor.to(torch.float8_e4m3fn) for tensor in (x, weight)]
        ctx.save_for_backward(*eight)
        ctx.scaled_by = scaled_by
        return _scale_flops(eight[0], eight[1].t(), scaled_by)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        eight = gradient.contiguous().to(torch.float8_e5m2)
        return (
            _scale_flops(eight, weight.t().contiguous().t(), ctx.scaled_by),
            _scale_flops(eight.t().contiguous(), x.t().contiguous().t(), ctx.scaled_by),
            None,
        )


def _scale_flops(left: Tensor, right: Tensor, scaled_by: str) -> Tensor:
    (rows, depth), columns = left.shape, right.shape[1]
    blocks = 4 * math.ceil(depth / 32 / 4)  # cuBLAS takes scales in tiles of 128 rows and 4 blocks
    shapes = {
        "tensor": ((), ()),
        "row": ((rows, 1), (1, columns)),
        "block": ((128 * math.ceil(rows / 128) * blocks,), (128 * math.ceil(columns / 128) * blocks,)),
    }
    dtype = torch.float8_e8m0fnu if scaled_by == "block" else torch.float32
    scales = [torch.ones(shape, device=left.device).to(dtype) for shape in shapes[scaled_by]]
    return torch._scaled_mm(left, right, *scales, out_dtype=torch.bfloat16)


class ScaledProducts(pl.LightningModule):
    scaled_by = "tensor"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(64, 32))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return _Scaled.apply(batch, self.weight, self.scaled_by).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    @staticmethod
    def batch() -> Tensor:
        return torch.zeros(16, 32)


class ScaledRows(ScaledProducts):
    scaled_by = "row"


class ScaledBlocks(ScaledProducts):
    scaled_by = "block"

    @staticmethod
    def batch() -> Tensor:
        return torch.zeros(32, 32)


@pytest.mark.parametrize(("module", "scales"), [(ScaledProducts, 2), (ScaledRows, 16 + 64)])
def test_scaled_products_of_the_users_own_are_in_fp8_with_their_bytes(module: Any, scales: int) -> None:
    """`torch._scaled_mm`, which torchao's float8 layers call: one byte an element of its operands, and casts as they are made."""
    profile = trace_module("bf16-true", module, batch_size=16)
    groups = products(profile, "fp8")
    assert sorted((group.phase, group.shape) for group in groups) == [
        ("backward", (1, 16, 32, 64)), ("backward", (1, 64, 32, 16)), ("forward", (1, 16, 64, 32)),
    ]  # fmt: skip
    forward = groups[0]
    assert forward.flops == 2 * 16 * 64 * 32
    assert forward.bytes_read == 16 * 32 + 64 * 32 + 4 * scales
    assert forward.bytes_fixed == 64 * 32
    assert not [group for group in profile.operations if group.name == CAST_TO_8_BITS]
    assert "no fp8" in predict_one(profile, "A100-SXM-80GB").unknown_because[0]
    assert predict_one(profile, "H100-SXM-80GB").memory_log_sigma[0] > 0.4


@needs_version("torch", "2.7", "has no scales of eight bits")
def test_products_of_the_users_own_with_a_scale_for_each_block_are_in_mxfp8() -> None:
    """Blackwell has them, Hopper does not; one byte a scale."""
    profile = trace_module("bf16-true", ScaledBlocks, batch_size=32)
    assert not products(profile, "fp8")
    groups = products(profile, "mxfp8")
    assert sorted((group.phase, group.shape) for group in groups) == [
        ("backward", (1, 32, 32, 64)), ("backward", (1, 64, 32, 32)), ("forward", (1, 32, 64, 32)),
    ]  # fmt: skip
    assert groups[0].bytes_read == 32 * 32 + 64 * 32 + 2 * 128 * 4
    assert "no mxfp8" in predict_one(profile, "H100-SXM-80GB").unknown_because[0]
    assert not predict_one(profile, "B200-SXM-180GB").unknown_because[0]


class Stages(pl.LightningModule):
    """Two blocks of one class, of which 16 divides both sizes of the first alone."""

    batch = staticmethod(lambda: torch.zeros(4, 32))

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Sequential(nn.Linear(32, 48)), nn.Sequential(nn.Linear(48, 20))])

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        x = batch
        for stage in self.stages:
            x = stage(x)
        return x.square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_layer_is_told_by_its_own_sizes_where_blocks_of_one_class_differ() -> None:
    """The blocks share a name in the work by module, and only the first is replaced."""
    profile = trace_module(module=Stages)
    assert {frozenset(group.shape[1:]) for group in products(profile, "fp8")} == {frozenset((4, 32, 48))}
    assert {frozenset(group.shape[1:]) for group in products(profile, "bf16")} == {frozenset((4, 48, 20))}
