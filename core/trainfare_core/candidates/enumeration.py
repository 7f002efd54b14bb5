"""From a job and machines to the table of plans; see `enumerate_candidates`."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from trainfare_core.candidates.layouts import choose_layouts
from trainfare_core.candidates.space import (
    USUAL,
    PlanSpace,
    divisors,
    global_batch,
    own_micro_batch,
    own_sharding,
)
from trainfare_core.candidates.splits import split_plans
from trainfare_core.candidates.table import SHARDINGS, CandidateTable, ModelParallel, join_tables, take
from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.job_profile import JobProfile
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.variants import JobVariant, find_compute_type


def enumerate_candidates(
    profile: JobProfile, shapes: MachineShapes, space: PlanSpace = USUAL
) -> CandidateTable:
    """
    List every plan that keeps the job's global batch, and so its optimizer steps.

    All accelerators of a machine are used, or, where the batch cannot be shared by all of them, the largest divisor of
    them by which it can, and on a single machine every smaller one too; a machine is paid whole. Each device gets an
    equal whole share of the global batch, run in the script's micro-batches, as one, or, so that something may fit,
    split by gradient accumulation about in half again and again down to single samples. One device needs no sharding;
    more are tried with DDP and with FSDP, several machines of several devices with hybrid FSDP, and DeepSpeed's ZeRO
    where it is in use or allowed. More than one machine is planned only where its network speed is known, and never for
    a TPU slice, which is sold as a whole. Where the profile does not know its batch, only plans with the profile's own
    number of devices are listed, with its own micro-batch and accumulation: those are the same step whatever the batch
    is. With `PlanSpace.weak_scaling` each device
    keeps its batch instead. With `PlanSpace.other_batch` all accelerators are used, with the nearest global batch that
    they can share. With
    `PlanSpace.model_parallel` a decoder is split over devices besides; see `splits`.

    Args:
        profile: the job.
        shapes: machines, n rows.
        space: which plans are tried.

    Returns:
        Plans ordered by shape, nodes, most accelerators first, sharding, accumulation, changes of the job. Shapes
        without a plan: see `plan_gaps`.
    """
    shape, nodes, devices, batch = choose_layouts(profile, shapes, space)
    world = devices * nodes
    layout, micro, ratio, accumulate = _splits(profile, world, batch, space)
    # Columns: the codes of SHARDINGS that each layout can have.
    several = world[layout] > 1
    zero = several & (space.deepspeed or profile.parallel.strategy.startswith("deepspeed"))
    hybrid = (nodes[layout] > 1) & (devices[layout] > 1)
    row, sharding = np.nonzero(np.stack([~several, several, several, zero, zero, hybrid], axis=1))
    layout = layout[row]
    scripted = _as_scripted(profile, (nodes[layout], world[layout]), sharding, micro[row], accumulate[row])
    weak = space.scales_weakly(profile)
    plans = CandidateTable(
        shape=shape[layout],
        nodes=nodes[layout],
        sharding=sharding,
        micro_batch=micro[row],
        micro_ratio=ratio[row],
        accumulate=accumulate[row],
        devices=devices[layout],
        batch_factor=batch[layout] / (global_batch(profile) or 1),
        weak=np.full(len(layout), weak),
        as_scripted=scripted,
    )
    if space.keep_plan:
        plans = take(plans, scripted)
    if space.may_split(profile):
        plans = replace(plans, parallel=ModelParallel.none(len(plans)))
        plans = join_tables(plans, split_plans(profile, shapes, space))
    plans = _with_variants(plans, space.variants(profile), shapes)
    order = (plans.accumulate, plans.sharding, -plans.devices_or_all, plans.nodes, plans.shape)
    variant = () if plans.variant is None else (plans.variant,)
    split = () if plans.parallel is None else tuple(plans.parallel.degrees[::-1])
    return take(plans, np.lexsort((*split, *variant, *order)))


def _with_variants(
    plans: CandidateTable, variants: tuple[JobVariant, ...], shapes: MachineShapes
) -> CandidateTable:
    """
    Return every plan once for each change of the job that its hardware is made for.

    One that splits the model keeps the script's precision: in another the model may be none that can be split.
    """
    if len(variants) == 1:
        return plans
    names, device = np.unique(shapes.accelerator, return_inverse=True)
    computes = np.array(
        [[_computes(str(name), variant) for name in names] for variant in variants], dtype=np.bool_
    )
    tried = computes[:, device[plans.shape]]
    if plans.parallel is not None:
        own_precision = np.array([not variant.precision for variant in variants], dtype=np.bool_)
        tried &= own_precision[:, None] | ~plans.parallel.splits
    code, rows = np.nonzero(tried)
    return replace(take(plans, rows), variant=code, variants=variants)


def _computes(name: str, variant: JobVariant) -> bool:
    """Whether an accelerator has units for the precision of a variant; the script's own is tried anywhere."""
    device = resolve_device(name)
    if not variant.precision or device is None:
        return not variant.precision
    # Transformer Engine, which fp8 needs, is made for GPUs alone.
    computed = find_compute_type(variant.precision)
    return device.peak_flops_per_s(computed) is not None and (computed != "fp8" or device.kind == "gpu")


def _as_scripted(
    profile: JobProfile,
    nodes_and_world: tuple[NDArray[np.int64], NDArray[np.int64]],
    sharding: NDArray[np.int64],
    micro: NDArray[np.float64],
    accumulate: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Mark the plans that are the script's own; see `CandidateTable.as_scripted`."""
    nodes, world = nodes_and_world
    one, several = (SHARDINGS.index(own_sharding(profile, count)) for count in (1, 2))
    same: NDArray[np.bool_] = sharding == np.where(
        world > 1, np.where(nodes > 1, several, one), SHARDINGS.index("none")
    )
    if global_batch(profile) is None:
        return same
    same &= micro == np.minimum(own_micro_batch(profile), micro * accumulate)
    return same


def _splits(
    profile: JobProfile, world: NDArray[np.int64], batch: NDArray[np.int64], space: PlanSpace
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return layout row, micro-batch, micro-ratio and accumulation of every way to run a device's share."""
    if global_batch(profile) is None:
        rows = np.arange(len(world))
        accumulate = np.full(len(world), profile.parallel.accumulate_grad_batches, dtype=np.int64)
        return rows, np.full(len(world), np.nan), np.ones(len(world)), accumulate
    share = batch // world
    own_micro = own_micro_batch(profile)
    pairs = list(zip(share.tolist(), space.least_micro_batch(profile, world).tolist(), strict=True))
    options = {(value, least): list_accumulations(value, own_micro, least) for value, least in set(pairs)}
    counts = np.array([len(options[pair]) for pair in pairs], dtype=np.int64)
    rows = np.repeat(np.arange(len(world)), counts)
    accumulate = np.fromiter(chain.from_iterable(options[pair] for pair in pairs), np.int64)
    micro = (share[rows] // accumulate).astype(np.float64)
    return rows, micro, micro / own_micro, accumulate


def list_accumulations(share: int, own_micro: float, least: float) -> tuple[int, ...]:
    """
    Return divisors of `share`, each the smallest one at least twice the one before, from 1 to `share`.

    That of the script's own micro-batch is among them, and none makes a micro-batch smaller than `least`.
    """
    chosen = [1]
    for divisor in divisors(share):
        if divisor >= 2 * chosen[-1]:
            chosen.append(divisor)
    if share > own_micro and share % own_micro == 0:
        chosen.append(int(share // own_micro))
    return tuple(sorted({accumulate for accumulate in chosen if share / accumulate >= least}))
