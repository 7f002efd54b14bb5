"""Traces kept on disk and used again: by a command, by its own interface, and on a disk that is not as it should be."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from builders.cli import CliResult, run_cli
from builders.target_files import JOB, TWO_LAYERS
from trainfare.methods.step_change import StepChange
from trainfare.user_process import ProcessLimits, TracedTarget, TraceStore, trace_store
from trainfare.user_process.messages import JobFacts
from trainfare.user_process.trace_store import LIFE, StoredTrace, TraceKey, key_of
from trainfare_core.errors import TargetError
from trainfare_core.job_profile import JobProfile

SCRIPT = 'import sys\nprint("traced now", file=sys.stderr)\n' + TWO_LAYERS + JOB
PROFILE = Path(__file__).parents[3] / "docs" / "examples" / "llama-7b.json"
NOW = datetime(2026, 11, 30, 5, 10, tzinfo=timezone.utc)
FACTS = JobFacts(precision="32-true", train_samples=None, tokens_per_sample=None)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "project"
    (path / "settings").mkdir(parents=True)
    (path / "t.py").write_text(SCRIPT, encoding="utf-8")
    (path / "settings" / "sizes.yaml").write_text("width: 4", encoding="utf-8")
    monkeypatch.chdir(path)
    monkeypatch.setenv("TRAINFARE_TRACE_CACHE", str(tmp_path / "traces"))
    return path


def trainfare(*arguments: str) -> CliResult:
    return run_cli(*arguments, environment={"PYTHONPATH": os.pathsep.join(sys.path)}, check=True)


def test_a_kept_trace_is_told_and_gives_no_verdict(project: Path) -> None:
    """A second command traces nothing, says so, and minds no new file; `check` and `--no-cache` trace."""
    first = trainfare("profile", "t.py:job", "-o", "job.json")
    assert "traced now" in first.stderr
    assert "kept trace" not in first.stderr
    (project / "notes.txt").touch()
    second = trainfare("profile", "t.py:job", "-o", "again.json")
    assert "traced now" not in second.stderr
    assert "UTC; --no-cache traces afresh\n" in second.stderr
    assert second.stderr.startswith("note: kept trace of t.py:job of 20")
    assert (project / "again.json").read_bytes() == (project / "job.json").read_bytes()
    (project / "trainfare.toml").write_text('[jobs.net]\ntarget = "t.py:job"\nmax_usd = 1000\n')
    check = ("check", "t.py:job", "--max-usd", "1000")
    for arguments in (("profile", "t.py:job", "--no-cache"), ("profile", "-o", "jobs"), check):
        traced = trainfare(*arguments)
        assert "traced now" in traced.stderr, arguments
        assert "kept trace" not in traced.stderr


def test_each_change_of_the_step_is_a_trace_of_its_own(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Facts and traces of an earlier process are used without one; a step that was not traced starts one.

    What is waited for is shown while it is; a kept trace is named, and nothing is waited for.
    """
    store, target, limits = TraceStore(tmp_path / "kept"), "t.py:job", ProcessLimits()
    probe = StepChange("linear_probe", "32-true", head="head")
    told: list[str] = []

    @contextmanager
    def wait(text: str) -> Iterator[None]:
        told.append(text)
        yield
        told.append("done")

    with TracedTarget(target, limits, store=store, say=told.append, wait=wait) as traced:
        facts, plain, changed = traced.job, traced.profile(), traced.profile(probe)
    assert plain != changed
    assert "traced now" in capsys.readouterr().err
    traces = ("loading t.py:job", "tracing t.py:job", "tracing t.py:job with linear_probe in 32-true")
    assert told == [text for trace in traces for text in (trace, "done")]
    told.clear()
    with TracedTarget(target, limits, store=store, say=told.append, wait=wait) as traced:
        assert (traced.job, traced.profile(probe), traced.profile()) == (facts, changed, plain)
    assert capsys.readouterr().err == ""
    assert told[0].startswith("kept trace of t.py:job of 20")
    assert told[1:] == ["kept trace of t.py:job with linear_probe in 32-true"]
    with TracedTarget(target, limits, store=store) as traced:
        assert traced.profile(StepChange("full_finetune", "bf16-mixed")) != plain
    assert "traced now" in capsys.readouterr().err
    with (
        TracedTarget("t.py:other", limits, store=store) as traced,
        pytest.raises(TargetError, match="has no 'other'"),
    ):
        traced.profile()


