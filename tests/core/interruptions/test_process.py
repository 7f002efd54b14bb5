"""What interruptions take, against a simulation of the same process, and in limits that are known by hand."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from trainfare_core.interruptions import HAZARDS, PRIOR, SpotProcess, hazard_of_band

HOUR_S = 3600.0


def process(
    per_hour: list[float],
    *,
    interval_s: float = 1_770.0,
    write_s: float = 30.0,
    restart_s: float = 300.0,
    wait_s: float = 900.0,
    intervals: float = 40,
) -> SpotProcess:
    """Return one run under equally likely rates of interruption."""
    values = np.ones(1)
    rate = np.array([per_hour]) / HOUR_S
    return SpotProcess(
        rate, interval_s * values, write_s * values, restart_s * values, wait_s, intervals * values
    )


@dataclass(frozen=True)
class Simulated:
    """Results of simulated runs, each of shape (runs,), and the mean times on spot and on other machines."""

    total_s: np.ndarray
    changed: np.ndarray
    spot_s: np.ndarray
    sure_s: np.ndarray


def simulate(run: SpotProcess, *, runs: int = 20_000, fallback_after: int | None = None) -> Simulated:
    """Play the process of the module's docstring, all runs at once, interruption by interruption."""
    rng = np.random.default_rng(7)
    rate = np.resize(run.rate_per_s[0], runs)
    length_s, restart_s = float(run.interval_s[0] + run.write_s[0]), float(run.restart_s[0])
    number = float(run.intervals[0])
    done, needed_s = np.zeros(runs), np.full(runs, length_s)
    total_s, spot_s, sure_s, count = (np.zeros(runs) for _ in range(4))
    changed = np.zeros(runs, dtype=np.bool_)
    while (active := done < number).any():
        life_s = np.where(changed, np.inf, rng.exponential(1 / rate))
        through, lost = active & (life_s >= needed_s), active & (life_s < needed_s)
        worked_s = np.minimum(life_s, needed_s) * active
        total_s += worked_s
        spot_s += worked_s * ~changed
        sure_s += worked_s * changed
        done += through
        count += lost
        if fallback_after is not None:
            changed |= count >= fallback_after
        total_s += rng.exponential(run.wait_s, runs) * (lost & ~changed)
        needed_s = np.where(lost, restart_s + length_s, length_s)
    return Simulated(total_s, changed, spot_s, sure_s)


PRIOR_RATES = HAZARDS[PRIOR].per_hour.tolist()
CASES = pytest.mark.parametrize(
    "run",
    [
        pytest.param(process([0.05], interval_s=6_000, intervals=6), id="rare"),
        pytest.param(process(PRIOR_RATES), id="rate-not-known"),
        pytest.param(process([0.4 * rate for rate in (1, 2, 3)], intervals=60), id="frequent"),
        pytest.param(process([0.3], interval_s=17_970, intervals=2, restart_s=600), id="few-long-intervals"),
        pytest.param(process([1.0], interval_s=870, intervals=97, wait_s=600), id="hourly-for-a-day"),
    ],
)


@CASES
def test_mean_and_quantiles_agree_with_a_simulation(run: SpotProcess) -> None:
    """Mean, median, p90 and the number of interruptions within 2 %, chances within 2 points."""
    played = simulate(run).total_s
    ends = run.finish(np.zeros(1), np.zeros(1))
    assert run.expected_s[0] == pytest.approx(played.mean(), rel=0.02)
    assert ends.quantile_s(0.5)[0] == pytest.approx(np.quantile(played, 0.5), rel=0.02)
    assert ends.quantile_s(0.9)[0] == pytest.approx(np.quantile(played, 0.9), rel=0.02)
    for chance in (0.6, 0.75, 0.95):
        limit_s = 1.0001 * np.quantile(
            played, [chance]
        )  # beside the time of all runs without an interruption
        assert ends.chance(limit_s)[0] == pytest.approx(np.mean(played <= limit_s), abs=0.02)


@CASES
def test_a_run_that_changes_to_on_demand_agrees_with_a_simulation(run: SpotProcess) -> None:
    """Chance of changing after 3 interruptions, dollars at a third of the price on spot, and p90."""
    played = simulate(run, fallback_after=3)
    after, ends = run.with_fallback(3), run.finish(np.zeros(1), np.zeros(1), 3)
    assert after.chance[0] == pytest.approx(played.changed.mean(), abs=0.01)
    usd = played.spot_s.mean() / 3 + played.sure_s.mean()
    assert after.spot_s[0] / 3 + after.sure_s[0] == pytest.approx(usd, rel=0.02)
    assert ends.quantile_s(0.9)[0] == pytest.approx(np.quantile(played.total_s, 0.9), rel=0.02)


def test_machines_that_are_not_taken_back_are_not_waited_for() -> None:
    """Of two interruptions before a run changes, only the first waits: an hour on spot machines, none on the others."""
    calm, slow = (
        process([0.3], wait_s=wait_s).finish(np.zeros(1), np.zeros(1), 2).median_s[0]
        for wait_s in (0.0, HOUR_S)
    )
    moved_s = slow - calm
    assert moved_s[0] == 0
    assert moved_s[1] == pytest.approx(HOUR_S)
    assert moved_s[2] == pytest.approx(HOUR_S)


def test_no_checkpoint_means_daly_s_exponential() -> None:
    """A run of one interval and no wait takes (e^(rate length) - 1) / rate plus its restarts, as Daly has it."""
    run = process([0.1], interval_s=48.5 * HOUR_S, write_s=0, restart_s=600, wait_s=0, intervals=1)
    rate = 0.1 / HOUR_S
    expected_s = np.exp(rate * 600) * np.expm1(rate * 48.5 * HOUR_S) / rate
    assert run.expected_s[0] == pytest.approx(expected_s)
    assert 1_200 < run.expected_s[0] / HOUR_S < 1_400


