"""Sums over the operations of a large language model's step: the inputs of its time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from trainfare_core.arrays import Array
from trainfare_core.job_profile import JobProfile, OperationGroup
from trainfare_core.variants import CAST_TO_8_BITS, NARROW_TYPES, PRODUCTS, head_width

UNPACK_4_BITS: Final = "trainfare.unpack_4bit"
"""Name of the operations that unpack a weight of 4 bits to the type of its product."""
LIBRARY_PRECISION: Final = "megatron"
"""
Precision of a described run whose blocks a library of fused kernels runs (Megatron, NeMo).

No Trainer has it: Lightning's "transformer-engine" replaces single layers of PyTorch code.
"""
GRAPH_PRECISION: Final = "megatron-graph"
"""The same where the host starts all kernels of a step at once, as one CUDA graph."""
LIBRARIES: Final = frozenset((LIBRARY_PRECISION, GRAPH_PRECISION))
DEEPSPEED_SUFFIX: Final = "-deepspeed"
"""Ends the precision of a described run of Megatron of 2021 under DeepSpeed's engine: "bf16-true-deepspeed"."""


_BOUNDARIES = 2
"""Sums over a tensor-parallel group in a block, forward: after attention and feed-forward (Shoeybi et al. 2019)."""
_ALIGNED = 8
"""Elements of 16 bits that divide the sides of a product that runs at full speed (NVIDIA's guide to matrix products: 16
bytes)."""
_PER_STEP = frozenset(
    (
        "optimizer_bytes",
        "hidden_bytes",
        "gradient_bytes",
        "weight_bytes",
        "width",
        "experts",
        "expert_width",
        "fused",
        "library",
        "integer",
    )
)


