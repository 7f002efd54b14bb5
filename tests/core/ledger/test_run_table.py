"""The score of predictions against sums made by hand, and rows without names."""

from __future__ import annotations

import statistics

import pytest

from builders.runs import build_compared, run
from trainfare_core.ledger.run_record import (
    Compared,
    RunMachine,
    RunPrediction,
    RunProcess,
    RunRecord,
    RunSoftware,
    RunWords,
)
from trainfare_core.ledger.run_table import (
    LedgerScore,
    ScoreRow,
    find_last_predictions,
    name_continued,
    remove_names,
    score_runs,
    tabulate_runs,
)


def score(*records: RunRecord, by: str = "all") -> dict[tuple[str, str], ScoreRow]:
    answer = score_runs(tabulate_runs(records), by)  # type: ignore[arg-type]
    assert LedgerScore.model_validate_json(answer.to_json()) == answer
    return {(row.group, row.quantity): row for row in answer.rows}


def test_errors_and_coverage_by_hand() -> None:
    """Steps of 1 s that took 0.8, 1, 1.25 and 2 s: errors of +25, 0, -20 and -50 %; [0.8, 1.25] held three times."""
    row = score(
        *(run(index, step_s=build_compared(1.0, took)) for index, took in enumerate((0.8, 1.0, 1.25, 2.0)))
    )
    assert list(row) == [("all", "step_s")]
    result = row["all", "step_s"]
    errors = [0.25, 0.0, -0.2, -0.5]
    assert result.runs == 4
    assert result.median_error == pytest.approx(statistics.median(map(abs, errors))) == pytest.approx(0.225)
    assert result.mean_error == pytest.approx(0.2375)
    assert result.bias == pytest.approx(-0.1125)
    assert result.held == 0.75


def test_hours_and_dollars_are_of_finished_runs() -> None:
    """A run that failed, or was stopped, after a tenth of its hours cost less than predicted, which says nothing."""
    stopped = run(
        3,
        run_s=build_compared(100.0, 10.0),
        usd=build_compared(10.0, 1.0),
        steps_planned=1000,
        steps_done=100,
    )
    whole = run(
        1, run_s=build_compared(100.0, 110.0), usd=build_compared(10.0, 11.0), steps_planned=7, steps_done=7
    )
    failed = run(2, state="failed", run_s=build_compared(100.0, 10.0), usd=build_compared(10.0, 1.0))
    row = score(whole, failed, stopped)
    assert {name: row["all", name].runs for name in ("step_s", "run_s", "usd")} == {
        "step_s": 3,
        "run_s": 1,
        "usd": 1,
    }
    assert row["all", "usd"].mean_error == pytest.approx(1 - 10 / 11)


def test_a_run_of_another_plan_is_not_scored() -> None:
    """The user's change is no error of the prediction."""
    other = RunPrediction(id="1" * 12, made="before", differences=("ddp, priced fsdp",))
    assert score(run(1), run(2, prediction=other))["all", "step_s"].runs == 1


def test_a_resumed_run_is_scored_once() -> None:
    """
    Two sessions, and two branches of one checkpoint: each quantity is of the last session that measured it.

    Steps of 1 s took 2 s in the first session and 1.25 s in the third, and the fourth was killed; hours and dollars are
    those of the session that finished: 10 predicted, 12.5 taken.
    """
    whole = {"run_s": build_compared(10.0, 12.5), "usd": build_compared(10.0, 12.5)}
    began = {"run_s": build_compared(10.0, 4.0), "usd": build_compared(10.0, 4.0)}
    sessions = (
        run(1, sessions_id="a", state="failed", step_s=build_compared(1.0, 2.0), **began),
        run(2, sessions_id="a", step_s=build_compared(1.0, 1.6), **whole),
        run(3, sessions_id="a", state="failed", step_s=build_compared(1.0, 1.25), **began),
        run(4, sessions_id="a", state="died", ended_at=None, step_s=build_compared(1.0, None)),
    )
    rows = score(*sessions)
    assert {name: (row.runs, row.bias) for (_, name), row in rows.items()} == {
        "step_s": (1, pytest.approx(1 / 1.25 - 1)),
        "run_s": (1, pytest.approx(10 / 12.5 - 1)),
        "usd": (1, pytest.approx(10 / 12.5 - 1)),
    }
    table = tabulate_runs([run(0), *sessions, run(5, sessions_id="b")])
    assert score_runs(table).runs == 3
    assert name_continued(table)["state"].to_list() == [
        "finished", "continued", "continued", "continued", "died", "finished",
    ]  # fmt: skip


def test_the_last_prediction_of_a_resumed_run_is_found_by_its_first() -> None:
    """Not where two runs began with one prediction and went on with different ones; a run without a prediction is left out."""

    def make(number: int, prediction: str, sessions_id: str) -> RunRecord:
        return run(number, sessions_id=sessions_id, prediction=RunPrediction(id=prediction))

    table = tabulate_runs(
        make(number, *names)
        for number, names in enumerate(("xa", "ya", ("", "a"), ("", ""), "pb", "qb", "pc"))
    )
    assert find_last_predictions(table) == {"x": "y", "y": "y", "q": "q"}


def test_groups() -> None:
    """By accelerator, project, kind, and the version that predicted, not the one that measured."""
    runs = (
        run(1, prediction=RunPrediction(made="after", tool_version="2"), project="speech"),
        run(2, kind="matmul", machine=RunMachine(accelerator="cpu")),
        run(3),
    )
    groups = {
        by: {group: row.runs for (group, _), row in score(*runs, by=by).items()}
        for by in ("project", "accelerator", "kind", "version")
    }
    assert groups == {
        "project": {"speech": 1, "vision": 2},
        "accelerator": {"L40S-48GB": 2, "cpu": 1},
        "kind": {"convolution": 2, "matmul": 1},
        "version": {"1": 2, "2": 1},
    }
    assert score_runs(tabulate_runs(runs)).made_after == 1


@pytest.mark.parametrize("records", [(), (run(1, step_s=Compared(measured=1.0)), run(2, step_s=Compared()))])
def test_nothing_to_score(records: tuple[RunRecord, ...]) -> None:
    assert score(*records) == {}


def test_anonymous_rows_hold_no_name() -> None:
    """A word in every text that names something of the user's is in no cell; the figures are."""
    secret = "acme"
    record = run(
        3, project=secret, job=secret, ended_by=secret, job_fingerprint="ac" * 8,
        machine=RunMachine(
            cloud=secret, instance_type=secret, region=secret, accelerator="L40S-48GB"
        ),
        software=RunSoftware(torch="2.13.0", loop="lightning 2.6.6"),
        plan=RunWords(strategy=f"FSDPStrategy(policy={{{secret}}})"),
        prediction=RunPrediction(id="ac" * 6, made="before", machine=secret, differences=(secret,)),
        process=RunProcess(host=secret, pid=424242),
    )  # fmt: skip
    text = remove_names(tabulate_runs([record])).write_csv()
    for word in (secret, "acac", "424242", record.run_id, "2026-11-01"):
        assert word not in text
    for word in ("2026-11,", "FSDPStrategy,", "L40S-48GB", ",1.1,"):
        assert word in text


def test_machines_of_public_clouds_stay_in_anonymous_rows() -> None:
    machine = RunMachine(cloud="aws", instance_type="g6e.12xlarge", region="us-east-1")
    row = remove_names(tabulate_runs([run(1, machine=machine)])).row(0, named=True)
    assert (row["machine_cloud"], row["machine_instance_type"]) == ("aws", "g6e.12xlarge")
