"""The table itself: whole, every row within reach of a lookup, and strictly read."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest

from trainfare_core.clouds import CLOUDS
from trainfare_core.errors import InputError
from trainfare_core.run_cost_facts import KINDS, Answer, default_quota, facts, find_fact, interruption_band
from trainfare_core.run_cost_facts.facts import (
    FACT_COLUMNS,
    SOURCE_COLUMNS,
    Fact,
    Weakness,
    read_facts,
    read_sources,
)
from trainfare_core.run_cost_facts.table import all_facts

COUNTS = {
    "egress_internet": 16, "egress_inter_region": 62, "egress_inter_zone": 1, "object_storage": 25,
    "object_storage_request": 4, "object_storage_retrieval": 1, "disk": 22, "local_ssd": 1, "billing_step": 8,
    "billing_minimum": 4, "warm_pool_max": 1, "managed_spot_discount": 1, "capacity_block_payment": 1,
    "capacity_block_end": 1, "spot_notice": 3, "spot_interruption_band": 626, "spot_savings": 623,
    "spot_preemption": 2, "spot_price_ratio": 109, "spot_price_ratio_median": 3, "spot_price_floor": 1,
    "spot_zones_at_on_demand_price": 3, "spot_zone_spread_median": 3, "spot_price_move_9_days": 1,
    "startup_to_running": 4, "startup_to_ready": 1, "default_quota": 5, "quota_vcpus": 1, "flex_start_price": 15,
    "flex_start_max_run": 1, "flex_start_price_change": 1,
}  # fmt: skip


def look_up(row: Fact) -> object:
    """Return what the lookup of a row's kind says to the row's own keys."""
    if row.kind == "spot_interruption_band":
        return interruption_band(row.cloud, row.machine, row.region)
    if row.kind == "default_quota":
        machine = f"{row.machine.split('|')[0]}5.xlarge" if row.service == "ec2" else row.machine
        spot = "Spot" in row.item or "Preemptible" in row.item
        return default_quota(row.cloud, row.service, machine, spot=spot)
    if row.kind == "spot_price_ratio_median":
        return find_fact("spot_price_ratio", row.cloud, "any-1", machine=f"{row.machine}.xlarge")
    if row.kind == "startup_to_ready":
        return find_fact("startup_to_running", row.cloud, service=row.service)
    keys = ("service", "machine", "item")
    about = {key: getattr(row, key) for key in keys if f"{{{key}}}" in KINDS[row.kind].subject}
    return find_fact(row.kind, row.cloud, row.region, **about)  # type: ignore[call-overload]


def test_no_row_is_lost() -> None:
    """1,550 rows, so many of each kind."""
    assert Counter(row.kind for row in all_facts()) == COUNTS
    assert sum(COUNTS.values()) == 1550
    assert list(KINDS) == list(COUNTS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_within_reach_of_a_lookup(kind: str) -> None:
    """The lookup of each row's own keys returns it, as used or as not used."""
    for row in all_facts():
        if row.kind == kind:
            answer = look_up(row)
            assert isinstance(answer, Answer), row
            assert any(row is fact for fact in (*answer.rows, *answer.unused)), row


def test_every_unmarked_row_is_used() -> None:
    """No row without a mark stands back behind another one."""
    for row in all_facts():
        answer = look_up(row)
        assert isinstance(answer, Answer)
        assert row.weak or any(row is fact for fact in answer.rows), row


def test_values_have_the_form_of_their_kind() -> None:
    """Words where the answer is in words, a tier where it has tiers, a number elsewhere; no kind has two forms."""
    worded = {"spot_interruption_band", *get_args(facts.StatementKind)}
    numbers = (facts.AmountKind, facts.TierKind, facts.SpanKind, facts.DiskKind)
    names = [name for group in numbers for name in get_args(group)]
    assert sorted([*names, *worded, "default_quota"]) == sorted(KINDS)
    for row in all_facts():
        assert bool(row.words) == (row.kind in worded), row
        assert row.kind in get_args(facts.TierKind) or not row.from_gb, row


def test_rows_are_unique() -> None:
    """Only the contradicted copy of Azure's storage price repeats the keys of another row."""
    keys = Counter(
        (row.kind, row.cloud, row.service, row.region, row.machine, row.item, row.from_gb)
        for row in all_facts()
        if row.weak != "contradicted"
    )
    assert set(keys.values()) == {1}


