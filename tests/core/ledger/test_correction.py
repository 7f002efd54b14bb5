"""What earlier runs of a project say of its next one, and which runs are counted."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from builders.profiles import gpt_profile
from trainfare_core.documents import Interval
from trainfare_core.job_profile import JobProfile, MeasuredStep, Quantiles
from trainfare_core.ledger.correction import (
    GRID,
    MOST_RUNS,
    MeasuredRun,
    Work,
    choose_earlier_runs,
    correct_step,
)
from trainfare_core.ledger.run_record import (
    Compared,
    RunMachine,
    RunPrediction,
    RunRecord,
    TimeParts,
    identify_job,
    identify_weights,
)
from trainfare_core.prediction.source import narrow_interval

JOB = gpt_profile()
PUBLISHED, KNOWN = 0.25, 0.08
Z80 = 1.2815515655446004
"""80 % of a normal distribution are within this many standard deviations."""


def make_run(job: str, error: float, *, model: str = "net", spread: float = 0.0) -> MeasuredRun:
    """Return a run on an L40S of 100 steps that scatter by `spread`."""
    return MeasuredRun("r", Work(job, model), "L40S-48GB", error, PUBLISHED, 1.2533 * spread / 10)


def answer_for(runs: list[MeasuredRun], job: str = "a", model: str = "net") -> tuple[float, float]:
    """Return ln(factor) and the width of a prediction after some runs."""
    answer = correct_step(runs, Work(job, model), "AD102", KNOWN)
    return math.log(answer.factor), float(narrow_interval(answer, np.array([PUBLISHED]))[0])


@pytest.mark.parametrize(("job", "model"), [("a", "net"), ("c", "net"), ("d", "other")])
def test_the_answer_is_that_of_every_point_of_the_grid(job: str, model: str) -> None:
    """Own runs, another batch of the model, another model: each point conditioned and weighed by hand."""
    runs = [
        make_run("a", 0.1),
        make_run("a", 0.2),
        make_run("b", 0.3),
        make_run("e", -0.1, model="big", spread=0.2),
    ]
    works, error = [*(run.work for run in runs), Work(job, model)], np.array([0.1, 0.2, 0.3, -0.1])
    weights: list[float] = []
    means: list[float] = []
    variances: list[float] = []
    for c, p, m, r, log_prior in zip(
        GRID.bias, GRID.shared, GRID.of_model, GRID.run, GRID.log_prior, strict=True
    ):
        share = [
            [1.0 if x.job == y.job else p + (1 - p) * m if x.model == y.model else p for y in works]
            for x in works
        ]
        bias = c**2 * (PUBLISHED**2 - KNOWN**2) * np.array(share)
        covariance = bias[:4, :4] + np.diag([(r * KNOWN) ** 2 + run.median_log_sigma**2 for run in runs])
        inverse = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
        weights.append(
            math.exp(log_prior - error @ inverse @ error / 2) / math.sqrt(np.linalg.det(covariance))
        )
        means.append(float(bias[4, :4] @ inverse @ error))
        variances.append(float(bias[4, 4] + (r * KNOWN) ** 2 - bias[4, :4] @ inverse @ bias[:4, 4]))
    mean = float(np.average(means, weights=weights))
    variance = float(np.average(np.square(means) + variances, weights=weights)) - mean**2
    assert answer_for(runs, job, model) == pytest.approx((mean, math.sqrt(variance)), rel=1e-4, abs=1e-5)


def test_the_scatter_of_steps_inside_runs_is_no_scatter_between_runs() -> None:
    """Ten runs at 1.3 times the prediction whose steps are 34 % apart, as batches of many lengths are."""
    factor, width = answer_for([make_run("a", math.log(1.3), spread=0.34) for _ in range(10)])
    assert factor == pytest.approx(math.log(1.3), rel=0.05)
    assert width < 0.5 * PUBLISHED


def test_more_unsteady_runs_do_not_take_a_correction_away() -> None:
    """Runs 30 % apart around 0.7 times the prediction: ten know more than three; the interval is as wide as they are."""
    errors = [math.log(0.7) + 0.3 * z for z in (-1.2, 0.4, 0.9, -0.3, 1.4, -0.9, 0.0, -1.4, 0.6, 0.5)]
    (three, _), (ten, width) = (answer_for([make_run("a", error) for error in errors[:n]]) for n in (3, 10))
    assert ten < 0.8 * math.log(0.7)
    assert abs(ten - math.log(0.7)) < abs(three - math.log(0.7))
    assert width == pytest.approx(0.3, rel=0.15)


def test_one_run_does_not_say_how_far_runs_are_apart() -> None:
    """The interval after one is twice as wide as that from run to run; ten equal ones make it as narrow."""
    (_, one), (_, ten) = (answer_for([make_run("a", 0.2)] * count) for count in (1, 10))
    assert 2 * KNOWN < one < PUBLISHED
    assert ten < 0.6 * one


def test_jobs_of_other_models_count_little() -> None:
    """Three runs 20 % late: of the job, of its model at other batches, of other models."""
    own, model, other = (
        answer_for([make_run(job, math.log(1.2), model=name) for job, name in works])[0]
        for works in (
            [("a", "net")] * 3,
            [("b", "net"), ("c", "net"), ("d", "net")],
            [("b", "x"), ("c", "y"), ("d", "z")],
        )
    )
    assert own > 0.9 * math.log(1.2) > model > 1.2 * other > 0
    assert other < 0.5 * math.log(1.2)


@pytest.mark.parametrize("model", ["", "net"])
def test_a_job_that_is_not_known_is_like_no_other(model: str) -> None:
    """Without a fingerprint two runs are of two jobs; without that of the model, of two models."""
    unknown = answer_for([make_run("", 0.3, model=model)], "", model)[0]
    assert unknown == answer_for([make_run("b", 0.3, model=model or "x")], "a", model or "y")[0]


def test_an_older_record_without_a_model_is_of_that_of_its_job() -> None:
    """Else it would be like one run and unlike another that are like each other."""
    runs = [make_run("a", 0.3, model=""), make_run("a", 0.3), make_run("b", 0.3)]
    assert answer_for(runs) == answer_for([make_run(run.work.job, 0.3) for run in runs])


def test_an_outlier_among_runs_of_a_job_is_clipped() -> None:
    """One of ten at three times its step, as beside another job: neither the factor nor the interval follows it."""
    errors = [0.2 + 0.08 * z for z in (-1.2, 0.4, 0.9, -0.3, 1.0, -0.9, 0.1, -0.5, 0.5)]
    without, width = answer_for([make_run("a", error) for error in errors])
    factor, wide = answer_for([make_run("a", error) for error in (*errors, math.log(3))])
    assert abs(factor - without) < 0.03
    assert width < wide < 0.5 * PUBLISHED


def test_a_plan_that_is_less_sure_keeps_what_the_runs_do_not_say() -> None:
    """What several machines add to the variance was not measured: it stays; a surer one loses the same share."""
    answer = correct_step([make_run("a", 0.2)], Work("a"), "AD102", KNOWN)
    own, wide, sure = narrow_interval(answer, np.array([PUBLISHED, 0.5, 0.2])) ** 2
    assert 0.5**2 - wide == pytest.approx(PUBLISHED**2 - own)
    assert sure / 0.2**2 == pytest.approx(own / PUBLISHED**2)


def test_jobs_that_scatter_more_than_published_widen_the_interval() -> None:
    """Errors of +-60 % of four jobs: the next one is less sure than the prediction said."""
    factor, width = answer_for([make_run(*run) for run in zip("bcde", (0.6, -0.6, 0.6, -0.6), strict=True)])
    assert width > PUBLISHED
    assert factor == pytest.approx(0.0, abs=1e-6)


def test_a_ratio_that_no_prediction_misses_by_is_limited() -> None:
    """A step of a hundred times its prediction counts as one of three times."""
    hundred, three = (answer_for([make_run("a", math.log(ratio))]) for ratio in (100, 3))
    assert hundred == three


def make_record(index: int = 0, **changes: Any) -> RunRecord:
    """Return a finished run of JOB on an L40S that took 1.2 times its prediction of 0.1 s."""
    half = math.exp(Z80 * PUBLISHED)
    fields: dict[str, Any] = {
        "run_id": f"{index:012x}",
        "state": "finished",
        "started_at": datetime(2026, 11, 1, tzinfo=timezone.utc) + timedelta(hours=index),
        "job_fingerprint": identify_job(JOB),
        "model_fingerprint": identify_weights(JOB),
        "machine": RunMachine(accelerator="L40S-48GB"),
        "prediction": RunPrediction(made="after"),
        "step_s": Compared(predicted=Interval(mid=0.1, low_80=0.1 / half, high_80=0.1 * half), measured=0.12),
        "steps_measured": 50,
    }
    return RunRecord(**{**fields, **changes})


def test_runs_are_counted_by_die_whatever_their_order() -> None:
    """Two dies have a correction each; the same runs in another order give the same bytes."""
    records = [make_record(index) for index in range(3)]
    records.append(make_record(7, machine=RunMachine(accelerator="H100-SXM-80GB")))
    answer = choose_earlier_runs(JOB, records)
    assert [(runs.silicon, runs.accelerators, len(runs.runs)) for runs in answer] == [
        ("AD102", ("L40S-48GB",), 3),
        ("GH100", ("H100-SXM-80GB",), 1),
    ]
    assert answer[0].runs == tuple(f"{index:012x}" for index in range(3))
    again = choose_earlier_runs(JOB, reversed(records))
    assert [runs.model_dump_json() for runs in again] == [runs.model_dump_json() for runs in answer]
    assert 1.0 < answer[0].factor < 1.2
    assert answer[0].describe() == (
        "corrected by +19 % from 3 runs of this project on L40S-48GB; `--no-ledger` without"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"steps_measured": 9},
        {"step_s": Compared(measured=0.12)},
        {"step_s": make_record().step_s.model_copy(update={"measured": None})},
        {"prediction": RunPrediction(made="before")},
        {"machine": RunMachine(accelerator="cpu")},
        {"machine": RunMachine(accelerator="L40S-48GB", nodes=2)},
        {"step_wait_s": 0.06},
        {"parts": TimeParts(data_wait_s=60.0), "steps_done": 1000},
        {"parts": TimeParts(data_wait_s=6.0), "steps_done": 1000, "earlier_s": 10.0},
        {"ended_at": make_record().started_at},
    ],
    ids=[
        "few steps",
        "not predicted",
        "not measured",
        "as exported, perhaps corrected",
        "no accelerator",
        "network and the slower of two machines",
        "half of the step waits for data",
        "half of it, in an older record",
        "resumed, in an older record",
        "imported by an earlier version, which dropped the wait",
    ],
)
def test_a_run_that_does_not_compare_is_not_counted(changes: dict[str, Any]) -> None:
    """Nothing is said where nothing is known."""
    assert choose_earlier_runs(JOB, [make_record(**changes)]) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"step_wait_s": 0.006, "step_s": make_record().step_s.measure(0.126)},
        {
            "parts": TimeParts(data_wait_s=6.0),
            "steps_done": 1000,
            "step_s": make_record().step_s.measure(0.126),
        },
        {"step_wait_s": 0.0, "work_ratio": 1.5, "step_s": make_record().step_s.measure(0.18)},
    ],
    ids=["wait", "wait of an older record", "more work than the trace"],
)
def test_the_device_is_not_charged_with_a_wait_or_with_more_work(changes: dict[str, Any]) -> None:
    """Each measured 0.12 s of the device for the traced work."""
    (expected,) = choose_earlier_runs(JOB, [make_record()])
    (answer,) = choose_earlier_runs(JOB, [make_record(**changes)])
    assert answer.factor == pytest.approx(expected.factor)


def test_a_run_of_an_exported_plan_compares_with_its_trace() -> None:
    """What was exported may be corrected already, or be another plan: 0.12 s are twice the 0.06 s of the trace."""
    traced = Interval(mid=0.06, low_80=0.04, high_80=0.09)
    record = make_record(prediction=RunPrediction(made="before", traced_step_s=traced, differences=("ddp",)))
    (answer,) = choose_earlier_runs(JOB, [record])
    assert 1.5 < answer.factor < 2.0


def test_a_resumed_run_counts_once() -> None:
    """By the last of its sessions that measured its step, here at 0.12 s, and not by the first, at 0.3 s."""
    slow = make_record().step_s.model_copy(update={"measured": 0.3})
    sessions = [
        make_record(1, sessions_id="a", state="failed", step_s=slow),
        make_record(2, sessions_id="a"),
        make_record(3, sessions_id="a", state="died", steps_measured=0),
    ]
    assert choose_earlier_runs(JOB, sessions) == choose_earlier_runs(JOB, [make_record(2)])


def test_the_newest_runs_count() -> None:
    """Software and predictions of long ago were others."""
    (answer,) = choose_earlier_runs(JOB, [make_record(index) for index in range(MOST_RUNS + 5)])
    assert answer.runs == tuple(f"{index:012x}" for index in range(5, MOST_RUNS + 5))


def test_a_job_whose_own_step_was_measured_takes_nothing_from_the_ledger() -> None:
    """Its measured step corrects it, and may be of one of these runs: the same error would count twice."""
    quantiles = Quantiles(median_s=0.1, p10_s=0.1, p90_s=0.1)
    step = MeasuredStep(device_name="NVIDIA L40S", device_kind="cuda", steps=10, step=quantiles)
    job: JobProfile = JOB.model_copy(update={"measured": step})
    assert choose_earlier_runs(JOB, [make_record()])
    assert choose_earlier_runs(job, [make_record()]) == ()
