"""
A recommendation as a terminal table, Markdown, a self-contained HTML page, and JSON.

The renderers are imported when they are called, so that importing this package is cheap.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import IO, TYPE_CHECKING

from trainfare.report.files import ReportPaths

if TYPE_CHECKING:
    from trainfare_core.job_profile import JobProfile
    from trainfare_core.recommendation import Recommendation

__all__ = [
    "ReportPaths",
    "print_terminal",
    "render_html",
    "render_markdown",
    "render_terminal",
    "write_reports",
]


def render_terminal(
    recommendation: Recommendation,
    *,
    profile: JobProfile | None = None,
    as_of: date,
    width: int | None = None,
) -> str:
    """
    Return the report as plain text: no colour, no control bytes, the same bytes for the same input.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available: adds measured phases and limits of the trace.
        as_of: the day of the report, to which the ages of prices are counted.
        width: columns; None is 120.
    """
    from trainfare.report.terminal import render_terminal as render

    return render(recommendation, profile=profile, as_of=as_of, width=width)


def print_terminal(
    recommendation: Recommendation,
    *,
    profile: JobProfile | None = None,
    as_of: date,
    file: IO[str] | None = None,
) -> None:
    """
    Print the report; a terminal gets colour (unless NO_COLOR is set) and its own width.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available.
        as_of: the day of the report, to which the ages of prices are counted.
        file: output stream; None is standard output.
    """
    from trainfare.report.terminal import print_terminal as show

    show(recommendation, profile=profile, as_of=as_of, file=file)


def render_markdown(recommendation: Recommendation, *, profile: JobProfile | None = None, as_of: date) -> str:
    """
    Return the report as Markdown (GitHub flavour).

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available.
        as_of: the day of the report, to which the ages of prices are counted.
    """
    from trainfare.report.markdown import render_markdown as render

    return render(recommendation, profile=profile, as_of=as_of)


def render_html(recommendation: Recommendation, *, profile: JobProfile | None = None, as_of: date) -> str:
    """
    Return the report as one self-contained HTML page without scripts or remote loads.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available.
        as_of: the day of the report, to which the ages of prices are counted.
    """
    from trainfare.report.html import render_html as render

    return render(recommendation, profile=profile, as_of=as_of)


def write_reports(
    recommendation: Recommendation,
    profile: JobProfile | None,
    directory: Path,
    *,
    as_of: date,
    stem: str = "trainfare-report",
) -> ReportPaths:
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
        InputError: the folder cannot be written to, or holds a file of that name that is not a report.
    """
    from trainfare.report.files import report_paths
    from trainfare_providers.disk.files import make_folder, write_text

    make_folder(directory)
    paths = report_paths(directory, stem)
    write_text(paths.html, render_html(recommendation, profile=profile, as_of=as_of))
    write_text(paths.json, recommendation.to_json())
    return paths
