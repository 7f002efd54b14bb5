"""Run a script as Python would, until its call of `Trainer.fit`."""

from __future__ import annotations

import contextlib
import importlib.util
import runpy
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from trainfare.job import ALL_CALLS, LiveJob, Script, TrainingJob, describe_raised, load_job, place_of_caller
from trainfare.job.made_up_data import MadeUpData
from trainfare.lightning.script.interception import (
    NAMESPACES,
    FitCall,
    Recorder,
    fit_call,
    intercept_trainers,
)
from trainfare.lightning.script.live_fit import live_job
from trainfare.lightning.script.unknown_data import stand_for_missing_data
from trainfare.script.fit_calls import (
    STEPS_BEFORE_FIT,
    Rounds,
    find_rounds,
    join_calls,
    list_fit_lines,
    may_call_fit,
)
from trainfare.script.huggingface import NAMESPACE, intercept_huggingface, load_train_call
from trainfare.script.notebook import run_notebook
from trainfare_core.errors import MissingExtraError, TargetError, TrainfareError

_NAMESPACES: Final = " or ".join(reversed(NAMESPACES))
_ONLY_FIT: Final = (
    "other trainers and loops of your own are not priced before launch; `with FareMeter.loop(...)` around the loop "
    "prices it while it trains (docs/loops.md); or describe the run as a TrainingJob"
)


def run_script(
    script: Script,
    answer: Callable[[Callable[[], LiveJob]], NoReturn],
    *,
    fit: int = 1,
    optimizer_step: int | None = None,
    made_up: MadeUpData | None = None,
) -> NoReturn:
    """
    Run a script up to a call of `Trainer.fit`, and answer there: nothing of the script runs afterwards.

    Args:
        script: what to run.
        answer: called inside the call of `fit`, with a function that sets up the data and returns the job; it ends the
            process, so that no `except` or `finally` of the script runs.
        fit: the number of the call, from 1, and calls before it return at once; or `ALL_CALLS`, and each does.
        optimizer_step: the number of the optimizer step at which a script that has not come to `fit` is stopped; None:
            the first, or the 100th of a script whose code has a call of `fit`.
        made_up: what stands for the data; None reads them.

    Raises:
        TargetError: the script raised, or ended without that call.
        MissingExtraError: Lightning is not installed.
    """
    jobs: list[LiveJob] = []

    def load(call: FitCall, rounds: Rounds) -> LiveJob:
        try:
            notes = _write_notes(script, recorder, rounds, fit)
            of_hugging_face = call.namespace == NAMESPACE
            job = load_train_call(call, notes) if of_hugging_face else live_job(call, notes, made_up)
        except TargetError as error:
            raise TargetError(f"{error}{recorder.explain()}") from error
        part = _describe_part(len(recorder.places), rounds)
        return replace(job, live=replace(job.live, part=part, replaced=recorder.explain()))

    def on_fit(call: FitCall) -> None:
        rounds = find_rounds()
        if fit != ALL_CALLS:
            answer(lambda: load(call, rounds))
        try:
            jobs.append(load(call, rounds))
        except TrainfareError as error:  # not left to an `except` of the script
            answer(partial(_fail, error))
        # A function with the call may be called again after the loop; the code of a module runs once.
        once = (
            call.place.endswith(" in <module>")
            and ", " not in call.place
            and len(list_fit_lines(script)) == 1
        )
        if once and rounds.where and rounds.exact and len(jobs) == rounds.count:
            answer(lambda: join_calls(jobs))

    def on_other_loop(words: str, steps: int) -> None:
        if steps and steps < (optimizer_step or (STEPS_BEFORE_FIT if may_call_fit(path) else 1)):
            return
        passed = f"in its optimizer step {steps} (--optimizer-step lets more of them pass)"
        when = passed if steps > 1 else "before it trained"
        msg = f"{script.name} trains with {words} at {place_of_caller()}, and was stopped there {when}"
        answer(partial(_fail, TargetError(f"{msg}: {_ONLY_FIT}{recorder.explain()}")))

    if not any(importlib.util.find_spec(name) for name in ("pytorch_lightning", "lightning", NAMESPACE)):
        raise MissingExtraError("neither pytorch-lightning nor lightning", "lightning")
    recorder = Recorder(fit, on_fit, on_other_loop)
    path = _find_script(script)
    with (
        contextlib.nullcontext() if made_up is None else stand_for_missing_data(recorder),
        intercept_trainers(recorder),
        intercept_huggingface(recorder),
    ):
        code = _run(script, path, recorder, reads_data=made_up is None)
        if jobs and code in (0, None):
            answer(lambda: join_calls(jobs))
    raise TargetError(_explain_end(script, recorder, fit, code))


def _fail(error: TrainfareError) -> NoReturn:
    raise error


