"""The run that keeps the smallest limit: its flag admits it, and no smaller one admits any run."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.drawn_markets import TOY, Row, books, key, unhurried
from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.candidates import CandidateTable
from trainfare_core.job_profile import JobProfile
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.ranking.alternatives.nearest import Quantity, surest, with_alternatives
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Option, Recommendation

AS_OF = datetime(2026, 9, 1, tzinfo=timezone.utc)


def of(rows: list[Row], **asked: Any) -> Request:
    return Request(Constraints(**asked), limit=100_000, max_nodes=2, all_regions=True, as_of=AS_OF)


def date_rows(rows: list[Row]) -> list[Row]:
    """Return the rows with prices of unequal age, and so of unequal doubt."""
    return [{**row, "observed_on": f"2026-0{1 + index % 8}-20"} for index, row in enumerate(rows)]


def drop_ins(answer: Recommendation) -> list[Option]:
    return [option for option in answer.options if not option.needs_porting]


@unhurried
@given(
    rows=books(),
    least=st.sampled_from(["usd", "hours"]),
    other=st.sampled_from([None, 2.0, 6.0]),
    confidence=st.sampled_from([0.5, 0.8, 0.95]),
)
def test_the_limit_admits_the_run_and_no_smaller_one_admits_any(
    rows: list[Row], least: Quantity, other: float | None, confidence: float
) -> None:
    """Together with a limit of the other quantity, under doubt of hours and of prices."""
    mine, theirs = ("max_usd", "deadline_hours") if least == "usd" else ("deadline_hours", "max_usd")
    prices = book(*date_rows(rows))
    values_by_key = {theirs: other, "confidence": confidence}
    run = surest(small_job(), prices, of(rows, **values_by_key), least, TOY)
    if run is None:
        assert not drop_ins(rank(small_job(), prices, of(rows, **values_by_key), predict=TOY))
        return
    limit = run.max_usd if least == "usd" else run.deadline_hours
    assert limit is not None
    assert (run.deadline_hours if least == "usd" else run.max_usd) is None
    with_flag = rank(small_job(), prices, of(rows, **values_by_key, **{mine: limit * 1.001}), predict=TOY)
    assert key(run.option) in map(key, with_flag.options)
    below = rank(small_job(), prices, of(rows, **values_by_key, **{mine: limit * 0.999}), predict=TOY)
    assert not drop_ins(below)


@unhurried
@given(rows=books(), confidence=st.sampled_from([0.5, 0.9]))
def test_two_limits_are_kept_together(rows: list[Row], confidence: float) -> None:
    """Where a budget and a deadline are both out of reach, the two flags of each line admit its run."""
    prices = book(*date_rows(rows))
    request = of(rows, max_usd=0.01, deadline_hours=0.01, confidence=confidence)
    answer = rank(small_job(), prices, request, predict=TOY)
    for alternative in with_alternatives(answer, small_job(), prices, request, predict=TOY).alternatives:
        words = alternative.flag.split()
        if "--max-usd" not in words:
            continue
        limits = {"max_usd": float(words[1]), "deadline_hours": float(words[3].rstrip("h"))}
        admitted = rank(small_job(), prices, of(rows, **limits, confidence=confidence), predict=TOY)
        assert key(alternative.option) in map(key, admitted.options)


def one_unsure(profile: JobProfile, shapes: MachineShapes, candidates: CandidateTable) -> PredictionTable:
    """Predict as the toy does, and know little of the T4."""
    table = ToyPredictor()(profile, shapes, candidates)
    unsure = shapes.accelerator[candidates.shape] == "T4-16GB"
    return replace(table, log_sigma=np.where(unsure, 0.6, 0.05))


def test_the_nearest_run_of_a_budget_is_the_surest_not_the_cheapest() -> None:
    """A machine whose time is hardly known costs less by the median; one that is known needs the smaller budget."""
    cheap = offer_row(instance_type="unsure", accelerator="T4-16GB", usd_per_hour=4.0)
    prices, request = book(cheap, offer_row(instance_type="sure", usd_per_hour=4.4)), Request(max_nodes=1)
    assert rank(small_job(), prices, request, predict=one_unsure).options[0].instance_type == "unsure"
    request = Request(Constraints(max_usd=1.0), max_nodes=1)
    answer = rank(small_job(), prices, request, predict=one_unsure)
    first = with_alternatives(answer, small_job(), prices, request, predict=one_unsure).alternatives[0]
    assert first.option.instance_type == "sure"
    assert first.change == "lowest cost kept with 90 %"
    assert float(first.flag.removeprefix("--max-usd ")) == pytest.approx(
        first.option.run_usd.high_80, rel=0.01
    )


@pytest.mark.parametrize("usd_per_hour", [1.03, 3.31, 4.47, 7.77, 12.9])
def test_the_limit_that_is_suggested_has_three_digits(usd_per_hour: float) -> None:
    """Rounded up, so that it is kept, and by less than a hundredth, so that it says what is needed."""
    prices, request = (
        book(offer_row(usd_per_hour=usd_per_hour)),
        Request(Constraints(max_usd=0.5), max_nodes=1),
    )
    answer = rank(small_job(), prices, request, predict=TOY)
    first = with_alternatives(answer, small_job(), prices, request, predict=TOY).alternatives[0]
    text, needed = first.flag.removeprefix("--max-usd "), first.option.run_usd.high_80
    assert len(text.replace(".", "").strip("0")) <= 3
    assert needed * 0.999 <= float(text) <= needed * 1.01


def test_machines_that_end_at_the_same_hour_are_told_apart_by_dollars() -> None:
    """The earliest end is at the region and purchase option that costs least for it, and the lowest cost at the earliest."""
    rows = [
        offer_row(region=region, usd_per_hour=usd_per_hour)
        for region, usd_per_hour in (("asia-east1", 4.6), ("us-central1", 4.0), ("zone-9", 5.0))
    ]
    request = Request(all_regions=True, max_nodes=1)
    earliest = surest(small_job(), book(*rows), request, "hours", TOY)
    assert earliest is not None
    assert earliest.option.region == "us-central1"
    fast = offer_row(instance_type="fast", accelerator="H100-SXM-80GB", usd_per_hour=8.0)
    slow = offer_row(instance_type="a-slow", usd_per_hour=4.0)
    toy = ToyPredictor({"A100-SXM-80GB": 0.1, "H100-SXM-80GB": 0.05})
    constraints = Constraints(run_cost=CostAssumptions(startup_s=0, system_disk_gib=0))
    cheapest = surest(small_job(), book(slow, fast), Request(constraints, max_nodes=1), "usd", toy)
    assert cheapest is not None
    assert cheapest.option.instance_type == "fast"


@pytest.mark.parametrize("purchase", ["on_demand", "spot"])
@pytest.mark.parametrize("as_of", [None, AS_OF])
def test_two_suggested_limits_are_kept_together_as_often_as_asked(
    purchase: str, as_of: datetime | None
) -> None:
    """90 %, and not 95: hours and dollars are one deviate, with a price of its own where that is old."""
    row = offer_row(purchase_option=purchase, observed_on="2026-06-20", usd_per_hour=4.0)
    request = Request(Constraints(purchase=(purchase,)), max_nodes=1, as_of=as_of)  # type: ignore[arg-type]
    both = surest(small_job(), book(row), request, "usd", TOY, limit_both=True)
    assert both is not None
    limits = Constraints(max_usd=both.max_usd, deadline_hours=both.deadline_hours, purchase=(purchase,))  # type: ignore[arg-type]
    admitted = rank(small_job(), book(row), replace(request, constraints=limits), predict=TOY).options
    assert [option.probability_within for option in admitted] == [pytest.approx(0.9, abs=1e-3)]
