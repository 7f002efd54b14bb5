"""
Matrix products in 8 or 4 bits: which of a step's may be, and what the casts of their operands cost.

Attention, norms and everything else keep 16 bits. Each operand is cast once for each product, as Transformer Engine and
torchao do. Memory stays that of 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from trainfare_core.errors import TraceError
from trainfare_core.job_profile import JobProfile, OperationGroup

PUBLISHED: Final = (
    "published runs took from 31 % less to 23 % more time, and up to 1.8 times the predicted memory: compare 50 steps "
    "of both"
)
"""What products in fp8 changed of runs, for a person; the spread is that of the pairs of runs in docs/choosing.md."""
PRODUCTS: Final = frozenset(("matmul", "grouped_matmul"))
"""Kinds of matrix products."""
CAST_TO_8_BITS: Final = "cast_fp8"
"""Name of the operations that cast an operand of a product to 8 or 4 bits."""
NARROW_TYPES: Final = {"fp8": 8, "mxfp8": 8, "int8": 8, "fp4": 4}
"""Bits of the types of products with fewer than 16; "mxfp8" is fp8 with a scale for each block of 32 values."""
_NARROW: Final = 256
"""Matrix products narrower than this stay in 16 bits: they are LoRA matrices and routers of experts."""
_MULTIPLE: Final = 16
"""Kernels for products in fp8 take sizes that it divides alone (`torch._scaled_mm`, Transformer Engine)."""
_ROWS: Final = 8
"""Divides the rows of every input of a layer that Transformer Engine runs in fp8."""
_BLOCKS: Final = {"mxfp8": 32, "fp4": 16}
"""Divides every size of a tensor that has a scale for each block: Transformer Engine refuses other tensors."""


def multiplies_weights(group: OperationGroup, head: int) -> bool:
    """
    Return whether an operation is the matrix product of a weight of a block, neither LoRA's nor a router's.

    Args:
        group: the operation.
        head: width of the output head, whose products are not of a block.
    """
    product = group.kind in PRODUCTS and group.bytes_fixed and len(group.shape) == 4
    return bool(product) and min(group.shape[2:]) >= _NARROW and head not in group.shape


def head_width(groups: Iterable[OperationGroup], passes: float) -> int:
    """Return the width of the output head: of the largest matrix that runs once a pass, in 16 bits; 0: none does."""
    once = [
        g for g in groups
        if g.kind == "matmul" and len(g.shape) == 4 and g.dtype not in NARROW_TYPES
        and g.phase == "forward" and g.launches <= passes and not g.recomputed
    ]  # fmt: skip
    return max(max(once, key=lambda g: g.flops).shape[2:]) if once else 0


def may_be_in_8_bits(profile: JobProfile) -> Callable[[OperationGroup], bool]:
    """Return what tells the products of a job in 16 bits that torchao's usual recipe runs in fp8."""
    head = head_width(profile.operations, profile.parallel.accumulate_grad_batches)

    def is_chosen(group: OperationGroup) -> bool:
        divides = all(size % _MULTIPLE == 0 for size in group.shape[1:])
        return multiplies_weights(group, head) and group.dtype in ("bf16", "fp16") and divides

    return is_chosen


def is_in_8_bits(profile: JobProfile) -> bool:
    """Return whether a step has products in 8 or 4 bits of floating point."""
    return any(
        group.kind in PRODUCTS and group.dtype in ("fp8", "mxfp8", "fp4") for group in profile.operations
    )


def count_refused_rows(profile: JobProfile) -> int:
    """Return the rows of an input that a layer in fp8 refuses; 0: there is none."""
    rows = [
        group.shape[1]
        for group in profile.operations
        if group.name != CAST_TO_8_BITS and group.dtype == "fp8" and group.phase == "forward"
    ]
    return next((row for row in rows if row % _ROWS), 0)


def in_8_bits(
    profile: JobProfile, chosen: Callable[[OperationGroup], bool], dtype: str = "fp8"
) -> JobProfile:
    """
    Return a profile with some of its products in 8 bits ("fp8", or "int8" on chips without it) or "fp4".

    Args:
        profile: the job.
        chosen: tells the products.
        dtype: their type.
    """
    groups: list[OperationGroup] = []
    for group in profile.operations:
        if not chosen(group):
            groups.append(group)
            continue
        product = group.model_copy(update={"dtype": dtype})
        groups += [product, cast_of(product, group.dtype)]
    return profile.model_copy(update={"operations": tuple(groups)})


def of_narrow_type(profile: JobProfile, dtype: str) -> JobProfile:
    """
    Return a profile whose products in fp8 are of a type with a scale for each block of values instead.

    Scales are not counted: a byte for each 32 values of mxfp8, and for each 16 of fp4.

    Args:
        profile: the job.
        dtype: "mxfp8" or "fp4".

    Raises:
        TraceError: the type has no products of some size of the step.
    """
    groups: list[OperationGroup] = []
    for group in profile.operations:
        if group.name == CAST_TO_8_BITS and dtype == "fp4":
            fewer = {"bytes_written": group.bytes_written // 2, "bytes_fixed": group.bytes_fixed * 5 // 6}
            groups.append(group.model_copy(update=fewer))
        elif group.kind in PRODUCTS and group.dtype == "fp8":
            if odd := [size for size in group.shape[1:] if size % _BLOCKS[dtype]]:
                raise TraceError(
                    f"{dtype} has a scale for each block of values, and no tensor whose sizes {_BLOCKS[dtype]} does "
                    f"not divide: a product of this step has {odd[0]}"
                )
            groups.append(group.model_copy(update={"dtype": dtype}))
        else:
            groups.append(group)
    note = f"where these notes say fp8, the products are in {dtype}, as the recipe of the precision's plugin says"
    return profile.model_copy(
        update={"operations": tuple(groups), "modules": (), "notes": (*profile.notes, note)}
    )


def cast_of(product: OperationGroup, dtype: str) -> OperationGroup:
    """
    Return the casts of a product's operands: 2 bytes read and 1 written an element, half of one for 4 bits.

    Args:
        product: with the bytes of operands of 16 bits.
        dtype: of its operands before.
    """
    narrowing = 4 if product.dtype == "fp4" else 2  # bytes read for each one written
    # The product of a weight's gradient writes it and reads activations, which scale with the batch.
    makes_gradient = product.bytes_written >= product.bytes_fixed
    weights = min(product.bytes_fixed, product.bytes_read)
    return product.model_copy(
        update={
            "kind": "copy", "name": CAST_TO_8_BITS, "dtype": dtype, "flops": 0,
            "shape": (product.bytes_read // 2 // max(product.launches, 1),),
            "bytes_written": product.bytes_read // narrowing,
            "bytes_fixed": 0 if makes_gradient else weights + weights // narrowing,
        }
    )  # fmt: skip
