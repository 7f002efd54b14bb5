"""The answer of `trainfare ledger why` as blocks."""

from __future__ import annotations

import math
from typing import Final

from trainfare.report.block_builders import build_answer
from trainfare.report.blocks import Block
from trainfare_core.ledger.causes import RunCauseName, RunExplanation

_NAMES: Final[dict[RunCauseName, str]] = {
    "plan": "another plan or machine",
    "data_wait": "waiting for data",
    "startup": "start-up and queue",
    "storage": "storage and transfer",
}
"""Of causes whose name says less."""


def build_run_causes(answer: RunExplanation) -> list[Block]:
    """Return the dollars of a run and a row a cause; cents are those of the running sum, so that they add up."""
    head, rows = f"run {answer.run_id} ({answer.state}): ", list[tuple[str, str, str]]()
    predicted = answer.predicted_usd
    if predicted is None or answer.difference_usd is None:
        head += f"the difference is not known: {answer.unknown_because}"
    else:
        # Chosen: cents, and of less than a dollar three significant digits, so that causes are no rows of 0.00.
        largest_usd = max(predicted.mid, answer.measured_usd or 0.0)
        decimals = min(9, max(2, 2 - math.floor(math.log10(largest_usd)))) if largest_usd > 0 else 2

        def subtract(usd: float, before_usd: float) -> str:
            return (
                f"{round(round(usd, decimals) - round(before_usd, decimals), decimals) + 0.0:+,.{decimals}f}"
            )

        total = predicted.mid
        for cause in answer.causes:
            before, total = total, total + (cause.usd or 0.0)
            shown = "not known" if cause.usd is None else subtract(total, before)
            rows.append((_NAMES.get(cause.cause, cause.cause.replace("_", " ")), shown, cause.detail))
        ends = predicted.low_80, predicted.mid, predicted.high_80
        low, mid, high = (f"${end:,.{decimals}f}" for end in ends)
        head += f"predicted {mid} [{low} to {high}], measured ${total:,.{decimals}f}: "
        head += f"{subtract(total, predicted.mid)} USD"
    names = ("cause", "USD", "priced -> measured")
    return build_answer("Why the run cost what it did", names, rows, ("USD",), above=[head])
