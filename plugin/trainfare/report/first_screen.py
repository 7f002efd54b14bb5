"""
The first screen of a ranking: what a person reads in ten seconds, in at most 24 lines at 100 columns.

It has the answer, the runner-up, the cheapest on demand and the fastest, how sure they are and how old their prices.
Where there are too many lines, the least important of the rest are left out; the whole report has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from trainfare.loops import format_plan
from trainfare.report.batch_scaling import describe_batches
from trainfare.report.blocks import Block
from trainfare.report.cost_driver import describe_cost_driver
from trainfare.report.facts import basis_note, job_facts
from trainfare.report.first_screen_lines import Owner, Paragraph, choose_paragraphs, join_doubts
from trainfare.report.first_screen_texts import (
    count_rejected,
    describe_commitment,
    describe_constraints,
    describe_earlier_runs,
    describe_early_end,
    describe_implementations,
    describe_named_loader,
    describe_nodes,
    describe_outlook,
    describe_own_prices,
    describe_spot,
    describe_start,
    find_quota,
    list_doubts,
)
from trainfare.report.headline import NamedOption, explain_no_answer, list_named_options, runner_up_option
from trainfare.report.price_age import price_date_of
from trainfare.report.runner_up import compute_chance_better
from trainfare.report.saving_words import describe_savings
from trainfare.report.wording import (
    batch_text,
    chance_text,
    cloud_label,
    describe_interval,
    describe_machine_place,
    describe_run,
    hardware_label,
    has_other_batch,
    machine_label,
    name_batch,
    note_sentence,
    place_label,
    plan_changes_text,
    script_lines,
    terms_label,
)
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import percent
from trainfare_core.recommendation import Alternative, LeverName, Option, Recommendation

_MORE: Final = (
    "--details shows every option, cost, rejection and assumption; --format html or json keeps them."
)
_SAID: Final[tuple[LeverName, ...]] = ("spot", "commitment")
"""Savings that have a paragraph of their own."""


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
    paragraphs = list_paragraphs(recommendation, profile=profile, as_of=as_of, width=width)
    kept = choose_paragraphs(paragraphs, width)
    return [line for paragraph in kept for line in paragraph.lines(width)]


def list_paragraphs(
    recommendation: Recommendation, *, profile: JobProfile | None, as_of: date, width: int
) -> list[Paragraph]:
    """Return all that the first screen has to say, in its order; arguments as of `build_first_screen`."""
    named = list_named_options(recommendation)
    waits = recommendation.constraints.value_usd_per_month is None
    paragraphs = [
        *(_describe_options(recommendation, named, width) if named else _explain_no_answer(recommendation)),
        *_describe_plan(named),
        Paragraph(Owner.BATCH, describe_batches(recommendation, named, whole=False), max_lines=4),
        Paragraph(Owner.LOADER, describe_named_loader(named), max_lines=3, tone="warning"),
        Paragraph(Owner.EARLIER_RUNS, describe_earlier_runs(recommendation)),
        Paragraph(Owner.COST_DRIVER, describe_cost_driver(named, profile), tone="warning"),
        Paragraph(Owner.SAVINGS, describe_savings(recommendation.savings, said_elsewhere=_SAID), max_lines=3),
        Paragraph(Owner.NODES, describe_nodes(recommendation)),
        Paragraph(Owner.SPOT, describe_spot(recommendation), max_lines=3),
        Paragraph(Owner.COMMITMENT, describe_commitment(recommendation)),
        Paragraph(Owner.OUTLOOK if waits else Owner.WAITING_VALUE, describe_outlook(recommendation)),
        Paragraph(Owner.EARLY_END, describe_early_end(recommendation), tone="warning"),
        Paragraph(Owner.OWN_PRICES, describe_own_prices(recommendation)),
        Paragraph(Owner.BASIS, basis_note(recommendation, profile), tone="warning"),
        Paragraph(Owner.JOB, f"Job {recommendation.job.name}: {', '.join(job_facts(recommendation.job))}."),
        Paragraph(Owner.CONSTRAINTS, describe_constraints(recommendation)),
        Paragraph(Owner.IMPLEMENTATIONS, describe_implementations(recommendation)),
        join_doubts(list_doubts(recommendation, named, as_of), width),
        Paragraph(Owner.REJECTED, count_rejected(recommendation)),
        Paragraph(Owner.MORE, _MORE, tone="dim"),
        Paragraph(Owner.NEXT, describe_start(recommendation, named), tone="dim"),
    ]
    return [paragraph for paragraph in paragraphs if paragraph.text]


def _describe_options(
    recommendation: Recommendation, named: Sequence[NamedOption], width: int
) -> list[Paragraph]:
    titles = [", ".join(titles).capitalize() for titles, _ in named]
    dollars = [describe_interval(option.run_usd, "usd") for _, option in named]
    times = [describe_interval(option.run_hours, "h:auto") for _, option in named]
    widths = [max(map(len, column)) for column in (titles, dollars, times)]
    paragraphs: list[Paragraph] = []
    named_batches = has_other_batch(option for _, option in named)
    runner_up = runner_up_option(recommendation)
    twin = _find_twin(recommendation, named[0][1])
    for index, (_, option) in enumerate(named):
        cells = (titles[index], dollars[index], times[index])
        first = "   ".join(cell.ljust(room) for cell, room in zip(cells, widths, strict=True))
        kept = chance_text(option.probability_within)
        facts = ["a guess"] if option.guess_because else []
        facts += [name_batch(option)] if named_batches and option.global_batch_size else []
        facts += [f"limits kept: {kept}"] if kept else []
        better = compute_chance_better(recommendation, named[0][1], option) if option is runner_up else None
        facts += [f"likely better: {percent(better)}"] if better is not None else []
        facts += [f"MFU {percent(option.mfu)}"] if option.mfu is not None else []
        first = first.rstrip()
        # Large amounts leave no room behind them.
        while facts and len(first) + 3 + len(facts[0]) <= width:
            first = f"{first}   {facts.pop(0)}"
        facts += [] if index else [text for text in (twin, find_quota(option)) if text]
        arm64 = ", arm64 host" if option.arm64_host else ""
        said = {"", *(other.rests_on for _, other in named[:index])}
        rests_on = "" if option.rests_on in said else f", {option.rests_on}"
        where = (
            f"{machine_label(option)}: {hardware_label(option)}{arm64}, {cloud_label(option)} {place_label(option)}, "
            f"{'; '.join((terms_label(option), *facts))}{rests_on}"
        )
        owner = Owner.PORTED if index > 0 and option.needs_porting else Owner.ANSWER
        paragraphs.append(Paragraph(owner, where, first_line=first, indent=4))
    return paragraphs


def _find_twin(recommendation: Recommendation, answer: Option) -> str:
    """Return the next machine with the answer's accelerators and what more it costs; "" where none is listed."""
    same = ("provider", "service", "accelerator", "accelerator_count", "nodes", "purchase_option")
    for option in recommendation.options:
        twins = all(getattr(option, name) == getattr(answer, name) for name in same)
        if twins and option.instance_type != answer.instance_type and option.rank > answer.rank:
            more = option.run_usd.mid / answer.run_usd.mid - 1 if answer.run_usd.mid > 0 else 0.0
            return f"also {option.instance_type}, {percent(more, sign=True)}"
    return ""


