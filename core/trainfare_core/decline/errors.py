"""Errors of this package; independent of trainfare's, which the command line makes of them."""

from __future__ import annotations


class DeclineError(ValueError):
    """An invalid number, date or combination; the message says which and why."""


class TooLittleDataError(DeclineError):
    """A fit or backtest needs more points than the series has."""
