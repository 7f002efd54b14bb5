"""
Ask for prices in a process of its own, before a training.

The threads of polars do not survive a fork: a data worker that was forked after this process had used polars, and that
uses it too, would wait for ever.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from trainfare_core.documents import Record
from trainfare_core.errors import PricesUnavailableError, TrainfareError

_BOOT: Final = "import sys; sys.path[:] = sys.argv[1:]; from trainfare.prices.apart import main; main()"
"""The process imports from where this one does."""


class PriceQuestion(Record):
    """
    What to look up: the price of a machine, where one is named, or else whether the rest can be ranked with.

    Attributes:
        machine: as in `aws:p4d.24xlarge@us-east-1`.
        providers, regions, purchase: names; None is all, or on demand.
        quota, lock, own_prices: names of files.
    """

    machine: str | None = None
    providers: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None
    purchase: tuple[str, ...] | None = None
    quota: str | None = None
    lock: str | None = None
    own_prices: str | None = None


class _Reply(Record):
    usd_per_hour: float | None = None
    problem: str | None = None


def ask_apart(question: PriceQuestion, limit_s: float, *, python: str = sys.executable) -> float | None:
    """
    Return the price of an hour of the machine, USD; None where none is named and nothing is wrong with the rest.

    Args:
        question: what is asked.
        limit_s: seconds that the answer may take.
        python: interpreter of the process.

    Raises:
        PricesUnavailableError: what is wrong, or there was no answer in time; the process is then ended.
    """
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, without a shell
            [python, "-c", _BOOT, *sys.path],
            input=question.model_dump_json().encode(),
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PricesUnavailableError(
            f"no answer within {limit_s:g} s: try again later, or see `trainfare prices`"
        ) from None
    except OSError as error:
        raise PricesUnavailableError(f"no process could be started to read the prices: {error}") from error
    try:
        reply = _Reply.model_validate_json(done.stdout)
    except ValidationError:
        raise PricesUnavailableError(
            f"the process that reads the prices ended with exit code {done.returncode}"
        ) from None
    if reply.problem is not None:
        raise PricesUnavailableError(reply.problem)
    return reply.usd_per_hour


def main() -> None:
    """Read a question from standard input, and write its reply to standard output."""
    question = PriceQuestion.model_validate_json(sys.stdin.buffer.read())
    with contextlib.redirect_stdout(sys.stderr):  # what a price source prints is no answer
        try:
            reply = _Reply(usd_per_hour=_answer(question))
        except TrainfareError as error:
            reply = _Reply(problem=str(error))
    sys.stdout.write(reply.model_dump_json())


def _answer(question: PriceQuestion) -> float | None:
    from trainfare.prices.constraints import load_requested_prices, read_constraints
    from trainfare.prices.sources import PriceChoice, load_prices
    from trainfare_core.limits.constraints import Constraints
    from trainfare_core.limits.limit_fields import take_limits

    lock, own_prices = (None if name is None else Path(name) for name in (question.lock, question.own_prices))
    choice = PriceChoice(lock=lock, own_prices=own_prices, allow_stale=True)
    if question.machine is not None:
        return float(load_prices(choice=choice).book.find(question.machine).usd_per_hour)
    load_requested_prices(read_constraints(take_limits(Constraints, question)), choice)
    return None