def test_a_job_of_two_days_without_checkpoints_never_ends_under_an_hourly_hazard() -> None:
    """48.5 h of work, lost once an hour: e^48.5 hours, which is no time at all to wait for."""
    run = process([1.0], interval_s=48.5 * HOUR_S, write_s=0, restart_s=0, wait_s=0, intervals=1)
    assert run.expected_s[0] / HOUR_S == pytest.approx(np.expm1(48.5))


def test_counts_of_interruptions_add_up() -> None:
    """One interval: none with e^(-rate length), then a geometric number; the mean is that of the closed form."""
    run = process([0.5], intervals=3, interval_s=3_000)
    chances = run.counts(60)[0, 0]
    assert chances.sum() == pytest.approx(1)
    assert (chances * np.arange(61)).sum() == pytest.approx(run.interruptions[0])
    spot_process = process([0.5], intervals=1, interval_s=3_000)
    first, again = np.exp(-0.5 / HOUR_S * np.array([3_030, 3_330]))
    np.testing.assert_allclose(
        spot_process.counts(2)[0, 0], [first, (1 - first) * again, (1 - first) * (1 - again) * again]
    )


def test_without_interruptions_nothing_is_lost() -> None:
    """At a vanishing rate the run takes its work, its writes and its start."""
    run = process([1e-9])
    assert run.expected_s[0] == pytest.approx(40 * 1_800)
    assert run.finish(np.array([200.0]), np.zeros(1)).quantile_s(0.9)[0] == pytest.approx(72_200, rel=1e-4)


@pytest.mark.parametrize("per_hour", [0.01, 0.3])
def test_the_best_interval_loses_least(per_hour: float) -> None:
    """Daly's interval beats one a third shorter or longer, where interruptions are rare and where they are not."""
    work_s, write_s = 100 * HOUR_S, 120.0
    best_s = float(process([per_hour], write_s=write_s, wait_s=0).best_interval_s[0])

    def compute_expected_s(interval_s: float) -> float:
        intervals = work_s / interval_s
        run = process([per_hour], interval_s=interval_s, write_s=write_s, wait_s=0, intervals=intervals)
        return float(run.expected_s[0])

    assert compute_expected_s(best_s) < min(
        compute_expected_s(best_s / 1.5), compute_expected_s(best_s * 1.5)
    )


@pytest.mark.parametrize(("write_s", "best_s"), [(719.0, 320.0), (720.0, 360.0), (3_600.0, 360.0)])
def test_the_best_interval_of_endless_writes_is_the_time_between_interruptions(
    write_s: float, best_s: float
) -> None:
    """Ten interruptions an hour are 360 s apart: Daly has the series below writes of twice that, and 360 s from there."""
    assert process([10.0], write_s=write_s).best_interval_s[0] == pytest.approx(best_s, rel=1e-5)


def test_the_chance_grows_with_the_limit_and_fits_the_quantile() -> None:
    """A distribution: rising from 0 to 1, and the inverse of its quantiles, with doubt of the step as well."""
    ends = process(PRIOR_RATES).finish(np.array([240.0]), np.array([0.2]))
    limits = np.geomspace(1e4, 1e7, 40)
    chances = [float(ends.chance(np.array([limit]))[0]) for limit in limits]
    assert chances == sorted(chances)
    assert chances[0] < 1e-6
    assert chances[-1] == pytest.approx(1)
    for chance in (0.1, 0.5, 0.9):
        assert ends.chance(ends.quantile_s(chance))[0] == pytest.approx(chance, abs=1e-3)


def test_worse_bands_are_interrupted_more_often() -> None:
    """Each band's rates are above those of the band below it."""
    rates = [HAZARDS[hazard_of_band(band)].per_hour for band in ("<5%", "5-10%", "10-15%", "15-20%", ">20%")]
    assert all(np.all(low < high) for low, high in pairwise(rates))


def test_one_rare_loss_is_anywhere_in_its_interval() -> None:
    """A minute that is lost once, with no restart and no wait: 30 s more on average, uniform over the minute."""
    run = process([1e-3], interval_s=60, write_s=0, restart_s=0, wait_s=0, intervals=1)
    ends = run.finish(np.zeros(1), np.zeros(1))
    assert ends.median_s[0, 1] == pytest.approx(90)
    spread_s = 90 * np.sqrt(np.expm1(ends.log_sigma[0, 1] ** 2))
    assert spread_s == pytest.approx(60 / np.sqrt(12), rel=1e-3)


def test_numbers_of_interruptions_are_parts_of_the_distribution_up_to_a_dozen_expected() -> None:
    """More of them together are one part, near normal."""
    value = float(process([0.4], intervals=1).interruptions[0])
    for intervals, parts in ((12 / value, 25), (12.001 / value, 1)):
        run = process([0.4], intervals=intervals)
        weight = run.finish(np.zeros(1), np.zeros(1)).weight[0]
        assert np.count_nonzero(weight) == parts
    assert process([0.4], intervals=12 / value).interruptions[0] == 12.0


def test_a_run_that_never_ends_is_infinite_without_a_warning() -> None:
    """A hundred thousand intervals, each of more attempts than fit a float together."""
    run = process([10.0], interval_s=70 * HOUR_S, write_s=0, restart_s=0, intervals=1e5)
    assert np.isinf(run.expected_s[0])
    assert np.isinf(run.interruptions[0])
    assert np.isinf(run.waited_s[0])
