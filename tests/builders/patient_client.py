"""An HTTP client whose time limits are out of reach: a busy machine must not look like a slow server."""

from __future__ import annotations

from typing import Any

from builders.processes import HANG_S
from trainfare_providers.http.answer import Limits
from trainfare_providers.http.client import HttpClient

PATIENT = Limits(connect_s=HANG_S, read_s=HANG_S, total_s=HANG_S)


def patient_client(cloud: str, **changes: Any) -> HttpClient:
    """Return a client for tests whose server answers in the end; `changes` are arguments of `HttpClient`."""
    patient = {"limits": PATIENT, "budget_s": HANG_S, "max_failed_s": HANG_S, "max_unanswered_s": HANG_S}
    return HttpClient(cloud, **{**patient, **changes})
