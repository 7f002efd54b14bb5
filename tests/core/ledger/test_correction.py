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
    MOST_RUNS,
    PRIOR_RUNS,
    PROJECT_SHARE,
    MeasuredRun,
    choose_earlier_runs,
    correct_step,
)
from trainfare_core.ledger.run_record import (
    Compared,
    RunMachine,
    RunPrediction,
    RunRecord,
    identify_job,
)
from trainfare_core.prediction.source import narrow_interval

JOB = gpt_profile()
PUBLISHED, KNOWN = 0.25, 0.08
Z80 = 1.2815515655446004
"""80 % of a normal distribution are within this many standard deviations."""


def make_run(job: str, error: float, *, run_id: str = "r", spread: float = 0.0) -> MeasuredRun:
    """Return a run on an L40S."""
    return MeasuredRun(run_id, job, "L40S-48GB", error, PUBLISHED, spread)


def condition(
    runs: list[tuple[str, float]], job: str, job_variance: float, run_variance: float, project: float
) -> tuple[float, float]:
    """Return mean and variance of project + job of a job by the joint normal distribution of all runs (brute force)."""
    names, errors = [name for name, _ in runs], np.array([error for _, error in runs])
    covariance = np.array(
        [[project + job_variance * (a == b) for b in names] for a in names]
    ) + run_variance * np.eye(len(runs))
    to_target = np.array([project + job_variance * (name == job) for name in names])
    weights = np.linalg.solve(covariance, to_target)
    return float(weights @ errors), float(project + job_variance - weights @ to_target)


@pytest.mark.parametrize("job", ["a", "b", "new"])
def test_the_correction_is_that_of_the_joint_normal_distribution(job: str) -> None:
    """Own runs, other jobs, and a job that never ran: the same as conditioning the whole covariance matrix."""
    runs = [("a", 0.10), ("a", 0.22), ("a", 0.16), ("b", 0.30), ("c", -0.05)]
    answer = correct_step([make_run(*run) for run in runs], job, "AD102", KNOWN)
    squares = sum((error - 0.16) ** 2 for error in (0.10, 0.22, 0.16))
    run_variance = (PRIOR_RUNS * KNOWN**2 + squares) / (PRIOR_RUNS + 2)
    shared = PUBLISHED**2 - max(run_variance, KNOWN**2)
    means, noise = np.array([0.16, 0.30, -0.05]), run_variance * np.mean([1 / 3, 1, 1])
    between = ((means - means.mean()) ** 2).sum() - 2 * noise
    job_variance = (PRIOR_RUNS * (1 - PROJECT_SHARE) * shared + max(between, 0)) / (PRIOR_RUNS + 2)
    mean, variance = condition(runs, job, job_variance, run_variance, PROJECT_SHARE * shared)
    assert math.log(answer.factor) == pytest.approx(mean, abs=1e-5)
    assert answer.log_sigma**2 == pytest.approx(variance, rel=1e-4)


def test_the_interval_is_narrower_and_never_below_the_scatter_within_runs() -> None:
    """A hundred equal runs leave the published scatter from run to run; unsteady steps leave theirs."""
    widths = {}
    for spread in (0.0, 0.2):
        for count in (1, 5, 100):
            runs = [make_run("a", 0.2, spread=spread) for _ in range(count)]
            widths[spread, count] = float(
                narrow_interval(correct_step(runs, "a", "AD102", KNOWN), np.array([PUBLISHED]))[0]
            )
    assert PUBLISHED > widths[0.0, 1] > widths[0.0, 5] > widths[0.0, 100] == pytest.approx(KNOWN, rel=0.01)
    assert PUBLISHED > widths[0.2, 1] > widths[0.2, 5] > widths[0.2, 100] == pytest.approx(0.2, rel=0.01)


def test_a_plan_that_is_less_sure_keeps_what_the_runs_do_not_say() -> None:
    """What several machines add to the variance was not measured: it stays; a surer one loses the same share."""
    answer = correct_step([make_run("a", 0.2)], "a", "AD102", KNOWN)
    own, wide, sure = narrow_interval(answer, np.array([PUBLISHED, 0.5, 0.2])) ** 2
    assert 0.5**2 - wide == pytest.approx(PUBLISHED**2 - own)
    assert sure / 0.2**2 == pytest.approx(own / PUBLISHED**2)


def test_jobs_that_scatter_more_than_published_widen_the_interval() -> None:
    """Errors of +-60 % of four jobs: the next one is less sure than the prediction said."""
    runs = [make_run(name, error) for name, error in zip("abcd", (0.6, -0.6, 0.6, -0.6), strict=True)]
    answer = correct_step(runs, "new", "AD102", KNOWN)
    assert narrow_interval(answer, np.array([PUBLISHED]))[0] > PUBLISHED
    assert answer.factor == pytest.approx(1.0)


def test_a_ratio_that_no_prediction_misses_by_is_limited() -> None:
    """A step of a hundred times its prediction counts as one of three times."""
    hundred, three = (
        correct_step([make_run("a", math.log(ratio))], "a", "AD102", KNOWN) for ratio in (100, 3)
    )
    assert hundred == three


def make_record(index: int = 0, **changes: Any) -> RunRecord:
    """Return a finished run of JOB on an L40S that took 1.2 times its prediction of 0.1 s."""
    half = math.exp(Z80 * PUBLISHED)
    fields: dict[str, Any] = {
        "run_id": f"{index:012x}",
        "state": "finished",
        "started_at": datetime(2026, 11, 1, tzinfo=timezone.utc) + timedelta(hours=index),
        "job_fingerprint": identify_job(JOB),
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
    ],
    ids=["few steps", "not predicted", "not measured", "as exported, perhaps corrected", "no accelerator"],
)
def test_a_run_that_does_not_compare_is_not_counted(changes: dict[str, Any]) -> None:
    """Nothing is said where nothing is known."""
    assert choose_earlier_runs(JOB, [make_record(**changes)]) == ()


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
