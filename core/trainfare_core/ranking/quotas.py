"""What a new account of a cloud may start of a machine (part of stage 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trainfare_core.run_cost_facts import Unknown, default_quota

__all__ = ["QUOTA_NOTE", "quota_notes"]

QUOTA_NOTE: Final = "new account: "
"""How a note on a quota begins."""

_COUNTED: Final = ("on_demand", "spot")
"""Purchase options that the known quotas are about."""


def quota_notes(offer: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Return a note where a new account may start none of an offer's machines; nothing where that is not known.

    Args:
        offer: columns `provider`, `service`, `instance_type`, `accelerator` and `purchase_option`.
    """
    if offer["purchase_option"] not in _COUNTED:
        return ()
    # Google counts by accelerator: H100 for H100-SXM-80GB.
    name = offer["accelerator"].partition("-")[0] if offer["provider"] == "gcp" else offer["instance_type"]
    quota = default_quota(offer["provider"], offer["service"], name, spot=offer["purchase_option"] == "spot")
    if isinstance(quota, Unknown) or quota.value > 0:
        return ()
    doubt = f"; {quota.weak_because}" if quota.weak else ""
    return (
        f'{QUOTA_NOTE}its quota "{quota.name}" is 0, so ask for an increase first. Source: {quota.source}{doubt}',
    )
