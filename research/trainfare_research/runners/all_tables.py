"""
Score every table of measurements, and write docs/accuracy.md and the tables behind it: `make accuracy`.

    python -m trainfare_research.runners.all_tables --cache DIR [--data DIR] [--results DIR] [--residuals R.csv]
        [--note TEXT]

Two processes share the work: one scores the steps of the fit that ships, the other those of fits that leave rows out
(several devices of unseen chips, MLPerf's benchmarks), and each takes of the rest what the other has not begun. Where
the cache lacks traces, the second first traces the steps from the last row to the first, until it meets the other, and
at its end those of memory. A table that DIR lacks is skipped. --results keeps what the runners wrote: NAME.json,
NAME.csv, and what they print in NAME.log. --residuals are held-out errors of one device, of
`trainfare_research.runners.fit_calibration`.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from trainfare_research.data import TABLES
from trainfare_research.pages import accuracy
from trainfare_research.runners import (
    decline_hindcast,
    kernels,
    memory,
    pick_cheapest,
    step_time,
    strategy,
    time_to_train,
)
from trainfare_research.truth_table import MEMORY_TABLES, STEP_TABLES, SUBMISSION_TABLES, has_table

Main = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class _Runner:
    """
    A runner and its tables.

    Attributes:
        name: of the files that it writes; of a second table, with "_2".
        main: its command line.
        folder: of the tables, in the folder of all data.
        tables: releases, the first one first; one process scores them, so that they share traces and fits.
        rows: whether it writes rows with their predictions.
        traced: whether it needs the traces.
        options: further ones.
    """

    name: str
    main: Main
    folder: str
    tables: tuple[str, ...]
    rows: bool = False
    traced: bool = False
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Places:
    """Folders of measurements, of traces, and of what runners write; options of runners that need traces."""

    data: Path
    cache: Path
    results: Path
    traced: tuple[str, ...]


_STEPS = _Runner("step_time", step_time.main, "calibration", STEP_TABLES, rows=True, traced=True)
_LEFT_OUT = (
    _Runner(
        "step_time_apart", step_time.main, "calibration", STEP_TABLES, rows=True, traced=True,
        options=("--several", "--leave-out", "device", "--data", "{data}/calibration"),
    ),
    _Runner(
        "time_to_train", time_to_train.main, "calibration", SUBMISSION_TABLES, rows=True, traced=True,
        options=("--leave-out", "benchmark", "--data", "{data}/calibration"),
    ),
)  # fmt: skip
_REST = (
    _Runner(
        "memory", memory.main, "strategy", MEMORY_TABLES, rows=True, traced=True,
        options=("--leave-one-source-out",),
    ),
    _Runner("kernels", kernels.main, "calibration", ("kernels.csv.gz",)),
    _Runner("strategy", strategy.main, "strategy", ("transfer_results.csv",)),
    _Runner("decline_hindcast", decline_hindcast.main, "cost_decline", ("technology_curves.csv",)),
)  # fmt: skip
"""The longest first."""


def _list_options(runner: _Runner, places: _Places) -> list[str]:
    """Return the command line of a runner; empty where none of its tables is there."""
    options: list[str] = []
    for i, table in enumerate(runner.tables, start=1):
        path = places.data / runner.folder / table
        if has_table(path):
            written = places.results / (runner.name if i == 1 else f"{runner.name}_{i}")
            options += ["--truth", str(path), "--json", f"{written}.json"]
            options += ["--rows", f"{written}.csv"] if runner.rows else []
    if not options:
        return []
    traced = ["--cache", str(places.cache), *places.traced] if runner.traced else []
    return [*options, *traced, *(option.format(data=places.data) for option in runner.options)]


def _run(name: str, main: Main, options: Sequence[str], results: Path) -> None:
    """Run a command line with its output in a file, which is printed where it fails."""
    print(f"{name} ...", flush=True)
    log = results / f"{name}.log"
    try:
        with log.open("w", encoding="utf-8") as stream, contextlib.redirect_stdout(stream):
            main(options)
    except BaseException:
        print(log.read_text(encoding="utf-8"), flush=True)
        raise


def _score(runner: _Runner, places: _Places) -> None:
    """Run a runner; it is skipped where none of its tables is there."""
    options = _list_options(runner, places)
    if options:
        _run(runner.name, runner.main, options, places.results)
    else:
        print(f"{runner.name}: skipped, none of {', '.join(runner.tables)} in {places.data / runner.folder}")


def _score_left_out(places: _Places, begun: Synchronized[int]) -> None:
    """Trace what is missing from the last step to the first, then score fits that leave rows out, and of the rest."""
    files = _count_files(places.cache)
    _trace_backwards(step_time.main, "calibration", STEP_TABLES, places)
    first_run = _count_files(places.cache) > files
    for runner in _LEFT_OUT:
        _score(runner, places)
    _score_rest(places, begun)
    if first_run:
        # The other process is tracing what memory's rows ran, or has done so.
        _trace_backwards(memory.main, "strategy", MEMORY_TABLES, places)


def _count_files(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir()) if folder.exists() else 0


def _trace_backwards(main: Main, folder: str, tables: Sequence[str], places: _Places) -> None:
    tables_found = [path for name in tables if has_table(path := places.data / folder / name)]
    if tables_found and "--traced-only" not in places.traced:
        of_tables = [option for path in tables_found for option in ("--truth", str(path))]
        main([*of_tables, "--cache", str(places.cache), "--trace-backwards"])


def _score_rest(places: _Places, begun: Synchronized[int]) -> None:
    """Score what no process has begun: one runner of `_REST` after another."""
    while True:
        with begun.get_lock():
            i, begun.value = begun.value, begun.value + 1
        if i >= len(_REST):
            return
        _score(_REST[i], places)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=TABLES, help="folder of all tables of measurements; else our own"
    )
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--results", type=Path, help="keep what the runners write in this folder")
    parser.add_argument("--residuals", type=Path, help="file of `fit_calibration.py --residuals`")
    parser.add_argument("--note", default="", help="what the page must say about this run")
    parser.add_argument("--traced-only", action="store_true", help="trace nothing that the cache lacks")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        results = arguments.results or Path(temporary)
        results.mkdir(parents=True, exist_ok=True)
        traced = ("--traced-only",) if arguments.traced_only else ()
        _score_all(_Places(arguments.data, arguments.cache, results, traced), arguments.residuals)
        accuracy.main(["--results", str(results), "--note", arguments.note])
    print("make accuracy: wrote docs/accuracy.md")


def _score_all(places: _Places, residuals: Path | None) -> None:
    # Started anew: a copy of a process with the threads of torch may stand still.
    context = multiprocessing.get_context("spawn")
    begun: Synchronized[int] = context.Value("i", 0)
    left_out = context.Process(target=_score_left_out, args=(places, begun), daemon=True)
    left_out.start()
    _score(_STEPS, places)
    _score_rest(places, begun)
    left_out.join()
    if left_out.exitcode:
        sys.exit("make accuracy: a score of fits that leave rows out failed, see above")
    held_out = ["--residuals", str(residuals)] if residuals else []
    rows = places.results / "step_time.csv"
    if rows.exists():
        options = ["--rows", str(rows), "--json", str(places.results / "pick_cheapest.json"), *held_out]
        _run("pick_cheapest", pick_cheapest.main, options, places.results)
    if residuals:
        shutil.copy(residuals, places.results / "residuals.csv")


if __name__ == "__main__":
    # The other process ends with this one, as it does after any exception.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    main()
