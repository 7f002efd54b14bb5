"""Reports of a ranking in one call."""

from __future__ import annotations

from datetime import date
from typing import Any

from trainfare.report import report_ranking
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Recommendation


def render_terminal(
    answer: Recommendation,
    *,
    as_of: date,
    profile: JobProfile | None = None,
    width: int | None = None,
    **asked: Any,
) -> str:
    return report_ranking(answer, profile, as_of, **asked).as_terminal(width)


def render_markdown(
    answer: Recommendation, *, as_of: date, profile: JobProfile | None = None, rows: int | None = None
) -> str:
    return report_ranking(answer, profile, as_of, rows=rows).as_markdown()


def render_html(answer: Recommendation, *, as_of: date, profile: JobProfile | None = None) -> str:
    return report_ranking(answer, profile, as_of).as_page()
