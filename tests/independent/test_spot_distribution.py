"""Hours and dollars on spot machines against the played runs of `spot_runs`: quantiles, joint chances, means."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from independent.spot_runs import SETTINGS, Setting, play
from trainfare_core.interruptions.ends import RunEnds
from trainfare_core.interruptions.process import SpotProcess

ONE, INFINITE = np.ones(1), np.full(1, np.inf)
POINTS = 0.02
RELATIVE = 0.05


def process_of(setting: Setting) -> SpotProcess:
    """Return the product's process; one rate stands for five equal ones, as many as a hazard has."""
    rates = setting.per_hour * 5 if len(setting.per_hour) == 1 else setting.per_hour
    return SpotProcess(
        rate_per_s=np.array([rates]) * setting.machines / 3_600,
        interval_s=setting.interval_s * ONE,
        write_s=setting.write_s * ONE,
        restart_s=setting.restart_s * ONE,
        wait_s=setting.wait_s,
        intervals=setting.intervals * ONE,
        step_log_sigma=setting.step_sigma * ONE,
    )


def ends_of(setting: Setting) -> RunEnds:
    return process_of(setting).ends(setting.startup_s * ONE, setting.startup_sigma, 0 * ONE, 0 * ONE)


@pytest.mark.parametrize("setting", [pytest.param(setting, id=name) for name, setting in SETTINGS.items()])
def test_hours_and_dollars_are_those_of_20_000_played_runs(setting: Setting) -> None:
    """
    The chance of the runs' own p10, p50 and p90 within 2 points, these quantiles within 5 %.

    And the chance to keep a deadline and a budget, each at 30 to 90 % of the runs, within 2 points; dollars at a price that
    is certain and at one that has moved by a fifth either way.
    """
    played, ends = play(setting), ends_of(setting)
    moved = np.random.default_rng(1).standard_normal(len(played.hours))
    # A limit a little above the time of all runs without an interruption.
    above = 1.0001
    for chance in (0.1, 0.5, 0.9):
        limit = above * np.quantile(played.hours, [chance])
        share = np.mean(played.hours <= limit)
        assert ends.find_chances(limit, INFINITE, 0 * ONE)[0] == pytest.approx(share, abs=POINTS)
        assert ends.find_hours(chance)[0] == pytest.approx(limit[0], rel=RELATIVE)
    for price_sigma in (0.0, 0.2):
        usd = played.billed * np.exp(price_sigma * moved)
        for chance in (0.1, 0.5, 0.9):
            budget = above * np.quantile(usd, [chance])
            share = np.mean(usd <= budget)
            assert ends.find_chances(INFINITE, budget, price_sigma * ONE)[0] == pytest.approx(
                share, abs=POINTS
            )
            assert ends.find_billed_hours(chance, price_sigma * ONE)[0] == pytest.approx(
                budget[0], rel=RELATIVE
            )
        for in_time, within in product((0.3, 0.5, 0.7, 0.9), repeat=2):
            deadline, budget = (
                above * np.quantile(played.hours, [in_time]),
                above * np.quantile(usd, [within]),
            )
            share = np.mean((played.hours <= deadline) & (usd <= budget))
            assert ends.find_chances(deadline, budget, price_sigma * ONE)[0] == pytest.approx(
                share, abs=POINTS
            )


@pytest.mark.parametrize(
    "name",
    ["unknown, 1 machines", ">20%, 4 machines", "certain and rare", "few long intervals", "hourly for a day"],
)
def test_a_run_that_changes_to_on_demand_ends_like_a_played_one(name: str) -> None:
    """After three interruptions, of which only the first two wait: quantiles within 3 %, and the chance of changing."""
    setting = SETTINGS[name]
    played = play(setting, fallback_after=3)
    changed = process_of(setting).fall_back(3, setting.startup_s * ONE, setting.startup_sigma)
    for chance in (0.1, 0.5, 0.9):
        hours = np.quantile(played.hours, chance)
        assert changed.ends.find_hours(chance)[0] == pytest.approx(hours, rel=0.03)
    assert changed.chance == pytest.approx(np.mean(played.count >= 3), abs=0.02)
    sure_hours = played.sure.mean()
    assert changed.sure_s / 3_600 == pytest.approx(sure_hours, rel=0.05, abs=0.1)
    assert changed.spot_s / 3_600 == pytest.approx(played.billed.mean() - sure_hours, rel=0.03)


@pytest.mark.parametrize(("rate", "interval_s"), [(0.3, 18_000.0), (0.5, 14_340.0)])
def test_a_slower_step_loses_more_on_average(rate: float, interval_s: float) -> None:
    """Where rate x interval is 1.5 to 2, the mean of runs with a doubtful step is above that of runs with a sure one."""
    doubtful, sure = (
        Setting((rate,), interval_s=interval_s, intervals=3, step_sigma=sigma) for sigma in (0.2, 0.0)
    )
    lost = {}
    for setting in (doubtful, sure):
        played, process = play(setting, 60_000), process_of(setting)
        calm_s = setting.intervals * (
            setting.interval_s * np.exp(setting.step_sigma**2 / 2) + setting.write_s
        )
        lost[setting.step_sigma] = process.lost_s[0]
        mean_s = 3_600 * played.hours.mean() - setting.startup_s
        assert process.lost_s[0] + calm_s == pytest.approx(mean_s, rel=0.03)
        assert process.interruptions[0] == pytest.approx(played.count.mean(), rel=0.03)
    assert lost[0.2] > 1.1 * lost[0.0]
