"""What a profile says of a decoder-only language model: whether it is one, and the numbers that a split must divide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from trainfare_core.job_profile import JobProfile
from trainfare_core.variants.eight_bits import PRODUCTS
from trainfare_core.variants.precisions import find_compute_type

_TENSOR_DTYPES: Final = frozenset(("tf32", "fp16", "bf16", "fp8", "mxfp8", "fp4", "int8"))
_LEAST_SHARE: Final = 0.9
"""Of the FLOPs, in products and attention on matrix units: a profile with less is no language model. Chosen."""
_CAUSAL: Final = 6
"""Place in the shape of an attention that says whether it is causal."""


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """
    Numbers of a decoder that a split of it must divide.

    Attributes:
        heads: of queries and of keys and values: their greatest common divisor over all layers.
        layers: blocks, each with one attention.
        tokens: of one sample.
        experts: of each sparse layer; 0: none, or not run as one grouped product.
    """

    heads: int
    layers: int
    tokens: int
    experts: int

    @classmethod
    def of(cls, profile: JobProfile) -> DecoderShape:
        """
        Read the numbers from the operations of a forward pass.

        Args:
            profile: one for which `is_decoder`.
        """
        forward = [g for g in profile.operations if g.phase == "forward" and not g.recomputed]
        attention = [g for g in forward if g.kind == "attention" and len(g.shape) > _CAUSAL]
        return cls(
            heads=math.gcd(*(number for g in attention for number in g.shape[1:3])),
            layers=sum(g.launches for g in attention) // profile.parallel.accumulate_grad_batches,
            tokens=min((g.shape[3] for g in attention), default=1),
            experts=math.gcd(*(g.shape[0] for g in forward if g.kind == "grouped_matmul" and g.shape)),
        )


def is_decoder(profile: JobProfile) -> bool:
    """
    Whether a profile is timed by the terms of language models.

    That is: fused causal attention, and matrix units in 16 or 8 bits run nine tenths of the FLOPs as products and
    attention. The terms were fitted on neither convolutions nor encoders nor full precision.
    """
    causal = any(
        g.kind == "attention" and len(g.shape) > _CAUSAL and g.shape[_CAUSAL] for g in profile.operations
    )
    total = sum(g.flops for g in profile.operations)
    inside = sum(
        g.flops
        for g in profile.operations
        if (g.kind in PRODUCTS or g.kind == "attention") and g.dtype in _TENSOR_DTYPES
    )
    return causal and inside >= _LEAST_SHARE * total > 0


def why_not_split(profile: JobProfile) -> str:
    """Return why no plan splits the model of a job over devices, and what helps; "" where plans may."""
    if not is_decoder(profile):
        return (
            "the time of a split model is known for decoder-only language models alone, in 16 or 8 bits and with fused "
            "causal attention (torch's scaled_dot_product_attention with is_causal=True)"
        )
    if find_compute_type(profile.precision) == "fp8":
        return (
            f"the layers that Lightning's precision {profile.precision} puts in cannot be split: give bf16-true or "
            "bf16-mixed"
        )
    if profile.has_quantised_weights:
        return "weights in 8 or 4 bits cannot be split by the frameworks that plans name"
    if not (profile.batch.samples_per_step or profile.batch.micro_batch_size):
        return "the batch size is not known: state it when the profile is made"
    if any(
        g.kind == "attention" and len(g.shape) > _CAUSAL and not g.shape[_CAUSAL] for g in profile.operations
    ):
        return "the model has attention that is not causal beside its decoder"
    return ""
