"""
Every error that trainfare raises on purpose.

    TrainfareError
    ├── InputError                  exit 2: what was given cannot be used as it is
    │   ├── ProfileError            a job profile that is not one, or of a newer schema
    │   ├── UnknownNameError        a name that is in no catalogue (accelerator, machine, provider, region)
    │   ├── TargetError             a TARGET that cannot be loaded or does not return a TrainingJob
    │   └── MissingExtraError       an optional dependency that is not installed
    └── CannotTellError             exit 3: the question is fair, the answer is unknown
        ├── TraceError              a training step that cannot be traced without hardware
        ├── NoOffersError           no price matches the filters
        ├── NothingFitsError        no machine can hold the job, or none meets the constraints
        └── PricesUnavailableError  no price book could be read, or it is too old to decide with

A message says what is wrong, where, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "CannotTellError",
    "InputError",
    "MissingExtraError",
    "NoOffersError",
    "NothingFitsError",
    "PricesUnavailableError",
    "ProfileError",
    "TargetError",
    "TraceError",
    "TrainfareError",
    "UnknownNameError",
]


class TrainfareError(Exception):
    """Base of every error of ours; `exit_code` is what the command line ends with."""

    exit_code: int = 2


class InputError(TrainfareError):
    """What was given cannot be used as it is."""


class ProfileError(InputError):
    """A job profile file that is not valid, or was written by a newer trainfare."""


class UnknownNameError(InputError):
    """A name that no catalogue knows; the message suggests near ones and never picks one."""


class TargetError(InputError):
    """A TARGET such as `train.py:job` that cannot be loaded, or returns something else than a TrainingJob."""


class MissingExtraError(InputError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: install it with: pip install 'trainfare[{extra}]'")


class CannotTellError(TrainfareError):
    """The question is fair and the answer is unknown; the message says why."""

    exit_code = 3


class TraceError(CannotTellError):
    """A training step that cannot be traced without hardware; the message names the operation."""


class NoOffersError(CannotTellError):
    """No price matches the filters."""


class NothingFitsError(CannotTellError):
    """No machine can hold the job, or none meets the constraints; the message says by how much."""


class PricesUnavailableError(CannotTellError):
    """No price book could be read, or it is older than what may be decided with."""
