"""`OfferRow`: one offer of a price book as an object, for people and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from trainfare_core.documents import Record


class OfferRow(Record):
    """One offer; prices in USD, memory in GiB, None is 'not known'."""

    machine: str
    """The name `PriceBook.find` takes, e.g. aws:p4d.24xlarge@us-east-1."""
    provider: str
    service: str
    instance_type: str
    region: str
    zone: str | None
    accelerator: str
    accelerator_count: float
    accelerator_memory_gib: float
    vcpus: float | None
    memory_gib: float | None
    network_gbit_per_s: float | None
    purchase_option: str
    usd_per_hour: float
    """Of the whole machine."""
    usd_per_accelerator_hour: float
    """For a shared device, of the whole device."""
    observed_on: str
    observed_on_estimated: bool
    source: str
    source_class: str
    sku: str | None
    fetched_at: str | None
    origin: str
    caveat: str | None
    interruption_band: str | None = Field(
        description="spot: capacity taken back in the last month, by the cloud's own word; None: not known"
    )

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> OfferRow:
        """Take a row of a price book, by column."""
        known = {name: row[name] for name in cls.model_fields if name in row}
        machine = f"{row['provider']}:{row['instance_type']}@{row['region']}"
        usd = row["usd_per_hour"] / row["accelerator_count"]
        return cls.model_validate({**known, "machine": machine, "usd_per_accelerator_hour": usd})
