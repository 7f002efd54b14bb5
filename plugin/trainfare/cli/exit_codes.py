"""How a command ends: its error on one line, and its exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

from trainfare.cli.interrupt import INTERRUPTED_EXIT
from trainfare.report.escape import terminal_text
from trainfare_core.errors import InputError, InternalError, TrainfareError


def exit_code_of(run: Callable[[], object]) -> int:
    """Run a command, or the part of one that answers, print its error, and return the exit code."""
    try:
        try:
            run()
            code: object = 0
        except SystemExit as stop:
            code = stop.code or 0
        sys.stdout.flush()
    except TrainfareError as error:
        return _print_error(error)
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT
    except BaseException as error:  # noqa: BLE001 - a traceback would end with 1, which is "over budget"
        return _print_error(describe_defect(error))
    return code if isinstance(code, int) else _print_error(InternalError(f"a command ended with {code!r}"))


def describe_defect(error: BaseException) -> TrainfareError:
    """Return what stands for an exception that is no error of ours."""
    from trainfare.job import describe

    if isinstance(error, FileNotFoundError) and not _has_working_folder():
        return InputError(
            "the working folder is gone: the code of the TARGET, or another program, has removed it"
        )
    if os.environ.get("TRAINFARE_DEBUG"):
        traceback.print_exception(error)
    return InternalError(describe(error))


def _has_working_folder() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - as `Path.cwd`
    except FileNotFoundError:
        return False
    return True


def _print_error(error: TrainfareError) -> int:
    """Print an error on one line and return its exit code."""
    text = terminal_text(str(error))
    if isinstance(error, InternalError):
        text = f"trainfare failed: {text}. Please report it; TRAINFARE_DEBUG=1 shows where it happened"
    sys.stderr.write(f"error: {text}\n")
    sys.stderr.flush()
    return error.exit_code
