"""
Run a script as Python would, until its call of `Trainer.fit`, or until some of its steps are measured.

Importing this module loads no torch: a script that is measured may set variables before it imports it.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial, wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from trainfare.job import (
    ALL_CALLS,
    Probe,
    Script,
    describe,
    describe_raised,
    load_job,
    place_in_user_code,
)
from trainfare.job.fit_call import FitCall, Recorder
from trainfare.job.floors import checking_versions
from trainfare.job.loop import do_nothing
from trainfare.job.made_up_data import MadeUpData
from trainfare.job.missing_here import INSTEAD_OF_DATA, MADE_UP
from trainfare.job.on_import import on_import
from trainfare.job.user_code import message_of, raise_error, replace_attribute
from trainfare.loops import list_scripts
from trainfare.script.loop_scripts import LoopScript, ScriptRun, WatchedLoop, load_script, load_scripts
from trainfare.script.notebook import run_notebook
from trainfare.script.processes import Processes, stop_in_child
from trainfare.script.trackers import switch_off_trackers
from trainfare.script.unsuited import trains_by_jax
from trainfare_core.errors import TargetError, TrainfareError

if TYPE_CHECKING:
    from trainfare.job import LiveJob, TrainingJob
    from trainfare.script.fit_calls import Rounds
    from trainfare_core.job_profile import JobProfile

_CALLS: Final = (
    "Trainer.fit of lightning.pytorch or pytorch_lightning, of transformers' Trainer.train "
    "or Keras' Model.fit"
)
_OF_JAX: Final = "of its loops only Keras' Model.fit is priced"
_NOT_WRITABLE: Final = (
    "where the sandbox is a copy of the script's folder, what lies beside that cannot be written: start it from the "
    "folder above, or give --no-sandbox"
)
_OTHER_WAYS: Final = (
    "`with FareMeter.loop(...)` around a loop prices it while it trains (docs/loops.md); or describe the run as a "
    "TrainingJob"
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
    Run a script up to a call of `Trainer.fit`, or some steps into a loop of its own, and answer there.

    Nothing of the script runs afterwards.

    Args:
        script: what to run.
        answer: called inside the call of `fit` or the loop, with a function that sets up the data and returns the job;
            it ends the process, so that no `except` or `finally` of the script runs.
        fit: the number of the call, from 1, and calls before it return at once; or `ALL_CALLS`, and each does.
        optimizer_step: the number of the optimizer step after which the loop of a script that has not come to `fit` is
            traced; None: the first.
        made_up: what stands for the data; None reads them.

    Raises:
        TargetError: the script raised, or ended without that call or step.
    """
    from trainfare.script.fit_calls import find_rounds, join_calls, list_fit_lines
    from trainfare.script.one_process import run_as_one_process
    from trainfare.script.unknown_data import stand_for_missing_data

    jobs: list[LiveJob] = []
    watched: list[WatchedLoop] = []
    pid, end = os.getpid(), answer

    def answer_in_parent(load: Callable[[], LiveJob]) -> NoReturn:
        stop_in_child(pid)
        end(load)

    answer = answer_in_parent

    def fail_in_process(what: str) -> NoReturn:
        msg = f"{script.name} trains in processes of its own: {what} was called in this one, and made no step"
        answer(partial(raise_error, TargetError(f"{msg}; {_OTHER_WAYS}")))

    def load(call: FitCall, rounds: Rounds) -> LiveJob:
        try:
            job = call.load(call, _write_notes(script, recorder, rounds, fit), made_up)
        except TargetError as error:
            raise TargetError(f"{error}{recorder.explain()}") from error
        part = _describe_part(len(recorder.places), rounds)
        return replace(job, live=replace(job.live, part=part, replaced=recorder.explain()))

    def on_fit(call: FitCall) -> None:
        until_training.close()
        rounds, number = find_rounds(), len(recorder.places)
        if fit == number:
            answer(lambda: load(call, rounds))
        if fit != ALL_CALLS:
            return
        try:
            jobs.append(load(call, rounds))
        except TrainfareError as error:  # not left to an `except` of the script
            answer(partial(raise_error, error))
        # A function with the call may be called again after the loop; the code of a module runs once.
        once = (
            call.place.endswith(" in <module>")
            and ", " not in call.place
            and len(list_fit_lines(script)) == 1
        )
        if once and rounds.where and rounds.exact and len(jobs) == rounds.count:
            answer(lambda: join_calls(jobs, recorder.method))

    def describe_error(error: Exception) -> str:
        replaced = recorder.explain()
        own = any(loop.has_begun for loop in watched) or not _names_a_trainer(script)
        before = "a trace runs what stands before the training loop, so it must work here"
        demand = "" if replaced and not own else before
        if any(loop.place or loop.moves for loop in watched):
            demand = "a trace runs steps of the loop here, within --target-memory-gib and --target-seconds; "
            demand += "`trainfare probe` measures some where it trains"
        # torch.save and safetensors raise errors of their own, with the system's word in them.
        if isinstance(error, PermissionError) or "Permission denied" in message_of(error):
            demand = _NOT_WRITABLE
        if os.environ.get("WORLD_SIZE") and "MASTER_ADDR" in message_of(error):
            demand = "a launcher's number of devices is given by --launched, without --pass-env WORLD_SIZE"
        way_out = "" if made_up is not None else INSTEAD_OF_DATA if own else MADE_UP
        return describe_raised(script.name, error, demand, way_out=way_out) + replaced

    path, recorder, loops = _find_script(script), Recorder(on_fit), load_scripts()
    with (
        checking_versions(),
        contextlib.ExitStack() as stack,
        contextlib.ExitStack() as until_training,
        contextlib.nullcontext() if made_up is None else stand_for_missing_data(recorder),
        run_as_one_process(recorder),
    ):
        for loop in loops:
            stack.enter_context(loop.intercept(recorder))
        switch_off_trackers(stack, recorder.skip)
        processes = Processes(None, recorder.launch.note_processes, fail_in_process)
        processes.watch_processes(stack)
        processes.watch_torch(stack)
        run = ScriptRun(
            script.name, optimizer_step or 1, answer, until_training, stack, recorder, made_up=made_up
        )
        watched += _watch(loops, run)
        code = _run(script, path, describe_error)
        if jobs and code in (0, None):
            answer(lambda: join_calls(jobs, recorder.method))
        for watched_loop in watched:
            watched_loop.end_script()
    raise TargetError(_explain_end(script, recorder, fit, code, watched))