def test_a_folder_of_very_many_files_keeps_nothing_and_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparing them would take as long as the trace."""
    monkeypatch.setattr(trace_store, "_MOST_FILES", 1)
    said: list[str] = []
    store = TraceStore(project.parent / "kept")
    with TracedTarget("t.py:job", ProcessLimits(), store=store, say=said.append) as traced:
        traced.profile()
    assert said == ["this trace is not kept: the folder of t.py:job has too many files to compare"]
    assert not (project.parent / "kept").exists()


# ---- what a trace is found by


def found(change: Callable[[], object], target: str = "t.py -- --config=../far.cfg") -> bool:
    """Return whether a trace is found after a change."""
    Path("../far.cfg").write_text("a")
    store = TraceStore(Path("../kept"))
    keep(store, key(target))
    change()
    return store.find(key(target), "") is not None


def key(target: str, **variables: str) -> TraceKey:
    made = key_of(target, ("1",), variables)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("change", "is_found"),
    [
        (lambda: None, True),
        (lambda: Path("new.py").touch(), True),
        (lambda: Path("data.csv").touch(), True),
        (lambda: Path("t.py").write_text("x = 1"), False),
        (lambda: Path("settings/sizes.yaml").write_text("width: 5"), False),
        (lambda: Path("settings/sizes.yaml").unlink(), False),
        (lambda: Path("../far.cfg").write_text("b"), False),
        (lambda: sys.path.append("other"), False),
    ],
)
@pytest.mark.usefixtures("project")
def test_what_is_compared(
    change: Callable[[], object], is_found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code and configuration of the folder, and files among the arguments; a file that is new drops no trace."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert found(change) is is_found


@pytest.mark.usefixtures("project")
def test_targets_arguments_and_variables_have_traces_of_their_own() -> None:
    """A variable may be read by the job; those that a shell counts up are left out."""
    keys = [
        key("t.py"),
        key("t.py -- 1"),
        key("t.py:job"),
        key("-m t"),
        key("t.py", MODE="a"),
        key("t.py", MODE="b"),
    ]
    assert len({made.text for made in keys}) == len(keys)
    assert key("t.py", SHLVL="1") == key("t.py", SHLVL="2")


# ---- the disk


def keep(store: TraceStore, trace_key: TraceKey, size: int = 4) -> StoredTrace:
    profile = JobProfile.from_json(PROFILE.read_bytes()).model_copy(update={"notes": ("x" * 400,) * size})
    body = profile.to_json().encode()
    store.keep(trace_key, "", FACTS, body)
    return StoredTrace(FACTS, body, NOW)


KEYS = {name: TraceKey(name, {}) for name in "kabcd"}


def open_store(folder: Path, **options: int) -> TraceStore:
    return TraceStore(folder, now=lambda: NOW, **options)


def test_damaged_and_old_files_are_absent(tmp_path: Path) -> None:
    """A file that is cut, changed, of another format, a day old or a link gives no trace, and is replaced."""
    store = open_store(tmp_path)
    trace = keep(store, KEYS["k"])
    (file,) = tmp_path.iterdir()
    assert store.find(KEYS["k"], "") == trace
    assert store.find(KEYS["k"], "other") is None
    whole = file.read_bytes()
    assert TraceStore(tmp_path, now=lambda: NOW + LIFE - timedelta(seconds=1)).find(KEYS["k"], "") == trace
    for later in (LIFE, -timedelta(seconds=1)):
        assert TraceStore(tmp_path, now=lambda later=later: NOW + later).find(KEYS["k"], "") is None  # type: ignore[misc]
        assert not file.exists()
        keep(store, KEYS["k"])
    for damaged in (
        whole[:-1],
        whole.replace(b'"optimizer_steps"', b'"optimizer_stepz"'),
        b"",
        b"{}\n",
        whole.replace(b'"format":2', b'"format":1', 1),
    ):
        file.write_bytes(damaged)
        assert store.find(KEYS["k"], "") is None
        assert not file.exists()
        keep(store, KEYS["k"])
        assert store.find(KEYS["k"], "") == trace
    moved = tmp_path / "moved"
    file.rename(moved)
    file.symlink_to(moved)
    assert store.find(KEYS["k"], "") is None


def test_a_disk_that_refuses_is_no_error(tmp_path: Path) -> None:
    """A folder that cannot be made keeps nothing."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    store = open_store(tmp_path / "file" / "traces")
    keep(store, KEYS["k"])
    assert store.find(KEYS["k"], "") is None


def test_the_oldest_are_deleted(tmp_path: Path) -> None:
    """All files together stay below the limit; a trace that is larger is not kept."""
    keep(open_store(tmp_path / "sample"), KEYS["k"])
    size = next((tmp_path / "sample").iterdir()).stat().st_size
    store = open_store(tmp_path / "kept", max_bytes=3 * size + 100)
    for number, name in enumerate("abcd"):
        keep(store, KEYS[name])
        newest = max((tmp_path / "kept").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (number, number))
    assert [store.find(KEYS[name], "") is not None for name in "abcd"] == [False, True, True, True]
    keep(open_store(tmp_path / "small", max_bytes=size - 1), KEYS["k"])
    assert not (tmp_path / "small").exists()


def test_writers_at_the_same_time_leave_a_whole_file(tmp_path: Path) -> None:
    """Each write replaces the file by one rename: a reader sees the one trace or the other."""
    store = open_store(tmp_path)
    traces = [keep(store, KEYS["k"], 1), keep(store, KEYS["k"], 9)]

    def work(number: int) -> bool:
        keep(store, KEYS["k"], (1, 9)[number % 2])
        return store.find(KEYS["k"], "") in traces

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(40)))
    assert len(list(tmp_path.iterdir())) == 1
