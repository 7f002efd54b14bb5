"""
The user's sign-in to Google Cloud, which `google-auth` finds; it sends the requests for a token itself.

It has no total deadline, so it runs within a time limit, and its errors quote what servers answer, so none is shown.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from trainfare_core.errors import CannotTellError, FetchError, MissingExtraError, TrainfareError
from trainfare_providers.http.addresses import Secret
from trainfare_providers.time_limit import call_within

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
"""The only one that Cloud Quotas takes; the roles of the account, not the scope, say what may be read."""

_MOST_S: Final = 30.0
"""Chosen: two requests of the library, the metadata server of a machine of Google included."""

_NO_SIGN_IN: Final = (
    "gcp: there is no sign-in to Google Cloud (gcloud auth application-default login), "
    "and quotas belong to a project"
)
_NO_PROJECT: Final = "gcp: set GOOGLE_CLOUD_PROJECT to the project whose quotas are read"


@dataclass(frozen=True, slots=True)
class SignIn:
    """A project, and the headers of a request about it, one of which holds a token."""

    project: str
    headers: Mapping[str, Secret] = field(repr=False)


def sign_in(seconds: float) -> SignIn:
    """
    Return the project and headers of the credentials that the environment, `gcloud` or a machine of Google has.

    Raises:
        MissingExtraError: google-auth is not installed.
        CannotTellError: there are no credentials, or no project is named.
        FetchError: the credentials are refused, or no answer came within the seconds.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of Python's version, and of a project that another project's sign-in pays
        try:
            auth = importlib.import_module("google.auth")
            transport = importlib.import_module("google.auth.transport.requests")
        except ImportError as error:
            raise MissingExtraError("google-auth", "gcp") from error
        limit_s = min(seconds, _MOST_S)
        late = FetchError("gcp", f"the sign-in to Google Cloud did not answer within {limit_s:.0f} s")
        try:
            return call_within(max(0.01, limit_s), lambda: _sign_in_with(auth, transport), late=late)
        except TrainfareError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the library or its transport raises
            kind = type(error).__name__
    if kind == "DefaultCredentialsError":  # raised outside the handler: the other error may hold a secret
        raise CannotTellError(_NO_SIGN_IN)
    raise FetchError(
        "gcp", f"the sign-in to Google Cloud failed ({kind}); sign in again, or check the network"
    )


def _sign_in_with(auth: Any, transport: Any) -> SignIn:
    credentials, project = auth.default(scopes=[_SCOPE])
    if not project:
        raise CannotTellError(_NO_PROJECT)
    credentials.refresh(transport.Request())
    headers: dict[str, str] = {}
    credentials.apply(headers)  # the token, and the project that pays where the sign-in names one
    return SignIn(str(project), {name: Secret(value) for name, value in headers.items()})
