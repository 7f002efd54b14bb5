"""What interruptions take in limits that are known by hand; tests/independent has the simulations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from trainfare_core.interruptions.ends import RunEnds
from trainfare_core.interruptions.hazard import HAZARDS, PRIOR, hazard_of_band
from trainfare_core.interruptions.process import SpotProcess

HOUR_S = 3600.0
MIDDLES = np.arange(0.005, 1, 0.01)


def process(
    per_hour: list[float],
    *,
    interval_s: float = 1_770.0,
    write_s: float = 30.0,
    restart_s: float = 300.0,
    wait_s: float = 900.0,
    intervals: float = 40,
    step_log_sigma: float = 0.0,
) -> SpotProcess:
    """Return one run under equally likely rates of interruption."""
    values = np.ones(1)
    rate = np.array([per_hour]) / HOUR_S
    return SpotProcess(
        rate,
        interval_s * values,
        write_s * values,
        restart_s * values,
        wait_s,
        intervals * values,
        step_log_sigma * values,
    )


PRIOR_RATES = HAZARDS[PRIOR].per_hour.tolist()


def ends_of(run: SpotProcess, startup_s: float = 0.0) -> RunEnds:
    none = np.zeros(1)
    return run.ends(np.array([startup_s]), 0.0, none, none)


def count_chances(run: SpotProcess, most: int) -> np.ndarray:
    """Return the chances of 0 to `most` interruptions at the first rate and the median step."""
    return run.compute_moments(np.zeros(1)).count_chances(run.intervals[:, None], most)[0, 0]


def mean_s(run: SpotProcess) -> float:
    """Return the mean time of a run whose step is certain, without its start."""
    return float(run.undisturbed_s[0] + run.lost_s[0])


def test_machines_that_are_not_taken_back_are_not_waited_for() -> None:
    """
    Interrupted for certain, a run that changes after one interruption waits for none, after two for one.

    The mean of a wait of an hour, of which the start of a run that is interrupted at once is all the rest.
    """
    waits = {}
    for after in (1, 2):
        short, long = (
            process([8.0] * 5, interval_s=HOUR_S, wait_s=wait_s, intervals=1)
            .fall_back(after, np.zeros(1), 0.0)
            .ends
            for wait_s in (1.0, HOUR_S)
        )
        middles = [np.mean([ends.find_hours(chance)[0] for chance in MIDDLES]) for ends in (short, long)]
        waits[after] = middles[1] - middles[0]
    assert waits[1] == pytest.approx(0.0, abs=1e-3)
    assert waits[2] == pytest.approx(1.0, abs=0.03)


def test_no_checkpoint_means_daly_s_exponential() -> None:
    """A run of one interval and no wait takes (e^(rate length) - 1) / rate plus its restarts, as Daly has it."""
    run = process([0.1], interval_s=48.5 * HOUR_S, write_s=0, restart_s=600, wait_s=0, intervals=1)
    rate = 0.1 / HOUR_S
    expected_s = np.exp(rate * 600) * np.expm1(rate * 48.5 * HOUR_S) / rate
    assert mean_s(run) == pytest.approx(expected_s)
    assert 1_200 < mean_s(run) / HOUR_S < 1_400


def test_a_job_of_two_days_without_checkpoints_never_ends_under_an_hourly_hazard() -> None:
    """48.5 h of work, lost once an hour: e^48.5 hours, which is no time at all to wait for."""
    run = process([1.0], interval_s=48.5 * HOUR_S, write_s=0, restart_s=0, wait_s=0, intervals=1)
    assert mean_s(run) / HOUR_S == pytest.approx(np.expm1(48.5))


def test_counts_of_interruptions_add_up() -> None:
    """One interval: none with e^(-rate length), then a geometric number; the mean is that of the closed form."""
    run = process([0.5], intervals=3, interval_s=3_000)
    chances = count_chances(run, 60)
    assert chances.sum() == pytest.approx(1)
    assert (chances * np.arange(61)).sum() == pytest.approx(run.interruptions[0])
    spot_process = process([0.5], intervals=1, interval_s=3_000)
    first, again = np.exp(-0.5 / HOUR_S * np.array([3_030, 3_330]))
    np.testing.assert_allclose(
        count_chances(spot_process, 2), [first, (1 - first) * again, (1 - first) * (1 - again) * again]
    )


def test_without_interruptions_nothing_is_lost() -> None:
    """At a vanishing rate the run takes its work, its writes and its start."""
    run = process([1e-9])
    assert mean_s(run) == pytest.approx(40 * 1_800)
    assert ends_of(run, 200.0).find_hours(0.9)[0] == pytest.approx(72_200 / HOUR_S, rel=1e-4)


@pytest.mark.parametrize("per_hour", [0.01, 0.3])
def test_the_best_interval_loses_least(per_hour: float) -> None:
    """Daly's interval beats one a third shorter or longer, where interruptions are rare and where they are not."""
    work_s, write_s = 100 * HOUR_S, 120.0
    best_s = float(process([per_hour], write_s=write_s, wait_s=0).best_interval_s[0])

    def compute_expected_s(interval_s: float) -> float:
        intervals = work_s / interval_s
        run = process([per_hour], interval_s=interval_s, write_s=write_s, wait_s=0, intervals=intervals)
        return mean_s(run)

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
    ends = ends_of(process(PRIOR_RATES, step_log_sigma=0.2), 240.0)
    no_budget, certain = np.full(1, np.inf), np.zeros(1)
    limits = np.geomspace(3, 3_000, 40)
    chances = [float(ends.find_chances(np.array([limit]), no_budget, certain)[0]) for limit in limits]
    assert chances == sorted(chances)
    assert chances[0] < 1e-6
    assert chances[-1] == pytest.approx(1)
    for chance in (0.1, 0.5, 0.9, 0.995):
        hours = ends.find_hours(chance)
        assert ends.find_chances(hours, no_budget, certain)[0] == pytest.approx(chance, abs=1e-6)
        for price_sigma in (0.0, 0.3):
            doubt = np.array([price_sigma])
            billed = ends.find_billed_hours(chance, doubt)
            assert ends.find_chances(no_budget, billed, doubt)[0] == pytest.approx(chance, abs=1e-3)