def run_callable(target: str, answer: Callable[[Callable[[], TrainingJob]], NoReturn]) -> TrainingJob:
    """
    Return the job of a TARGET that is no script; its callable may return a Trainer and the arguments of its `fit`.

    Args:
        target: the TARGET.
        answer: called inside a call of `fit`, which would train, with a function that raises; see `run_script`.

    Raises:
        TargetError, MissingExtraError: see `trainfare.job.load_job`.
    """

    def from_trainer(trainer: Any, arguments: tuple[Any, ...]) -> TrainingJob:
        return live_job(fit_call(trainer, arguments, target), ())

    def on_fit(call: FitCall) -> None:
        file = target.rpartition(":")[0]
        frames = traceback.extract_stack()
        is_imported = any(frame.name == "<module>" and not frame.filename.startswith("<") for frame in frames)
        trains = "trains when it is imported" if is_imported else f"trains when {target} is called"
        told = f"{file} {trains}, at {call.place}, and was stopped there"
        script = file if file.endswith(".py") else f"--module {file}"
        answer(
            partial(_fail, TargetError(f"{told}: write the TARGET as {script}, and its own run is priced"))
        )

    with intercept_trainers(Recorder(1, on_fit, only_fit=True)):
        return load_job(target, from_trainer)


def _find_script(script: Script) -> Path:
    """Return the script's file, or its name where it is a module."""
    path = Path(script.name)
    if not script.is_module and not path.is_file():
        raise TargetError(f"{script.name}: no such file")
    return path


def _run(script: Script, path: Path, recorder: Recorder, *, reads_data: bool) -> object:
    """Run a script to its end and return its exit code."""
    sys.argv = [script.name, *script.arguments]
    # As `python train.py` and `python -m package.train` put it first.
    sys.path.insert(0, str(Path.cwd() if script.is_module else path.resolve().parent))
    try:
        if script.is_module:
            runpy.run_module(script.name, run_name="__main__", alter_sys=True)
        elif path.suffix == ".ipynb":
            run_notebook(path)
        else:
            runpy.run_path(script.name, run_name="__main__")
    except SystemExit as error:
        return error.code or 0
    except TrainfareError:
        raise
    except Exception as error:
        replaced = recorder.explain()
        demand = "" if replaced else "a trace runs what stands before Trainer.fit, so it must work here"
        raise TargetError(
            describe_raised(script.name, error, demand, of_script=reads_data) + replaced
        ) from error
    return 0


def _explain_end(script: Script, recorder: Recorder, fit: int, code: object) -> str:
    """Return why a script that has ended gave no job."""
    places = recorder.places
    made_up = recorder.explain()
    if places and fit != ALL_CALLS:
        calls = ", ".join(f"{number} at {code_place}" for number, code_place in enumerate(places, 1))
        return f"--fit {fit}: {script.name} calls Trainer.fit {len(places)} times ({calls})"
    if code not in (0, None):
        if places:
            return f"--fit all: {script.name} ended with exit code {code}{made_up}"
        msg = f"{script.name} ended with exit code {code} before it called Trainer.fit"
        return (
            f"{msg}: give its arguments after --, e.g. trainfare profile {script.name} -- --epochs 3{made_up}"
        )
    return f"{script.name} ended without a call of Trainer.fit of {_NAMESPACES}: {_ONLY_FIT}{made_up}"


def _write_notes(script: Script, recorder: Recorder, rounds: Rounds, fit: int) -> tuple[str, ...]:
    """Return notes on where the script was stopped and what it skipped before."""
    number, code_place = len(recorder.places), recorder.places[-1]
    loop = f", in the loop at {rounds.where}" if rounds.where else ""
    notes = [
        f"call {number} of {recorder.method}, at {code_place}{loop}: what the script does after it was not run"
    ]
    lines = list_fit_lines(script)
    if number > 1:
        notes.append(
            f"earlier calls of Trainer.fit, which trained nothing here: {', '.join(recorder.places[:-1])}"
        )
    if len(lines) > 1:
        listed = ", ".join(map(str, lines))
        notes.append(
            f"{script.name} calls .fit in lines {listed}: --fit 2 takes the second call, --fit all each"
        )
    if fit == ALL_CALLS:
        notes = []
    made_up = [
        skipped
        for skipped in dict.fromkeys(recorder.skipped)
        if not skipped.startswith(f"{recorder.method} ")
    ]
    return (*notes, *made_up)


def _describe_part(number: int, rounds: Rounds) -> str:
    """Return what part of the script's calls of `fit` one call is; "" where the source shows no loop."""
    if not rounds.where or rounds.count == 1:
        return ""
    if rounds.count is None:
        return (
            f"call {number} in a loop: the script costs this once for each round, and --fit all counts them"
        )
    up_to = "" if rounds.exact else "up to "
    what = f"call {number} of {up_to}{rounds.count}: the script costs {up_to or 'about '}{rounds.count} times this"
    return f"{what}, and --fit all counts them"
