"""The page of first-sight scores: a section a release, added once and never made again."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from trainfare_research.pages import first_sight

SECTIONS = {
    "Second tables, collected 2026-11-25": "5b3613c87edc122179cbd3534fc66bb23b5a8f762b66c7cfe7960ea697fcc3ab",
}
"""SHA-256 of every section of research/docs/accuracy-first-sight.md: one that is added gets its line here, and none is changed."""


def scores(**counts: int) -> dict[str, Any]:
    """Scores as a runner writes them; `counts` are rows by device."""
    fields = {"mape": 0.25, "median_ape": 0.2, "bias": -0.05, "coverage": {"50": 0.4, "80": 0.6, "90": 0.7}}
    by_device = {name: {**fields, "n": float(count)} for name, count in counts.items()}
    return {
        "overall": {**fields, "n": float(sum(counts.values()))},
        "by_device": by_device,
        "by_scope": {},
        "by_source": {},
        "by_family": {},
        "skipped": {"no description | of it": 7, **{f"reason {i:02}": 1 for i in range(14)}},
    }


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["first_sight", *arguments])
    first_sight.main()


def test_a_release_is_added_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two releases stand under each other; the same one again is refused and leaves the page as it was."""
    table, page = tmp_path / "steps.json", tmp_path / "page.md"
    table.write_text(json.dumps(scores(H100=12, L4=3)), encoding="utf-8")
    common = "--date", "2026-11-26", "--table", "step time", str(table), "--out", str(page)
    run(monkeypatch, "--release", "rows of one", *common)
    run(monkeypatch, "--release", "rows of two", *common)
    text = page.read_text(encoding="utf-8")
    assert text.count("# First-sight accuracy") == 1
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## rows of one",
        "## rows of two",
    ]
    with pytest.raises(SystemExit, match="not made twice"):
        run(monkeypatch, "--release", "rows of one", *common)
    assert page.read_text(encoding="utf-8") == text


def test_a_table_says_errors_coverage_and_what_is_not_answered() -> None:
    """Groups of few rows are left to the total, reasons are counted, and a pipe breaks no table."""
    text = first_sight.section("r", "2026-11-26", [("step time", scores(H100=12, L4=3))])
    assert "15 rows answered, 21 not." in text
    assert "| **all** | 15 | 25.0 % | 20.0 % | -5.0 % | 40 % | 60 % | 70 % |" in text
    assert "| device: H100 | 12 |" in text
    assert "L4" not in text
    assert "| no description / of it | 7 |" in text
    assert "| 3 other reasons | 3 |" in text


def test_no_section_of_the_page_was_changed() -> None:
    """What was scored at first sight stays as it was written, to the letter."""
    _, *sections = first_sight.OUT.read_text(encoding="utf-8").split("\n## ")
    assert {
        text.partition("\n")[0]: hashlib.sha256(text.strip().encode()).hexdigest() for text in sections
    } == SECTIONS
