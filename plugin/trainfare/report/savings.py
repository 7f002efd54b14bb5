"""What would make a run cheaper, as blocks."""

from __future__ import annotations

from typing import Final

from trainfare.report.blocks import Block, Bullets, Heading, Text, Where
from trainfare.report.report import Report
from trainfare.report.saving_words import SAVING_NAMES
from trainfare.report.savings_tables import build_savings_tables
from trainfare.report.wording import usd
from trainfare_core.number_format import hours_text
from trainfare_core.savings import Savings

_OTHER_COMMANDS: Final = (
    "Fine-tuning with adapters: `trainfare strategy`. Waiting for lower prices: `trainfare decline wait`."
)


def report_savings(answer: Savings) -> Report:
    """Return the savings as a report."""
    return Report(lambda _width: build_savings(answer), f"{answer.job}: what would make it cheaper", 100)


def build_savings(answer: Savings) -> list[Block]:
    """Return the run as it is, a table of savings for each group, how each is made, and what was not priced."""
    title = Heading("What would make the run cheaper", level=1, where=Where.TITLED)
    before = answer.before
    if before.usd is None or before.hours is None:
        return [title, Text(f"The cost of the run is unknown: {answer.unknown_because}.", "no answer")]
    cost = f"{usd(before.usd.mid)} and {hours_text(before.hours.mid)} on {before.machine}"
    blocks: list[Block] = [title, Text(f"As it is, the run costs {cost}.", "answer")]
    if not answer.savings:
        blocks.append(Text("No change that could be priced makes it cheaper."))
    blocks += build_savings_tables(answer.savings, answer.loop)
    if answer.together:
        lines = tuple(
            f"{' and '.join(SAVING_NAMES[lever] for lever in pair.levers)}: {usd(pair.usd)} on {pair.machine}"
            for pair in answer.together
        )
        blocks += [Heading("Two changes together"), Bullets(lines)]
    if answer.saves_nothing:
        names = ", ".join(SAVING_NAMES[name] for name in answer.saves_nothing)
        blocks += [Heading("Priced, and saves nothing"), Bullets((names,))]
    if answer.not_priced:
        notes = tuple(f"{_name(item.what)}: {item.because}" for item in answer.not_priced)
        blocks += [Heading("Not priced"), Bullets(notes)]
    return [*blocks, Text(_OTHER_COMMANDS, "dim")]


def _name(what: str) -> str:
    return next((words for lever, words in SAVING_NAMES.items() if lever == what), what)