def test_services_are_those_of_the_price_book() -> None:
    """A fact about machines of a cloud that we read ourselves has a service that its prices have."""
    about_machines = {kind for kind in KINDS if kind.startswith(("billing", "spot", "startup", "quota"))}
    for row in all_facts():
        if row.cloud in CLOUDS and row.kind in about_machines:
            assert row.service in {service.name for service in CLOUDS[row.cloud].services}, row


def test_weak_rows_keep_their_mark() -> None:
    """So many rows of each mark, and each says why."""
    weak = Counter(row.weak for row in all_facts() if row.weak)
    assert weak == {
        "outdated": 15, "not_citable": 14, "derived": 5, "second_hand": 8, "unverified": 5, "contradicted": 26,
        "marketing": 4,
    }  # fmt: skip
    assert set(weak) == set(get_args(Weakness))
    assert all(row.weak_because for row in all_facts() if row.weak)


SOURCES = "id,source_class,title\nbook,catalogue,A book\n"
GOOD = dict(
    zip(
        FACT_COLUMNS,
        ["billing_step", "aws", "ec2", "*", "", "", "", "1", "s", "2026", "book", "", ""],
        strict=True,
    )
)


def read(**changed: str) -> tuple[Fact, ...]:
    row = ",".join(f'"{cell}"' for cell in {**GOOD, **changed}.values())
    return read_facts(f"{','.join(FACT_COLUMNS)}\n{row}\n", read_sources(SOURCES))


def test_a_good_row_is_read() -> None:
    (row,) = read()
    assert (row.value, row.unit, row.from_gb, row.weak, row.source.title) == (1.0, "s", None, None, "A book")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "billing"}, "column unit: 's' is no unit of the kind 'billing'"),
        ({"unit": "minute"}, "column unit: 'minute' is no unit"),
        ({"cloud": ""}, "column cloud: is empty"),
        ({"value": ""}, "column value: is empty"),
        ({"value": "soon"}, "column value: 'soon' is not a number"),
        ({"value": "nan"}, "column value: 'nan' is not a finite number"),
        ({"value": "-1"}, "column value: '-1' is not a finite number from 0 up"),
        ({"kind": "spot_savings", "unit": "share", "value": "-1.5"}, "from -1 up"),
        ({"kind": "spot_interruption_band", "unit": "band", "value": "often"}, "'often' is not one of <5%"),
        ({"from_gb": "x"}, "column from_gb: 'x' is not a number"),
        ({"as_of": "May 2026"}, "column as_of: 'May 2026' is not a date"),
        ({"source": "film"}, "column source: 'film' is no id"),
        ({"weak": "odd", "weak_because": "odd"}, "column weak: 'odd' is not one of contradicted"),
        ({"weak": "marketing"}, "column weak_because: is given with `weak`"),
        ({"weak_because": "who knows"}, "column weak_because: is given with `weak`"),
    ],
)
def test_a_bad_cell_is_named_with_line_and_column(changed: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=r"run_cost_facts\.csv line 2, column") as caught:
        read(**changed)
    assert message in str(caught.value)


def test_other_columns_are_refused() -> None:
    with pytest.raises(InputError, match="line 1: the columns must be kind,cloud"):
        read_facts("kind,cloud\n", {})
    with pytest.raises(InputError, match="line 2: 2 cells under 13 columns"):
        read_facts(f"{','.join(FACT_COLUMNS)}\na,b\n", {})
    with pytest.raises(InputError, match="the columns must be"):
        read_facts("", {})
    with pytest.raises(InputError, match=r"run_cost_facts\.csv line 2: unexpected end of data"):
        read_facts(f'{",".join(FACT_COLUMNS)}\n"a', {})


@pytest.mark.parametrize(
    "line", ["book,catalogue,Again", "film,hearsay,A film", "film,quote,", ",quote,A film"]
)
def test_a_bad_source_is_refused(line: str) -> None:
    with pytest.raises(InputError, match=r"run_cost_fact_sources\.csv line 3: needs a new id"):
        read_sources(f"{SOURCES}{line}\n")
    assert SOURCES.startswith(",".join(SOURCE_COLUMNS))
