"""
A twin of runs on spot machines, played machine by machine and interruption by interruption, and settings to play.

Written from the definition of the process in docs/run-cost-facts.md, and without any code of the product: lives of
machines are exponential, the first machine taken back stops the run, which loses what it did since its last save, waits,
starts again (which may be interrupted too) and goes on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

Z_OF_FIVE: Final = (-1.2815515655, -0.5244005127, 0.0, 0.5244005127, 1.2815515655)
"""Quantiles of a standard normal at 10, 30, 50, 70 and 90 %, from a printed table."""


def rates_between(low: float, high: float) -> tuple[float, ...]:
    """Return the five rates of a log-normal whose central 80 % are these ends."""
    middle, sigma = math.sqrt(low * high), math.log(high / low) / (2 * Z_OF_FIVE[-1])
    return tuple(middle * math.exp(sigma * z) for z in Z_OF_FIVE)


UNKNOWN: Final = rates_between(0.001, 0.1)
"""Interruptions per machine and hour where nothing is published, and of three of AWS's bands."""
BELOW_5: Final = rates_between(-math.log(0.99) / 730, -math.log(0.95) / 24)
BELOW_15: Final = rates_between(-math.log(0.9) / 730, -math.log(0.85) / 24)
ABOVE_20: Final = rates_between(-math.log(0.8) / 730, -math.log(0.1) / 24)


@dataclass(frozen=True)
class Setting:
    """A run: equally likely rates an hour and machine, machines, seconds, and standard deviations of logarithms."""

    per_hour: tuple[float, ...]
    machines: int = 1
    interval_s: float = 5_400.0
    write_s: float = 60.0
    restart_s: float = 600.0
    wait_s: float = 1_800.0
    intervals: float = 40.0
    step_sigma: float = 0.0
    startup_s: float = 240.0
    startup_sigma: float = 0.0


@dataclass(frozen=True)
class Played:
    """Hours, of them billed, of them on machines that are not taken back, and interruptions, shape (runs,)."""

    hours: Array
    billed: Array
    sure: Array
    count: NDArray[np.int64]


def play(setting: Setting, runs: int = 20_000, seed: int = 46, fallback_after: int | None = None) -> Played:
    """Play runs; with `fallback_after`, machines are not taken back after so many interruptions."""
    random = np.random.default_rng(seed)
    rate_per_s = random.choice(setting.per_hour, runs) / 3_600
    length_s = (
        setting.interval_s * np.exp(setting.step_sigma * random.standard_normal(runs)) + setting.write_s
    )
    billed_s = setting.startup_s * np.exp(setting.startup_sigma * random.standard_normal(runs))
    waited_s, sure_s, left = np.zeros(runs), np.zeros(runs), np.full(runs, float(setting.intervals))
    count = np.zeros(runs, dtype=np.int64)
    before_s = np.zeros(runs)  # of the next attempt, until the work goes on
    active = np.arange(runs)
    while len(active):
        lives = random.exponential(size=(setting.machines, len(active)))
        life_s = lives.min(axis=0) / rate_per_s[active]
        if fallback_after is not None:
            life_s[count[active] >= fallback_after] = np.inf
        needed_s = before_s[active] + left[active] * length_s[active]
        done = life_s >= needed_s
        sure_s[active[np.isinf(life_s)]] = needed_s[np.isinf(life_s)]
        billed_s[active[done]] += needed_s[done]
        active, life_s = active[~done], life_s[~done]
        saved = np.floor(np.maximum(life_s - before_s[active], 0.0) / length_s[active])
        left[active] -= saved
        billed_s[active] += life_s
        count[active] += 1
        wait_s = random.exponential(setting.wait_s, len(active))
        if fallback_after is not None:
            wait_s[count[active] >= fallback_after] = 0.0
        waited_s[active] += wait_s
        before_s[active] = setting.restart_s
    return Played((billed_s + waited_s) / 3_600, billed_s / 3_600, sure_s / 3_600, count)


SETTINGS: Final = {
    **{
        f"{name}, {machines} machines": Setting(rates, machines, step_sigma=0.15, startup_sigma=0.5)
        for name, rates in (("unknown", UNKNOWN), ("<5%", BELOW_5), ("10-15%", BELOW_15), (">20%", ABOVE_20))
        for machines in (1, 4, 16)
    },
    **{
        f"12 to 27 expected, {intervals} intervals": Setting(
            (0.8,), interval_s=1_740, intervals=intervals, step_sigma=0.1
        )
        for intervals in (20, 22, 25, 32, 40, 46)
    },
    "half an hour lost twice an interval": Setting((0.5,), interval_s=14_340, intervals=3, step_sigma=0.2),
    "rate x interval 1.5, wide step": Setting((0.3,), interval_s=18_000, intervals=4, step_sigma=0.3),
    "certain and rare": Setting((0.05,), interval_s=6_000, restart_s=300, wait_s=900, intervals=6),
    "few long intervals": Setting((0.3,), interval_s=17_970, write_s=30, wait_s=900, intervals=2),
    "hourly for a day": Setting((1.0,), interval_s=870, write_s=30, restart_s=300, wait_s=600, intervals=97),
    "three rates": Setting((0.4, 0.8, 1.2), interval_s=1_770, write_s=30, restart_s=300, intervals=60),
    "no checkpoint": Setting((0.03,), interval_s=72_000, write_s=0, intervals=1, step_sigma=0.2),
    "no checkpoint, twice lost": Setting((0.1,), interval_s=72_000, write_s=0, intervals=1, step_sigma=0.1),
    "200 h on 8 machines": Setting(UNKNOWN, 8, interval_s=7_200, intervals=100, step_sigma=0.25),
    "three saves on 16 machines": Setting(UNKNOWN, 16, interval_s=6_480, intervals=3, step_sigma=0.2),
    "five minutes": Setting(
        UNKNOWN, interval_s=300, write_s=5, intervals=1, step_sigma=0.2, startup_sigma=0.5
    ),
    "900 intervals": Setting(UNKNOWN, 2, interval_s=600, write_s=20, intervals=900, step_sigma=0.1),
    "long waits": Setting(UNKNOWN, 4, interval_s=3_600, wait_s=14_400, intervals=30, step_sigma=0.05),
    "the last interval is shorter": Setting(UNKNOWN, 4, interval_s=10_800, intervals=5.6, step_sigma=0.2),
    "step certain, ten long intervals": Setting((0.02,), 4, interval_s=36_000, intervals=10),
    "step hardly known": Setting(UNKNOWN, 2, interval_s=7_200, intervals=20, step_sigma=0.5),
    "slow restarts": Setting(ABOVE_20, 4, interval_s=1_800, restart_s=3_600, intervals=50, step_sigma=0.1),
}
