"""Runs on a bill: every line counts once, and what is not known is not zero."""

from __future__ import annotations

import gzip
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builders.bills import RUN, bill_files, cur_line, focus_line, write_csv, write_parquet
from trainfare_core.bills.reconciliation import BilledRun, BillReconciliation, reconcile_bill
from trainfare_core.documents import Interval
from trainfare_core.errors import InputError

Write = Callable[[Path, Sequence[dict[str, Any]]], Path]
WRITERS: dict[str, Write] = {"bill.csv": write_csv, "bill.parquet": write_parquet}


def reconcile(folder: Path, lines: Sequence[dict[str, Any]], name: str = "bill.csv") -> BillReconciliation:
    return reconcile_bill(bill_files(WRITERS[name](folder / name, lines)), {})


def only(answer: BillReconciliation) -> BilledRun:
    (run,) = answer.runs
    return run


def draw_lines(seed: int) -> list[dict[str, Any]]:
    """Return a bill of four runs, two currencies, credits, corrections and lines without a run."""
    chance = random.Random(seed)
    lines: list[dict[str, Any]] = []
    for _ in range(400):
        category = chance.choice(["Usage"] * 6 + ["Tax", "Purchase", "Credit", "Adjustment"])
        amount = Decimal(chance.randrange(-50_000 if category == "Credit" else 1, 900_000)) / 10_000
        lines.append(
            focus_line(
                str(amount),
                run=chance.choice([None, "a" * 12, "b" * 12, "c" * 12, "d" * 12]),
                BillingCurrency=chance.choice(["USD", "EUR"]),
                ChargeCategory=category,
                ChargeClass=chance.choice([None] * 9 + ["Correction"]),
                ServiceName=chance.choice(["Compute Engine", "Storage"]),
                EffectiveCost=str(amount / 2),
            )
        )
    return lines


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("seed", range(5))
def test_sums_agree_to_the_cent_with_sums_of_decimals(tmp_path: Path, name: str, seed: int) -> None:
    """Billed, effective and adjusted of each run, and what has no tag, are those that decimals add up to."""
    lines = draw_lines(seed)
    sums: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for line in lines:
        run = next((part for part in ("a", "b", "c", "d") if part * 12 in line["Tags"]), "")
        is_adjusted = line["ChargeCategory"] in ("Credit", "Adjustment") or line["ChargeClass"] is not None
        place = (run * 12, line["BillingCurrency"]) if run else (line["ServiceName"], line["BillingCurrency"])
        sums[(*place, "adjusted" if is_adjusted else "billed")] += Decimal(line["BilledCost"])
        if not is_adjusted:
            sums[(*place, "effective")] += Decimal(line["EffectiveCost"])

    answer = reconcile(tmp_path, lines, name)

    assert len(answer.runs) == 8
    counted = [run.lines for run in answer.runs] + [service.lines for service in answer.unmatched]
    assert sum(counted) == len(lines)
    shown = {
        (run.prediction_id, run.currency, kind): cost
        for run in answer.runs
        for kind, cost in (
            ("billed", run.billed_cost),
            ("effective", run.effective_cost),
            ("adjusted", run.adjusted_cost),
        )
    }
    for service in answer.unmatched:
        shown[service.service, service.currency, "billed"] = service.billed_cost
        shown[service.service, service.currency, "adjusted"] = service.adjusted_cost
    expected = {
        place: pytest.approx(float(total), abs=1e-6) for place, total in sums.items() if place in shown
    }
    assert {place: cost for place, cost in shown.items() if cost or place in sums} == expected


def test_each_column_is_its_own_cost(tmp_path: Path) -> None:
    """A machine of a savings plan: list 10, contracted 9, effective 6, and nothing billed for the hour itself."""
    line = focus_line("0", run=RUN, ListCost="10", ContractedCost="9", EffectiveCost="6")
    run = only(reconcile(tmp_path, [line, line]))
    assert (run.list_cost, run.contracted_cost, run.effective_cost, run.billed_cost) == (20, 18, 12, 0)
    assert (run.adjusted_cost, run.machine_hours, run.lines) == (0, 2, 2)


def test_hours_are_those_of_machines(tmp_path: Path) -> None:
    """Seconds count as such; hours of an address, and gigabytes of a disk, are no machine's hours."""
    lines = [
        focus_line("1", run=RUN, ConsumedQuantity="1800", ConsumedUnit="Seconds"),
        focus_line("1", run=RUN, SkuPriceDetails=None),
        focus_line("1", run=RUN, ConsumedUnit="GB-Months"),
    ]
    assert only(reconcile(tmp_path, lines)).machine_hours == 0.5
    assert only(reconcile(tmp_path, lines[1:])).machine_hours is None


