"""
The quotas of a subscription's virtual machines: Microsoft.Compute's usages of a location, in vCPUs.

A machine must keep the quota of its family (`data/azure_vm_families.csv`) and that of the location; spot machines have
one of their own, of all families together (Azure documentation, "Check vCPU quotas").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Final
from urllib.parse import quote

from trainfare_core.errors import FetchError
from trainfare_core.prices.intake import PURCHASE_OPTIONS
from trainfare_core.recommendation import QuotaLimit
from trainfare_providers.answer_values import amount_at, text_at
from trainfare_providers.azure.workspace import short_family
from trainfare_providers.http.addresses import Secret
from trainfare_providers.http.client import HttpClient
from trainfare_providers.http.listing import read_pages
from trainfare_providers.machine_types import table_rows
from trainfare_providers.refresh import FetchedQuotas

MANAGER: Final = "https://management.azure.com"
API_VERSION: Final = "2024-07-01"

_OF_ALL: Final[Mapping[str, tuple[str, ...]]] = {
    "cores": tuple(option for option in PURCHASE_OPTIONS if option != "spot"),
    "lowPriorityCores": ("spot",),
}
"""Quotas of all families of a location together, and the purchase options that count against them."""

_NO_SUCH_LOCATION: Final = (400, 404)
"""How Resource Manager answers for a location that the subscription does not have."""

_SERIES: Final = re.compile(r"Standard_([A-Z]+)[0-9]")


@dataclass(frozen=True, slots=True)
class Usage:
    """The quota of one family, or of all, in one location; `name` is Azure's, standardNDSH100v5Family."""

    name: str
    region: str
    vcpus: float


def read_limits(
    http: HttpClient, manager: str, subscription_id: str, token: Secret, prices: Iterable[tuple[str, str]]
) -> FetchedQuotas:
    """
    Read the quotas of the locations that have prices.

    Args:
        http: sends the requests.
        manager: address of Azure Resource Manager.
        subscription_id: whose quotas.
        token: for the manager.
        prices: instance type and region of each.

    Raises:
        FetchError: no answer, or the subscription has none of the locations.
    """
    machines: dict[str, list[str]] = {}
    for name, region in sorted(prices):
        machines.setdefault(region, []).append(name)
    limits: list[QuotaLimit] = []
    absent: dict[str, FetchError] = {}
    without: set[str] = set()
    unreadable = 0
    for region, names in machines.items():
        path = f"/subscriptions/{quote(subscription_id, safe='')}/providers/Microsoft.Compute/locations/{region}/usages"
        headers = {"Authorization": Secret(f"Bearer {token}")}
        query = {"api-version": API_VERSION}
        pages = read_pages(http, f"{manager}{path}", "value", "nextLink", query, headers=headers)
        try:
            entries = list(next(pages))
        except FetchError as error:
            if error.status not in _NO_SUCH_LOCATION:
                raise
            absent[region] = error
            continue
        entries += chain.from_iterable(pages)
        usages = parse_usages(entries, region)
        unreadable += usages.count(None)
        there = tuple(vm_limits((usage for usage in usages if usage is not None), names))
        limits += there
        without |= set(names) - {name for limit in there for name in limit.family}
    if absent and len(absent) == len(machines):
        raise absent.popitem()[1]
    notes = [f"azure: the subscription has no quotas of {', '.join(absent)}"] if absent else []
    if unreadable:
        notes.append(f"azure: {unreadable} quotas of virtual machines cannot be read")
    if without:
        said = ", ".join(sorted(without))
        notes.append(f"azure: in one region or more, no quota was read of the family of {said}")
    return FetchedQuotas(tuple(limits), tuple(notes))


def parse_usages(entries: Iterable[object], region: str) -> tuple[Usage | None, ...]:
    """Return the quotas of a location that machines of ours count against; None for an entry that cannot be read."""
    usages: list[Usage | None] = []
    known = {*_families().values(), *map(short_family, _OF_ALL)}
    for entry in entries:
        name, limit = text_at(entry, "name", "value"), amount_at(entry, "limit")
        if not name:
            usages.append(None)
        elif short_family(name) in known:
            usages.append(None if limit is None else Usage(name, region, limit))
    return tuple(usages)


def vm_limits(usages: Iterable[Usage], machines: Sequence[str]) -> Iterator[QuotaLimit]:
    """
    Yield the quotas of a location in the form of `--quota`, those of the given machines.

    >>> usages = [Usage("standardNDSH100v5Family", "eastus", 96.0), Usage("lowPriorityCores", "eastus", 3.0)]
    >>> [(one.family, one.vcpus) for one in vm_limits(usages, ["Standard_ND96isr_H100_v5"])]
    [(('Standard_ND96isr_H100_v5',), 96.0), (('ND',), 3.0)]
    """
    known = _families()
    series = tuple(sorted({match[1] for name in machines if (match := _SERIES.match(name))}))
    for usage in usages:
        of_all = _OF_ALL.get(usage.name)
        counted = tuple(name for name in machines if known.get(name) == short_family(usage.name))
        if of_all is not None or counted:
            yield QuotaLimit(
                provider="azure",
                service="azure_vm",
                region=usage.region,
                family=counted or series,
                purchase=of_all or _OF_ALL["cores"],
                vcpus=usage.vcpus,
            )


@cache
def _families() -> Mapping[str, str]:
    """Return the short name of a machine's family, by instance type."""
    return {
        name: short_family(row["family"])
        for row in table_rows("azure_vm_families.csv")
        for name in row["instance_types"].split()
    }
