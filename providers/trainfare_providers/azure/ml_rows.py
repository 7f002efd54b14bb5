"""Azure ML's rows: the sizes of a workspace at the price of the same virtual machine, with the quota."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from trainfare_providers.azure.meters import Meter, caveat_of, machines
from trainfare_providers.azure.workspace import Quota, Size, WorkspaceOffer, families, short_family
from trainfare_providers.machine_types import Machine
from trainfare_providers.source_rows import Refused, RowSink

# Purchase option, and tier of the estimate. LowPriority is billed as spot (`trainfare_providers.derived_rows`).
_TIERS: Final = (("on_demand", "Standard"), ("spot", "Spot"))

# How far a price may be from the workspace's own estimate: that is rounded to cents, and may be of another day. The
# share is a chosen value.
_CENT: Final = Decimal("0.01")
_PART: Final = Decimal("0.05")


def ml_rows(
    offer: WorkspaceOffer, meters: Sequence[Meter], *, source: str
) -> tuple[RowSink, tuple[str, ...]]:
    """
    Join a workspace's sizes with the meters of its region.

    Returns:
        the rows and counts, and notes. Rows read are the pairs of size and tier, and the sizes without one.
    """
    sink = RowSink("azure", "azure_ml")
    for _ in range(offer.unreadable):
        sink.refuse(Refused("size that cannot be read", quarantined=True))
    prices = _prices(offer.location, meters)
    quotas = families(offer.quotas)
    for size in offer.sizes:
        machine = sink.keep(_read_machine(size))
        if machine is None:
            continue
        for option, tier in _TIERS:
            if option == "on_demand" or size.low_priority_capable:
                meter = sink.keep(_check_meter(prices.get((machine.instance_type, option), []), size, tier))
                if meter is not None:
                    short = _short_of_quota(size, option, quotas.get(short_family(size.family)))
                    caveats = [text for text in (caveat_of(machine), short) if text]
                    sink.rows.append(meter.row(source, "; ".join(caveats) or None))
    return sink, _write_notes(offer, sink)


def _prices(location: str, meters: Sequence[Meter]) -> Mapping[tuple[str, str], list[Meter]]:
    meters_by_key: dict[tuple[str, str], list[Meter]] = {}
    for meter in meters:
        if meter.region == location:
            meters_by_key.setdefault((meter.machine.instance_type, meter.option), []).append(meter)
    return meters_by_key


def _read_machine(size: Size) -> Machine | Refused:
    if size.gpus == 0:
        return Refused("machine without an accelerator")
    if not any(kind.lower() == "amlcompute" for kind in size.compute_types):
        return Refused("size that no training cluster can have")
    machine = machines().get(size.name.lower())
    if machine is None:
        return Refused("size that is not in our table of machines to train on")
    # The service counts a fraction of an accelerator as one.
    if size.gpus != max(1.0, machine.accelerator_count):
        return Refused("number of GPUs is not what our table says", quarantined=True)
    if size.vcpus != machine.vcpus:
        return Refused("number of vCPUs is not what our table says", quarantined=True)
    return machine


def _check_meter(meters: Sequence[Meter], size: Size, tier: str) -> Meter | Refused:
    """Return the meter, or why it is refused: ambiguous, or far from the workspace's own estimate."""
    if not meters:
        return Refused(
            "no price of this virtual machine and tier in the workspace's region", quarantined=True
        )
    if len({meter.usd_per_hour for meter in meters}) > 1:
        return Refused("two different prices of the virtual machine", quarantined=True)
    meter = meters[0]
    estimate = size.estimates.get(("Linux", tier))
    if estimate is not None and abs(meter.usd_per_hour - estimate) > _CENT + _PART * estimate:
        return Refused("the workspace's own estimate says another price", quarantined=True)
    return meter


def _short_of_quota(size: Size, option: str, quota: Quota | None) -> str | None:
    """Return a caveat where the quota has no room for the machine; low priority has a quota of its own."""
    if quota is None or option == "spot" or quota.vcpus_allowed - quota.vcpus_used >= size.vcpus:
        return None
    used, allowed, needed = quota.vcpus_used, quota.vcpus_allowed, size.vcpus
    return (
        f"beyond this subscription's Azure ML quota: {used} of {allowed} vCPUs are used, it needs {needed:g}"
    )


def _write_notes(offer: WorkspaceOffer, sink: RowSink) -> tuple[str, ...]:
    short = sum("quota" in (row.caveat or "") for row in sink.rows)
    if not short:
        return ()
    return (f"Azure ML in {offer.location}: {short} of {len(sink.rows)} prices are beyond the quota",)
