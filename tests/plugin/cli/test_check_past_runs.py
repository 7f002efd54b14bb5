"""`trainfare check --ledger`: the last runs of the job beside its prediction, and nothing where no ledger is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders.cli import run_main
from builders.profiles import gpt_profile, write_profile
from builders.runs import build_compared, run
from trainfare.ledger.store import write_run
from trainfare_core.ledger.run_record import Compared, RunMachine, RunPrediction, identify_job

JOB = gpt_profile(batch_size=32)
PLACE = RunMachine(cloud="aws", instance_type="g6.xlarge", region="us-east-1", accelerator="L4-24GB", nodes=2)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file of the job, and a ledger `runs` with five runs of it, of which one has not ended, and one of another."""
    folder = tmp_path / "vision"
    folder.mkdir()
    monkeypatch.chdir(folder)
    fields: dict[str, Any] = {
        "job_fingerprint": identify_job(JOB), "machine": PLACE, "steps_planned": 100, "steps_done": 100,
        "run_s": Compared(measured=5400.0),
    }  # fmt: skip
    changed = RunPrediction(id="0" * 12, made="before", differences=("ddp, priced fsdp",))
    for index, own in enumerate((
        {},
        {"usd": build_compared(10.0, 12.5)},
        {"usd": build_compared(10.0, 4.0), "state": "failed", "steps_done": 40},
        {"usd": build_compared(10.0, 8.0), "prediction": changed},
        {"state": "running", "ended_at": None},
        {"job_fingerprint": "f" * 16},
        {"project": "speech"},
    )):  # fmt: skip
        write_run(run(index, **{**fields, **own}), folder / "runs")
    return write_profile(folder, JOB)


def check(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run_main("check", *arguments) == code
    return capsys.readouterr().out


def test_the_last_three_runs_that_ended_are_shown(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Newest first; a difference only of a run that did all its steps as they were priced."""
    answer = json.loads(check(capsys, job, "--max-usd", "1e9", "--ledger", "runs", "--format", "json"))
    shown = [(past["run_id"][-1], past["state"], past["usd"]["measured"]) for past in answer["past_runs"]]
    assert shown == [("3", "finished", 8.0), ("2", "failed", 4.0), ("1", "finished", 12.5)]
    markdown = check(capsys, job, "--max-usd", "1e9", "--ledger", "runs", "--format", "markdown")
    table = [[cell.strip(" \\") for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    place = "2 x aws:g6.xlarge@us-east-1"
    assert [cells for cells in table if cells[0] == "2026-11-01"] == [
        ["2026-11-01", "finished", place, "1.5 h", "8.00", "10.00", ""],
        ["2026-11-01", "failed: 40 of 100 steps", place, "1.5 h", "4.00", "10.00", ""],
        ["2026-11-01", "finished", place, "1.5 h", "12.50", "10.00", "+2.50"],
    ]


def test_without_a_named_ledger_nothing_is_read(
    job: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of the environment either: the same input gives the same bytes."""
    plain = check(capsys, job, "--max-usd", "1e9", "--format", "markdown")
    monkeypatch.setenv("TRAINFARE_LEDGER", "runs")
    assert check(capsys, job, "--max-usd", "1e9", "--format", "markdown") == plain
    assert "Last runs" not in plain


def test_a_policy_names_a_ledger(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In its table; a folder that only the machines of training have shows nothing."""
    policy = f'[ledger]\nfolder = "{{}}"\n\n[jobs.gpt]\ntarget = "{job}"\nmax_usd = 1e9\n'
    Path("trainfare.toml").write_text(policy.format("runs"))
    assert "LAST RUNS  gpt" in check(capsys)
    for folder in ("elsewhere", "off"):
        Path("trainfare.toml").write_text(policy.format(folder))
        assert "LAST RUNS" not in check(capsys)


def test_a_folder_that_is_missing_is_refused(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main("check", job, "--max-usd", "1", "--ledger", "none") == 2
    assert "ledger none: there is no such folder" in capsys.readouterr().err


def test_the_page_of_a_ranking_shows_them_where_the_ledger_is_named(job: str, tmp_path: Path) -> None:
    """The same rows as in the comment; without `--ledger` the page is that of the job alone."""
    assert (
        run_main("recommend", job, "--ledger", "runs", "--format", "html", "-o", str(tmp_path / "named.html"))
        == 0
    )
    assert run_main("recommend", job, "--format", "html", "-o", str(tmp_path / "plain.html")) == 0
    named, plain = ((tmp_path / name).read_text(encoding="utf-8") for name in ("named.html", "plain.html"))
    assert "failed: 40 of 100 steps" in named
    assert "2 x aws:g6.xlarge@us-east-1" in named
    assert "40 of 100 steps" not in plain


def test_a_resumed_run_is_one_row(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    """That of its last session; while that runs, there is none. No path goes into an answer that others read."""
    folder, own = Path("runs"), {"job_fingerprint": identify_job(JOB), "sessions_id": "0a"}
    write_run(run(10, **own, state="failed"), folder)
    write_run(run(11, **own, folder="/home/me"), folder)
    write_run(run(12, **own | {"sessions_id": "0b"}, state="failed"), folder)
    write_run(run(13, **own | {"sessions_id": "0b"}, state="running", ended_at=None), folder)
    text = check(capsys, job, "--max-usd", "1e9", "--ledger", "runs", "--format", "json")
    assert [past["run_id"][-1] for past in json.loads(text)["past_runs"]] == ["b", "3", "2"]
    assert "/home/me" not in text
