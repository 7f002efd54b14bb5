"""
Scripts of packages that the product was not developed with: plain, with FareMeter, with a counter, and before launch.

How to run it again (some 30 minutes on two idle cores; the packages are in the dependency group `strange`):

    python -m pip install --group strange
    cd tests && python -m wild.run_strange --output FOLDER [NAME ...]

Of each script in tests/wild/strange, `trainfare profile` runs first, as a command in a folder of its own, whose files are
listed before and after. Then the script runs plainly in the same folder, and, in empty folders, with FareMeter and
with a counter of FLOPs round every training batch. These three are forks of one process with one thread. Losses, logged
values, weights, optimizer state and random states are hashed and calls of hooks are counted. FOLDER gets `table.md` and
`table.json`. With `--fork` the trace is made in a fork as well, which takes a third of the time and leaves out what the command
does round it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import re
import runpy
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import torch

from trainfare.cli.profile import summary_of
from trainfare.fake_step import trace_job
from trainfare.job import script_of
from trainfare.script import run_script
from trainfare_core.errors import TrainfareError
from wild.batch_counter import BatchCounter
from wild.run_recorder import Recorder, watch_trainers
from wild.strange_table import compare_work, list_differences, write_table

SCRIPTS = Path(__file__).parent / "strange"
CONTROLS = 6
"""Plain runs more, with other memory held, where a run with FareMeter differs: MKL and oneDNN round by the address of a tensor,
so what differs between these as well is not FareMeter's doing. Chosen: each took seconds, and four of them differed."""
SCRIPT_LIMIT_S = 900
"""Chosen: ten times what the slowest script takes here, so that only one that hangs reaches it."""


def run_arm(arm: str, script: Path, folder: Path, out: Path) -> dict[str, Any]:
    """Run the script in a forked process in a folder, and return what was recorded."""
    folder.mkdir(exist_ok=True)
    join_fork(functools.partial(_run_here, arm, script, out), folder, out / f"{arm}.log")
    answer = out / f"{arm}.json"
    if answer.is_file():
        return json.loads(answer.read_text(encoding="utf-8"))
    return {"error": "the process ended early", "hashes": {}, "calls": {}, "fits": [], "blind": []}


def _run_here(arm: str, script: Path, out: Path) -> None:
    recorder = Recorder(BatchCounter() if arm == "counter" else None)
    watch_trainers(recorder, lambda: [_make_meter(out)] if arm == "meter" else [])
    sys.argv = [str(script)]
    held = (
        [bytearray(977 * number) for number in range(1, 1 + 8 * int(arm.removeprefix("plain") or 0))]
        if "plain" in arm
        else []
    )
    error = None
    try:
        runpy.run_path(str(script), run_name="__main__")
    except BaseException as raised:
        traceback.print_exc()
        error = f"{type(raised).__name__}: {raised}"
    del held
    (out / f"{arm}.json").write_text(json.dumps({**recorder.report(), "error": error}), encoding="utf-8")


def _make_meter(out: Path) -> Any:
    from trainfare import FareMeter
    from trainfare.meter.services import MeterServices

    def leave_out_ranking(*_: object) -> Any:
        raise ValueError("the ranking is left out here")

    loose: Any = FareMeter
    loose.services = MeterServices(recommend=leave_out_ranking)
    return FareMeter(report_dir=str(out))


