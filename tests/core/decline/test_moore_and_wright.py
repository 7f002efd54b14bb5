"""Moore-type and Wright fits: closed forms, photovoltaics, learning rates, what they refuse."""

from __future__ import annotations

import math

import pytest

from builders.decline_figures import DRAM, HARD_DISKS, PHOTOVOLTAICS
from trainfare_core.decline import (
    DeclineError,
    Series,
    TooLittleDataError,
    experience,
    fit_moore,
    fit_wright,
    forecast,
    is_improving,
    moore_variance,
    prior_k,
    wright_variance,
)
from trainfare_core.decline.moore import improvement_p_value


def photovoltaics() -> Series:
    return Series.of([year for year, _ in PHOTOVOLTAICS], [cost for _, cost in PHOTOVOLTAICS])


def make_series(table: tuple[tuple[int, float, float], ...]) -> Series:
    years, costs, made = zip(*table, strict=True)
    return Series.of(years, costs, production=made)


def compute_starred(tau: float, m: int, theta: float) -> float:
    return moore_variance(tau, m, theta) * (1 + theta**2)


def test_variance_closed_forms() -> None:
    """A*(10,5,.63) = 70.887, A*(17,33,.63) = 66.192, A(20,5) = 100."""
    assert round(compute_starred(10, 5, 0.63), 3) == 70.887
    assert round(compute_starred(17, 33, 0.63), 3) == 66.192
    assert moore_variance(20, 5) == 100
    assert moore_variance(1, 5, 0.63) < 1.2
    assert moore_variance(0.5, 5) == pytest.approx(0.6)


@pytest.mark.parametrize("rho", [0.0, 0.19, 0.63])
@pytest.mark.parametrize(("tau", "m"), [(1, 4), (7, 9), (20, 5)])
def test_wright_variance_is_moores_for_constant_growth(rho: float, tau: int, m: int) -> None:
    """A_w(constant X) = A* / (1 + theta^2)."""
    growth = [0.2] * m
    assert wright_variance(tau, 0.2 * tau, growth, rho) == pytest.approx(
        moore_variance(tau, m, rho), rel=1e-12
    )


def test_wright_variance_without_noise_memory() -> None:
    """For rho = 0 it is tau + D^2 / sum X^2; below one step the noise is scaled down."""
    assert wright_variance(3, 0.6, [0.1, 0.3]) == pytest.approx(3 + 0.36 / 0.1)
    assert wright_variance(0.5, 0.1, [0.1, 0.3]) == pytest.approx(0.5 + 0.01 / 0.1)


def test_photovoltaics() -> None:
    """Mu -0.10, K 0.15, m 33; 4.94 % that modules cost more in 2030 than in 2013; a third of the cost after 11 years."""
    fit = fit_moore(photovoltaics())
    assert (round(fit.rate.log_per_year, 4), round(fit.k_per_sqrt_year, 4), fit.m) == (-0.1004, 0.1502, 33)
    then = forecast(fit, 2030, theta=0.63, inflation=1.0, dist="normal")
    assert round(100 * (1 - then.prob_below(fit.last_cost)), 2) == 4.94
    assert math.log(3) / -fit.rate.log_per_year == pytest.approx(10.94, abs=0.005)
    assert is_improving(photovoltaics())


@pytest.mark.parametrize(("table", "percent", "to_rounding"), [(DRAM, 37.6, 0.05), (HARD_DISKS, 46.8, 0.05)])
def test_learning_rates(
    table: tuple[tuple[int, float, float], ...], percent: float, to_rounding: float
) -> None:
    """DRAM 37.6 % and hard disks 46.8 % a doubling, in first differences with z0 = growth."""
    fit = fit_wright(make_series(table))
    assert 100 * fit.learning_rate == pytest.approx(percent, abs=to_rounding)


def test_experience_before_the_first_year() -> None:
    """Z_0 = q_0 / g, then what was made is added."""
    assert experience([1, 2, 4]) == pytest.approx((1, 2, 4))
    assert experience([5, 5], z0=10) == (10, 15)
    with pytest.raises(DeclineError, match="did not grow"):
        experience([5, 5])
    with pytest.raises(TooLittleDataError):
        experience([5])


def test_uneven_times_are_weighted_by_their_length() -> None:
    """Drift (y_m - y_0) / T; K from squared residuals over dt; A = tau + tau^2 / T without theta."""
    series = Series.of([2020, 2021, 2023, 2024, 2027], [16, 9, 4, 2, 1])
    fit = fit_moore(series)
    logs, steps = [math.log(c) for c in series.costs], [1, 2, 1, 3]
    mu = (logs[-1] - logs[0]) / 7
    expected = sum((b - a - mu * dt) ** 2 / dt for a, b, dt in zip(logs, logs[1:], steps, strict=False)) / 3
    assert fit.k_per_sqrt_year == pytest.approx(math.sqrt(expected))
    later = forecast(fit, 2030, theta=0.63, inflation=1.0)
    assert later.parts[0].scale == pytest.approx(fit.k_per_sqrt_year * math.sqrt(3 + 9 / 7))
    assert later.basis.moving_average == 0
    assert "uneven" in later.basis.notes[0]


def test_short_series_take_k_from_the_prior() -> None:
    """Below four differences K = 0.02 + 0.76 |mu|, and a trend through two points is uninformative for 2030."""
    fit = fit_moore(Series.of([2020, 2022], [4.6e6, 450e3]))
    assert fit.k_is_prior
    assert fit.k_per_sqrt_year == pytest.approx(0.02 + 0.76 * 1.1623, abs=1e-4)
    assert prior_k(-0.5) == prior_k(0.5)
    later = forecast(fit, 2030, inflation=1.0)
    assert later.dof is None
    assert not later.informative
    assert "prior" in later.basis.notes[0]


def test_what_cannot_be_fitted() -> None:
    """Each refusal is a sentence, none a number."""
    pair = Series.of([2020, 2021], [2, 1], production=[1, 2])
    with pytest.raises(TooLittleDataError, match="differences"):
        fit_moore(pair, 2)
    with pytest.raises(TooLittleDataError, match="2 at least"):
        fit_wright(pair)
    with pytest.raises(DeclineError, match="production"):
        fit_wright(photovoltaics())
    with pytest.raises(TooLittleDataError, match="3 at least"):
        is_improving(pair)
    for arguments in ((-1, 5, 0.0), (1, 0, 0.0), (1, 5, 1.5)):
        with pytest.raises(DeclineError, match="variance"):
            moore_variance(*arguments)
    with pytest.raises(DeclineError, match="variance"):
        wright_variance(-1, 0.0, [0.1, 0.1])


def test_perfectly_even_declines_have_no_noise() -> None:
    """A series without noise is improving or not by its sign alone."""
    falling, rising = Series.of([1, 2, 4], [8, 4, 1]), Series.of([1, 2, 3], [1, 1, 1])
    assert improvement_p_value(falling) == pytest.approx(0, abs=1e-9)
    assert improvement_p_value(rising) == 1
