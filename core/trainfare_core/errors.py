"""
The exceptions of trainfare.

    TrainfareError
    ├── InputError                  exit 2: an input that cannot be used
    │   ├── ProfileError            an invalid job profile, or one of a newer schema
    │   ├── UnknownNameError        an unknown name (accelerator, machine, provider, region)
    │   ├── PriceLockError          a price lock that is damaged, edited or of a newer format
    │   ├── TargetError             a TARGET that cannot be loaded or does not return a TrainingJob
    │   ├── MissingExtraError       an optional dependency that is not installed
    │   └── OutputError             an answer that cannot be written
    ├── CannotTellError             exit 3: the input is valid, the answer is unknown
    │   ├── TraceError              a training step that cannot be traced without hardware
    │   ├── NoOffersError           no price matches the filters
    │   ├── NothingFitsError        no machine can hold the job, or none meets the constraints
    │   └── PricesUnavailableError  no price book could be read, or it is too old
    │       └── FetchError          a price source did not answer, or not with prices
    │           └── FetchCancelledError  fetching was cancelled
    └── InternalError               exit 4: a defect of trainfare itself

A message states the problem, its place, and what to do about it.
"""

from __future__ import annotations

from trainfare_core.installation import write_install_line


class TrainfareError(Exception):
    """Base of all exceptions of trainfare; `exit_code` is the exit status of the command line."""

    exit_code: int = 2

    def __reduce__(self) -> tuple[object, ...]:
        # Some classes make their message of other arguments, with which pickle would call them.
        return restore_error, (type(self), self.args), self.__dict__


def restore_error(error_class: type[TrainfareError], args: tuple[object, ...]) -> TrainfareError:
    """Return an error whose message is made already, without calling its class."""
    error = error_class.__new__(error_class)
    error.args = args
    return error


class InputError(TrainfareError):
    """An input that cannot be used."""


class ProfileError(InputError):
    """A job profile file that is not valid, or was written by a newer trainfare."""


class UnknownNameError(InputError):
    """An unknown name; the message suggests similar ones."""


class PriceLockError(InputError):
    """A price lock that is damaged, edited or empty."""


class TargetError(InputError):
    """A TARGET such as `train.py:job` that cannot be loaded, or returns something else than a TrainingJob."""


class MissingExtraError(InputError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed: install it with: {write_install_line(extra)}")


class OutputError(InputError):
    """An answer that cannot be written: standard output is closed, or its disk is full."""


class CannotTellError(TrainfareError):
    """The input is valid, but the answer is unknown; the message says why."""

    exit_code = 3


class TraceError(CannotTellError):
    """A training step that cannot be traced without hardware; the message names the operation."""


class NoOffersError(CannotTellError):
    """No price matches the filters."""


class NothingFitsError(CannotTellError):
    """No machine can hold the job, or none meets the constraints; the message says by how much."""


class PricesUnavailableError(CannotTellError):
    """No price book could be read, or its prices are too old to use."""


class FetchError(PricesUnavailableError):
    """
    A price source did not answer in time, or not with prices; the message holds no secret.

    Args:
        cloud: whose prices were asked for.
        message: what, where, what to do.
        retryable: whether the same request may succeed later.
        status: HTTP status, where there was one.
        retry_after_s: seconds that the server asked to wait, where it did.
    """

    def __init__(
        self,
        cloud: str,
        message: str,
        *,
        retryable: bool = False,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{cloud}: {message}")
        self.cloud = cloud
        self.retryable = retryable
        self.status = status
        self.retry_after_s = retry_after_s


class FetchCancelledError(FetchError):
    """Fetching was asked to stop before it was done."""


class InternalError(TrainfareError):
    """A defect of trainfare itself, which says nothing about the input; the message names the exception."""

    exit_code = 4
