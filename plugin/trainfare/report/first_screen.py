"""
The first screen of a ranking: what a person reads in ten seconds, in at most 24 lines at 100 columns.

It has the answer, the runner-up, the cheapest on demand and the fastest, how sure they are and how old their prices.
What is said beside them gives way, the least important first, where the lines do not suffice; the whole report has it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from trainfare.report.blocks import Block, Text, Tone
from trainfare.report.facts import basis_note, constraints_text, interruptions_text, job_facts
from trainfare.report.later_years import outlook_summary
from trainfare.report.named import NamedOption, named_options
from trainfare.report.price_age import price_age, price_ages, price_date_of
from trainfare.report.rows import ranking_row
from trainfare.report.runner_up import compare_runner_up, tell_sensitivity
from trainfare.report.wording import (
    batch_text,
    machine_label,
    plan_changes_text,
    script_lines,
    trainer_line,
    usd,
)
from trainfare_core.figures import percent
from trainfare_core.job_profile import JobProfile
from trainfare_core.ranking.options.rejections import REASON_WORDS
from trainfare_core.ranking.pricing.quotas import QUOTA_NOTE
from trainfare_core.recommendation import Alternative, Recommendation

__all__ = ["MAX_LINES", "build_first_screen"]

MAX_LINES: Final = 24
"""A terminal's height since the VT100, so that nothing of the answer scrolls away."""

_MORE: Final = (
    "--details shows every option, cost, rejection and assumption; --format html or json keeps them."
)

_UNBROKEN: Final = re.compile(r"[0-9] [%×x] ?")
"""Where no line is broken: before a percent sign, and around the sign of multiplication."""


@dataclass(frozen=True, slots=True)
class _Paragraph:
    """
    A paragraph.

    Attributes:
        text: what is said; nothing is printed for an empty one.
        give_way: 0: always shown; the paragraph with the highest number gives way first.
        indent: blanks before its further lines.
        max_lines: what is longer is cut; None: never.
        tone: of its lines.
    """

    text: str
    give_way: int = 0
    indent: int = 2
    max_lines: int | None = 2
    tone: Tone = ""
    first_line: str = field(default="")

    def lines(self, width: int) -> list[Block]:
        head: list[Block] = [Text(self.first_line, "answer")] if self.first_line else []
        indent = " " * self.indent
        text = _UNBROKEN.sub(lambda found: found[0].replace(" ", "\xa0"), " ".join(self.text.split()))
        wrapped = textwrap.wrap(
            text,
            width,
            initial_indent=indent if head else "",
            subsequent_indent=indent,
            max_lines=self.max_lines,
            placeholder=" ...",
            break_on_hyphens=False,
        )
        return head + [Text(line.replace("\xa0", " "), self.tone) for line in wrapped]


def build_first_screen(
    recommendation: Recommendation, *, profile: JobProfile | None, as_of: date, width: int
) -> list[Block]:
    """
    Return the first screen, a paragraph for each line.

    Args:
        recommendation: the ranked answer.
        profile: of the job, if available: says why a length is not known.
        as_of: the day of the report, to which the ages of prices are counted.
        width: columns; at 100 and more there are at most `MAX_LINES` lines.
    """
    named = named_options(recommendation)
    paragraphs = [
        *(_options(named, as_of, width) if named else _no_answer(recommendation, as_of)),
        _Paragraph(compare_runner_up(recommendation), give_way=2),
        _Paragraph(tell_sensitivity(recommendation), give_way=4),
        *_plan(named),
        _Paragraph(_quota(named), give_way=5, tone="warning"),
        _Paragraph(_spot(recommendation), give_way=5),
        _Paragraph(_outlook(recommendation), give_way=8),
        _Paragraph(basis_note(recommendation, profile), tone="warning"),
        _Paragraph(f"Job {recommendation.job.name}: {', '.join(job_facts(recommendation.job))}.", give_way=6),
        _Paragraph(_constraints(recommendation), give_way=3),
        _Paragraph(_certainty(recommendation, named, as_of), max_lines=3),
        _Paragraph(_rejected(recommendation), give_way=7),
        _Paragraph(_MORE, tone="dim"),
    ]
    return _fit([paragraph for paragraph in paragraphs if paragraph.text], width)


def _fit(paragraphs: Sequence[_Paragraph], width: int) -> list[Block]:
    """Return the lines of the paragraphs, less those that give way where there are too many."""
    kept = list(paragraphs)
    while sum(len(paragraph.lines(width)) for paragraph in kept) > MAX_LINES:
        weakest = max(kept, key=lambda paragraph: paragraph.give_way)
        if not weakest.give_way:
            break
        kept.remove(weakest)
    return [line for paragraph in kept for line in paragraph.lines(width)]


