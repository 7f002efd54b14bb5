"""The interval of a change in cost, against simulated runs whose errors are drawn one by one."""

from __future__ import annotations

import json
import math
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from builders.profiles import gpt_profile, operation, profile
from builders.recommendations import interval, option
from builders.toy_market import book, offer_row, small_job
from trainfare_core.changes.change_factors import MixedProfiles
from trainfare_core.changes.change_range import find_ranges, measure_changed_share
from trainfare_core.changes.cost_change import CostChange
from trainfare_core.changes.explain_change import PricedJob, explain_change
from trainfare_core.job_profile import JobProfile, MeasuredStep, Quantiles, SynchronizedNorms
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.recommendation import ChangeRange, Constraints, CostParts, Option

A100 = book(offer_row())
STARTUP_SIGMA = 0.5
"""Of ln(start-up): as docs/run-cost.md states it."""
DRAWS = 400_000
PARTS = dict.fromkeys(("validation_usd", "checkpoint_usd", "interruption_usd", "storage_usd"), 0.0)


def change_of(
    base: JobProfile,
    head: JobProfile,
    *,
    confidence: float = 0.9,
    before: PriceBook = A100,
    after: PriceBook = A100,
) -> CostChange:
    request = Request(Constraints(max_usd=1e9, purchase=("on_demand",), confidence=confidence))
    return explain_change(PricedJob(base, before, "base"), PricedJob(head, after, "head"), request)


def with_steps(job: JobProfile, steps: int) -> JobProfile:
    return job.model_copy(update={"plan": job.plan.model_copy(update={"optimizer_steps": steps})})


def side(training_usd: float, startup_usd: float, once_usd: float, step_s: float, **fields: Any) -> Option:
    """Return an option whose dollars are steps, start-up and what is paid once, with a step known to a factor."""
    return option(
        step_s=interval(step_s, 0.3),
        run_usd=interval(training_usd + startup_usd + once_usd),
        usd_per_hour_now=interval(1.0, 0.1),
        cost_parts=CostParts(
            training_usd=training_usd, startup_usd=startup_usd, transfer_usd=once_usd, **PARTS
        ),
        **fields,
    )


def pair_sigma(thing: str, log_ratio: float) -> float:
    """Return the fitted standard deviation of a pair, from the file that the research writes."""
    rows = json.loads((files("trainfare_core") / "data" / "change_errors.json").read_bytes())
    (row,) = (row for row in rows if row["thing"] == thing)
    return float(row["least"] + row["slope"] * abs(log_ratio))


