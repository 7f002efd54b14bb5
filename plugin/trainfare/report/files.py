"""Writing a report to disk, never over a file that is not a report of trainfare."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.recommendation import Recommendation

_HTML_MARK: Final = '<meta name="generator" content="trainfare'
"""In the first kilobyte of every HTML report of trainfare; identifies files that may be replaced."""

_JSON_MARK: Final = '{\n "schema_version": 1,\n "tool_version"'


def write_reports(
    recommendation: Recommendation,
    profile: JobProfile | None,
    directory: Path,
    *,
    as_of: date,
    stem: str = "trainfare-report",
) -> tuple[Path, Path]:
    """
    Write the HTML page and the JSON, each atomically; earlier reports of trainfare are replaced.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available.
        directory: folder of the two files; created if missing.
        as_of: the day of the report, to which the ages of prices are counted.
        stem: file name without extension.

    Returns:
        The paths of the page and the JSON.

    Raises:
        InputError: the folder cannot be written to, `stem` is not a plain file name, or a file of that name exists
            that is not a report of trainfare.
    """
    from trainfare.report.report import report_ranking
    from trainfare_providers.disk.files import make_folder, write_text

    make_folder(directory)
    if not stem or stem in {".", ".."} or set(stem) & set('\\/:*?"<>|\0'):
        msg = f"report name {stem!r}: must be a plain file name without folders or special characters"
        raise InputError(msg)
    page, data = directory / f"{stem}.html", directory / f"{stem}.json"
    for path, mark in ((page, _HTML_MARK), (data, _JSON_MARK)):
        if not _may_replace(path, mark):
            msg = f"{path}: exists and is not a trainfare report; move it away or write the report elsewhere"
            raise InputError(msg)
    write_text(page, report_ranking(recommendation, profile, as_of).as_page())
    write_text(data, recommendation.to_json())
    return page, data


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
