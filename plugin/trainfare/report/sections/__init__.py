"""The sections of the report of a ranking, each built once as blocks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from trainfare.report.block_builders import build_list
from trainfare.report.blocks import Block, Text
from trainfare.report.later_years import build_outlook_section
from trainfare.report.price_age import day_text
from trainfare.report.savings_tables import build_savings_section
from trainfare.report.sections.answer import build_answer_section
from trainfare.report.sections.breakdowns import (
    build_cost_section,
    build_front_section,
    build_phases_list,
    build_phases_section,
    build_spot_section,
    build_step_section,
)
from trainfare.report.sections.energy import build_energy_section
from trainfare.report.sections.machine import build_machine_sections
from trainfare.report.sections.plans import PlanFiles, build_files_section, build_plans_section
from trainfare.report.sections.ranking import build_ranking_section
from trainfare.report.sections.reasons import (
    build_assumptions_section,
    build_prices_section,
    build_rejections_section,
    profile_notes,
)
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Recommendation

__all__ = ["build_report"]


def build_report(
    recommendation: Recommendation,
    profile: JobProfile | None,
    as_of: date,
    *,
    rows: int | None = None,
    files: Sequence[PlanFiles] = (),
) -> list[Block]:
    """
    Return the whole report.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available: adds measured phases and limits of the trace.
        as_of: the day of the report, to which ages are counted.
        rows: of the ranking; None: the best, and those of the headline.
        files: that start the named plans.
    """
    return [
        *build_answer_section(recommendation, profile, as_of),
        *build_ranking_section(recommendation, profile, as_of, rows=rows),
        *build_plans_section(recommendation, as_of),
        *build_files_section(files),
        *build_savings_section(recommendation, "" if profile is None else profile.source.loop),
        *build_outlook_section(recommendation),
        *build_step_section(recommendation),
        *build_phases_section(profile),
        *build_machine_sections(recommendation, profile),
        *build_cost_section(recommendation),
        *build_energy_section(recommendation),
        *build_spot_section(recommendation),
        *build_front_section(recommendation),
        *build_rejections_section(recommendation),
        *build_phases_list(profile),
        *build_assumptions_section(recommendation),
        *build_prices_section(recommendation, as_of),
        *build_list("About the profile", profile_notes(recommendation, profile), on_paper=False),
        Text(f"trainfare {recommendation.tool_version}, ages counted to {day_text(as_of)}", "footer"),
    ]
