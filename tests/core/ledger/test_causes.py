"""
Why a run did not cost what was predicted: each cause by hand, the sum to the cent, and nothing unknown as zero.

The run of the examples: $36 an hour, so $0.01 a second; 1,000 steps of 1 s, and 400 s beside them. Predicted: 1,400 s,
$14, and $1 of storage.
"""

from __future__ import annotations

import random
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest

from trainfare_core.documents import Interval
from trainfare_core.ledger.causes import RunExplanation, explain_run, join_sessions
from trainfare_core.ledger.run_record import (
    Compared,
    PredictedParts,
    RunMachine,
    RunPrediction,
    RunRecord,
    RunWords,
    TimeParts,
)

PARTS = PredictedParts(
    input_s=0.1,
    startup_usd=1.0,
    validation_usd=1.5,
    checkpoint_usd=0.5,
    interruption_usd=1.0,
    storage_usd=1.0,
)
PREDICTION: dict[str, Any] = {
    "machine": "aws:p4de.24xlarge@us-east-1",
    "usd_per_hour": 36.0,
    "steps": 1000,
    "parts": PARTS,
}
TIMES: dict[str, Any] = {"startup_s": 100, "data_wait_s": 100, "validation_s": 150, "checkpoint_s": 50}


def interval(mid: float) -> Interval:
    return Interval(mid=mid, low_80=0.8 * mid, high_80=1.2 * mid)


def make_record(
    *,
    prediction: dict[str, Any] | None = None,
    times: dict[str, Any] | None = None,
    rate: float | None = 36.0,
    run_s: float = 1400.0,
    step_s: float | None = 1.0,
    machine: str = "p4de.24xlarge",
    **other: Any,
) -> RunRecord:
    """Return the run of the examples, which took what was predicted, with some changes."""
    fields: dict[str, Any] = {
        "run_id": "0" * 12,
        "state": "finished",
        "started_at": datetime(2026, 11, 1, tzinfo=timezone.utc),
        "machine": RunMachine(cloud="aws", instance_type=machine, region="us-east-1"),
        "prediction": RunPrediction(**PREDICTION | (prediction or {})),
        "step_s": Compared(predicted=interval(1.0), measured=step_s),
        "run_s": Compared(predicted=interval(1400.0), measured=run_s),
        "usd": Compared(predicted=interval(15.0), measured=None if rate is None else rate * run_s / 3600),
        "usd_per_hour": rate,
        "steps_done": 1000,
        "interruptions": 0,
        "parts": TimeParts(**TIMES | (times or {})),
    }
    return RunRecord(**fields | other)


def split(record: RunRecord) -> dict[str, float | None]:
    """Return the causes that are not zero, after checking that they add up."""
    answer = explain_run(record)
    check_sum(answer)
    return {cause.cause: cause.usd for cause in answer.causes if cause.usd is None or abs(cause.usd) > 1e-9}


def check_sum(answer: RunExplanation) -> None:
    """Fail where the causes do not add up to the difference, or the difference is not that of the dollars."""
    assert answer.measured_usd is not None
    assert answer.predicted_usd is not None
    assert answer.difference_usd == pytest.approx(answer.measured_usd - answer.predicted_usd.mid, abs=1e-6)
    total = sum(Decimal(str(cause.usd)) for cause in answer.causes if cause.usd is not None)
    assert abs(total - Decimal(str(answer.difference_usd))) < Decimal("0.000001")


