"""
The user's sign-in to Azure, which `azure-identity` finds, and a time limit for the libraries of Azure, which have none.

Their logs and errors quote what servers answer, so neither is shown.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from trainfare_core.errors import FetchError, MissingExtraError, TrainfareError
from trainfare_providers.http.addresses import Secret
from trainfare_providers.time_limit import call_within

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

NO_SIGN_IN: Final = "could not be asked: no sign-in was found, or it was refused"

_SCOPE: Final = "https://management.azure.com/.default"

Result = TypeVar("Result")


def find_credential() -> TokenCredential:
    """
    Return the credential that the environment, a managed identity or a tool such as `az` gives.

    Raises:
        MissingExtraError: azure-identity is not installed.
    """
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise MissingExtraError("azure-identity", "azure") from error
    # Outside Azure the address of a managed identity does not answer, and waiting for it takes long.
    managed = any(os.environ.get(name) for name in ("IDENTITY_ENDPOINT", "MSI_ENDPOINT"))
    return DefaultAzureCredential(exclude_managed_identity_credential=not managed)


def manager_token(seconds: float) -> Secret:
    """
    Return a token for Azure Resource Manager.

    Raises:
        MissingExtraError: azure-identity is not installed.
        FetchError: no sign-in, or no answer within the seconds.
    """
    credential = find_credential()
    silence_logs()

    def ask() -> Secret | None:
        from azure.core.exceptions import ClientAuthenticationError

        try:
            return Secret(credential.get_token(_SCOPE).token)
        except ClientAuthenticationError:
            return None

    token = within(seconds, ask)
    if token is None:  # raised outside the handler: the other error may hold a secret
        raise build_failure(NO_SIGN_IN)
    return token


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """
    Return what a call gives, within seconds; a call that hangs is abandoned in its thread.

    Raises:
        FetchError: it did not end in time, or failed with an error of a library; its text is not repeated.
    """
    late = FetchError("azure", f"Azure Resource Manager did not answer within {seconds:.0f} s")
    try:
        return call_within(max(0.01, seconds), call, late=late)
    except TrainfareError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a library of Azure raises
        kind = type(error).__name__
    raise build_failure(
        f"could not be asked ({kind})"
    )  # outside the handler: the other error may hold a secret


def build_failure(
    what: str, status: int | None = None, *, retryable: bool = False, retry_after_s: float | None = None
) -> FetchError:
    """Return the error for a call of Azure Resource Manager that failed, with what to check."""
    words = f"Azure Resource Manager {what}; check the sign-in (az login), and"
    return FetchError(
        "azure",
        f"{words} the variables and the role in docs/permissions.md",
        retryable=retryable,
        status=status,
        retry_after_s=retry_after_s,
    )


def silence_logs() -> None:
    """Silence the logs of Azure's libraries, which quote the server's answers."""
    for name in ("azure", "azure.ai.ml"):  # the second sets a level and a handler of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)
