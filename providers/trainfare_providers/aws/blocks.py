"""
Capacity booked ahead: EC2 Capacity Blocks and SageMaker training plans.

Neither has an hourly price: the fee of a whole block, paid at booking, is divided by its hours and machines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Final

from trainfare_providers.answer_values import amount_at, day_of, items_of, text_at, value_at
from trainfare_providers.aws.rows import SourceContext, machine_row
from trainfare_providers.source_rows import Refused, SourceRow

_SIX_DECIMALS: Final = Decimal("0.000001")
"""AWS states its own hourly prices with 6 to 10 decimals; a millionth of a dollar an hour changes no ranking."""

_FEE: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_ULTRASERVER: Final = Refused("an UltraServer: it is not booked by the machine")

_TIME_BEFORE_END: Final = 60
"""Minutes by which start and end may differ from the length that is paid: EC2 ends machines 30 minutes before the end
of a block, UltraServers 60 (EC2 User Guide, "How Capacity Blocks work"), and an answer may state either end."""


def offer_rows(
    offers: Iterable[object],
    row_of: Callable[[object, SourceContext], SourceRow | Refused],
    context: SourceContext,
) -> Iterator[SourceRow | Refused]:
    """
    Yield one row for each machine and zone of an answer, and why the other offers have none.

    Offers whose rates differ by no more than the rounding of their fees have one price, that of the largest fee. Of
    others, which differ by length and start, the highest rate is the price: no booking costs more than is said.

    Args:
        offers: the items of the answer.
        row_of: `capacity_block_row` or `training_plan_row`, which reads one.
        context: where the answer is from.
    """
    rows_by_key: dict[tuple[str, str | None, str], list[tuple[Decimal, SourceRow]]] = {}
    for offer in offers:
        row = row_of(offer, context)
        if isinstance(row, Refused):
            yield row
        else:
            key = (row.machine.instance_type, row.zone, row.currency)
            rows_by_key.setdefault(key, []).append((Decimal(text_at(offer, "UpfrontFee")), row))
    for rows in rows_by_key.values():
        yield _choose_row(rows)
        yield from [Refused("another offer of the same machine and zone")] * (len(rows) - 1)


def _choose_row(rows: list[tuple[Decimal, SourceRow]]) -> SourceRow:
    """Return the row of the offers of one machine and zone, each with its fee: 283 may be 282.5 to 283.5."""
    by_rate = sorted(rows, key=lambda row: Decimal(row[1].usd_per_hour))
    ranges: list[tuple[Decimal, Decimal]] = []
    for fee, row in by_rate:
        digits = max(int(fee.as_tuple().exponent), -2)  # a fee with more of them is one in cents
        rate, share = Decimal(row.usd_per_hour), Decimal(1).scaleb(digits) / 2 / fee
        ranges.append((rate * (1 - share), rate * (1 + share)))
    if max(low for low, _ in ranges) <= min(high for _, high in ranges):
        return max(rows, key=lambda row: row[0])[1]
    cheapest, highest = by_rate[0][1], by_rate[-1][1]
    others = (
        f"the highest rate of {len(rows)} offers, from {cheapest.usd_per_hour} {cheapest.currency} an hour"
    )
    return replace(highest, caveat=f"{highest.caveat}; {others}")


def capacity_block_row(offering: object, context: SourceContext) -> SourceRow | Refused:
    """
    Return the row of one of the `CapacityBlockOfferings` of `DescribeCapacityBlockOfferings`.

    An offering holds for bookings made now, so its price is of today.
    """
    zone = context.zone_ids.get(text_at(offering, "AvailabilityZone"), "")
    if text_at(offering, "UltraserverType"):
        return _ULTRASERVER
    if len(items_of(offering, "CapacityBlockOfferingSegments")) > 1:
        return Refused("a Capacity Block of several segments with one fee", quarantined=True)
    if text_at(offering, "Tenancy") not in ("", "default"):
        return Refused("dedicated tenancy or a dedicated host")
    if not zone:
        return Refused("a Capacity Block of a zone without an id", quarantined=True)
    usd_per_hour = _divide_fee(offering, offering, "a Capacity Block", "CapacityBlockDuration", "Date")
    if isinstance(usd_per_hour, Refused):
        return usd_per_hour
    return machine_row(
        context,
        text_at(offering, "InstanceType"),
        accelerated=True,
        zone=zone,
        purchase_option="capacity_block",
        usd_per_hour=usd_per_hour,
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
    if text_at(part, "ReservedCapacityType") == "UltraServer" or text_at(part, "UltraServerType"):
        return _ULTRASERVER
    # The part's hours are what is bought; the plan's own DurationHours spans pauses between parts.
    usd_per_hour = _divide_fee(offering, part, "a training plan", "Duration", "Time")
    if isinstance(usd_per_hour, Refused):
        return usd_per_hour
    if not instance_type.startswith("ml."):
        return Refused("a training plan of a machine that is not SageMaker's", quarantined=True)
    if zone_name and zone_name not in context.zone_ids:
        return Refused("a training plan of a zone without an id", quarantined=True)
    return machine_row(
        context,
        instance_type,
        accelerated=True,
        zone=context.zone_ids.get(zone_name, ""),
        purchase_option="capacity_block",
        usd_per_hour=usd_per_hour,
        currency=text_at(offering, "CurrencyCode"),
        observed_on=context.today,
        sku=text_at(offering, "TrainingPlanOfferingId"),
        caveat=_caveat("training plan", day_of(value_at(part, "StartTime"))),
    )


def _divide_fee(offering: object, part: object, what: str, duration: str, moment: str) -> str | Refused:
    """
    Return the price of one machine an hour, decimal text in the fee's currency, or why there is none.

    The minutes are those beyond the whole hours, 0 to 59 (EC2 API Reference, CapacityBlockOffering; SageMaker API
    Reference, ReservedCapacityOffering). A sample of AWS has 168 hours and 10,080 minutes, the same length twice.
    Names of hours and minutes begin with `duration`, those of start and end end with `moment`.
    """
    hours, minutes = amount_at(part, f"{duration}Hours") or 0, amount_at(part, f"{duration}Minutes") or 0
    start, end = value_at(part, f"Start{moment}"), value_at(part, f"End{moment}")
    length = minutes if minutes >= 60 else 60 * hours + minutes
    agree = minutes < 60 or minutes == 60 * hours
    if minutes != 60 * hours and isinstance(start, datetime) and isinstance(end, datetime):
        agree = abs((end - start).total_seconds() / 60 - length) <= _TIME_BEFORE_END
    fee, machines = text_at(offering, "UpfrontFee"), amount_at(part, "InstanceCount")
    if not _FEE.fullmatch(fee) or not Decimal(fee) or not length or not machines:
        return Refused(f"{what} without its fee, hours or machines", quarantined=True)
    if not agree:
        return Refused(f"{what} whose hours, minutes, start and end disagree", quarantined=True)
    with localcontext() as context:
        context.prec = 40  # the fee's 30 digits divided by minutes and machines, rounded once below
        usd = Decimal(fee) * 60 / Decimal(str(length)) / Decimal(str(machines))
        return f"{usd.quantize(_SIX_DECIMALS, rounding=ROUND_HALF_EVEN):f}"


def _caveat(what: str, begins: str | None) -> str:
    start = f" of one that begins on {begins}" if begins else ""
    return f"{what}: the whole fee is paid at booking; the rate{start}"
