"""
Savings Plans: what a machine costs per hour under a plan of 1 or 3 years without upfront payment.

EC2 by the Compute Savings Plan, which holds for every family and region; SageMaker by its own. Both from
`DescribeSavingsPlansOfferingRates` (small, needs credentials) or the public files (large, none needed).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from trainfare_providers.aws.bulk_csv import read_rows
from trainfare_providers.aws.sift import PriceRow, Reading, Service, Sift
from trainfare_providers.aws.wire import day_of, entries, number, text, train_type

__all__ = ["PLANS", "PlanFile", "sift_plan_file", "sift_plan_rates"]

_BOX: Final = re.compile(r"(?:[A-Z0-9]{2,8}-)?BoxUsage:([a-z0-9][a-z0-9-]{0,30}\.[a-z0-9-]{1,30})", re.ASCII)
_SECONDS: Final = {31_536_000.0: "savings_1y", 94_608_000.0: "savings_3y"}
_YEARS: Final = {"1": "savings_1y", "3": "savings_3y"}
_CAVEATS: Final[dict[Service, str]] = {
    "ec2": "Compute Savings Plan without upfront payment: the commitment is paid whether used or not",
    "sagemaker": "SageMaker Savings Plan without upfront payment: the commitment is paid whether used or not",
}


@dataclass(frozen=True, slots=True)
class PlanFile:
    """
    One family of plans.

    Attributes:
        code: in the address of its public file.
        offer: `OfferCode` in the file.
        family: its `Product Family` in the file.
        plan_type: in the API's answer.
        service_code: of what is discounted.
    """

    service: Service
    code: str
    offer: str
    family: str
    plan_type: str
    service_code: str


PLANS: Final = (
    PlanFile(
        "ec2",
        "AWSComputeSavingsPlan",
        "AmazonComputeSavingsPlan",
        "ComputeSavingsPlans",
        "Compute",
        "AmazonEC2",
    ),
    PlanFile(
        "sagemaker",
        "AWSMachineLearningSavingsPlans",
        "AWSMachineLearningSavingsPlans",
        "MachineLearningSavingsPlans",
        "SageMaker",
        "AmazonSageMaker",
    ),
)
_COLUMNS: Final = (
    "sku",
    "unit",
    "effectivedate",
    "discountedrate",
    "currency",
    "discountedservicecode",
    "discountedusagetype",
    "discountedoperation",
    "purchaseoption",
    "leasecontractlength",
    "productfamily",
    "discountedregioncode",
)


@dataclass(frozen=True, slots=True)
class _Rate:
    family_fits: bool
    service_code: str
    usage_type: str
    operation: str
    payment: str
    option: str | None
    region: str
    unit: str
    rate: str
    currency: str
    effective_on: str
    sku: str


def sift_plan_file(chunks: Iterable[bytes], plan: PlanFile, sift: Sift, reading: Reading) -> None:
    """
    Read a public plan file as it comes; each row ends in `sift` exactly once.

    Raises:
        PricesUnavailableError: it is not that file.
    """
    for cells, columns in read_rows(chunks, offer=plan.offer, needed=[(name,) for name in _COLUMNS]):
        if cells is None:
            sift.set_aside("a row that cannot be read")
            continue
        cell = dict(zip(_COLUMNS, (cells[columns[name]] for name in _COLUMNS), strict=True))
        rate = _Rate(
            family_fits=cell["productfamily"] == plan.family,
            service_code=cell["discountedservicecode"],
            usage_type=cell["discountedusagetype"],
            operation=cell["discountedoperation"],
            payment=cell["purchaseoption"],
            option=_YEARS.get(cell["leasecontractlength"]),
            region=cell["discountedregioncode"],
            unit=cell["unit"],
            rate=cell["discountedrate"],
            currency=cell["currency"],
            effective_on=day_of(cell["effectivedate"]),
            sku=cell["sku"],
        )
        _sift(rate, plan, sift, reading)


def sift_plan_rates(results: Iterable[object], plan: PlanFile, sift: Sift, reading: Reading) -> None:
    """
    Read the `searchResults` of `DescribeSavingsPlansOfferingRates`; each ends in `sift` exactly once.

    The API does not say since when a rate holds: today is the day of its price.
    """
    for one in results:
        properties = {text(item, "name"): text(item, "value") for item in entries(one, "properties")}
        seconds = number(one, "savingsPlanOffering", "durationSeconds")
        rate = _Rate(
            family_fits=text(one, "savingsPlanOffering", "planType") == plan.plan_type,
            service_code=text(one, "serviceCode"),
            usage_type=text(one, "usageType"),
            operation=text(one, "operation"),
            payment=text(one, "savingsPlanOffering", "paymentOption"),
            option=None if seconds is None else _SECONDS.get(seconds),
            region=properties.get("region", ""),
            unit=text(one, "unit"),
            rate=text(one, "rate"),
            currency=text(one, "savingsPlanOffering", "currency"),
            effective_on=reading.today,
            sku=text(one, "savingsPlanOffering", "offeringId"),
        )
        _sift(rate, plan, sift, reading)


def _sift(rate: _Rate, plan: PlanFile, sift: Sift, reading: Reading) -> None:
    instance_type = _machine_of(rate, plan)
    rule = _rule(rate, plan, instance_type, reading.region)
    if rule is not None or instance_type is None:
        sift.leave_out(rule or "a plan's rate for something that is not a training machine")
        return
    if rate.option is None or rate.unit != "Hrs" or not rate.effective_on:
        sift.set_aside("a plan's rate without its term, hour or date")
        return
    bare = instance_type.removeprefix("ml.")
    if sift.accepts_machine(reading.machines, bare, accelerated=False):
        sift.keep(
            PriceRow(
                service=plan.service,
                instance_type=instance_type,
                region=reading.region,
                purchase_option=rate.option,
                usd_per_hour=rate.rate,
                currency=rate.currency,
                effective_on=rate.effective_on,
                sku=rate.sku,
                source=reading.source,
                caveat=_CAVEATS[plan.service],
            )
        )


def _machine_of(rate: _Rate, plan: PlanFile) -> str | None:
    if plan.service == "sagemaker":
        return train_type(rate.usage_type)
    box = _BOX.fullmatch(rate.usage_type)
    return box.group(1) if box else None


def _rule(rate: _Rate, plan: PlanFile, instance_type: str | None, region: str) -> str | None:
    if not rate.family_fits:
        return "another kind of savings plan"
    if rate.service_code != plan.service_code or instance_type is None:
        return "a plan's rate for something that is not a training machine"
    if rate.region != region:
        return "another region, or a local or wavelength zone"
    if plan.service == "ec2" and rate.operation != "RunInstances":
        return "not Linux"
    return None if rate.payment == "No Upfront" else "a plan that is paid upfront"
