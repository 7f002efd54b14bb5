"""
What a run takes on machines that are taken back: expected time, and the distribution of when it ends.

The process: a run of N intervals works `interval_s` and writes its state in `write_s`, again and again. Interruptions
come at a constant rate. One loses what was done since the last write; then the run waits for capacity (exponential
with mean `wait_s`, not billed), starts again in `restart_s`, which may be interrupted too, and repeats the interval.
The rate itself is uncertain, one of several equally likely values. So is the work of an interval, by a log-normal
factor of the whole run: a slower step also loses more, and is interrupted more often.

Given a rate r, an interval of length s = interval + write is done at once with probability p = e^(-r s), and after an
interruption each attempt of length a = restart + s succeeds with e^(-r a). All moments follow; without waiting the
mean is e^(r restart) (e^(r s) - 1) / r per interval (J. Daly, "A higher order estimate of the optimum checkpoint
interval for restart dumps", 2006). The distribution is that of scenarios at the points of a lattice, which cover rate,
step, number of interruptions, loss, wait and start more evenly than as many random draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Final

import numpy as np

from trainfare_core.arrays import Array, Column
from trainfare_core.interruptions.ends import CHANCES, RunEnds, find_normals

_STEP_PARTS: Final = 16
"""Equally likely parts of the doubt of a step, each with its own moments."""

_SCENARIOS: Final = 12
"""Of each rate and part: with five rates 960, whose chances are within 2 points of simulations. A chosen value."""

_EXACT_COUNTS: Final = 16
"""Up to so many interruptions their number has its exact distribution; beyond, that of a gamma is near."""

_SMALL: Final = 1e-4
"""Rate times length below which series replace quotients of vanishing numbers; their error is below 1e-8."""

_MOST_EXPECTED: Final = 200.0
"""Expected interruptions of one attempt, from which on longer ones count as such. Chosen: e^200 attempts never end, and
the squares of their moments are still below the largest float."""

_NO_COUNT: Final = 1e-30
"""Keeps quotients of runs without work finite."""

_ROWS_AT_ONCE: Final = 128
"""Runs whose scenarios are in memory together: a megabyte an array."""


@dataclass(frozen=True)
class SpotProcess:
    """
    Runs on spot machines; arrays of shape (n,).

    Attributes:
        rate_per_s: equally likely interruptions per second of all machines of the run, shape (n, rates), all > 0.
        interval_s: median work between two writes.
        write_s: one write, seconds.
        restart_s: from the start of new machines until the work goes on.
        wait_s: mean time until there is capacity again.
        intervals: how many a run has, not necessarily whole.
        step_log_sigma: standard deviation of ln(interval_s).
    """

    rate_per_s: Array
    interval_s: Array
    write_s: Array
    restart_s: Array
    wait_s: float
    intervals: Array
    step_log_sigma: Array

    @cached_property
    def _parts(self) -> _IntervalMoments:
        middles = find_normals((np.arange(_STEP_PARTS) + 0.5) / _STEP_PARTS)
        return self.compute_moments(middles / middles.std())  # with the variance of the whole

    def compute_moments(self, step_z: Column) -> _IntervalMoments:
        """Return moments of an interval with each deviate of the step and rate, shape (n, deviates x rates)."""
        work_s = self.interval_s[:, None] * np.exp(self.step_log_sigma[:, None] * step_z)
        length_s = np.repeat(work_s + self.write_s[:, None], self.rate_per_s.shape[1], axis=1)
        rate_per_s = np.tile(self.rate_per_s, len(step_z))
        return _IntervalMoments.of(rate_per_s, length_s, self.restart_s[:, None], self.wait_s)

    @property
    def undisturbed_s(self) -> Array:
        """Median work and writes of a run that is never interrupted."""
        return self.intervals * (self.interval_s + self.write_s)

    @property
    def lost_s(self) -> Array:
        """Mean of what interruptions take, waiting included."""
        return np.asarray(self.intervals * (self._parts.mean_s - self._parts.length_s).mean(axis=1))

    @property
    def interruptions(self) -> Array:
        """Mean number of interruptions."""
        return np.asarray(self.intervals * self._parts.count.mean(axis=1))

    @property
    def waited_s(self) -> Array:
        """Mean time of waiting for capacity, part of `lost_s`."""
        return self.interruptions * self.wait_s

    @property
    def best_interval_s(self) -> Array:
        """
        Work between writes that loses least (Daly 2006; its first term is Young's of 1974).

        To first order the loss is linear in the rate, so the mean of the rates is the one that counts. Where a write
        takes twice the mean time between interruptions or more, Daly's series ends, and that mean time is the answer.
        """
        between_s: Array = 1.0 / np.asarray(self.rate_per_s.mean(axis=1), dtype=np.float64)
        x = self.write_s / (2 * between_s)
        best: Array = np.sqrt(2 * self.write_s * between_s) * (1 + np.sqrt(x) / 3 + x / 9) - self.write_s
        return np.asarray(np.where(x < 1, best, between_s))

    def ends(
        self, startup_s: Column, startup_log_sigma: float, rounding_s: Column, restart_rounding_s: Column
    ) -> RunEnds:
        """
        Return when runs end and what they are billed.

        Args:
            startup_s: median time before the first step, shape (n,).
            startup_log_sigma: standard deviation of its logarithm.
            rounding_s: billed beyond the end, shape (n,).
            restart_rounding_s: billed beyond each start that an interruption ends, shape (n,).
        """
        tables = [np.zeros((0, 3, len(CHANCES)))]
        for start in range(0, len(startup_s), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            run = self.select(rows)
            count = run.draw_counts()
            work_s = run.draw_work_s(startup_s[rows], startup_log_sigma)
            lost_s, waited_s = run.draw_losses_s(count, count)
            busy_s, each_s = work_s + lost_s, restart_rounding_s[rows, None, None]
            billed_s = busy_s + rounding_s[rows, None, None] + count * each_s
            tables.append(RunEnds.of_scenarios(busy_s + waited_s, billed_s).table)
        return RunEnds(np.concatenate(tables))

    def fall_back(self, after: int, startup_s: Column, startup_log_sigma: float) -> Fallback:
        """Return what one run takes that changes to machines that are not taken back after so many interruptions."""
        count = np.minimum(self.draw_counts(), after)
        changed = count == after
        # Machines that are not taken back are there at once.
        lost_s, waited_s = self.draw_losses_s(count, count - changed)
        billed_s = self.draw_work_s(startup_s, startup_log_sigma) + lost_s
        # Few losses are near linear in the time of a step, whose mean then stands for all.
        mean = replace(self, interval_s=self.interval_s * np.exp(self.step_log_sigma**2 / 2))
        interval = mean.compute_moments(np.zeros(1))
        number, restart_s = float(self.intervals[0]), float(self.restart_s[0])
        # The intervals done before the n-th interruption are the sum over j of P(fewer than n in j intervals). Between
        # many the chance changes little: Euler and Maclaurin's integral of it is exact where each is a point.
        points = min(max(1, math.ceil(number)), 2_000)
        chances = interval.count_chances(np.linspace(0, number, points + 1)[:, None], after - 1)
        fewer = chances.sum(axis=2)
        first, last = fewer[0], fewer[-1]
        done = number / points * (fewer.sum(axis=0) - (first + last) / 2) + (last - first) / 2
        counted = chances[-1] @ np.arange(after) + after * (1 - last)
        retried = np.maximum(counted - (1 - last), 0.0)
        loss_s = interval.again * interval.first_loss_s + (1 - interval.again) * interval.again_loss_s
        spot_s = done * interval.length_s + counted * loss_s + retried * interval.again * restart_s
        sure_s = (number - done) * interval.length_s + (1 - last) * restart_s
        return Fallback(
            ends=RunEnds.of_scenarios(billed_s + waited_s, billed_s),
            chance=float(changed.mean()),
            spot_s=float(startup_s[0] + spot_s.mean()),
            sure_s=float(sure_s.mean()),
        )

    @property
    def _drawn(self) -> _Scenarios:
        return _draw_scenarios(self.rate_per_s.shape[1])

    def draw_counts(self) -> Array:
        """Return the interruptions in each scenario, shape (n, parts x rates, scenarios)."""
        return self._parts.draw_counts(self.intervals[:, None], self._drawn)

    def draw_work_s(self, startup_s: Column, startup_log_sigma: float) -> Array:
        """Return start, work and writes in each scenario, shape as `draw_counts`."""
        step = np.exp(self.step_log_sigma[:, None, None] * self._drawn.step)
        interval_s = self.interval_s[:, None, None] * step + self.write_s[:, None, None]
        first_s = startup_s[:, None, None] * np.exp(startup_log_sigma * self._drawn.start)
        return np.asarray(first_s + self.intervals[:, None, None] * interval_s)

    def draw_losses_s(self, count: Array, waits: Array) -> tuple[Array, Array]:
        """Return what so many interruptions lose, restarts included, and so many waits, shape as `draw_counts`."""
        loss, wait = self._drawn.loss, self._drawn.wait
        mean_s, variance_s2 = (values[:, :, None] for values in self._parts.split_loss(self.wait_s))
        # A loss is nearly uniform over its interval: the sum of few is flatter than a normal deviate.
        flat = np.clip(loss - (loss**3 - 3 * loss) / (20 * np.maximum(count, 1)), -3, 3)
        lost_s = np.maximum(count * mean_s + np.sqrt(count * variance_s2) * flat, 0.0)
        return lost_s, self.wait_s * _shape_gamma(waits, np.maximum(waits, 1), wait)

    def select(self, rows: slice) -> SpotProcess:
        """Return some of the runs."""
        return SpotProcess(
            self.rate_per_s[rows], self.interval_s[rows], self.write_s[rows], self.restart_s[rows], self.wait_s,
            self.intervals[rows], self.step_log_sigma[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fallback:
    """A run that changes to other machines after some interruptions; the chance to, and mean seconds billed on each."""

    ends: RunEnds
    chance: float
    spot_s: float
    sure_s: float


@dataclass(frozen=True, slots=True)
class _IntervalMoments:
    """Moments of one interval by run and rate, arrays of shape (n, rates); times in seconds."""

    length_s: Array
    first: Array
    again: Array
    first_loss_s: Array
    again_loss_s: Array
    mean_s: Array
    variance_s2: Array
    count: Array
    count_variance: Array

    @classmethod
    def of(cls, rate: Array, length_s: Array, restart_s: Array, wait_s: float) -> _IntervalMoments:
        length_s = np.minimum(length_s, _MOST_EXPECTED / rate)
        again_s = np.minimum(restart_s + length_s, _MOST_EXPECTED / rate)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
            p, q = np.exp(-rate * length_s), np.exp(-rate * again_s)
            first_loss, first_square = _sum_lost_time(rate, length_s)
            again_loss, again_square = _sum_lost_time(rate, again_s)
            fail, again_fail = -np.expm1(-rate * length_s), -np.expm1(-rate * again_s)
            after = (wait_s + q * again_s + again_fail * again_loss) / q
            tried = q * again_s + again_fail * again_loss
            square = 2 * wait_s**2 + 2 * wait_s * tried + q * again_s**2 + again_fail * again_square
            after_square = (square + 2 * again_fail * (wait_s + again_loss) * after) / q
            mean = p * length_s + fail * (first_loss + after)
            second = p * length_s**2 + fail * (first_square + 2 * first_loss * after + after_square)
            count = fail / q
            count_variance = np.maximum(fail * (2 - q) / q**2 - count**2, 0.0)
            variance = np.maximum(second - mean**2, 0.0)
        return cls(
            np.broadcast_to(length_s, p.shape), p, q, first_loss, again_loss, mean,
            variance, count, count_variance,
        )  # fmt: skip

    def count_chances(self, number: Array, most: int) -> Array:
        """
        Return the probability of 0, 1, ... `most` interruptions of so many intervals, shape (n, rates, most + 1).

        One interval's count has the generating function (p + (q - p) z) / (1 - (1 - q) z), with p and q the chances of
        a first and of a repeated attempt. Its N-th power satisfies a linear recurrence, which this evaluates.
        """
        p, q = self.first, self.again
        b, r = q - p, 1 - q
        with np.errstate(under="ignore"):
            powers = [p**number]
        before = np.zeros_like(powers[0])
        for k in range(most):
            last = powers[-1]
            with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
                following = ((number * (b + p * r) - (b - p * r) * k) * last + b * r * (k - 1) * before) / (
                    p * (k + 1)
                )
            before = last
            powers.append(np.clip(np.nan_to_num(following), 0.0, 1.0))
        return np.stack(powers, axis=2)

    def draw_counts(self, number: Array, drawn: _Scenarios) -> Array:
        """Return the interruptions of so many intervals in each scenario, shape (n, rates, scenarios)."""
        fewer = np.cumsum(self.count_chances(number, _EXACT_COUNTS), axis=2)
        count = np.zeros((len(fewer), *drawn.count.shape))
        for k in range(_EXACT_COUNTS + 1):
            count += drawn.count > fewer[:, :, k, None]
        mean, variance = number * self.count, np.maximum(number * self.count_variance, _NO_COUNT)
        shape = mean * (mean / variance)  # the square of a mean may be beyond the largest float
        many = _shape_gamma(mean[:, :, None], shape[:, :, None], drawn.count_normal)
        return np.where(count > _EXACT_COUNTS, np.maximum(many, count), count)

    def split_loss(self, wait_s: float) -> tuple[Array, Array]:
        """Return mean and variance of what one interruption takes without the wait, which is independent of it."""
        count = np.maximum(self.count, _NO_COUNT)
        each_s = (self.mean_s - self.length_s) / count
        variance = (self.variance_s2 - self.count_variance * each_s**2) / count - wait_s**2
        return each_s - wait_s, np.maximum(variance, 0.0)


@dataclass(frozen=True, slots=True)
class _Scenarios:
    """Standard normal deviates, and uniforms of the count, of scenarios, shape (parts x rates, scenarios)."""

    step: Array
    count: Array
    count_normal: Array
    loss: Array
    wait: Array
    start: Array


@lru_cache(maxsize=4)
def _draw_scenarios(rates: int) -> _Scenarios:
    """
    Return the points of a lattice whose steps are powers of the root of x^6 = x + 1.

    M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018. Step and count are also stratified: one
    point in each part of the doubt, and one in each twelfth of the counts of a part and rate.
    """
    root = 2.0
    for _ in range(60):
        root = (1 + root) ** (1 / 6)
    shape = (_STEP_PARTS * rates, _SCENARIOS)
    points = (0.5 + np.outer(np.arange(shape[0] * shape[1]), root ** -np.arange(1.0, 6.0))) % 1
    step, count, loss, wait, start = points.T.reshape(5, *shape)
    part = np.repeat(np.arange(_STEP_PARTS), rates)[:, None]
    count = (np.arange(_SCENARIOS) + count[:, :1]) / _SCENARIOS
    normals = (find_normals(values) for values in ((part + step) / _STEP_PARTS, count, loss, wait, start))
    step, count_normal, loss, wait, start = normals
    return _Scenarios(step, count, count_normal, loss, wait, start)


def _shape_gamma(mean: Array, shape: Array, z: Array) -> Array:
    """Return a gamma variable of this mean at a standard normal deviate (Wilson and Hilferty 1931)."""
    ninth: Array = 1 / (9 * np.maximum(shape, _NO_COUNT))
    return np.asarray(mean * np.maximum(1 - ninth + z * np.sqrt(ninth), 0.0) ** 3)


def _sum_lost_time(rate: Array, length_s: Array) -> tuple[Array, Array]:
    """Return mean and mean square of the time of an attempt that is interrupted: exponential, cut at its length."""
    x = rate * length_s
    tail = np.exp(-x) / -np.expm1(-x)
    mean = np.where(x < _SMALL, length_s / 2 * (1 - x / 6), 1 / rate - length_s * tail)
    square = np.where(
        x < _SMALL, length_s**2 / 3 * (1 - x / 4), 2 / rate**2 - (length_s**2 + 2 * length_s / rate) * tail
    )
    return np.asarray(mean), np.asarray(square)
