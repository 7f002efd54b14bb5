"""
What a run takes on machines that are taken back: expected time, and the distribution of when it ends.

The process: a run of N intervals works `interval_s` and writes its state in `write_s`, again and again. Interruptions
come at a constant rate. One loses what was done since the last write; then the run waits for capacity (exponential
with mean `wait_s`, not billed), starts again in `restart_s`, which may be interrupted too, and repeats the interval.
The rate itself is uncertain: one of several equally likely values.

Given a rate r, an interval of length s = interval + write is done at once with probability p = e^(-r s), and after an
interruption each attempt of length a = restart + s succeeds with e^(-r a). All moments follow; without waiting the
mean is e^(r restart) (e^(r s) - 1) / r per interval (J. Daly, "A higher order estimate of the optimum checkpoint
interval for restart dumps", 2006).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Final

import numpy as np

from trainfare_core.arrays import Array

_EXACT_COUNTS: Final = 24
"""Numbers of interruptions, from 0, that are parts of the distribution by themselves; more are one part together, by
when the sum of so many losses is near normal."""

_SMALL: Final = 1e-4
"""Rate times length below which series replace quotients of vanishing numbers; their error is below 1e-8."""

_STEPS: Final = 16
"""Halvings of the bracket of a quantile: less than a ten-thousandth of it is left."""

_NO_COUNT: Final = 1e-30
"""Keeps quotients of runs without work finite."""

_NO_WEIGHT: Final = 1e-9
"""Parts of a mixture that are less likely do not move any quantile that is asked for."""


@dataclass(frozen=True, slots=True)
class FinishTimes:
    """
    When runs end: a mixture of log-normal parts a run, arrays of shape (n, parts).

    Attributes:
        median_s: of each part.
        log_sigma: of each part.
        weight: of each part; they add up to 1 in a run.
    """

    median_s: Array
    log_sigma: Array
    weight: Array

    def chance(self, limit_s: Array) -> Array:
        """Return the probability to end within `limit_s`, shape (n,)."""
        return self._below(np.log(limit_s))

    def quantile_s(self, chance: float) -> Array:
        """Return the time within which each run ends with this probability, shape (n,)."""
        # A quantile of a mixture lies between those of its parts.
        counted = self.weight > _NO_WEIGHT
        likely = counted.any(axis=0)
        parts = FinishTimes(self.median_s[:, likely], self.log_sigma[:, likely], self.weight[:, likely])
        with np.errstate(divide="ignore"):
            ends = np.log(parts.median_s) + NormalDist().inv_cdf(chance) * parts.log_sigma
        low: Array = np.where(counted[:, likely], ends, np.inf).min(axis=1, initial=np.inf)
        high: Array = np.where(counted[:, likely], ends, -np.inf).max(axis=1, initial=-np.inf)
        for _ in range(_STEPS):
            middle: Array = (low + high) / 2
            enough = parts._below(middle) >= chance
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.asarray(np.exp(high))

    def _below(self, log_limit_s: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (log_limit_s[:, None] - np.log(self.median_s)) / np.maximum(self.log_sigma, 1e-9)
        return np.asarray((self.weight * _normal_cdf(z)).sum(axis=1))


@dataclass(frozen=True)
class SpotProcess:
    """
    Runs on spot machines; arrays of shape (n,).

    Attributes:
        rate_per_s: equally likely interruptions per second of all machines of the run, shape (n, rates), all > 0.
        interval_s: work between two writes.
        write_s: one write, seconds.
        restart_s: from the start of new machines until the work goes on.
        wait_s: mean time until there is capacity again.
        intervals: how many a run has, not necessarily whole.
    """

    rate_per_s: Array
    interval_s: Array
    write_s: Array
    restart_s: Array
    wait_s: float
    intervals: Array

    @cached_property
    def _of_interval(self) -> _IntervalMoments:
        length_s = (self.interval_s + self.write_s)[:, None]
        return _IntervalMoments.of(self.rate_per_s, length_s, self.restart_s[:, None], self.wait_s)

    @property
    def undisturbed_s(self) -> Array:
        """Work and writes of a run that is never interrupted."""
        return self.intervals * (self.interval_s + self.write_s)

    @property
    def expected_s(self) -> Array:
        """Mean time of the run, waiting included; infinite where it is beyond any float."""
        with np.errstate(over="ignore"):
            return np.asarray(self.intervals * self._of_interval.mean_s.mean(axis=1))

    @property
    def interruptions(self) -> Array:
        """Mean number of interruptions; infinite where it is beyond any float."""
        with np.errstate(over="ignore"):
            return np.asarray(self.intervals * self._of_interval.count.mean(axis=1))

    @property
    def waited_s(self) -> Array:
        """Mean time of waiting for capacity, part of `expected_s`."""
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

    def counts(self, most: int) -> Array:
        """
        Return the probability of 0, 1, ... `most` interruptions, shape (n, rates, most + 1).

        One interval's count has the generating function (p + (q - p) z) / (1 - (1 - q) z), with p and q the chances of
        a first and of a repeated attempt. Its N-th power satisfies a linear recurrence, which this evaluates.
        """
        p, q = self._of_interval.first, self._of_interval.again
        number = self.intervals[:, None]
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

    def finish(self, startup_s: Array, log_sigma: Array, fallback_after: int | None = None) -> FinishTimes:
        """
        Return when runs end, the start included.

        Args:
            startup_s: before the first step, shape (n,).
            log_sigma: standard deviation of ln(time) of the run that is never interrupted, shape (n,).
            fallback_after: interruptions after which the rest runs on machines that are not taken back; None: never.
        """
        interval = self._of_interval
        exact = _EXACT_COUNTS if fallback_after is None else fallback_after
        weights = self.counts(exact - 1)
        k = np.arange(exact, dtype=np.float64)
        number = self.intervals[:, None]
        mean_count, var_count = number * interval.count, number * interval.count_variance
        rest = np.maximum(1.0 - weights.sum(axis=2), 0.0)
        if fallback_after is None:
            many = mean_count > _EXACT_COUNTS / 2  # one part for all numbers is nearer than a cut at so many
            weights, rest = np.where(many[:, :, None], 0.0, weights), np.where(many, 1.0, rest)
            with np.errstate(divide="ignore", invalid="ignore"):
                rest_count = (mean_count - (weights * k).sum(axis=2)) / rest
                square = (var_count + mean_count**2 - (weights * k**2).sum(axis=2)) / rest
            rest_count = np.where(rest > 1e-9, np.maximum(rest_count, exact), float(exact))
            rest_var = np.where(rest > 1e-9, np.maximum(square - rest_count**2, 0.0), 0.0)
        else:
            rest_count, rest_var = np.full_like(rest, float(exact)), np.zeros_like(rest)
        count = np.maximum(interval.count, _NO_COUNT)
        each_s = (interval.mean_s - interval.length_s) / count
        each_var = np.maximum(interval.variance_s2 - interval.count_variance * each_s**2, 0.0) / count
        counts = np.concatenate([np.broadcast_to(k, weights.shape), rest_count[:, :, None]], axis=2)
        count_var = np.concatenate([np.zeros_like(weights), rest_var[:, :, None]], axis=2)
        base_s = (startup_s + self.undisturbed_s)[:, None, None]
        lost_s = counts * each_s[:, :, None]
        if fallback_after is not None:
            lost_s[:, :, -1] -= self.wait_s  # machines that are not taken back are there at once
        middle_s = base_s + lost_s
        count_spread = count_var * each_s[:, :, None] ** 2
        variance = counts * each_var[:, :, None] + count_spread
        weight = np.concatenate([weights, rest[:, :, None]], axis=2)
        rates = self.rate_per_s.shape[1]
        flat = (len(self.intervals), rates * weight.shape[2])
        # A given number of losses is nearly symmetric, their number is skewed: as a log-normal, whose mean it keeps.
        square = np.maximum(middle_s, _NO_COUNT) ** 2
        spread = np.sqrt(np.log1p(variance / square) + log_sigma[:, None, None] ** 2)
        middle_s = middle_s * np.exp(-np.log1p(count_spread / square) / 2)
        total = weight.sum(axis=2, keepdims=True)
        return FinishTimes(
            middle_s.reshape(flat), spread.reshape(flat), (weight / total / rates).reshape(flat)
        )

    def with_fallback(self, after: int) -> Fallback:
        """
        Return what runs take that change to machines that are not taken back after so many interruptions.

        The intervals done before the n-th interruption have the mean sum over j of P(fewer than n in j intervals).
        """
        interval = self._of_interval
        number = self.intervals[:, None]
        chances = self.counts(after - 1)
        fewer = chances.sum(axis=2)
        done = np.zeros_like(fewer)
        for row in range(len(self.intervals)):
            done[row] = _count_intervals_on_spot(self._select_row(row), after)
        counted = (chances * np.arange(after)).sum(axis=2) + after * (1 - fewer)
        retried = np.maximum(counted - (1 - fewer), 0.0)
        loss_s = interval.again * interval.first_loss_s + (1 - interval.again) * interval.again_loss_s
        spot_s = (
            done * interval.length_s + counted * loss_s + retried * interval.again * self.restart_s[:, None]
        )
        sure_s = (number - done) * interval.length_s + (1 - fewer) * self.restart_s[:, None]
        return Fallback(
            chance=np.asarray((1 - fewer).mean(axis=1)),
            spot_s=np.asarray(spot_s.mean(axis=1)),
            sure_s=np.asarray(sure_s.mean(axis=1)),
        )

    def _select_row(self, row: int) -> SpotProcess:
        rows = slice(row, row + 1)
        return SpotProcess(
            self.rate_per_s[rows], self.interval_s[rows], self.write_s[rows], self.restart_s[rows], self.wait_s,
            self.intervals[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fallback:
    """Runs that change to other machines after some interruptions, arrays of shape (n,)."""

    chance: Array
    """Of changing."""
    spot_s: Array
    """Mean billed time on spot machines."""
    sure_s: Array
    """Mean time on the others."""


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
        again_s = restart_s + length_s
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


def _count_intervals_on_spot(run: SpotProcess, after: int) -> Array:
    """Return the mean number of intervals done before the n-th interruption, of one run, shape (rates,)."""
    whole = int(run.intervals[0])
    # Between thousands of intervals the chance changes little: an integral over this many points replaces the sum.
    points = min(whole, 2_000)
    ends = np.linspace(0, whole, points + 1)
    many = SpotProcess(
        np.repeat(run.rate_per_s, points + 1, axis=0),
        np.repeat(run.interval_s, points + 1),
        np.repeat(run.write_s, points + 1),
        np.repeat(run.restart_s, points + 1),
        run.wait_s,
        ends,
    )
    fewer = many.counts(after - 1).sum(axis=2)
    summed = (
        fewer[1:].sum(axis=0)
        if points == whole
        else (whole / points) * (fewer[1:].sum(axis=0) + (1 - fewer[-1]) / 2) - (1 - fewer[-1]) / 2
    )
    left = run.intervals[0] - whole
    return np.asarray(summed + left * run.counts(after - 1).sum(axis=2)[0])


def _sum_lost_time(rate: Array, length_s: Array) -> tuple[Array, Array]:
    """Return mean and mean square of the time of an attempt that is interrupted: exponential, cut at its length."""
    x = rate * length_s
    tail = np.exp(-x) / -np.expm1(-x)
    mean = np.where(x < _SMALL, length_s / 2 * (1 - x / 6), 1 / rate - length_s * tail)
    square = np.where(
        x < _SMALL, length_s**2 / 3 * (1 - x / 4), 2 / rate**2 - (length_s**2 + 2 * length_s / rate) * tail
    )
    return np.asarray(mean), np.asarray(square)


def _normal_cdf(z: Array) -> Array:
    """Return the standard normal distribution function (Abramowitz and Stegun 26.2.17, error below 7.5e-8)."""
    t: Array = 1 / (1 + 0.2316419 * np.abs(z))
    tail: Array = t * (
        0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429)))
    )
    with np.errstate(under="ignore", over="ignore"):
        tail = tail * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    upper: Array = 1.0 - tail
    return np.asarray(np.where(z > 0, upper, tail))
