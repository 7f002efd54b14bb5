"""The commands that score a fit print its table, and keep it where they are asked to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trainfare_research.fitting.command_line import table_command
from trainfare_research.truth_table import read_rows

LINES = [{"terms left out": "(none)", "mape": "15.39"}, {"terms left out": "dies", "mape": "15.50"}]


@pytest.mark.parametrize("kept", [True, False])
def test_a_table_is_printed_line_by_line_and_kept_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: bool
) -> None:
    out = tmp_path / "terms.csv"
    printed = []

    def lines_of(data: Path, cache: Path) -> Iterator[dict[str, str]]:
        assert (data, cache) == (tmp_path / "tables", tmp_path / "traces")
        for line in LINES:
            yield line
            printed.append(capsys.readouterr().out)

    folders = ["--data", str(tmp_path / "tables"), "--cache", str(tmp_path / "traces")]
    table_command("Score the fit.", lines_of, [*folders, *(["--out", str(out)] if kept else [])])
    assert printed == ["(none)  15.39\n", "dies  15.50\n"]
    assert out.exists() == kept
    if kept:
        assert read_rows(out) == LINES
