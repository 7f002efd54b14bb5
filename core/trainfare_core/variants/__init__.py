"""The job with a change that its user may allow: another `JobProfile`, derived from the one that was traced."""

from __future__ import annotations

from trainfare_core.variants.variant import JobVariant, variants_of, why_no_variant

__all__ = ["JobVariant", "variants_of", "why_no_variant"]
