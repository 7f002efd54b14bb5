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

from trainfare.loops import format_plan
from trainfare.report.blocks import Block, Text, Tone
from trainfare.report.cost_driver import describe_cost_driver
from trainfare.report.facts import basis_note, job_facts
from trainfare.report.first_screen_texts import (
    count_rejected,
    describe_certainty,
    describe_commitment,
    describe_constraints,
    describe_earlier_runs,
    describe_early_end,
    describe_implementations,
    describe_nodes,
    describe_outlook,
    describe_own_prices,
    describe_quota,
    describe_spot,
    describe_unknowns,
)
from trainfare.report.headline import NamedOption, explain_no_answer, list_named_options
from trainfare.report.price_age import price_date_of
from trainfare.report.runner_up import compare_runner_up, describe_sensitivity
from trainfare.report.wording import (
    batch_text,
    chance_text,
    cloud_label,
    describe_interval,
    describe_machine_place,
    describe_run,
    hardware_label,
    machine_label,
    place_label,
    plan_changes_text,
    script_lines,
    terms_label,
)
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import percent
from trainfare_core.recommendation import Alternative, Option, Recommendation

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
        drop_order: 0: always shown; the paragraph with the highest number is left out first.
        indent: blanks before its further lines.
        max_lines: what is longer is cut; None: never.
        tone: of its lines.
    """

    text: str
    drop_order: int = 0
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
    named = list_named_options(recommendation)
    paragraphs = [
        *(_describe_options(recommendation, named, width) if named else _explain_no_answer(recommendation)),
        _Paragraph(compare_runner_up(recommendation), drop_order=2),
        _Paragraph(describe_sensitivity(recommendation), drop_order=4),
        *_describe_plan(named),
        _Paragraph(describe_earlier_runs(recommendation), drop_order=1),
        _Paragraph(describe_cost_driver(named, profile), drop_order=1, tone="warning"),
        _Paragraph(describe_unknowns(named), drop_order=2, max_lines=3, tone="warning"),
        _Paragraph(describe_nodes(recommendation), drop_order=3),
        _Paragraph(describe_quota(named), drop_order=4, tone="warning"),
        _Paragraph(describe_spot(recommendation), drop_order=5, max_lines=3),
        _Paragraph(describe_commitment(recommendation), drop_order=5),
        _Paragraph(
            describe_outlook(recommendation),
            # A stated value of a month is a question about waiting.
            drop_order=6 if recommendation.constraints.value_usd_per_month is None else 1,
        ),
        _Paragraph(describe_early_end(recommendation), drop_order=1, tone="warning"),
        _Paragraph(describe_own_prices(recommendation), drop_order=1),
        _Paragraph(basis_note(recommendation, profile), tone="warning"),
        _Paragraph(
            f"Job {recommendation.job.name}: {', '.join(job_facts(recommendation.job))}.", drop_order=7
        ),
        _Paragraph(describe_constraints(recommendation), drop_order=3),
        _Paragraph(describe_implementations(recommendation), drop_order=1),
        _Paragraph(describe_certainty(recommendation, named, as_of), max_lines=3),
        _Paragraph(count_rejected(recommendation), drop_order=8),
        _Paragraph(_MORE, tone="dim"),
    ]
    return _fit([paragraph for paragraph in paragraphs if paragraph.text], width)


def _fit(paragraphs: Sequence[_Paragraph], width: int) -> list[Block]:
    """Return the lines of the paragraphs, less those that give way where there are too many."""
    kept = list(paragraphs)
    while sum(len(paragraph.lines(width)) for paragraph in kept) > MAX_LINES:
        weakest = max(kept, key=lambda paragraph: paragraph.drop_order)
        if not weakest.drop_order:
            break
        kept.remove(weakest)
    return [line for paragraph in kept for line in paragraph.lines(width)]


def _describe_options(
    recommendation: Recommendation, named: Sequence[NamedOption], width: int
) -> list[_Paragraph]:
    titles = [", ".join(titles).capitalize() for titles, _ in named]
    dollars = [describe_interval(option.run_usd, "usd") for _, option in named]
    times = [describe_interval(option.run_hours, "h:auto") for _, option in named]
    widths = [max(map(len, column)) for column in (titles, dollars, times)]
    blocks: list[_Paragraph] = []
    twin = _find_twin(recommendation, named[0][1])
    for index, (_, option) in enumerate(named):
        cells = (titles[index], dollars[index], times[index])
        first = "   ".join(cell.ljust(room) for cell, room in zip(cells, widths, strict=True))
        kept = chance_text(option.probability_within)
        facts = [f"limits kept: {kept}"] if kept else []
        facts += [f"MFU {percent(option.mfu)}"] if option.mfu is not None else []
        first = first.rstrip()
        # Large amounts leave no room behind them.
        while facts and len(first) + 3 + len(facts[0]) <= width:
            first = f"{first}   {facts.pop(0)}"
        facts += [twin] if twin and not index else []
        arm64 = ", arm64 host" if option.arm64_host else ""
        said = {"", *(other.rests_on for _, other in named[:index])}
        rests_on = "" if option.rests_on in said else f", {option.rests_on}"
        where = (
            f"{machine_label(option)}: {hardware_label(option)}{arm64}, {cloud_label(option)} {place_label(option)}, "
            f"{'; '.join((terms_label(option), *facts))}{rests_on}"
        )
        porting = index > 0 and option.needs_porting
        blocks.append(_Paragraph(where, first_line=first, drop_order=1 if porting else 0, indent=4))
    return blocks


def _find_twin(recommendation: Recommendation, answer: Option) -> str:
    """Return the next machine with the answer's accelerators and what more it costs; "" where none is listed."""
    same = ("provider", "service", "accelerator", "accelerator_count", "nodes", "purchase_option")
    for option in recommendation.options:
        twins = all(getattr(option, name) == getattr(answer, name) for name in same)
        if twins and option.instance_type != answer.instance_type and option.rank > answer.rank:
            more = option.run_usd.mid / answer.run_usd.mid - 1 if answer.run_usd.mid > 0 else 0.0
            return f"also {option.instance_type}, {percent(more, sign=True)}"
    return ""


def _explain_no_answer(recommendation: Recommendation) -> list[_Paragraph]:
    return [
        _Paragraph(explain_no_answer(recommendation), max_lines=4, tone="answer"),
        *(
            # The first changes one limit only; further ones give way before them.
            _Paragraph(_describe_alternative(alternative), drop_order=0 if index < 2 else 9 + index)
            for index, alternative in enumerate(recommendation.alternatives)
        ),
    ]


def _describe_alternative(each: Alternative) -> str:
    option = each.option
    return (
        f"{each.flag}: {each.change}, {describe_run(option)} on {machine_label(option)} "
        f"({describe_machine_place(option)}) at its price of {price_date_of(option).text}"
    )


def _describe_plan(named: Sequence[NamedOption]) -> list[_Paragraph]:
    if not named or named[0][1].trainer is None:
        return []
    option, trainer = named[0][1], named[0][1].trainer
    return [
        # Arguments to paste are never cut.
        _Paragraph(f"Plan{batch_text(trainer)}: {format_plan(trainer)}", max_lines=None),
        *(_Paragraph(line, max_lines=None) for line in script_lines(trainer)),
        _Paragraph(plan_changes_text(option), tone="warning"),
    ]
