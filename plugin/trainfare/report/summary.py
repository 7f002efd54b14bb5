"""
The content of a report as text, the same for terminal, Markdown and HTML.

Names from price plug-ins are not escaped here: each renderer escapes what it prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from trainfare.report.facts import (
    BookLine,
    PhaseLine,
    basis_note,
    book_line,
    constraints_text,
    interruptions_text,
    job_facts,
    phase_lines,
    profile_notes,
)
from trainfare.report.headline import BestOption, best_options, headline, picks
from trainfare.report.later_years import OutlookSummary, outlook_summary
from trainfare.report.price_age import STALE_MEANING, day_text
from trainfare.report.rows import (
    RankingRow,
    StepLine,
    cost_cells,
    front_cells,
    ranking_row,
    step_line,
)
from trainfare.report.wording import batch_text, plan_changes_text, script_lines, usd
from trainfare_core.figures import figures, percent
from trainfare_core.job_profile import JobProfile
from trainfare_core.ranking.options.rejections import REASON_WORDS
from trainfare_core.recommendation import AssumedNumber, Option, Recommendation

__all__ = [
    "DETAILED_OPTIONS",
    "FRONT_TITLE",
    "REJECTION_COLUMNS",
    "RejectionLine",
    "ReportSummary",
    "detailed_options",
    "summarize",
]

REJECTION_COLUMNS = ("why", "machine types", "prices", "nearest miss")
"""A machine type is counted where none of its prices is ranked, under the first of its reasons."""

FRONT_TITLE = "The front: mean cost, time and chance"

MOSTLY = 0.5
"""A run whose start-up is at least this part of its cost is dominated by it. A chosen value."""

DETAILED_OPTIONS = 6
"""Options with a breakdown of step and cost: as many bars as one chart shows without scrolling."""


@dataclass(frozen=True, slots=True)
class RejectionLine:
    """One reason why machines are not ranked, how many types and prices it has, and the nearest miss."""

    reason: str
    machines: str
    count: str
    detail: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells under `REJECTION_COLUMNS`."""
        return (self.reason, self.machines, self.count, self.detail)


@dataclass(frozen=True, slots=True)
class ReportSummary:
    """Everything a report shows; renderers leave out empty texts and tuples."""

    job_name: str
    headline: str
    has_options: bool
    basis_note: str
    best_options: tuple[BestOption, ...]
    outlook: OutlookSummary | None
    job: tuple[str, ...]
    constraints: str
    order: str
    rows: tuple[RankingRow, ...]
    shows_chance: bool
    legend: str
    beside: tuple[str, ...]
    steps: tuple[StepLine, ...]
    costs: tuple[tuple[str, ...], ...]
    front: tuple[tuple[str, ...], ...]
    phases: tuple[PhaseLine, ...]
    phases_caption: str
    rejections: tuple[RejectionLine, ...]
    assumptions: tuple[str, ...]
    books: tuple[BookLine, ...]
    notes: tuple[str, ...]
    made_by: str

    def best_rows(self, usual: int, asked: int | None = None) -> list[RankingRow]:
        """
        Return the first rows of the ranking.

        Args:
            usual: rows where none were asked for; the options of the headline that rank below them are added.
            asked: exactly so many rows.
        """
        if asked is not None:
            return list(self.rows[:asked])
        return [row for index, row in enumerate(self.rows) if index < usual or row.in_headline]

    def lists(self) -> list[tuple[str, Sequence[str]]]:
        """Return what follows the tables: titles, and lines that may be none."""
        return [
            (self.phases_caption, [f"{each.name}: {each.median} [{each.spread}]" for each in self.phases]),
            ("Assumptions", self.assumptions),
            (
                "Prices",
                [f"{b.cloud} ({b.origin}): {b.rows} prices, {b.dates}, {b.age}" for b in self.books],
            ),
            ("About the profile", self.notes),
        ]