def test_later_correction_counts_in_its_run(tmp_path: Path) -> None:
    """By its tag, or by its resource where it has none; beside the charge, in a file of the next month."""
    machine, other = {"ResourceId": "i-1"}, {"ResourceId": "i-2"}
    first = write_csv(
        tmp_path / "may.csv",
        [
            focus_line("100", run=RUN, **machine),
            focus_line("40", run=RUN, **other),
            focus_line("7", run="b" * 12, **other),
        ],
    )
    second = write_csv(
        tmp_path / "june.csv",
        [
            focus_line("-10", run=RUN, ChargeClass="Correction"),
            focus_line("-3", ChargeClass="Correction", **machine),
            focus_line("-2", ChargeCategory="Credit", **other),
            focus_line("5", **machine),
        ],
    )
    answer = reconcile_bill(bill_files(first, second), {})
    run = answer.runs[0]
    assert (run.billed_cost, run.adjusted_cost, run.lines_by_resource) == (140, -13, 1)
    (rest,) = answer.unmatched
    assert (rest.billed_cost, rest.adjusted_cost) == (
        5,
        -2,
    )  # i-2 had two runs; a charge is matched by tag only


def test_two_currencies_are_two_lines(tmp_path: Path) -> None:
    """They are never added, and the estimate stays in dollars."""
    file = write_csv(
        tmp_path / "bill.csv", [focus_line("1", run=RUN), focus_line("2", run=RUN, BillingCurrency="EUR")]
    )
    estimate = Interval(mid=3.0, low_80=2.0, high_80=4.0)
    runs = reconcile_bill(bill_files(file), {RUN: estimate, "b" * 12: estimate}).runs
    assert [(run.currency, run.billed_cost, run.estimate_usd) for run in runs] == [
        ("EUR", 2, estimate),
        ("USD", 1, estimate),
    ]


@pytest.mark.parametrize(
    "tags",
    [
        f'{{"trainfare-prediction": "{RUN}"}}',
        f'{{"a": 1, "resourceTags/trainfare-prediction":"{RUN}", "b": "c"}}',
        f'[{{"key": "team", "value": "x"}}, {{"key": "trainfare-prediction", "value": "{RUN}"}}]',
        f'{{"user:trainfare-prediction" : "{RUN}"}}',
    ],
)
def test_tag_is_found_in_text(tmp_path: Path, tags: str) -> None:
    """FOCUS's keys and values, AWS's prefixes, and the pairs of Google's labels."""
    assert only(reconcile(tmp_path, [focus_line("1") | {"Tags": tags}])).prediction_id == RUN


@pytest.mark.parametrize(
    "tags",
    [
        '{"note": "trainfare-prediction"}',
        '{"trainfare-prediction": ""}',
        '{"trainfare-prediction": null}',
        '{"note": "trainfare-prediction", "value": "x"}',
        '{"my-trainfare-prediction": "x"}',
        '{"trainfare-prediction-old": "x"}',
        '{"note": "\\"trainfare-prediction\\": \\"x\\""}',
        "trainfare-prediction: x",
        None,
    ],
)
def test_other_tags_are_no_run(tmp_path: Path, tags: str | None) -> None:
    """A value, a similar key or an empty tag is none."""
    answer = reconcile(tmp_path, [focus_line("1") | {"Tags": tags}])
    assert not answer.runs
    assert "no line carries the tag trainfare-prediction" in answer.notes[0]


@pytest.mark.parametrize("kind", ["struct", "map"])
def test_tag_is_found_in_other_types_of_parquet(tmp_path: Path, kind: str) -> None:
    """A struct with a field for each key, and the map type of newer polars."""
    if kind == "map" and not hasattr(pl, "Map"):
        pytest.skip("this polars has no map")
    values = [{"user_trainfare_prediction": RUN}, None]
    dtype = pl.Map(pl.String(), pl.String()) if kind == "map" else None
    frame = pl.DataFrame([cur_line("1"), cur_line("2")]).drop("resource_tags")
    file = tmp_path / "bill.parquet"
    frame.with_columns(pl.Series("resource_tags", values, dtype=dtype)).write_parquet(file)
    assert only(reconcile_bill(bill_files(file), {})).billed_cost == 1


@pytest.mark.parametrize("name", WRITERS)
def test_cost_and_usage_report(tmp_path: Path, name: str) -> None:
    """
    A savings plan's hour costs its effective cost, and its negation takes the billed cost back.

    Amortized cost by kind of line: the queries of AWS's Cloud Intelligence Dashboards.
    """
    kind = "line_item_line_item_type"
    lines = [
        cur_line("10", run=RUN),
        cur_line(
            "10",
            run=RUN,
            **{kind: "SavingsPlanCoveredUsage", "savings_plan_savings_plan_effective_cost": "6"},
        ),
        cur_line("-10", run=RUN, **{kind: "SavingsPlanNegation", "product_instance_type": ""}),
        cur_line("-1.5", run=RUN, **{kind: "Credit", "product_instance_type": ""}),
        cur_line("-0.25", run=RUN, **{kind: "Refund", "product_instance_type": ""}),
        cur_line("99"),
    ]
    answer = reconcile(tmp_path, lines, name)
    run = only(answer)
    assert answer.bill_format == "CUR 2.0"
    assert (run.list_cost, run.contracted_cost, run.effective_cost, run.billed_cost) == (20, 20, 16, 10)
    assert (run.adjusted_cost, run.machine_hours) == (-1.75, 2)
    assert answer.unmatched[0].billed_cost == 99


