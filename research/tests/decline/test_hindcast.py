"""Hindcasts count every forecast once, and surrogates are the same for the same seed."""

from __future__ import annotations

import math

import pytest

from builders.decline_figures import DRAM, HARD_DISKS, PHOTOVOLTAICS
from trainfare_core.decline import (
    DeclineError,
    Series,
    TooLittleDataError,
    fit_moore,
    fit_wright,
    forecast,
)
from trainfare_research.decline.hindcast import Hindcast, hindcast
from trainfare_research.decline.surrogates import surrogate_bands

SOLAR = Series.of([year for year, _ in PHOTOVOLTAICS], [cost for _, cost in PHOTOVOLTAICS])
DISKS, CHIPS = (
    Series.of([row[0] for row in table], [row[1] for row in table], production=[row[2] for row in table])
    for table in (HARD_DISKS, DRAM)
)


def test_a_hindcast_is_the_forecast_that_would_have_been_made() -> None:
    """One entry, against the product's own fit and forecast of the years before."""
    done = hindcast({"solar": SOLAR}, 5, (3,))
    first = done.errors[0]
    before = Series(SOLAR.times[:6], SOLAR.costs[:6])
    then = forecast(fit_moore(before, 5), before.times[-1] + 3, inflation=1.0)
    assert first.origin_year == before.times[-1]
    assert first.actual * math.exp(-first.log_error) == pytest.approx(then.median)
    assert first.actual == SOLAR.costs[8]
    assert first.standard_error == pytest.approx(then.parts[0].scale)


def test_wright_knows_future_production() -> None:
    """One entry, against the product's own fit, with the experience that came."""
    done = hindcast({"chips": CHIPS}, 5, (2,), model="wright")
    whole = fit_wright(CHIPS)
    last = done.errors[-1]
    assert last.actual == whole.last_cost
    before = Series(CHIPS.times[:-2], CHIPS.costs[:-2], (CHIPS.production or ())[:-2])
    z0 = whole.last_experience - sum((CHIPS.production or ())[:-1])
    fit = fit_wright(before, 5, z0=z0)
    then = forecast(fit, before.times[-1] + 2, experience_then=whole.last_experience)
    assert last.actual * math.exp(-last.log_error) == pytest.approx(then.median)
    assert last.standard_error == pytest.approx(then.parts[0].scale)


def test_counts_and_summaries() -> None:
    """34 years, m = 5: 28 origins; tau counted from 1 to 20; each summary over what it says."""
    done = hindcast({"solar": SOLAR, "chips": CHIPS}, 5)
    solar = hindcast({"solar": SOLAR}, 5)
    assert len(solar.errors) == sum(min(20, left) for left in range(1, 29))
    assert len(solar.at(20).errors) == 9
    assert 0 < done.coverage(0.5) < done.coverage(0.9) < done.coverage(0.9, inflation=1.5)
    assert done.at(1).mean_square() < done.at(10).mean_square()
    assert done.at(1).mean_square() == pytest.approx(
        sum((error.log_error / error.noise) ** 2 for error in done.at(1).errors) / len(done.at(1).errors)
    )


def test_series_without_noise() -> None:
    """A perfect trend is always right; one that then breaks is never inside."""
    steady = Series.of(range(2000, 2012), [0.5**i for i in range(12)])
    assert (
        hindcast({"steady": Series(steady.times, tuple(1.0 for _ in steady.times))}, 3, (1,)).coverage(0.5)
        == 1
    )
    broken = Series(steady.times, (*(1.0 for _ in range(11)), 2.0))
    assert hindcast({"broken": broken}, 3, (1,)).mean_square() == math.inf


def test_what_cannot_be_hindcast() -> None:
    """Gaps, no production, no noise, nothing at all."""
    with pytest.raises(DeclineError, match="uneven"):
        hindcast({"gap": Series.of([1, 2, 4], [3, 2, 1])}, 2)
    with pytest.raises(DeclineError, match="no production"):
        hindcast({"solar": SOLAR}, 5, model="wright")
    with pytest.raises(TooLittleDataError, match="no noise"):
        hindcast({"solar": SOLAR}, 1)
    with pytest.raises(TooLittleDataError, match="long enough"):
        Hindcast(5, ()).mean_square()


def test_surrogates_repeat_and_widen() -> None:
    """Same seed, same bands; errors grow with the horizon; a Xi far outside is not held."""
    once = surrogate_bands({"disks": DISKS, "chips": CHIPS}, 5, (1, 5, 40), 0.63, runs=30, seed=7)
    again = surrogate_bands({"disks": DISKS, "chips": CHIPS}, 5, (1, 5, 40), 0.63, runs=30, seed=7)
    assert once == again
    assert [band.tau for band in once] == [1, 5]
    assert once[0].low < once[0].mean < once[0].high < once[1].high
    assert once[0].holds(once[0].mean)
    assert not once[0].holds(1e6)
    with pytest.raises(DeclineError, match="runs"):
        surrogate_bands({"disks": DISKS}, 5, (1,), 0.63, runs=1, seed=7)
