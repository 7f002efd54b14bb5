"""
Capacity booked ahead: EC2 Capacity Blocks and SageMaker training plans.

Neither has an hourly price: the fee of a whole block, paid at booking, is divided by its hours and machines.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Final

from trainfare_providers.aws.sift import PriceRow, Reading, Sift
from trainfare_providers.aws.wire import at, day_of, decimal_of, entries, number, text

__all__ = ["sift_capacity_blocks", "sift_training_plans"]

_DIGITS: Final = Decimal("0.000001")


def sift_capacity_blocks(offerings: Iterable[object], sift: Sift, reading: Reading) -> None:
    """
    Read the `CapacityBlockOfferings` of `DescribeCapacityBlockOfferings`; each ends in `sift` exactly once.

    An offering holds for bookings made now, so today is the day of its price.
    """
    for one in offerings:
        instance_type, zone = (
            text(one, "InstanceType"),
            reading.zone_ids.get(text(one, "AvailabilityZone"), ""),
        )
        fee = _hourly(
            text(one, "UpfrontFee"),
            _hours(one, "CapacityBlockDurationHours", "CapacityBlockDurationMinutes"),
            number(one, "InstanceCount"),
        )
        if text(one, "UltraserverType"):
            sift.leave_out("an UltraServer: it is not booked by the machine")
        elif text(one, "Tenancy") not in ("", "default"):
            sift.leave_out("dedicated tenancy or a dedicated host")
        elif not zone:
            sift.set_aside("a Capacity Block of a zone without an id")
        elif fee is None:
            sift.set_aside("a Capacity Block without its fee, hours or machines")
        elif sift.accepts_machine(reading.machines, instance_type, accelerated=True):
            sift.keep(
                PriceRow(
                    service="ec2",
                    instance_type=instance_type,
                    region=reading.region,
                    zone=zone,
                    purchase_option="capacity_block",
                    usd_per_hour=fee,
                    currency=text(one, "CurrencyCode"),
                    effective_on=reading.today,
                    sku=text(one, "CapacityBlockOfferingId"),
                    source=reading.source,
                    caveat=_caveat("Capacity Block", day_of(at(one, "StartDate"))),
                )
            )


def sift_training_plans(offerings: Iterable[object], sift: Sift, reading: Reading) -> None:
    """
    Read the `TrainingPlanOfferings` of SageMaker's `SearchTrainingPlanOfferings`; each ends in `sift` exactly once.

    A plan of several parts has one fee for all of them, which cannot be told apart: it is left out.
    """
    for one in offerings:
        parts = entries(one, "ReservedCapacityOfferings")
        if "training-job" not in entries(one, "TargetResources"):
            sift.leave_out("a training plan that no training job can use")
            continue
        if len(parts) != 1:
            sift.leave_out("a training plan of several parts with one fee")
            continue
        instance_type = text(parts[0], "InstanceType")
        zone_name = text(parts[0], "AvailabilityZone")
        # The part's hours are what is bought; the plan's own DurationHours spans pauses between parts.
        hours = _hours(parts[0], "DurationHours", "DurationMinutes")
        fee = _hourly(text(one, "UpfrontFee"), hours, number(parts[0], "InstanceCount"))
        if text(parts[0], "ReservedCapacityType") == "UltraServer" or text(parts[0], "UltraServerType"):
            sift.leave_out("an UltraServer: it is not booked by the machine")
        elif fee is None or not instance_type.startswith("ml."):
            sift.set_aside("a training plan without its fee, hours or machines")
        elif zone_name and zone_name not in reading.zone_ids:
            sift.set_aside("a training plan of a zone without an id")
        elif sift.accepts_machine(reading.machines, instance_type.removeprefix("ml."), accelerated=True):
            sift.keep(
                PriceRow(
                    service="sagemaker",
                    instance_type=instance_type,
                    region=reading.region,
                    zone=reading.zone_ids.get(zone_name, ""),
                    purchase_option="capacity_block",
                    usd_per_hour=fee,
                    currency=text(one, "CurrencyCode"),
                    effective_on=reading.today,
                    sku=text(one, "TrainingPlanOfferingId"),
                    source=reading.source,
                    caveat=_caveat("training plan", day_of(at(parts[0], "StartTime"))),
                )
            )


def _hours(one: object, hours: str, minutes: str) -> Decimal | None:
    whole, part = number(one, hours), number(one, minutes)
    if part:
        return Decimal(str(part)) / 60
    return Decimal(str(whole)) if whole else None


def _hourly(fee: str, hours: Decimal | None, count: float | None) -> str | None:
    """Return what one machine costs an hour, decimal text in the fee's currency."""
    amount = decimal_of(fee)
    if amount is None or not hours or not count:
        return None
    with localcontext() as context:
        context.prec = 40
        return f"{(amount / hours / Decimal(str(count))).quantize(_DIGITS, rounding=ROUND_HALF_EVEN):f}"


def _caveat(what: str, begins: str) -> str:
    begins = f" of one that begins on {begins}" if begins else ""
    return f"{what}: the whole fee is paid at booking; the rate{begins}"
