"""What must hold for every series, rate and run."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainfare_core.decline import (
    LogRate,
    RunState,
    Series,
    compose,
    cost_in_year,
    decompose,
    fit_moore,
    fit_wright,
    forecast,
    moore_variance,
    outlook,
    wright_variance,
)

few = settings(max_examples=60, deadline=None)
changes = st.lists(st.floats(-1, 1), min_size=6, max_size=15)
above_0 = st.floats(0.01, 100)


def series_of(steps: list[float], scale: float = 1.0) -> Series:
    logs = [sum(steps[:i]) for i in range(len(steps) + 1)]
    values = [2.0**i for i in range(len(logs))]
    return Series.of(range(2000, 2000 + len(logs)), [scale * math.exp(y) for y in logs], production=values)


@few
@given(changes, st.floats(0, 1), st.floats(0.1, 12), st.floats(0.1, 12))
def test_intervals_widen_with_the_horizon(
    steps: list[float], theta: float, first: float, more: float
) -> None:
    """Further away is never surer, in time and in experience."""
    fit = fit_moore(series_of(steps))
    near, far = (
        forecast(fit, fit.last_year + tau, theta=theta).parts[0].scale for tau in (first, first + more)
    )
    assert near <= far * (1 + 1e-9)
    growth = [0.3] * 6
    whole = (math.ceil(first), math.ceil(first) + math.ceil(more))
    assert wright_variance(whole[0], 0.3 * whole[0], growth, theta) < wright_variance(
        whole[1], 0.3 * whole[1], growth, theta
    )


@few
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.floats(1, 20))
def test_intervals_shrink_with_the_length_of_the_series(m: int, more: int, theta: float, tau: float) -> None:
    """A longer history with the same noise is surer."""
    tolerance = 1e-9
    assert moore_variance(tau, m + more, 0.0) < moore_variance(tau, m, 0.0)
    # With theta the drift's error counts the noise's memory once less at the start of a very short series.
    if m >= 4:
        assert moore_variance(tau, m + more, theta) <= moore_variance(tau, m, theta) * (1 + tolerance)


@few
@given(st.lists(st.floats(-3, 3), max_size=6), st.floats(-3, 3))
def test_log_rates_add(logs: list[float], extra: float) -> None:
    """compose() is addition: order does not matter, and factors multiply."""
    rates = [LogRate(value) for value in [*logs, extra]]
    together = compose(*rates)
    assert together.log_per_year == pytest.approx(math.fsum(logs) + extra, abs=1e-12)
    assert together.log_per_year == compose(*reversed(rates)).log_per_year
    assert together.factor == pytest.approx(math.prod(rate.factor for rate in rates), rel=1e-9)


@few
@given(above_0, above_0, above_0, above_0, above_0, above_0)
def test_price_units_leave_shares_unchanged(
    f0: float, f1: float, p0: float, p1: float, peak: float, unit: float
) -> None:
    """Cents for dollars, or euros: the same shares."""
    decomposition = decompose(RunState(2020, f0, p0, 1.0, 0.4), RunState(2022, f1, p1, peak, 0.5))
    other = decompose(RunState(2020, f0, p0 * unit, 1.0, 0.4), RunState(2022, f1, p1 * unit, peak, 0.5))
    for before, after in zip(decomposition.parts, other.parts, strict=True):
        assert math.log(before.factor) == pytest.approx(math.log(after.factor), abs=1e-9)
        assert before.decline_per_year == pytest.approx(after.decline_per_year, abs=1e-9)


@few
@given(st.lists(st.floats(0.001, 0.8), min_size=6, max_size=15), above_0)
def test_a_rising_series_rises(steps: list[float], scale: float) -> None:
    """No model forces a decline: d < 0, and the median of a later year is above the last cost."""
    series = series_of(steps, scale)
    fit = fit_moore(series)
    assert fit.rate.decline < 0
    assert forecast(fit, fit.last_year + 2).median > fit.last_cost
    wright = fit_wright(series)
    assert wright.exponent > 0
    assert (
        forecast(wright, wright.last_year + 2, experience_then=2 * wright.last_experience).median
        > wright.last_cost
    )


@few
@given(changes, st.floats(0.01, 1000))
def test_cost_units_scale_forecasts(steps: list[float], scale: float) -> None:
    """The same series in another currency gives the same forecast in that currency."""
    item, other = (forecast(fit_moore(series_of(steps, unit)), 2030) for unit in (1.0, scale))
    assert other.median == pytest.approx(scale * item.median)
    assert other.interval(0.9).high == pytest.approx(scale * item.interval(0.9).high)


@settings(max_examples=20, deadline=None)
@given(st.floats(1, 1e6), st.floats(0.1, 5), st.sampled_from(["compute", "quality"]))
def test_quantiles_and_chances_agree(cost: float, years: float, question: str) -> None:
    """quantile() and prob_below() are each other's inverse, also in a mixture."""
    then = cost_in_year(cost, 2026, 2026 + years, question=question)  # type: ignore[arg-type]
    for p in (0.05, 0.5, 0.95):
        assert then.prob_below(then.quantile(p)) == pytest.approx(p, abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.floats(100, 1e6), st.floats(0, 1e6))
def test_a_verdict_never_contradicts_its_interval(cost: float, value: float) -> None:
    """Inside the interval of what waiting saves there is no verdict."""
    answer = outlook(cost, value_usd_per_month=value, horizon_months=12)
    if answer.verdict == "train now":
        assert value > answer.waiting.high
    elif answer.verdict == "wait":
        assert value < answer.waiting.low
    else:
        assert answer.waiting.low <= value <= answer.waiting.high
