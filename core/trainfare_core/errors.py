"""
Every error that trainfare raises on purpose.

    TrainfareError
    ├── InputError                  exit 2: what was given cannot be used as it is
    │   ├── ProfileError            a job profile that is not one, or of a newer schema
    │   ├── UnknownNameError        a name that is in no catalogue (accelerator, machine, provider, region)
    │   ├── PriceLockError          a price lock that is damaged, edited or of a newer form
    │   ├── TargetError             a TARGET that cannot be loaded or does not return a TrainingJob
    │   └── MissingExtraError       an optional dependency that is not installed
    └── CannotTellError             exit 3: the question is fair, the answer is unknown
        ├── TraceError              a training step that cannot be traced without hardware
        ├── NoOffersError           no price matches the filters
        ├── NothingFitsError        no machine can hold the job, or none meets the constraints
        └── PricesUnavailableError  no price book could be read, or it is too old to decide with
            └── FetchError          a price source did not answer, or not with what was asked for
                └── FetchCancelledError  somebody asked for it to stop

A message says what is wrong, where, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "CannotTellError",
    "FetchCancelledError",
    "FetchError",
    "InputError",
    "MissingExtraError",
    "NoOffersError",
    "NothingFitsError",
    "PriceLockError",
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


class PriceLockError(InputError):
    """A price lock that is damaged, was edited, or has nothing in it."""


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


class FetchError(PricesUnavailableError):
    """
    A price source did not answer in time, or not with what was asked for; no secret stands in the message.

    Args:
        cloud: whose prices were asked for.
        message: what, where, what to do.
        retryable: whether the same question may be answered later; False for a mistake that stays one.
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