def test_worse_bands_are_interrupted_more_often() -> None:
    """Each band's rates are above those of the band below it."""
    rates = [HAZARDS[hazard_of_band(band)].per_hour for band in ("<5%", "5-10%", "10-15%", "15-20%", ">20%")]
    assert all(np.all(low < high) for low, high in pairwise(rates))


def test_one_rare_loss_is_anywhere_in_its_interval() -> None:
    """A minute that is lost once, with no restart and no wait: 30 s more on average, uniform over the minute."""
    run = process([1e-3], interval_s=60, write_s=0, restart_s=0, wait_s=1e-6, intervals=1)
    mean, variance = run.compute_moments(np.zeros(1)).split_loss(1e-6)
    assert mean[0, 0] == pytest.approx(30, rel=1e-3)
    assert np.sqrt(variance[0, 0]) == pytest.approx(60 / np.sqrt(12), rel=1e-3)


def test_a_run_twice_as_long_is_interrupted_twice_as_often() -> None:
    """From 10 to 60 expected interruptions hours grow by what each loses: no number of them is counted as another."""
    runs = [
        process([0.8] * 5, restart_s=600, wait_s=1_800, intervals=intervals)
        for intervals in range(16, 100, 4)
    ]
    medians = [float(ends_of(run).find_hours(0.5)[0]) for run in runs]
    steps = np.diff(medians)
    assert steps.min() > 0.9 * steps.mean()
    assert steps.max() < 1.1 * steps.mean()


@pytest.mark.parametrize("interval_s", [70 * HOUR_S, 7_000 * HOUR_S])
def test_a_run_that_never_ends_has_numbers_without_a_warning(interval_s: float) -> None:
    """A hundred thousand intervals, each of more attempts than fit a float together."""
    run = process([10.0], interval_s=interval_s, write_s=0, restart_s=0, intervals=1e5)
    for never in (run.lost_s, run.interruptions, run.waited_s, ends_of(run).find_hours(0.1)):
        assert 1e60 < never[0] < np.inf
