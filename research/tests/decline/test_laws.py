"""The other laws recover the coefficients that made the data, and refuse what determines none."""

from __future__ import annotations

import math

import pytest

from trainfare_core.decline import DeclineError, Series, TooLittleDataError, experience
from trainfare_research.decline.laws import LAWS, Law, fit_law

MADE = [1.0, 1.7, 2.1, 4.0, 5.5, 9.0, 15.0, 16.0]
BEFORE = experience(MADE)
YEARS = [float(year) for year in range(2010, 2018)]


def make_series(law: Law, coefficients: tuple[float, ...]) -> Series:
    """Costs that follow a law exactly."""
    columns = {
        "time": [year - 2000 for year in YEARS],
        "production": [math.log(q) for q in MADE],
        "cumulative": [math.log(z + q) for z, q in zip(BEFORE, MADE, strict=True)],
        "cumulative_before": [math.log(z) for z in BEFORE],
    }
    logs = [
        3 + sum(c * columns[term][i] for c, term in zip(coefficients, LAWS[law], strict=True))
        for i in range(8)
    ]
    return Series.of(YEARS, [math.exp(y) for y in logs], production=MADE)


@pytest.mark.parametrize("law", LAWS)
def test_each_law_finds_its_own_coefficients(law: Law) -> None:
    """Goddard, Sinclair-Klepper-Cohen, Nordhaus, Wright, lagged Wright and Moore on levels."""
    wanted = (-0.3, -0.2)[: len(LAWS[law])]
    fit = fit_law(make_series(law, wanted), law)
    assert fit.constant == pytest.approx(3)
    assert fit.coefficients == pytest.approx(wanted)
    assert fit.residual_std == pytest.approx(0, abs=1e-6)
    assert fit.cost(2012, MADE[2], BEFORE[2]) == pytest.approx(make_series(law, wanted).costs[2])


def test_laws_need_production() -> None:
    """Only Moore's law gets by without amounts."""
    series = Series.of(YEARS, [2**-i for i in range(8)])
    assert fit_law(series, "moore").coefficients[0] == pytest.approx(-math.log(2))
    with pytest.raises(DeclineError, match="goddard"):
        fit_law(series, "goddard")


def test_a_line_by_hand() -> None:
    """A line through four logs, with the textbook's residual deviation."""
    fit = fit_law(Series.of([2000, 2001, 2002, 2003], [math.exp(y) for y in (1, 3, 2, 5)]), "moore")
    assert (fit.constant, *fit.coefficients) == pytest.approx((1.1, 1.1))
    assert fit.residual_std == pytest.approx(math.sqrt(2.7 / 2))


def test_what_no_line_fits() -> None:
    """Too few points, or columns that are linearly dependent."""
    with pytest.raises(TooLittleDataError):
        fit_law(Series.of([2000, 2001], [2, 1]), "moore")
    doubling = [2.0**i for i in range(6)]
    steady = Series.of(range(2000, 2006), [1.0, 0.9, 0.7, 0.6, 0.4, 0.3], production=doubling)
    with pytest.raises(DeclineError, match="dependent"):
        fit_law(steady, "nordhaus")
