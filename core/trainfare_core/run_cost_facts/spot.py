"""Spot machines: notice, how often they are taken back, and their price against on-demand."""

from __future__ import annotations

from typing import Final

from trainfare_core.clouds import INTERRUPTION_BANDS
from trainfare_core.run_cost_facts.answers import (
    Amount,
    InterruptionBand,
    RegionMatch,
    Span,
    Unknown,
)
from trainfare_core.run_cost_facts.facts import EVERYWHERE, Fact
from trainfare_core.run_cost_facts.spans import span
from trainfare_core.run_cost_facts.table import amount, choose, matching

__all__ = [
    "interruption_band",
    "spot_notice_s",
    "spot_preemption_share_per_day",
    "spot_price_floor_ratio",
    "spot_price_move_in_9_days",
    "spot_price_ratio",
    "spot_savings",
    "spot_zone_spread_ratio",
    "spot_zones_at_on_demand_price",
]

_NO_BANDS: Final = {
    "azure": "Azure shows eviction rates to accounts only",
    "gcp": "Google publishes no rate of a machine; spot_preemption_share_per_day has its range for all",
}
"""Why a cloud has no bands, where that is known."""


def spot_notice_s(cloud: str, service: str) -> Amount | Unknown:
    """
    Return the time between the notice and the loss of a spot machine.

    Args:
        cloud: as in the price book.
        service: as in the price book.

    Returns:
        Seconds.
    """
    rows = matching("spot_notice", cloud, service=service)
    return amount(rows, EVERYWHERE, f"the notice before {cloud} {service} takes a spot machine back")


def interruption_band(cloud: str, instance_type: str, region: str) -> InterruptionBand | Unknown:
    """
    Return how often spot machines of a type are taken back within a month.

    The region's own band is used before one that names no region. Where there is neither, the answer is the range of
    the other regions, with the region match `other_regions`.

    Args:
        cloud: as in the price book.
        instance_type: machine type of EC2. Pools of SageMaker (`ml.`) are not in AWS's list.
        region: the cloud's own name.

    Returns:
        The band or the range of bands; `Unknown` where no region has one for this type.

    Example:
        >>> band = interruption_band("aws", "p4d.24xlarge", "us-east-1")
        >>> band.lowest, band.highest, band.region_match, band.as_of
        ('10-15%', '10-15%', 'exact', '2025-06')
    """
    rows = matching("spot_interruption_band", cloud, machine=instance_type)
    if not rows:
        why = _NO_BANDS.get(cloud, f"no region of {cloud} has one")
        return Unknown(f"the interruption band of {instance_type} is not known: {why}")
    chosen = choose(rows, region, f"the interruption band of {instance_type}")
    if not isinstance(chosen, Unknown):
        return _band((chosen.row,), chosen.region_match, chosen.unused)
    if any(row.region in (region, EVERYWHERE) for row in rows):
        return chosen
    return _band(rows, "other_regions", ())


def spot_savings(cloud: str, instance_type: str, region: str) -> Amount | Unknown:
    """
    Return how far the spot price was below on-demand, as a mean of 30 days.

    Args:
        cloud: as in the price book.
        instance_type: machine type.
        region: the cloud's own name.

    Returns:
        The saved share of the on-demand price; below 0 where spot cost more.
    """
    rows = matching("spot_savings", cloud, machine=instance_type)
    return amount(rows, region, f"the spot saving of {instance_type}")


def spot_preemption_share_per_day(cloud: str, service: str) -> Span | Unknown:
    """
    Return the share of a project's spot machines that are taken back in a day, of all types together.

    Args:
        cloud: as in the price book.
        service: as in the price book.

    Returns:
        The usual range of the share.
    """
    rows = [
        row
        for end in ("low", "high")
        for row in matching("spot_preemption", cloud, service=service, item=end)
    ]
    return span(rows, f"the daily share of lost spot machines of {cloud} {service}")


def spot_price_ratio(cloud: str, instance_type: str, region: str) -> Amount | Unknown:
    """
    Return the spot price of a machine over its on-demand price.

    Args:
        cloud: as in the price book.
        instance_type: machine type.
        region: the cloud's own name.

    Returns:
        The ratio of the machine in the region, or else the median over all zones of its family (`g5` of g5.xlarge),
        which is a row of the kind `spot_price_ratio_median` for every region.
    """
    own = amount(
        matching("spot_price_ratio", cloud, machine=instance_type),
        region,
        f"the spot price ratio of {instance_type}",
    )
    if isinstance(own, Unknown):
        median = _of_family("spot_price_ratio_median", cloud, instance_type, "the median spot price ratio")
        return own if isinstance(median, Unknown) else median
    return own


def spot_zones_at_on_demand_price(cloud: str, instance_type: str) -> Amount | Unknown:
    """
    Return the share of zones where spot of a family costs as much as on-demand: those without spare capacity.

    Args:
        cloud: as in the price book.
        instance_type: a machine type of the family, or the family.

    Returns:
        The share of the zones' prices.
    """
    return _of_family(
        "spot_zones_at_on_demand_price", cloud, instance_type, "the share of zones at on-demand"
    )


def spot_zone_spread_ratio(cloud: str, instance_type: str) -> Amount | Unknown:
    """
    Return how far the spot prices of a region's zones are apart: highest over lowest, the median of the regions.

    Args:
        cloud: as in the price book.
        instance_type: a machine type of the family, or the family.

    Returns:
        The ratio.
    """
    return _of_family("spot_zone_spread_median", cloud, instance_type, "the spread of spot prices")


def spot_price_floor_ratio(cloud: str) -> Amount | Unknown:
    """
    Return the lowest spot price over on-demand that was seen.

    Args:
        cloud: as in the price book.

    Returns:
        The ratio.
    """
    return amount(matching("spot_price_floor", cloud), EVERYWHERE, f"the lowest spot price of {cloud}")


def spot_price_move_in_9_days(cloud: str, accelerator: str) -> Amount | Unknown:
    """
    Return how far the median price of a marketplace moved within nine days.

    Args:
        cloud: as in the price book.
        accelerator: as the table names it (H100-SXM).

    Returns:
        The share of the first price.
    """
    rows = matching("spot_price_move_9_days", cloud, machine=accelerator)
    return amount(rows, EVERYWHERE, f"the price move of {accelerator} on {cloud}")


def _of_family(kind: str, cloud: str, instance_type: str, what: str) -> Amount | Unknown:
    family = instance_type.partition(".")[0]
    return amount(matching(kind, cloud, machine=family), EVERYWHERE, f"{what} of {cloud}'s {family}")


def _band(rows: tuple[Fact, ...], match: RegionMatch, unused: tuple[Fact, ...]) -> InterruptionBand:
    places = sorted(INTERRUPTION_BANDS.index(row.words) for row in rows)
    return InterruptionBand(
        lowest=INTERRUPTION_BANDS[places[0]],
        highest=INTERRUPTION_BANDS[places[-1]],
        unit="band",
        region_match=match,
        rows=rows,
        unused=unused,
    )
