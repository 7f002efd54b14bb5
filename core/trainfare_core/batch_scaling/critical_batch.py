"""
The critical batch of a training run, and how many more samples a larger batch needs for the same quality.

A run to some quality with a batch of B samples a step sees `E(B) = Emin (1 + B / Bc)` samples: far below the critical
batch `Bc` nearly the fewest, far above it as many more as the batch is larger (McCandlish et al., "An empirical model
of large-batch training", 2018, arXiv 1812.06162, equation 2.11 in samples; it holds within some per cent for MLPerf's
reference runs, research/docs/critical-batch.md). Hyperparameters are tuned again at each batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from trainfare_core.arrays import Array, Flags
from trainfare_core.documents import Interval
from trainfare_core.errors import InputError

CriticalBatchSource: TypeAlias = Literal["stated", "noise_scale", "token_law", "prior"]
"""Where a critical batch comes from, the best source first."""

MOST_TIMES: Final = 16.0
"""Times the base batch up to which the whole interval of a ratio is known. The published workloads were scored up to
here; beyond, learning rates that still work are rare (Shallue et al. 2019, arXiv 1811.03600), and only the lower end
is said."""

_ENDS: Final = (0.1, 0.5, 0.9)
"""Chances of the lower end, the median and the upper end: a central 80 %, as everywhere in trainfare."""


@dataclass(frozen=True, slots=True)
class SamplesRatio:
    """
    Samples with a batch over samples with the base batch, to the same quality: median and central 80 %.

    A ratio of a batch below the base is at most 1. It is no saving to count on: schedules and regularization were
    tuned for the base.

    Attributes:
        low: lower ends, shape of the batches; always known.
        median: NaN where the batch is more than `MOST_TIMES` the base: not known.
        high: upper ends, NaN like the medians.
    """

    low: Array
    median: Array
    high: Array

    @property
    def is_known(self) -> Flags:
        """Whether there is more than a lower end."""
        return np.isfinite(self.median)


@dataclass(frozen=True, slots=True)
class CriticalBatch:
    """
    A critical batch: log-normal, where known cut off below.

    Example:
        >>> critical = CriticalBatch(median=900.0, log_sigma=0.3, source="stated")
        >>> round(critical.interval.low_80), critical.interval.mid, round(critical.interval.high_80)
        (613, 900.0, 1322)
        >>> ratio = critical.samples_ratio(128, [128, 1024, 4096])
        >>> ratio.median.round(2).tolist(), ratio.high.round(2).tolist(), ratio.low.round(2).tolist()
        ([1.0, 1.87, nan], [1.0, 2.21, nan], [1.0, 1.62, 3.74])

    Attributes:
        median: samples, of the log-normal before it is cut off.
        log_sigma: standard deviation of its logarithm.
        source: where it comes from.
        at_least: samples below which it is not, at most the median; 0: not known.

    Raises:
        InputError: the median is not positive and finite, the deviation negative, or the median below `at_least`.
    """

    median: float
    log_sigma: float
    source: CriticalBatchSource
    at_least: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.median < math.inf and 0 <= self.log_sigma < math.inf):
            raise InputError(
                f"critical batch: a median of {self.median:g} samples with a deviation of {self.log_sigma:g} "
                "is not a distribution: give a median above 0 and a deviation of 0 or more, both finite"
            )
        if not 0 <= self.at_least <= self.median:
            raise InputError(
                f"critical batch: at least {self.at_least:g} samples, but a median of {self.median:g}: "
                "give a bound between 0 and the median"
            )

    @property
    def interval(self) -> Interval:
        """Median and central 80 % of the critical batch, samples."""
        low, mid, high = (self._find_quantile(chance) for chance in _ENDS)
        return Interval(mid=mid, low_80=low, high_80=high)

    def _find_quantile(self, chance: float) -> float:
        normal = NormalDist()
        left = 1.0
        if self.at_least and self.log_sigma:
            left = normal.cdf(math.log(self.median / self.at_least) / self.log_sigma)
        return self.median * math.exp(-self.log_sigma * normal.inv_cdf((1 - chance) * left))

    def samples_ratio(self, base_batch: float, batch: ArrayLike) -> SamplesRatio:
        """
        Return E(batch) / E(base batch) = (1 + batch / Bc) / (1 + base / Bc), to the same quality.

        The ratio falls where Bc rises, so its ends are those at the ends of Bc. It is 1 at the base and rises with
        the batch.

        Args:
            base_batch: samples a step of the run as it is, over all devices.
            batch: samples a step of other runs, of any shape.

        Raises:
            InputError: a batch is not positive and finite.
        """
        batches = np.asarray(batch, dtype=np.float64)
        if not (0 < base_batch < math.inf and np.all((batches > 0) & np.isfinite(batches))):
            raise InputError(
                "batch: a step has more than 0 samples, and finitely many: give positive numbers"
            )
        interval = self.interval
        ends = (interval.low_80, interval.mid, interval.high_80)
        small, middle, large = ((critical + batches) / (critical + base_batch) for critical in ends)
        known = batches <= MOST_TIMES * base_batch
        return SamplesRatio(
            low=np.minimum(small, large),
            median=np.where(known, middle, np.nan),
            high=np.where(known, np.maximum(small, large), np.nan),
        )
