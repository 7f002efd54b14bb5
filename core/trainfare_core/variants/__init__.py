"""The job with a change that its user may allow: another `JobProfile`, derived from the one that was traced."""

from __future__ import annotations

from trainfare_core.variants.decoder import DecoderShape, is_decoder, why_not_split
from trainfare_core.variants.eight_bits import (
    CAST_TO_8_BITS,
    NARROW_TYPES,
    PRODUCTS,
    PUBLISHED,
    cast_of,
    head_width,
    in_8_bits,
    is_in_8_bits,
    may_be_in_8_bits,
    multiplies_weights,
    of_narrow_type,
)
from trainfare_core.variants.implementations import (
    compare_implementations,
    with_implementation,
)
from trainfare_core.variants.precisions import (
    PRECISIONS,
    convert_saved_state,
    find_compute_type,
    with_precisions,
)
from trainfare_core.variants.variant import JobVariant, variants_of, why_no_precision, why_no_variant

__all__ = [
    "CAST_TO_8_BITS",
    "NARROW_TYPES",
    "PRECISIONS",
    "PRODUCTS",
    "PUBLISHED",
    "DecoderShape",
    "JobVariant",
    "cast_of",
    "compare_implementations",
    "convert_saved_state",
    "find_compute_type",
    "head_width",
    "in_8_bits",
    "is_decoder",
    "is_in_8_bits",
    "may_be_in_8_bits",
    "multiplies_weights",
    "of_narrow_type",
    "variants_of",
    "why_no_precision",
    "why_no_variant",
    "why_not_split",
    "with_implementation",
    "with_precisions",
]
