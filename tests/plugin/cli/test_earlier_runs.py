"""Commands that runs of a ledger correct, when they do and when they do not, and `recommend(ledger=...)`."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from builders.cli import run_main
from builders.profiles import gpt_profile, write_profile
from builders.toy_market import book, offer_row
from trainfare.ledger.earlier_runs import read_earlier_runs
from trainfare.ledger.store import write_run
from trainfare.prices.lock import LockHeader, lock_text
from trainfare.recommendation import recommend
from trainfare_core.documents import Interval
from trainfare_core.errors import InputError
from trainfare_core.ledger.run_record import Compared, RunMachine, RunPrediction, RunRecord, identify_job

JOB = gpt_profile(batch_size=32)
PROJECT = "vision"
IDS = tuple(f"{index:012x}" for index in range(3))


def write_records(folder: Path, project: str = PROJECT) -> Path:
    """Write three runs of JOB on an L40S that took 1.25 times their prediction, and return the ledger."""
    for index, run_id in enumerate(IDS):
        write_run(
            RunRecord(
                run_id=run_id,
                state="finished",
                started_at=datetime(2026, 11, 1, tzinfo=timezone.utc) + timedelta(hours=index),
                project=project,
                job_fingerprint=identify_job(JOB),
                machine=RunMachine(accelerator="L40S-48GB"),
                prediction=RunPrediction(made="after"),
                step_s=Compared(predicted=Interval(mid=1.0, low_80=0.7, high_80=1 / 0.7), measured=1.25),
                steps_measured=40,
            ),
            folder,
        )
    return folder


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the file of JOB in a folder whose project is PROJECT; no CI, and no ledger."""
    folder = tmp_path / PROJECT
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("CI", raising=False)
    return write_profile(folder, JOB)


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command prints."""
    assert run_main(*arguments) == 0
    return capsys.readouterr().out


def test_recommend_says_which_runs_correct_it(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON has their ids, its L40S options are slower by the factor, others are as without; the table says it."""
    ledger = str(write_records(tmp_path / "ledger"))
    limits = ("--provider", "aws", "--limit", "0", "--format", "json")
    before = json.loads(ask(capsys, "recommend", job, *limits, "--no-ledger"))
    text = ask(capsys, "recommend", job, *limits, "--ledger", ledger)
    assert text == ask(capsys, "recommend", job, *limits, "--ledger", ledger)
    after = json.loads(text)
    assert before["earlier_runs"] == []
    (runs,) = after["earlier_runs"]
    assert tuple(runs["runs"]) == IDS
    assert 1.2 < runs["factor"] < 1.25
    steps: dict[tuple[str, ...], Any] = {}
    for answer in (before, after):
        for option in answer["options"]:
            key = tuple(
                str(option[name])
                for name in ("instance_type", "region", "nodes", "sharding", "micro_batch_size")
            )
            steps.setdefault((option["accelerator"], *key), []).append(option["step_s"])
    pairs = {key: pair for key, pair in steps.items() if len(pair) == 2}
    assert {key[0] for key in pairs} > {"L40S-48GB"}
    for key, (old, new) in pairs.items():
        if key[0] != "L40S-48GB":
            assert new == old, key
        elif key[3] == "1":
            assert 1.1 < new["mid"] / old["mid"] <= runs["factor"] * (1 + 1e-9)
            assert new["high_80"] / new["low_80"] < old["high_80"] / old["low_80"]
    table = " ".join(ask(capsys, "recommend", job, "--ledger", ledger).split())
    assert "from 3 runs of this project on L40S-48GB; `--no-ledger` without" in table


