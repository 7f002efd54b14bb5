"""`trainfare calibrate` on a CPU, and commands that figures of a device correct, when they do and when they do not."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from builders.cli import run_main
from builders.measurements import copy, measurement, product
from builders.profiles import gpt_profile, write_profile
from builders.toy_market import book, offer_row
from trainfare.cli.calibrate import calibration_text
from trainfare.ledger.earlier_runs import keep_measurement
from trainfare.prices.lock import LockHeader, lock_text

SAYS = "by figures measured on this device on 2026-11-30; `--no-ledger` without"
# 200 TFLOP/s of 312, and 1.3 TB/s of 2.0: an A100 that is slower than others.
SLOW = measurement((product(8192), 2 * 8192**3 / 200e12), (copy(2**28), 2**31 / 1.3e12))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the file of a job in a folder of its own; no CI, and no ledger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CI", raising=False)
    return write_profile(tmp_path, gpt_profile(batch_size=32))


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command prints."""
    assert run_main(*arguments) == 0
    return capsys.readouterr().out


def test_predict_and_recommend_say_which_figures_they_use(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slower on the A100 of 80 GB, the same bytes on another card; table and JSON say by what."""
    ledger = str(tmp_path / "runs")
    keep_measurement(SLOW, Path(ledger))
    on = ("predict", job, "--format", "json", "--on", "A100-SXM-80GB")
    before, after = (json.loads(ask(capsys, *on, *more)) for more in ((), ("--ledger", ledger)))
    assert 1.1 < after["step_s"]["mid"] / before["step_s"]["mid"] < 1.6
    assert before["device_figures"] is None
    assert set(after["device_figures"]["ratios"]) == {"matmul bf16", "memory"}
    other = ("predict", job, "--format", "json", "--on", "H100-SXM-80GB")
    assert ask(capsys, *other, "--ledger", ledger) == ask(capsys, *other)
    ranking = ("recommend", job, "--provider", "aws", "--accelerator", "A100-SXM-80GB", "--ledger", ledger)
    answer: dict[str, Any] = json.loads(ask(capsys, *ranking, "--format", "json"))
    assert answer["device_figures"] == [after["device_figures"]]
    assert all(SAYS in [note["text"] for note in option["notes"]] for option in answer["options"])
    assert f"Times on A100-SXM-80GB are {SAYS}." in " ".join(ask(capsys, *ranking).split())
    page = ask(capsys, *ranking, "--format", "html")
    assert "What the operations take is not known here" not in page
    assert "Predicted time of the device alone" in page
    why = json.loads(ask(capsys, "why", "A100-SXM-80GB", job, "--ledger", ledger, "--format", "json"))
    assert SAYS in [note["text"] for note in why["option"]["notes"]]


def test_the_users_figures_are_not_read_in_ci_with_a_lock_or_by_check(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, only a ledger that is named is read, and `check` reads none: the same input gives the same bytes."""
    ledger = tmp_path / "runs"
    Path("trainfare.lock").write_bytes(
        lock_text(
            LockHeader(tool_version="1.2.3", locked_on=date(2026, 7, 21), rows=1), book(offer_row())
        ).encode()
    )
    command = ("recommend", job, "--format", "json")
    locked = (*command, "--lock", "trainfare.lock")
    check = ("check", job, "--max-usd", "1000000", "--format", "json")
    before, checked, of_lock = ask(capsys, *command), ask(capsys, *check), ask(capsys, *locked)
    keep_measurement(SLOW, ledger)
    monkeypatch.setenv("TRAINFARE_LEDGER", str(ledger))
    assert len(json.loads(ask(capsys, *command))["device_figures"]) == 1
    assert ask(capsys, *command, "--no-ledger") == before
    assert ask(capsys, *check) == checked
    assert ask(capsys, *locked) == of_lock
    assert len(json.loads(ask(capsys, *locked, "--ledger", str(ledger)))["device_figures"]) == 1
    monkeypatch.setenv("CI", "true")
    assert ask(capsys, *command) == before


def test_a_damaged_measurement_is_passed_over(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of it is used, and the runs of the ledger still are; `ledger list` knows no such project."""
    path = Path(keep_measurement(SLOW, tmp_path / "runs"))
    path.write_text(path.read_text(encoding="utf-8")[:200], encoding="utf-8")
    command = ("predict", job, "--on", "A100-SXM-80GB")
    assert ask(capsys, *command, "--ledger", str(tmp_path / "runs")) == ask(capsys, *command)
    assert ask(capsys, "ledger", "list", "--ledger", str(tmp_path / "runs")) == "no runs\n"


def test_the_table_says_what_changes_predictions_and_what_is_refused() -> None:
    """A figure of each kind of work beside its prediction, and the reason of one that is not plausible."""
    text = calibration_text(
        measurement((product(8192), 2 * 8192**3 / 200e12), (product(8192, "fp16"), 2 * 8192**3 / 700e12)), 80
    )
    assert "200 TFLOP/s" in text
    assert "of predicted seconds" in text
    assert "refused: 2.2 times as fast as its data sheet" in " ".join(text.split())
    assert text.endswith("predictions on A100-SXM-80GB use what is not refused\n")
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_rate_of_an_all_reduce_is_of_the_bytes_that_are_reduced() -> None:
    """2^26 numbers of 4 bytes in 2 ms: "algbw" of github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md, S/t."""
    assert f"{4 * 2**26 / 2e-3 / 1e9:.3g} GB/s reduced" in calibration_text(measurement(), 80)


def test_a_cpu_is_measured_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real command: a row for each kind of work, one file, and the sentence that nothing uses it."""
    assert run_main("calibrate", "--seconds", "1", "--ledger", str(tmp_path)) == 0
    answer = capsys.readouterr()
    for work in ("launch", "memory", "matmul fp32", "convolution fp32"):
        assert f" {work} " in answer.out
    assert answer.out.endswith("no prediction uses these: trainfare predicts no step on this device\n")
    (path,) = (tmp_path / ".devices").iterdir()
    assert json.loads(path.read_text(encoding="utf-8"))["schema_version"] == 1
    assert f"wrote {path}" in answer.err
