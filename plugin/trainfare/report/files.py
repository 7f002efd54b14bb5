"""Where a report is written: never over a file that is not a report of trainfare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainfare_core.errors import InputError

__all__ = ["HTML_MARK", "ReportPaths", "report_paths"]

HTML_MARK: Final = '<meta name="generator" content="trainfare'
"""In the first kilobyte of every HTML report of trainfare; identifies files that may be replaced."""

_JSON_MARK: Final = '{\n "schema_version": 1,\n "tool_version"'


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a report was written."""

    html: Path
    json: Path


def report_paths(directory: Path, stem: str) -> ReportPaths:
    """
    Return the paths of the report, after checking that they may be written.

    Args:
        directory: an existing folder, or one to be created.
        stem: file name without extension.

    Raises:
        InputError: `stem` is not a plain file name, or a file of that name exists that is not a report of trainfare.
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
    """Return whether the path is free, an empty file, or an earlier report of trainfare."""
    try:
        with path.open("rb") as file:
            start = file.read(1024)
    except FileNotFoundError:
        return not path.is_symlink()
    except OSError:
        return False
    return not start or mark.encode() in start
