"""
What the modules of this package share: its errors, independent of trainfare's, which the command line makes of them,
and parts of several answers, whose numbers are finite and may be negative.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from trainfare_core.documents import Record


class DeclineError(ValueError):
    """An invalid number, date or combination; the message says which and why."""


class TooLittleDataError(DeclineError):
    """A fit or backtest needs more points than the series has."""


Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class Band(Record):
    """A central interval, USD."""

    low: Finite
    high: Finite


class QuantileLine(Record):
    """A quantity at the 5, 50 and 95 % quantiles of the decline."""

    at_5: Finite
    at_50: Finite
    at_95: Finite

    @classmethod
    def of(cls, values: tuple[float, ...]) -> QuantileLine:
        """Take the values at 5, 50 and 95 %; they may fall in that order."""
        at_5, at_50, at_95 = values
        return cls(at_5=at_5, at_50=at_50, at_95=at_95)
