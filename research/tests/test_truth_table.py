"""What the runners of tables share: several tables in one run, each with files of its own, and rows of one width."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainfare_research.truth_table import Truth, read_rows, truth_parser, truths_of


def test_each_table_of_a_run_has_files_of_its_own() -> None:
    """In the order they are given; a table without a second one is read as before."""
    parser = truth_parser("", several=True)
    both = parser.parse_args(["--truth", "a.csv", "--json", "a.json", "--truth", "b.csv", "--json", "b.json"])
    assert truths_of(both) == [
        Truth(Path("a.csv"), Path("a.json"), None),
        Truth(Path("b.csv"), Path("b.json"), None),
    ]
    assert truths_of(parser.parse_args(["--truth", "a.csv"])) == [Truth(Path("a.csv"))]
    fewer = parser.parse_args(["--truth", "a.csv", "--truth", "b.csv", "--rows", "rows.csv"])
    with pytest.raises(SystemExit, match="once for every --truth"):
        truths_of(fewer)


def test_a_row_has_the_cells_of_the_header(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text('model,notes\nresnet,"one, two"\n\nbert,\n', encoding="utf-8")
    assert read_rows(table) == [
        {"model": "resnet", "notes": "one, two"},
        {"model": "bert", "notes": ""},
    ]
    table.write_text("model,notes\nresnet\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"table\.csv, line 2: 1 cells, but 2 in the header"):
        read_rows(table)
    table.write_text("", encoding="utf-8")
    assert read_rows(table) == []
