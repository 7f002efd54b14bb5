"""Machines x nodes x accelerators that can share a job's global batch, and why others have no plan."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainfare_core.batch_scaling import scale_run
from trainfare_core.candidates.space import (
    USUAL,
    PlanSpace,
    count_synchronized_samples,
    divisors,
    global_batch,
    own_micro_batch,
)
from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.job_profile import JobProfile
from trainfare_core.prices.shapes import MachineShapes

MOST_BATCH_CHANGE: Final = 8
"""Factor up to which another global batch is planned: the same run with its learning rate set anew. A chosen value."""


def plan_gaps(profile: JobProfile, shapes: MachineShapes, space: PlanSpace = USUAL) -> NDArray[np.str_]:
    """
    Return the reason why each shape has no plan.

    Returns:
        One text a shape, shape (n,): "" where `enumerate_candidates` has at least one plan for it.
    """
    layouts = _layouts(profile, shapes, space)
    even = shares_evenly(profile, layouts.nodes * layouts.devices)
    weak = space.scales_weakly(profile)
    shared, planned = np.zeros((2, len(shapes)), dtype=np.bool_)
    shared[layouts.shape[even]] = True
    planned[choose_layouts(profile, shapes, space).shape] = True
    count = shapes.accelerator_count
    whole = _whole_devices(count)
    texts = [
        ""
        if planned[row]
        else _explain_no_scaling(profile, float(count[row]), space)
        if weak and whole[row]
        else _explain_missing_splits(profile, float(count[row]), space)
        if shared[row]
        else _gap(profile, float(count[row]), is_whole=bool(whole[row]))
        for row in range(len(shapes))
    ]
    return np.array(texts, dtype=np.str_) if texts else np.zeros(0, dtype="U1")


def explain_gap(profile: JobProfile, world: int, space: PlanSpace = USUAL) -> str:
    """
    Return why no plan uses so many devices.

    Args:
        profile: the job.
        world: devices of all machines.
        space: which plans are tried.
    """
    if shares_evenly(profile, np.array([world])).all():
        return _explain_missing_splits(profile, world, space)
    return _gap(profile, world, is_whole=True)


def _gap(profile: JobProfile, count: float, *, is_whole: bool) -> str:
    if not is_whole:
        return "a share of a device: how it behaves is not known"
    batch = global_batch(profile)
    if batch is None:
        world = profile.parallel.world_size
        return f"the batch size is not known, so only {world} device(s) as in the profile can be planned"
    return f"a global batch of {batch} cannot be shared evenly by {count:.0f} devices: --allow batch tries others"


def _explain_no_scaling(profile: JobProfile, count: float, space: PlanSpace) -> str:
    if count > space.most_times_batch * profile.parallel.data_parallel_size:
        return (
            f"a global batch of more than {space.most_times_batch:g} times the script's: how many samples it needs to "
            "the same quality is not known"
        )
    own = f"{(global_batch(profile) or 0) / profile.parallel.data_parallel_size:g}"
    return (
        f"an epoch has not one step of {own} samples for each of {count:.0f} devices, as the script would train there: "
        "--scale batch shares its batch"
    )


def _explain_missing_splits(profile: JobProfile, count: float, space: PlanSpace) -> str:
    """Say why no way to split a device's share is allowed."""
    own_micro = f"{own_micro_batch(profile):g}"
    if profile.batch.normalises and not space.lower_batch_norm:
        sees = (
            f"BatchNorm sees {own_micro} samples of a device"
            if profile.batch.batch_norm
            else f"SyncBatchNorm sees {count_synchronized_samples(profile):g} samples of all devices together"
        )
        return (
            f"{sees} and would see fewer on {count:.0f} device{'' if count == 1 else 's'}, which changes what is "
            "trained: --allow batch-norm permits it"
        )
    return (
        f"the script's micro-batch of {own_micro} does not divide the samples of each of {count:.0f} devices"
    )


def _whole_devices(count: NDArray[np.float64]) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = np.isfinite(count) & (count >= 1) & (count == np.floor(count))
    return whole


class Layouts(NamedTuple):
    """Shape row, machines, used accelerators of each machine and global batch; arrays of shape (n,)."""

    shape: NDArray[np.int64]
    nodes: NDArray[np.int64]
    devices: NDArray[np.int64]
    batch: NDArray[np.int64]


def _layouts(profile: JobProfile, shapes: MachineShapes, space: PlanSpace) -> Layouts:
    """Return every shape x node count x divisor of its accelerators that can exist, all of them first."""
    node_counts = space.node_counts(profile)
    tpu = _is_kind(shapes.accelerator, "tpu")
    several = ~np.isnan(shapes.network_gbit_per_s) & ~tpu
    whole = _whole_devices(shapes.accelerator_count)
    allowed = whole[:, None] & (several[:, None] | (node_counts == 1)[None, :])
    shape, column = np.nonzero(allowed)
    nodes = node_counts[column]
    count = np.where(whole, shapes.accelerator_count, 1.0).astype(np.int64)
    # A TPU slice is used as a whole: its chips are wired for all of it.
    parts = {
        int(number): np.array(divisors(int(number))[::-1], dtype=np.int64)
        for number in np.unique(count[~tpu])
    }
    used = [count[row : row + 1] if tpu[row] else parts[int(count[row])] for row in shape]
    row = np.repeat(np.arange(len(shape)), [len(batch) for batch in used])
    devices = np.concatenate(used) if used else np.zeros(0, dtype=np.int64)
    shape, nodes = shape[row].astype(np.int64), nodes[row]
    # What fewer machines have room for needs no more of them.
    needed = (nodes == 1) | (devices * nodes > count[shape] * (nodes - 1))
    shape, nodes, devices = shape[needed], nodes[needed], devices[needed]
    return Layouts(shape, nodes, devices, np.full(len(shape), global_batch(profile) or 1, dtype=np.int64))


