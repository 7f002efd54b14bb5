"""The answer of `trainfare ledger why` as a table."""

from __future__ import annotations

from typing import Final

from trainfare.report.escape import terminal_text
from trainfare.report.tables import UNLIMITED_WIDTH, table_text
from trainfare_core.ledger.causes import RunCauseName, RunExplanation

_NAMES: Final[dict[RunCauseName, str]] = {
    "plan": "another plan or machine",
    "data_wait": "waiting for data",
    "startup": "start-up and queue",
    "storage": "storage and transfer",
}
"""Of causes whose name says less."""


def run_causes_table(answer: RunExplanation, *, width: int = UNLIMITED_WIDTH) -> str:
    """Return the dollars of a run and a row a cause; cents are those of the running sum, so that they add up."""
    predicted = answer.predicted_usd
    if predicted is None or answer.difference_usd is None:
        text = f"run {answer.run_id} ({answer.state}): the difference is not known: {answer.unknown_because}"
        return terminal_text(text) + "\n"
    rows: list[tuple[str, str, str]] = []
    total = predicted.mid
    for cause in answer.causes:
        before, total = total, total + (cause.usd or 0.0)
        shown = "not known" if cause.usd is None else f"{_subtract_cents(total, before):+,.2f}"
        rows.append((_NAMES.get(cause.cause, cause.cause.replace("_", " ")), shown, cause.detail))
    ends = f"${predicted.mid:,.2f} [${predicted.low_80:,.2f} to ${predicted.high_80:,.2f}]"
    head = f"run {answer.run_id} ({answer.state}): predicted {ends}, measured ${total:,.2f}:"
    table = table_text(("cause", "USD", "priced -> measured"), rows, right=("USD",), width=width)
    return f"{terminal_text(head)} {_subtract_cents(total, predicted.mid):+,.2f} USD\n{table}\n"


def _subtract_cents(usd: float, before_usd: float) -> float:
    return round(round(usd, 2) - round(before_usd, 2), 2) + 0.0