ALWAYS: dict[str, float | None] = {"storage": -1.0, "interruptions": -1.0}
"""$1 of storage was priced, and the measured dollars are of machine hours; $1, so 100 s, of interruptions did not happen."""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # As priced, but for 100 s of interruptions.
        ({"run_s": 1300}, {}),
        # $30 an hour for the predicted 1,400 s: -$6 x 1400/3600; the interruption's 100 s are at $30.
        ({"run_s": 1300, "rate": 30.0}, {"price": -2.333333333, "interruptions": -0.833333333}),
        # 400 steps of 1 s were not done.
        ({"run_s": 900, "steps_done": 600, "times": {"data_wait_s": 60}}, {"steps": -4.0}),
        # 1,000 steps of 1.2 s, 0.1 s of it wait as predicted.
        ({"run_s": 1500, "step_s": 1.2}, {"step_time": 2.0}),
        # 0.3 s of wait for each step, and so 1.2 s a step.
        ({"run_s": 1500, "step_s": 1.2, "times": {"data_wait_s": 300}}, {"data_wait": 2.0}),
        ({"run_s": 1400, "times": {"validation_s": 250}}, {"validation": 1.0}),
        ({"run_s": 1275, "times": {"checkpoint_s": 25}}, {"checkpoints": -0.25}),
        ({"run_s": 1800, "times": {"startup_s": 600}}, {"startup": 5.0}),
        # 200 s that were not timed.
        ({"run_s": 1500}, {"rest": 2.0}),
        # $0.02 a second and steps of half the time, of which nothing is known but that it is another machine:
        # 1,400 s at $0.02 less 1,000 x 0.5 s at $0.02, less $14.
        (
            {"run_s": 800, "rate": 72.0, "step_s": 0.5, "machine": "p5.48xlarge"},
            {"plan": 4.0, "price": None, "step_time": None, "interruptions": -2.0},
        ),
        # The same, of two machines where one was priced.
        (
            {
                "run_s": 800,
                "rate": 72.0,
                "step_s": 0.5,
                "prediction": {"differences": ("machines 2, priced 1",), "nodes": 1},
                "plan": RunWords(nodes=2),
            },
            {"plan": 4.0, "price": None, "step_time": None, "interruptions": -2.0},
        ),
        # The plan alone: the price is still told apart. 1,000 x 0.5 s more at $0.01; $0.02 for 1,900 s less $0.01.
        (
            {
                "run_s": 1800,
                "rate": 72.0,
                "step_s": 1.5,
                "prediction": {"differences": ("ddp, priced fsdp",)},
            },
            {"plan": 5.0, "price": 19.0, "step_time": None, "interruptions": -2.0},
        ),
        # Half the steps at twice the time: the steps first, at the predicted time, then the time of those done.
        (
            {"run_s": 1300, "steps_done": 500, "step_s": 2.0, "times": {"data_wait_s": 50}},
            {"steps": -5.0, "step_time": 5.0},
        ),
    ],
)
def test_each_cause_by_hand(changes: dict[str, Any], expected: dict[str, float | None]) -> None:
    """The dollars of each cause, and no other."""
    assert split(make_record(**changes)) == pytest.approx(ALWAYS | expected, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "unknown"),
    [
        (
            {"prediction": {"parts": None}},
            {"data_wait", "validation", "checkpoints", "startup", "interruptions", "storage"},
        ),
        ({"prediction": {"steps": None}}, {"steps"}),
        (
            {"prediction": {"usd_per_hour": None}},
            {"price", "validation", "checkpoints", "startup", "interruptions"},
        ),
        ({"step_s": None}, {"step_time", "data_wait"}),
        ({"times": {"data_wait_s": None}}, {"data_wait"}),
        ({"times": {"validation_s": None, "startup_s": None}}, {"validation", "startup"}),
        ({"interruptions": 2}, {"interruptions"}),
        ({"interruptions": None}, {"interruptions"}),
        ({"earlier_s": 500.0}, {"data_wait", "validation", "checkpoints", "startup"}),
        ({"machine": "p5.48xlarge", "step_s": None}, {"plan", "price", "step_time", "data_wait"}),
    ],
)
def test_unknown_is_said_and_in_the_rest(changes: dict[str, Any], unknown: set[str]) -> None:
    """A cause that is not known has no dollars, says why, and is named by the rest."""
    answer = explain_run(make_record(run_s=2000.0, **changes))
    check_sum(answer)
    missing = {cause.cause for cause in answer.causes if cause.usd is None}
    assert missing == unknown
    assert all(cause.detail for cause in answer.causes)
    rest = answer.causes[-1]
    assert rest.cause == "rest"
    assert all(name.replace("_", " ") in rest.detail for name in unknown)


