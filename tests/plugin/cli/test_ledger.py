"""`trainfare ledger`: list, show, score, import, export."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import time_machine

from builders.profiles import profile, write_profile
from builders.runs import build_compared, build_measured, run
from trainfare.cli import main
from trainfare.ledger.run_status import describe_process
from trainfare.ledger.store import read_runs, write_run
from trainfare.report.ledger import runs_text
from trainfare_core.ledger.run_record import Compared, RunMachine, RunPrediction, RunRecord
from trainfare_core.ledger.run_table import name_continued


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ledger of four runs of two projects; the predictions of steps were 25 % above, right, 20 and 50 % below."""
    for index, took in enumerate((0.8, 1.0, 1.25, 2.0)):
        usd = build_compared(10.0, 10.0 * took)
        hours = Compared(measured=7200.0)
        record = run(
            index,
            project="ab"[index % 2],
            step_s=build_compared(1.0, took),
            usd=usd,
            run_s=hours,
            steps_done=500,
        )
        write_run(record, tmp_path / "ledger")
    return tmp_path / "ledger"


def ledger(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ledger", *map(str, arguments)])
    assert ended.value.code == code


def test_list_shows_the_newest_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger("list", "--ledger", folder, "--last", 3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert " ".join(lines[2].split()) == (
        "2026-11-01 12:01 000000000001 finished b Net 4 x L40S-48GB 500 1 s 1 s 2 h 10.00"
    )
    ledger("list", "--ledger", folder, "--project", "a")
    assert capsys.readouterr().out.count("finished") == 2


def test_list_shows_sessions_cents_and_what_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An earlier session is continued; a killed one has no steps, not 0; $0.0123 are not $0.01; $0.10 are no $0.1."""
    small = {"usd": Compared(measured=0.0123), "project": "a"}
    write_run(run(0, sessions_id="0a", state="failed", steps_done=7, **small), tmp_path)
    write_run(run(1, sessions_id="0a", state="running", ended_at=None, **small), tmp_path)
    write_run(run(2, usd=Compared(measured=0.099), steps_done=0), tmp_path)
    with time_machine.travel("2026-11-02"):  # later than `LONGEST_RUN` a run is taken as dead
        ledger("list", "--ledger", tmp_path)
    rows = [" ".join(line.split()[3:]) for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [
        "continued a Net 4 x L40S-48GB 7 1.1 s 1 s 0.012",
        "running a Net 4 x L40S-48GB 1.1 s 1 s 0.012",
        "finished vision Net 4 x L40S-48GB 0 1.1 s 1 s 0.10",
    ]
    with time_machine.travel("2026-11-02"):
        ledger("export", "--anonymous", "--ledger", tmp_path)
    states = [row["state"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert states == ["continued", "running", "finished"]


def test_no_id_is_folded_in_80_columns(folder: Path) -> None:
    """The ids are there to be copied, and the dollars are what a user pays: other columns make room."""
    text = runs_text(name_continued(read_runs(folder).table), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert [word for word in text.split() if word.startswith("0000")] == [
        f"{index:012x}" for index in range(4)
    ]
    assert text.count(" 10.00\n") == 1


def test_show_prints_the_record(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger("show", "000000000002", "--ledger", folder)
    assert RunRecord.from_json(capsys.readouterr().out).step_s.measured == 1.25
    ledger("show", "ffff", "--ledger", folder, code=2)
    assert "no run has this id" in capsys.readouterr().err


def test_score_is_what_a_hand_computes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors of +25, 0, -20 and -50 %: median size 22.5, mean 23.8 (23.75), bias -11.2 (-11.25), three of four held."""
    ledger("score", "--ledger", folder)
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["step", "4", "22.5", "%", "23.8", "%", "-11.2", "%", "75", "%"] in rows
    assert ["dollars", "4", "22.5", "%", "23.8", "%", "-11.2", "%", "75", "%"] in rows
    ledger("score", "--ledger", folder, "--by", "project", "--format", "json")
    answer = json.loads(capsys.readouterr().out)
    steps = {row["group"]: row["mean_error"] for row in answer["rows"] if row["quantity"] == "step_s"}
    assert steps == {"a": pytest.approx((0.25 + 0.2) / 2), "b": pytest.approx(0.25)}


def test_the_plot_is_on_one_scale(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """80 % of +25, 0, -20 and -50 % are from -41 to 17.5 % (linear), the median is -10 %: 24 columns are 41 %."""
    ledger("score", "--ledger", folder, "--plot")
    lines = capsys.readouterr().out.splitlines()
    assert "-41 % to +41 %" in lines[-4]
    assert [line.split() for line in lines if "●" in line] == [
        ["all", quantity, "─" * 18 + "●" + "─" * 5 + "┼" + "─" * 10] for quantity in ("step", "dollars")
    ]
    assert max(map(len, lines[-4:])) <= 80
    ledger("score", "--ledger", folder, "--by", "project", "--plot")
    bands = [line for line in capsys.readouterr().out.splitlines() if "●" in line]
    assert len(bands) == 4
    ledger("score", "--ledger", folder / "none", "--plot")
    assert "●" not in capsys.readouterr().out


def test_import_of_a_metered_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A profile with a measured step is a run; twice is once; one without is refused."""
    job = write_profile(tmp_path, build_measured(profile()))
    ledger("import", job, job, "--ledger", tmp_path / "ledger", "--project", "old")
    (file,) = (tmp_path / "ledger" / "old").glob("*.json")
    record = RunRecord.from_json(file.read_bytes())
    assert (record.project, record.state) == ("old", "finished")
    assert (record.step_s.measured, record.prediction.made) == (0.5, "after")
    capsys.readouterr()
    ledger("import", "docs/examples/llama-7b.json", "--ledger", tmp_path / "ledger", code=2)
    assert "without measured times" in capsys.readouterr().err


def test_ten_profiles_of_one_second_and_content_are_ten_runs(tmp_path: Path) -> None:
    """And the same ten again are no more."""
    content = Path(write_profile(tmp_path, build_measured(profile()))).read_bytes()
    files = [tmp_path / f"{number}.json" for number in range(10)]
    for file in files:
        file.write_bytes(content)
        os.utime(file, (1e9, 1e9))
    for _ in range(2):
        ledger("import", *files, "--ledger", tmp_path / "ledger")
        assert len(list((tmp_path / "ledger").glob("*/*.json"))) == 10


def test_list_says_why_a_prediction_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a reason in the table, and beside each run in JSON."""
    none = {"step_s": Compared(measured=1.0), "prediction": RunPrediction()}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"machine": RunMachine(accelerator="cpu")}, "steps on a CPU are not predicted"),
        ({}, "its step was not traced"),
        ({"state": "failed", "job_fingerprint": "0" * 16}, "it did not end by itself"),
        ({"job_fingerprint": "0" * 16}, "its step on L40S-48GB could not be predicted"),
        ({"state": "running", "ended_at": None, "process": describe_process()}, "it runs"),
        ({"prediction": RunPrediction(id="0" * 12, made="before")}, "left out of TRAINFARE_PREDICTION"),
        ({"step_s": build_compared(1.0, 1.0)}, ""),
    ]
    for number, (fields, _) in enumerate(cases):
        write_run(run(number, **none | fields), tmp_path)
    ledger("list", "--ledger", tmp_path, "--format", "json")
    listed = json.loads(capsys.readouterr().out)["runs"]
    for entry, (_, because) in zip(listed, cases, strict=True):
        assert because in entry["unpredicted_because"]
        assert bool(because) == bool(entry["unpredicted_because"])
    assert (listed[-1]["step_s"]["predicted"]["mid"], listed[-1]["step_s"]["measured"]) == (1.0, 1.0)
    ledger("list", "--ledger", tmp_path)
    out = capsys.readouterr().out
    assert out.count("1 run without a predicted step: ") == 6
    assert "not started from a file of `trainfare export`, and steps on a CPU are not predicted" in out