@dataclass(frozen=True, slots=True)
class DecoderLedger:
    """
    Sums over one forward and backward pass of the profiled micro-batch; arrays of shape (n,) or ().

    Attributes:
        product_flops, product8_flops, product4_flops: matrix products with weights, in 16, 8 and 4 bits.
        grouped_flops, grouped8_flops, grouped4_flops: the same of experts.
        batched_flops: products without weights, of attention that is not fused; `misaligned_flops`: those of
            heads that 8 does not divide.
        attention_flops: fused attention; half of the square where it is causal.
        head_flops: of `product_flops`, the matrix that turns hidden states into logits.
        vector_bytes: everything else, batch-proportional; `fixed_bytes`: the part that is not.
        fused_bytes: what a fusing compiler leaves of `vector_bytes`, without casts to 8 or 4 bits.
        cast_bytes: of `vector_bytes`, activations cast to 8 or 4 bits; `cast_weight_bytes`: weights, of `fixed_bytes`.
        replicated_bytes: of `fused_bytes`, between attention and feed-forward: norms, dropout and sums of the hidden
            size, which a tensor-parallel group without sequence parallelism runs on each of its devices.
        unpacked_bytes: weights of 4 bits read, and written as the type of their products; whatever the batch.
        optimizer_bytes: once an optimizer step.
        launches: of one pass, by the host; 0 where a step is one CUDA graph.
        grouped_launches: of them, products of experts and the casts of these.
        experts: routed experts of a block, 0 without.
        blocks: of a forward pass, by their attention: norms may be kernels of their own or not.
        boundary_bytes: inputs of attention and feed-forward of all blocks, 16 bits: what tensor parallelism exchanges
            once forward and once backward; `recomputed_bytes`: the same for blocks run again.
        expert_bytes: tokens sent to experts and back, forward.
        hidden_bytes: one boundary between blocks.
        gradient_bytes, weight_bytes: what data parallelism exchanges, experts apart.
        expert_weight_bytes: of the experts, 16 bits; each device of an expert-parallel group holds its part.
        expert_gradient_bytes: of the experts; 0 where they are frozen.
        width: of the block (hidden size); `expert_width`: of one expert, the geometric mean of the sides of its larger
            matrix, 0 without experts.
        fused: 1 where pointwise operations are fused.
        library: 1 where a library of fused kernels runs the blocks (`LIBRARIES`, `ProfileSource.fused`).
        deepspeed: 1 where DeepSpeed's engine runs those of Megatron (`DEEPSPEED_SUFFIX`).
        bfloat: 1 where the 16-bit type is bf16, which older GPUs have no matrix units for.
        integer: 1 where the products in 8 bits are of integers.
    """

    product_flops: Array
    product8_flops: Array
    product4_flops: Array
    grouped_flops: Array
    grouped8_flops: Array
    grouped4_flops: Array
    batched_flops: Array
    misaligned_flops: Array
    attention_flops: Array
    head_flops: Array
    vector_bytes: Array
    fused_bytes: Array
    cast_bytes: Array
    cast_weight_bytes: Array
    fixed_bytes: Array
    replicated_bytes: Array
    unpacked_bytes: Array
    optimizer_bytes: Array
    launches: Array
    grouped_launches: Array
    experts: Array
    blocks: Array
    boundary_bytes: Array
    recomputed_bytes: Array
    expert_bytes: Array
    hidden_bytes: Array
    gradient_bytes: Array
    weight_bytes: Array
    expert_weight_bytes: Array
    expert_gradient_bytes: Array
    width: Array
    expert_width: Array
    fused: Array
    library: Array
    deepspeed: Array
    bfloat: Array
    integer: Array

    @classmethod
    def of(cls, profile: JobProfile) -> DecoderLedger:
        """Read one profile; every field has shape (). A step of several passes counts as one of them."""
        passes = float(profile.parallel.accumulate_grad_batches)
        groups = [g for g in profile.operations_as_run if g.phase != "optimizer"]
        update = [g for g in profile.operations if g.phase == "optimizer"]
        width = _width(groups)
        hidden_bytes = 2.0 * _tokens(groups) * width
        blocks, again = (
            _count_blocks(groups, width, passes, recomputed=recomputed) for recomputed in (False, True)
        )

        def products(kind: str, bits: int, *, weights: bool = True) -> float:
            return float(
                sum(
                    g.flops
                    for g in groups
                    if g.kind == kind
                    and NARROW_TYPES.get(g.dtype, 16) == bits
                    and _multiplies_weights(g) == weights
                )
            )

        misaligned = float(sum(g.flops for g in groups if _is_misaligned(g)))
        unpacking = [g for g in groups if g.name == UNPACK_4_BITS]
        vector = [
            g for g in groups
            if g.kind not in PRODUCTS and g.kind != "attention" and g.name != UNPACK_4_BITS
        ]  # fmt: skip
        casts = [g for g in vector if g.name == CAST_TO_8_BITS]
        library = profile.source.fused or profile.precision in LIBRARIES
        by_host = float(profile.precision != GRAPH_PRECISION)
        experts = [g for g in groups if g.kind == "grouped_matmul" and g.phase == "forward"]
        expert_bytes = float(sum(2 * g.shape[0] * g.shape[2] * g.shape[3] * g.launches for g in experts))
        experts_a_device = expert_bytes / passes
        gradients = _narrow_bytes(profile, float(profile.memory.gradient_bytes))
        weights = _narrow_bytes(profile, float(profile.parameter_bytes))
        trained = experts_a_device if gradients > experts_a_device else 0.0
        values = {
            "product_flops": products("matmul", 16),
            "product8_flops": products("matmul", 8),
            "product4_flops": products("matmul", 4),
            "grouped_flops": products("grouped_matmul", 16),
            "grouped8_flops": products("grouped_matmul", 8),
            "grouped4_flops": products("grouped_matmul", 4),
            "batched_flops": products("matmul", 16, weights=False) - misaligned,
            "misaligned_flops": misaligned,
            "attention_flops": float(
                sum(g.flops * _causal_share(g) for g in groups if g.kind == "attention")
            ),
            "head_flops": _head_flops(groups, passes),
            "vector_bytes": float(sum(g.bytes_moved - g.bytes_fixed for g in vector)),
            "fused_bytes": float(
                sum(
                    (g.bytes_moved - g.bytes_fixed) * g.left_where_fused
                    for g in vector
                    if g.name != CAST_TO_8_BITS
                )
            ),
            "cast_bytes": float(sum(g.bytes_moved - g.bytes_fixed for g in casts)),
            "cast_weight_bytes": float(sum(g.bytes_fixed for g in casts)),
            "fixed_bytes": float(sum(g.bytes_fixed for g in vector)),
            "replicated_bytes": _sum_replicated_bytes(vector, _tokens(groups) * width),
            "unpacked_bytes": float(
                sum(min(g.bytes_fixed, g.bytes_read) + g.bytes_written for g in unpacking)
            ),
            "optimizer_bytes": float(sum(g.bytes_moved for g in update)),
            "launches": by_host * sum(g.launches for g in groups),
            "grouped_launches": by_host * _count_grouped_launches(groups),
            "experts": float(max((g.shape[0] for g in experts), default=0)),
            "blocks": blocks,
            "boundary_bytes": _BOUNDARIES * blocks * hidden_bytes,
            "recomputed_bytes": _BOUNDARIES * again * hidden_bytes,
            "expert_bytes": _expert_bytes(groups, width),
            "hidden_bytes": hidden_bytes,
            "gradient_bytes": gradients - trained,
            "weight_bytes": max(weights - experts_a_device, 0.0),
            "expert_weight_bytes": expert_bytes,
            "expert_gradient_bytes": trained * passes,
            "width": float(width),
            "expert_width": max((math.sqrt(g.shape[2] * g.shape[3]) for g in experts), default=0.0),
            "fused": float(profile.source.compiled or library),
            "library": float(library),
            "deepspeed": float(profile.precision.endswith(DEEPSPEED_SUFFIX)),
            "bfloat": float(any(g.dtype == "bf16" and g.kind in PRODUCTS for g in groups)),
            "integer": float(any(g.dtype == "int8" and g.kind in PRODUCTS for g in groups)),
        }
        whole = {name: value if name in _PER_STEP else value / passes for name, value in values.items()}
        return cls(**{name: np.asarray(value, dtype=np.float64) for name, value in whole.items()})

    @classmethod
    def stack(cls, ledgers: Sequence[DecoderLedger]) -> DecoderLedger:
        """Return one ledger of n profiles, every field of shape (n,)."""
        return cls(*(np.array([getattr(ledger, f.name) for ledger in ledgers]) for f in fields(cls)))


