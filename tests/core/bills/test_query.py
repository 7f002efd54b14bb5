"""The printed queries: sqlglot parses each in its dialect, and DuckDB runs it to the table of the Polars path."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import sqlglot

from builders.bills import RUN, bill_files, cur_line, focus_line
from trainfare_core.bills.query import Engine, write_query
from trainfare_core.bills.reconciliation import reconcile_bill
from trainfare_core.bills.sums import KEYS, SUMS
from trainfare_core.errors import InputError

MONTHS = ("2026-08", "2026-09", "2026-10")
COSTS = ("list", "contracted", "effective", "billed")


def draw_cur(index: int) -> dict[str, Any]:
    kinds = (
        "Usage", "SavingsPlanCoveredUsage", "SavingsPlanNegation", "DiscountedUsage", "Credit", "Refund", "Tax",
        "EdpDiscount", "SavingsPlanRecurringFee", "RIFee", "Fee", None,
    )  # fmt: skip
    return cur_line(
        str(index / 8),
        run=(RUN, None, "b" * 12)[index % 3] if index % 7 else "",
        line_item_line_item_type=kinds[index % len(kinds)],
        line_item_resource_id=f"i-{index % 5}",
        line_item_net_unblended_cost=None if index % 4 else str(index / 16),
        savings_plan_net_savings_plan_effective_cost=None if index % 5 else "0.25",
        reservation_net_effective_cost=None,
        reservation_effective_cost="0.75",
        product_instance_type=("p5.48xlarge", "", None)[index % 3],
        pricing_unit=("Hrs", "Seconds", "GB-Mo")[index // 3 % 3],
        pricing_public_on_demand_cost=None if index % 11 == 0 else str(index),
        bill_billing_period_start_date=f"{MONTHS[index % 2 + 1]}-01 00:00:00.000",
        bill_payer_account_id="7",
        billing_period=MONTHS[index % 2 + 1],
    )


def draw_focus(index: int) -> dict[str, Any]:
    categories = ("Usage", "usage", "Purchase", "Tax", "Credit", "adjustment", "error", None)
    return focus_line(
        str(index / 8),
        ListCost=str(index % 3),
        ContractedCost=str(index / 8) if index % 5 else "0",
        EffectiveCost=None if index % 17 == 0 else str(index / 8),
        ChargeCategory=categories[index % len(categories)],
        ChargeClass=(None, None, "Correction")[index % 3],
        ResourceId=f"i-{index % 5}",
        ConsumedUnit=("Hours", "Minutes", "GB")[index % 3],
        BillingPeriodStart=f"{MONTHS[index % 2 + 1]}-01 00:00:00",
        BillingAccountId="7",
        billing_period=MONTHS[index % 2 + 1],
        Tags={"trainfare-prediction": RUN, "team": "a"} if index % 3 else {"team": "b"},
        SkuPriceDetails={"InstanceType": "p5.48xlarge"} if index % 4 else {},
    )


def draw_google(index: int) -> dict[str, Any]:
    kinds = ("PROMOTION", "DISCOUNT", "COMMITTED_USAGE_DISCOUNT", "SUSTAINED_USAGE_DISCOUNT", None)
    given = [
        {"Amount": -0.5 * (index % 4), "Type": kinds[index % 5]},
        {"Amount": -0.25, "Type": kinds[index // 5 % 2]},
    ]
    after = sum(credit["Amount"] for credit in given)
    line = draw_focus(index)
    tags = [{"key": key, "value": value} for key, value in line["Tags"].items()]
    billed = index / 8 if index % 2 else index / 8 + after
    return line | {
        "ContractedCost": str(index / 8), "BilledCost": str(billed), "EffectiveCost": str(billed),
        "Tags": tags, "SkuPriceDetails": None, "x_Credits": given if index % 6 else [],
    }  # fmt: skip


ENGINES: dict[Engine, tuple[Callable[[int], dict[str, Any]], str, dict[str, str]]] = {
    "athena": (draw_cur, "athena", {"resource_tags": "MAP(VARCHAR, VARCHAR)"}),
    "athena-focus": (
        draw_focus,
        "athena",
        {"Tags": "MAP(VARCHAR, VARCHAR)", "SkuPriceDetails": "MAP(VARCHAR, VARCHAR)"},
    ),
    "bigquery": (
        draw_google,
        "bigquery",
        {
            "Tags": "STRUCT(key VARCHAR, value VARCHAR)[]",
            "x_Credits": "STRUCT(Amount DOUBLE, Type VARCHAR)[]",
            "BillingPeriodStart": "TIMESTAMP",
        },
    ),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_result_is_the_table_of_the_same_rows(engine: Engine, tmp_path: Path) -> None:
    """480 lines of every kind: the result of the query, read as a bill, gives what the lines themselves give."""
    draw, dialect, types = ENGINES[engine]
    rows = [draw(index) for index in range(480)]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    kinds = json.dumps(dict.fromkeys(rows[0], "VARCHAR") | types).replace('"', "'")
    bill, result = tmp_path / "bill.parquet", tmp_path / "result.csv"
    with duckdb.connect() as engine_here:
        engine_here.execute(
            f"CREATE SCHEMA s; CREATE TABLE s.bill AS FROM read_json('{tmp_path}/rows.json', columns={kinds})"
        )
        engine_here.execute(f"COPY s.bill TO '{bill}' (FORMAT parquet)")
        (parsed,) = sqlglot.parse(write_query(engine, "s.bill", MONTHS[1]), dialect=dialect)
        assert parsed is not None
        engine_here.execute(
            f"COPY ({parsed.sql(dialect='duckdb')}) TO '{result}' (FORMAT csv, FORCE_QUOTE *)"
        )
        later = sqlglot.transpile(write_query(engine, "s.bill", MONTHS[2]), read=dialect, write="duckdb")[0]
        (lines,) = engine_here.execute(f"SELECT SUM(lines) FROM ({later})").fetchone() or ()
    of_lines, of_query = (reconcile_bill(bill_files(file), {}) for file in (bill, result))
    assert of_query == of_lines
    assert len(of_lines.runs) == (2 if engine == "athena" else 1)
    assert lines == 240  # a later month is bounded by the query
    table = pl.read_csv(result)
    assert set(table["period"]) == set(MONTHS[1:])
    assert reconcile_bill(bill_files(tmp_path / "result.csv"), {}).bill_format == of_lines.bill_format


@pytest.mark.parametrize("engine", ENGINES)
def test_bytes_are_bounded(engine: Engine) -> None:
    """The table is read once, by named columns and from a month on, and the engine's own limit is in a command."""
    query = write_query(engine, "s.bill", MONTHS[1])
    (parsed,) = sqlglot.parse(query, dialect=ENGINES[engine][1])
    assert parsed is not None
    (scan,) = [table.parent_select for table in parsed.find_all(sqlglot.exp.Table) if table.db]
    assert scan is not None
    assert not scan.is_star
    assert MONTHS[1] in str(scan.args["where"])
    assert {"bigquery": "--maximum_bytes_billed=1"}.get(engine, "BytesScannedCutoffPerQuery=1") in query


@pytest.mark.parametrize(
    ("table", "since"), [("a; DROP TABLE b", "2026-09"), ('a".b', "2026-09"), ("a.b", "2026-13")]
)
def test_names_that_no_table_has_are_refused(table: str, since: str) -> None:
    """The text goes into a query."""
    with pytest.raises(InputError, match=r"table a|month 2026-13"):
        write_query("athena", table, since)


@pytest.mark.parametrize(
    "change", [{"bill_format": "CUR 1"}, {"lines": ""}, {"billed": "1e300"}, {"billed": "much"}]
)
def test_damaged_result_is_refused(change: dict[str, str], tmp_path: Path) -> None:
    """A result that was edited is no bill."""
    row = (
        dict.fromkeys(KEYS, "x") | dict.fromkeys(SUMS, "1") | {"bill_format": "CUR 2.0", "adjusted": "false"}
    )
    pl.DataFrame([row | change]).write_csv(tmp_path / "result.csv")
    with pytest.raises(InputError, match=r"result\.csv: .*printed query"):
        reconcile_bill(bill_files(tmp_path / "result.csv"), {})
