"""
Steps timed operation by operation: every job but language models.

    step = hold(device time x source correction, host launches) + exposed communication
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainfare_core.arrays import Array
from trainfare_core.prediction.columns import (
    SMALLEST_S,
    PlacedPlans,
    Run,
    StepColumns,
    never_faster_than_roofline,
)
from trainfare_core.prediction.loop_time import find_pass_s
from trainfare_core.prediction.network import collectives
from trainfare_core.prediction.roofline.coefficients import Calibration
from trainfare_core.prediction.roofline.host import compute_synchronized_forward_s, host_bound, host_launch_s
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline.times import DeviceTime, operation_times


def roofline_steps(run: Run, placed: PlacedPlans) -> StepColumns:
    """Return the parts of the step of every plan."""
    passes = placed.plans.accumulate / run.profile.parallel.accumulate_grad_batches
    times = _device_times(run, placed)
    update = 1.0 / placed.shards.state
    compute_s, memory_s, floor_s = (
        (part[0] + part[1]) * passes + part[2] * update
        for part in (times.compute_s, times.memory_s, times.floor_s)
    )
    launch_s = (times.launch_s[0] + times.launch_s[1]) * passes + times.launch_s[2]
    factor = never_faster_than_roofline(run, placed.factor, compute_s + memory_s + launch_s, floor_s)
    compute_s, memory_s, launch_s = compute_s * factor, memory_s * factor, launch_s * factor
    host_s = _host_s(run, placed, passes) * placed.factor
    held_s = host_bound(compute_s + memory_s + launch_s, host_s)
    moved_s, network_s, window_s = _communication(run, placed, times.total_s * factor, passes)
    waiting_s = run.fit.communication.straggler_share * np.log2(
        np.minimum(placed.per_machine, collectives.LONGEST_RING)
    ) * held_s  # fmt: skip
    exposed_s = collectives.compute_exposed_s(moved_s, window_s, run.fit.communication)
    norms_s, between_s = _add_synchronized_norms(run, placed)
    waiting_s = waiting_s + norms_s
    return StepColumns(
        compute_s=compute_s,
        memory_s=memory_s,
        launch_s=held_s - compute_s - memory_s,
        communication_s=exposed_s + waiting_s,
        hidden_s=moved_s - exposed_s,
        samples=placed.plans.micro_ratio * passes,
        network_s=network_s + between_s,
        synchronized_s=norms_s,
        host_share=np.clip(host_s / np.maximum(held_s, SMALLEST_S), 0.0, 1.0),
    )


def _device_times(run: Run, placed: PlacedPlans) -> DeviceTime:
    """Return seconds by phase of each plan, worked out once a distinct (device, micro-batch ratio)."""
    if not placed.devices.found:
        nothing = np.full((3, len(placed.row)), np.nan)
        return DeviceTime(nothing, nothing, nothing, nothing)
    pairs = np.stack([placed.row.astype(np.float64), placed.plans.micro_ratio])
    distinct, inverse = np.unique(pairs, axis=1, return_inverse=True)
    where = inverse.reshape(-1)
    times = operation_times(
        run.operations, placed.devices.rooflines, distinct[0].astype(np.int64), distinct[1], run.fit
    )
    parts = (times.compute_s, times.memory_s, times.launch_s, times.floor_s)
    return DeviceTime(*(part[:, where] for part in parts))


def _host_s(run: Run, placed: PlacedPlans, passes: Array) -> Array:
    """Return seconds that the host needs to issue the step; the optimizer's launches are issued once."""
    if not placed.devices.found:
        return np.zeros(len(placed.row))
    by_device = host_launch_s(run.operations, placed.devices.found, run.fit)
    forward, backward, update = by_device[placed.row].T
    own_s = find_pass_s(run.profile) * placed.plans.accumulate
    return np.asarray((forward + backward) * passes + update + own_s)


