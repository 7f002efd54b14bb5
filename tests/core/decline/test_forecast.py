"""Forecasts are distributions: quantiles, intervals and chances agree, and their basis is told."""

from __future__ import annotations

import math

import pytest

from builders.decline_figures import HARD_DISKS
from trainfare_core.decline import DeclineError, Series, fit_moore, fit_wright, forecast
from trainfare_core.decline.forecast import RHO, THETA
from trainfare_core.decline.uncertain_rate import StudentT

YEARS, COSTS, MADE = zip(*HARD_DISKS, strict=True)
DISKS = Series.of(YEARS, COSTS, production=MADE)


def test_moore_quantiles_are_student_t_about_the_median() -> None:
    """Median y + mu tau; the 95 % interval is K sqrt(A*) times t(m-1), inflated by 1.2."""
    fit = fit_moore(DISKS, 5)
    then = forecast(fit, 2010)
    median = math.log(fit.last_cost) + 3 * fit.rate.log_per_year
    assert math.log(then.median) == pytest.approx(median)
    variance = (-2 * THETA + (1 + 8 * THETA / 5 + THETA**2) * (3 + 9 / 5)) / (1 + THETA**2)
    half = 1.2 * fit.k_per_sqrt_year * math.sqrt(variance) * StudentT(4).inv_cdf(0.975)
    bounds = then.interval(0.95)
    assert math.log(bounds.high) == pytest.approx(median + half)
    assert math.log(bounds.low) == pytest.approx(median - half)
    assert then.prob_below(bounds.high) == pytest.approx(0.975)
    assert (then.basis.law, then.basis.m, then.basis.k_from) == ("moore", 5, "fit")
    assert then.informative


def test_wright_with_production_given_is_conditional_and_says_so() -> None:
    """The median follows omega D, rho 0.19 and no inflation; the basis names the condition."""
    fit = fit_wright(DISKS)
    then = forecast(fit, 2009, experience_then=4 * fit.last_experience)
    assert then.median == pytest.approx(fit.last_cost * 4**fit.exponent)
    assert (then.basis.production, then.basis.moving_average, then.basis.inflation) == ("given", RHO, 1.0)
    assert "conditional" in then.basis.notes[0]


def test_forecasting_production_too_widens_the_interval() -> None:
    """The doubt about future production is inside where none is given."""
    fit = fit_wright(DISKS, 8)
    mean_growth = math.exp(5 * sum(fit.growth) / fit.m)
    given = forecast(fit, 2012, experience_then=mean_growth * fit.last_experience, dist="normal").interval(
        0.9
    )
    drawn = forecast(fit, 2012, dist="normal")
    bounds = drawn.interval(0.9)
    assert bounds.high / bounds.low > given.high / given.low
    assert drawn.basis.production == "forecast"
    assert forecast(fit, 2012).interval(0.5).low < forecast(fit, 2012).median


def test_records_are_flagged() -> None:
    """A trend through records tends to be too fast, and the forecast says how often."""
    records = Series.of([1, 2, 3, 4, 5, 6], [32, 16, 9, 4, 2, 1]).records()
    assert "73 %" in forecast(fit_moore(records), 8).basis.notes[-1]


def test_invalid_arguments_are_refused() -> None:
    """No forecast of the past, no cost of zero, no shrinking experience."""
    fit = fit_wright(DISKS)
    with pytest.raises(DeclineError, match="not after"):
        forecast(fit, 2007)
    with pytest.raises(DeclineError, match="experience"):
        forecast(fit, 2009, experience_then=fit.last_experience)
    then = forecast(fit_moore(DISKS), 2009)
    with pytest.raises(DeclineError, match="cost"):
        then.prob_below(0)
    with pytest.raises(DeclineError, match="probability"):
        then.quantile(1.0)
