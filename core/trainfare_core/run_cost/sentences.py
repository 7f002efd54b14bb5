"""The assumptions behind the hours and dollars of a run, in sentences."""

from __future__ import annotations

from typing import Final

from trainfare_core.clouds import CLOUDS, SERVICES
from trainfare_core.interruptions.hazard import HAZARDS, PRIOR, hazard_of_band
from trainfare_core.job_profile import JobProfile
from trainfare_core.limits.cost_assumptions import COMPILE_S, TORCH_COMPILE_S, CostAssumptions
from trainfare_core.number_format import percent
from trainfare_core.run_cost.billing import BillingClock
from trainfare_core.run_cost.disks import PLANNED_USD_PER_GIB_MONTH, system_disk_gib
from trainfare_core.run_cost.interrupted import SPOT_WAIT_S
from trainfare_core.run_cost.model import describe_trained_model
from trainfare_core.run_cost.timing import UNKNOWN_LENGTH_STEPS, forward_share, get_measured_validation
from trainfare_core.run_cost_facts.table import group

_GIB: Final = 2.0**30


def cost_assumptions(
    profile: JobProfile, assumed: CostAssumptions | None = None, data_gb: float | None = None
) -> tuple[str, ...]:
    """Return the assumptions behind the hours and dollars of a run, in sentences; equal profiles give equal text."""
    assumed = assumed or CostAssumptions()
    startup = ", ".join(f"{name} {assumed.startup_of(name) / 60:g}" for name in SERVICES)
    torch_compile = f", torch.compile {TORCH_COMPILE_S / 60:g}" if profile.source.compiled else ""
    prior, worst = HAZARDS[PRIOR], HAZARDS[hazard_of_band(">20%")]
    bands_of = min(fact.as_of for cloud in CLOUDS for fact in group("spot_interruption_band", cloud))
    plan = profile.plan
    precision_note = (
        f" (in {profile.precision}; in another precision that one's)" if profile.precisions else ""
    )
    lines = [
        (
            f"start-up before the first step, billed, in minutes: {startup}, "
            f"others {assumed.startup_of('') / 60:g}; then compilation: XLA {COMPILE_S['tpu'] / 60:g}, "
            f"Neuron {COMPILE_S['trainium'] / 60:g}{torch_compile}"
        ),
        (
            f"a checkpoint of {_bytes_text(plan.checkpoint_bytes)}{precision_note} is written and read at "
            f"{assumed.disk_bytes_per_s / 1e6:g} MB/s while training waits; {assumed.checkpoints_kept} are kept "
            "on disk for as long as the run lasts"
        ),
        _disk_assumption(assumed),
        (
            "spot machines are taken back as often as AWS's band of the machine and region says, where it has one "
            f"(>20% a month: {worst.low_per_hour:.1g} to {worst.high_per_hour:.1g} times per machine and hour, because "
            "no cloud says how long its machines had run; a band that did not come with the price is of "
            f"{bands_of} or later, and one band wider to either side for each year since), "
            f"else {prior.low_per_hour:g} to {prior.high_per_hour:g} "
            "times (a planning figure); one loss stops all machines, repeats what was not saved, waits "
            f"{SPOT_WAIT_S / 60:g} minutes for capacity on average and starts again"
        ),
        _data_assumption(profile, assumed, data_gb),
        _billing_assumption(assumed),
        (
            "not counted: taxes, discounts that no file of own prices names, time in a queue; free capacity is not "
            "checked, quotas only where --quota states them"
        ),
    ]
    if plan.validation_batches:
        how = (
            "the measured validation batch, scaled as the training step is"
            if get_measured_validation(profile) is not None
            else f"the forward part of the step ({percent(forward_share(profile))} by the trace)"
        )
        lines.append(f"validation costs {how}, shared by all devices")
    if plan.optimizer_steps is None:
        lines.append(
            f"the length of the run is not known ({plan.unknown_because}): hours and dollars are for "
            f"{UNKNOWN_LENGTH_STEPS:,} optimizer steps, without start-up and validation"
        )
    return tuple(lines)


def _bytes_text(size: int) -> str:
    """Return a size in the unit that suits it."""
    unit, name = next(
        (u, n)
        for u, n in ((_GIB, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "bytes"))
        if size >= u or u == 1.0
    )
    return f"{size / unit:.3g} {name}"


def _disk_assumption(assumed: CostAssumptions) -> str:
    price = assumed.disk_usd_per_gib_month
    usd = (
        f"the published price of the region's general-purpose SSD, else {PLANNED_USD_PER_GIB_MONTH:g} USD (a planning "
        "figure)"
        if price is None
        else f"{price:g} USD"
    )
    sizes = {
        service.label: system_disk_gib(assumed, cloud.name, service.name).value
        for cloud in CLOUDS.values()
        for service in cloud.services
    }
    texts = [f"{name} {'not known' if size is None else f'{size:g}'}" for name, size in sizes.items()]
    if assumed.system_disk_gib is None:
        texts += [
            f"{service.label} {service.system_disk_gib:g} for a machine without local disks"
            for service in SERVICES.values()
            if service.own_disk_because
        ]
    return (
        f"disks cost {usd} per GiB and month; a system disk is billed beside each machine, in GiB: "
        + ", ".join(texts)
    )


def _billing_assumption(assumed: CostAssumptions) -> str:
    clocks = {
        service.label: BillingClock.of(assumed, cloud.name, service.name)
        for cloud in CLOUDS.values()
        for service in cloud.services
    }
    texts = [
        f"{name} not known"
        if clock.step_s.value is None and clock.minimum_s.value is None
        else f"{name} {clock.step_s.or_zero:g} and {clock.minimum_s.or_zero:g}"
        for name, clock in clocks.items()
    ]
    return (
        "billed time is rounded up to the billing step of the service, and each start of a machine to its least billed "
        f"time; both in seconds: {', '.join(texts)}; where none is published nothing is added. A managed service costs "
        "its own price an hour (SageMaker) or that of its machine (Azure ML)"
    )


def _data_assumption(profile: JobProfile, assumed: CostAssumptions, data_gb: float | None) -> str:
    if data_gb is None:
        return (
            "the data are on the machine or read as fast as it trains, and what is stored elsewhere is not counted: "
            "--data-in and --data-gb count their copy, transfer and object storage, and the way of the trained model"
        )
    model = "" if profile.plan.optimizer_steps is None else f" ({describe_trained_model(profile)})"
    return (
        f"each machine copies {data_gb:g} GB to its disk before the first step, at {assumed.stage_gb_per_s:g} GB/s, "
        "which is billed; they are sent to its region once, lie in object storage where --data-in says while the run "
        f"lasts, with a copy in the run's region, and the trained model is sent there once{model}"
    )
