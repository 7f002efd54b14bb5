"""
Repeat tests in random order beside processes that keep the processors busy, and name each failure with its seed.

    python tests/repeat_under_load.py                     # ten times what --list shows
    python tests/repeat_under_load.py --list              # what starts processes or threads, or has a clock
    python tests/repeat_under_load.py --all --repeats 1   # the whole suite
    python tests/repeat_under_load.py tests/contract      # these

`--record` notes the outcome in tests/evidence/tests.json and writes docs/reliability.md anew. The exit status
is 1 where a test failed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from reliability import PAGE, TOP, Repeat, file_outcomes, page, record

REASONS: Final = {
    "starts processes": r"\bsubprocess\b|\bmultiprocessing\b|import [^\n]*\b(?:bitwise|ranks|environments)\b",
    "starts threads": r"\bthreading\b|ThreadPool",
    "has a server": r"faults\.server|faulty_client|put_through|aws_server|ThreadedMotoServer|\bsocket\b",
    "has to do with time": r"\bclock\b|_limit_s=|HANG_S",
}
"""Why a test may depend on how busy the machine is, and what its source then holds."""


def select_tests() -> dict[Path, list[str]]:
    """Return the test files that a busy machine might make fail, and the reasons."""
    reasons_by_file = {}
    for path in sorted((TOP / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if reasons := [reason for reason, pattern in REASONS.items() if re.search(pattern, text)]:
            reasons_by_file[path] = reasons
    return reasons_by_file


def tell(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def spin() -> None:
    """Use one processor until the process is ended."""
    while True:
        pass


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep the processors busy with so many processes."""
    workers = [multiprocessing.Process(target=spin, daemon=True) for _ in range(processes)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def repeat(seed: int, tests: Sequence[str], processes: int, results: Path) -> tuple[Repeat, int]:
    """Run the tests once, in the order of a seed; return the outcome and pytest's exit code."""
    began, loads = time.monotonic(), [os.getloadavg()[0]]
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={results}",
        f"--randomly-seed={seed}", f"--numprocesses={processes}", "--dist=worksteal", *tests,
    ]  # fmt: skip
    with results.with_suffix(".log").open("w", encoding="utf-8") as log:
        running = subprocess.Popen(command, cwd=TOP, stdout=log, stderr=subprocess.STDOUT)
        try:
            while running.poll() is None:
                time.sleep(5)
                loads.append(os.getloadavg()[0])
        finally:
            running.kill()
    outcomes = file_outcomes(results.read_text(encoding="utf-8")) if results.is_file() else {}
    result = Repeat(
        seed=seed,
        passed=sum(outcome.passed for outcome in outcomes.values()),
        skipped=sum(outcome.skipped for outcome in outcomes.values()),
        failed=tuple(name for outcome in outcomes.values() for name in outcome.failed),
        minutes=round((time.monotonic() - began) / 60, 1),
        load_min=round(min(loads), 1),
        load_max=round(max(loads), 1),
    )
    return result, running.returncode


def main() -> int:
    """Repeat the tests that the arguments name; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tests", nargs="*", help="files, folders or node ids; none is the selection")
    parser.add_argument("--all", action="store_true", help="the whole suite")
    parser.add_argument("--list", action="store_true", help="show the selection, and run nothing")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--busy", type=int, default=8, help="processes that keep the processors busy (8)")
    parser.add_argument("--processes", type=int, default=2, help="of pytest (2)")
    parser.add_argument("--seed", type=int, help="of the first repeat; each has one more than the last")
    parser.add_argument("--record", action="store_true", help="note the outcome in tests/evidence/tests.json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends what it has started
    chosen = select_tests()
    if options.list:
        for path, reasons in chosen.items():
            tell(f"{path.relative_to(TOP)}: {', '.join(reasons)}")
        return 0
    tests = options.tests or (["tests"] if options.all else [str(path.relative_to(TOP)) for path in chosen])
    names = ", ".join(name.removeprefix("tests/") for name in options.tests)
    what = names or ("the whole suite" if options.all else f"{len(chosen)} files by --list")
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    worst = 0
    with busy(options.busy), tempfile.TemporaryDirectory() as scratch:
        for seed in range(first, first + options.repeats):
            results = Path(scratch) / f"{seed}.xml"
            result, code = repeat(seed, tests, options.processes, results)
            worst = max(worst, code)
            tell(
                f"seed {seed}: {result.passed} passed, {len(result.failed)} failed, {result.skipped} skipped in "
                f"{result.minutes} minutes, load {result.load_min} to {result.load_max}, exit code {code}",
            )
            for name in result.failed:
                tell(f"  {name}: pytest -p randomly --randomly-seed={seed} '{name}'")
            if code and not result.failed:
                tell(results.with_suffix(".log").read_text(encoding="utf-8")[-2000:])
            if options.record and results.is_file():
                whole = not any("::" in name for name in options.tests)  # else the files were not run whole
                outcomes = file_outcomes(results.read_text(encoding="utf-8")) if whole else {}
                record(outcomes, result, what=what, busy=options.busy)
                PAGE.write_text(page(), encoding="utf-8")  # a test compares them
    return int(worst != 0)


if __name__ == "__main__":
    raise SystemExit(main())
