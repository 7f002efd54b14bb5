"""Train now or wait: worked examples, and a decision only where it holds with the confidence asked for."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from trainfare_core.decline import DeclineError, LogRate, UncertainRate, hardware, wait
from trainfare_core.decline.wait import (
    Terms,
    compute_fixed_job_wait,
    longest_run,
    option_exponent,
    option_trigger,
    option_value,
    start_of_lump,
)

SEVENTY = -LogRate.from_decline(0.7).log_per_year
LN2 = math.log(2)


TERMS = Terms(450e3, 200e3, 0.1, 0.1, 10)


def npv(t: float) -> float:
    return TERMS.npv(t, SEVENTY)


def test_value_of_time() -> None:
    """V = 200k, C0 = 450k, 70 %, r = .1, L = .1: t* = 0.9023, and no neighbour does better."""
    best = TERMS.best_start(SEVENTY)
    assert round(best, 4) == 0.9023
    assert npv(best) > max(npv(best - 0.01), npv(best + 0.01), npv(0))
    assert npv(9.95) < 0


@pytest.mark.parametrize(("percent", "value"), [(20, 0.32), (30, 0.46), (50, 0.79), (70, 1.30), (90, 2.40)])
def test_break_even_values(percent: float, value: float) -> None:
    """Break-even v / C0 a year at r = 10 %; the finite wait goes to it as the wait goes to 0."""
    decline = -LogRate.from_decline(percent / 100).log_per_year
    terms = Terms(1, 0, 0.1)
    assert round(terms.break_even(decline), 2) == value
    soon = terms.break_even_after(1e-6, math.exp(-decline * 1e-6))
    assert soon == pytest.approx(terms.break_even(decline), rel=1e-4)


def test_finite_wait_breaks_even_exactly() -> None:
    """At the value of `break_even_after` starting now and after the wait are worth the same."""
    terms = replace(TERMS, value_per_year=TERMS.break_even_after(1.0, 450e3 * 0.3))
    assert terms.npv(0, SEVENTY) == pytest.approx(terms.npv(1, SEVENTY))


def test_one_week_saves_two_and_a_half_percent() -> None:
    """A week of delay at 70 % a year and 10 % interest."""
    assert 1 - math.exp(-(SEVENTY + 0.1) * 7 / 365.25) == pytest.approx(0.025, abs=0.0005)


def test_gottbrath() -> None:
    """With a doubling in 18 months, wait only for jobs above 25.97 months."""
    growth = LN2 / 1.5
    assert round(12 / growth, 2) == 25.97
    assert compute_fixed_job_wait(25.9 / 12, growth) == 0
    assert compute_fixed_job_wait(4, growth) == pytest.approx(math.log(4 * growth) / growth)


def test_longest_training_run() -> None:
    """3.55 years; 1.22 years; 9.12 months (9.13 by the formula); 6.46 months."""
    hardware_growth, software, investment = LN2 / 2.46, math.log(44) / 7, math.log(2.81)
    assert round(longest_run(hardware_growth), 2) == 3.55
    assert round(longest_run(hardware_growth, software), 2) == 1.22
    assert 12 * longest_run(hardware_growth, investment) == pytest.approx(9.12, abs=0.01)
    assert 12 * longest_run(hardware_growth, software, investment) == pytest.approx(6.46, abs=0.01)


def test_option_to_wait() -> None:
    """The trigger moves from 0.0767 V to 0.0748 V as K goes from 0 to 0.9; the option on 2 V is worth 0.7066."""
    assert option_trigger(1, -1.204, 1e-9, 0.1) == pytest.approx(0.1 / 1.304)
    assert round(option_trigger(1, -1.204, 0.0, 0.1), 4) == 0.0767
    assert round(option_trigger(1, -1.204, 0.9, 0.1), 4) == 0.0748
    assert option_value(2, 1, -1.204, 0.6, 0.1) == pytest.approx(0.7066, abs=0.0001)
    assert option_value(0.05, 1, -1.204, 0.6, 0.1) == 0.95
    assert option_exponent(0.1, 0.5, 0.1) < 0


def test_lump_by_a_deadline() -> None:
    """With one lump of money, start as late as it can still end."""
    assert start_of_lump(2.0, 0.5) == 1.5
    with pytest.raises(DeclineError, match="deadline"):
        start_of_lump(0.4, 0.5)


def test_edges_of_the_optimum() -> None:
    """Worth nothing or never cheaper: wait for ever; rising faster than interest: never wait."""
    assert Terms(1, 0, 0.1).best_start(0.3) == math.inf
    assert Terms(1, 0.01, 0.1).best_start(-0.05) == math.inf
    assert Terms(1, 0.01, 0.1).best_start(-0.2) == 0
    assert Terms(100, 10, 0.1).best_start(0.0) == 0, (
        "interest saved and value lost are equal: no reason to wait"
    )


@pytest.mark.parametrize(
    ("value", "years", "decision"),
    [
        (700e3, 30, "train now"),
        (50e3, 30, "wait"),
        (180e3, 30, "cannot tell"),
        (1e3, 5, "do not train"),
    ],
)
def test_decision(value: float, years: float, decision: str) -> None:
    """A clear value decides; between, the doubt about the decline includes both answers."""
    answer = wait(450e3, hardware(), value_usd_per_year=value, obsolete_in_years=years)
    assert answer.decision == decision
    assert answer.break_even_usd_per_year.at_5 < answer.break_even_usd_per_year.at_95
    assert answer.regrets[1].loss_usd.at_50 == pytest.approx(0, abs=1e-6)
    assert all(
        loss >= -1e-6 for regret in answer.regrets for loss in (regret.loss_usd.at_5, regret.loss_usd.at_95)
    )


def test_a_certain_decline_gives_one_answer() -> None:
    """Without doubt all three quantiles agree and the chance is 1 or 0."""
    answer = wait(
        450e3, UncertainRate.certain(LogRate.from_decline(0.7)), value_usd_per_year=200e3, run_years=0.1
    )
    assert answer.decision == "wait"
    assert round(answer.best_start_years.at_5, 4) == round(answer.best_start_years.at_95, 4) == 0.9023
    assert answer.probability_waiting_is_right == 1
    assert answer.npv_now_usd == pytest.approx(npv(0))
    assert answer.npv_best_usd.at_50 == pytest.approx(npv(answer.best_start_years.at_50))
    assert len(answer.npv_at) == 5
    assert any("200,000" in text for text in answer.assumptions)


def test_invalid_arguments_are_refused() -> None:
    """Costs, discounts, lengths and dates out of range."""
    certain = UncertainRate.certain(LogRate(-0.3))
    for bad in (
        {"cost_usd": 0},
        {"discount_per_year": 0},
        {"value_usd_per_year": -1},
        {"run_years": 11},
        {"confidence": 0.5},
    ):
        with pytest.raises(DeclineError, match="wait"):
            wait(**({"cost_usd": 1, "decline": certain, "value_usd_per_year": 1} | bad))  # type: ignore[arg-type]
    with pytest.raises(DeclineError, match="break-even"):
        TERMS.break_even_after(0, 1)
    with pytest.raises(DeclineError, match="job"):
        compute_fixed_job_wait(0, 0.3)
    with pytest.raises(DeclineError, match="growth rates"):
        longest_run(0.1, -0.1)
    for drift, k, r in ((-1, 0.5, 0), (-1, -0.5, 0.1), (0.3, 0, 0.1)):
        with pytest.raises(DeclineError, match="option"):
            option_exponent(drift, k, r)
