"""The other laws recover what made the data, and least squares refuses what it cannot answer."""

from __future__ import annotations

import math

import pytest

from trainfare_core.decline import LAWS, DeclineError, Series, TooLittleDataError, experience, fit_law
from trainfare_core.decline.laws import Law
from trainfare_core.decline.least_squares import least_squares

MADE = [1.0, 1.7, 2.1, 4.0, 5.5, 9.0, 15.0, 16.0]
BEFORE = experience(MADE)
YEARS = [float(year) for year in range(2010, 2018)]


def made_by(law: Law, coefficients: tuple[float, ...]) -> Series:
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
    fit = fit_law(made_by(law, wanted), law)
    assert fit.constant == pytest.approx(3)
    assert fit.coefficients == pytest.approx(wanted)
    assert fit.residual_std == pytest.approx(0, abs=1e-6)
    assert fit.cost(2012, MADE[2], BEFORE[2]) == pytest.approx(made_by(law, wanted).costs[2])


def test_laws_need_production() -> None:
    """Only Moore's law gets by without amounts."""
    series = Series.of(YEARS, [2**-i for i in range(8)])
    assert fit_law(series, "moore").coefficients[0] == pytest.approx(-math.log(2))
    with pytest.raises(DeclineError, match="goddard"):
        fit_law(series, "goddard")


def test_least_squares_by_hand() -> None:
    """A line through four points, with the textbook's standard errors and R squared."""
    fit = least_squares([[1, 1, 1, 1], [0, 1, 2, 3]], [1, 3, 2, 5])
    assert fit.coefficients == pytest.approx((1.1, 1.1))
    assert fit.residual_std == pytest.approx(math.sqrt(2.7 / 2))
    assert fit.standard_errors[1] == pytest.approx(math.sqrt(2.7 / 2 / 5))
    assert fit.r_squared == pytest.approx(1 - 2.7 / 8.75)
    assert least_squares([[1, 1, 1]], [2, 2, 2]).r_squared == 1


def test_least_squares_refuses() -> None:
    """Too few points, or columns that say the same thing."""
    with pytest.raises(TooLittleDataError):
        least_squares([[1, 1], [0, 1]], [1, 2])
    with pytest.raises(DeclineError, match="depend"):
        least_squares([[1, 1, 1], [2, 2, 2]], [1, 2, 3])
    with pytest.raises(DeclineError, match="depend"):
        least_squares([[1, 1, 1], [0, 0, 0]], [1, 2, 3])
