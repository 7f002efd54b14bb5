"""
Eight-bit precisions of MLPerf's encoders and of Flux: traced in 16 bits, the products of their blocks then in 8 bits.

BERT's FP8 submissions run Transformer Engine in the fp16 trainer of the FP16 ones, so they share its trace. Its
operands are cast by the kernels that make them (normalisation, GELU, sums of biases), which costs no memory traffic.
"""

from __future__ import annotations

from trainfare_core.job_profile import JobProfile
from trainfare_core.variants import CAST_TO_8_BITS
from trainfare_research.workloads.language.decoder_profile import with_narrow_products
from trainfare_research.workloads.single_device import Row
from trainfare_research.workloads.vision.flux import HEAD_WIDTH

_HEAD_WIDTH = {"bert": 30_522, "flux1": HEAD_WIDTH}
"""Width of the output head, which keeps 16 bits, by benchmark with blocks that Transformer Engine runs."""


def in_16_bits(row: Row) -> Row:
    """Return the row as it is traced: a precision of 8 bits is one of 16 bits with other matrix products."""
    eight = row["precision"].startswith("FP8") and row["benchmark"] in _HEAD_WIDTH
    return {**row, "precision": "FP16 mixed"} if eight else row


def in_8_bits(profile: JobProfile, row: Row) -> JobProfile:
    """Return the profile with the products of its blocks in 8 bits where the row's precision is FP8."""
    if not row["precision"].startswith("FP8") or row["benchmark"] not in _HEAD_WIDTH:
        return profile
    eight = with_narrow_products(profile, _HEAD_WIDTH[row["benchmark"]])
    operations = tuple(group for group in eight.operations if group.name != CAST_TO_8_BITS)
    return eight.model_copy(update={"operations": operations})