def simulate(
    base: tuple[float, float, float], head: tuple[float, float, float], step_sigma: float, *, same: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Draw runs of both sides; the steps' errors have 0.3 each, and a difference of `step_sigma`."""
    rng = np.random.default_rng(47)
    step_of_base = 0.3 * rng.standard_normal(DRAWS)
    correlation = 1 - step_sigma**2 / (2 * 0.3**2)
    own = math.sqrt(1 - correlation**2) * 0.3 * rng.standard_normal(DRAWS)
    step_of_head = correlation * step_of_base + own
    start, price = (sigma * rng.standard_normal((2, DRAWS)) for sigma in (STARTUP_SIGMA, 0.1))
    other = 0 if same else 1
    usd = [
        np.exp(price[index]) * (training * np.exp(step) + startup * np.exp(start[index])) + once
        for index, step, (training, startup, once) in (
            (0, step_of_base, base),
            (other, step_of_head, head),
        )
    ]
    return usd[1] / usd[0] - 1, usd[1] - usd[0]


@pytest.mark.parametrize("confidence", [0.9, 0.6, 0.98])
@pytest.mark.parametrize(
    ("base", "head", "same"),
    [
        ((100.0, 1.0, 0.0), (170.0, 1.0, 0.0), True),
        ((100.0, 2.0, 20.0), (60.0, 2.0, 20.0), True),
        ((10.0, 0.5, 0.0), (10.0, 0.5, 1.0), True),
        ((100.0, 1.0, 0.0), (150.0, 2.0, 0.0), False),
    ],
)
def test_ends_are_those_of_simulated_runs(
    base: tuple[float, float, float], head: tuple[float, float, float], same: bool, confidence: float
) -> None:
    """Of 400,000 drawn pairs of runs with another batch, on one machine or two: a tenth lies beyond each end."""
    mixed = MixedProfiles(gpt_profile(batch_size=16), gpt_profile(batch_size=8))
    log_ratio = math.log(head[0] / base[0])
    other: dict[str, Any] = {} if same else {"accelerator": "T4-16GB", "instance_type": "g4dn.xlarge"}
    ranges = find_ranges(
        mixed, side(*base, step_s=1.0), side(*head, step_s=head[0] / base[0], **other), confidence
    )
    sigma = pair_sigma("batch", log_ratio) if same else 0.3 * math.sqrt(2)
    chances = [0.1, 0.9, 1 - confidence, confidence]
    for found, drawn in zip(ranges, simulate(base, head, sigma, same=same), strict=True):
        ends = (found.low_80, found.high_80, found.low, found.high)
        truth = np.quantile(drawn, chances)
        assert ends == pytest.approx(truth, abs=0.05 * (truth.max() - truth.min()))


def test_dollars_that_do_not_follow_the_step_lie_inside() -> None:
    """A checkpoint's $20 of $320 saved is the same whatever a step takes: the difference of the medians is no outlier."""
    mixed = MixedProfiles(gpt_profile(), gpt_profile())
    _, usd = find_ranges(mixed, side(300.0, 1.0, 20.0, step_s=1.0), side(300.0, 1.0, 0.0, step_s=1.0), 0.9)
    assert usd.low <= usd.low_80 <= -20.0 <= usd.high_80 <= usd.high


def find_width(ends: ChangeRange | None) -> float:
    """Return the width of the central 80 % of ln(ratio)."""
    assert ends is not None
    return math.log((1 + ends.high_80) / (1 + ends.low_80))


def find_unshared_width(change: CostChange) -> float:
    """Return that width if the two sides had no error in common: the squares add."""
    assert change.base.usd is not None
    assert change.head.usd is not None
    return math.hypot(*(math.log(usd.high_80 / usd.low_80) for usd in (change.base.usd, change.head.usd)))


def test_the_same_job_has_no_width() -> None:
    """Identical jobs: nothing at all between the ends, whatever is not known of the run itself."""
    change = change_of(gpt_profile(), gpt_profile(), confidence=0.99)
    nothing = ChangeRange(low_80=0.0, high_80=0.0, low=0.0, high=0.0)
    assert change.fraction_range == change.usd_range == nothing
    assert change.change_usd == 0.0


def test_twice_the_steps_are_twice_the_cost_and_nothing_between() -> None:
    """How long a step takes is the same on both sides: +100 % less the start-up, to a tenth of a percent."""
    long = 10_000_000, 20_000_000
    change = change_of(*(with_steps(gpt_profile(), steps) for steps in long), confidence=0.99)
    assert change.fraction_range is not None
    assert change.usd_range is not None
    assert change.fraction_range.low == pytest.approx(1.0, abs=0.005)
    assert change.fraction_range.high == pytest.approx(1.0, abs=0.005)
    # The dollars themselves follow what an hour brings.
    assert change.base.usd is not None
    assert change.usd_range.high_80 == pytest.approx(change.base.usd.high_80, rel=0.02)
    assert change.usd_range.low_80 == pytest.approx(change.base.usd.low_80, rel=0.02)


def test_prices_alone_leave_no_doubt() -> None:
    """A machine that costs 5 USD an hour and not 4: +25 % of all but the disks, without width."""
    change = change_of(gpt_profile(), gpt_profile(), after=book(offer_row(usd_per_hour=5.0)))
    ends = change.fraction_range
    assert ends is not None
    assert ends.low_80 == pytest.approx(0.25, rel=0.01)
    assert ends.high_80 - ends.low_80 < 1e-4


def test_another_device_shares_no_error() -> None:
    """On another accelerator the doubts of both sides add up: var(ln ratio) is var(ln base) + var(ln head)."""
    t4 = book(offer_row(instance_type="t4", accelerator="T4-16GB", usd_per_hour=0.5))
    job = with_steps(gpt_profile(batch_size=1), 1_000_000)  # start-up and disks are little beside it
    change = change_of(job, job, after=t4)
    assert find_width(change.fraction_range) == pytest.approx(find_unshared_width(change), rel=0.02)


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (gpt_profile(layers=18), 0.5),
        (gpt_profile(dtype="fp32"), 1.0),
        (gpt_profile(batch_size=16), 1.0),
    ],
)
def test_a_change_is_surer_than_two_costs(head: JobProfile, part: float) -> None:
    """On one machine the ratio is known better than of unrelated costs, holds the median, and turns with the sides."""
    there, back = change_of(gpt_profile(), head), change_of(head, gpt_profile())
    assert there.change_fraction is not None
    ends, reverse = there.fraction_range, back.fraction_range
    assert ends is not None
    assert reverse is not None
    assert ends.low_80 < there.change_fraction < ends.high_80
    assert find_width(ends) < part * find_unshared_width(there)
    assert (1 + ends.low_80) * (1 + reverse.high_80) == pytest.approx(1.0)


