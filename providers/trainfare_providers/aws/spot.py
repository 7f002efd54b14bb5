"""Spot: the newest price of each machine and availability zone, and how often AWS interrupts such machines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Final

from trainfare_core.clouds import INTERRUPTION_BANDS
from trainfare_providers.answer_values import amount_at, items_of, object_of, text_at, value_at
from trainfare_providers.aws.rows import SourceContext, machine_row
from trainfare_providers.source_rows import Refused, SourceRow

_ZONE_ID: Final = re.compile(r"[a-z0-9]{2,8}(-[a-z0-9]{2,8}){0,3}-(az|wlz-?)[0-9]{1,2}", re.ASCII)
_PRODUCT: Final = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)")


class Bands:
    """The Spot Advisor's share of capacity taken back within a month, by region and type."""

    __slots__ = ("_found",)

    def __init__(self, bands: Mapping[tuple[str, str], str]) -> None:
        self._found = dict(bands)

    def __len__(self) -> int:
        """Return how many machines and regions have one."""
        return len(self._found)

    def get(self, region: str, instance_type: str) -> str:
        """Return one of `INTERRUPTION_BANDS`, or an empty text where the Advisor does not list the machine."""
        return self._found.get((region, instance_type), "")


def read_bands(advisor: object) -> Bands:
    """
    Read the public `spot-advisor-data.json`: Linux, `r` is the index of the range 0..4.

    Where the labels of the ranges in the file are not the known ones in their order, no band is used.
    """
    labels = {amount_at(band, "index"): text_at(band, "label") for band in items_of(advisor, "ranges")}
    stated = tuple(labels.get(float(index), "") for index in range(len(INTERRUPTION_BANDS)))
    if stated != INTERRUPTION_BANDS:
        return Bands({})
    bands: dict[tuple[str, str], str] = {}
    for region, systems in (object_of(advisor, "spot_advisor") or {}).items():
        for instance_type, entry in (object_of(systems, "Linux") or {}).items():
            index = amount_at(entry, "r")
            if index is not None and index in range(len(INTERRUPTION_BANDS)):
                bands[region, instance_type] = INTERRUPTION_BANDS[int(index)]
    return Bands(bands)


def read_zone_ids(zones: Iterable[object]) -> dict[str, str]:
    """
    Read the `AvailabilityZones` of `DescribeAvailabilityZones`: name (us-east-1a) to id (use1-az4).

    A name means another zone in every account; the id means the same one everywhere.
    """
    zone_ids: dict[str, str] = {}
    for zone in zones:
        name, zone_id = text_at(zone, "ZoneName"), text_at(zone, "ZoneId")
        if name and _ZONE_ID.fullmatch(zone_id):
            zone_ids[name] = zone_id
    return zone_ids


def spot_rows(
    history: Iterable[object], bands: Bands, context: SourceContext
) -> Iterator[SourceRow | Refused]:
    """
    Yield a row, or why there is none, for each entry of a `SpotPriceHistory`.

    Of one machine and zone the newest price is kept. Two prices of the same moment are both kept: `prices.intake`
    quarantines them as ambiguous.
    """
    newest: dict[tuple[str, str], tuple[datetime, list[SourceRow]]] = {}
    older = Refused("an older spot price of the same zone")
    for entry in history:
        moment = _utc(value_at(entry, "Timestamp"))
        row = _parse_row(entry, moment, bands, context)
        if isinstance(row, Refused) or moment is None:
            yield row
            continue
        key = row.machine.instance_type, row.zone or ""
        when, rows = newest.get(key, (moment, []))
        if moment < when:
            yield older
        elif moment == when:
            newest[key] = (moment, [*rows, row])
        else:
            newest[key] = (moment, [row])
            yield from [older] * len(rows)
    for _, rows in newest.values():
        yield from rows


def _utc(moment: object) -> datetime | None:
    """Return a time in UTC; None where it is none, or so near the calendar's ends that a change of zone overflows."""
    if not isinstance(moment, datetime) or not 1900 < moment.year < 9000:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)


def _parse_row(
    entry: object, moment: datetime | None, bands: Bands, context: SourceContext
) -> SourceRow | Refused:
    instance_type = text_at(entry, "InstanceType")
    zone_name = text_at(entry, "AvailabilityZone")
    zone = text_at(entry, "AvailabilityZoneId") or context.zone_ids.get(zone_name, "")
    if text_at(entry, "ProductDescription") not in _PRODUCT:
        return Refused("not Linux")
    if moment is None:
        return Refused("a spot price without its moment", quarantined=True)
    if not _ZONE_ID.fullmatch(zone):
        return Refused("a spot price of a zone without an id", quarantined=True)
    return machine_row(
        context,
        instance_type,
        zone=zone,
        purchase_option="spot",
        usd_per_hour=text_at(entry, "SpotPrice"),
        currency="USD",  # DescribeSpotPriceHistory states none: it is in USD in every commercial region
        observed_on=f"{moment:%Y-%m-%d}",
        interruption_band=bands.get(context.region, instance_type),
    )
