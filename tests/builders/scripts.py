"""Runs a script in this process as the process of a TARGET or `trainfare probe` does, up to the answer."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from trainfare.job import LiveJob, Probe, Script
from trainfare.script.run import probe_script, run_script
from trainfare_core.errors import TrainfareError
from trainfare_core.job_profile import JobProfile


class Answer(BaseException):
    """Ends a script where the process of a TARGET would end."""


def _forget_accelerate() -> None:
    """Forget the devices that Accelerate found for another script: a process of its own begins without them."""
    state = sys.modules.get("accelerate.state")
    if state is not None:
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()


def load_script(
    text: str, *, fit: int = 1, optimizer_step: int | None = None, arguments: tuple[str, ...] = ()
) -> LiveJob:
    """
    Return the job of a script, which is written to `train.py` in the working folder.

    Raises:
        TargetError: of the script, or of its answer.
    """
    answers: list[LiveJob | TrainfareError] = []

    def answer(load: Callable[[], LiveJob]) -> NoReturn:
        try:
            answers.append(load())
        except TrainfareError as error:
            answers.append(error)
        raise Answer

    _forget_accelerate()
    Path("train.py").write_text(text, encoding="utf-8")
    path, argv = list(sys.path), list(sys.argv)
    try:
        run_script(Script("train.py", arguments=arguments), answer, fit=fit, optimizer_step=optimizer_step)
    except Answer:
        if isinstance(answers[0], TrainfareError):
            raise answers[0] from None
        return answers[0]
    finally:
        sys.path[:], sys.argv[:] = path, argv


def measure_script(
    text: str, *, steps: int = 3, save: bool = False, optimizer_step: int = 1
) -> JobProfile | None:
    """Return the profile of a script which runs in this process, or raise its error."""
    answers: list[JobProfile | TrainfareError | None] = []

    def answer(give: Callable[[], JobProfile | None]) -> NoReturn:
        if not answers:  # else the end of the script by the first answer comes by
            try:
                answers.append(give())
            except TrainfareError as error:
                answers.append(error)
        raise Answer

    Path("train.py").write_text(text, encoding="utf-8")
    linecache.clearcache()  # of another test's train.py
    path, argv, threads = list(sys.path), list(sys.argv), os.environ.get("OMP_NUM_THREADS")
    try:
        probe_script(Script("train.py"), Probe(steps, save, answer), optimizer_step=optimizer_step)
    except Answer:
        if isinstance(answers[0], TrainfareError):
            raise answers[0] from None
        return answers[0]
    finally:
        sys.path[:], sys.argv[:] = path, argv
        os.environ.pop("OMP_NUM_THREADS", None) if threads is None else None
