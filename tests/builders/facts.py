"""Rows of the table of run-cost facts."""

from __future__ import annotations

import math

from trainfare_core.run_cost_facts.facts import Fact, FactSource, SourceClass, Weakness


def fact(
    value: float | str = 1.0,
    *,
    region: str = "*",
    as_of: str = "2026-09",
    source_class: SourceClass = "catalogue",
    weak: Weakness | None = None,
    item: str = "",
    from_gb: float | None = None,
) -> Fact:
    """Return a fact about the billing step of a cloud, or about a tier where `from_gb` is given."""
    worded = isinstance(value, str)
    return Fact(
        kind="billing_step" if from_gb is None else "egress_internet",
        cloud="cloud",
        service="service",
        region=region,
        machine="",
        item=item,
        from_gb=from_gb,
        value=math.nan if worded else float(value),
        words=value if worded else "",
        unit="s" if from_gb is None else "usd_per_gb",
        as_of=as_of,
        source=FactSource(f"{source_class}-{as_of}", source_class, f"a {source_class} of {as_of}"),
        weak=weak,
        weak_because=f"it is {weak}" if weak else "",
    )
