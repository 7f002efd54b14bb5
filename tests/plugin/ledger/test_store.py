"""The files of a ledger: written by many at once, by processes that are killed, and read by an index that may be broken."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from builders.runs import BEGAN, build_compared, run
from trainfare.ledger.run_status import RunStatus, describe_process, write_status
from trainfare.ledger.store import (
    INDEX,
    LONGEST_RUN,
    LedgerRuns,
    find_run,
    mark_death,
    name_folder,
    read_runs,
    write_run,
)
from trainfare_core.errors import InputError
from trainfare_core.ledger.run_record import CloudJob, RunPrediction, RunProcess
from trainfare_core.ledger.run_table import score_runs

LATER = BEGAN + timedelta(days=30)
WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from builders.runs import run
from trainfare.ledger.run_status import describe_process
from trainfare.ledger.store import write_run
folder, first, count = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
write_run(run(first, state="running", ended_at=None, process=describe_process()), folder)
print("ready", flush=True)
sys.stdin.readline()
for number in range(first + 1, first + 1 + count):
    write_run(run(number, state="running", ended_at=None), folder)
    write_run(run(number), folder)
"""


def start_writer(folder: Path, first: int, count: int) -> subprocess.Popen[str]:
    """Start a process that writes a running record, says "ready", and on a line writes so many finished ones."""
    tests = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", WRITER, tests, str(folder), str(first), str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def read(folder: Path) -> LedgerRuns:
    return read_runs(folder, lambda: LATER)


def test_eight_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each begins one run and writes 25 in one folder, at the same time."""
    writers = [start_writer(tmp_path, 1000 * index, 25) for index in range(8)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [writer.wait() for writer in writers] == [0] * 8
    for writer in writers:
        writer.communicate()
    runs = read(tmp_path)
    assert (runs.table.height, runs.problems) == (208, ())
    assert runs.table["run_id"].n_unique() == 208
    assert runs.table["state"].value_counts(sort=True).rows() == [("finished", 200), ("died", 8)]
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_killed_run_died_and_every_file_is_whole(tmp_path: Path) -> None:
    """The process is killed while it writes; the run that it had begun is found dead, and no file is damaged."""
    writer = start_writer(tmp_path, 0, 10**6)
    assert writer.stdout is not None
    assert writer.stdin is not None
    writer.stdout.readline()
    assert read(tmp_path).table["state"].to_list() == ["running"]
    writer.stdin.write("\n")
    writer.stdin.flush()
    while len(list(tmp_path.glob("vision/*.json"))) < 20:
        pass
    writer.kill()
    writer.communicate()
    runs = read(tmp_path)
    assert runs.problems == ()
    assert runs.table.row(0, named=True)["state"] == "died"
    # Of the other runs the last one may have begun and not ended; its record names no process of this host.
    assert set(runs.table["state"][1:-1]) == {"finished"}


def test_a_run_elsewhere_is_dead_after_the_longest_run() -> None:
    """Its process cannot be seen from here."""
    other = run(1, state="running", ended_at=None, process=RunProcess(host="of another", pid=os.getpid()))
    assert mark_death(other, BEGAN + LONGEST_RUN).state == "running"
    assert mark_death(other, BEGAN + LONGEST_RUN + timedelta(hours=1)).state == "died"
    own = other.model_copy(update={"process": describe_process()})
    assert mark_death(own, BEGAN + LONGEST_RUN + timedelta(days=99)).state == "running"
    assert mark_death(run(2), LATER).state == "finished"


@pytest.mark.parametrize(
    ("written", "steps_done"),
    [({}, 250), (None, None), ({"run_id": "0b"}, None), ({"process": RunProcess(host="x", pid=1)}, None)],
    ids=["its own", "none", "another run", "another session"],
)
def test_how_far_a_killed_run_came_is_in_its_status(
    tmp_path: Path, written: dict[str, object] | None, steps_done: int | None
) -> None:
    """Its steps, seconds and dollars are those of the file beside its profile, if that is its own; else not known, not 0."""
    own = RunProcess(host="of another", pid=7)
    fields = {"run_id": "0a", "process": own, "steps_done": 250, "elapsed_s": 60.0, "usd_so_far": 0.5}
    if written is not None:
        write_status(RunStatus.model_validate(fields | written), tmp_path / "out")
    killed = run(
        3, state="running", ended_at=None, steps_done=0, process=own, sessions_id="0a",
        folder=str(tmp_path / "out"), run_s=build_compared(100.0, None), usd=build_compared(1.0, None),
    )  # fmt: skip
    write_run(killed, tmp_path / "ledger")
    (row,) = read_runs(tmp_path / "ledger", lambda: BEGAN + timedelta(days=99)).table.to_dicts()
    known = steps_done is not None
    assert (row["state"], row["steps_done"]) == ("died", steps_done)
    assert (row["run_s_measured"], row["usd_measured"]) == ((60.0, 0.5) if known else (None, None))
    died = find_run(tmp_path / "ledger", killed.run_id)
    assert died.steps_done == steps_done
    assert died.usd == build_compared(1.0, 0.5 if known else None)
    job = CloudJob(began_at=BEGAN, ended_at=LATER)
    billed = died.model_copy(update={"cloud_job": job, "usd": build_compared(1.0, 0.7)})
    assert mark_death(billed, LATER).usd.measured == 0.7


def test_two_thousand_runs_score_the_same_with_and_without_the_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the index is read: with it, no record is opened again."""
    draws = random.Random(51)
    for number in range(2000):
        took = draws.lognormvariate(0.1, 0.2)
        project = f"project {number % 7}"
        write_run(run(number, project=project, step_s=build_compared(1.0, took)), tmp_path)
    first = read(tmp_path)
    assert first.table.height == 2000
    assert (tmp_path / INDEX).is_file()
    monkeypatch.setattr("trainfare.ledger.store.read_record", None)
    again = read(tmp_path)
    assert again.table.equals(first.table)
    assert score_runs(again.table, "project") == score_runs(first.table, "project")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PAR1" * 99, "folder", "pipe"])
