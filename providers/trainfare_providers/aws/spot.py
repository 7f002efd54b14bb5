"""Spot: the newest price of each machine and availability zone, and how often AWS takes such machines back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Final

from trainfare_core.prices.intake import INTERRUPTION_BANDS
from trainfare_providers.aws.sift import PriceRow, Reading, Sift
from trainfare_providers.aws.wire import at, entries, named, number, text

__all__ = ["Bands", "read_bands", "read_zone_ids", "sift_spot"]

_ZONE_ID: Final = re.compile(r"[a-z0-9]{2,8}(-[a-z0-9]{2,8}){0,3}-(az|wlz-?)[0-9]{1,2}", re.ASCII)
_PRODUCT: Final = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")


class Bands:
    """The Spot Advisor's share of capacity taken back within a month, by region and type."""

    __slots__ = ("_found",)

    def __init__(self, found: Mapping[tuple[str, str], str]) -> None:
        self._found = dict(found)

    def __len__(self) -> int:
        """Return how many machines and regions have one."""
        return len(self._found)

    def get(self, region: str, instance_type: str) -> str:
        """Return one of `INTERRUPTION_BANDS`, or nothing where the Advisor does not list the machine."""
        return self._found.get((region, instance_type), "")


def read_bands(advisor: object) -> Bands:
    """
    Read the public `spot-advisor-data.json`: Linux, `r` is the index of the range 0..4.

    The ranges' labels in the file must be the known ones, in their order, else no band is believed.
    """
    labels = {number(one, "index"): text(one, "label") for one in entries(advisor, "ranges")}
    stated = tuple(labels.get(float(index), "") for index in range(len(INTERRUPTION_BANDS)))
    if stated != INTERRUPTION_BANDS:
        return Bands({})
    found: dict[tuple[str, str], str] = {}
    for region, systems in named(advisor, "spot_advisor"):
        for instance_type, entry in named(systems, "Linux"):
            index = number(entry, "r")
            if index is not None and index in range(len(INTERRUPTION_BANDS)):
                found[region, instance_type] = INTERRUPTION_BANDS[int(index)]
    return Bands(found)


def read_zone_ids(zones: Iterable[object]) -> dict[str, str]:
    """
    Read the `AvailabilityZones` of `DescribeAvailabilityZones`: name (us-east-1a) to id (use1-az4).

    A name means another zone in every account; the id means the same one everywhere.
    """
    found: dict[str, str] = {}
    for zone in zones:
        name, zone_id = text(zone, "ZoneName"), text(zone, "ZoneId")
        if name and _ZONE_ID.fullmatch(zone_id):
            found[name] = zone_id
    return found


def sift_spot(history: Iterable[object], bands: Bands, sift: Sift, reading: Reading) -> None:
    """
    Read a `SpotPriceHistory`; each entry ends in `sift` exactly once.

    Of one machine and zone the newest price is kept; two prices of one moment both are, for `price_intake` to
    quarantine as ambiguous.
    """
    newest: dict[tuple[str, str], tuple[datetime, list[PriceRow]]] = {}
    for entry in history:
        instance_type, moment = text(entry, "InstanceType"), at(entry, "Timestamp")
        zone = text(entry, "AvailabilityZoneId") or reading.zone_ids.get(text(entry, "AvailabilityZone"), "")
        if text(entry, "ProductDescription") not in _PRODUCT:
            sift.leave_out("not Linux")
        elif not isinstance(moment, datetime) or not 1900 < moment.year < 9000:
            sift.set_aside("a spot price without its moment")
        elif not _ZONE_ID.fullmatch(zone):
            sift.set_aside("a spot price of a zone without an id")
        elif sift.accepts_machine(reading.machines, instance_type, accelerated=False):
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).astimezone(
                timezone.utc
            )
            row = _row(entry, instance_type, zone, moment, bands, reading)
            _keep_newest(newest, row, moment, sift)
    for _, rows in newest.values():
        for row in rows:
            sift.keep(row)


def _row(
    entry: object, instance_type: str, zone: str, moment: datetime, bands: Bands, reading: Reading
) -> PriceRow:
    return PriceRow(
        service="ec2",
        instance_type=instance_type,
        region=reading.region,
        zone=zone,
        purchase_option="spot",
        usd_per_hour=text(entry, "SpotPrice"),
        currency="USD",  # DescribeSpotPriceHistory states none: it is in USD in every commercial region
        effective_on=f"{moment:%Y-%m-%d}",
        sku="",
        source=reading.source,
        interruption_band=bands.get(reading.region, instance_type),
    )


def _keep_newest(
    newest: dict[tuple[str, str], tuple[datetime, list[PriceRow]]],
    row: PriceRow,
    moment: datetime,
    sift: Sift,
) -> None:
    key = row.instance_type, row.zone
    when, rows = newest.get(key, (moment, []))
    if moment > when:
        sift.leave_out("an older spot price of the same zone", len(rows))
        newest[key] = (moment, [row])
    elif moment < when:
        sift.leave_out("an older spot price of the same zone")
    else:
        newest[key] = (moment, [*rows, row])