def _options(named: Sequence[NamedOption], as_of: date, width: int) -> list[_Paragraph]:
    titles = [each.title[:1].upper() + each.title[1:] for each in named]
    rows = [ranking_row(each.option, as_of) for each in named]
    dollars = [f"{row.run_usd[0]} [{row.run_usd[1]}]" for row in rows]
    times = [f"{row.run_time[0]} [{row.run_time[1]}]" for row in rows]
    widths = [max(map(len, column)) for column in (titles, dollars, times)]
    blocks: list[_Paragraph] = []
    for place, (row, each) in enumerate(zip(rows, named, strict=True)):
        cells = (titles[place], dollars[place], times[place])
        first = "   ".join(cell.ljust(room) for cell, room in zip(cells, widths, strict=True))
        chance = f"limits kept: {row.chance}" if row.chance else ""
        # Large amounts leave no room for the chance behind them.
        beside = chance and len(first) + 3 + len(chance) <= width
        first = (f"{first}   {chance}" if beside else first).rstrip()
        arm64 = ", arm64 host" if each.option.arm64_host else ""
        where = (
            f"{row.machine}: {row.hardware}{arm64}, {row.cloud} {row.region}, {row.purchase} at "
            f"{row.usd_per_hour}/h{'' if beside or not chance else f', {chance}'}"
        )
        porting = place > 0 and each.option.needs_porting
        blocks.append(_Paragraph(where, first_line=first, give_way=1 if porting else 0, indent=4))
    return blocks


def _no_answer(recommendation: Recommendation, as_of: date) -> list[_Paragraph]:
    because = (recommendation.unknown_because or "nothing is left to rank").rstrip(". ")
    because = because[:1].lower() + because[1:] if because[1:2].islower() else because
    return [
        _Paragraph(f"No answer, because {because}.", max_lines=4, tone="answer"),
        *(
            # The first changes one limit only; further ones give way before them.
            _Paragraph(_alternative(each, as_of), give_way=0 if place < 2 else 9 + place)
            for place, each in enumerate(recommendation.alternatives)
        ),
    ]


def _alternative(each: Alternative, as_of: date) -> str:
    row = ranking_row(each.option, as_of)
    (dollars, dollar_range), (time, time_range) = row.run_usd, row.run_time
    return (
        f"{each.flag}: {each.change}, {dollars} [{dollar_range}] in {time} [{time_range}] on {row.machine} "
        f"({row.cloud}, {row.hardware}, {row.region}) at its price of {row.price_date}"
    )


def _plan(named: Sequence[NamedOption]) -> list[_Paragraph]:
    if not named or named[0].option.trainer is None:
        return []
    option, trainer = named[0].option, named[0].option.trainer
    return [
        # Arguments to paste are never cut.
        _Paragraph(f"Plan{batch_text(trainer)}: {trainer_line(trainer)}", max_lines=None),
        *(_Paragraph(line, max_lines=None) for line in script_lines(trainer)),
        _Paragraph(plan_changes_text(option), tone="warning"),
    ]


def _quota(named: Sequence[NamedOption]) -> str:
    """Say that a new account cannot start the answer's machine, where that is known."""
    notes = named[0].option.notes if named else ()
    note = next((each for each in notes if each.startswith(QUOTA_NOTE)), "")
    return f"{note[:1].upper()}{note[1:].partition('. Source')[0]}." if note else ""


def _spot(recommendation: Recommendation) -> str:
    spot = recommendation.best_spot
    because = recommendation.no_spot_because
    if any(option.purchase_option == "spot" for option in recommendation.options):
        return ""
    if spot is None and because:
        return f"No spot machine: {because}."
    if spot is None or not recommendation.options:
        return ""
    ranked = [option.run_usd.mid for option in recommendation.options if not option.needs_porting]
    saving = 1 - spot.run_usd.mid / min(ranked) if ranked and min(ranked) > 0 else 0.0
    if saving <= 0:
        return ""
    low, high = usd(spot.run_usd.low_80), usd(spot.run_usd.high_80)
    return (
        f"Spot could cost {percent(saving)} less: {usd(spot.run_usd.mid)} [{low} – {high}] on {machine_label(spot)} at "
        f"its price of {price_date_of(spot).text}, with {interruptions_text(spot)}: --purchase spot."
    )


def _outlook(recommendation: Recommendation) -> str:
    outlook = outlook_summary(recommendation)
    return "" if outlook is None else f"{outlook.verdict}: --details says what it costs later."


def _constraints(recommendation: Recommendation) -> str:
    asked = constraints_text(recommendation.constraints)
    return f"Asked for: {asked}." if asked else ""


def _certainty(recommendation: Recommendation, named: Sequence[NamedOption], as_of: date) -> str:
    """Say what the brackets are, how old the prices are, and what is not known."""
    if not named:
        return ""
    dates = frozenset(price_date_of(each.option) for each in named)
    stale = any(price_age(each, as_of).stale for each in dates)
    old = ", not confirmed since: `trainfare prices update`" if stale else ""
    measured = "no step was measured" if recommendation.job.measured_on is None else "with your measured step"
    known = (
        "" if recommendation.job.input_known else "; the input pipeline is not known and counted as nothing"
    )
    ages = price_ages(dates, as_of)
    return f"Brackets: 80 % intervals, {measured}{known}. {ages[:1].upper()}{ages[1:]}{old}."


def _rejected(recommendation: Recommendation) -> str:
    """Count the machine types that are not ranked, by reason."""
    counted = [each for each in recommendation.rejections if each.machines]
    if not counted or not recommendation.options:
        return ""
    total = sum(each.machines or 0 for each in counted)
    reasons = ", ".join(f"{REASON_WORDS[each.reason]} {each.machines:,}" for each in counted)
    return f"{total:,} machine types are not ranked: {reasons}."
