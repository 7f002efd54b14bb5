"""A ledger in a bucket: two processes, late and broken objects, clouds that fail, and what a reader asks for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from builders.bucket_server import ADDRESSES, BucketServer, serve_bucket
from builders.runs import build_compared, run
from trainfare.ledger import bucket
from trainfare.ledger.bucket import fetch_folder, remove_record, replace_record, write_record
from trainfare.ledger.place import BucketAddress
from trainfare.ledger.store import INDEX, find_run, read_runs
from trainfare_core.errors import CannotTellError
from trainfare_core.ledger.run_record import RunRecord
from trainfare_core.ledger.run_table import score_runs
from trainfare_providers.buckets import Bucket

NOW = datetime(2026, 12, 15, tzinfo=timezone.utc)
TEAM = BucketAddress(ADDRESSES["s3"])
WRITER = """
import sys
sys.path[:] = sys.argv[2:]
from builders.runs import run
from trainfare.ledger.bucket import replace_record
from trainfare.ledger.place import BucketAddress
for number in range(20):
    replace_record(run(100 * int(sys.argv[1]) + number), BucketAddress("s3://runs/team"))
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[BucketServer]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serve_bucket() as made:
        for name, value in made.name_environment(tmp_path / "accounts").items():
            monkeypatch.setenv(name, value)
        yield made
        bucket._end_beginnings()


def read(at: datetime = NOW) -> dict[str, str]:
    """Return the state of each run by its number."""
    table = read_runs(fetch_folder(TEAM, lambda: at), lambda: at).table
    return {str(int(name, 16)): state for name, state in table.select("run_id", "state").iter_rows()}


@pytest.mark.parametrize("address", ADDRESSES.values())
def test_a_run_is_there_while_it_runs_and_after_it(server: BucketServer, address: str) -> None:
    """The beginning is not waited for; its key has the month in which it began."""
    place = BucketAddress(address)
    assert write_record(run(1, state="running", ended_at=None), place) is None
    (beginning,) = bucket._BEGINNINGS
    beginning.wait()
    assert list(server.objects) == [f"/runs/team/2026-11/vision/20261101T120100Z-{1:012x}.json"]
    folder = fetch_folder(place, lambda: NOW)
    assert find_run(folder, f"{1:012x}").state == "running"
    write_record(run(1), place)
    assert not bucket._BEGINNINGS
    assert find_run(fetch_folder(place, lambda: NOW), f"{1:012x}") == run(1)


def test_a_run_that_goes_on_unmeasured_is_removed(server: BucketServer) -> None:
    write_record(run(1), TEAM)
    remove_record(run(1), TEAM)
    bucket._BEGINNINGS[0].wait()
    assert not server.objects


@pytest.mark.parametrize(
    ("fault", "said"),
    [("denied", "access is denied"), ("silent", "no answer within"), ("closed", "not be reached")],
)
def test_a_cloud_that_fails_is_an_error_in_time(
    server: BucketServer, monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    """The processes that write are gone then."""
    server.fault = fault
    if fault == "closed":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    write_record(run(1, state="running", ended_at=None), TEAM)
    with pytest.raises(CannotTellError, match=f"s3://runs/team: .*{said}"):
        write_record(run(1), TEAM, **({"limit_s": 0.1} if fault == "silent" else {"limit_s": 60.0}))
    assert not bucket._BEGINNINGS


def test_two_processes_lose_nothing(server: BucketServer) -> None:
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, str(number), *sys.path]) for number in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(read()) == 40


def test_only_what_is_new_is_asked_for(server: BucketServer) -> None:
    """All months once, and in the thirty days after it the last two; the same score as of a folder."""
    for number in range(10):
        replace_record(run(number, step_s=build_compared(1.0, 1.0 + number)), TEAM)
    first = score_runs(read_runs(fetch_folder(TEAM, lambda: NOW)).table)
    assert (server.count(listings=True), server.count(listings=False), first.runs) == (1, 10, 10)
    server.requests.clear()
    folder = fetch_folder(TEAM, lambda: NOW)
    assert [url.partition("prefix=")[2] for _, url, _ in server.requests] == [
        "team%2F2026-12%2F", "team%2F2026-11%2F", "team%2F.devices%2F"
    ]  # fmt: skip
    assert score_runs(read_runs(folder).table) == first
    assert (folder / INDEX).is_file()


def test_changes_are_seen(server: BucketServer) -> None:
    """A run ends, one is removed, and what the index holds is written again; changes of an old month within thirty days."""
    old = timedelta(days=-200)
    earlier = run(7).started_at + old
    for number in (1, 2, 3):
        replace_record(run(number, state="running", ended_at=None), TEAM)
    replace_record(run(7, started_at=earlier, ended_at=earlier, state="failed"), TEAM)
    assert read() == {"7": "failed", "1": "running", "2": "running", "3": "running"}
    remote = Bucket(TEAM.address)
    for number in (1, 2):
        remote.write(bucket._name_key(run(number)), run(number).to_json().encode())
    remote.delete(bucket._name_key(run(3)))
    late = run(7, started_at=earlier, ended_at=earlier)
    remote.write(bucket._name_key(late), late.to_json().encode())
    assert read() == {"7": "failed", "1": "finished", "2": "finished"}
    remote.write(bucket._name_key(run(2)), run(2, state="failed").to_json().encode())
    assert read()["2"] == "failed"
    assert read(NOW + timedelta(days=31))["7"] == "finished"


def test_a_broken_object_hides_no_other(server: BucketServer) -> None:
    """Half a record, one too large, and another name; a name that leads elsewhere is said."""
    replace_record(run(1), TEAM)
    half = run(2).to_json().encode()
    for key, content in {
        bucket._name_key(run(2)): half[: len(half) // 2],
        bucket._name_key(run(3)): b" " * 2**21,
        "2026-12/vision/readme.json": b"{}",
    }.items():
        server.objects[f"/runs/team/{key}"] = (content, 1.0)
    runs = read_runs(fetch_folder(TEAM, lambda: NOW))
    assert runs.table["run_id"].to_list() == [run(1).run_id]
    (problem,) = runs.problems
    assert run(2).file_name in problem
    server.objects["/runs/team/2026-12/../x.json"] = (b"", 1.0)
    with pytest.raises(CannotTellError, match=r"key that no path may have.*remove 'team/2026-12/../x.json'"):
        read()


def test_a_lost_connection_keeps_what_has_come(server: BucketServer) -> None:
    """And is no answer: half of the runs would be a wrong score."""
    replace_record(run(1), TEAM)
    assert read() == {"1": "finished"}
    replace_record(run(2), TEAM)
    server.fault = "cut"
    with pytest.raises(
        CannotTellError, match="s3://runs/team: it could not be reached, or its answer was cut"
    ):
        read()
    server.fault = ""
    server.requests.clear()
    assert read() == {"1": "finished", "2": "finished"}
    assert server.count(listings=False) == 1


def test_a_folder_that_sagemaker_copied_is_read(server: BucketServer) -> None:
    """It has no months, so it is listed whole each time; an update of a run comes before it."""

    def copy(record: RunRecord) -> None:
        server.objects[f"/runs/team/vision/{record.file_name}"] = (
            record.to_json().encode(),
            5.0 + len(server.objects),
        )

    copy(run(1, state="died", ended_at=None))
    assert read() == {"1": "died"}
    copy(run(2))
    assert read() == {"1": "died", "2": "finished"}
    replace_record(run(1), TEAM)
    assert read() == {"1": "finished", "2": "finished"}
