"""What clouds write beside the letter of FOCUS 1.2, and lines of AWS's CUR that are no usage."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from builders.bills import RUN, bill_files, cur_line, focus_line, write_csv
from trainfare_core.bills.reconciliation import BilledRun, BillReconciliation, reconcile_bill
from trainfare_core.bills.sums import add_lines, merge_sums
from trainfare_core.errors import InputError

SHAPES = f"""\
"BilledCost","BillingAccountId","BillingCurrency","BillingPeriodStart","ChargeCategory","ChargeClass",\
"CommitmentDiscountStatus","ConsumedQuantity","ConsumedUnit","ContractedCost","EffectiveCost","ListCost",\
"PricingCategory","ProviderName","ResourceId","ServiceName","Tags"
2.50000000000,"1","USD","2026-09-01 00:00:00","Usage",NULL,NULL,1.000000000000000,"Hours",2.50000000000,\
2.50000000000,2.50000000000,"Standard","AWS","i-1","Compute","{{""team"": ""a"", ""trainfare-prediction"": ""{RUN}""}}"
0.00000080000,"1","USD","2026-09-01 00:00:00","Usage",NULL,NULL,2.000000000000000,"Requests",0.00000000000,\
0.00000000000,0.00000080000,"Standard","AWS",NULL,"Queue",NULL
0.00000000000,"1","USD","2026-09-01 00:00:00","Usage",NULL,"Used",1.000000000000000,"Hours",3.00000000000,\
1.50000000000,4.00000000000,"Committed","AWS","i-1","Compute","{{""trainfare-prediction"": ""{RUN}""}}"
-2.00000000000,"1","USD","2026-09-01 00:00:00","Credit",NULL,NULL,NULL,NULL,-3.00000000000,-3.00000000000,\
-2.00000000000,"Other","AWS",NULL,"Compute",NULL
0.01200000000,"2","USD","2026-09-01 00:00:00","Usage",NULL,NULL,8.000000000000000,"GB Hours",NULL,0.00000000000,\
0.01200000000,"","Oracle","ocid6","COMPUTE","{{""trainfare-prediction"": ""{"b" * 12}""}}"
0.50000000000,"2","USD","2026-09-01 00:00:00","Adjustment",NULL,"NULL",0.000000000000000,"GB Months",NULL,\
0.00000000000,0.00000000000,"","Oracle","","NETWORK","NULL"
"""
"""Lines of our own, of each shape of the sample data of the FinOps Foundation: NULL without quotes, empty fields with."""


def reconcile(folder: Path, *lines: dict[str, Any]) -> BillReconciliation:
    return reconcile_bill(bill_files(write_csv(folder / "bill.csv", lines)), {})


def only(answer: BillReconciliation) -> BilledRun:
    (run,) = answer.runs
    return run


def costs(run: BilledRun) -> tuple[float | None, ...]:
    return run.list_cost, run.contracted_cost, run.effective_cost, run.billed_cost, run.adjusted_cost


def test_shapes_of_the_sample_data(tmp_path: Path) -> None:
    """NULL is no text, what one line does not say is not known, and each line counts once."""
    (tmp_path / "bill.csv").write_text(SHAPES)
    answer = reconcile_bill(bill_files(tmp_path / "bill.csv"), {})
    assert [(run.prediction_id, *costs(run)) for run in answer.runs] == [
        (RUN, 6.5, 5.5, 4.0, 2.5, 0.0),
        ("b" * 12, 0.012, None, 0.0, 0.012, 0.0),
    ]
    assert [(row.service, row.billed_cost, row.adjusted_cost) for row in answer.unmatched] == [
        ("Queue", 1e-6, 0.0),
        ("Compute", 0.0, -2.0),
        ("NETWORK", 0.0, 0.5),
    ]


@pytest.mark.parametrize("word", ["", "NULL"])
@pytest.mark.parametrize("build", [focus_line, cur_line])
def test_every_field_in_quotes(tmp_path: Path, build: Any, word: str) -> None:
    """An empty amount, or one that says NULL, is none, also in quotes."""
    line = {
        name: json.dumps(value) if isinstance(value, dict) else value or word
        for name, value in build("3.5", run=RUN).items()
    }
    other = line | {name: word for name in line if name.lower().endswith("cost")}
    pl.DataFrame([line, other]).write_csv(tmp_path / "bill.csv", quote_style="always")
    run = only(reconcile_bill(bill_files(tmp_path / "bill.csv"), {}))
    assert (run.lines, run.billed_cost) == (2, None)
    pl.DataFrame([line, line]).write_csv(tmp_path / "bill.csv", quote_style="always")
    assert only(reconcile_bill(bill_files(tmp_path / "bill.csv"), {})).billed_cost == 7.0


def google_line(cost: str, *given: tuple[str, str], **other: Any) -> dict[str, Any]:
    """Return a line as Google's view of 2024-03-19 has it: words in lower case, costs before credits."""
    credits_given = [
        {"Name": "n", "Amount": amount, "FullName": "n", "Id": "1", "Type": kind} for amount, kind in given
    ]
    line = focus_line(cost, run=RUN, ListCost="10", ServiceName="Compute Engine", SkuPriceDetails=None)
    return line | {"ChargeCategory": "usage", "x_Credits": json.dumps(credits_given)} | other


