"""
Entries of price lists that look like the Linux on-demand price of a machine and are something else.

Each one was made by changing a true entry of `aws_wire`, `azure_wire` or `gcp_wire` in the one way that its name says: as a
cloud's list has them beside the true price, or as somebody who attacks the parser writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from builders import aws_wire as aws
from builders import azure_wire as azure
from builders import gcp_wire as gcp


@dataclass(frozen=True)
class Mislabelled:
    """
    One entry and what becomes of it.

    Attributes:
        entry: in the cloud's own form.
        reason: under which it is counted.
        beside: the true entries of the same machine, which stay.
    """

    name: str
    entry: Any
    reason: str
    beside: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return self.name


NOT_USD = "currency is not USD"
TIERS = "not one price but tiers"
BELOW = "reservation or savings plan below 10 % of the on-demand price"
ABOVE = "reservation or savings plan above the on-demand price"


def ec2(name: str, reason: str, term: aws.Term, **changes: str) -> Mislabelled:
    return Mislabelled(name, aws.machine("MISLABELLED00001", "p5.48xlarge", term, **changes), reason)


def sagemaker(name: str, reason: str, usage: str = "Train", **changes: str) -> Mislabelled:
    true = aws.training(
        "MISLABELLED00001", "ml.p5.48xlarge", "40.0", usagetype=f"USE1-{usage}:ml.p5.48xlarge"
    )
    term = replace(true.terms[0], **changes)  # type: ignore[arg-type]
    return Mislabelled(name, replace(true, terms=(term,)), reason)


TERMED = "an on-demand price with a reservation's term"
NOT_TRAINING = "not a training instance (hosting, notebooks, processing, storage, ...)"
UPFRONT = "a reservation that is paid upfront or convertible"

AWS_EC2: tuple[Mislabelled, ...] = (
    *(ec2(code, NOT_USD, aws.Term("40.0", currency=code)) for code in ("CNY", "GBP", "EUR", "JPY", "usd", "")),
    ec2("on demand with a term of a year", TERMED, aws.Term("30.0", lease="1yr")),
    ec2("on demand without upfront payment", TERMED, aws.Term("30.0", upfront="No Upfront")),
    ec2("not begun", "a price that has not begun", aws.Term("30.0", effective="2026-08-03T00:00:00Z")),
    ec2("of five years", "a reservation of a term that is neither 1 nor 3 years", aws.make_reserved("9.0", "5yr")),
    ec2("of no length", "a reservation of a term that is neither 1 nor 3 years", aws.make_reserved("9.0", "")),
    ec2("paid upfront", UPFRONT, aws.make_reserved("9.0", upfront="All Upfront")),
    ec2("convertible", UPFRONT, aws.make_reserved("9.0", kind="convertible")),
    ec2("of no class", UPFRONT, aws.make_reserved("9.0", kind="")),
    ec2("another kind of term", "a product without an on-demand or reserved price", aws.Term("30.0", "FlatRate")),
    ec2("Windows", "not Linux", aws.Term("60.0"), operatingSystem="Windows"),
    ec2("RHEL", "not Linux", aws.Term("60.0"), operatingSystem="RHEL"),
    ec2("host", "dedicated tenancy or a dedicated host", aws.Term("60.0"), tenancy="Host"),
    ec2("reservation that is not used", "a capacity reservation's row", aws.Term("55.04"), capacitystatus="UnusedCapacityReservation"),
    ec2("SQL Server", "software in the price", aws.Term("60.0"), preInstalledSw="SQL Ent"),
    ec2("per month", "the unit is not an hour", aws.Term("40179.2", unit="Month")),
    ec2("per second", "the unit is not an hour", aws.Term("0.0152", unit="Second")),
)  # fmt: skip

AWS_SAGEMAKER: tuple[Mislabelled, ...] = (
    *(sagemaker(f"term {kind}", "not an on-demand price", kind=kind) for kind in ("Reserved", "FlatRate", "SavingsPlan", "")),
    *(sagemaker(code, NOT_USD, currency=code) for code in ("CNY", "GBP")),
    sagemaker("on demand with a term", TERMED, lease="1yr"),
    sagemaker("not begun", "a price that has not begun", effective="2026-08-03T00:00:00Z"),
    sagemaker("per month", "the unit is not an hour", unit="Month"),
    *(sagemaker(usage, NOT_TRAINING, usage) for usage in ("Host", "Notebk", "Cluster", "Processing", "TrainDebugger", "Async-Host")),
)  # fmt: skip


def plan(name: str, reason: str, **changes: str) -> Mislabelled:
    true = aws.PlanRate("MISLABELLED00001", "10.0", "BoxUsage:p5.48xlarge")
    return Mislabelled(name, replace(true, **changes), reason)  # type: ignore[arg-type]


AWS_PLANS: tuple[Mislabelled, ...] = (
    plan("CNY", NOT_USD, currency="CNY"),
    plan("GBP", NOT_USD, currency="GBP"),
    plan("of two years", "a plan's rate without its term, hour or date", years="2"),
    plan("partly upfront", "a plan that is paid upfront", payment="Partial Upfront"),
    plan("Windows", "not Linux", operation="RunInstances:0002"),
    plan("of one family", "another kind of savings plan", family="EC2InstanceSavingsPlans"),
    plan("dedicated", "a plan's rate for something that is not a training machine", usage="DedicatedUsage:p5.48xlarge"),
    plan("reservation that is not used", "a plan's rate for something that is not a training machine", usage="UnusedBox:p5.48xlarge"),
)  # fmt: skip


H100 = "Standard_ND96isr_H100_v5"
TRUE = azure.item(H100, 98.32)


def vm(name: str, reason: str, usd: float = 50.0, **changes: Any) -> Mislabelled:
    return Mislabelled(name, azure.item(H100, usd, **changes), reason)


def plan_row(name: str, reason: str, usd: float) -> Mislabelled:
    plans = [{"term": "1 Year", "retailPrice": usd, "unitPrice": usd}]
    return Mislabelled(name, azure.item(H100, 98.32, savingsPlan=plans), reason)


DEV_TEST = "dev/test price, for subscribers of Visual Studio"

AZURE: tuple[Mislabelled, ...] = (
    *(vm(code, NOT_USD, currencyCode=code) for code in ("CNY", "GBP", "EUR", "INR", "usd")),
    vm("DevTest by its type", DEV_TEST, type="DevTestConsumption"),
    vm("DevTest by its product only", DEV_TEST, productName="Virtual Machines NDsr H100 v5 Series DevTest"),
    vm("Dev/Test by its meter only", DEV_TEST, meterName="ND96isr H100 v5 Dev/Test"),
    vm("Windows by its product", "Windows", productName="Virtual Machines NDsr H100 v5 Series Windows"),
    vm("Windows by its meter only", "Windows", meterName="ND96isr H100 v5 Windows"),
    vm("Windows by its SKU only", "Windows", skuName="ND96isr H100 v5 Win"),
    vm("RHEL", "a licence in the price", productName="Virtual Machines NDsr H100 v5 Series RHEL"),
    vm("SUSE", "a licence in the price", productName="Virtual Machines NDsr H100 v5 Series SUSE Enterprise"),
    vm("reservation without a term", "reservation of another term", type="Reservation"),
    vm("reservation of five years", "reservation of another term", type="Reservation", reservationTerm="5 Years"),
    vm("by use with a reservation's term", "price by use with a reservation's term", reservationTerm="1 Year"),
    vm("reservation of spot", "reservation of spot capacity", type="Reservation", reservationTerm="1 Year", suffix=" Spot"),
    vm("low priority", "low priority, which Azure retired on 2026-03-31", suffix=" Low Priority"),
    vm("for large amounts", "price for large amounts only", tierMinimumUnits=1000),
    vm("per month", "unit is not 1 Hour", unitOfMeasure="1/Month"),
    vm("dedicated host", "dedicated host", productName="NDsr H100 v5 Series Dedicated Host"),
    vm("Cloud Services", "Cloud Services, not a virtual machine", productName="NDsr H100 v5 Series CloudServices"),
    vm("not begun", "price that has not begun", effectiveStartDate="2026-11-25T00:00:00Z"),
    Mislabelled("reservation by the hour", azure.reservation(H100, 63.9, "1 Year"), BELOW, (TRUE,)),
    Mislabelled("three years called one", azure.reservation(H100, 1_200_000, "1 Year"), ABOVE, (TRUE,)),
    plan_row("savings plan by the whole term", ABOVE, 560_000.0),
    plan_row("savings plan divided by its hours", BELOW, 0.0073),
)  # fmt: skip


def rate(usd: str, start: float = 0.0, currency: str = "USD") -> dict[str, object]:
    units, _, nanos = usd.partition(".")
    money = {"currencyCode": currency, "units": units, "nanos": int(f"{nanos:0<9}")}
    return {"startUsageAmount": start, "unitPrice": money}


def part(name: str, reason: str, description: str = "Nvidia L4 GPU running in Americas", usage: str = "OnDemand", **expression: Any) -> Mislabelled:  # fmt: skip
    fields = gcp.sku(description, "0.56004026", usage)
    info: Mapping[str, Any] = fields["pricingInfo"][0]
    changed = {**info, "pricingExpression": {**info["pricingExpression"], **expression}}
    return Mislabelled(name, {**fields, "pricingInfo": [changed]}, reason)


NO_PART = "not a part of a machine with accelerators"
DISAGREE = "usage type and description disagree"

GCP: tuple[Mislabelled, ...] = (
    part("a free tier before the price", TIERS, tieredRates=[rate("0"), rate("0.56004026", 100.0)]),
    part("a lower price for large amounts", TIERS, tieredRates=[rate("0.56004026"), rate("0.3", 1000.0)]),
    part("only a price for large amounts", TIERS, tieredRates=[rate("0.3", 1000.0)]),
    part("the same price in two tiers", TIERS, tieredRates=[rate("0.56004026"), rate("0.56004026", 10.0)]),
    part("no tier", TIERS, tieredRates=[]),
    *(part(code, NOT_USD, tieredRates=[rate("0.5", currency=code)]) for code in ("CNY", "GBP", "IDR", "")),
    part("per month", "price of another unit", usageUnit="mo"),
    part("per GiB", "price of another unit", usageUnit="GiBy.h"),
    part("spot said to be on demand", DISAGREE, usage="Preemptible"),
    part("commitment said to be on demand", DISAGREE, usage="Commit1Yr"),
    part("one year said to be three", DISAGREE, "Commitment v1: Nvidia L4 GPU running in Americas for 3 Years", "Commit1Yr"),
    part("Windows", NO_PART, "Licensing Fee for Windows Server 2025 Datacenter Edition on Nvidia L4 GPU"),
    part("virtual workstation", NO_PART, "Nvidia L4 Virtual Workstation GPU running in Americas"),
    part("reservation", "reserved capacity", "Reserved Nvidia L4 GPU in Americas"),
    part("calendar mode", "DWS calendar mode", "Nvidia L4 GPU running in Americas in Calendar Mode"),
)  # fmt: skip