def whole_machines(
    profile: JobProfile, shapes: MachineShapes, space: PlanSpace
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return shape row, machines and accelerators of a machine wherever all of several GPUs can be used."""
    node_counts = space.node_counts(profile)
    gpus = _whole_devices(shapes.accelerator_count) & _is_kind(shapes.accelerator, "gpu")
    allowed = gpus[:, None] & (~np.isnan(shapes.network_gbit_per_s)[:, None] | (node_counts == 1)[None, :])
    shape, column = np.nonzero(allowed)
    nodes, devices = node_counts[column], shapes.accelerator_count[shape].astype(np.int64)
    several = nodes * devices > 1
    return shape[several].astype(np.int64), nodes[several], devices[several]


def choose_layouts(profile: JobProfile, shapes: MachineShapes, space: PlanSpace) -> Layouts:
    """
    Return the layouts to plan, with their global batches.

    Of each shape x node count it is the one with the most accelerators, and of a single machine, where the batch stays
    as it is, every one with fewer: several machines that each use a part are more than the job needs.
    """
    layouts = _layouts(profile, shapes, space)
    script_batch = global_batch(profile)
    world = layouts.nodes * layouts.devices
    if space.scales_weakly(profile):
        return _scale_batches(profile, layouts, space)
    keep = shares_evenly(profile, world) & has_split(profile, world, space)
    batch = layouts.batch
    if space.other_batch and script_batch is not None and not space.keep_plan:
        first = _mark_most(layouts)
        near = _nearest_batch(script_batch, world, space.least_micro_batch(profile, world))
        change = np.maximum(near / script_batch, script_batch / near)
        changed = first & ~keep & (change <= MOST_BATCH_CHANGE)
        batch, keep = np.where(changed, near, batch), keep | changed
    shape, nodes, devices, batch = (column[keep] for column in layouts._replace(batch=batch))
    most = _mark_most(Layouts(shape, nodes, devices, batch))
    own_batch = np.zeros(len(shape), dtype=np.bool_)
    if len(shape):
        own_batch = (batch == (script_batch or 1))[np.flatnonzero(most)[np.cumsum(most) - 1]]
    most |= (nodes == 1) & own_batch
    return Layouts(shape[most], nodes[most], devices[most], batch[most])


def _scale_batches(profile: JobProfile, layouts: Layouts, space: PlanSpace) -> Layouts:
    """Return the layouts that use all devices of their machines, each with the batch that it has in the script."""
    own = profile.parallel
    world = layouts.nodes * layouts.devices
    batch = (global_batch(profile) or 1) // own.data_parallel_size * world
    keep = _mark_most(layouts) & (world <= space.most_times_batch * own.data_parallel_size)
    if profile.plan.optimizer_steps:
        keep &= scale_run(profile, world).steps > 0
    shape, nodes, devices, batch = (column[keep] for column in layouts._replace(batch=batch))
    return Layouts(shape, nodes, devices, batch)


def _mark_most(layouts: Layouts) -> NDArray[np.bool_]:
    """Mark the layout of each shape x node count with the most accelerators, which is its first."""
    most = np.ones(len(layouts.shape), dtype=np.bool_)
    most[1:] = (np.diff(layouts.shape) != 0) | (np.diff(layouts.nodes) != 0)
    return most


def _nearest_batch(own_batch: int, world: NDArray[np.int64], least: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the global batch with the ratio nearest to the script's that gives each device `least` samples or more."""
    share = own_batch / world
    low, high = np.floor(share), np.ceil(share)
    near = np.where((low > 0) & (share * share < low * high), low, high)
    return (np.maximum(near, np.ceil(least)) * world).astype(np.int64)


def _is_kind(names: NDArray[np.str_], kind: str) -> NDArray[np.bool_]:
    distinct, inverse = np.unique(names, return_inverse=True)
    devices = [resolve_device(str(name)) for name in distinct]
    are_kind = [device is not None and device.kind == kind for device in devices]
    return np.array(are_kind, dtype=np.bool_)[inverse]


def shares_evenly(profile: JobProfile, world: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether the devices share the samples of an optimizer step evenly, shape of `world`."""
    batch = global_batch(profile)
    same: NDArray[np.bool_] = world == profile.parallel.world_size
    return same if batch is None else (world <= batch) & (batch % world == 0)


def has_split(profile: JobProfile, world: NDArray[np.int64], space: PlanSpace) -> NDArray[np.bool_]:
    """Mark the numbers of devices on which some micro-batch is allowed; only meaningful where the batch is shared."""
    batch = global_batch(profile)
    if batch is None:
        return np.ones(len(world), dtype=np.bool_)
    share, own_micro, least = (
        batch // world,
        own_micro_batch(profile),
        space.least_micro_batch(profile, world),
    )
    enough: NDArray[np.bool_] = share >= least
    if space.keep_plan:
        enough &= ((share < own_micro) | (share % own_micro == 0)) & (np.minimum(share, own_micro) >= least)
    return enough
