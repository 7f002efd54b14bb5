"""
The ledger of 100,000 runs: milliseconds to add a run, CPU seconds to score it, and MiB of its index.

    python -m benchmarks.speed.ledger_speed [RUNS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import median, quantiles

from trainfare.ledger.store import INDEX, read_runs, write_run
from trainfare_core.documents import Interval
from trainfare_core.ledger.run_record import Compared, RunMachine, RunRecord
from trainfare_core.ledger.run_table import score_runs

_BEGAN = datetime(2025, 1, 1, tzinfo=timezone.utc)


def make_run(number: int, draws: Random, began: datetime | None = None) -> RunRecord:
    """Return a finished run, by default so many minutes after the first."""
    began = began or _BEGAN + timedelta(minutes=number)
    step = Interval(mid=1.0, low_80=0.8, high_80=1.25)
    return RunRecord(
        run_id=f"{number:012x}", state="finished", started_at=began, ended_at=began + timedelta(hours=1),
        project=f"project-{number % 50}", job="Net", machine=RunMachine(accelerator="L40S-48GB"),
        step_s=Compared(predicted=step, measured=draws.lognormvariate(0.0, 0.2)),
    )  # fmt: skip


def measure_ledger(runs: int, folder: Path) -> str:
    """Return the figures of a ledger of some runs as lines of text."""
    draws = Random(51)
    added: list[float] = []
    for number in range(runs):
        record = make_run(number, draws)
        began_s = time.perf_counter()
        write_run(record, folder)
        added.append(time.perf_counter() - began_s)
    marks = [time.process_time()]
    read_runs(folder)
    marks.append(time.process_time())
    write_run(make_run(runs, draws), folder)
    for _ in range(2):
        score_runs(read_runs(folder).table, "project")
        marks.append(time.process_time())
    first, later, again = (end - begin for begin, end in pairwise(marks))
    return (
        f"add a run: {1e3 * median(added):.2f} ms, one in a hundred {1e3 * quantiles(added, n=100)[-1]:.2f} ms\n"
        f"first read of {runs:,} runs: {first:.1f} CPU-s; score by project after one more: {later:.2f} CPU-s, "
        f"again {again:.2f} CPU-s\n"
        f"index: {(folder / INDEX).stat().st_size / 2**20:.1f} MiB\n"
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        sys.stdout.write(measure_ledger(int(sys.argv[1]) if sys.argv[1:] else 100_000, Path(directory)))