def summarize(recommendation: Recommendation, profile: JobProfile | None, as_of: date) -> ReportSummary:
    """
    Return the content of the report.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available: adds measured phases and limits of the trace.
        as_of: the day of the report, to which ages are counted.
    """
    options, best = recommendation.options, detailed_options(recommendation)
    titles = _titles(recommendation)
    measured = profile.measured if profile is not None else None
    return ReportSummary(
        job_name=recommendation.job.name,
        headline=headline(recommendation, as_of),
        has_options=bool(options),
        basis_note=basis_note(recommendation, profile),
        best_options=best_options(recommendation, as_of),
        outlook=outlook_summary(recommendation),
        job=job_facts(recommendation.job),
        constraints=constraints_text(recommendation.constraints),
        order=_order(recommendation),
        rows=tuple(ranking_row(option, as_of, titles.get(option.rank, ())) for option in options),
        shows_chance=any(option.probability_within is not None for option in options),
        legend=_legend(),
        beside=tuple(
            text
            for text in (
                *_alternatives(recommendation, as_of),
                _plan_of_best(recommendation),
                _startup(recommendation),
                _loader(recommendation),
                _best_spot(recommendation, as_of),
                _other_clouds(recommendation, as_of),
            )
            if text
        ),
        steps=tuple(step_line(option, input_known=recommendation.job.input_known) for option in best),
        costs=tuple(cost_cells(option) for option in best),
        front=tuple(
            front_cells(option)
            for option in sorted(options, key=lambda one: (one.expected_usd or 0.0, one.rank))
            if option.on_front
        ),
        phases=phase_lines(profile),
        phases_caption=""
        if measured is None
        else f"{measured.steps:,} optimizer steps measured on {measured.device_name}",
        rejections=tuple(
            RejectionLine(
                REASON_WORDS[each.reason],
                "unknown" if each.machines is None else f"{each.machines:,}",
                f"{each.count:,}",
                each.detail,
            )
            for each in recommendation.rejections
        ),
        assumptions=(*_assumed_numbers(recommendation), *recommendation.assumptions),
        books=tuple(book_line(book, as_of) for book in recommendation.price_books),
        notes=profile_notes(recommendation, profile),
        made_by=f"trainfare {recommendation.tool_version}, ages counted to {day_text(as_of)}",
    )


def _assumed_numbers(recommendation: Recommendation) -> list[str]:
    """Return the figures that the cost of the first option of the headline rests on, largest share first."""
    best = recommendation.best(recommendation.objective)
    if best is None:
        return []
    return [
        f"{_value(each)}: {percent(each.share)} of the cost of "
        f"#{best.rank} ({usd(each.run_usd)}). {each.meaning[:1].upper()}{each.meaning[1:]}"
        + ("" if each.stated or each.source is None else f". Source: {each.source}")
        for each in sorted(recommendation.assumed_numbers, key=lambda each: -each.share)
    ]


def _value(number: AssumedNumber) -> str:
    """Return the name and the value of a figure, e.g. "startup_s = 90, as stated"."""
    if number.value is None:
        return f"{number.name} is not known"
    return f"{number.name} = {number.value:.6g}{', as stated' if number.stated else ''}"


def _alternatives(recommendation: Recommendation, as_of: date) -> list[str]:
    """Return what would give an answer, where there is none."""
    lines: list[str] = []
    for each in recommendation.alternatives:
        row = ranking_row(each.option, as_of)
        (dollars, dollar_range), (time, time_range) = row.run_usd, row.run_time
        lines.append(
            f"{each.change[:1].upper()}{each.change[1:]}: {row.machine} ({row.cloud}, {row.hardware}, {row.region}), "
            f"{dollars} [{dollar_range}] in {time} [{time_range}] at its price of {row.price_date}: {each.flag}"
        )
    return lines


def _plan_of_best(recommendation: Recommendation) -> str:
    """Return the Trainer's arguments for the first option of the headline, and what they change of the script."""
    _, option = next(iter(picks(recommendation)), (None, None))
    if option is None or option.trainer is None:
        return ""
    changes = f" {plan_changes_text(option)}".rstrip()
    lines = "".join(f" {line}." for line in script_lines(option.trainer))
    return f"Plan of #{option.rank}{batch_text(option.trainer)}: {option.trainer.code}.{lines}{changes}"


