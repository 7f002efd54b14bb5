"""Traces kept on disk and used again: by a command, by its own interface, and on a disk that is not as it should be."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builders.cli import CliResult, run_cli, run_python
from builders.target_files import JOB, TWO_LAYERS
from trainfare.methods.step_change import StepChange
from trainfare.user_process import ProcessLimits, TracedTarget, TraceStore
from trainfare.user_process.messages import JobFacts
from trainfare.user_process.places import Places, places_of
from trainfare.user_process.trace_inputs import States, TraceInputs, variables_digest
from trainfare.user_process.trace_store import StoredTrace
from trainfare_core.job_profile import JobProfile

SCRIPT = 'import sys\nprint("traced now", file=sys.stderr)\n' + TWO_LAYERS + JOB
NO_TORCH = """
import sys
from trainfare.cli import main
try:
    main(["check", "t.py:job", "--max-usd", "1000"])
finally:
    print("torch" in sys.modules, "lightning" in sys.modules or "pytorch_lightning" in sys.modules)
"""
PROFILE = Path(__file__).parents[3] / "docs" / "examples" / "llama-7b.json"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    (path / "t.py").write_text(SCRIPT, encoding="utf-8")
    monkeypatch.chdir(path)
    monkeypatch.setenv("TRAINFARE_TRACE_CACHE", str(tmp_path / "traces"))
    return path


def trainfare(*arguments: str) -> CliResult:
    return run_cli(*arguments, environment={"PYTHONPATH": os.pathsep.join(sys.path)}, check=True)


def test_a_second_command_traces_nothing(project: Path) -> None:
    """Another command on the same code gives the same profile without loading torch; `--no-cache` traces."""
    first = trainfare("profile", "t.py:job")
    assert "traced now" in first.stderr
    second = trainfare("profile", f"{project / 't.py'}:job")
    assert "traced now" not in second.stderr
    assert second.stdout == first.stdout
    done = run_python("-c", NO_TORCH, environment={"PYTHONPATH": os.pathsep.join(sys.path)}, check=True)
    assert done.stdout.splitlines()[-1] == "False False"
    assert "traced now" not in done.stderr
    assert "traced now" in trainfare("profile", "t.py:job", "--no-cache").stderr


def test_each_change_of_the_step_is_a_trace_of_its_own(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Facts and traces of an earlier process are used without one; a step that was not traced starts one."""
    store, target, limits = TraceStore(tmp_path / "kept"), "t.py:job", ProcessLimits()
    probe = StepChange("linear_probe", "32-true", head="head")
    with TracedTarget(target, limits, store=store) as traced:
        facts, plain, changed = traced.job, traced.profile(), traced.profile(probe)
    assert plain != changed
    assert "traced now" in capsys.readouterr().err
    with TracedTarget(target, limits, store=store) as traced:
        assert (traced.job, traced.profile(probe), traced.profile()) == (facts, changed, plain)
    assert capsys.readouterr().err == ""
    with TracedTarget(target, limits, store=store) as traced:
        assert traced.profile(StepChange("full_finetune", "bf16-mixed")) != plain
    assert "traced now" in capsys.readouterr().err
    with (
        TracedTarget("t.py:other", limits, store=store) as traced,
        pytest.raises(Exception, match="has no 'other'"),
    ):
        traced.profile()


# ---- the disk


def places(folder: Path) -> Places:
    return places_of([], folder)


def make_stored(size: int = 4) -> StoredTrace:
    inputs = TraceInputs(
        files=(), listings=(), imports=(), variables=(), variables_digest=variables_digest((), {})
    )
    profile = JobProfile.from_json(PROFILE.read_bytes()).model_copy(update={"notes": ("x" * 400,) * size})
    return StoredTrace(
        JobFacts(precision="32-true", train_samples=None, tokens_per_sample=None),
        inputs,
        profile.to_json().encode(),
    )


def find(store: TraceStore, folder: Path, key: str = "k") -> StoredTrace | None:
    return store.find(key, "", places(folder), States(), {})


def test_damaged_files_are_absent(tmp_path: Path) -> None:
    """A file that is cut, changed, of another format or a link gives no trace, and is replaced by the next one."""
    store, trace = TraceStore(tmp_path), make_stored()
    store.keep("k", "", trace)
    (file,) = tmp_path.iterdir()
    assert find(store, tmp_path) == trace
    whole = file.read_bytes()
    for damaged in (
        whole[:-1],
        whole.replace(b'"optimizer_steps"', b'"optimizer_stepz"'),
        b"",
        b"{}\n",
        whole.replace(b'"format":1', b'"format":2', 1),
    ):
        file.write_bytes(damaged)
        assert find(store, tmp_path) is None
        assert not file.exists()
        store.keep("k", "", trace)
        assert find(store, tmp_path) == trace
    moved = tmp_path / "moved"
    file.rename(moved)
    file.symlink_to(moved)
    assert find(store, tmp_path) is None


def test_what_unpacks_to_more_than_any_trace_has_is_absent(tmp_path: Path) -> None:
    """A small file can unpack to gigabytes; this one would be a whole trace, with 64 MiB of blanks."""
    store, trace = TraceStore(tmp_path), make_stored()
    store.keep("k", "", trace)
    (file,) = tmp_path.iterdir()
    header = json.loads(file.read_bytes().partition(b"\n")[0])
    for blanks in (1, 64 * 2**20):
        inputs = zlib.compress(trace.inputs.model_dump_json().encode() + b" " * blanks, 1)
        body = inputs + trace.profile
        facts = {"sha256": hashlib.sha256(body).hexdigest(), "inputs_bytes": len(inputs)}
        file.write_bytes(json.dumps(header | facts).encode() + b"\n" + body)
        assert find(store, tmp_path) == (trace if blanks == 1 else None)
    assert not file.exists()


def test_a_disk_that_refuses_is_no_error(tmp_path: Path) -> None:
    """A folder that cannot be made keeps nothing."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    store = TraceStore(tmp_path / "file" / "traces")
    store.keep("k", "", make_stored())
    assert find(store, tmp_path) is None


def test_the_least_recently_used_are_deleted(tmp_path: Path) -> None:
    """All files together stay below the limit; a trace that is larger is not kept."""
    sample = TraceStore(tmp_path / "sample")
    sample.keep("k", "", make_stored())
    size = next((tmp_path / "sample").iterdir()).stat().st_size
    store = TraceStore(tmp_path / "kept", max_bytes=3 * size + 100)
    for number, key in enumerate("abc"):
        store.keep(key, "", make_stored())
        newest = max((tmp_path / "kept").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (number, number))
    assert find(store, tmp_path, "a") is not None  # used now
    store.keep("d", "", make_stored())
    assert [find(store, tmp_path, key) is not None for key in "abcd"] == [True, False, True, True]
    TraceStore(tmp_path / "small", max_bytes=size - 1).keep("k", "", make_stored())
    assert not (tmp_path / "small").exists()


def test_writers_at_the_same_time_leave_a_whole_file(tmp_path: Path) -> None:
    """Each write replaces the file by one rename: a reader sees the one trace or the other."""
    store, traces = TraceStore(tmp_path), (make_stored(1), make_stored(9))

    def work(number: int) -> bool:
        store.keep("k", "", traces[number % 2])
        return find(store, tmp_path) in traces

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(40)))
    assert len(list(tmp_path.iterdir())) == 1