def _explain_no_answer(recommendation: Recommendation) -> list[Paragraph]:
    return [
        Paragraph(Owner.ANSWER, explain_no_answer(recommendation), max_lines=4, tone="answer"),
        *(
            # The first changes one limit only; the further ones are left out before it.
            Paragraph(Owner.ANSWER if index < 2 else Owner.ALTERNATIVES, _describe_alternative(alternative))
            for index, alternative in enumerate(recommendation.alternatives)
        ),
    ]


def _describe_alternative(each: Alternative) -> str:
    option = each.option
    return (
        f"{each.flag}: {each.change}, {describe_run(option)} on {machine_label(option)} "
        f"({describe_machine_place(option)}) at its price of {price_date_of(option).text}"
    )


def _describe_plan(named: Sequence[NamedOption]) -> list[Paragraph]:
    if not named or named[0][1].trainer is None:
        return []
    option, trainer = named[0][1], named[0][1].trainer
    return [
        # Arguments to paste are never cut.
        Paragraph(Owner.PLAN, f"Plan{batch_text(trainer)}: {format_plan(trainer)}", max_lines=None),
        *(Paragraph(Owner.PLAN, line, max_lines=None) for line in script_lines(trainer)),
        Paragraph(Owner.PLAN, plan_changes_text(option), tone="warning"),
        *(
            Paragraph(Owner.PLAN, note_sentence(note), tone="warning")
            for note in option.notes
            if note.kind == "emulated"
        ),
    ]