def _watch(loops: Iterable[LoopScript], run: ScriptRun) -> list[WatchedLoop]:
    return [watched for loop in loops if (watched := loop.watch(run)) is not None]


def run_callable(target: str, answer: Callable[[Callable[[], TrainingJob]], NoReturn]) -> TrainingJob:
    """
    Return the job of a TARGET that is no script; its callable may return a Trainer and the arguments of its `fit`.

    Args:
        target: the TARGET.
        answer: called inside a call of `fit`, which would train, with a function that raises; see `run_script`.

    Raises:
        TargetError, MissingExtraError: see `trainfare.job.load_job`.
    """
    from trainfare.script.one_process import run_as_one_process

    loops = [loop for loop in load_scripts() if loop.read_returned is not None]

    def from_trainer(trainer: Any, arguments: tuple[Any, ...]) -> TrainingJob:
        calls = (loop.read_returned(trainer, arguments, target) for loop in loops if loop.read_returned)
        call = next(call for call in calls if call is not None)
        return call.load(call, (), None)

    def on_fit(call: FitCall) -> None:
        file = target.rpartition(":")[0]
        frames = traceback.extract_stack()
        is_imported = any(frame.name == "<module>" and not frame.filename.startswith("<") for frame in frames)
        trains = "trains when it is imported" if is_imported else f"trains when {target} is called"
        told = f"{file} {trains}, at {call.place}, and was stopped there"
        script = file if file.endswith(".py") else f"--module {file}"
        error = TargetError(f"{told}: write the TARGET as {script}, and its own run is priced")
        answer(partial(raise_error, error))

    recorder = Recorder(on_fit, only_fit=True)
    with run_as_one_process(recorder), contextlib.ExitStack() as stack:
        for loop in loops:
            stack.enter_context(loop.intercept(recorder))
        return load_job(target, from_trainer)


def probe_script(script: Script, probe: Probe, *, optimizer_step: int = 1) -> NoReturn:
    """
    Run a script until the first steps of its first `fit`, or of a loop of its own, are measured; end its process there.

    Args:
        script: what to run.
        optimizer_step: see `run_script`.
        probe: what to measure; the errors that its `end` is given are ours.

    Raises:
        TargetError: the script raised before it trained, or ended.
    """

    def describe_error(error: BaseException) -> str:
        code_place = place_in_user_code(error.__traceback__)
        return f"{script.name} raised {describe(error)}" + (f" at {code_place}" if code_place else "")

    def end(give: Callable[[], JobProfile | None]) -> NoReturn:
        from trainfare.script.fit_calls import find_rounds

        rounds = find_rounds()

        def give_profile() -> JobProfile | None:
            try:
                profile = give()
            except (TrainfareError, KeyboardInterrupt):
                raise
            except BaseException as error:
                raise TargetError(describe_error(error)) from error
            if profile is None or profile.source.loop == "plain" or not rounds.where or rounds.count == 1:
                return profile  # of a loop of the script's own these are its own rounds
            note = f"the loop at {rounds.where} trains {rounds.count or 'several'} times: this is one of them"
            return profile.model_copy(update={"notes": (*profile.notes, note)})

        probe.end(give_profile)

    @cache
    def watch(home: str) -> LoopScript:
        loop = load_script(home)
        watched.extend(_watch([loop], run))
        return loop

    def intercept(home: str, name: str, method: str | None) -> None:
        import_module("torch")  # Keras may do without: what waits for it comes first
        loop = watch(home)
        if method is not None:
            trainer = sys.modules[name].Trainer
            measured = _measure(getattr(trainer, method), loop, measured_by, until_training)
            stack.enter_context(replace_attribute(trainer, method, measured))

    def refuse_processes(what: str) -> NoReturn:
        error = TargetError(f"{what}: start one for each device with torchrun, to measure them")
        probe.end(partial(raise_error, error))

    path, processes, measured_by = _find_script(script), Processes(refuse_processes), replace(probe, end=end)
    watched: list[WatchedLoop] = []
    with checking_versions(), contextlib.ExitStack() as stack, contextlib.ExitStack() as until_training:
        run = ScriptRun(
            script.name, optimizer_step, end, until_training, stack, Recorder(do_nothing), measured_by
        )
        processes.watch_processes(stack)
        stack.enter_context(on_import("torch", partial(processes.watch_torch, stack)))
        for home, trainers in list_scripts():
            for name in trainers or ("torch",):
                stack.enter_context(on_import(name, partial(intercept, home, name, trainers.get(name))))
        code = _run(script, path, describe_error)
        for loop in watched:
            loop.end_script()
    raise TargetError(_explain_early_end(script, code, "probe", watched))


