"""The published study on its own data: counts, every drift and noise, error growth, coverage, surrogates."""

from __future__ import annotations

import pytest

from trainfare_core.decline import Series, fit_moore, fit_wright, is_improving
from trainfare_research.data import TABLES
from trainfare_research.decline.hindcast import Hindcast, hindcast
from trainfare_research.decline.surrogates import surrogate_bands
from trainfare_research.runners import decline_hindcast
from trainfare_research.truth_table import read_rows

DATA = TABLES / "cost_decline"


@pytest.fixture(scope="module")
def studied() -> dict[str, dict[str, Series]]:
    technologies_list_by_key = decline_hindcast.technologies(read_rows(DATA / "technology_curves.csv"))
    return {
        "all": technologies_list_by_key["FL2016"].costs,
        "improving": decline_hindcast.improving(technologies_list_by_key["FL2016"].costs),
        "pcdb": decline_hindcast.improving(technologies_list_by_key["PCDB"].produced),
        "produced": technologies_list_by_key["PCDB"].produced,
    }


def percents(done: Hindcast) -> list[int]:
    return [round(100 * done.coverage(level)) for level in (0.5, 0.9, 0.95)]


def test_every_drift_and_noise(studied: dict[str, dict[str, Series]]) -> None:
    """Mu and K of all 66 technologies to four digits; 53 improve."""
    summary = read_rows(DATA / "technology_summary.csv")
    assert len(summary) == len(studied["all"]) == 66
    for row in summary:
        series = studied["all"][row["technology"]]
        fit = fit_moore(series)
        assert f"{fit.rate.log_per_year:.4g}" == f"{float(row['mu_log_per_year']):.4g}"
        assert f"{fit.k_per_sqrt_year:.4g}" == f"{float(row['k_log_per_sqrt_year']):.4g}"
        assert is_improving(series) == (row["improving_10pct"] == "1")
    assert len(studied["improving"]) == 53


def test_noise_goes_with_drift(studied: dict[str, dict[str, Series]]) -> None:
    """K = 0.0190 (.0077) + 0.759 (.042) |mu|, R squared .867."""
    fits = [fit_moore(series) for series in studied["improving"].values()]
    line = decline_hindcast.noise_line(fits)
    assert (line.intercept, line.slope) == pytest.approx((0.0190, 0.759), abs=0.0005)
    assert (line.intercept_stderr, line.stderr) == pytest.approx((0.0077, 0.042), abs=0.0005)
    assert line.rvalue**2 == pytest.approx(0.867, abs=0.0005)


def test_error_growth_and_coverage(studied: dict[str, dict[str, Series]]) -> None:
    """8,212 and 6,391 forecasts, the Xi row and the coverage rows, to the printed digits."""
    series_list_by_key = studied["improving"]
    assert len(hindcast(series_list_by_key, 5, range(1, 100)).errors) == 8212
    done = hindcast(series_list_by_key, 5, moving_average=0.63)
    assert len(done.errors) == 6391
    row = {
        1: (684, 3.59),
        2: (631, 12.3),
        3: (578, 20.6),
        5: (477, 44.6),
        10: (278, 125.7),
        15: (175, 261),
        20: (121, 454),
    }
    for tau, (n, xi) in row.items():
        assert len(done.at(tau).errors) == n
        digits = len(str(xi).partition(".")[2])
        assert round(done.at(tau).mean_square(), digits) == xi
    assert percents(done) == [45, 85, 92]
    assert percents(hindcast(series_list_by_key, 5, moving_average=0.0)) == [38, 78, 86]
    later = hindcast(series_list_by_key, 16, moving_average=0.63)
    assert (len(later.errors), percents(later)) == (2407, [44, 85, 92])
    names = ("Transistor", "DRAM", "Hard Disk Drive", "Laser Diode", "DNA Sequencing")
    cheap = hindcast({name: series_list_by_key[name] for name in names}, 5, moving_average=0.63)
    assert (len(cheap.errors), percents(cheap)) == (1041, [47, 90, 95])


def test_wright_on_pcdb(studied: dict[str, dict[str, Series]]) -> None:
    """Four learning rates, and 49/90/93 % for rho .19 over 6,186 forecasts."""
    rates = {"DRAM": 37.6, "Transistor": 44.5, "Hard Disk Drive": 46.8, "Photovoltaics 2": 26.9}
    for name, percent in rates.items():
        assert round(100 * fit_wright(studied["produced"][name]).learning_rate, 1) == percent
    done = hindcast(studied["pcdb"], 5, model="wright", moving_average=0.19)
    assert (len(studied["pcdb"]), len(done.errors), percents(done)) == (53, 6186, [49, 90, 93])
    moore = hindcast(studied["pcdb"], 5, moving_average=0.0)
    assert percents(moore) == [40, 80, 87]


def test_surrogates_choose_theta(studied: dict[str, dict[str, Series]]) -> None:
    """Theta 0 fails at every horizon and .25 at 1 to 4; .63 holds from 2 on and is on the edge at 1."""
    taus = tuple(range(1, 21))
    measured = {tau: hindcast(studied["improving"], 5, (tau,)).mean_square() for tau in taus}
    bands = {
        theta: surrogate_bands(studied["improving"], 5, taus, theta, runs=300, seed=2)
        for theta in (0.0, 0.25, 0.63)
    }
    outside = {
        theta: {b.tau for b in bands if not b.holds(measured[b.tau])} for theta, bands in bands.items()
    }
    assert outside[0.0] == set(taus)
    assert outside[0.25] >= {1, 2, 3, 4}
    assert not outside[0.63] & set(taus[1:])
    assert bands[0.63][0].high == pytest.approx(measured[1], rel=0.1)
