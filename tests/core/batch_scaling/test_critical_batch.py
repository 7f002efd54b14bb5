"""The ratio of samples: formula, ends, monotony, and what is not known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainfare_core.batch_scaling import MOST_TIMES, CriticalBatch
from trainfare_core.errors import InputError

positive = st.floats(1.0, 1e6)
criticals = st.builds(
    lambda median, log_sigma, share: CriticalBatch(median, log_sigma, "prior", at_least=share * median),
    positive,
    st.floats(0.0, 3.0),
    st.floats(0.0, 1.0),
)


def test_the_ratio_is_the_formula_at_the_ends_of_the_critical_batch() -> None:
    """1,024 for 128 at Bc 900: (1 + 1024/900) / (1 + 128/900); its lower end belongs to the upper one of Bc."""
    critical = CriticalBatch(900.0, 0.5, "stated")
    ratio = critical.samples_ratio(128, 1024)
    low, high = 900 * math.exp(-0.5 * 1.2815515655), 900 * math.exp(0.5 * 1.2815515655)
    assert float(ratio.median) == pytest.approx((1 + 1024 / 900) / (1 + 128 / 900))
    assert float(ratio.high) == pytest.approx((1 + 1024 / low) / (1 + 128 / low))
    assert float(ratio.low) == pytest.approx((1 + 1024 / high) / (1 + 128 / high))


@given(criticals, positive, st.lists(st.floats(1 / 64, MOST_TIMES), min_size=2, max_size=8))
def test_ratios_are_ordered_monotone_and_1_at_the_base(
    critical: CriticalBatch, base: float, times: list[float]
) -> None:
    batches = base * np.array(sorted({1.0, *times}))
    ratio = critical.samples_ratio(base, batches)
    at_base = batches == base
    for ends in (ratio.low, ratio.median, ratio.high):
        assert ends[at_base].tolist() == [1.0]
        assert np.all(np.diff(ends) >= -1e-12)
        assert np.all(ends[batches < base] <= 1.0)
        assert np.all(ends <= np.maximum(batches / base, 1.0) + 1e-12)
    assert np.all((ratio.low <= ratio.median + 1e-12) & (ratio.median <= ratio.high + 1e-12))


def test_beyond_16_times_the_base_only_the_lower_end_is_known() -> None:
    ratio = CriticalBatch(500.0, 1.0, "prior").samples_ratio(8, [[64, 128], [129, 8000]])
    assert ratio.is_known.tolist() == [[True, True], [False, False]]
    assert np.isnan(ratio.median[1]).all()
    assert np.isnan(ratio.high[1]).all()
    assert (ratio.low[1] > ratio.low[0]).all()


def test_a_cut_critical_batch_has_the_quantiles_of_what_is_left() -> None:
    """Draws of the log-normal that are at least 300."""
    critical = CriticalBatch(400.0, 1.3, "token_law", at_least=300.0)
    draws = 400.0 * np.exp(1.3 * np.random.default_rng(1).standard_normal(400_000))
    low, mid, high = np.quantile(draws[draws >= 300.0], (0.1, 0.5, 0.9))
    interval = critical.interval
    assert (interval.low_80, interval.mid, interval.high_80) == pytest.approx((low, mid, high), rel=0.02)


def test_a_critical_batch_without_doubt_has_no_width() -> None:
    interval = CriticalBatch(400.0, 0.0, "stated", at_least=400.0).interval
    assert (interval.low_80, interval.mid, interval.high_80) == (400.0, 400.0, 400.0)


@pytest.mark.parametrize(
    ("median", "log_sigma", "at_least"),
    [(0.0, 1.0, 0.0), (math.nan, 1.0, 0.0), (math.inf, 1.0, 0.0), (9.0, -1.0, 0.0), (9.0, 1.0, 10.0), (9.0, 1.0, math.nan)],
)  # fmt: skip
def test_what_is_no_distribution_is_refused(median: float, log_sigma: float, at_least: float) -> None:
    with pytest.raises(InputError, match=r"critical batch: .*give a"):
        CriticalBatch(median, log_sigma, "stated", at_least)


@pytest.mark.parametrize(("base", "batch"), [(0.0, 8.0), (8.0, 0.0), (8.0, math.inf), (math.nan, 8.0)])
def test_a_batch_of_no_samples_is_refused(base: float, batch: float) -> None:
    with pytest.raises(InputError, match="give positive numbers"):
        CriticalBatch(900.0, 1.0, "prior").samples_ratio(base, [1.0, batch])
