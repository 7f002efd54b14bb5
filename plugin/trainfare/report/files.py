"""Where a report is written: never over a file that is not a report of trainfare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainfare_core.errors import InputError

__all__ = ["HTML_MARK", "ReportPaths", "report_paths"]

HTML_MARK: Final = '<meta name="generator" content="trainfare'
"""What every page of ours has in its first kilobyte."""

_JSON_MARK: Final = '{\n "schema_version": 1,\n "tool_version"'


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a report was written."""

    html: Path
    json: Path


def report_paths(directory: Path, stem: str) -> ReportPaths:
    """
    Return where the report goes, after making sure that it may go there.

    Args:
        directory: an existing folder, or one to make.
        stem: file name without its ending.

    Raises:
        InputError: `stem` is no plain name, or a file of that name is there that is not a report of ours.
    """
    if not stem or stem != Path(stem).name or stem in {".", ".."} or set(stem) & set('\\/:*?"<>|\0'):
        msg = f"report name {stem!r}: must be a plain file name without folders or special characters"
        raise InputError(msg)
    paths = ReportPaths(directory / f"{stem}.html", directory / f"{stem}.json")
    for path, mark in ((paths.html, HTML_MARK), (paths.json, _JSON_MARK)):
        if not _may_replace(path, mark):
            msg = f"{path}: exists and is not a trainfare report; move it away or write the report elsewhere"
            raise InputError(msg)
    return paths


def _may_replace(path: Path, mark: str) -> bool:
    """Return whether nothing is there, an empty file, or an earlier report of ours."""
    try:
        with path.open("rb") as file:
            start = file.read(1024)
    except FileNotFoundError:
        return not path.is_symlink()
    except OSError:
        return False
    return not start or mark.encode() in start
