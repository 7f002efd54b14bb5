"""The plan of each machine: chosen by medians, without a loss in mean or chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.toy_market import ToyPredictor, in_precisions, shapes, small_job
from trainfare_core.candidates import PlanSpace, enumerate_candidates
from trainfare_core.ranking.pricing.best_plans import best_plans
from trainfare_core.run_cost.timing import steps_of

JOB = in_precisions(small_job(precision="32-true", batch=8), "bf16-mixed")
MACHINES = shapes(("A100-SXM-80GB", 8.0), ("H100-SXM-80GB", 4.0))
PLANS = enumerate_candidates(JOB, MACHINES, PlanSpace(4, deepspeed=True, precision=True))
TOY = ToyPredictor()(JOB, MACHINES, PLANS)


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=50)
def test_a_change_is_no_worse_in_mean_or_chance(seed: int, scripted_first: bool) -> None:
    """Whatever the intervals: the mean and the quantiles up to nine in ten of a changed plan are those of a faster run."""
    drawn = np.random.default_rng(seed)
    sigma = drawn.uniform(0.02, 1.2, len(PLANS))
    step_s = TOY.step_s * drawn.lognormal(0.0, 0.3, len(PLANS))
    prediction = replace(TOY, step_s=step_s, log_sigma=sigma)
    steps = steps_of(JOB, PLANS)
    usual, changed = best_plans(PLANS, prediction, steps, scripted_first=scripted_first)
    hours = steps * step_s
    for spread in (sigma**2 / 2, 0.0 * sigma, 0.6 * sigma, 1.28 * sigma):
        times = hours * np.exp(spread)
        assert np.all(times[changed] <= times[usual] * (1 + 1e-9))


def test_of_plans_with_the_same_changes_the_fastest_at_the_median_is_taken() -> None:
    """Also where it is the less certain."""
    rows = np.flatnonzero((PLANS.shape == 0) & (PLANS.nodes == 1) & (PLANS.variant_or_none == 0))
    one, other = rows[PLANS.devices_or_all[rows] == PLANS.devices_or_all[rows].max()][:2]
    step_s, sigma = np.full(len(PLANS), 1.0), np.full(len(PLANS), 0.1)
    step_s[[one, other]], sigma[one] = (0.5, 0.51), 0.2
    prediction = replace(TOY, step_s=step_s, log_sigma=sigma)
    usual, _ = best_plans(PLANS, prediction, steps_of(JOB, PLANS), scripted_first=False)
    assert one in usual
    assert other not in usual
