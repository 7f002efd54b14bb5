"""
Runs of pytest on a copy of the sources, each in a process forked from one that has loaded the libraries.

Loading torch, Lightning and polars takes longer than the tests of most mutants. The process that forks never imports
a module of ours, so that every child imports the changed copy.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from mutants.mutant import LIBRARIES, TOP, Mutant

ROOTS: Final = ("core", "providers", "plugin")
_PROFILE: Final = "mutants"
_ARGUMENTS: Final = (
    *("-q", "-p", "no:cacheprovider", "-p", "no:randomly"),
    f"--hypothesis-profile={_PROFILE}",  # after tests/conftest.py has loaded its own
    "--timeout=600",  # ends a hang; a busy machine takes long without one
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # libraries that are pytest plug-ins too are loaded
)
_MEMORY_BYTES: Final = 8 * 2**30
"""Of a child: a mutant that asks for more than any test is stopped before the machine swaps."""
_WALL_FACTOR: Final = 10
"""A child may take so much longer on the clock than on the processor: the machine may be busy."""
_LOOKS: Final = 30
"""At the CPU time of a child within `_STALL_S`: reading /proc takes some milliseconds."""
_STALL_S: Final = 90.0
"""
A child that used no processor for so long waits for something that the mutant took away. Tests wait for their own
processes up to 20 minutes (`HANG_S`), but a machine of any load runs a process that can run at all within seconds.
"""
_STALL_SHARE: Final = 0.01
"""Of a processor: a child that uses less only asks again and again whether its wait is over."""


@dataclass
class Outcome:
    """
    What a run of pytest said.

    Attributes:
        code: its exit status; None where it was stopped: an endless loop, or a crash.
        failed: the tests that failed, by node id.
        seconds: of every test that was run, by node id.
        cpu_s: of the child and what it started.
        output: the end of what it printed.
    """

    code: int | None
    failed: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_s: float = 0.0
    output: str = ""


class _Watcher:
    """A pytest plugin that notes failures and durations, and tells `on_test` which test runs next."""

    def __init__(self, on_test: Callable[[str], None] | None) -> None:
        self.failed: list[str] = []
        self.seconds: dict[str, float] = {}
        self._on_test = on_test

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self._on_test:
            self._on_test(nodeid)

    def pytest_runtest_logreport(self, report: object) -> None:
        node, duration = str(getattr(report, "nodeid", "")), float(getattr(report, "duration", 0.0))
        self.seconds[node] = self.seconds.get(node, 0.0) + duration
        if getattr(report, "failed", False) and node not in self.failed:
            self.failed.append(node)

    def pytest_collectreport(self, report: object) -> None:
        if getattr(report, "failed", False):
            self.failed.append(str(getattr(report, "nodeid", "")))


@dataclass(frozen=True)
class Copy:
    """A copy of the source roots in a temporary folder."""

    folder: Path

    def source(self, file: str) -> str:
        """Return the text of a file as it was copied."""
        return (self.folder / file).read_text(encoding="utf-8")

    @contextmanager
    def with_mutant(self, mutant: Mutant) -> Generator[None]:
        """Break the copy for a while."""
        file, source = self.folder / mutant.file, self.source(mutant.file)
        for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
            compiled.unlink()
        try:
            file.write_text(mutant.apply(source), encoding="utf-8")
            yield
        finally:
            file.write_text(source, encoding="utf-8")

    @property
    def roots(self) -> list[str]:
        """The folders to import from."""
        return [str(self.folder / root) for root in ROOTS]


@contextmanager
def sources_copied() -> Generator[Copy]:
    """Copy the source roots."""
    with tempfile.TemporaryDirectory(prefix="trainfare-mutants-") as name:
        for root in ROOTS:
            shutil.copytree(TOP / root, Path(name) / root, ignore=shutil.ignore_patterns("__pycache__"))
        yield Copy(Path(name))


def load_libraries() -> None:
    """
    Import what the tests import of others.

    Raises:
        RuntimeError: a module of ours was imported with it: the children would test that one.
    """
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from hypothesis import HealthCheck, Phase, settings

    phases = (Phase.explicit, Phase.generate)  # whether an example fails, not the simplest that does
    settings.register_profile(
        _PROFILE,
        database=None,
        deadline=None,
        derandomize=True,
        max_examples=30,
        phases=phases,
        suppress_health_check=[HealthCheck.too_slow],
    )
    gc.freeze()  # a child that collects garbage would copy every page that it shares with this process
    ours = [
        name
        for name in sys.modules
        if name.partition(".")[0] in {"trainfare", "trainfare_core", "trainfare_providers"}
    ]
    if ours:
        raise RuntimeError(f"imported before the first fork: {ours}")


def fork_pytest(
    copy: Copy,
    arguments: Sequence[str],
    *,
    cpu_limit_s: float,
    around: Callable[
        [], contextlib.AbstractContextManager[Callable[[str], None] | None]
    ] = contextlib.nullcontext,
) -> Outcome:
    """
    Run pytest on the copy in a child process.

    Args:
        copy: is imported instead of the sources.
        arguments: of pytest.
        cpu_limit_s: the child is stopped when it has used more.
        around: entered in the child; gives what is called with the name of each test before it runs.
    """
    with tempfile.TemporaryDirectory(prefix="trainfare-mutant-") as name:
        folder = Path(name)
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        child = os.fork()
        if not child:
            _child(copy, list(arguments), folder, cpu_limit_s, around)
        status = wait_for(child, time.monotonic() + cpu_limit_s * _WALL_FACTOR)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # what its tests left behind
        end_processes_in(folder)
        output = (folder / "output").read_text(encoding="utf-8", errors="replace")[-3000:]
        outcome_file = folder / "outcome.json"
        outcome = (
            Outcome(**json.loads(outcome_file.read_text(encoding="utf-8")))
            if outcome_file.is_file()
            else Outcome(None)
        )
    if not os.WIFEXITED(status):
        outcome.code = None
    outcome.cpu_s = used.ru_utime + used.ru_stime - began.ru_utime - began.ru_stime
    outcome.output = output
    return outcome


def wait_for(child: int, until: float, *, stall_s: float = _STALL_S) -> int:
    """
    Return the wait status of a child, which is stopped where it has not ended by then or only waits.

    Args:
        child: leader of its process group.
        until: of `time.monotonic`.
        stall_s: seconds after which it is stopped if it used less than `_STALL_SHARE` of a processor.
    """
    used_s, looked, moved = 0.0, time.monotonic(), time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        now = time.monotonic()
        if now - looked > stall_s / _LOOKS:
            looked, latest_s = now, cpu_s_of(child)
            if latest_s is None or latest_s - used_s > _STALL_SHARE * stall_s:
                used_s, moved = latest_s or 0.0, now
        if now > until or now - moved > stall_s:
            os.killpg(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(0.01)


def end_processes_in(folder: Path) -> None:
    """Kill the processes with this folder in an argument or a variable, which killing the process group can miss."""
    name = os.fsencode(folder)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended since, or is another user's
            if any(name in (entry / file).read_bytes() for file in ("environ", "cmdline")):
                os.kill(int(entry.name), signal.SIGKILL)


def cpu_s_of(process: int) -> float | None:
    """Return the CPU seconds of a process and all that it started; None on systems without /proc."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended since
            fields = file.read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
            number = int(file.parent.name)
            parents[number], ticks[number] = int(fields[1]), sum(map(int, fields[11:15]))
    if process not in ticks:
        return None
    family = {process}
    while more := {number for number, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(ticks[number] for number in family) / os.sysconf("SC_CLK_TCK")


def _child(
    copy: Copy,
    arguments: list[str],
    folder: Path,
    cpu_limit_s: float,
    around: Callable[[], contextlib.AbstractContextManager[Callable[[str], None] | None]],
) -> None:
    """Run pytest and end the process; never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT, 0o600)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_limit_s) + 1, int(cpu_limit_s) + 5))
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
        scratch = folder / "scratch"
        scratch.mkdir()
        tempfile.tempdir = os.environ["TMPDIR"] = str(scratch)
        os.environ["PYTHONPATH"] = os.pathsep.join(copy.roots)
        sys.path[:0] = copy.roots
        os.chdir(TOP)
        import pytest

        with around() as on_test:
            watcher = _Watcher(on_test)
            code = int(
                pytest.main(
                    [*_ARGUMENTS, *arguments],
                    plugins=[watcher],
                )
            )
        outcome = Outcome(code, watcher.failed, watcher.seconds)
        (folder / "outcome.json").write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(min(code, 70))
