"""`trainfare ledger why`: from an exported plan to the causes of a run's dollars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builders.bills import RUN, focus_line, write_csv
from builders.cli import capture_main
from builders.exports import small_answer
from builders.runs import build_compared, run
from trainfare.ledger.store import write_run
from trainfare_core.ledger.causes import RunExplanation, explain_run
from trainfare_core.ledger.run_record import Compared, PredictedParts, RunPrediction, TimeParts
from trainfare_core.recommendation import CostParts, PricedPlan


def record_run(**fields: Any) -> Any:
    """Return a run of $20 that was predicted at $12."""
    return run(usd=build_compared(12.0, 20.0), prediction=RunPrediction(id=RUN, made="before"), **fields)


def test_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run by the beginning of its id; what is not known is said."""
    write_run(record_run(usd_per_hour=10.0), tmp_path)
    done = capture_main(capsys, "ledger", "why", "000000", "--ledger", tmp_path)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert (
        lines[0]
        == "run 000000000000 (finished): predicted $12.00 [$9.60 to $15.00], measured $20.00: +8.00 USD"
    )
    assert "price not known the price or the hours of the prediction are not known" in lines
    assert lines[-1].startswith("rest +8.00 what nothing above explains; in it price, steps, ")
    done = capture_main(capsys, "ledger", "why", "000000", "--ledger", tmp_path, "--format", "json")
    assert RunExplanation.model_validate_json(done.stdout).difference_usd == 8.0


def test_bill_has_the_estimate_of_the_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the id of the prediction, which is the tag; a bill without its run has none."""
    write_run(record_run(), tmp_path / "runs")
    bill = write_csv(tmp_path / "bill.csv", [focus_line("19", run=RUN), focus_line("1", run="b" * 12)])
    done = capture_main(capsys, "reconcile", bill, "--ledger", tmp_path / "runs")
    rows = [line.split()[:3] for line in done.stdout.splitlines()[2:4]]
    assert rows == [[RUN, "12.00", "19.00"], ["b" * 12, "not", "known"]]


def test_a_resumed_run_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    By the id of either session: why explains the whole run, and the bill has what both predictions' tags name.

    Of $20 in 2 h the first session had 1 h; 900 s of validation in each are 0.5 h, so $5 against $2 that were priced.
    """
    parts = PredictedParts(
        input_s=0, startup_usd=0, validation_usd=2, checkpoint_usd=0, interruption_usd=0, storage_usd=0
    )
    for number, (plan, state) in enumerate((("b" * 12, "failed"), (RUN, "finished"))):
        record = record_run(
            usd_per_hour=10.0, state=state, sessions_id="0a", earlier_s=3600.0 * number,
            run_s=build_compared(4320.0, 3600.0 * (number + 1)), parts=TimeParts(validation_s=900),
        )  # fmt: skip
        prediction = RunPrediction(id=plan, made="before", usd_per_hour=10, steps=100, parts=parts)
        began = {"run_id": f"{number:012x}", "started_at": run(number).started_at, "prediction": prediction}
        write_run(record.model_copy(update=began), tmp_path / "runs")
    for run_id in ("000000000000", "000000000001"):
        text = capture_main(capsys, "ledger", "why", run_id, "--ledger", tmp_path / "runs").stdout
        assert text.startswith("run 000000000001 (finished): predicted $12.00")
        assert " ".join(text.split()).count("validation +3.00 12 min -> 30 min") == 1
    bill = write_csv(tmp_path / "bill.csv", [focus_line("9", run="b" * 12), focus_line("10", run=RUN)])
    done = capture_main(capsys, "reconcile", bill, "--ledger", tmp_path / "runs")
    assert [line.split()[:3] for line in done.stdout.splitlines()[2:]] == [[RUN, "12.00", "19.00"]]


def test_run_as_priced_has_no_cause_but_storage() -> None:
    """
    The parts of a plan go through the variable of its environment, and each is found where it was priced.

    $1 each of start-up, copy and unused time, $2 of validation, $3 of checkpoints, $4 of interruptions, and $5, $6, $7
    and $8 of what is no machine's hour; 100 steps of 36 s with 3.6 s of wait at $10 an hour are $10.
    """
    parts = CostParts(
        training_usd=10, startup_usd=1, staging_usd=1, rounding_usd=1, validation_usd=2, checkpoint_usd=3,
        interruption_usd=4, storage_usd=5, object_storage_usd=6, transfer_usd=7, model_usd=8,
    )  # fmt: skip
    option = small_answer().options[0]
    step_parts = option.step_parts.model_copy(update={"input_s": 3.6})
    option = option.model_copy(update={"cost_parts": parts, "step_parts": step_parts, "usd_per_hour": 10.0})
    plan = PricedPlan.from_text(PricedPlan.from_option(option, 100).to_text())
    assert plan is not None
    values = list(plan.parts or ())
    assert values == [3.6, 3, 2, 3, 4, 26]
    prediction = RunPrediction(usd_per_hour=10, steps=100, parts=PredictedParts.from_values(values))
    answer = explain_run(
        run(
            prediction=prediction,
            step_s=build_compared(36, 36),
            run_s=build_compared(2.2 * 3600, 2.2 * 3600),
            usd=Compared(predicted=build_compared(48, None).predicted, measured=22.0),
            usd_per_hour=10.0,
            steps_done=100,
            interruptions=0,
            parts=TimeParts(startup_s=0.3 * 3600, data_wait_s=360, validation_s=720, checkpoint_s=1080),
        )
    )
    usd = {cause.cause: cause.usd for cause in answer.causes if cause.usd != pytest.approx(0)}
    assert usd == {"storage": -26, "interruptions": -4, "rest": 4}  # 0.4 h were not timed
