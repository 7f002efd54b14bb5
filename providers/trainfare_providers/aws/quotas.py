"""Quotas of an account, separately for on-demand and spot: EC2's vCPUs of a family, SageMaker's machines of a type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.pricing.quotas import is_covered
from trainfare_core.recommendation import QuotaLimit
from trainfare_providers.answer_values import amount_at, text_at

# Quotas are looked up by name: codes differ by family and new families bring new ones.
_NAMES: Final[tuple[tuple[re.Pattern[str], Literal["on_demand", "spot"]], ...]] = (
    (re.compile(r"Running On-Demand (.{1,60}) instances", re.ASCII), "on_demand"),
    (re.compile(r"All (.{1,60}) Spot Instance Requests", re.ASCII), "spot"),
)
_TRAINING: Final = re.compile(
    r"(ml\.[a-z0-9-]{1,20}\.[a-z0-9]{1,20}) for (spot )?training job usage", re.ASCII
)
_ACCELERATED: Final = re.compile(r"\b(P[0-9]*|G[0-9]*|VT|Trn[0-9]*|Inf[0-9]*|DL[0-9]*)\b", re.ASCII)


_PURCHASES: Final = {
    # What is reserved or in a savings plan runs as on-demand; Capacity Blocks are not counted.
    "on_demand": ("on_demand", "savings_1y", "savings_3y", "reserved_1y", "reserved_3y"),
    "spot": ("spot",),
}


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


@dataclass(frozen=True, slots=True)
class TrainingQuota:
    """
    The quota of SageMaker's training jobs of one instance type in one region.

    Attributes:
        machines: of all training jobs together.
    """

    region: str
    instance_type: str
    purchase_option: Literal["on_demand", "spot"]
    machines: float


def read_training_quotas(quotas: Iterable[object], *, region: str) -> tuple[TrainingQuota, ...]:
    """Read the `Quotas` of Service Quotas' `ListServiceQuotas` for sagemaker: those of training jobs."""
    quotas_read: list[TrainingQuota] = []
    for quota in quotas:
        match, machines = _TRAINING.fullmatch(text_at(quota, "QuotaName")), amount_at(quota, "Value")
        if match and machines is not None:
            quotas_read.append(
                TrainingQuota(region, match.group(1), "spot" if match.group(2) else "on_demand", machines)
            )
    return tuple(sorted(quotas_read, key=lambda quota: (quota.purchase_option, quota.instance_type)))


def training_limits(quotas: Iterable[TrainingQuota], instance_types: Iterable[str]) -> tuple[QuotaLimit, ...]:
    """
    Return quotas of training jobs in the form of `--quota`, those of the given machines.

    >>> quota = TrainingQuota("us-east-1", "ml.p5.48xlarge", "on_demand", 2.0)
    >>> [(limit.family, limit.machines) for limit in training_limits([quota], ["ml.p5.48xlarge"])]
    [(('ml.p5.48xlarge',), 2.0)]
    """
    known = frozenset(instance_types)
    return tuple(
        QuotaLimit(
            provider="aws",
            region=quota.region,
            family=(quota.instance_type,),
            purchase=_PURCHASES[quota.purchase_option],
            machines=quota.machines,
        )
        for quota in quotas
        if quota.instance_type in known
    )


def read_quotas(quotas: Iterable[object], *, region: str) -> tuple[Quota, ...]:
    """Read the `Quotas` of Service Quotas' `ListServiceQuotas` for ec2: those of accelerator families."""
    quotas_read: list[Quota] = []
    for quota in quotas:
        name, vcpus = text_at(quota, "QuotaName"), amount_at(quota, "Value")
        for pattern, option in _NAMES:
            match = pattern.fullmatch(name)
            if match and vcpus is not None and _ACCELERATED.search(match.group(1)):
                quotas_read.append(Quota(region, match.group(1), option, vcpus, text_at(quota, "QuotaCode")))
    return tuple(sorted(quotas_read, key=lambda quota: (quota.purchase_option, quota.family, quota.code)))


def quota_note(quotas: Iterable[Quota], *, region: str) -> str | None:
    """Return one line with the quotas of a region, or None where there are none."""
    said = [
        f"{quota.family} {quota.purchase_option.replace('_', '-')} {quota.vcpus:,.0f}" for quota in quotas
    ]
    return f"ec2: this account may run in {region}, vCPUs at once: {'; '.join(said)}" if said else None


def limits_of(quotas: Iterable[Quota], instance_types: Iterable[str]) -> tuple[QuotaLimit, ...]:
    """
    Return quotas in the form of `--quota`; one that no given machine counts against is left out.

    A quota of letters, such as "G and VT", names the letters of the machines that count against it, gr6 too; one of
    generations, such as "P4, P3 and P2", their families, since "P4" is also p4d and p4de.

    Args:
        quotas: of the account.
        instance_types: those whose families are named, p4d.24xlarge.

    >>> spot = Quota("us-east-1", "P4, P3 and P2", "spot", 192.0, "L-7212CCBC")
    >>> [limit.family for limit in limits_of([spot], ["p4d.24xlarge", "p5.48xlarge", "p4de.24xlarge"])]
    [('p4d', 'p4de')]
    """
    known = sorted({name.partition(".")[0] for name in instance_types})
    limits: list[QuotaLimit] = []
    for quota in quotas:
        words = [word.lower() for word in _ACCELERATED.findall(quota.family)]
        families = dict.fromkeys(
            name for word in words for family in known if (name := _name_counted_family(word, family))
        )
        if families:
            limits.append(
                QuotaLimit(
                    provider="aws",
                    region=quota.region,
                    family=tuple(families),
                    purchase=_PURCHASES[quota.purchase_option],
                    vcpus=quota.vcpus,
                )
            )
    return tuple(limits)


def unread_note(limits: Sequence[QuotaLimit], prices: PriceBook) -> str | None:
    """Return one line with the families of machines of which no quota was read, or None where there are none."""
    names = {
        offer["instance_type"].rpartition(".")[0]
        for offer in prices.filter(purchase=tuple(_PURCHASES)).frame.to_dicts()
        if not is_covered(offer, limits)
    }
    said = f"in one region or more, no quota was read of {', '.join(sorted(names))}; it is not known there"
    return f"aws: {said}" if names else None


def _name_counted_family(word: str, family: str) -> str:
    """Return how `QuotaLimit.family` names a family of machines that counts against a word of a quota, else ""."""
    if word[-1].isdigit():  # P4 is p4 and what letters follow, never p40
        return family if re.match(rf"{word}(?![0-9])", family) else ""
    letters = re.split("[0-9]", family, maxsplit=1)[0]
    return letters if letters == word or (len(word) == 1 and letters == f"{word}r") else ""
