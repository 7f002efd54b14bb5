"""The answer of `trainfare check` as text for a terminal and as Markdown."""

from __future__ import annotations

from datetime import date

from trainfare.report.cost_change import change_markdown, change_table
from trainfare.report.escape import markdown_text, terminal_text
from trainfare.report.tables import UNLIMITED_WIDTH
from trainfare.report.wording import plan_changes_text
from trainfare_core.figures import hours_range, hours_text
from trainfare_core.policy.budget_check import BudgetCheck
from trainfare_core.recommendation import Constraints, Option

__all__ = ["check_markdown", "check_table"]


def check_table(answer: BudgetCheck, *, as_of: date, width: int = UNLIMITED_WIDTH) -> str:
    """Return the answer as plain text for a terminal; the price's age is counted to `as_of`."""
    lines = [f"{answer.verdict.replace('_', ' ').upper()}  {answer.job.name}", f"  {answer.reason}"]
    if answer.best is not None:
        lines.append(f"  price dated {_price_text(answer.best, as_of)}")
        if answer.best.plan_changes:
            lines.append(f"  {plan_changes_text(answer.best)}")
        lines += [f"  note: {note}" for note in answer.best.notes]
    lines += [f"  note: {note}" for note in answer.notes]
    text = "\n".join(terminal_text(line) for line in lines) + "\n"
    return text if answer.change is None else f"{text}\n{change_table(answer.change, width=width)}"


def _price_text(best: Option, as_of: date) -> str:
    from trainfare.report.price_age import price_age, price_date_of

    age = price_age(price_date_of(best), as_of)
    return f"{price_date_of(best).text} ({age.text}{', stale' if age.stale else ''}) from {best.price_source}"


def check_markdown(answer: BudgetCheck, *, as_of: date) -> str:
    """Return the answer as Markdown for a pull request; the price's age is counted to `as_of`."""
    blocks = [
        f"## trainfare check: {answer.verdict.replace('_', ' ')}",
        f"**{markdown_text(answer.job.name)}**: {markdown_text(answer.reason)}",
    ]
    if answer.best is not None:
        blocks.append(_markdown_table(answer.best, answer.constraints, as_of))
        if answer.best.plan_changes:
            blocks.append(markdown_text(plan_changes_text(answer.best)))
    if answer.change is not None:
        blocks.append(change_markdown(answer.change))
    notes = [*(answer.best.notes if answer.best is not None else ()), *answer.notes]
    if notes:
        blocks.append("\n".join(f"- {markdown_text(note)}" for note in notes))
    return "\n\n".join(blocks) + "\n"


def _markdown_table(best: Option, asked: Constraints, as_of: date) -> str:
    usd = f"{best.run_usd.mid:,.2f} [{best.run_usd.low_80:,.2f} to {best.run_usd.high_80:,.2f}]"
    time = hours_range(best.run_hours.mid, best.run_hours.low_80, best.run_hours.high_80)
    limit_usd = "" if asked.max_usd is None else f"{asked.max_usd:,.2f}"
    limit_time = "" if asked.deadline_hours is None else hours_text(asked.deadline_hours, 4)
    price = markdown_text(_price_text(best, as_of))
    machine = f"{best.nodes} × {markdown_text(best.machine)} ({markdown_text(best.purchase_option)})"
    return "\n".join(
        [
            "| | best machine | limit |",
            "|---|---:|---:|",
            f"| machine | {machine} | |",
            f"| USD, whole run | {usd} | {limit_usd} |",
            f"| time | {time} | {limit_time} |",
            f"| price date | {price} | |",
        ]
    )
