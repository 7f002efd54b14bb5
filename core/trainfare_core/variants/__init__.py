"""The job with a change that its user may allow: another `JobProfile`, derived from the one that was traced."""

from __future__ import annotations

from trainfare_core.variants.decoder import PRODUCTS, DecoderShape, is_decoder, why_not_split
from trainfare_core.variants.precisions import PRECISIONS, computed_in, saved_in, with_precisions
from trainfare_core.variants.variant import JobVariant, variants_of, why_no_precision, why_no_variant

__all__ = [
    "PRECISIONS",
    "PRODUCTS",
    "DecoderShape",
    "JobVariant",
    "computed_in",
    "is_decoder",
    "saved_in",
    "variants_of",
    "why_no_precision",
    "why_no_variant",
    "why_not_split",
    "with_precisions",
]
