"""What differs between base and head, in words: the details of the causes of a `CostChange`."""

from __future__ import annotations

from typing import Final

from trainfare_core.changes.change_factors import Factor, MixedProfiles, follows_devices, sample_flops
from trainfare_core.changes.cost_change import CauseName, FlopsChange
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import percent
from trainfare_core.recommendation import Option

LISTED: Final = 3
"""Kinds of operations to list: what fits on a line. A chosen value."""

_GIB: Final = 2.0**30


def factor_text(factor: Factor, cause: CauseName, mixed: MixedProfiles, before: Option, after: Option) -> str:
    """
    Say what differs in one factor.

    Args:
        factor: the factor.
        cause: the cause that its part is counted in.
        mixed: base and head.
        before: best option without the change of this factor.
        after: best option with it.
    """
    base, head = mixed.base, mixed.head
    if factor == "prices":
        return f"{_price(before)} -> {_price(after)}"
    if factor == "memory_fit":
        return _describe_memory(cause, before, after)
    if factor == "devices":
        return _describe_devices(base, head, before, after)
    texts: dict[Factor, str] = {
        "steps": _describe_steps(base.plan.optimizer_steps, head.plan.optimizer_steps),
        "global_batch": _format_numbers(
            base.global_samples_per_step, head.global_samples_per_step, "samples per step"
        ),
        "strategy": f"{_layout(base)} -> {_layout(head)}",
        "precision": f"{base.precision} -> {head.precision}",
        "model": _model(base, head),
        "validation": _format_numbers(
            base.plan.validation_batches * base.parallel.data_parallel_size,
            head.plan.validation_batches * head.parallel.data_parallel_size,
            "validation batches in the whole run",
        ),
        "checkpoints": f"{_saves(base)} -> {_saves(head)}",
        "compilation": f"torch.compile {_switch(base)} -> {_switch(head)}",
        "trace": "the traces differ in details that change neither FLOPs, bytes nor parameters of a sample",
        "base_measurement": f"the base's step was {_describe_measurement(base)}, which corrects its prediction",
        "head_measurement": f"the head's step was {_describe_measurement(head)}, which corrects its prediction",
    }
    return texts[factor]


def flops_changes(base: JobProfile, head: JobProfile) -> tuple[FlopsChange, ...]:
    """Return the kinds of operations whose FLOPs changed most, largest change first."""
    before, after = sample_flops(base), sample_flops(head)
    changes = [
        FlopsChange(
            part=f"{key[0]} {key[1]}",
            base_flops=before.get(key, 0.0),
            head_flops=after.get(key, 0.0),
        )
        for key in sorted(before.keys() | after.keys())
    ]
    changed = [change for change in changes if change.base_flops != change.head_flops]
    changed.sort(key=lambda change: -abs(change.head_flops - change.base_flops))
    return tuple(changed[:LISTED])


def _format_numbers(base: int | None, head: int | None, unit: str) -> str:
    texts = ("unknown" if value is None else f"{value:,}" for value in (base, head))
    return f"{' -> '.join(texts)} {unit}"


def _describe_steps(base: int | None, head: int | None) -> str:
    if base == head:
        return f"the same {base:,} optimizer steps, and others on other numbers of devices"
    return _format_numbers(base, head, "optimizer steps")


def _price(option: Option) -> str:
    return f"{option.usd_per_hour:,.4g} USD per hour ({_describe_machine(option)})"


def _describe_machine(option: Option) -> str:
    return f"{option.nodes} x {option.machine}" if option.nodes > 1 else option.machine


def _describe_devices(base: JobProfile, head: JobProfile, before: Option, after: Option) -> str:
    """Say what the script asks for, and what it does to the batch there, e.g. 'devices: 1 -> auto, ...'."""
    scaled = after if follows_devices(head) else before
    used = scaled.nodes * (scaled.trainer.devices if scaled.trainer else round(scaled.accelerator_count))
    batches = _format_numbers(before.global_batch_size, after.global_batch_size, "").rstrip()
    return (
        f"devices: {_name_devices(base)} -> {_name_devices(head)}, global batch {batches} on {used} devices"
    )


def _name_devices(profile: JobProfile) -> str:
    """Return the devices that a script asks for: a number, or as its loop says that it takes what there is."""
    if follows_devices(profile):
        return "as launched" if profile.source.loop else "auto"
    nodes = profile.parallel.num_nodes
    return f"{profile.parallel.devices}{f' x {nodes}' if nodes > 1 else ''}"


def _describe_memory(cause: CauseName, before: Option, after: Option) -> str:
    peak = f"peak of a device {before.memory_gib.mid:.3g} -> {after.memory_gib.mid:.3g} GiB"
    if cause == "memory_fit":
        return f"{_describe_machine(before)} -> {_describe_machine(after)}, {peak}"
    return f"{_plan(before)} -> {_plan(after)} on {_describe_machine(after)}, {peak}"


def _plan(option: Option) -> str:
    split = option.model_split
    sharding: str = "one device" if option.sharding == "none" else option.sharding
    if split is not None:
        degrees = f"tensor {split.tensor} x pipeline {split.pipeline} x context {split.context}"
        sharding = f"{degrees} on {split.replicas} replicas"
    return f"{sharding}, micro-batch {option.micro_batch_size} x {option.accumulate_grad_batches}"


def _layout(profile: JobProfile) -> str:
    parallel = profile.parallel
    return (
        f"{parallel.strategy} on {parallel.devices} x {parallel.num_nodes} devices, "
        f"micro-batch {profile.batch.micro_batch_size} x {parallel.accumulate_grad_batches}"
    )


def _model(base: JobProfile, head: JobProfile) -> str:
    unit = "sample" if base.batch.samples_per_step and head.batch.samples_per_step else "step"
    flops = [sum(sample_flops(side).values()) for side in (base, head)]
    parameters = [sum(group.count for group in side.parameters) for side in (base, head)]
    amounts = [f"{_relative(*flops)} FLOPs"]
    if base.precision == head.precision:  # else bytes differ by the precision, too
        moved = [
            sum(group.bytes_moved for group in side.operations) / (side.batch.samples_per_step or 1)
            for side in (base, head)
        ]
        amounts.append(f"{_relative(*moved)} bytes")
    parts = [f"{' and '.join(amounts)} a {unit}"]
    if parameters[0] != parameters[1]:
        parts.append(f"{parameters[0]:,} -> {parameters[1]:,} parameters")
    norms = [
        norms.modules if norms else 0 for norms in (side.batch.synchronized_norms for side in (base, head))
    ]
    if norms[0] != norms[1]:
        parts.append(f"SyncBatchNorm in {norms[0]} -> {norms[1]} layers")
    if base.optimizer.names != head.optimizer.names:
        parts.append(f"{', '.join(base.optimizer.names)} -> {', '.join(head.optimizer.names)}")
    return ", ".join(parts)


def _relative(base: float, head: float) -> str:
    return percent(head / base - 1, 1, sign=True) if base else f"{head:.3g} more"


def _saves(profile: JobProfile) -> str:
    plan = profile.plan
    every = plan.checkpoint_every_n_steps
    interval = f"every {every:,} steps" if every else "once, at the end"
    return f"{plan.checkpoint_bytes / _GIB:.3g} GiB {interval}"


def _switch(profile: JobProfile) -> str:
    return "on" if profile.source.compiled else "off"


def _describe_measurement(profile: JobProfile) -> str:
    return f"measured on {profile.measured.device_name}" if profile.measured is not None else "not measured"
