"""
Savings Plans: the price of a machine per hour under a plan of 1 or 3 years without upfront payment.

EC2 by the Compute Savings Plan, which covers every family and region; SageMaker by its own plan. Both come from
`DescribeSavingsPlansOfferingRates` (small, needs credentials) or the public files (large, none needed).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from trainfare_providers.answer_values import amount_at, day_of, items_of, text_at
from trainfare_providers.aws.bulk_csv import read_rows
from trainfare_providers.aws.price_list import training_type
from trainfare_providers.aws.rows import UNREADABLE, Service, SourceContext, machine_row
from trainfare_providers.source_rows import Refused, SourceRow

__all__ = ["PLANS", "PlanFile", "plan_file_rows", "plan_rate_row"]

_BOX: Final = re.compile(r"(?:[A-Z0-9]{2,8}-)?BoxUsage:([a-z0-9][a-z0-9-]{0,30}\.[a-z0-9-]{1,30})", re.ASCII)
_SECONDS: Final = {31_536_000.0: "savings_1y", 94_608_000.0: "savings_3y"}
_YEARS: Final = {"1": "savings_1y", "3": "savings_3y"}
_NOT_TRAINING: Final = "a plan's rate for something that is not a training machine"
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


def plan_file_rows(
    chunks: Iterable[bytes], plan: PlanFile, context: SourceContext
) -> Iterator[SourceRow | Refused]:
    """
    Yield a row, or why there is none, for each line of a public plan file, as it comes.

    Raises:
        PricesUnavailableError: it is not that file.
    """
    for cells, columns in read_rows(chunks, offer=plan.offer, needed=[(name,) for name in _COLUMNS]):
        if cells is None:
            yield UNREADABLE
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
            effective_on=day_of(cell["effectivedate"]) or "",
            sku=cell["sku"],
        )
        yield _row(rate, plan, context)


def plan_rate_row(result: object, plan: PlanFile, context: SourceContext) -> SourceRow | Refused:
    """
    Return the row of one of the `searchResults` of `DescribeSavingsPlansOfferingRates`.

    The API does not say since when a rate holds, so its price is of today.
    """
    properties = {text_at(item, "name"): text_at(item, "value") for item in items_of(result, "properties")}
    seconds = amount_at(result, "savingsPlanOffering", "durationSeconds")
    rate = _Rate(
        family_fits=text_at(result, "savingsPlanOffering", "planType") == plan.plan_type,
        service_code=text_at(result, "serviceCode"),
        usage_type=text_at(result, "usageType"),
        operation=text_at(result, "operation"),
        payment=text_at(result, "savingsPlanOffering", "paymentOption"),
        option=None if seconds is None else _SECONDS.get(seconds),
        region=properties.get("region", ""),
        unit=text_at(result, "unit"),
        rate=text_at(result, "rate"),
        currency=text_at(result, "savingsPlanOffering", "currency"),
        effective_on=context.today,
        sku=text_at(result, "savingsPlanOffering", "offeringId"),
    )
    return _row(rate, plan, context)


def _row(rate: _Rate, plan: PlanFile, context: SourceContext) -> SourceRow | Refused:
    instance_type = _machine_of(rate, plan)
    rule = _rule(rate, plan, instance_type, context.region)
    if rule is not None or instance_type is None:
        return Refused(rule or _NOT_TRAINING)
    if rate.option is None or rate.unit != "Hrs" or not rate.effective_on:
        return Refused("a plan's rate without its term, hour or date", quarantined=True)
    return machine_row(
        context,
        instance_type,
        purchase_option=rate.option,
        usd_per_hour=rate.rate,
        currency=rate.currency,
        observed_on=rate.effective_on,
        sku=rate.sku,
        caveat=_CAVEATS[plan.service],
    )


def _machine_of(rate: _Rate, plan: PlanFile) -> str | None:
    if plan.service == "sagemaker":
        return training_type(rate.usage_type)
    box = _BOX.fullmatch(rate.usage_type)
    return box.group(1) if box else None


def _rule(rate: _Rate, plan: PlanFile, instance_type: str | None, region: str) -> str | None:
    """Return the first rule that leaves a rate out, or None."""
    if not rate.family_fits:
        return "another kind of savings plan"
    if rate.service_code != plan.service_code or instance_type is None:
        return _NOT_TRAINING
    if rate.region != region:
        return "another region, or a local or wavelength zone"
    if plan.service == "ec2" and rate.operation != "RunInstances":
        return "not Linux"
    return None if rate.payment == "No Upfront" else "a plan that is paid upfront"
