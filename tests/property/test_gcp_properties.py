"""Google's parsers against anything: no crash, no lost SKU, no sum with a part missing, no price that is not a number."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from builders.gcp_wire import COMPUTE, TPU, page
from builders.junk import draw_damaged
from trainfare_core.prices.accept import accept
from trainfare_core.prices.facts import ReasonCount
from trainfare_providers.gcp import catalogue_rows
from trainfare_providers.gcp.machines import PartIndex, machine_rows, slice_rows
from trainfare_providers.gcp.skus import Part, read_sku
from trainfare_providers.http.strict_json import parse_json
from trainfare_providers.source_rows import Refused

TODAY = "2026-11-24"
WHOLE: Any = parse_json(page([*COMPUTE, *TPU]))
A3: Any = [
    one for one in WHOLE["skus"] if one["description"].startswith(("A3 ", "Nvidia H100 80GB GPU", "SSD"))
]
many = settings(max_examples=8 * settings().max_examples)
"""Eight times the examples of the profile: an example is one or two objects, read in a millisecond."""


def rows_of(tallies: tuple[ReasonCount, ...]) -> int:
    return sum(tally.rows for tally in tallies)


@many
@given(
    st.lists(draw_damaged(WHOLE["skus"]), max_size=8), st.lists(draw_damaged(WHOLE["skus"][-7:]), max_size=3)
)
def test_every_sku_and_sum_is_counted_once(compute: list[Any], tpu: list[Any]) -> None:
    """SKUs and sums read = rows + left out + unreadable; a row's price is a finite number above 0."""
    sinks = catalogue_rows(compute, tpu, source="x", today=TODAY)
    parts = [
        part for part in (read_sku(one, today=TODAY) for one in (*compute, *tpu)) if isinstance(part, Part)
    ]
    index = PartIndex(parts)
    sums = [*machine_rows(index, source="x"), *slice_rows(index, source="x")]
    read = len(compute) + len(tpu) + len(sums)
    ended = 0
    for sink in sinks:
        rows = sink.finish()
        ended += rows.rows.height + rows_of(rows.filtered) + rows_of(rows.quarantined)
        if rows.rows.height:
            judged = accept(rows.rows, origin="gcp")
            accepted, (intake,) = judged.rows, judged.intakes
            assert intake.rows_read == rows.rows.height
            assert (accepted["usd_per_hour"].is_finite() & (accepted["usd_per_hour"] > 0)).all()
    assert ended == read


@many
@given(st.data())
def test_damaged_part_never_makes_a_cheaper_machine(data: st.DataObject) -> None:
    """Whatever happens to one of the four SKUs, an A3 costs what its four parts say, or nothing is said."""
    skus = list(A3)
    place = data.draw(st.integers(0, len(skus) - 1))
    skus[place] = data.draw(draw_damaged([skus[place]]))
    part = read_sku(skus[place], today=TODAY)
    assert isinstance(part, (Part, Refused))
    machines, _ = catalogue_rows(skus, [], source="x", today=TODAY)
    for row in machines.rows:
        assert isinstance(part, Part)
        assert row.sku.count("+") == 3
        assert part.sku_id in row.sku
