"""Prices in tiers from the rows of the table."""

from __future__ import annotations

from collections.abc import Sequence

from trainfare_core.run_cost_facts.answers import PriceTier, TieredPrice, Unknown
from trainfare_core.run_cost_facts.facts import EVERYWHERE, Fact
from trainfare_core.run_cost_facts.table import Choice, choose, no_row

__all__ = ["tiered_price"]


def tiered_price(rows: Sequence[Fact], region: str, what: str) -> TieredPrice | Unknown:
    """
    Return the price whose tiers are rows.

    All tiers are of the region, or all for every region: those are not mixed.

    Args:
        rows: rows of one price in all regions, each with `from_gb`.
        region: the cloud's own name of the region.
        what: what the price is of, for the reason.

    Returns:
        The price; `Unknown` where no row fits, or the first tier is missing.
    """
    fitting = [row for row in rows if row.region == region] or [r for r in rows if r.region == EVERYWHERE]
    if not fitting:
        return no_row(rows, region, what)
    starts = sorted({row.from_gb or 0.0 for row in fitting})
    if starts[0] > 0:
        return Unknown(f"{what} in {region} is not known for the first {starts[0]:g} GB")
    chosen: list[Choice] = []
    for start in starts:
        choice = choose([row for row in fitting if (row.from_gb or 0.0) == start], region, what)
        if isinstance(choice, Unknown):
            return choice
        chosen.append(choice)
    return TieredPrice(
        tiers=tuple(PriceTier(one.row.from_gb or 0.0, one.row.value) for one in chosen),
        unit=chosen[0].row.unit,
        region_match=chosen[0].region_match,
        rows=tuple(one.row for one in chosen),
        unused=tuple(row for one in chosen for row in one.unused),
    )
