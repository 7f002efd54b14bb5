"""EC2 quotas: the vCPUs that an account may run at once, by family, separately for on-demand and spot."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from trainfare_providers.answer_values import amount_at, text_at

__all__ = ["Quota", "quota_note", "read_quotas"]

# Quotas are looked up by name: codes differ by family and new families bring new ones.
_NAMES: Final[tuple[tuple[re.Pattern[str], Literal["on_demand", "spot"]], ...]] = (
    (re.compile(r"Running On-Demand (.{1,60}) instances", re.ASCII), "on_demand"),
    (re.compile(r"All (.{1,60}) Spot Instance Requests", re.ASCII), "spot"),
)
_ACCELERATED: Final = re.compile(r"\b(P[0-9]*|G[0-9]*|VT|Trn[0-9]*|Inf[0-9]*|DL[0-9]*)\b", re.ASCII)


@dataclass(frozen=True, slots=True)
class Quota:
    """
    The quota of one family in one region.

    Attributes:
        family: as AWS names it: "P", "G and VT", "P4, P3 and P2".
        vcpus: of all machines of the family together; a p5.48xlarge takes 192.
        code: of the quota, to ask for more with.
    """

    region: str
    family: str
    purchase_option: Literal["on_demand", "spot"]
    vcpus: float
    code: str


def read_quotas(quotas: Iterable[object], *, region: str) -> tuple[Quota, ...]:
    """Read the `Quotas` of Service Quotas' `ListServiceQuotas` for ec2: those of accelerator families."""
    found: list[Quota] = []
    for one in quotas:
        name, vcpus = text_at(one, "QuotaName"), amount_at(one, "Value")
        for pattern, option in _NAMES:
            match = pattern.fullmatch(name)
            if match and vcpus is not None and _ACCELERATED.search(match.group(1)):
                found.append(Quota(region, match.group(1), option, vcpus, text_at(one, "QuotaCode")))
    return tuple(sorted(found, key=lambda quota: (quota.purchase_option, quota.family, quota.code)))


def quota_note(quotas: Iterable[Quota], *, region: str) -> str | None:
    """Return one line with the quotas of a region, or None where there are none."""
    said = [
        f"{quota.family} {quota.purchase_option.replace('_', '-')} {quota.vcpus:,.0f}" for quota in quotas
    ]
    return f"ec2: this account may run in {region}, vCPUs at once: {'; '.join(said)}" if said else None
