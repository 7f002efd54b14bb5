"""How often spot machines are taken back."""

from __future__ import annotations

from trainfare_core.clouds import CLOUDS, INTERRUPTION_BANDS
from trainfare_core.run_cost_facts.answers import InterruptionBand, RegionMatch, Unknown
from trainfare_core.run_cost_facts.facts import EVERYWHERE, Fact
from trainfare_core.run_cost_facts.kinds import KINDS
from trainfare_core.run_cost_facts.table import choose, matching


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
    what = KINDS["spot_interruption_band"].subject.format(machine=instance_type)
    if not rows:
        why = CLOUDS[cloud].no_bands_because if cloud in CLOUDS else ""
        why = why or f"no region of {cloud} has one"
        return Unknown(f"{what} is not known: {why}")
    chosen = choose(rows, region, what)
    if not isinstance(chosen, Unknown):
        return _band((chosen.row,), chosen.region_match, chosen.unused)
    if any(row.region in (region, EVERYWHERE) for row in rows):
        return chosen
    return _band(rows, "other_regions", ())


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
