"""Rows and counts of one cloud service."""

from __future__ import annotations

from decimal import Decimal

from trainfare_core.prices.facts import ReasonCount
from trainfare_providers.machine_types import Machine
from trainfare_providers.source_rows import Refused, RowSink, SourceRow


def test_sink_counts_every_row_and_keeps_the_digits_of_a_price() -> None:
    """Every entry read is a row, filtered or quarantined; a price keeps its trailing zeros."""
    sink = RowSink("azure", "azure_vm")
    assert sink.keep(Refused("Windows")) is None
    assert sink.keep(Refused("Windows")) is None
    assert sink.keep(Refused("unit", quarantined=True)) is None
    row = SourceRow(
        Machine("m", "A100", 1.0, 80.0),
        "r",
        Decimal("3.6730"),
        "on_demand",
        "2026-01-01",
        "s",
        "https://x",
        "USD",
    )
    source_row = sink.keep(row)
    assert source_row is row
    sink.rows.append(source_row)
    rows = sink.finish(["a note"])
    assert (rows.filtered, rows.quarantined) == ((ReasonCount("Windows", 2),), (ReasonCount("unit", 1),))
    assert rows.notes == ("a note",)
    assert sink.rows_read == 4
    assert rows.rows.row(0, named=True)["usd_per_hour"] == "3.6730"
    assert RowSink("azure", "azure_ml").finish().rows.is_empty()


def test_unknown_machines_are_named_in_a_note() -> None:
    """At most twelve names; the count of the rest follows."""
    sink = RowSink("aws", "ec2")
    sink.add(Refused("unknown", unknown_machine=f"x{number:02}.large") for number in range(14))
    (note,) = sink.finish().notes
    assert note.endswith("x10.large, x11.large and 2 more")
