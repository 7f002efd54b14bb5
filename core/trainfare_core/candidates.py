"""Stage 3: machine shape x nodes x sharding x micro-batch -> `CandidateTable`, the plans to predict."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.job_profile import JobProfile
from trainfare_core.prices.book import MachineShapes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "DEFAULT_MAX_NODES",
    "NODE_COUNTS",
    "SHARDINGS",
    "CandidateTable",
    "ModelParallel",
    "enumerate_candidates",
    "plan_gaps",
    "take",
]

Table = TypeVar("Table", bound="DataclassInstance")

SHARDINGS: Final = ("none", "ddp", "fsdp")

NODE_COUNTS: Final = (1, 2, 4, 8, 16)
"""Machines of one kind that a plan may use: powers of two, by which usual batch sizes divide."""

DEFAULT_MAX_NODES: Final = 4
"""Largest number of machines unless asked otherwise: beyond four, quota and placement limit more than price does."""

_NONE, _DDP, _FSDP = range(3)


@dataclass(frozen=True, slots=True)
class ModelParallel:
    """
    How each plan splits the model itself; all arrays have shape (n,), 1 is "not split".

    Attributes:
        tensor: devices that share every matrix product.
        pipeline: stages of consecutive layers; `virtual`: chunks of one device (interleaved schedule).
        context: devices that share one sequence; expert: devices that hold different experts.
        sharded_optimizer: the optimizer's state is sharded over the replicas (ZeRO-1, distributed Adam).
        overlap: gradients travel while backward goes on.
        sequence_parallel: what is between the shared products (block inputs, norms, dropout) is split over `tensor`
            as well (Korthikanti et al. 2022); None: yes, as in every current stack.
    """

    tensor: NDArray[np.int64]
    pipeline: NDArray[np.int64]
    virtual: NDArray[np.int64]
    context: NDArray[np.int64]
    expert: NDArray[np.int64]
    sharded_optimizer: NDArray[np.bool_]
    overlap: NDArray[np.bool_]
    sequence_parallel: NDArray[np.bool_] | None = None

    @classmethod
    def none(cls, count: int) -> ModelParallel:
        """Return `count` plans that split nothing."""
        one = np.ones(count, dtype=np.int64)
        return cls(one, one, one, one, one, np.zeros(count, dtype=np.bool_), np.ones(count, dtype=np.bool_))


@dataclass(frozen=True, slots=True)
class CandidateTable:
    """
    Plans as columns, one row a plan; all arrays have shape (n,).

    Attributes:
        shape: row of the `MachineShapes` the plan runs on.
        nodes: machines of that shape.
        sharding: index into `SHARDINGS`; "none" means one device.
        micro_batch: samples in one forward pass on one device; NaN where the profile does not know its batch.
        micro_ratio: micro_batch over the profile's micro-batch: what batch-proportional work scales with.
        accumulate: forward passes per optimizer step on one device.
        parallel: how plans split the model; None: none does. Then `micro_batch` and `accumulate` are those of one
            replica of the model, on tensor x pipeline x context devices.
    """

    shape: NDArray[np.int64]
    nodes: NDArray[np.int64]
    sharding: NDArray[np.int64]
    micro_batch: NDArray[np.float64]
    micro_ratio: NDArray[np.float64]
    accumulate: NDArray[np.int64]
    parallel: ModelParallel | None = None

    def __len__(self) -> int:
        """Return the number of plans."""
        return len(self.shape)


def take(table: Table, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Table:
    """Return the given rows of a dataclass of columns, in the given order."""
    columns = ((each.name, getattr(table, each.name)) for each in fields(table))
    return replace(
        table, **{name: column[rows] for name, column in columns if isinstance(column, np.ndarray)}
    )


def enumerate_candidates(
    profile: JobProfile, shapes: MachineShapes, *, max_nodes: int = DEFAULT_MAX_NODES
) -> CandidateTable:
    """
    List every plan that keeps the job's global batch, and so its optimizer steps and its training maths.

    All devices of a machine are used. Each device gets an equal whole share of the global batch, run as one
    micro-batch or, so that something may fit, split by gradient accumulation about in half again and again
    down to single samples. One device needs no sharding; more are tried with DDP and with FSDP. More than one
    machine is planned only where its network speed is known, and never for a TPU slice, which is sold as a whole.
    Where the profile does not know its batch, only plans with the profile's own number of devices are listed,
    with its own micro-batch and accumulation: those are the same step whatever the batch is.

    Args:
        profile: the job.
        shapes: machines, n rows.
        max_nodes: largest number of machines in one plan, >= 1.

    Returns:
        Plans ordered by shape, nodes, sharding, accumulation. Shapes without a plan: see `plan_gaps`.
    """
    shape, nodes, world = _layouts(shapes, max_nodes)
    keep = _shares_evenly(profile, world)
    shape, nodes, world = shape[keep], nodes[keep], world[keep]
    layout, micro, ratio, accumulate = _splits(profile, world)
    sharded = world[layout] > 1
    repeat = np.where(sharded, 2, 1)
    row = np.repeat(np.arange(len(layout)), repeat)
    first = np.r_[True, row[1:] != row[:-1]] if len(row) else np.zeros(0, dtype=np.bool_)
    sharding = np.where(sharded[row], np.where(first, _DDP, _FSDP), _NONE).astype(np.int64)
    shape, nodes = shape[layout][row], nodes[layout][row]
    plans = CandidateTable(shape, nodes, sharding, micro[row], ratio[row], accumulate[row])
    return take(plans, np.lexsort((plans.accumulate, sharding, nodes, shape)))


def plan_gaps(
    profile: JobProfile, shapes: MachineShapes, *, max_nodes: int = DEFAULT_MAX_NODES
) -> NDArray[np.str_]:
    """
    Return the reason why each shape has no plan.

    Returns:
        One text a shape, shape (n,): "" where `enumerate_candidates` has at least one plan for it.
    """
    shape, _, world = _layouts(shapes, max_nodes)
    planned = np.zeros(len(shapes), dtype=np.bool_)
    planned[shape[_shares_evenly(profile, world)]] = True
    count = shapes.accelerator_count
    whole = _whole_devices(count)
    texts = [
        "" if planned[row] else _gap(profile, float(count[row]), is_whole=bool(whole[row]))
        for row in range(len(shapes))
    ]
    return np.array(texts, dtype=np.str_) if texts else np.zeros(0, dtype="U1")


def _gap(profile: JobProfile, count: float, *, is_whole: bool) -> str:
    if not is_whole:
        return "a share of a device: how it behaves is not known"
    batch = _global_batch(profile)
    if batch is None:
        world = profile.parallel.world_size
        return f"the batch size is not known, so only {world} device(s) as in the profile can be planned"
    return f"a global batch of {batch} cannot be shared evenly by {count:.0f} devices"


def _whole_devices(count: NDArray[np.float64]) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = np.isfinite(count) & (count >= 1) & (count == np.floor(count))
    return whole


def _layouts(
    shapes: MachineShapes, max_nodes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return shape row, nodes and world size of every shape x node count that can exist."""
    node_counts = np.array([n for n in NODE_COUNTS if n <= max_nodes], dtype=np.int64)
    several = ~np.isnan(shapes.network_gbit_per_s) & ~_is_tpu(shapes.accelerator)
    allowed = _whole_devices(shapes.accelerator_count)[:, None] & (
        several[:, None] | (node_counts == 1)[None, :]
    )
    shape, column = np.nonzero(allowed)
    nodes = node_counts[column]
    world = shapes.accelerator_count[shape].astype(np.int64) * nodes
    return shape.astype(np.int64), nodes, world