def make_sessions(**first: Any) -> list[RunRecord]:
    """
    Return two sessions of 600 and 700 s whose times by cause add up to those that were priced.

    Start-up 60 + 40 s, wait for data 40 + 60, validation 100 + 50, checkpoints 30 + 20.
    """
    ended = datetime(2026, 11, 2, tzinfo=timezone.utc)
    times = {"startup_s": 60, "data_wait_s": 40, "validation_s": 100, "checkpoint_s": 30}
    earlier = {"state": "failed", "run_s": 600.0, "steps_done": 400, "ended_at": ended, "times": times}
    rest = {name: TIMES[name] - times[name] for name in times}
    later = make_record(run_s=1300.0, earlier_s=600.0, interruptions=None, ended_at=ended, times=rest)
    return [make_record(**earlier | first), later]


def test_times_of_all_sessions_are_those_of_the_run() -> None:
    """As priced, but for storage; what the interruption cost is not known, so its priced $1 is in the rest."""
    sessions = make_sessions()
    assert split(join_sessions(sessions)) == pytest.approx(
        {"storage": -1.0, "interruptions": None, "rest": -1.0}, abs=1e-6
    )
    assert join_sessions(sessions[:1]) == sessions[0]


@pytest.mark.parametrize(
    "first",
    [
        {"run_s": 500.0},  # 100 s of the run are in neither session
        {"rate": 18.0},
        {"state": "died", "ended_at": None},
        {"times": {"validation_s": None}},
    ],
)
def test_times_of_a_session_that_are_not_known_are_not_of_the_run(first: dict[str, Any]) -> None:
    """The last session alone would say that half the time was spent."""
    assert split(join_sessions(make_sessions(**first)))["validation"] is None


def test_causes_are_all_there_in_order() -> None:
    """The order of the terms that are replaced."""
    assert [cause.cause for cause in explain_run(make_record()).causes] == [
        *("plan", "price", "steps", "step_time", "data_wait", "validation", "checkpoints", "startup"),
        *("interruptions", "storage", "rest"),
    ]


def test_no_prediction_or_no_price_is_no_difference() -> None:
    """Nothing is split, and the reason is said."""
    without_price = explain_run(make_record(rate=None))
    without_prediction = explain_run(make_record(usd=Compared(measured=12.0)))
    assert (without_price.causes, without_price.difference_usd) == ((), None)
    assert without_price.unknown_because == "its machine's price is not known"
    assert "no predicted dollars" in without_prediction.unknown_because
    for state, because in (
        ("running", "the run has not ended"),
        ("died", "the run died, and its end was not recorded"),
    ):
        assert explain_run(make_record(rate=None, state=state)).unknown_because == because


@pytest.mark.parametrize("seed", range(200))
def test_random_records_add_up_to_the_cent(seed: int) -> None:
    """Whatever is known, changed or missing."""
    chance = random.Random(seed)

    def draw(high: float) -> float | None:
        return None if chance.random() < 0.2 else chance.uniform(0, high)

    def compare(high: float) -> Compared:
        low = draw(high)
        return Compared(predicted=None if low is None else interval(low), measured=draw(high))

    names = ("input_s", "startup_usd", "validation_usd", "checkpoint_usd", "interruption_usd", "storage_usd")
    parts = (
        None if chance.random() < 0.3 else PredictedParts(**{name: chance.uniform(0, 50) for name in names})
    )
    differences, nodes = chance.choice(
        [((), None), ((), 2), (("ddp, priced fsdp",), None), (("machines 2, priced 1",), 1)]
    )
    usd = Compared(predicted=interval(chance.uniform(0, 1e5)), measured=chance.uniform(0, 1e5))
    answer = explain_run(
        make_record(
            prediction={
                "parts": parts,
                "usd_per_hour": draw(100),
                "steps": chance.choice([None, 0, 5000]),
                "differences": differences,
                "nodes": nodes,
            },
            plan=RunWords(nodes=2),
            times={name: draw(1e4) for name in TIMES},
            machine=chance.choice(["", "p4de.24xlarge", "p5.48xlarge"]),
            usd=usd,
            usd_per_hour=draw(100),
            step_s=None,
            run_s=0.0,
            steps_done=chance.choice([0, 10, 5000]),
            interruptions=chance.choice([None, 0, 3]),
            earlier_s=chance.choice([0.0, 100.0]),
        ).model_copy(update={"step_s": compare(10), "run_s": compare(1e6)})
    )
    check_sum(answer)
    assert len(answer.causes) == 11
