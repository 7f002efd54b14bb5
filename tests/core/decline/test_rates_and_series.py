"""Rates convert exactly, dates are read as precisely as they are written, records are the best so far."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from builders.decline_figures import DAWNBENCH_CIFAR10, DAWNBENCH_IMAGENET
from trainfare_core.decline import DeclineError, LogRate, Series, compose, decimal_year
from trainfare_core.decline.uncertain_rate import ATOMS, mixture_quantile


def test_seventy_percent_a_year_is_6_9_months() -> None:
    """D, mu, factor and halving time convert into each other."""
    rate = LogRate.from_decline(0.7)
    assert rate.log_per_year == pytest.approx(math.log(0.3), abs=1e-12)
    assert rate.after(6.9 / 12) == pytest.approx(0.5, abs=0.005)
    assert rate.factor == pytest.approx(1 / 0.3, abs=1e-12)
    assert rate.after(2) == pytest.approx(0.09, abs=1e-12)


@pytest.mark.parametrize(("months", "percent"), [(16, 40.5), (9, 60.3), (8, 64.6)])
def test_halving_times(months: float, percent: float) -> None:
    """16, 9 and 8 months are 40.5, 60.3 and 64.6 % a year, and come back to 1e-12."""
    rate = LogRate(-12 * math.log(2) / months)
    assert round(100 * rate.decline, 1) == percent
    assert rate.after(months / 12) == pytest.approx(0.5, abs=1e-12)
    assert LogRate.from_decline(rate.decline).log_per_year == pytest.approx(rate.log_per_year, abs=1e-12)


def test_two_points() -> None:
    """D = 1 - (C1 / C0)^(1 / dt)."""
    rate = LogRate.from_points(2020, 4.6e6, 2022, 450e3)
    assert rate.decline == pytest.approx(1 - math.sqrt(450 / 4600), abs=1e-12)


def test_percentages_do_not_add() -> None:
    """57 % and 47 % make 77.2 %, and 26 % with 60 % the 70.4 % that the decks sum up."""
    assert compose(LogRate.from_decline(0.57), LogRate.from_decline(0.47)).decline == pytest.approx(0.7721)
    assert round(compose(LogRate.from_decline(0.26), LogRate.from_decline(0.60)).decline, 3) == 0.704
    assert compose().log_per_year == 0


def test_a_rising_cost_is_a_negative_decline() -> None:
    """$1.70 to $2.65 in eight months is a rise, and is said as one."""
    rate = LogRate.from_points(2025.75, 1.70, 2026.4167, 2.65)
    assert rate.decline < 0
    assert rate.factor < 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogRate(math.nan),
        lambda: LogRate.from_decline(1.0),
        lambda: LogRate.from_decline(math.nan),
        lambda: LogRate.from_points(2020, 1, 2020, 2),
        lambda: LogRate.from_points(2020, 0, 2021, 2),
    ],
)
def test_no_rate(make: object) -> None:
    """What has no rate is refused."""
    with pytest.raises(DeclineError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("2022", 2022.0),
        ("2022-07", 2022 + 181 / 365),
        ("2024-12-31", 2024 + 365 / 366),
        ("2022.75", 2022.75),
        (2019.5, 2019.5),
    ],
)
def test_dates(text: str | float, year: float) -> None:
    """A date is a decimal year, from ISO text or a number."""
    assert decimal_year(text) == pytest.approx(year)


@pytest.mark.parametrize("text", ["", "soon", "2022-13", "2022-02-30", "22", math.inf])
def test_no_date(text: str | float) -> None:
    """What is no date is refused with an example of one."""
    with pytest.raises(DeclineError, match="date"):
        decimal_year(text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Series((2020.0,), (1.0,)),
        lambda: Series((2020.0, 2021.0), (1.0,)),
        lambda: Series((2020.0, 2021.0), (1.0, 2.0), (1.0,)),
        lambda: Series((2021.0, 2020.0), (1.0, 2.0)),
        lambda: Series((2020.0, 2020.0), (1.0, 2.0)),
        lambda: Series((2020.0, 2021.0), (1.0, 0.0)),
        lambda: Series((2020.0, 2021.0), (1.0, math.nan)),
        lambda: Series((2020.0, 2021.0), (1.0, 2.0), (1.0, -1.0)),
    ],
)
def test_no_series(make: object) -> None:
    """Costs above 0 at rising times, or no series."""
    with pytest.raises(DeclineError, match="series"):
        make()  # type: ignore[operator]


def best_so_far(entries: tuple[tuple[str, float], ...]) -> list[float]:
    """Every date's best entry, then the records among them."""
    best = {day: min(cost for other, cost in entries if other == day) for day, _ in entries}
    return list(Series.of(list(best), list(best.values())).records().costs)


def test_dawnbench_records() -> None:
    """The best-so-far costs of both DAWNBench tasks, in order."""
    assert best_so_far(DAWNBENCH_IMAGENET) == pytest.approx(
        [1112.64, 358.22, 82.07, 49.30, 48.48, 12.60, 7.43], abs=0.006
    )
    assert best_so_far(DAWNBENCH_CIFAR10) == pytest.approx(
        [8.35, 3.46, 1.18, 0.258, 0.0629, 0.0212], abs=0.006
    )


def test_records_keep_their_production_and_say_what_they_are() -> None:
    """A record series is marked, and the amounts stay with their years."""
    series = Series.of(["2020", "2021", "2022"], [3, 4, 2], production=[1, 2, 3], quality="a level")
    assert series.is_record == (True, False, True)
    kept = series.records()
    assert (kept.costs, kept.production, kept.kind, kept.quality) == ((3, 2), (1, 3), "record", "a level")
    assert series.step_years == pytest.approx(1)
    assert Series.of(["2020", "2021", "2023"], [3, 4, 2]).step_years is None


def test_a_quantile_of_a_mixture_has_its_chance_below_it() -> None:
    """The fast sums agree with `statistics.NormalDist` part by part to 1e-12, at every probability and scale."""
    parts = [(0.3 * i % 1.7, 0.05 + 0.1 * (i % 4)) for i in range(ATOMS)]
    for p in (0.001, 0.05, 0.25, 0.5, 0.9, 0.999):
        x = mixture_quantile(parts, p)
        below = math.fsum(NormalDist(centre, scale).cdf(x) for centre, scale in parts) / len(parts)
        assert below == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize(
    ("p", "index"), [(0.001, 0), (0.2, 0), (0.2001, 1), (0.5, 2), (0.8, 3), (0.81, 4), (0.99, 4)]
)
def test_a_quantile_of_certain_values_is_one_of_them(p: float, index: int) -> None:
    """It is the lowest value that at least p of them do not exceed."""
    values = [3.0, 1.0, 2.0, 5.0, 4.0]
    assert mixture_quantile([(value, 0.0) for value in values], p) == sorted(values)[index]