def test_costs_that_a_line_does_not_say_are_not_known(tmp_path: Path) -> None:
    """A reservation has no contracted cost in CUR, and AWS's price list no public price of spot machines."""
    lines = [
        cur_line("10", run=RUN, pricing_public_on_demand_cost=None),
        cur_line("0", run=RUN, line_item_line_item_type="DiscountedUsage", reservation_effective_cost="4"),
    ]
    run = only(reconcile(tmp_path, lines))
    assert (run.list_cost, run.contracted_cost, run.effective_cost, run.billed_cost) == (None, None, 14, 10)


def test_discounts_of_the_account_are_in_the_net_cost(tmp_path: Path) -> None:
    """Only accounts with discounts have that column."""
    run = only(reconcile(tmp_path, [cur_line("10", run=RUN, line_item_net_unblended_cost="8.5")]))
    assert (run.list_cost, run.contracted_cost, run.billed_cost) == (10, 8.5, 8.5)


@pytest.mark.parametrize("names", [("EffectiveCost",), ("BilledCost", "ChargeClass", "BillingCurrency")])
def test_missing_columns_are_named(tmp_path: Path, names: tuple[str, ...]) -> None:
    """A mandatory column that is not there."""
    line = focus_line("1")
    for name in names:
        del line[name]
    with pytest.raises(
        InputError,
        match=f"of FOCUS 1.2 it lacks {', '.join(sorted(names, key=list(focus_line('1')).index))}$",
    ):
        reconcile(tmp_path, [line])


def test_bill_without_tags_says_so(tmp_path: Path) -> None:
    """Its money is all without a tag."""
    line = focus_line("1")
    del line["Tags"]
    answer = reconcile(tmp_path, [line])
    assert (answer.runs, answer.unmatched[0].billed_cost) == ((), 1)
    assert answer.notes[0] == "bill.csv has no column of tags (Tags): no run can be found"


def test_unusable_files_are_named(tmp_path: Path) -> None:
    """No bill, no such file, damaged, another format beside the first, and text where a number belongs."""
    focus, cur = write_csv(tmp_path / "a.csv", [focus_line("1")]), tmp_path / "b.csv"
    write_csv(cur, [cur_line("1")])
    damaged = tmp_path / "c.parquet"
    damaged.write_bytes(b"PAR1 and nothing else PAR1")
    words = write_csv(tmp_path / "d.csv", [focus_line("1"), focus_line("1,5"), focus_line("nan")])
    for files, problem in (
        ([tmp_path / "no.csv"], "no.csv: there is no such file"),
        ([tmp_path / "no.xlsx"], "no.xlsx: name a .parquet, .csv or .csv.gz file"),
        ([damaged], "c.parquet: it cannot be read"),
        ([focus, cur], "the files have different formats"),
        ([words], "d.csv: BilledCost, EffectiveCost, ListCost, ContractedCost: a value is not a number"),
    ):
        with pytest.raises(InputError) as error:
            reconcile_bill(bill_files(*files), {})
        assert problem in str(error.value)


def test_compressed_csv_is_read(tmp_path: Path) -> None:
    """AWS writes its CSV so; a byte order mark is no part of a name."""
    text = write_csv(tmp_path / "bill.csv", [focus_line("2.5", run=RUN)]).read_bytes()
    file = tmp_path / "bill.csv.gz"
    file.write_bytes(gzip.compress(b"\xef\xbb\xbf" + text))
    assert only(reconcile_bill(bill_files(file), {})).billed_cost == 2.5


def test_decimals_of_parquet_are_numbers(tmp_path: Path) -> None:
    """Azure writes decimals."""
    costs = [name for name in focus_line("1") if name.endswith("Cost")]
    frame = pl.DataFrame([focus_line("0.1", run=RUN)] * 3).with_columns(
        pl.col(costs).cast(pl.Decimal(38, 18))
    )
    frame.write_parquet(tmp_path / "bill.parquet")
    assert only(reconcile_bill(bill_files(tmp_path / "bill.parquet"), {})).billed_cost == 0.3


def test_the_lines_of_two_predictions_of_a_resumed_run_are_added(tmp_path: Path) -> None:
    """$5 under the first, with a correction that only its resource names, and $7 under the last: $12 of one run."""
    first, last = "1" * 12, "2" * 12
    lines = [focus_line("5", run=first, ResourceId="i-1"), focus_line("7", run=last, ResourceId="i-2")]
    lines.append(focus_line("-1", ResourceId="i-1", ChargeClass="Correction"))
    bill = write_csv(tmp_path / "bill.csv", lines)
    estimates = {name: Interval(mid=mid, low_80=1, high_80=99) for name, mid in ((first, 10), (last, 11))}
    run = only(reconcile_bill(bill_files(bill), estimates, {first: last, last: last}))
    assert (run.prediction_id, run.billed_cost, run.adjusted_cost) == (last, 12.0, -1.0)
    assert run.estimate_usd == estimates[last]