def _communication(
    run: Run, placed: PlacedPlans, phase_s: Array, passes: Array
) -> tuple[Array, Array, Array]:
    """Return seconds of all communication, of its part between machines, and of the compute it can hide behind."""
    fit, traffic, links = run.fit.communication, collectives.traffic_of(run.profile), _links(placed)
    accumulate = placed.plans.accumulate
    ones = np.ones_like(placed.per_machine)

    def seconds(payload: float, rings: float, local: Array, machines: Array = placed.nodes) -> Array:
        return collectives.collective_s(
            np.full(len(placed.row), payload),
            rings,
            local,
            machines,
            links,
            placed.network_bytes_per_s,
            fit,
        )

    def all_kinds(local: Array) -> Array:
        reduce = seconds(traffic.all_reduce_bytes, 2.0, local)
        shard = seconds(traffic.gather_bytes, 1.0, local) + seconds(traffic.scatter_bytes, 1.0, local)
        within = seconds(traffic.gather_bytes, 1.0, local, ones) + seconds(
            traffic.scatter_bytes, 1.0, local, ones
        )
        hybrid = within + seconds(traffic.scatter_bytes, 2.0, ones)
        half = seconds(traffic.all_reduce_bytes, 1.0, local)
        seconds_each = np.where(placed.hybrid, hybrid, shard) * accumulate
        return np.where(
            placed.sharded, seconds_each, np.where(placed.zero_2, half * accumulate + half, reduce)
        )

    # DDP and ZeRO-1 reduce once, in the last backward: the second half of an all-reduce gathers what ZeRO updated.
    # ZeRO-2 reduces after every backward; FSDP gathers and scatters in every micro-batch. Hybrid FSDP does so inside a
    # machine, and after every backward machines reduce their shards, which together are all gradients.
    last_backward_s: Array = phase_s[1] * passes / np.maximum(accumulate, 1).astype(np.float64)
    all_passes_s: Array = (phase_s[0] + phase_s[1]) * passes
    window_s: Array = np.where(placed.sharded, all_passes_s, last_backward_s)
    return all_kinds(placed.per_machine), all_kinds(ones), window_s


def _links(placed: PlacedPlans) -> tuple[Array, Array]:
    """Return bytes/s and seconds a message of the links inside each plan's machine."""
    links = placed.devices.links
    return (
        placed.devices.column([link.bytes_per_s for link in links], placed.row),
        placed.devices.column([link.latency_s for link in links], placed.row),
    )


def _add_synchronized_norms(run: Run, placed: PlacedPlans) -> tuple[Array, Array]:
    """Return seconds that SyncBatchNorm adds to each plan's step, and the part of them between machines."""
    norms = run.profile.batch.synchronized_norms
    nothing = np.zeros(len(placed.row))
    if norms is None or not placed.devices.found:
        return nothing, nothing
    fit, links, network = run.fit.communication, _links(placed), placed.network_bytes_per_s
    machine, machines = placed.per_machine, placed.nodes
    exchanged_s = collectives.moments_s(norms, machine, machines, links, network, fit)
    between_s = collectives.moments_s(norms, np.ones_like(machine), machines, links, network, fit)
    waited_s = (
        norms.modules
        * compute_synchronized_forward_s(run.operations, placed.devices.found, run.fit)[placed.row]
    )
    # A single device exchanges nothing, and neither its links nor its network need be known.
    passes = placed.plans.accumulate.astype(np.float64)
    added_s: Array = np.where(placed.world > 1, exchanged_s + waited_s, 0.0) * passes
    far_s: Array = np.where(machines > 1, between_s, 0.0) * passes
    return added_s, far_s


def own_device_s(
    operations: Operations, rooflines: Sequence[Roofline], fit: Calibration, ratio: float = 1.0
) -> tuple[Array, Array]:
    """
    Return seconds of a step on one of each device, NaN where they are not known, and of its host.

    Args:
        operations: of the profile.
        rooflines: of these operations, n of them.
        fit: the coefficients.
        ratio: micro-batch over the profile's.
    """
    if not len(operations):
        return np.full(len(rooflines), np.nan), np.zeros(len(rooflines))
    known = np.array([not roofline.unknown_because for roofline in rooflines])
    which = np.arange(len(rooflines))
    times = operation_times(operations, rooflines, which, np.full(len(rooflines), ratio), fit)
    host_s = host_launch_s(operations, [roofline.device for roofline in rooflines], fit).sum(axis=1)
    return np.where(known, times.total_s.sum(axis=0), np.nan), host_s
