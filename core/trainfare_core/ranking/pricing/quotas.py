"""What an account may rent: the quotas that are stated, and those of a new account (part of stage 6)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trainfare_core.clouds import CLOUDS
from trainfare_core.recommendation import Note, QuotaLimit
from trainfare_core.run_cost_facts import Unknown, default_quota

_COUNTED: Final = ("on_demand", "spot")
"""Purchase options that the known quotas are about."""

_COLUMNS: Final = {"vcpus": "vcpus", "accelerators": "accelerator_count", "machines": None}
"""What `QuotaLimit.count` names, and the column that says how much of it one machine takes; None: one."""

_LETTERS: Final = re.compile(r"(?:standard_)?((?:ml\.)?[a-z]+)(?=[0-9])")
"""
The family by which AWS and Azure count: P of p5.48xlarge, ND of Standard_ND96isr_H100_v5. SageMaker counts its own
machines: ml.p of ml.p5.48xlarge.
"""


def machines_allowed(offers: pl.DataFrame, quotas: Sequence[QuotaLimit]) -> NDArray[np.float64]:
    """
    Return how many machines of each offer the quotas allow, shape (offers,); a part of one is a fraction.

    What is rented counts, used or not. A machine whose vCPUs are not known keeps no quota of vCPUs; inf where no quota
    is about it.

    Args:
        offers: rows of a price book.
        quotas: each of them must be kept.
    """
    allowed, about = np.full(len(offers), np.inf), _marker(offers)
    for quota in quotas:
        rows = np.flatnonzero(about(quota))
        counted, limit = quota.count()
        column = _COLUMNS[counted]
        needs = np.ones(len(rows)) if column is None else offers[column].to_numpy()[rows]
        known = np.isfinite(needs.astype(np.float64)) & (needs > 0)
        allowed[rows] = np.minimum(allowed[rows], np.where(known, limit / np.where(known, needs, 1.0), 0.0))
    return allowed


def is_covered(offer: Mapping[str, Any], quotas: Sequence[QuotaLimit]) -> bool:
    """Return whether a quota is about an offer, a row of a price book by column."""
    return any(_is_about(offer, quota) for quota in quotas)


def shortage(offer: Mapping[str, Any], machines: int, quotas: Sequence[QuotaLimit]) -> str:
    """
    Return the quota that so many machines of an offer break by most, with its figures; "" where they keep all.

    Args:
        offer: a row of a price book by column.
        machines: at a time.
        quotas: as stated.
    """
    tight = [(_machines(offer, quota), quota) for quota in quotas if _is_about(offer, quota)]
    broken = [shortage_row for shortage_row in tight if shortage_row[0] < machines]
    if not broken:
        return ""
    quota = min(broken, key=lambda row: row[0])[1]
    counted, limit = quota.count()
    column = _COLUMNS[counted]
    said = "1 machine" if machines == 1 else f"{machines} machines"
    if column is not None:
        need, what = offer[column], "vCPUs" if counted == "vcpus" else counted
        needs = f"an unknown number of {what}" if need is None else f"{need * machines:g} {what}"
        said = f"{said} take{'s' if machines == 1 else ''} {needs}"
    where = quota.region or "every region"
    return (
        f"{offer['provider']}:{offer['instance_type']}@{offer['region']} ({offer['purchase_option']}): {said}, "
        f"your quota of {' and '.join(quota.family)} in {where} is {limit:g}"
    )


def _machines(offer: Mapping[str, Any], quota: QuotaLimit) -> float:
    """Return how many machines of an offer a quota about it allows, as `machines_allowed` counts."""
    counted, limit = quota.count()
    column = _COLUMNS[counted]
    need = 1.0 if column is None else offer[column]
    return limit / need if need is not None and math.isfinite(need) and need > 0 else 0.0


def _is_about(offer: Mapping[str, Any], quota: QuotaLimit) -> bool:
    """Return whether a quota is about an offer."""
    families = [name.casefold() for name in quota.family]
    return (
        offer["provider"] == quota.provider
        and quota.service in (None, offer["service"])
        and quota.region in (None, offer["region"])
        and (quota.purchase is None or offer["purchase_option"] in quota.purchase)
        and (
            _is_wanted(offer["instance_type"], families, ".")
            or _is_wanted(offer["accelerator"], families, "-")
        )
    )


def _marker(offers: pl.DataFrame) -> Callable[[QuotaLimit], NDArray[np.bool_]]:
    """Return what marks the offers that a quota is about; an account has hundreds, of few families and regions."""

    @cache
    def mark_column(column: str, *names: str) -> NDArray[np.bool_]:
        return offers[column].cast(pl.String).is_in(names).to_numpy()

    @cache
    def of_family(*names: str) -> NDArray[np.bool_]:
        return machines_of_family(offers, *names)

    def about(quota: QuotaLimit) -> NDArray[np.bool_]:
        marks = mark_column("provider", quota.provider)
        for column, name in (("service", quota.service), ("region", quota.region)):
            if name is not None:
                marks = marks & mark_column(column, name)
        if quota.purchase is not None:
            marks = marks & mark_column("purchase_option", *quota.purchase)
        return marks & of_family(*quota.family)

    return about


def machines_of_family(offers: pl.DataFrame, *names: str) -> NDArray[np.bool_]:
    """Mark the offers that a name of `QuotaLimit.family` is about, shape (offers,)."""
    families = [name.casefold() for name in names]
    return _mark_names(offers["instance_type"], families, ".") | _mark_names(
        offers["accelerator"], families, "-"
    )


def _mark_names(names: pl.Series, families: Sequence[str], end: str) -> NDArray[np.bool_]:
    """Mark the names that are wanted."""
    names = names.cast(pl.String)
    matches = [name for name in names.unique().drop_nulls().to_list() if _is_wanted(name, families, end)]
    return names.is_in(matches).fill_null(value=False).to_numpy()


def _is_wanted(name: str, families: Sequence[str], end: str) -> bool:
    """Return whether a name is wanted, or its beginning up to `end`, or its first letters."""
    folded = name.casefold()
    letters = _LETTERS.match(folded) if end == "." else None
    return any(
        folded in (family, f"standard_{family}") or folded.startswith(family + end) for family in families
    ) or (letters is not None and letters[1] in families)


def quota_notes(offer: Mapping[str, Any]) -> tuple[Note, ...]:
    """
    Return a note where a new account may start none of an offer's machines; nothing where that is not known.

    Args:
        offer: columns `provider`, `service`, `instance_type`, `accelerator` and `purchase_option`.
    """
    if offer["purchase_option"] not in _COUNTED:
        return ()
    cloud = CLOUDS.get(offer["provider"])
    by_accelerator = cloud is not None and cloud.quota_by_accelerator  # H100 for H100-SXM-80GB
    name = offer["accelerator"].partition("-")[0] if by_accelerator else offer["instance_type"]
    quota = default_quota(offer["provider"], offer["service"], name, spot=offer["purchase_option"] == "spot")
    if isinstance(quota, Unknown) or quota.value > 0:
        return ()
    doubt = f"; {quota.weak_because}" if quota.weak else ""
    return (Note(kind="quota", name=quota.name, source=f"{quota.source}{doubt}"),)
