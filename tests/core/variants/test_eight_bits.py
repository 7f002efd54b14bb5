"""Products in fp8: which of a step's may be, and the casts of their operands."""

from __future__ import annotations

import numpy as np
import pytest

from builders.plans import predict_one
from builders.profiles import gpt_profile
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import JobProfile, OperationGroup
from trainfare_core.prediction.uncertainty import UNFITTED_SIGMA
from trainfare_core.variants import (
    CAST_TO_8_BITS,
    cast_of,
    head_width,
    in_8_bits,
    is_in_8_bits,
    may_be_in_8_bits,
    of_narrow_type,
)

TOKENS, IN, OUT, VOCABULARY = 8 * 1024, 4096, 1024, 50_304


def product(*shape: int, phase: str = "forward", launches: int = 2, **fields: int) -> OperationGroup:
    """Return products in bf16 whose operands are read once; the weight is k x n."""
    _, m, n, k = shape
    amounts = {
        "bytes_read": 2 * (m * k + k * n),
        "bytes_written": 2 * m * n,
        "bytes_fixed": 2 * k * n,
        **fields,
    }
    return OperationGroup(
        kind="matmul", name="aten.mm", phase=phase, dtype="bf16", shape=shape, launches=launches,
        flops=2 * m * n * k * launches, **{name: size * launches for name, size in amounts.items()},
    )  # fmt: skip


def of(*operations: OperationGroup, **fields: object) -> JobProfile:
    return gpt_profile(operations=operations, **fields)


HEAD = product(1, TOKENS, VOCABULARY, IN, launches=1)


@pytest.mark.parametrize(
    ("shape", "eight"),
    [
        ((1, TOKENS, OUT, IN), True),
        ((1, TOKENS, 16, IN), False),  # LoRA
        ((1, TOKENS, 8, IN), False),  # a router
        ((1, TOKENS + 4, OUT, IN), False),  # rows that no kernel takes
        ((1, TOKENS, OUT + 8, IN), False),
    ],
)
def test_wide_products_of_weights_are_cast_and_the_head_is_not(shape: tuple[int, ...], eight: bool) -> None:
    job = of(HEAD, product(*shape))
    changed = in_8_bits(job, may_be_in_8_bits(job))
    assert is_in_8_bits(changed) == eight
    assert not is_in_8_bits(job)
    assert changed.operations[0] == HEAD
    assert head_width(job.operations, 1) == VOCABULARY
    assert changed.step_flops == job.step_flops


def test_a_product_without_a_weight_keeps_16_bits() -> None:
    job = of(HEAD, product(1, TOKENS, OUT, IN, bytes_fixed=0))
    assert in_8_bits(job, may_be_in_8_bits(job)) == job


@pytest.mark.parametrize(("dtype", "read"), [("fp8", 2), ("int8", 2), ("fp4", 4)])
def test_each_operand_is_read_in_16_bits_and_written_in_fewer(dtype: str, read: int) -> None:
    mine = product(1, 512, OUT, IN)  # its result is smaller than its weight
    job = of(HEAD, mine)
    (cast,) = [g for g in in_8_bits(job, lambda g: g == mine, dtype).operations if g.name == CAST_TO_8_BITS]
    assert (cast.kind, cast.dtype, cast.flops, cast.launches) == ("copy", "bf16", 0, 2)
    assert cast.bytes_read == mine.bytes_read
    assert cast.bytes_written == mine.bytes_read // read
    assert cast.bytes_fixed == mine.bytes_fixed + mine.bytes_fixed // read


def test_the_operands_of_a_weights_gradient_scale_with_the_batch() -> None:
    """It reads activations and gradients of them, and writes what is fixed."""
    group = product(1, OUT, IN, TOKENS, phase="backward", bytes_fixed=2 * OUT * IN)
    assert cast_of(group, "bf16").bytes_fixed == 0


