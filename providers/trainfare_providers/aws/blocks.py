"""
Capacity booked ahead: EC2 Capacity Blocks and SageMaker training plans.

Neither has an hourly price: the fee of a whole block, paid at booking, is divided by its hours and machines.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Final

from trainfare_providers.answer_values import amount_at, day_of, items_of, text_at, value_at
from trainfare_providers.aws.rows import SourceContext, machine_row
from trainfare_providers.source_rows import Refused, SourceRow

_SIX_DECIMALS: Final = Decimal("0.000001")
"""AWS states its own hourly prices with 6 to 10 decimals; a millionth of a dollar an hour changes no ranking."""

_FEE: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_ULTRASERVER: Final = Refused("an UltraServer: it is not booked by the machine")


def capacity_block_row(offering: object, context: SourceContext) -> SourceRow | Refused:
    """
    Return the row of one of the `CapacityBlockOfferings` of `DescribeCapacityBlockOfferings`.

    An offering holds for bookings made now, so its price is of today.
    """
    hours = _hours(offering, "CapacityBlockDurationHours", "CapacityBlockDurationMinutes")
    fee = _usd_per_hour(text_at(offering, "UpfrontFee"), hours, amount_at(offering, "InstanceCount"))
    zone = context.zone_ids.get(text_at(offering, "AvailabilityZone"), "")
    if text_at(offering, "UltraserverType"):
        return _ULTRASERVER
    if text_at(offering, "Tenancy") not in ("", "default"):
        return Refused("dedicated tenancy or a dedicated host")
    if not zone:
        return Refused("a Capacity Block of a zone without an id", quarantined=True)
    if fee is None:
        return Refused("a Capacity Block without its fee, hours or machines", quarantined=True)
    return machine_row(
        context,
        text_at(offering, "InstanceType"),
        accelerated=True,
        zone=zone,
        purchase_option="capacity_block",
        usd_per_hour=fee,
        currency=text_at(offering, "CurrencyCode"),
        observed_on=context.today,
        sku=text_at(offering, "CapacityBlockOfferingId"),
        caveat=_caveat("Capacity Block", day_of(value_at(offering, "StartDate"))),
    )


def training_plan_row(offering: object, context: SourceContext) -> SourceRow | Refused:
    """
    Return the row of one of the `TrainingPlanOfferings` of SageMaker's `SearchTrainingPlanOfferings`.

    A plan of several parts has one fee for all of them, which cannot be divided among them: it is left out.
    """
    parts = items_of(offering, "ReservedCapacityOfferings")
    if "training-job" not in items_of(offering, "TargetResources"):
        return Refused("a training plan that no training job can use")
    if len(parts) != 1:
        return Refused("a training plan of several parts with one fee")
    part = parts[0]
    instance_type, zone_name = text_at(part, "InstanceType"), text_at(part, "AvailabilityZone")
    # The part's hours are what is bought; the plan's own DurationHours spans pauses between parts.
    hours = _hours(part, "DurationHours", "DurationMinutes")
    fee = _usd_per_hour(text_at(offering, "UpfrontFee"), hours, amount_at(part, "InstanceCount"))
    if text_at(part, "ReservedCapacityType") == "UltraServer" or text_at(part, "UltraServerType"):
        return _ULTRASERVER
    if fee is None or not instance_type.startswith("ml."):
        return Refused("a training plan without its fee, hours or machines", quarantined=True)
    if zone_name and zone_name not in context.zone_ids:
        return Refused("a training plan of a zone without an id", quarantined=True)
    return machine_row(
        context,
        instance_type,
        accelerated=True,
        zone=context.zone_ids.get(zone_name, ""),
        purchase_option="capacity_block",
        usd_per_hour=fee,
        currency=text_at(offering, "CurrencyCode"),
        observed_on=context.today,
        sku=text_at(offering, "TrainingPlanOfferingId"),
        caveat=_caveat("training plan", day_of(value_at(part, "StartTime"))),
    )


def _hours(offering: object, hours_key: str, minutes_key: str) -> Decimal | None:
    hours, minutes = amount_at(offering, hours_key), amount_at(offering, minutes_key)
    if minutes:
        return Decimal(str(minutes)) / 60
    return Decimal(str(hours)) if hours else None


def _usd_per_hour(fee: str, hours: Decimal | None, machines: float | None) -> str | None:
    """Return the price of one machine an hour, decimal text in the fee's currency; None where a part is missing."""
    if not _FEE.fullmatch(fee) or not hours or not machines:
        return None
    with localcontext() as context:
        context.prec = 40  # the fee's 30 digits divided by hours and machines, rounded once below
        usd = Decimal(fee) / hours / Decimal(str(machines))
        return f"{usd.quantize(_SIX_DECIMALS, rounding=ROUND_HALF_EVEN):f}"


def _caveat(what: str, begins: str | None) -> str:
    start = f" of one that begins on {begins}" if begins else ""
    return f"{what}: the whole fee is paid at booking; the rate{start}"
