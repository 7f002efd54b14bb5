"""The table of `trainfare ledger why`."""

from __future__ import annotations

import random
import re
from decimal import Decimal

import pytest

from trainfare.report.render.text import format_lines
from trainfare.report.run_causes import build_run_causes
from trainfare_core.documents import Interval
from trainfare_core.ledger.causes import RunCause, RunCauseName, RunExplanation


def explain(usd: tuple[float | None, ...], mid: float) -> RunExplanation:
    """Return an answer with some causes, price first and rest last."""
    measured = mid + sum(cause or 0.0 for cause in usd)
    names: tuple[RunCauseName, ...] = ("price", "steps", "rest")
    causes = tuple(
        RunCause(cause=name, usd=cause, detail="so") for name, cause in zip(names, usd, strict=True)
    )
    return RunExplanation(
        run_id="0123456789ab",
        prediction_id="",
        state="finished",
        predicted_usd=Interval(mid=mid, low_80=mid / 2, high_80=2 * mid),
        measured_usd=measured,
        difference_usd=measured - mid,
        causes=causes,
    )


def run_causes_table(answer: RunExplanation) -> str:
    return format_lines(build_run_causes(answer))


def test_table_says_dollars_causes_and_what_is_not_known() -> None:
    """One line on the run, then a row for each cause."""
    assert run_causes_table(explain((-1.5, None, 2.25), 10.0)).splitlines() == [
        "run 0123456789ab (finished): predicted $10.00 [$5.00 to $20.00], measured $10.75: +0.75 USD",
        " cause         USD   priced -> measured",
        " ──────────────────────────────────────",
        " price       -1.50   so",
        " steps   not known   so",
        " rest        +2.25   so",
    ]


@pytest.mark.parametrize("seed", range(50))
def test_shown_cents_add_up(seed: int) -> None:
    """To the difference that is shown, which is that of the two amounts that are shown."""
    chance = random.Random(seed)
    usd = tuple(round(chance.uniform(-3, 3), 3) for _ in range(3))
    head, *_, price, steps, rest = run_causes_table(
        explain(usd, round(chance.uniform(9, 99), 3))
    ).splitlines()
    predicted, measured, difference = re.findall(r"predicted \$(\S+) .*measured \$(\S+): (\S+) USD", head)[0]
    assert Decimal(measured) - Decimal(predicted) == Decimal(difference)
    assert sum(Decimal(row.split()[1]) for row in (price, steps, rest)) == Decimal(difference)


@pytest.mark.parametrize("seed", range(20))
def test_causes_of_a_few_cents_are_no_rows_of_zero(seed: int) -> None:
    """Three significant figures of what the run cost: a tenth of that is no 0, and the rows still add up."""
    chance = random.Random(seed)
    mid = 10 ** chance.uniform(-5, -1)
    text = run_causes_table(
        explain((mid * chance.uniform(0.1, 0.9), 0.0, mid * chance.uniform(0.1, 0.9)), mid)
    )
    (difference,) = re.findall(r"measured \$\S+: (\S+) USD", text)
    price, steps, rest = (Decimal(row.split()[1]) for row in text.splitlines()[3:])
    assert price + steps + rest == Decimal(difference)
    assert min(price, rest) > 0 == steps


def test_unknown_difference_says_why() -> None:
    """No table of nothing."""
    answer = explain((0.0, 0.0, 0.0), 1.0).model_copy(
        update={"difference_usd": None, "unknown_because": "its machine's price is not known"}
    )
    assert run_causes_table(answer) == (
        "run 0123456789ab (finished): the difference is not known: its machine's price is not known\n"
    )