def test_a_broken_index_is_made_again(tmp_path: Path, content: bytes | str) -> None:
    """Or, where it cannot be written, left as it is; a pipe is not waited for."""
    for number in range(3):
        write_run(run(number), tmp_path)
    if isinstance(content, bytes):
        (tmp_path / INDEX).write_bytes(content)
    elif content == "pipe":
        os.mkfifo(tmp_path / INDEX)
    else:
        (tmp_path / INDEX).mkdir()
    runs = read(tmp_path)
    assert (runs.table.height, runs.problems) == (3, ())
    assert read(tmp_path).table.equals(runs.table)
    assert (tmp_path / INDEX).is_file() == (content != "folder")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(("folder_mode", "file_mode"), [(0o755, 0o600), (0o2770, 0o660), (0o777, 0o660)])
def test_a_record_is_its_owners_or_of_a_group_that_may_write(
    tmp_path: Path, folder_mode: int, file_mode: int
) -> None:
    """The index too, which the others read; a folder that is made is the owner's."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(folder_mode)
    path = write_run(run(0), shared)
    read(shared)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (path, shared / INDEX)}
    assert modes == {file_mode}
    assert bool(path.parent.stat().st_mode & stat.S_IWGRP) == (file_mode == 0o660)
    assert stat.S_IMODE(write_run(run(0), tmp_path / "own").parent.parent.stat().st_mode) == 0o700


def test_a_file_is_no_ledger(tmp_path: Path) -> None:
    """A slip of the keyboard does not look like a ledger without runs."""
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"ledger .*file: cannot be read"):
        read(tmp_path / "file")
    assert read(tmp_path / "none").table.height == 0


def test_a_plan_is_listed_until_it_runs(tmp_path: Path) -> None:
    write_run(run(1, state="planned", ended_at=None, prediction=RunPrediction(id="a" * 12)), tmp_path)
    write_run(run(2, state="planned", ended_at=None, prediction=RunPrediction(id="b" * 12)), tmp_path)
    assert read(tmp_path).table["state"].to_list() == ["planned"] * 2
    assert score_runs(read(tmp_path).table).runs == 0
    write_run(run(3, prediction=RunPrediction(id="a" * 12)), tmp_path)
    assert read(tmp_path).table["run_id"].to_list() == [run(2).run_id, run(3).run_id]


def test_the_index_keeps_what_nobody_writes_again(tmp_path: Path) -> None:
    """A run that ended a minute ago may still get its job; a running one ends; a deleted one is gone."""
    ended = BEGAN + timedelta(hours=1)
    write_run(run(0, job="first"), tmp_path)
    write_run(run(1, state="running", ended_at=None), tmp_path)
    assert read_runs(tmp_path, lambda: ended + timedelta(minutes=1)).table["job"].to_list() == [
        "first",
        "Net",
    ]
    write_run(run(0, job="second"), tmp_path)
    write_run(run(1), tmp_path)
    runs = read(tmp_path).table
    assert (runs["job"].to_list(), runs["state"].to_list()) == (["second", "Net"], ["finished"] * 2)
    find = next(tmp_path.glob(f"vision/*-{run(0).run_id}.json"))
    find.unlink()
    assert read(tmp_path).table["run_id"].to_list() == [run(1).run_id]


def test_a_file_that_is_no_run_is_named_and_hides_no_other(tmp_path: Path) -> None:
    write_run(run(0), tmp_path)
    (tmp_path / "vision" / "bad.json").write_text("{")
    (tmp_path / "vision" / "empty.json").touch()
    (tmp_path / "vision" / ".hidden.json").write_text("{")
    (tmp_path / "a file.json").write_text("{")
    os.mkfifo(tmp_path / "vision" / "pipe.json")
    runs = read(tmp_path)
    assert runs.table.height == 1
    assert [problem.split(": ")[0].rpartition("/")[2] for problem in runs.problems] == [
        "bad.json",
        "empty.json",
        "pipe.json",
    ]


def test_a_missing_folder_holds_no_run(tmp_path: Path) -> None:
    assert read(tmp_path / "none").table.height == 0


def test_runs_are_found_by_the_beginning_of_their_id(tmp_path: Path) -> None:
    for record in (run(0, run_id="ab" * 6), run(1, run_id="ac" * 6)):
        write_run(record, tmp_path)
    assert find_run(tmp_path, "ab").run_id == "ab" * 6
    for run_id, why in (("a", "2 runs have such an id"), ("b", "no run has this id"), ("", "no run")):
        with pytest.raises(InputError, match=why):
            find_run(tmp_path, run_id)


def test_a_project_names_a_folder_inside_the_ledger(tmp_path: Path) -> None:
    """Two names may make one folder; the records keep the names."""
    for number, project in enumerate(("a b", "a/b", "../up")):
        write_run(run(number, project=project), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-b", "up"]
    assert read(tmp_path).table["project"].to_list() == ["a b", "a/b", "../up"]
    assert (name_folder(".."), name_folder("")) == ("unnamed", "unnamed")


def test_the_times_are_of_any_zone(tmp_path: Path) -> None:
    """A run of another zone sorts by its time."""
    east = timezone(timedelta(hours=5))
    write_run(run(0, started_at=datetime(2026, 11, 1, 17, tzinfo=east)), tmp_path)
    assert read(tmp_path).table["started_at"].to_list() == ["2026-11-01T12:00:00Z"]
