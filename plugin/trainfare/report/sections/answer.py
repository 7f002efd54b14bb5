"""The top of the report: the headline, the best options, whether to wait, and the job with its constraints."""

from __future__ import annotations

from datetime import date

from trainfare.report.batch_scaling import describe_batches
from trainfare.report.blocks import Block, Card, Cards, Heading, Span, Text, Where
from trainfare.report.facts import basis_note, constraints_text, job_facts
from trainfare.report.headline import headline, list_named_options, locate_option, picks
from trainfare.report.later_years import advise_waiting
from trainfare.report.rows import STALE, marks
from trainfare.report.wording import (
    describe_basis,
    describe_run,
    has_other_batch,
    interval,
    machine_label,
    name_batch,
)
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Option, Recommendation


def build_answer_section(
    recommendation: Recommendation, profile: JobProfile | None, as_of: date
) -> list[Block]:
    """
    Return what stands above the ranking.

    Args:
        recommendation: the ranked answer.
        profile: the profile of the job, if available: says why a length is not known.
        as_of: the day of the report, to which ages are counted.
    """
    name, facts = recommendation.job.name, ", ".join(job_facts(recommendation.job))
    verdict, sentence = advise_waiting(recommendation)
    note, asked = basis_note(recommendation, profile), constraints_text(recommendation.constraints)
    named = list_named_options(recommendation)
    named_batches = has_other_batch(option for _, option in named)
    cards = tuple(
        Card(
            f"{title[:1].upper()}{title[1:]}{describe_basis(recommendation)}",
            interval(option.run_usd, "usd"),
            interval(option.run_hours, "h:auto"),
            machine_label(option),
            locate_option(option),
            (
                *((name_batch(option),) if named_batches and option.global_batch_size else ()),
                *(
                    mark
                    for mark in marks(option, as_of)
                    if mark not in {"on front", STALE, name_batch(option)}
                ),
            ),
        )
        for titles, option in named
        for title in (", ".join(titles),)
    )
    # A page has the named options below its title: one line is enough there.
    picked = picks(recommendation)
    in_full = Where.RUNNING if picked else Where.EVERYWHERE
    blocks: list[Block] = [
        Heading(("What it costs to train ", name), level=1, where=Where.TITLED),
        Text(headline(recommendation, as_of), "answer" if picked else "no answer", in_full),
    ]
    if picked:
        blocks.append(Text(_title_page(recommendation, *picked[0]), "answer", Where.PAGE))
    if cards:
        blocks.append(Cards(cards))
    if batches := describe_batches(recommendation, named, whole=True):
        blocks.append(Text(batches, "warning"))
    if verdict:
        blocks.append(Text((Span(f"{verdict}.", "strong"), f" {sentence}"), "outlook"))
    if note:
        blocks.append(Text(note, "warning"))
    blocks += [Text(f"Job {name}: {facts}.", "dim", Where.TERMINAL), Text(f"{facts}.", where=Where.TEXT)]
    if asked:
        blocks.append(Text(f"Constraints: {asked}.", "dim", Where.RUNNING))
    asked_parts = (" Constraints: ", asked, ".") if asked else ()
    return [*blocks, Text(("Job: ", facts, ".", *asked_parts), "facts", Where.PAGE)]


def _title_page(recommendation: Recommendation, title: str, option: Option) -> str:
    """Return the answer in one line: what it costs and takes, and on what."""
    named = f"{title[:1].upper()}{title[1:]}{describe_basis(recommendation)}"
    batch = f", {name_batch(option)}" if has_other_batch([option]) else ""
    return f"{named}: {describe_run(option)} on {machine_label(option)}{batch}"