GOOGLE: dict[str, tuple[dict[str, Any], tuple[float | None, ...]]] = {
    "usage": (google_line("8"), (10, 8, 8, 8, 0)),
    "adjustment": (google_line("8", ChargeCategory="adjustment"), (0, 0, 0, 0, 8)),
    "correction": (google_line("8", ChargeClass="correction"), (0, 0, 0, 0, 8)),
    "error": (google_line("8", ChargeCategory="error"), (10, 8, 8, 8, 0)),
    "sustained use": (google_line("8", ("-2", "SUSTAINED_USAGE_DISCOUNT")), (10, 8, 6, 6, 0)),
    "promotion": (google_line("8", ("-5", "PROMOTION"), ("-1", "DISCOUNT")), (10, 8, 7, 7, -5)),
    "commitment": (google_line("8", ("-8", "COMMITTED_USAGE_DISCOUNT")), (10, 8, None, 0, 0)),
    "after credits": (
        google_line("8", ("-5", "PROMOTION"), ("-1", "DISCOUNT"), BilledCost="2", EffectiveCost="2"),
        (10, 8, 7, 7, -5),
    ),
    "null": (google_line("8", x_Credits=None), (10, 8, 8, 8, 0)),
}
NOTES = {
    "error": "1 line: a ChargeCategory that FOCUS does not name: counted as charges",
    "commitment": "1 line: paid by a commitment whose fee is on other lines: effective is not known, billed is without the fee",
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", GOOGLE)
def test_google_view_as_published(tmp_path: Path, name: str, kind: str) -> None:
    """Discounts of the line lower it, promotions are adjusted, and what a commitment pays is not known of the line."""
    line, expected = GOOGLE[name]
    if kind == "csv":
        answer = reconcile(tmp_path, line)
    else:
        given = json.loads(line["x_Credits"]) if line["x_Credits"] else None
        fields = dict.fromkeys(("Name", "Amount", "FullName", "Id", "Type"), pl.String) | {
            "Amount": pl.Decimal(38, 9)
        }
        of_line = pl.Series([given], dtype=pl.List(pl.Struct(dict.fromkeys(fields, pl.String))))
        frame = pl.DataFrame([line]).with_columns(x_Credits=of_line.cast(pl.List(pl.Struct(fields))))
        frame.write_parquet(tmp_path / "bill.parquet")
        answer = reconcile_bill(bill_files(tmp_path / "bill.parquet"), {})
    assert costs(only(answer)) == expected
    assert answer.notes == ((NOTES[name],) if name in NOTES else ())


def azure_line(kind: str, **other: Any) -> dict[str, Any]:
    """Return an hour of a machine in Azure's preview of FOCUS 1.2, which has no SkuPriceDetails."""
    line = focus_line(
        "5", run=RUN, x_SkuDetails=json.dumps({"UsageType": kind, "ServiceType": "Standard_NC24"})
    )
    return line | {"SkuPriceDetails": None} | other


def test_zero_of_azure_that_means_not_stated(tmp_path: Path) -> None:
    """A reservation's list and contracted cost, and a list cost of the marketplace; a free line costs 0."""
    used = {"CommitmentDiscountStatus": "Used", "BilledCost": "0"}
    answer = reconcile(tmp_path, azure_line("ComputeHR", ListCost="0", ContractedCost="0", **used))
    assert costs(only(answer)) == (None, None, 5, 0, 0)
    assert answer.notes == ("1 line: 0 as list or contracted cost of usage that cost something: not known",)
    assert costs(only(reconcile(tmp_path, azure_line("ComputeHR", ListCost="0")))) == (None, 5, 5, 5, 0)
    assert costs(only(reconcile(tmp_path, focus_line("0", run=RUN)))) == (0, 0, 0, 0, 0)


def test_machine_hours_of_azure(tmp_path: Path) -> None:
    """In `x_SkuDetails`, or `SkuPriceDetails` with a prefix; software of a machine is no hour of its own."""
    toolkit = json.dumps({"x_UsageType": "ComputeHR", "x_ServiceType": "Standard_NC24"})
    lines = azure_line("ComputeHR"), azure_line("ComputeHR_SW"), azure_line("", SkuPriceDetails=toolkit)
    assert only(reconcile(tmp_path, *lines)).machine_hours == 2


def test_lines_of_cur_that_are_no_usage_have_no_public_price(tmp_path: Path) -> None:
    """Discounts lower contracted, effective and billed; a tax is billed; a plan's fee is in the hours that it covers."""
    kinds = {
        "Usage": "10",
        "EdpDiscount": "-1",
        "PrivateRateDiscount": "-2",
        "BundledDiscount": "-0.5",
        "Tax": "1.9",
    }
    lines = [cur_line(cost, run=RUN, line_item_line_item_type=kind) for kind, cost in kinds.items()]
    assert costs(only(reconcile(tmp_path, *lines))) == (10, 8.4, 8.4, 8.4, 0)
    fee = cur_line("7", run=RUN, line_item_line_item_type="SavingsPlanRecurringFee")
    assert costs(only(reconcile(tmp_path, lines[0], fee))) == (10, 10, None, 17, 0)


def test_purchase_is_in_what_it_covers(tmp_path: Path) -> None:
    """A purchase of 100 and the usage of 150 that it covers are 150 at list prices, once."""
    bought = focus_line("100", run=RUN, ChargeCategory="Purchase", EffectiveCost="0", SkuPriceDetails=None)
    covered = focus_line("0", run=RUN, ListCost="150", ContractedCost="100", EffectiveCost="100")
    assert costs(only(reconcile(tmp_path, bought, covered))) == (150, 100, 100, 100, 0)


@pytest.mark.parametrize(
    ("line", "column"),
    [
        (focus_line("1e308"), "BilledCost, EffectiveCost, ListCost, ContractedCost"),
        (focus_line("1", run=RUN, ConsumedQuantity="1e300"), "hours"),
        (google_line("1", ("1e200", "PROMOTION")), "x_Credits"),
        (google_line("1", ("much", "PROMOTION")), "x_Credits"),
        (cur_line("1", line_item_usage_amount="inf"), "line_item_usage_amount"),
    ],
)
def test_amounts_that_no_bill_has_are_refused(tmp_path: Path, line: dict[str, Any], column: str) -> None:
    """Their digits would fill the table, and two of them add up to infinity."""
    with pytest.raises(InputError, match=rf"bill.csv: {column}: a value is not a number below 1e\+15"):
        reconcile(tmp_path, line, line)


def test_month_of_an_account_in_two_files_is_said(tmp_path: Path) -> None:
    """Two versions of one month would count twice; two parts of a folder do not say so."""
    month = {"BillingPeriodStart": "2026-10-01T00:00:00Z", "BillingAccountId": "7"}
    files = bill_files(*(write_csv(tmp_path / f"{name}.csv", [focus_line(name, **month)]) for name in "12"))
    (note, _) = reconcile_bill(files, {}).notes
    assert note == (
        f"2026-10 of account 7 is in {files[0].name} and {files[1].name}: its lines count twice if these are two "
        "versions, not parts, of one export"
    )


def test_sums_do_not_grow_with_files(tmp_path: Path) -> None:
    """What is held of twelve months is a row for each run and service, as of one."""
    months = [f"2026-{month:02d}-01" for month in range(1, 13)]
    lines = [focus_line("1", run=RUN, BillingPeriodStart=month, BillingAccountId="7") for month in months]
    _, sums, _ = add_lines(bill_files(write_csv(tmp_path / "bill.csv", lines))[0])
    merged = merge_sums(sums)
    assert (sums.height, merged.height, merged["billed"].item()) == (12, 1, 12.0)


def test_copy_in_another_compression_is_said(tmp_path: Path) -> None:
    """Its bytes differ, its sums do not; so too of two objects, whose bytes are not compared."""
    line = focus_line("1", run=RUN)
    one, copy = write_csv(tmp_path / "a.csv", [line, line]), tmp_path / "b.csv.gz"
    copy.write_bytes(gzip.compress(one.read_bytes()))
    answer = reconcile_bill(bill_files(one, copy), {})
    assert answer.notes == (f"{copy} has the same sums as {one}: is one a copy of the other?",)
    other = write_csv(tmp_path / "c.csv", [line, focus_line("1.01", run=RUN)])
    assert reconcile_bill(bill_files(one, other), {}).notes == ()