def _is_tpu(names: NDArray[np.str_]) -> NDArray[np.bool_]:
    distinct, inverse = np.unique(names, return_inverse=True)
    devices = [resolve_device(str(name)) for name in distinct]
    return np.array([device is not None and device.kind == "tpu" for device in devices], dtype=np.bool_)[
        inverse
    ]


def _samples_per_step(profile: JobProfile) -> int | None:
    batch = profile.batch
    if batch.samples_per_step:
        return batch.samples_per_step
    return (
        batch.micro_batch_size * profile.parallel.accumulate_grad_batches if batch.micro_batch_size else None
    )


def _global_batch(profile: JobProfile) -> int | None:
    samples = _samples_per_step(profile)
    return None if samples is None else samples * profile.parallel.world_size


def _shares_evenly(profile: JobProfile, world: NDArray[np.int64]) -> NDArray[np.bool_]:
    batch = _global_batch(profile)
    same: NDArray[np.bool_] = world == profile.parallel.world_size
    return same if batch is None else (world <= batch) & (batch % world == 0)


def _splits(
    profile: JobProfile, world: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return layout row, micro-batch, micro-ratio and accumulation of every way to run a device's share."""
    batch = _global_batch(profile)
    if batch is None:
        rows = np.arange(len(world))
        accumulate = np.full(len(world), profile.parallel.accumulate_grad_batches, dtype=np.int64)
        return rows, np.full(len(world), np.nan), np.ones(len(world)), accumulate
    share = batch // world
    options = {int(value): _accumulations(int(value)) for value in np.unique(share)}
    counts = np.array([len(options[int(value)]) for value in share], dtype=np.int64)
    rows = np.repeat(np.arange(len(world)), counts)
    accumulate = np.fromiter(chain.from_iterable(options[int(value)] for value in share), np.int64)
    micro = (share[rows] // accumulate).astype(np.float64)
    profiled = profile.batch.micro_batch_size or (
        (_samples_per_step(profile) or 0) / profile.parallel.accumulate_grad_batches
    )
    return rows, micro, micro / profiled, accumulate


def _accumulations(share: int) -> tuple[int, ...]:
    """Return divisors of `share`, each the smallest one at least twice the one before, from 1 to `share`."""
    divisors = _divisors(share)
    chosen = [1]
    for divisor in divisors:
        if divisor >= 2 * chosen[-1]:
            chosen.append(divisor)
    if chosen[-1] != share:
        chosen.append(share)
    return tuple(chosen)


def _divisors(number: int) -> list[int]:
    """Return the divisors in rising order, by factoring: a profile may have a batch of up to 10^18 samples."""
    divisors = [1]
    for prime, power in _factors(number):
        divisors = [d * prime**exponent for d in divisors for exponent in range(power + 1)]
    return sorted(divisors)


def _factors(number: int) -> list[tuple[int, int]]:
    """Return prime factors found up to 10^6; what is left above counts as one factor."""
    found: list[tuple[int, int]] = []
    prime = 2
    while prime * prime <= number and prime <= 1_000_000:
        power = 0
        while number % prime == 0:
            number, power = number // prime, power + 1
        if power:
            found.append((prime, power))
        prime += 1 if prime == 2 else 2
    if number > 1:
        found.append((number, 1))
    return found