def _startup(recommendation: Recommendation) -> str:
    """Say that the run of the headline is mostly start-up, where it is."""
    _, option = next(iter(picks(recommendation)), (None, None))
    if option is None or option.run_usd.mid <= 0:
        return ""
    share = option.cost_parts.startup_usd / option.run_usd.mid
    if share < MOSTLY:
        return ""
    return (
        f"{percent(share)} of the cost of #{option.rank} is its start-up before the first step: faster machines cost "
        "more here and save little time."
    )


def _loader(recommendation: Recommendation) -> str:
    """Say what an input pipeline that was not measured must do for the first option of the headline."""
    _, option = next(iter(picks(recommendation)), (None, None))
    if recommendation.job.input_known or option is None or option.loader_samples_per_s_per_vcpu is None:
        return ""
    return (
        f"The input pipeline was not measured, and no time is counted for it: #{option.rank} needs "
        f"about {figures(option.loader_samples_per_s_per_vcpu)} samples a second from each vCPU. "
        "--loader-samples-per-s-per-vcpu states what yours makes."
    )


def _best_spot(recommendation: Recommendation, as_of: date) -> str:
    """Say what the cheapest spot machine would cost, and by how much that is less than the cheapest ranked one."""
    option = recommendation.best_spot
    named = any(each.option.purchase_option == "spot" for each in recommendation.alternatives)
    if option is None and recommendation.no_spot_because and not named:
        return f"No spot machine is offered: {recommendation.no_spot_because}."
    if option is None or named:
        return ""
    row = ranking_row(option, as_of)
    (dollars, dollar_range), (time, time_range) = row.run_usd, row.run_time
    ranked = [one.run_usd.mid for one in recommendation.options if not one.needs_porting]
    saving = 1 - option.run_usd.mid / min(ranked) if ranked and min(ranked) > 0 else 0.0
    less = f", {percent(saving)} less than the cheapest above" if saving > 0 else ""
    return (
        f"Spot is not ranked. The cheapest, {row.machine} ({row.cloud}, {row.hardware}, {row.region}), would cost "
        f"{dollars} [{dollar_range}] in {time} [{time_range}] at its price of {row.price_date}{less}, with "
        f"{interruptions_text(option)}. --purchase spot ranks them."
    )


def _other_clouds(recommendation: Recommendation, as_of: date) -> str:
    """Say what the cheapest quote of the clouds that were not ranked would cost."""
    option = recommendation.other_clouds
    if option is None:
        return ""
    row = ranking_row(option, as_of)
    (dollars, dollar_range), (time, time_range) = row.run_usd, row.run_time
    return (
        f"Not ranked: quotes of other clouds. The cheapest, {row.cloud} {row.machine} ({row.hardware}, "
        f"{row.purchase}), would cost {dollars} [{dollar_range}] in {time} [{time_range}] at its quote of "
        f"{row.price_date}; its host's network, disks and availability are not known. --all-clouds ranks them."
    )


def detailed_options(recommendation: Recommendation) -> tuple[Option, ...]:
    """Return the options of the headline and the best others, DETAILED_OPTIONS in all, by rank."""
    headlined = [option for _, option in picks(recommendation)]
    others = [option for option in recommendation.options if option not in headlined]
    return tuple(sorted([*headlined, *others][:DETAILED_OPTIONS], key=lambda option: option.rank))


def _titles(recommendation: Recommendation) -> dict[int, tuple[str, ...]]:
    """Return the titles of the options of the headline, by rank."""
    named: dict[int, tuple[str, ...]] = {}
    for title, option in picks(recommendation):
        words = title.removesuffix(" after porting").split(" and ")
        named[option.rank] = (*named.get(option.rank, ()), *(() if option.needs_porting else words))
    return named


def _order(recommendation: Recommendation) -> str:
    shown, total = len(recommendation.options), recommendation.options_total
    by = f"{recommendation.objective.replace('_', ' ')} first"
    return (
        f"{shown:,} of {total:,} feasible options, {by}"
        if total > shown
        else f"{shown:,} option{'' if shown == 1 else 's'}, {by}"
    )


def _legend() -> str:
    return (
        "Brackets: 80 % interval. On front: no machine that runs the script unchanged is as good in mean cost, in the "
        "time of nine in ten runs and in the chance to keep the limits, and better in one. Needs porting: another "
        "backend, runtime or CPU architecture than the script's. "
        f"{STALE_MEANING}"
    )
