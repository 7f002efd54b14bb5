"""The figures assumed for the answer's run, each with its source and its part of the cost (part of stage 6)."""

from __future__ import annotations

import numpy as np

from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.job_profile import JobProfile
from trainfare_core.limits.cost_assumptions import CostAssumptions
from trainfare_core.ranking.pricing.data_costs import ObjectStorage, price_model, price_way_of_data
from trainfare_core.recommendation import AssumedNumber, Constraints, Option
from trainfare_core.run_cost.billing import BillingClock
from trainfare_core.run_cost.disks import disk_gib, disk_usd_per_gib_month, system_disk_gib
from trainfare_core.run_cost.model import compute_trained_model_gb
from trainfare_core.variants import convert_saved_state

_S_PER_HOUR = 3600.0


def list_assumed_numbers(
    profile: JobProfile, constraints: Constraints, option: Option
) -> tuple[AssumedNumber, ...]:
    """
    Return the figures of `CostAssumptions` that the cost of an option rests on, as they hold for it.

    Args:
        profile: the job.
        constraints: what is stated of them, and the data.
        option: the answer.
    """
    assumed, parts = constraints.run_cost, option.cost_parts
    if option.trainer is not None:
        profile = convert_saved_state(profile, option.trainer.precision)
    device = resolve_device(option.accelerator)
    compile_s = assumed.compile_of(None if device is None else device.kind, compiled=profile.source.compiled)
    compile_usd = min(parts.startup_usd, compile_s / _S_PER_HOUR * option.usd_per_hour)
    gb = constraints.data_gb or 0.0
    same_cloud = (constraints.data_in or "").startswith(f"{option.provider}:")
    transfer = "inter_region_usd_per_gb" if same_cloud else "egress_usd_per_gb"
    clock = BillingClock.of(assumed, option.provider, option.service)
    minimum_s = clock.minimum_s.or_zero
    least = minimum_s > 0 and option.run_hours.mid * _S_PER_HOUR < minimum_s
    system_gib = system_disk_gib(assumed, option.provider, option.service, option.instance_type)
    disk_usd = disk_usd_per_gib_month(
        assumed, option.provider, option.service, option.region, option.instance_type
    )
    sources = {
        "billing_step_s": clock.step_s,
        "billing_minimum_s": clock.minimum_s,
        "disk_usd_per_gib_month": disk_usd,
        "system_disk_gib": system_gib,
    }
    if parts.transfer_usd > 0:
        sources[transfer] = price_way_of_data(constraints, option.provider, option.region)
    stored = ObjectStorage.of(profile, constraints)
    if gb or assumed.storage_months:
        sources["object_storage_usd_per_gb_month"] = stored.usd_per_gb_month
    if assumed.data_objects:
        sources["read_request_usd"] = stored.usd_per_read
    model_gb = compute_trained_model_gb(profile)
    if model_gb and (constraints.data_in is not None or assumed.model_downloads):
        sources["model_usd_per_gb"] = price_model(profile, constraints, option.provider, option.region)
    reads_usd = option.nodes * stored.read_usd
    months = stored.kept_usd if assumed.storage_months else 0.0
    nodes = np.array([option.nodes])
    all_gib, without_gib = (
        float(
            disk_gib(np.array([float(profile.plan.checkpoint_bytes)]), assumed, nodes, np.array([gib]), gb)[0]
        )
        for gib in (system_gib.or_zero, 0.0)
    )
    system_usd = parts.storage_usd * (1 - without_gib / all_gib) if all_gib > 0 else 0.0
    amounts = [
        ("startup_s", assumed.startup_of(option.service), parts.startup_usd - compile_usd),
        ("compile_s", compile_s, compile_usd),
        ("stage_gb_per_s", assumed.stage_gb_per_s, parts.staging_usd),
        ("disk_gb_per_s", assumed.disk_gb_per_s, parts.checkpoint_usd),
        ("disk_usd_per_gib_month", disk_usd.value, parts.storage_usd - system_usd),
        ("system_disk_gib", system_gib.value, system_usd),
        (
            "object_storage_usd_per_gb_month",
            stored.usd_per_gb_month.value,
            parts.object_storage_usd - months - reads_usd,
        ),
        ("storage_months", assumed.storage_months, months),
        ("read_request_usd", stored.usd_per_read.value, reads_usd),
        ("model_usd_per_gb", parts.model_usd / model_gb if model_gb else 0.0, parts.model_usd),
        ("billing_step_s", clock.step_s.value, 0.0 if least else parts.rounding_usd),
        ("billing_minimum_s", clock.minimum_s.value, parts.rounding_usd if least else 0.0),
        (transfer, parts.transfer_usd / gb if gb else 0.0, parts.transfer_usd),
    ]
    total_usd = option.run_usd.mid
    return tuple(
        AssumedNumber(
            name=name,
            value=value,
            source=sources[name].source if name in sources else None,
            meaning=CostAssumptions.model_fields[name].description or "",
            stated=name in assumed.model_fields_set,
            run_usd=max(0.0, usd),
            share=max(0.0, usd) / total_usd if total_usd > 0 else 0.0,
        )
        for name, value, usd in amounts
        if usd > 0 or name in assumed.model_fields_set or name in sources
    )
