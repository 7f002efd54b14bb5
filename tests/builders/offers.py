"""Price rows and price books for tests."""

from __future__ import annotations

from typing import Any

import polars as pl

from trainfare_core.prices.book import PriceBook
from trainfare_providers.snapshot import SnapshotProvider


def offer_row(**overrides: Any) -> dict[str, Any]:
    """Return one good row as a source would give it: an 8 x A100 machine on demand."""
    row: dict[str, Any] = {
        "provider": "aws",
        "service": "ec2",
        "instance_type": "p4d.24xlarge",
        "region": "us-east-1",
        "zone": None,
        "accelerator": "A100-SXM-40GB",
        "accelerator_count": 8.0,
        "accelerator_memory_gib": 40.0,
        "vcpus": 96.0,
        "memory_gib": 1152.0,
        "network_gbit_per_s": 400.0,
        "usd_per_hour": 21.957642,
        "purchase_option": "on_demand",
        "observed_on": "2026-07-20",
        "source": "a test",
        "source_class": "catalogue",
        "currency": "USD",
        "caveat": None,
    }
    return {**row, **overrides}


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    """Return rows as a table; a column with any text in it is text, as from a CSV file."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: dict[str, pl.Series] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        if any(isinstance(value, str) for value in values):
            columns[name] = pl.Series(name, [None if v is None else str(v) for v in values], dtype=pl.String)
        else:
            kind = pl.Boolean if name == "observed_on_estimated" else pl.Float64
            kind = (
                pl.String
                if name in ("zone", "caveat", "accelerator", "sku", "fetched_at", "interruption_band")
                else kind
            )
            columns[name] = pl.Series(name, values, dtype=kind)
    return pl.DataFrame(columns)


def book_of(*rows: dict[str, Any], origin: str = "test") -> PriceBook:
    """Return the book of those rows that pass."""
    return PriceBook.from_rows(table(*rows), origin=origin)


def small_market() -> PriceBook:
    """Return seven offers: two clouds, three accelerators, spot and on-demand, a slice of unknown host."""
    h100 = {"accelerator": "H100-SXM-80GB", "accelerator_memory_gib": 80.0}
    l4 = {"accelerator": "L4-24GB", "accelerator_count": 1.0, "accelerator_memory_gib": 24.0}
    unknown = {"vcpus": None, "memory_gib": None, "network_gbit_per_s": None}
    return book_of(
        offer_row(),
        offer_row(region="eu-west-1", usd_per_hour=23.71569),
        offer_row(purchase_option="spot", zone="use1-az1", usd_per_hour=9.5),
        offer_row(instance_type="p5.48xlarge", usd_per_hour=55.04, **h100),
        offer_row(instance_type="g6.xlarge", usd_per_hour=0.8048, vcpus=4.0, memory_gib=16.0, **l4),
        offer_row(
            provider="gcp",
            service="tpu",
            instance_type="v5p-8",
            region="us-east5",
            zone="us-east5-a",
            accelerator="TPU-v5p",
            accelerator_count=4.0,
            accelerator_memory_gib=95.0,
            usd_per_hour=16.8,
            **unknown,
        ),
        offer_row(
            provider="azure",
            service="azure_vm",
            instance_type="Standard_NV6ads_A10_v5",
            region="eastus",
            accelerator="A10-24GB",
            accelerator_count=0.166667,
            accelerator_memory_gib=24.0,
            usd_per_hour=0.454,
        ),
    )


def get_shipped_date(provider: str) -> str:
    """Return the newest date of a cloud's prices in the shipped snapshot."""
    return max(facts.newest for facts in SnapshotProvider().load().facts() if facts.provider == provider)
