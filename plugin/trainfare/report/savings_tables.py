"""Savings as tables, one for each thing that a change does to the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trainfare.report.blocks import Block, Bullets, Column, Heading, Table
from trainfare.report.saving_words import SAVING_NAMES, explain_saving, range_text
from trainfare.report.wording import usd
from trainfare_core.recommendation import Recommendation, Saving, SavingGroup

_GROUPS: Final[dict[SavingGroup, str]] = {
    "same_result": "Changes nothing in the result",
    "rounding": "Changes how numbers are rounded",
    "interruption_or_term": "May be interrupted, or binds to a term",
    "training": "Changes what is trained",
}


def build_savings_section(recommendation: Recommendation, loop: str) -> list[Block]:
    """Return the savings of a ranking as a section of its report; nothing where there is none."""
    if not recommendation.savings:
        return []
    savings = recommendation.savings
    return [
        Heading("What would make it cheaper"),
        _build_table(savings),
        Bullets(tuple(explain_saving(saving, loop) for saving in savings)),
    ]


def build_savings_tables(savings: Sequence[Saving], loop: str) -> list[Block]:
    """Return a heading and a table of the savings of each group, and how each is made in a loop."""
    blocks: list[Block] = []
    for group, words in _GROUPS.items():
        ours = [saving for saving in savings if saving.group == group]
        if ours:
            told = Bullets(tuple(explain_saving(saving, loop) for saving in ours))
            blocks += [Heading(words), _build_table(ours), told]
    return blocks


def _build_table(savings: Sequence[Saving]) -> Table:
    columns = (
        Column("change", names_row=True),
        Column("saves", right=True),
        Column("80 %", right=True),
        Column("hours saved", right=True),
        Column("best machine then"),
    )
    return Table(columns, [_build_row(saving) for saving in savings])


def _build_row(saving: Saving) -> tuple[str, ...]:
    name = SAVING_NAMES[saving.lever] + ("" if saving.well_known else " (not known well)")
    hours = f"{saving.saved_hours:.3g}"
    return name, usd(saving.saved_usd), range_text(saving).strip("[]"), hours, saving.machine