def test_import_runs_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script in place of a profile is refused, and not run in the process of the command."""
    (tmp_path / "train.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    ledger("import", tmp_path / "train.py", "--ledger", tmp_path / "ledger", code=2)
    assert "not code" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_an_exported_name_is_no_formula(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A team's folder has files of others; by OWASP's page on CSV injection a cell that begins with `=` runs in a spreadsheet."""
    write_run(run(9, job='=HYPERLINK("x")\x1b[2J', project="@b"), folder)
    ledger("export", "--ledger", folder)
    (row,) = [
        row for row in csv.DictReader(io.StringIO(capsys.readouterr().out)) if row["run_id"].endswith("9")
    ]
    assert (row["job"], row["project"]) == ('\'=HYPERLINK("x")', "'@b")
    ledger("list", "--ledger", folder)
    assert "\x1b" not in capsys.readouterr().out


def test_export(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All columns, or those without names."""
    ledger("export", "--ledger", folder)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["run_id"] for row in rows] == [f"{index:012x}" for index in range(4)]
    ledger("export", "--anonymous", "--ledger", folder, "--output", tmp_path / "rows.csv")
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [float(row["step_s_measured"]) for row in rows] == [0.8, 1.0, 1.25, 2.0]
    assert not {"run_id", "project", "job", "started_at", "job_fingerprint"} & set(rows[0])


@pytest.mark.skipif(os.name != "posix", reason="a folder by environment variable is as good there")
def test_no_ledger(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Off is an error that says so; an empty one has no runs; a damaged file is a warning."""
    ledger("list", code=2)
    assert "the ledger is off" in capsys.readouterr().err
    monkeypatch.setenv("TRAINFARE_LEDGER", str(tmp_path))
    ledger("list")
    assert capsys.readouterr().out == "no runs\n"
    ledger("score")
    assert capsys.readouterr().out == (
        "none of 0 runs has both a prediction and what it took: "
        "start one from a file of `trainfare export`, or on a GPU\n"
    )
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "bad.json").write_text("{}")
    ledger("list")
    assert "not a run of schema 1" in capsys.readouterr().err
