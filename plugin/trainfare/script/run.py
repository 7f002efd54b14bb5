"""Run a script as Python would, until its call of `Trainer.fit`."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from trainfare.job import LiveJob, Script, TrainingJob, describe_raised, load_job
from trainfare.job.made_up_data import MadeUpData
from trainfare.lightning.script.interception import FitCall, Recorder, fit_call, intercept_trainers
from trainfare.lightning.script.live_fit import live_job
from trainfare.lightning.script.unknown_data import stand_for_missing_data
from trainfare.script.notebook import run_notebook
from trainfare_core.errors import MissingExtraError, TargetError, TrainfareError


def run_script(
    script: Script,
    answer: Callable[[Callable[[], LiveJob]], NoReturn],
    *,
    fit: int = 1,
    made_up: MadeUpData | None = None,
) -> NoReturn:
    """
    Run a script up to a call of `Trainer.fit`, and answer there: nothing of the script runs afterwards.

    Args:
        script: what to run.
        answer: called inside the call of `fit`, with a function that sets up the data and returns the job; it ends the
            process, so that no `except` or `finally` of the script runs.
        fit: the number of the call, from 1; calls before it return at once.
        made_up: what stands for the data; None reads them.

    Raises:
        TargetError: the script raised, or ended without that call.
        MissingExtraError: Lightning is not installed.
    """

    def on_fit(call: FitCall) -> None:
        answer(lambda: live_job(call, _write_notes(script, recorder), made_up))

    if not any(importlib.util.find_spec(name) for name in ("pytorch_lightning", "lightning")):
        raise MissingExtraError("neither pytorch-lightning nor lightning", "lightning")
    recorder = Recorder(fit, on_fit)
    path = _find_script(script)
    with (
        contextlib.nullcontext() if made_up is None else stand_for_missing_data(recorder),
        intercept_trainers(recorder),
    ):
        code = _run(script, path, reads_data=made_up is None)
    raise TargetError(_explain_end(script, recorder, fit, code))


def run_callable(target: str) -> TrainingJob:
    """
    Return the job of a TARGET that is no script; its callable may return a Trainer and the arguments of its `fit`.

    Raises:
        TargetError, MissingExtraError: see `trainfare.job.load_job`.
    """

    def from_trainer(trainer: Any, arguments: tuple[Any, ...]) -> TrainingJob:
        return live_job(fit_call(trainer, arguments, target), ())

    with intercept_trainers(None):
        return load_job(target, from_trainer)


def _find_script(script: Script) -> Path:
    """Return the script's file, or its name where it is a module."""
    path = Path(script.name)
    if not script.is_module and not path.is_file():
        raise TargetError(f"{script.name}: no such file")
    return path


def _run(script: Script, path: Path, *, reads_data: bool) -> object:
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
        raise TargetError(
            describe_raised(script.name, error, "it must come as far as Trainer.fit", of_script=reads_data)
        ) from error
    return 0


def _explain_end(script: Script, recorder: Recorder, fit: int, code: object) -> str:
    """Return why a script that has ended gave no job."""
    places = recorder.places
    if places:
        calls = ", ".join(f"{number} at {code_place}" for number, code_place in enumerate(places, 1))
        return f"--fit {fit}: {script.name} calls Trainer.fit {len(places)} times ({calls})"
    if code not in (0, None):
        msg = f"{script.name} ended with exit code {code} before it called Trainer.fit"
        return f"{msg}: give its arguments after --, e.g. trainfare profile {script.name} -- --epochs 3"
    msg = f"{script.name} ended without a call of Trainer.fit of lightning.pytorch or pytorch_lightning"
    return f"{msg}: other trainers, and Fabric, are not known; describe the run as a TrainingJob instead"


def _write_notes(script: Script, recorder: Recorder) -> tuple[str, ...]:
    """Return notes on where the script was stopped and what it skipped before."""
    number, code_place = len(recorder.places), recorder.places[-1]
    notes = [f"call {number} of Trainer.fit, at {code_place}: what the script does after it was not run"]
    lines = _lines_with_fit(script)
    if number > 1:
        notes.append(
            f"earlier calls of Trainer.fit, which trained nothing here: {', '.join(recorder.places[:-1])}"
        )
    if len(lines) > 1:
        listed = ", ".join(map(str, lines))
        notes.append(f"{script.name} calls .fit in lines {listed}: --fit 2 takes the second call, and so on")
    notes += [f"{skipped} did nothing here" for skipped in dict.fromkeys(recorder.skipped)]
    return tuple(notes)


def _lines_with_fit(script: Script) -> list[int]:
    """Return the lines of a file in which a method `fit` is called."""
    if script.is_module or not script.name.endswith(".py"):
        return []
    tree = ast.parse(Path(script.name).read_bytes())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return sorted(
        {call.lineno for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "fit"}
    )