def _measure(
    original: Callable[..., Any], loop: LoopScript, probe: Probe, until_training: contextlib.ExitStack
) -> Callable[..., Any]:
    """Return the method that trains, with a meter; what other loops call is from then on a part of it."""

    @wraps(original)
    def train(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        until_training.close()
        try:
            if loop.probe and import_module(loop.probe).attach(trainer, probe):
                original(trainer, *args, **kwargs)
                raise TargetError("the Trainer trained no step")  # noqa: TRY301 - the script may catch it and go on
        except BaseException as error:  # noqa: BLE001
            probe.end(partial(raise_error, error))
        return original(trainer, *args, **kwargs)

    return train


def _find_script(script: Script) -> Path:
    """Return the script's file, or its name where it is a module."""
    path = Path(script.name)
    if not script.is_module and not path.is_file():
        raise TargetError(f"{script.name}: no such file")
    if not script.is_module and trains_by_jax(path):
        raise TargetError(f"{script.name} trains by JAX: {_OF_JAX}")
    return path


def _run(script: Script, path: Path, describe_error: Callable[[Exception], str]) -> object:
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
        raise TargetError(describe_error(error)) from error
    return 0


def _explain_end(
    script: Script, recorder: Recorder, fit: int, code: object, watched: Iterable[WatchedLoop]
) -> str:
    """Return why a script that has ended gave no job."""
    places = recorder.places
    made_up = recorder.explain()
    if places and fit != ALL_CALLS:
        calls = ", ".join(f"{number} at {code_place}" for number, code_place in enumerate(places, 1))
        return f"--fit {fit}: {script.name} calls {recorder.method} {len(places)} times ({calls})"
    if places and code not in (0, None):
        return f"--fit all: {script.name} ended with exit code {code}{made_up}"
    return _explain_early_end(script, code, "profile", watched) + made_up


def _explain_early_end(script: Script, code: object, command: str, watched: Iterable[WatchedLoop]) -> str:
    if code not in (0, None):
        ended = (
            f"ended with exit code {code}" if type(code) is int else f"ended by sys.exit({str(code)[:200]!r})"
        )
        msg = f"{script.name} {ended} before its training began"
        if script.arguments or type(code) is not int:
            return f"{msg}: what it printed says why"
        return f"{msg}: give its arguments after --, e.g. trainfare {command} {script.name} -- --epochs 3"
    if moves := sum(loop.moves for loop in watched):
        return (
            f"{script.name} ended after {moves} optimizer steps of its own: give a smaller --optimizer-step"
        )
    seen = "no optimizer of torch has made a step that moves a parameter"
    if _names_a_trainer(script):
        seen += f", and there was no call of {_CALLS}"
    return f"{script.name} ended, and no training was seen: {seen}; {_OTHER_WAYS}"


def _names_a_trainer(script: Script) -> bool:
    """Return whether a script may train by a Trainer: its text names one, or it cannot be read."""
    try:
        text = Path(script.name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # a module
        return True
    return any(word in text for word in ("Trainer", "LightningCLI", ".fit(", "keras"))


def _write_notes(script: Script, recorder: Recorder, rounds: Rounds, fit: int) -> tuple[str, ...]:
    """Return notes on where the script was stopped and what it skipped before."""
    from trainfare.script.fit_calls import list_fit_lines

    number, code_place = len(recorder.places), recorder.places[-1]
    loop = f", in the loop at {rounds.where}" if rounds.where else ""
    notes = [
        f"call {number} of {recorder.method}, at {code_place}{loop}: what the script does after it was not run"
    ]
    lines = list_fit_lines(script)
    if number > 1:
        notes.append(
            f"earlier calls of {recorder.method}, which trained nothing here: {', '.join(recorder.places[:-1])}"
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
