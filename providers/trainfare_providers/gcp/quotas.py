"""
The quotas of a Google Cloud project, in GPUs: those of each region, those of newer GPUs, and that of all regions.

Compute Engine lists the quotas of a region. It has no standard quota of H100 and newer GPUs, which the Cloud Quotas API
keeps by family of GPUs. Spot machines count against the preemptible quota of a region where one is granted, else
against the standard one (Compute Engine documentation, "Quotas for Spot VMs"). TPUs have quotas of another API, which
are not read.
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
from trainfare_providers.answer_values import amount_at, items_of, object_of, text_at
from trainfare_providers.gcp.machines import machines
from trainfare_providers.gcp.sign_in import SignIn
from trainfare_providers.http.client import HttpClient
from trainfare_providers.http.listing import read_pages
from trainfare_providers.machine_types import table_rows
from trainfare_providers.refresh import FetchedQuotas

_METRIC: Final = re.compile(r"(?:(PREEMPTIBLE|COMMITTED)_)?(NVIDIA_[A-Z0-9_]+)_GPUS", re.ASCII)
_COUNT: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_ALL_REGIONS: Final = "GPUS_ALL_REGIONS"
_FAMILIES: Final = "GPUS-PER-GPU-FAMILY-per-project-region"

_NOT_SPOT: Final = tuple(option for option in PURCHASE_OPTIONS if option != "spot")
_COMMITTED: Final = ("reserved_1y", "reserved_3y")
"""What is sold as a commitment, which has a quota of its own beside that of the machines."""


@dataclass(frozen=True, slots=True)
class QuotaSites:
    """Addresses of the Compute Engine API and of the Cloud Quotas API."""

    compute: str = "https://compute.googleapis.com"
    quotas: str = "https://cloudquotas.googleapis.com"


@dataclass(frozen=True, slots=True)
class RegionQuotas:
    """
    The quotas of GPUs in one region.

    Attributes:
        gpus: by kind ("" is the standard one) and name of the GPU, NVIDIA_A100_80GB.
        unreadable: entries of GPUs that machines of ours have, without a limit that can be read.
    """

    region: str
    gpus: Mapping[tuple[str, str], float]
    unreadable: int = 0


def read_limits(
    http: HttpClient, sites: QuotaSites, signed: SignIn, prices: Iterable[tuple[str, str]]
) -> FetchedQuotas:
    """
    Read the quotas of the regions that have prices.

    Args:
        http: sends the requests.
        sites: which are asked.
        signed: whose project.
        prices: instance type and region of each.

    Raises:
        FetchError: Compute Engine gave no answer.
    """
    project = quote(signed.project, safe="")
    root = f"{sites.compute}/compute/v1/projects/{project}"
    pages = read_pages(
        http, f"{root}/regions", "items", "nextPageToken", {}, headers=signed.headers, parameter="pageToken"
    )
    region_limits = [parse_region(entry) for entry in chain.from_iterable(pages)]
    whole = http.get_json(root, headers=signed.headers, must_have=("quotas",))
    info = f"/locations/global/services/compute.googleapis.com/quotaInfos/{_FAMILIES}"
    notes: list[str] = []
    families: Sequence[object] = ()
    try:
        url = f"{sites.quotas}/v1/projects/{project}{info}"
        answer = http.get_json(url, headers=signed.headers, must_have=("dimensionsInfos",))
        families = items_of(answer, "dimensionsInfos")
    except FetchError as error:
        notes.append(f"{error}; without it the standard quotas of H100 and newer GPUs are not known")
    regions = {region.region: region for region in region_limits}
    limits: list[QuotaLimit] = []
    without: set[str] = set()
    priced = _by_gpu(prices)
    for (region, gpu), names in priced.items():
        quotas = regions.get(region, RegionQuotas(region, {}))
        standard = quotas.gpus.get(("", gpu), family_quota(families, region, gpu))
        limits += gpu_limits(quotas, gpu, standard, names)
        without |= set(names) if standard is None else set()
    total = next(
        (quota for quota in items_of(whole, "quotas") if text_at(quota, "metric") == _ALL_REGIONS), None
    )
    gpus = amount_at(total, "limit")
    if priced and gpus is not None:
        limits.append(_limit(_accelerators(chain.from_iterable(priced.values())), None, gpus))
    unreadable = sum(region.unreadable for region in region_limits) + (gpus is None)
    if unreadable:
        notes.append(f"gcp: {unreadable} quotas of GPUs cannot be read")
    if without:
        said = ", ".join(sorted(without))
        notes.append(f"gcp: in one region or more, no standard quota was read of the GPUs of {said}")
    return FetchedQuotas(tuple(limits), tuple(notes))


def parse_region(entry: object) -> RegionQuotas:
    """Return the quotas of GPUs that an entry of Compute Engine's list of regions has."""
    gpus: dict[tuple[str, str], float] = {}
    unreadable, known = 0, frozenset(_gpu_names().values())
    for quota in items_of(entry, "quotas"):
        match, limit = _METRIC.fullmatch(text_at(quota, "metric")), amount_at(quota, "limit")
        if match is None or match[2] not in known:
            continue
        if limit is None:
            unreadable += 1
        else:
            gpus[match[1] or "", match[2]] = limit
    return RegionQuotas(text_at(entry, "name"), gpus, unreadable)


