"""
One training in two ways: run with FareMeter to its end, and traced before launch.

Each way is a forked process, which shares what was imported before and leaves nothing behind. Of FareMeter, only the
ranking is left out.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import runpy
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from builders.processes import HANG_S
from trainfare import FareMeter
from trainfare.fake_step import trace_job
from trainfare.job import TrainingJob, script_of
from trainfare.meter.services import MeterServices
from trainfare.script import run_script
from trainfare_core.job_profile import JobProfile


@dataclass(frozen=True)
class BothPaths:
    """The profiles of one training; a path without a profile has the reason."""

    metered: JobProfile | str
    before: JobProfile | str

    @property
    def equal(self) -> bool:
        """Whether both are there, with the same FLOPs, parameters and steps; before launch these may be unknown."""
        metered, before = self.metered, self.before
        if isinstance(metered, str) or isinstance(before, str):
            return False
        steps = metered.plan.optimizer_steps
        same_steps = before.plan.optimizer_steps == steps or before.plan.unknown_because is not None
        return same_steps and _work(metered) == _work(before)

    @property
    def inside(self) -> bool:
        """Whether the metered FLOPs lie inside the spread that the profile before launch states."""
        metered, before = self.metered, self.before
        if isinstance(metered, str) or isinstance(before, str):
            return False
        return metered.parameters == before.parameters and is_inside(before, metered.step_flops)

    def row(self, name: str) -> str:
        """Return the line of a table."""
        word = "equal" if self.equal else "inside" if self.inside else "DIFFERENT"
        return f"{name:26} {word:10} {_show(self.metered)} | before launch {_show(self.before)}"


def is_inside(profile: JobProfile, flops: float) -> bool:
    """Return whether the FLOPs of a mean step lie between the ends that a profile states, or within two deviations."""
    spread = profile.batch.variation
    if spread is None or flops <= 0 or profile.step_flops <= 0:
        return False
    between = spread.smallest_flops <= flops <= spread.largest_flops
    return between or abs(math.log(flops / profile.step_flops)) <= 2 * spread.work_log_sigma


def _work(profile: JobProfile) -> tuple[Any, ...]:
    return profile.step_flops, profile.parameters


def _show(path: JobProfile | str) -> str:
    if isinstance(path, str):
        return path
    note = f" ({path.work_note})" if path.work_note else ""
    return f"{path.step_flops:,} FLOP x {path.plan.optimizer_steps} steps on {path.source.how} tensors{note}"


def of_script(script: Path, folder: Path) -> BothPaths:
    """Run a script, and trace it up to its call of `Trainer.fit`, as `trainfare profile` does."""

    def run() -> None:
        runpy.run_path(str(script), run_name="__main__")

    def trace() -> None:
        def answer(job: Callable[[], TrainingJob]) -> NoReturn:
            Path("before.json").write_text(trace_job(job()).to_json(), encoding="utf-8")
            os._exit(0)

        found = script_of(str(script))
        assert found is not None
        run_script(found, answer)

    return both_paths(run, trace, folder)


def of_model(fit: Callable[[FareMeter], None], job: Callable[[], TrainingJob], folder: Path) -> BothPaths:
    """Run a Trainer with FareMeter, and trace the same run as a TrainingJob."""

    def trace() -> None:
        Path("before.json").write_text(trace_job(job()).to_json(), encoding="utf-8")

    return both_paths(lambda: fit(FareMeter(report_dir=".")), trace, folder)


def both_paths(run: Callable[[], None], trace: Callable[[], None], folder: Path) -> BothPaths:
    """Call both functions, each in a forked process in the folder, and read the profiles that they wrote."""
    return BothPaths(
        _fork_trace(run, folder, "trainfare-profile.json"), _fork_trace(trace, folder, "before.json")
    )


def _fork_trace(function: Callable[[], None], folder: Path, name: str) -> JobProfile | str:
    process = multiprocessing.get_context("fork").Process(target=_quietly, args=(function, folder, name))
    process.start()
    process.join(HANG_S)
    if process.is_alive():
        process.kill()
        process.join()
    found, log = folder / name, folder / f"{name}.log"
    if found.is_file():
        return JobProfile.from_json(found.read_text(encoding="utf-8"), where=name)
    said = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f"no profile: {said[-1][:300] if said else process.exitcode}"


def _quietly(function: Callable[[], None], folder: Path, name: str) -> None:
    os.chdir(folder)
    log = os.open(f"{name}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1)
    loose: Any = FareMeter
    loose.services = MeterServices(recommend=_not_ranked)
    try:
        function()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(0)


def _not_ranked(*_: object) -> NoReturn:
    raise ValueError("the ranking is left out here")
