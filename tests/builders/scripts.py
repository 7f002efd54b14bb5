"""Runs a script in this process as the process of a TARGET does, up to the answer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from trainfare.job import LiveJob, Script
from trainfare.script.run import run_script
from trainfare_core.errors import TrainfareError


class Answer(BaseException):
    """Ends a script where the process of a TARGET would end."""


def load_script(text: str, *, fit: int = 1, optimizer_step: int | None = None) -> LiveJob:
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

    Path("train.py").write_text(text, encoding="utf-8")
    path, argv = list(sys.path), list(sys.argv)
    try:
        run_script(Script("train.py"), answer, fit=fit, optimizer_step=optimizer_step)
    except Answer:
        if isinstance(answers[0], TrainfareError):
            raise answers[0] from None
        return answers[0]
    finally:
        sys.path[:], sys.argv[:] = path, argv
