"""What the run costs in a later year, two questions kept apart, and whether to wait."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path

import pytest

from trainfare_core.decline import (
    DatedCost,
    DeclineError,
    LogRate,
    Outlook,
    Rates,
    UncertainRate,
    algorithms,
    cost_in_year,
    hardware,
    outlook,
    records,
)


def in_a_year(answer: Outlook) -> DatedCost:
    return next(cost for cost in answer.costs if cost.months == 12)


def test_gpt3_quality_in_2030() -> None:
    """A worked example: $450k in 2022 gives a median of $9, 90 % $0.06 to $463, $30 or less with 0.68."""
    preprint = Rates(algorithms=UncertainRate.halving(8, 5, 14, 0.95))
    then = cost_in_year(450e3, 2022, 2030, question="quality", rates=preprint)
    assert round(then.median) == 9
    assert then.interval(0.9).low == pytest.approx(0.06, abs=0.002)
    assert then.interval(0.9).high == pytest.approx(463, rel=0.01)
    assert round(then.prob_below(30), 2) == 0.68


def test_same_quality_falls_faster_than_same_compute() -> None:
    """Two different questions: methods count in one of them only."""
    compute = cost_in_year(100, 2026, 2027, question="compute")
    quality = cost_in_year(100, 2026, 2027, question="quality", rates=Rates.of("vision"))
    assert compute.median == pytest.approx(100 * math.exp(-0.30))
    assert quality.median < 0.5 * compute.median
    assert compute.interval(0.8).high > 100 > compute.interval(0.8).low
    assert "new code" in quality.basis.notes[0]


def test_no_monotone_decline_is_forced() -> None:
    """With rising rates the same run becomes more expensive."""
    rising = Rates(hardware=UncertainRate.certain(LogRate.from_decline(-0.5)), diffusion_per_sqrt_year=0.0)
    assert cost_in_year(100, 2026, 2028, question="compute", rates=rising).median == pytest.approx(225)
    answer = outlook(100, rates=rising, value_usd_per_month=0)
    assert in_a_year(answer).median == pytest.approx(150)
    assert in_a_year(answer).chance_cheaper == 0
    assert answer.verdict == "train now"
    assert "save" in answer.because


def test_certain_is_one_number() -> None:
    """Without doubt: the median trend alone."""
    certain = Rates(hardware=UncertainRate.certain(LogRate(-0.30)), diffusion_per_sqrt_year=0.0)
    then = cost_in_year(100, 2026, 2027, question="compute", rates=certain)
    assert then.interval(0.9).low == pytest.approx(then.interval(0.9).high)
    assert then.median == pytest.approx(74.08, abs=0.01)
    assert cost_in_year(100, 2026, 2026, question="compute").median == pytest.approx(100)


def test_uncertain_rates_are_equally_likely_values() -> None:
    """Medians and intervals come back; sums of log-rates are sums; chances count."""
    assert hardware().quantile(0.5) == pytest.approx(0.30)
    assert hardware().quantile(0.95) == pytest.approx(0.30 + 1.645 * 0.06, abs=1e-4)
    assert 12 * math.log(2) / algorithms("language").quantile(0.5) == pytest.approx(8)
    assert 12 * math.log(2) / algorithms("vision").quantile(0.5) == pytest.approx(9)
    both = hardware().plus(algorithms("language"))
    assert len(both.centres) == 201
    assert both.chance_above(0) > 0.999
    assert algorithms("language").chance_above(12 * math.log(2) / 8) == pytest.approx(0.5, abs=0.005)
    assert len(algorithms("language").plus(algorithms("vision")).centres) == 201
    certain = UncertainRate.certain(LogRate(-0.1)).plus(UncertainRate.certain(LogRate(-0.2)))
    assert certain.centres == pytest.approx((0.3,))
    for p in (0, 1):
        with pytest.raises(DeclineError, match="probability"):
            certain.quantile(p)
    with pytest.raises(DeclineError, match="negative"):
        UncertainRate.normal(0.3, -0.1)
    with pytest.raises(DeclineError, match="inside"):
        UncertainRate.halving(8, 9, 22, 0.9)


def test_priors_have_sources() -> None:
    """Section 4: hardware falls by 21 to 29 % a year, list prices do not, the frontier rises."""
    text = Path(records.__file__).with_name("published_rates.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert all(row["source"] and row["period"] for row in rows)
    declines: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        halving, percent = row["halving_months"], row["decline_percent"]
        # A doubling of what a dollar buys is a halving of the cost.
        decline = 1 - 2 ** (-12 / float(halving)) if halving else float(percent) / 100
        declines[row["component"]].append(decline)
    assert 0.20 < min(declines["hardware"]) < max(declines["hardware"]) < 0.30
    assert declines["price"] == [0]
    assert declines["frontier"][0] == pytest.approx(-1.4)


def test_the_answer_in_a_sentence() -> None:
    """$1,950 now; in a year $1,445, cheaper with 72 %; a month of waiting saves $56, or costs."""
    answer = outlook(1950, log_sigma=0.25)
    then = in_a_year(answer)
    assert round(then.median) == 1445
    assert then.within_50.low > then.within_80.low > then.within_90.low
    assert round(then.chance_cheaper, 2) == 0.72
    assert round(answer.waiting.mid) == 56
    assert answer.waiting.low < 0 < answer.waiting.mid < answer.waiting.high
    assert answer.verdict == "cannot tell"
    assert [cost.months for cost in answer.costs] == [0, 3, 6, 9, 12, 18, 24, 36]


def test_uncertainty_of_the_run_widens_the_cost_and_not_the_verdict() -> None:
    """Whatever the run really takes, it takes on both days."""
    sure, unsure = outlook(1950), outlook(1950, log_sigma=0.5)
    assert in_a_year(unsure).within_80.high > in_a_year(sure).within_80.high
    assert unsure.waiting == sure.waiting
    assert sure.costs[0].within_90.low == pytest.approx(1950)


@pytest.mark.parametrize(
    ("value", "question", "verdict"),
    [
        (500, "compute", "train now"),
        (40, "compute", "cannot tell"),
        (500, "quality", "train now"),
        (10, "quality", "wait"),
    ],
)
def test_verdicts(value: float, question: str, verdict: str) -> None:
    """All three answers can be reached, each only where the interval of the saving leaves no other."""
    answer = outlook(1950, question=question, value_usd_per_month=value)  # type: ignore[arg-type]
    assert answer.verdict == verdict
    within = answer.waiting.low <= value <= answer.waiting.high
    assert within == (verdict == "cannot tell")


def test_a_deadline_leaves_no_time_to_wait() -> None:
    """Days to go: train now; years to go: the saving decides."""
    soon = outlook(1950, time_left_months=1.5, run_months=1.0)
    assert (soon.verdict, "deadline" in soon.because) == ("train now", True)
    assert outlook(1950, time_left_months=30, run_months=1.0).verdict == "cannot tell"


def test_small_savings_are_not_weighed() -> None:
    """Nobody waits a year for 20 cents."""
    assert outlook(5.15).verdict == "train now"
    assert outlook(5.15, value_usd_per_month=0.1).verdict == "cannot tell"


def test_invalid_arguments_are_refused() -> None:
    """Costs, dates, doubts and confidences out of range."""
    for bad in ((0, 2026, 2027, 0.0), (1, 2027, 2026, 0.0), (1, 2026, 2027, -1.0)):
        with pytest.raises(DeclineError, match="cost in year"):
            cost_in_year(*bad[:3], question="compute", log_sigma_now=bad[3])
    for bad in ({"horizon_months": 0}, {"confidence": 0.4}):
        with pytest.raises(DeclineError, match="outlook"):
            outlook(1, **bad)  # type: ignore[arg-type]
