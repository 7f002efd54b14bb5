"""The files of a bill: what is named is found, once each, and what is no file is refused before it is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builders.bills import focus_line, write_csv, write_parquet
from trainfare.bills.files import find_bill
from trainfare_core.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two months of an export, with a manifest and an unfinished part."""
    for month in ("2026-09", "2026-10"):
        (tmp_path / f"BILLING_PERIOD={month}").mkdir()
        write_parquet(tmp_path / f"BILLING_PERIOD={month}" / "b.parquet", [focus_line(month[-1])])
    write_csv(tmp_path / "a.csv", [focus_line("1")])
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "_temporary.csv").write_text("half a lin")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a.csv"], ["a.csv"]),
        (["."], ["BILLING_PERIOD=2026-09/b.parquet", "BILLING_PERIOD=2026-10/b.parquet", "a.csv"]),
        (["*/b.parquet"], ["BILLING_PERIOD=2026-09/b.parquet", "BILLING_PERIOD=2026-10/b.parquet"]),
        (["**/*10/*.parquet", "a.csv"], ["BILLING_PERIOD=2026-10/b.parquet", "a.csv"]),
    ],
)
def test_names_patterns_and_folders(folder: Path, names: list[str], found: list[str]) -> None:
    """In one order on every machine; hidden files and manifests of an export are no bill."""
    files = find_bill([str(folder / name) for name in names])
    assert [str(Path(file.name).relative_to(folder)) for file in files] == found


def test_one_file_twice_is_refused(folder: Path) -> None:
    """By the same name, by another one, and by a copy of its bytes; two files of one size may differ."""
    one, copy = str(folder / "a.csv"), folder / "copy.csv"
    write_csv(folder / "other.csv", [focus_line("2")])
    (folder / "link.csv").symlink_to(one)
    copy.write_bytes(Path(one).read_bytes())
    for names, problem in (
        ([one, one], "named twice"),
        ([one, str(folder / "*.csv")], "named twice"),
        ([one, str(folder / "link.csv")], "named twice"),
        ([one, str(copy)], "copy.csv: the same bytes as"),
    ):
        with pytest.raises(InputError, match=f"{problem}.*: each line would count twice"):
            find_bill(names)
    assert len(find_bill([one, str(folder / "other.csv")])) == 2


def test_what_is_no_file_is_refused(folder: Path) -> None:
    """A named pipe would be waited for without end."""
    os.mkfifo(folder / "pipe.csv")
    (folder / "empty").mkdir()
    for name, problem in (
        ("pipe.csv", "pipe.csv: a pipe or a device, not a bill"),
        ("pi*.csv", "pipe.csv: a pipe or a device, not a bill"),
        ("no.csv", "no.csv: there is no such file"),
        ("*.gz", "no file has such a name"),
        ("empty", "empty: no .parquet, .csv, .csv.gz file is in this folder"),
    ):
        with pytest.raises(InputError) as error:
            find_bill([str(folder / name)])
        assert problem in str(error.value)


def test_large_gzip_is_refused_where_polars_unpacks_it_whole(tmp_path: Path) -> None:
    """With the way out; a small one is read by any version, and a large one by a newer."""
    large = tmp_path / "large.csv.gz"
    large.touch()
    os.truncate(large, 256 << 20)
    assert find_bill([str(large)], "1.36.1")
    os.truncate(large, (256 << 20) + 1)
    assert find_bill([str(large)], "1.44.2")
    with pytest.raises(
        InputError, match=r"larger than 256 MiB, .* update polars, or export the bill as Parquet"
    ):
        find_bill([str(large)], "1.36.1")