def test_the_share_that_changed_is_counted() -> None:
    """A step of 18 blocks has a third that 12 have not; one without anything in common has nothing to share."""
    base = small_job(operations=(operation(launches=12, flops=12 * 10**12),))
    head = small_job(operations=(operation(launches=18, flops=18 * 10**12),))
    assert measure_changed_share(base, head) == pytest.approx(1 / 3)
    assert measure_changed_share(base, base) == 0.0
    other = small_job(operations=(operation(shape=(1, 2, 3, 4)),))
    assert measure_changed_share(base, other) == 1.0
    assert measure_changed_share(small_job(operations=()), small_job(operations=())) == 1.0


def test_a_small_edit_has_a_small_interval() -> None:
    """One operation more, a thousandth of the step: an increase of 0.1 % is not one of 0 to 20 %."""
    base = gpt_profile()
    flops = sum(group.flops for group in base.operations) // 1000
    more = operation(flops=flops, shape=(1, 7, 7, 7), bytes_read=2**20, bytes_written=2**20)
    change = change_of(base, base.model_copy(update={"operations": (*base.operations, more)}))
    assert change.fraction_range is not None
    assert -0.001 < change.fraction_range.low_80 <= change.fraction_range.high_80 < 0.005


def test_what_changes_no_operation_is_in_doubt_too() -> None:
    """Norms synchronized over eight devices change no operation, and take time that was never measured beside it."""
    job = profile(batch_size=64)
    norms = SynchronizedNorms(modules=53, channels=26_560)
    synced = job.model_copy(update={"batch": job.batch.model_copy(update={"synchronized_norms": norms})})
    eight = book(offer_row(accelerator_count=8, usd_per_hour=30.0))
    change = change_of(job, synced, before=eight, after=eight)
    assert change.change_fraction
    assert find_width(change.fraction_range) > 0.1 * change.change_fraction


def test_a_step_measured_on_one_side_shares_no_error() -> None:
    """What a measurement corrects of one side it does not of the other."""
    step = Quantiles(median_s=0.3, p10_s=0.2, p90_s=0.4)
    measured = MeasuredStep(device_name="NVIDIA A100-SXM4-80GB", device_kind="cuda", steps=10, step=step)
    job = with_steps(gpt_profile(), 1_000_000)
    change = change_of(job.model_copy(update={"measured": measured}), job)
    assert find_width(change.fraction_range) == pytest.approx(find_unshared_width(change), rel=0.02)


@pytest.mark.parametrize(
    "sides", [(small_job(steps=None), small_job()), (small_job(), small_job(steps=None))]
)
def test_a_side_without_a_cost_leaves_no_interval(sides: tuple[JobProfile, JobProfile]) -> None:
    """Unknown stays unknown."""
    change = change_of(*sides)
    assert (change.fraction_range, change.usd_range) == (None, None)
    assert change.unknown_because