def test_lightnings_precision_has_the_doubt_of_one_without_fitted_rows() -> None:
    """Language models too, whose fitted rows in fp8 are of other programs; a library's fused kernels are not assumed."""
    job = gpt_profile(layers=8, width=2048, heads=16)
    eight = in_8_bits(job, may_be_in_8_bits(job))
    lightning = eight.model_copy(update={"precision": "transformer-engine"})
    plain, doubtful = (predict_one(profile, "H100-SXM-80GB") for profile in (eight, lightning))
    assert doubtful.log_sigma[0] ** 2 == pytest.approx(plain.log_sigma[0] ** 2 + UNFITTED_SIGMA**2, rel=0.01)
    assert doubtful.step_s[0] == pytest.approx(plain.step_s[0], rel=0.01)


def test_a_plan_in_fp8_needs_room_for_what_published_runs_took() -> None:
    """1.8 times the predicted memory: of two plans that take the same, the one in fp8 does not surely fit."""
    job = gpt_profile(layers=8, width=2048, heads=16)
    eight = in_8_bits(job, may_be_in_8_bits(job))
    before, after = (predict_one(profile, "H100-SXM-80GB", ratio=4.0) for profile in (job, eight))
    assert after.memory_bytes[0] == before.memory_bytes[0]
    assert (before.fits[0], after.fits[0]) == (True, False)
    assert after.memory_bytes[0] < after.usable_memory_bytes[0] < 1.8 * after.memory_bytes[0]


def test_scales_for_blocks_need_the_chips_that_have_them_and_change_no_time() -> None:
    """MXFP8 came with units for 4 bits; what is cast and multiplied stays that of fp8."""
    job = gpt_profile(layers=8, width=2048, heads=16)
    eight = in_8_bits(job, may_be_in_8_bits(job)).model_copy(update={"precision": "transformer-engine"})
    blocks = of_narrow_type(eight, "mxfp8")
    assert {group.dtype for group in blocks.operations if group.kind == "matmul"} == {"mxfp8", "bf16"}
    assert is_in_8_bits(blocks)
    assert "no mxfp8" in predict_one(blocks, "H100-SXM-80GB").unknown_because[0]
    plain, scaled = (predict_one(profile, "B200-SXM-180GB") for profile in (eight, blocks))
    assert not scaled.unknown_because[0]
    for name in ("step_s", "log_sigma", "memory_bytes", "memory_log_sigma"):
        assert getattr(scaled, name)[0] == getattr(plain, name)[0]


def test_four_bits_have_their_own_peak_smaller_casts_and_the_width_of_an_unfitted_type() -> None:
    job = gpt_profile(layers=8, width=2048, heads=16)
    eight = in_8_bits(job, may_be_in_8_bits(job)).model_copy(update={"precision": "transformer-engine"})
    four, profile = of_narrow_type(eight, "fp4"), in_8_bits(job, may_be_in_8_bits(job), "fp4")
    assert four.operations == profile.operations
    assert "no fp4" in predict_one(four, "H100-SXM-80GB").unknown_because[0]
    plain, wide, narrow = (predict_one(profile, "B200-SXM-180GB") for profile in (job, four, eight))
    assert wide.step_s[0] < narrow.step_s[0]
    assert wide.log_sigma[0] == pytest.approx(np.hypot(plain.log_sigma[0], UNFITTED_SIGMA), rel=0.02)
    assert wide.memory_log_sigma[0] == narrow.memory_log_sigma[0] > plain.memory_log_sigma[0]


@pytest.mark.parametrize(("dtype", "block"), [("mxfp8", 32), ("fp4", 16)])
def test_a_size_that_no_number_of_blocks_has_is_named(dtype: str, block: int) -> None:
    odd = product(1, TOKENS, OUT, IN + block // 2).model_copy(update={"dtype": "fp8"})
    with pytest.raises(TraceError, match=f"sizes {block} does not divide: .* {IN + block // 2}$"):
        of_narrow_type(of(odd), dtype)
