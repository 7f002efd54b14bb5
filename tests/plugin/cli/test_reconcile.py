"""`trainfare reconcile` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.bills import RUN, focus_line, write_csv
from builders.cli import capture_main
from trainfare_core.bills.reconciliation import BillReconciliation
from trainfare_core.errors import InputError

LINES = [
    focus_line("1200.5", run=RUN, ListCost="2000", ResourceId="i-1"),
    focus_line("-20.25", ChargeClass="Correction", ResourceId="i-1"),
    focus_line("3", ServiceName="Amazon Simple Storage Service", BillingCurrency="EUR"),
    *(focus_line(str(index), ServiceName=f"Service {index}") for index in range(1, 11)),
]


def test_table_names_runs_and_what_has_no_tag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run with its costs; services without a tag by currency, most money first, the last ones added up."""
    bill = write_csv(tmp_path / "bill.csv", LINES)
    done = capture_main(capsys, "reconcile", bill)
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[2] == f"{RUN} not known 2,000.00 1,200.50 1,200.50 1,200.50 -20.25 1.00 USD"
    assert "without a run's tag: 3.00 EUR billed, 0.00 adjusted, in 1 line" in lines
    first = lines.index("without a run's tag: 55.00 USD billed, 0.00 adjusted, in 10 lines")
    assert lines[first + 1] == "Service 10: 10.00"
    assert lines[first + 9] == "2 other services: 3.00"
    assert lines[-1] == "note: adjustments without a tag that count in the run of their resource: 1"


def test_json_has_all_services(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the table adds up is told apart, and the same bill gives the same bytes."""
    bill = write_csv(tmp_path / "bill.csv", LINES)
    outs = [capture_main(capsys, "reconcile", bill, "--format", "json").stdout for _ in range(2)]
    assert outs[0] == outs[1]
    answer = BillReconciliation.model_validate_json(outs[0])
    assert len(answer.unmatched) == 11
    assert json.loads(outs[0])["schema_version"] == 1


def test_bill_that_cannot_be_used_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With exit code 2."""
    done = capture_main(capsys, "reconcile", tmp_path / "bill.csv")
    assert (done.exit_code, done.stdout) == (InputError.exit_code, "")
    assert done.stderr.endswith("bill.csv: there is no such file\n")


def test_ledger_that_is_no_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error is no empty ledger, for any command that takes one."""
    bill = write_csv(tmp_path / "bill.csv", LINES)
    for command in (("reconcile", bill), ("ledger", "list")):
        done = capture_main(capsys, *command, "--ledger", bill)
        assert (done.exit_code, done.stdout) == (InputError.exit_code, "")
        assert done.stderr.endswith("bill.csv: a ledger is a folder, and this is none\n")


def test_query_is_printed_and_nothing_is_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With its table and first month; without them, beside a bill, or with neither, a line says what to name."""
    named = ("reconcile", "--print-query", "bigquery", "--table", "p.d.focus", "--since", "2026-09")
    done = capture_main(capsys, *named)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "FROM `p`.`d`.`focus`\n      WHERE BillingPeriodStart >= TIMESTAMP('2026-09-01')" in done.stdout
    for words, problem in (
        (
            (*named, tmp_path),
            "--print-query reads no BILL; it takes --table DATABASE.TABLE and --since MONTH",
        ),
        (named[:-2], "--print-query reads no BILL; it takes --table DATABASE.TABLE and --since MONTH"),
        (("reconcile",), "name the files of a bill; `trainfare reconcile --help` says which"),
    ):
        done = capture_main(capsys, *words)
        assert (done.exit_code, done.stdout) == (InputError.exit_code, "")
        assert done.stderr.endswith(f"{problem}\n")
