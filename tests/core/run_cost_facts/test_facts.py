"""The table itself: whole, every row within reach of a lookup, and strictly read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, get_args

import pytest

from trainfare_core import run_cost_facts as facts
from trainfare_core.clouds import CLOUDS
from trainfare_core.errors import InputError
from trainfare_core.run_cost_facts import UNITS_OF_KIND, Answer, Fact, Weakness, all_facts
from trainfare_core.run_cost_facts.facts import FACT_COLUMNS, SOURCE_COLUMNS, read_facts, read_sources

COUNTS = {
    "egress_internet": 16, "egress_inter_region": 3, "egress_inter_zone": 1, "object_storage": 25,
    "object_storage_request": 4, "object_storage_retrieval": 1, "disk": 22, "local_ssd": 1, "billing_step": 8,
    "billing_minimum": 4, "warm_pool_max": 1, "managed_spot_discount": 1, "capacity_block_payment": 1,
    "capacity_block_start": 1, "spot_notice": 3, "spot_interruption_band": 626, "spot_savings": 623,
    "spot_preemption": 2, "spot_price_ratio": 109, "spot_price_ratio_median": 3, "spot_price_floor": 1,
    "spot_zones_at_on_demand_price": 3, "spot_zone_spread_median": 3, "spot_price_move_9_days": 1,
    "startup_to_running": 4, "startup_to_ready": 1, "default_quota": 5, "quota_vcpus": 1, "flex_start_price": 15,
    "flex_start_max_run": 1, "flex_start_price_change": 1,
}  # fmt: skip

LOOKUPS: Mapping[str, Callable[[Any], object]] = {
    "egress_internet": lambda row: facts.egress_price(row.cloud, row.region),
    "egress_inter_region": lambda row: facts.inter_region_usd_per_gb(row.cloud, row.region),
    "egress_inter_zone": lambda row: facts.inter_zone_usd_per_gb(row.cloud, row.region),
    "object_storage": lambda row: facts.object_storage_usd_per_gb_month(row.cloud, row.region, row.item),
    "object_storage_request": lambda row: facts.object_storage_request_usd(row.cloud, row.region, row.item),
    "object_storage_retrieval": lambda row: facts.object_storage_retrieval_usd_per_gb(row.cloud, row.region),
    "disk": lambda row: facts.disk_price(row.cloud, row.region, row.item),
    "local_ssd": lambda row: facts.local_ssd_usd_per_hour(row.cloud, row.machine, row.region),
    "billing_step": lambda row: facts.billing_step_s(row.cloud, row.service),
    "billing_minimum": lambda row: facts.billing_minimum_s(row.cloud, row.service),
    "warm_pool_max": lambda row: facts.warm_pool_max_s(row.cloud, row.service),
    "managed_spot_discount": lambda row: facts.managed_spot_discount(row.cloud, row.service),
    "capacity_block_payment": lambda row: facts.capacity_block_payment(row.cloud),
    "capacity_block_start": lambda row: facts.capacity_block_start_utc(row.cloud),
    "spot_notice": lambda row: facts.spot_notice_s(row.cloud, row.service),
    "spot_interruption_band": lambda row: facts.interruption_band(row.cloud, row.machine, row.region),
    "spot_savings": lambda row: facts.spot_savings(row.cloud, row.machine, row.region),
    "spot_preemption": lambda row: facts.spot_preemption_share_per_day(row.cloud, row.service),
    "spot_price_ratio": lambda row: facts.spot_price_ratio(row.cloud, row.machine, row.region),
    "spot_price_ratio_median": lambda row: facts.spot_price_ratio(
        row.cloud, f"{row.machine}.xlarge", "any-1"
    ),
    "spot_price_floor": lambda row: facts.spot_price_floor_ratio(row.cloud),
    "spot_zones_at_on_demand_price": lambda row: facts.spot_zones_at_on_demand_price(row.cloud, row.machine),
    "spot_zone_spread_median": lambda row: facts.spot_zone_spread_ratio(row.cloud, row.machine),
    "spot_price_move_9_days": lambda row: facts.spot_price_move_in_9_days(row.cloud, row.machine),
    "startup_to_running": lambda row: facts.startup_s(row.cloud, row.service),
    "startup_to_ready": lambda row: facts.startup_s(row.cloud, row.service),
    "default_quota": lambda row: facts.default_quota(
        row.cloud,
        row.service,
        f"{row.machine.split('|')[0]}5.xlarge" if row.service == "ec2" else row.machine,
        spot="Spot" in row.item or "Preemptible" in row.item,
    ),
    "quota_vcpus": lambda row: facts.quota_vcpus(row.cloud, row.machine),
    "flex_start_price": lambda row: facts.flex_start_price(row.cloud, row.machine, row.region),
    "flex_start_max_run": lambda row: facts.flex_start_max_run_s(row.cloud, row.service),
    "flex_start_price_change": lambda row: facts.flex_start_price_change(row.cloud),
}


def test_no_row_is_lost() -> None:
    """1,491 rows, so many of each kind."""
    assert Counter(row.kind for row in all_facts()) == COUNTS
    assert sum(COUNTS.values()) == 1491
    assert list(UNITS_OF_KIND) == list(COUNTS)


@pytest.mark.parametrize("kind", UNITS_OF_KIND)
def test_every_row_is_within_reach_of_a_lookup(kind: str) -> None:
    """The lookup of each row's own keys returns it, as used or as not used."""
    for row in all_facts():
        if row.kind == kind:
            answer = LOOKUPS[kind](row)
            assert isinstance(answer, Answer), row
            assert any(row is one for one in (*answer.rows, *answer.unused)), row


def test_every_unmarked_row_is_used() -> None:
    """No row without a mark stands back behind another one."""
    for row in all_facts():
        answer = LOOKUPS[row.kind](row)
        assert isinstance(answer, Answer)
        assert row.weak or any(row is one for one in answer.rows), row


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
    about_machines = {
        kind for kind in UNITS_OF_KIND if kind.startswith(("billing", "spot", "startup", "quota"))
    }
    for row in all_facts():
        if row.cloud in CLOUDS and row.kind in about_machines:
            assert row.service in {service.name for service in CLOUDS[row.cloud].services}, row


def test_weak_rows_keep_their_mark() -> None:
    """So many rows of each mark, and each says why."""
    weak = Counter(row.weak for row in all_facts() if row.weak)
    assert weak == {
        "outdated": 15, "not_citable": 16, "derived": 5, "second_hand": 7, "unverified": 5, "contradicted": 4,
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
