"""Caveats of a price that decide more than what a reader is told; a price book has all of them in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

CaveatKind: TypeAlias = Literal["at_floor", "spot_or_flex_only", "not_checked"]

CAVEATS: Final[Mapping[CaveatKind, str]] = {
    "at_floor": "the provider's floor: the least share of the on-demand price at which it sells spot",
    "spot_or_flex_only": "Google creates this size only as spot or flex-start",
    "not_checked": "Azure ML's documented sizes",
}
"""The words of each in the column `caveat` of a price book, where others may stand beside them."""


def read_caveats(text: str) -> tuple[CaveatKind, ...]:
    """Return what the caveat of a price means."""
    return tuple(kind for kind, words in CAVEATS.items() if words in text)
