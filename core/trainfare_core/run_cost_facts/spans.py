"""Ranges from the rows of their two ends."""

from __future__ import annotations

from collections.abc import Sequence

from trainfare_core.run_cost_facts.answers import Span, Unknown
from trainfare_core.run_cost_facts.facts import EVERYWHERE, Fact
from trainfare_core.run_cost_facts.table import Choice, choose

__all__ = ["span"]


def span(rows: Sequence[Fact], what: str) -> Span | Unknown:
    """
    Return the range whose ends are rows for every region.

    Args:
        rows: rows with the item `low` or `high`.
        what: what the range is of, for the reason.

    Returns:
        The range, an end that has no row being None; `Unknown` where neither end is known.
    """
    low, high = (
        choose([row for row in rows if row.item == end], EVERYWHERE, what) for end in ("low", "high")
    )
    known = [end for end in (low, high) if isinstance(end, Choice)]
    if not known:
        return Unknown(f"{what} is not known")
    return Span(
        low=low.row.value if isinstance(low, Choice) else None,
        high=high.row.value if isinstance(high, Choice) else None,
        unit=known[0].row.unit,
        region_match=known[0].region_match,
        rows=tuple(end.row for end in known),
        unused=tuple(row for end in known for row in end.unused),
    )