def test_the_users_ledger_is_read_but_not_in_ci_or_with_a_lock(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, only a ledger that is named is read: else the same input would give other bytes on another machine."""
    ledger = str(write_records(tmp_path / "ledger"))
    header = LockHeader(tool_version="1.2.3", locked_on=date(2026, 7, 21), rows=1)
    Path("trainfare.lock").write_bytes(lock_text(header, book(offer_row())).encode())
    command = ("recommend", job, "--format", "json")
    plain = ask(capsys, *command)
    monkeypatch.setenv("TRAINFARE_LEDGER", ledger)
    assert len(json.loads(ask(capsys, *command))["earlier_runs"]) == 1
    assert ask(capsys, *command, "--no-ledger") == plain
    locked = (*command, "--lock", "trainfare.lock")
    assert json.loads(ask(capsys, *locked))["earlier_runs"] == []
    assert len(json.loads(ask(capsys, *locked, "--ledger", ledger))["earlier_runs"]) == 1
    monkeypatch.setenv("CI", "true")
    assert ask(capsys, *command) == plain
    assert len(json.loads(ask(capsys, *command, "--ledger", ledger))["earlier_runs"]) == 1


def test_predict_takes_a_ledger(job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On the die of the runs, and not one byte on another."""
    ledger = str(write_records(tmp_path / "ledger"))
    on, others = (
        ("predict", job, "--format", "json", "--on", name) for name in ("L40S-48GB", "A100-SXM-80GB")
    )
    before, after = (json.loads(ask(capsys, *on, *more)) for more in ((), ("--ledger", ledger)))
    assert after["step_s"]["mid"] == pytest.approx(after["earlier_runs"]["factor"] * before["step_s"]["mid"])
    assert tuple(after["earlier_runs"]["runs"]) == IDS
    assert before["earlier_runs"] is None
    assert ask(capsys, *others, "--ledger", ledger) == ask(capsys, *others)


def test_why_compares_with_the_corrected_ranking(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option that it explains is that of `recommend`, and says which runs correct it."""
    ledger = str(write_records(tmp_path / "ledger"))
    command = ("why", "L40S", job, "--provider", "aws", "--format", "json")
    before, after = (json.loads(ask(capsys, *command, *more)) for more in ((), ("--ledger", ledger)))
    assert after["option"]["step_s"]["mid"] > 1.1 * before["option"]["step_s"]["mid"]
    assert any("3 runs of this project on L40S-48GB" in note["text"] for note in after["option"]["notes"])


def test_estimate_takes_a_ledger(job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another job than those that ran takes what the project has in common: less than the job that ran."""
    pytest.importorskip("transformers")
    ledger = write_records(tmp_path / "ledger")
    model = tmp_path / "tiny.json"
    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "vocab_size"), 64)
    sizes |= dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), 2)
    model.write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama", **sizes}))
    command = ("estimate", "--model", str(model), "--tokens", "1M", "--seq", "64", "--format", "json")
    (runs,) = json.loads(ask(capsys, *command, "--ledger", str(ledger)))["earlier_runs"]
    (own,) = read_earlier_runs(JOB, ledger)
    assert tuple(runs["runs"]) == own.runs
    assert 1.0 < runs["factor"] < own.factor
    assert runs["log_sigma"] > own.log_sigma


def test_check_reads_no_ledger(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's ledger changes not one byte of a check."""
    command = ("check", job, "--max-usd", "1000000", "--format", "json")
    before = ask(capsys, *command)
    monkeypatch.setenv("TRAINFARE_LEDGER", str(write_records(tmp_path / "ledger")))
    assert ask(capsys, *command) == before


def test_runs_of_other_projects_and_damaged_files_correct_nothing(
    job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A project whose folder has the same name is another one; what holds no run is passed over."""
    ledger = write_records(write_records(tmp_path / "ledger", "other"), "vision?")
    (ledger / PROJECT).mkdir(exist_ok=True)
    (ledger / PROJECT / "20261101T000000Z-0.json").write_text("{", encoding="utf-8")
    command = ("predict", job, "--on", "L40S-48GB")
    assert ask(capsys, *command, "--ledger", str(ledger)) == ask(capsys, *command)


@pytest.mark.parametrize("more", [("--ledger", "absent"), ("--ledger", ".", "--no-ledger")])
def test_a_ledger_that_cannot_be_read_is_bad_usage(
    job: str, more: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """No such folder, or a ledger that is refused at once."""
    assert run_main("recommend", job, *more) == 2
    assert "ledger" in capsys.readouterr().err


def test_recommend_in_python_reads_a_ledger_that_is_given(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none else: the function gives the same answer for the same arguments."""
    ledger = write_records(tmp_path / "ledger")
    prices = book(offer_row(), offer_row(instance_type="g6e", accelerator="L40S-48GB", usd_per_hour=1.9))
    before = recommend(JOB, price_book=prices)
    monkeypatch.setenv("TRAINFARE_LEDGER", str(ledger))
    assert recommend(JOB, price_book=prices).to_json() == before.to_json()
    (runs,) = recommend(JOB, price_book=prices, ledger=ledger).earlier_runs
    assert runs.runs == IDS
    with pytest.raises(InputError, match="no such folder"):
        recommend(JOB, price_book=prices, ledger=tmp_path / "absent")
