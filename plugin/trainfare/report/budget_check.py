"""The answer of `trainfare check`."""

from __future__ import annotations

from datetime import date

from trainfare.report.block_builders import build_notes
from trainfare.report.blocks import Block, Column, Heading, Span, Table, Text, Where
from trainfare.report.cost_change import build_change_section
from trainfare.report.price_age import price_age, price_date_of
from trainfare.report.wording import plan_changes_text
from trainfare_core.number_format import hours_range, hours_text
from trainfare_core.policy.budget_check import BudgetCheck
from trainfare_core.recommendation import Constraints, Option


def build_check(answer: BudgetCheck, *, as_of: date) -> list[Block]:
    """Return the verdict with its reason and its price, whose age is counted to `as_of`, and the change in cost."""
    best, verdict = answer.best, answer.verdict.replace("_", " ")
    notes = [*(best.notes if best is not None else ()), *answer.notes]
    return [
        Text(f"{verdict.upper()}  {answer.job.name}", where=Where.TERMINAL),
        Text(f"  {answer.reason}", where=Where.TERMINAL),
        Heading(("trainfare check: ", verdict), level=1, where=Where.TITLED),
        Text((Span(answer.job.name, "strong"), ": ", answer.reason), where=Where.TITLED),
        *([] if best is None else _build_best(best, answer.constraints, as_of)),
        *build_notes(notes, where=Where.TERMINAL),
        *(
            []
            if answer.change is None
            else [Text((), where=Where.TERMINAL), *build_change_section(answer.change)]
        ),
        *build_notes(notes, where=Where.TITLED),
    ]


def _build_best(best: Option, asked: Constraints, as_of: date) -> list[Block]:
    age = price_age(price_date_of(best), as_of)
    stale = ", stale" if age.stale else ""
    price = f"{price_date_of(best).text} ({age.text}{stale}) from {best.price_source}"
    changes = plan_changes_text(best)
    return [
        Text(f"  price dated {price}", where=Where.TERMINAL),
        _build_best_table(best, asked, price),
        *([Text(f"  {changes}", where=Where.TERMINAL), Text(changes, where=Where.TITLED)] if changes else []),
    ]


def _build_best_table(best: Option, asked: Constraints, price: str) -> Table:
    usd, time = best.run_usd, best.run_hours
    columns = (Column(""), Column("best machine", right=True), Column("limit", right=True))
    rows = (
        ("machine", f"{best.nodes} × {best.machine} ({best.purchase_option})", ""),
        (
            "USD, whole run",
            f"{usd.mid:,.2f} [{usd.low_80:,.2f} to {usd.high_80:,.2f}]",
            "" if asked.max_usd is None else f"{asked.max_usd:,.2f}",
        ),
        (
            "time",
            hours_range(time.mid, time.low_80, time.high_80),
            "" if asked.deadline_hours is None else hours_text(asked.deadline_hours, 4),
        ),
        ("price date", price, ""),
    )
    return Table(columns, rows, where=Where.TITLED)
