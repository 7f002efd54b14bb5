"""The end of a metered run in a terminal: answer, runner-up, and what was written where, in at most 20 lines."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

from trainfare.report.escape import terminal_text
from trainfare.report.facts import basis_note, job_facts
from trainfare.report.headline import list_named_options
from trainfare.report.price_age import price_ages, price_date_of
from trainfare.report.wording import (
    chance_text,
    describe_basis,
    describe_machine_place,
    describe_run,
    machine_label,
    purchase_label,
)
from trainfare_core.job_profile import JobProfile
from trainfare_core.recommendation import Option, Recommendation

WIDTH: Final = 100
"""Columns, whatever the terminal has: progress bars and log files are read at this width."""
MAX_TEXT_LINES: Final = 3
"""Lines of the job and of a note; what is longer is cut, and is whole in the files. With `MAX_OPTIONS` this keeps the
text within 20 lines."""
MAX_OPTIONS: Final = 3
"""The answer, the runner-up, and the fastest where it is neither; each takes two or three lines."""
_ASCII = str.maketrans({"×": "x", "–": "-"})


def render_run_end(
    recommendation: Recommendation, profile: JobProfile, as_of: date, written: Sequence[Path]
) -> str:
    """
    Return the text that ends a metered run: at most 20 lines of 100 columns.

    Args:
        recommendation: the ranked answer.
        profile: of the run; its plan says why a length is not known.
        as_of: the day of the report, to which the ages of prices are counted.
        written: the files, the profile first.
    """
    lines: list[str] = []
    options = list_named_options(recommendation)[:MAX_OPTIONS]
    for titles, option in options:
        lines += _option_lines(" and ".join(titles), option, recommendation)
    if not recommendation.options:
        lines += _cut(
            f"trainfare: no answer, because {recommendation.unknown_because or 'nothing is left to rank'}"
        )
    lines += _cut(f"Job {recommendation.job.name}: {', '.join(job_facts(recommendation.job))}.")
    note = basis_note(recommendation, profile)
    if note:
        lines += _cut(note)
    if recommendation.options:
        dates = frozenset(price_date_of(option) for _, option in options)
        lines += _cut(f"Brackets are 80 % intervals; {price_ages(dates, as_of)}.")
    lines += _describe_files(written)
    return "".join(terminal_text(line).translate(_ASCII) + "\n" for line in lines)


def _option_lines(title: str, option: Option, recommendation: Recommendation) -> list[str]:
    kept = chance_text(option.probability_within)
    chance = f", within the limits with {kept}" if kept else ""
    place = f"{describe_machine_place(option)}, {purchase_label(option.purchase_option)}"
    return _cut(
        f"trainfare: {title}{describe_basis(recommendation)}: {describe_run(option)}{chance}: {machine_label(option)} "
        f"({place})"
    )


def _describe_files(written: Sequence[Path]) -> list[str]:
    """Return what was written where, and how to rank again."""
    if not written:
        return []
    folder = written[0].parent
    names = ", ".join(path.name for path in written)
    return [
        *_cut(f"trainfare: wrote {names} to {folder.resolve()}"),
        *_cut(
            f"Every option, later years and assumptions: {written[0].with_name('trainfare-report.html').name}. "
            f"Rank again: trainfare recommend {written[0]}"
        ),
    ]


def _cut(text: str) -> list[str]:
    """Wrap a text to the width, with what is beyond `MAX_TEXT_LINES` cut off."""
    return textwrap.wrap(
        text,
        WIDTH,
        subsequent_indent="  ",
        max_lines=MAX_TEXT_LINES,
        placeholder=" ...",
        break_on_hyphens=False,
    )