def _runs(group: OperationGroup, *, recomputed: bool) -> bool:
    return group.recomputed if recomputed else group.phase == "forward" and not group.recomputed


def _products(groups: Sequence[OperationGroup]) -> list[OperationGroup]:
    """Return the products of a forward pass with weights that no expert has."""
    return [
        g for g in groups
        if g.kind == "matmul" and len(g.shape) == 4 and _runs(g, recomputed=False) and _multiplies_weights(g)
    ]  # fmt: skip


def _width(groups: Sequence[OperationGroup]) -> int:
    """Return the hidden size: what most FLOPs read or write, as every matrix of a block and the head do."""
    flops: dict[int, int] = {}
    for group in _products(groups):
        for size in sorted(set(group.shape[2:])):
            flops[size] = flops.get(size, 0) + group.flops
    return max(sorted(flops), key=lambda size: flops[size], default=0)


def _tokens(groups: Sequence[OperationGroup]) -> int:
    """Return the tokens of a pass: the most rows that one matrix gets."""
    return max((g.shape[1] for g in _products(groups) if g.shape[0] == 1), default=0)


def _count_blocks(groups: Sequence[OperationGroup], width: int, passes: float, *, recomputed: bool) -> float:
    """
    Return how many blocks run: each has one fused attention, or two norms, and the head has one norm before it.

    Norms may be written in single operations and attention in products, but never both: see `is_decoder`. Blocks
    without attention, such as those with a state space, have their norms.
    """
    chosen = [g for g in groups if _runs(g, recomputed=recomputed)]
    attention = sum(g.launches for g in chosen if g.kind == "attention")
    norms = sum(g.launches for g in chosen if g.kind == "normalization" and g.shape[1:] == (width,))
    return max(float(attention), (norms - passes) / 2)


def _sum_replicated_bytes(vector: Sequence[OperationGroup], hidden: int) -> float:
    """Return bytes of norms, dropout and sums of as many values as one boundary between blocks has."""
    kinds = ("normalization", "elementwise", "dropout")
    alike = [g for g in vector if g.kind in kinds and math.prod(g.shape) == hidden]
    return float(sum((g.bytes_moved - g.bytes_fixed) * g.left_where_fused for g in alike))


def _count_grouped_launches(groups: Sequence[OperationGroup]) -> int:
    """Return launches of the products of experts, and of the casts of their operands where these are narrow."""
    return sum(g.launches * (1 + (g.dtype in NARROW_TYPES)) for g in groups if g.kind == "grouped_matmul")


def _multiplies_weights(group: OperationGroup) -> bool:
    """Return whether a product has a weight: a single one of two activations does not occur in a decoder."""
    return bool(group.bytes_fixed or group.shape[:1] == (1,) or group.kind != "matmul")


def _is_misaligned(group: OperationGroup) -> bool:
    """
    Return whether a product of two activations in 16 bits is of heads that 8 does not divide.

    The shortest side is the head's. Odd lengths of samples were not measured, and count as even ones.
    """
    product = group.kind == "matmul" and group.dtype in ("bf16", "fp16") and not _multiplies_weights(group)
    return product and bool(min(group.shape[1:]) % _ALIGNED)


def _head_flops(groups: Sequence[OperationGroup], passes: float) -> float:
    """Return FLOPs of the largest matrix that runs once a pass: the head; every other one runs once a block."""
    products = [g for g in groups if g.kind == "matmul" and len(g.shape) == 4 and g.dtype not in NARROW_TYPES]
    width = head_width(products, passes)
    return float(sum(g.flops for g in products if width in g.shape)) if width else 0.0


def _causal_share(group: OperationGroup) -> float:
    return 0.5 if len(group.shape) == 7 and group.shape[6] else 1.0


def _expert_bytes(groups: Sequence[OperationGroup], width: int) -> float:
    """Return bytes of the tokens that experts get and return: of the hidden size, or narrowed where no side is that."""
    experts = [g for g in groups if g.kind == "grouped_matmul" and g.phase == "forward"]
    if not any(width in g.shape[2:] for g in experts):
        width = min((min(g.shape[2:]) for g in experts), default=0)
    return float(sum(2 * g.shape[1] * width * g.launches for g in experts if width in g.shape[2:]))


def _narrow_bytes(profile: JobProfile, stored: float) -> float:
    """Return bytes as 16-bit training exchanges them: 32-bit tensors are cast before they travel."""
    whole = float(profile.parameter_bytes)
    wide = sum(g.parameter_bytes for g in profile.parameters if g.dtype in ("fp32", "tf32"))
    half = profile.precision.startswith(("16", "bf16")) and whole > 0
    return stored * (1 - wide / whole / 2) if half else stored
