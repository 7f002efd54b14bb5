"""Errors of `trainfare_core.decline` as those of trainfare."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from trainfare_core.decline import DeclineError
from trainfare_core.errors import InputError


@contextmanager
def decline_errors_as_input() -> Generator[None, None, None]:
    """
    Re-raise a `DeclineError` as trainfare's own `InputError`.

    Raises:
        InputError: in place of a DeclineError, or of an answer that is beyond the numbers of a computer.
    """
    try:
        yield
    except DeclineError as error:
        raise InputError(str(error)) from error
    except (ArithmeticError, ValueError) as error:  # out of range, or not finite in the answer
        raise InputError(
            "the answer is no finite number: check the costs and dates, which are far larger, smaller or closer than "
            "those of any run"
        ) from error
