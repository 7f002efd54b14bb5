"""What this library raises; its own, so that the folder can be copied into another project."""

from __future__ import annotations

__all__ = ["DeclineError", "TooLittleDataError"]


class DeclineError(ValueError):
    """A number, date or combination that has no meaning here; the message says which and why."""


class TooLittleDataError(DeclineError):
    """A fit or hindcast that would need more points than the series has."""