def family_quota(infos: Iterable[object], region: str, gpu: str) -> float | None:
    """
    Return the standard quota of a family of GPUs in a region, from `dimensionsInfos`; None where they do not say one.

    An entry holds for the values of the dimensions that it names and, of others, for all that no other entry names.

    >>> info = {"dimensions": {"gpu_family": "NVIDIA_H100"}, "details": {"value": "8"}, "applicableLocations": ["a"]}
    >>> family_quota([info], "a", "NVIDIA_H100"), family_quota([info], "b", "NVIDIA_H100")
    (8.0, None)
    """
    here = {"region": region, "gpu_family": gpu}.items()
    quotas_by_limit: dict[int, set[float | None]] = {}
    for info in infos:
        dimensions = object_of(info, "dimensions") or {}
        if dimensions.items() <= here and region in items_of(info, "applicableLocations"):
            text = text_at(info, "details", "value")  # a number of 64 bits is text in Google's JSON
            value = float(text) if _COUNT.fullmatch(text) else amount_at(info, "details", "value")
            quotas_by_limit.setdefault(len(dimensions), set()).add(value)
    values = quotas_by_limit.get(max(quotas_by_limit, default=0), set())
    return values.pop() if len(values) == 1 else None


def gpu_limits(
    quotas: RegionQuotas, gpu: str, standard: float | None, names: Sequence[str]
) -> Iterator[QuotaLimit]:
    """
    Yield the quotas of a GPU in a region in the form of `--quota`.

    Args:
        quotas: of the region.
        gpu: NVIDIA_H100.
        standard: its standard quota; None is unknown.
        names: the machines with this GPU.
    """
    spot = quotas.gpus.get(("PREEMPTIBLE", gpu), 0.0)
    committed = quotas.gpus.get(("COMMITTED", gpu))
    if standard is not None:
        yield _limit(names, _NOT_SPOT if spot else None, standard, quotas.region)
    if spot:
        yield _limit(names, ("spot",), spot, quotas.region)
    if committed is not None:
        yield _limit(names, _COMMITTED, committed, quotas.region)


def _limit(
    family: Sequence[str], purchase: tuple[str, ...] | None, accelerators: float, region: str | None = None
) -> QuotaLimit:
    return QuotaLimit(
        provider="gcp",
        service="gce",
        region=region,
        family=tuple(family),
        purchase=purchase,
        accelerators=accelerators,
    )


def _by_gpu(prices: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], list[str]]:
    """Return the machines of each region and GPU, the GPU as quotas name it."""
    names_by_gpu: dict[tuple[str, str], list[str]] = {}
    gpu_of = {machine.machine.instance_type: _gpu_names().get(machine.gpu) for machine in machines()}
    for region, name in sorted((region, name) for name, region in prices):
        gpu = gpu_of.get(name)
        if gpu is not None:
            names_by_gpu.setdefault((region, gpu), []).append(name)
    return names_by_gpu


def _accelerators(names: Iterable[str]) -> list[str]:
    """Return the accelerators of some machines."""
    names_wanted = frozenset(names)
    return sorted(
        {
            machine.machine.accelerator
            for machine in machines()
            if machine.machine.instance_type in names_wanted
        }
    )


@cache
def _gpu_names() -> Mapping[str, str]:
    """Return how quotas name the GPUs of `data/gcp_machines.csv`."""
    return {row["gpu"]: row["quota"] for row in table_rows("gcp_gpu_quotas.csv")}