def list_files(folders: Iterable[Path]) -> set[str]:
    """Return the files and folders under some folders, without Python's caches."""
    return {
        str(path.relative_to(folder)) + ("/" if path.is_dir() else "")
        for folder in folders
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


def profile_before(script: Path, folder: Path, out: Path, *, fork: bool) -> dict[str, Any]:
    """Run `trainfare profile` in a folder and return its exit code, what it said and what it left there."""
    temporary = out / "temporary"
    temporary.mkdir()
    shutil.copy(script, folder / script.name)
    before = list_files((folder, temporary))
    code, said = (_profile_in_fork if fork else _profile_by_command)(script, folder, out)
    return {"exit": code, "said": said, "left": sorted(list_files((folder, temporary)) - before)}


def _profile_in_fork(script: Path, folder: Path, out: Path) -> tuple[int, str]:
    log = out / "before.log"

    def answer(job: Callable[[], Any]) -> NoReturn:
        profile = trace_job(job())
        (out / "before.json").write_text(profile.to_json(), encoding="utf-8")
        sys.stderr.write(summary_of(profile))
        sys.stderr.flush()
        os._exit(0)

    def trace() -> None:
        found = script_of(script.name)
        assert found is not None
        try:
            run_script(found, answer)
        except TrainfareError as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
            os._exit(3)

    code = join_fork(trace, folder, log)
    return code, log.read_text(encoding="utf-8", errors="replace")


def join_fork(function: Callable[[], None], folder: Path, log: Path) -> int:
    """Run a function in a forked process in a folder, and return the process's exit code."""
    process = multiprocessing.get_context("fork").Process(target=_run_quietly, args=(function, folder, log))
    process.start()
    process.join(SCRIPT_LIMIT_S)
    if process.is_alive():
        process.kill()
    process.join()
    return process.exitcode or 0


def _run_quietly(function: Callable[[], None], folder: Path, log: Path) -> None:
    """Run a function in a folder with its output in a file, and end the process."""
    os.chdir(folder)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = sys.stderr = os.fdopen(descriptor, "w", buffering=1)
    code = 0
    try:
        function()
    except BaseException:
        traceback.print_exc()
        code = 4
    sys.stdout.flush()
    os._exit(code)


def _profile_by_command(script: Path, folder: Path, out: Path) -> tuple[int, str]:
    command = [
        sys.executable,
        "-m",
        "trainfare",
        "profile",
        script.name,
        "-o",
        str(out / "before.json"),
        "--no-cache",
    ]
    environment = {**os.environ, "TMPDIR": str(out / "temporary"), "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}
    environment.pop("PYTHONPATH", None)
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stderr


def measure_script(script: Path, out: Path, *, fork: bool) -> dict[str, Any]:
    """Run all four ways of one script and return its row."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    text = script.read_text(encoding="utf-8")
    names = dict.fromkeys(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
    absent = [name for name in names if find_spec(name) is None]
    if absent:
        return {"name": script.stem, "absent": absent}
    work = out / "work"
    work.mkdir()
    torch.set_num_threads(1)
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    before = profile_before(script, work, out, fork=fork)
    plain = run_arm("plain", script, work, out)
    broken = plain["error"] if plain["error"] is not None else None
    if broken is not None:
        plain = run_arm("plain", script, out / "clean", out)
    meter = run_arm("meter", script, out / "meter", out)
    counter = run_arm("counter", script, out / "counter", out)
    differences = list_differences(plain, meter)
    varies: set[str] = set()
    if set(differences) & set(plain["hashes"]):
        again = [
            run_arm(f"plain{number}", script, out / f"plain{number}", out)
            for number in range(1, CONTROLS + 1)
        ]
        varies = {
            name for run in again for name, digest in run["hashes"].items() if digest != plain["hashes"][name]
        }
    row = {
        "name": script.stem,
        "plain_error": plain["error"],
        "broken_after_profile": broken if plain["error"] is None else None,
    }
    row |= {
        "differs": [difference for difference in differences if difference not in varies],
        "varies_without": sorted(varies),
        "before": before,
        "counter_error": counter["error"],
        "blind": counter["blind"],
    }
    return row | compare_work(meter, counter, out)


def main() -> None:
    """Measure each script in a process of its own, and write the table after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="names of scripts; none: all of them")
    parser.add_argument("--output", type=Path, required=True, help="folder for the table and the runs")
    parser.add_argument("--fork", action="store_true", help="make the trace in a fork, not by the command")
    options = parser.parse_args()
    output = options.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    for script in sorted(SCRIPTS.glob("*.py")):
        if options.names and script.stem not in options.names:
            continue

        def measure(script: Path = script) -> None:
            row = measure_script(script, output / script.stem, fork=options.fork)
            (output / f"{script.stem}.json").write_text(json.dumps(row, indent=1), encoding="utf-8")

        (output / f"{script.stem}.json").unlink(missing_ok=True)
        join_fork(measure, output, output / f"{script.stem}.log")
        print(write_table(output, script.stem), flush=True)


if __name__ == "__main__":
    main()
