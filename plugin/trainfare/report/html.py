"""The report as one self-contained HTML page without scripts or remote resources."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, TypeVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trainfare.report.charts.bars import phases_chart, step_chart
from trainfare.report.charts.cost_time import cost_time_chart
from trainfare.report.charts.fan import fan_chart
from trainfare.report.escape import terminal_text
from trainfare.report.headline import picks
from trainfare.report.later_years import OUTLOOK_COLUMNS
from trainfare.report.rows import COST_COLUMNS, FRONT_COLUMNS, PART_NAMES
from trainfare.report.summary import FRONT_TITLE, REJECTION_COLUMNS, detailed_options, summarize
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Recommendation

__all__ = ["chart_of", "environment", "render_html"]

Data = TypeVar("Data")


def render_html(recommendation: Recommendation, *, profile: JobProfile | None = None, as_of: date) -> str:
    """
    Return the report as an HTML page.

    Without matplotlib the charts are left out, and the page says how to install it.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available.
        as_of: the day of the report, to which the ages of prices are counted.
    """
    measured = profile.measured if profile is not None else None
    named = frozenset(option.rank for _, option in picks(recommendation))
    per_1000_steps = recommendation.basis == "per_1000_steps"
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            summary=summarize(recommendation, profile, as_of),
            part_names=PART_NAMES,
            cost_columns=COST_COLUMNS,
            front_columns=FRONT_COLUMNS,
            front_title=FRONT_TITLE,
            outlook_columns=OUTLOOK_COLUMNS,
            rejection_columns=REJECTION_COLUMNS,
            cost_time=chart_of(
                recommendation.options,
                lambda options: cost_time_chart(options, named=named, per_1000_steps=per_1000_steps),
            ),
            fan=chart_of(
                recommendation.outlook, lambda found: fan_chart(found, per_1000_steps=per_1000_steps)
            ),
            steps=chart_of(detailed_options(recommendation), step_chart),
            phases=chart_of(measured, phases_chart),
        )
    )


def chart_of(data: Data | None, draw: Callable[[Data], str]) -> Markup | None:
    """Return the chart of some data as markup, empty where there are none, None without matplotlib."""
    if not data:
        return Markup("")
    try:
        return Markup(draw(data))  # noqa: S704 - SVG made by svg.draw, whose texts are escaped by ElementTree
    except ImportError:
        return None


def environment() -> Environment:
    """Return the jinja2 environment: values are cleaned of control and bidirectional characters, then escaped."""
    environment = Environment(
        loader=PackageLoader("trainfare.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
        keep_trailing_newline=True,
    )
    environment.globals.clear()
    return environment


def _clean(value: Any) -> Any:
    return terminal_text(value) if isinstance(value, str) and not isinstance(value, Markup) else value
