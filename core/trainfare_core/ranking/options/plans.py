"""A plan in facts that no loop knows better, and what it changes of the script's own (part of stage 6)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from trainfare_core.candidates import (
    SHARDINGS,
    CandidateTable,
    explain_gap,
    own_sharding,
    sharding_label,
    take,
)
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import percent
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prediction.uncertainty import Z80
from trainfare_core.ranking.pricing.plan_search import PlanSearch
from trainfare_core.recommendation import ModelSplit, PlanFacts, PlanWriter, Sharding
from trainfare_core.run_cost.timing import steps_of
from trainfare_core.variants import PUBLISHED, JobVariant, find_compute_type


def collect_plan_facts(profile: JobProfile, candidates: CandidateTable, plan: int, devices: int) -> PlanFacts:
    """
    Return what a plan is, for the loop's writer.

    Args:
        profile: the job.
        candidates: plans.
        plan: row of `candidates`.
        devices: that the plan uses of one machine.
    """
    sharding: Sharding = SHARDINGS[int(candidates.sharding[plan])]
    micro = float(candidates.micro_batch[plan])
    nodes, blocks = int(candidates.nodes[plan]), profile.memory.blocks
    variant = candidates.variant_of(plan)
    split = split_of(candidates, plan, devices * nodes)
    return PlanFacts(
        sharding=sharding,
        devices=devices,
        nodes=nodes,
        micro_batch=None if math.isnan(micro) else int(micro),
        accumulate=int(candidates.accumulate[plan]),
        precision=(variant.precision if split is None else "") or profile.precision,
        recomputed_blocks=tuple(blocks.classes) if blocks is not None and variant.checkpointing else (),
        split=split,
        own_strategy=profile.parallel.strategy
        if sharding != "none" and own_sharding(profile, nodes) == sharding
        else "",
    )


def plan_changes(
    profile: JobProfile, candidates: CandidateTable, plan: int, facts: PlanFacts, writer: PlanWriter
) -> tuple[str, ...]:
    """
    Return what a plan changes besides the number of devices, in words; empty where it is the script's own.

    One device in place of several is named where what they share is gone with them.

    Args:
        profile: the job.
        candidates: plans.
        plan: row of `candidates`.
        facts: of the plan.
        writer: of the script's loop.
    """
    sharding = facts.sharding
    changes = list(split_changes(facts, writer))
    own = own_sharding(profile, facts.nodes)
    if sharding not in ("none", own):
        changes.append(f"{sharding_label(sharding)} instead of {sharding_label(own)}")
    world = profile.parallel.world_size
    # DDP on one device is what a script with one device runs.
    if sharding == "none" and world > 1 and own != "ddp":
        changes.append(f"one device without {sharding_label(own)} instead of {world} with it")
    factor = 1.0 if candidates.batch_factor is None else float(candidates.batch_factor[plan])
    weak = bool(candidates.weak_or_not[plan])
    # What the script does there by itself is no change of it.
    if (
        factor != 1
        and profile.global_samples_per_step
        and not (weak and profile.batch.scales == "per_device")
    ):
        changes.append(_describe_batch(profile, candidates, plan, factor))
    # Lightning's "auto" means the devices of one machine; other loops leave the machines to their launcher.
    if weak and not profile.source.loop and facts.nodes != profile.parallel.num_nodes:
        changes.append(
            f"{facts.nodes} machines instead of {profile.parallel.num_nodes}, which the script must say"
        )
    own_micro, micro = profile.batch.micro_batch_size, float(candidates.micro_batch[plan])
    if own_micro is not None and not math.isnan(micro) and int(micro) != own_micro:
        changes.append(f"micro-batch {int(micro)} instead of {own_micro}")
    return tuple(changes)


def _describe_batch(profile: JobProfile, candidates: CandidateTable, plan: int, factor: float) -> str:
    """Say what another global batch is and what it does to the run."""
    batch = round((profile.global_samples_per_step or 0) * factor)
    weak = bool(candidates.weak_or_not[plan])
    devices = round(profile.parallel.data_parallel_size * factor)
    of_device = f" ({devices} x {batch // devices})" if weak else ""
    text = (
        f"global batch {batch}{of_device} instead of {profile.global_samples_per_step}, "
        "which changes what is trained"
    )
    if profile.plan.optimizer_steps is None:
        return text
    steps = float(steps_of(profile, take(candidates, np.array([plan])))[0])
    if weak and steps == profile.plan.optimizer_steps:
        return f"{text}: the same {steps:,.0f} steps see {factor:g} times the samples"
    return f"{text}: {steps:,.0f} steps see the same samples"


def variant_changes(
    profile: JobProfile, candidates: CandidateTable, prediction: PredictionTable, plan: int
) -> tuple[str, ...]:
    """
    Return how a plan changes the job, with its price in time and what it saves of memory, in words.

    Args:
        profile: the job.
        candidates: plans.
        prediction: of the plans.
        plan: row of both.
    """
    variant = candidates.variant_of(plan)
    changes: list[str] = []
    if variant.precision:
        same = _compare_figures(
            candidates, prediction, plan, replace(variant, precision="", narrows_weights=False)
        )
        changes.append(
            f"precision {variant.precision} instead of {profile.precision}: {_meaning(variant)}; {same}".rstrip(
                "; "
            )
        )
    if variant.checkpointing:
        same = _compare_figures(candidates, prediction, plan, replace(variant, checkpointing=False))
        twice = "; BatchNorm updates its running statistics twice a step" if profile.batch.normalises else ""
        changes.append(f"activation checkpointing on: {same}".rstrip(": ") + twice)
    return tuple(changes)


def fp8_notes(candidates: CandidateTable, prediction: PredictionTable, plan: int) -> tuple[str, ...]:
    """
    Return what fp8 would change of a plan that is in another precision; empty where it was not tried.

    Args:
        candidates: plans.
        prediction: of the plans.
        plan: row of both.
    """
    variant = candidates.variant_of(plan)
    notes: list[str] = []
    for other in candidates.variants:
        if (
            find_compute_type(other.precision) != "fp8"
            or variant == other
            or variant.checkpointing != other.checkpointing
        ):
            continue
        row = _same_plan(candidates, prediction, plan, other)
        if row is not None:
            pair = [row, plan]
            latest = prediction.step_s[pair] * np.exp(Z80 * prediction.log_sigma[pair])
            notes.append(
                f"precision {other.precision} is not taken: {_compare_plans(prediction, row, plan)}, "
                f"{_longer(*latest)} at the upper ends of the intervals"
                f"{'' if prediction.fits[row] else ', may not fit'}; {_meaning(other)}"
            )
    return tuple(notes)


def _meaning(variant: JobVariant) -> str:
    """Return what another precision does to the training, in words."""
    meaning = "weights and optimizer state in 16 bits, which changes what is trained"
    if find_compute_type(variant.precision) == "fp8":
        fp8 = f"linear layers in fp8, whose effect on the loss is not predicted; {PUBLISHED}"
        return f"{meaning}; {fp8}" if variant.narrows_weights else fp8
    if variant.narrows_weights:
        return meaning
    scaled = " and a scaled loss" if variant.precision == "16-mixed" else ""
    return f"other rounding{scaled}, so that losses may differ"


def _compare_figures(
    candidates: CandidateTable, prediction: PredictionTable, plan: int, variant: JobVariant
) -> str:
    """Return time and memory of a plan beside those of the same plan of another variant; "" where it has none."""
    row = _same_plan(candidates, prediction, plan, variant)
    return "" if row is None else _compare_plans(prediction, plan, row)


def _compare_plans(prediction: PredictionTable, plan: int, other: int) -> str:
    """Return time and memory of a plan beside those of another."""
    memory_gib, other_gib = (prediction.memory_bytes[row] / 2**30 for row in (plan, other))
    before = "" if f"{memory_gib:.3g}" == f"{other_gib:.3g}" else f" instead of {other_gib:.3g}"
    change = _longer(prediction.step_s[plan], prediction.step_s[other])
    return f"{change} time a step, {memory_gib:.3g} GiB a device{before}"


def _longer(time_s: float, other_s: float) -> str:
    return f"{100 * (time_s / other_s - 1):+.0f} %"


def _same_plan(
    candidates: CandidateTable, prediction: PredictionTable, plan: int, variant: JobVariant
) -> int | None:
    """Return the row of a plan in another variant; None where it has no time."""
    if candidates.variant is None or variant not in candidates.variants:
        return None
    same = [
        np.equal(column, column[plan])
        for column in (
            candidates.shape, candidates.nodes, candidates.sharding, candidates.micro_batch,
            candidates.accumulate, candidates.devices_or_all,
        )
    ]  # fmt: skip
    if candidates.parallel is not None:
        degrees = candidates.parallel.degrees
        same.append(np.all(degrees == degrees[:, plan : plan + 1], axis=0))
    of_variant = candidates.variant == candidates.variants.index(variant)
    without = np.flatnonzero(np.all(same, axis=0) & of_variant & np.isfinite(prediction.step_s))
    return int(without[0]) if len(without) else None


def explain_unused_devices(profile: JobProfile, search: PlanSearch, plan: int) -> tuple[str, ...]:
    """
    Return why a plan leaves accelerators of its machine unused; empty where it uses all.

    Args:
        profile: the job.
        search: plans with what is predicted of them.
        plan: row of the plans.
    """
    candidates, prediction, shapes = search.candidates, search.prediction, search.shapes
    devices = candidates.devices_of(shapes)
    used, rented = int(devices[plan]), int(shapes.accelerator_count[candidates.shape[plan]])
    if used >= rented:
        return ()
    more = (candidates.shape == candidates.shape[plan]) & (candidates.nodes == candidates.nodes[plan])
    more &= devices > used
    if candidates.parallel is not None:
        more &= candidates.parallel.splits == candidates.parallel.splits[plan]
    all_devices = rented * int(candidates.nodes[plan])
    because = "more do not fit" if more.any() else explain_gap(profile, all_devices, search.space)
    more &= prediction.fits
    if more.any():
        because = "more are slower"
        for column in (candidates.variant, candidates.as_scripted):
            more &= True if column is None else column == column[plan]
        more &= devices == devices[more].max(initial=0)
        longer = prediction.step_s[more].min(initial=np.inf) / prediction.step_s[plan] - 1
        if 0 < longer < np.inf:
            because = f"a step on {devices[more][0]:.0f} takes {percent(longer)} longer"
    return (f"uses {used} of {rented} accelerators of a machine that is paid whole: {because}",)


def plan_text(candidates: CandidateTable, plan: int) -> str:
    """Return a plan in words, e.g. "FSDP, micro-batch 4, accumulate 2"."""
    sharding, micro = SHARDINGS[int(candidates.sharding[plan])], float(candidates.micro_batch[plan])
    accumulate, variant = int(candidates.accumulate[plan]), candidates.variant_of(plan)
    parts = [
        *split_text(candidates, plan),
        *([] if sharding == "none" else [sharding_label(sharding)]),
        *([] if math.isnan(micro) else [f"micro-batch {int(micro)}"]),
        *([f"accumulate {accumulate}"] if accumulate > 1 else []),
        *([f"precision {variant.precision}"] if variant.precision else []),
        *(["activation checkpointing"] if variant.checkpointing else []),
    ]
    return ", ".join(parts)


def split_of(candidates: CandidateTable, plan: int, devices: int) -> ModelSplit | None:
    """
    Return how a plan splits the model; None where it does not.

    Args:
        candidates: plans.
        plan: row of `candidates`.
        devices: that the plan uses of all its machines.
    """
    parallel = candidates.parallel
    if parallel is None or not parallel.splits[plan]:
        return None
    return ModelSplit(
        tensor=int(parallel.tensor[plan]),
        pipeline=int(parallel.pipeline[plan]),
        context=int(parallel.context[plan]),
        expert=int(parallel.expert[plan]),
        replicas=devices // int(parallel.devices[plan]),
    )


def split_changes(plan: PlanFacts, writer: PlanWriter) -> tuple[str, ...]:
    """Return how a plan splits the model, as a change of the script; empty where it does not."""
    split = plan.split
    if split is None:
        return ()
    parts = [
        *([f"tensor parallelism over {split.tensor} devices"] if split.tensor > 1 else []),
        *([f"a pipeline of {split.pipeline} stages"] if split.pipeline > 1 else []),
        *([f"context parallelism over {split.context} devices"] if split.context > 1 else []),
        *([f"expert parallelism over {split.expert} devices"] if split.expert > 1 else []),
    ]
    copies = f"{split.replicas} replica{'s' * (split.replicas > 1)}"
    return (f"{', '.join(parts)} ({copies} of the model): needs {writer.name_split_need(plan)}",)


def split_text(candidates: CandidateTable, plan: int) -> tuple[str, ...]:
    """Return the parts of a split in a few words each, e.g. ("tensor 8", "pipeline 4")."""
    if candidates.parallel is None:
        return ()
    names = ("tensor", "pipeline", "context", "expert")
    degrees = candidates.parallel.degrees[:, plan].tolist()
    return tuple(f"{name} {degree}" for name, degree in zip(names, degrees, strict=True) if degree > 1)
