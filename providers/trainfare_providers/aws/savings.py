"""
Savings Plans: the price of a machine per hour under a plan of 1 or 3 years without upfront payment.

EC2 by the Compute Savings Plan, which covers every family and region; SageMaker by its own plan. Both come from
`DescribeSavingsPlansOfferingRates` (small, needs credentials) or the public files (large, none needed).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Final, cast

from trainfare_providers.answer_values import amount_at, day_of, items_of, text_at
from trainfare_providers.aws.bulk_csv import read_rows
from trainfare_providers.aws.price_list import training_type
from trainfare_providers.aws.rows import NOT_BEGUN, UNREADABLE, Service, SourceContext, machine_row
from trainfare_providers.machine_types import table_rows
from trainfare_providers.source_rows import Refused, SourceRow

_BOX: Final = re.compile(r"(?:[A-Z0-9]{2,8}-)?BoxUsage:([a-z0-9][a-z0-9-]{0,30}\.[a-z0-9-]{1,30})", re.ASCII)
# Years in the file, seconds in the API's answer.
_TERMS: Final = {
    "1": "savings_1y", "3": "savings_3y", "31536000.0": "savings_1y", "94608000.0": "savings_3y",
}  # fmt: skip
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


PLANS: Final = tuple(PlanFile(**cast("dict[str, Any]", row)) for row in table_rows("aws_savings_plans.csv"))


@dataclass(frozen=True, slots=True)
class _Rate:
    """One rate of a plan; fields have the names of the file's columns, letters and digits only."""

    productfamily: str
    discountedservicecode: str
    discountedusagetype: str
    discountedoperation: str
    purchaseoption: str
    leasecontractlength: str
    discountedregioncode: str
    unit: str
    discountedrate: str
    currency: str
    effectivedate: str
    sku: str


def plan_file_rows(
    chunks: Iterable[bytes], plan: PlanFile, context: SourceContext
) -> Iterator[SourceRow | Refused]:
    """
    Yield a row, or why there is none, for each line of a public plan file, as it comes.

    Raises:
        PricesUnavailableError: it is not that file.
    """
    names = [field.name for field in fields(_Rate)]
    for cells, columns in read_rows(chunks, offer=plan.offer, needed=[(name,) for name in names]):
        if cells is None:
            yield UNREADABLE
        else:
            yield _build_row(_Rate(*(cells[columns[name]] for name in names)), plan, context)


def plan_rate_row(result: object, plan: PlanFile, context: SourceContext) -> SourceRow | Refused:
    """
    Return the row of one of the `searchResults` of `DescribeSavingsPlansOfferingRates`.

    The API does not say since when a rate holds, so its price is of today.
    """
    properties = {text_at(item, "name"): text_at(item, "value") for item in items_of(result, "properties")}
    rate = _Rate(
        productfamily=text_at(result, "savingsPlanOffering", "planType"),
        discountedservicecode=text_at(result, "serviceCode"),
        discountedusagetype=text_at(result, "usageType"),
        discountedoperation=text_at(result, "operation"),
        purchaseoption=text_at(result, "savingsPlanOffering", "paymentOption"),
        leasecontractlength=str(amount_at(result, "savingsPlanOffering", "durationSeconds")),
        discountedregioncode=properties.get("region", ""),
        unit=text_at(result, "unit"),
        discountedrate=text_at(result, "rate"),
        currency=text_at(result, "savingsPlanOffering", "currency"),
        effectivedate=context.today,
        sku=text_at(result, "savingsPlanOffering", "offeringId"),
    )
    return _build_row(rate, plan, context)


def _build_row(rate: _Rate, plan: PlanFile, context: SourceContext) -> SourceRow | Refused:
    instance_type = _machine_of(rate, plan)
    rule = _rule(rate, plan, instance_type, context.region)
    if rule is not None or instance_type is None:
        return Refused(rule or _NOT_TRAINING)
    option, day = _TERMS.get(rate.leasecontractlength), day_of(rate.effectivedate)
    if option is None or rate.unit != "Hrs" or day is None:
        return Refused("a plan's rate without its term, hour or date", quarantined=True)
    if day > context.today:
        return NOT_BEGUN
    return machine_row(
        context,
        instance_type,
        purchase_option=option,
        usd_per_hour=rate.discountedrate,
        currency=rate.currency,
        observed_on=day,
        sku=rate.sku,
        caveat=_CAVEATS[plan.service],
    )


def _machine_of(rate: _Rate, plan: PlanFile) -> str | None:
    if plan.service == "sagemaker":
        return training_type(rate.discountedusagetype)
    box = _BOX.fullmatch(rate.discountedusagetype)
    return box.group(1) if box else None


def _rule(rate: _Rate, plan: PlanFile, instance_type: str | None, region: str) -> str | None:
    """Return the first rule that leaves a rate out, or None."""
    if rate.productfamily not in (plan.family, plan.plan_type):
        return "another kind of savings plan"
    if rate.discountedservicecode != plan.service_code or instance_type is None:
        return _NOT_TRAINING
    if rate.discountedregioncode != region:
        return "another region, or a local or wavelength zone"
    if plan.service == "ec2" and rate.discountedoperation != "RunInstances":
        return "not Linux"
    return None if rate.purchaseoption == "No Upfront" else "a plan that is paid upfront"
