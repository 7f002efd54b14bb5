"""
Stage 3: machine shape x nodes x sharding x micro-batch -> `CandidateTable`, the plans to predict.

Every plan keeps the job's global batch, and so its optimizer steps. The script's own strategy and micro-batch are tried
on every machine and marked; `PlanSpace` says how far other plans may go.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from trainfare_core.hardware.accelerators import resolve_device
from trainfare_core.job_profile import JobProfile
from trainfare_core.prices.book import MachineShapes

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "DEFAULT_MAX_NODES",
    "MAX_NODES",
    "NODE_COUNTS",
    "SHARDINGS",
    "CandidateTable",
    "ModelParallel",
    "PlanSpace",
    "enumerate_candidates",
    "own_sharding",
    "plan_gaps",
    "sharding_label",
    "take",
]

Table = TypeVar("Table", bound="DataclassInstance")

SHARDINGS: Final = ("none", "ddp", "fsdp", "zero1", "zero2", "hybrid")
"""What data-parallel devices share: nothing; weights, gradients and optimizer state over all devices (FSDP); the state
(ZeRO-1); gradients and state (ZeRO-2); everything over the devices of one machine, which is repeated (hybrid FSDP)."""

NODE_COUNTS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Machines of one kind that a plan may use, besides the job's own number: by these usual batch sizes divide."""

MAX_NODES: Final = NODE_COUNTS[-1]

DEFAULT_MAX_NODES: Final = 4
"""Largest number of machines unless asked otherwise: beyond four, quota and placement limit more than price does."""

MOST_BATCH_CHANGE: Final = 8
"""Factor up to which another global batch is planned: the same run with its learning rate set anew. A chosen value."""

_OWN_SHARDINGS: Final = (
    ("deepspeed_stage_1", "zero1"),
    ("deepspeed_stage_3", "fsdp"),
    ("deepspeed", "zero2"),
    ("fsdp", "fsdp"),
)
"""Beginnings of the names of Lightning's strategies, and what they share; DeepSpeed without a stage is its second."""

_LABELS: Final = {"zero1": "ZeRO-1", "zero2": "ZeRO-2", "hybrid": "hybrid FSDP"}


@dataclass(frozen=True, slots=True)
class PlanSpace:
    """
    Which plans are tried for a job.

    Attributes:
        max_nodes: largest number of machines in one plan; None: `DEFAULT_MAX_NODES`, or the job's own number if larger.
        keep_plan: only the script's own strategy, micro-batch and accumulation.
        lower_batch_norm: a device's batch may become smaller than the script's although BatchNorm then sees fewer
            samples, which changes what is trained.
        other_batch: where the script's global batch cannot be shared by all accelerators, the nearest one that can is
            planned, which changes what is trained.
        deepspeed: ZeRO-1 and ZeRO-2 are tried, which need another package, also where the script does not use it.
    """

    max_nodes: int | None = None
    keep_plan: bool = False
    lower_batch_norm: bool = False
    other_batch: bool = False
    deepspeed: bool = False

    def node_counts(self, profile: JobProfile) -> NDArray[np.int64]:
        """Return the numbers of machines to try for a job, rising."""
        own = profile.parallel.num_nodes
        most = max(DEFAULT_MAX_NODES, own) if self.max_nodes is None else self.max_nodes
        return np.array([n for n in sorted({*NODE_COUNTS, own}) if n <= most], dtype=np.int64)

    def least_micro_batch(self, profile: JobProfile) -> float:
        """Return the smallest micro-batch that a device may have."""
        fixed = profile.batch.batch_norm and not self.lower_batch_norm
        return _own_micro_batch(profile) if fixed else 1.0


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
        devices: accelerators of each machine that are used; None: all of them.
        batch_factor: samples of an optimizer step over the script's; None: the same in every plan.
        as_scripted: the script's strategy and micro-batch, or a micro-batch of a device's whole share where that is
            smaller; several devices under "auto" or one device's strategy are DDP, as in Lightning.
        parallel: how plans split the model; None: none does. Then `micro_batch` and `accumulate` are those of one
            replica of the model, on tensor x pipeline x context devices.
    """

    shape: NDArray[np.int64]
    nodes: NDArray[np.int64]
    sharding: NDArray[np.int64]
    micro_batch: NDArray[np.float64]
    micro_ratio: NDArray[np.float64]
    accumulate: NDArray[np.int64]
    devices: NDArray[np.int64] | None = None
    batch_factor: NDArray[np.float64] | None = None
    as_scripted: NDArray[np.bool_] | None = None
    parallel: ModelParallel | None = None

    def __len__(self) -> int:
        """Return the number of plans."""
        return len(self.shape)

    def devices_of(self, shapes: MachineShapes) -> NDArray[np.float64]:
        """Return the accelerators of one machine that each plan uses, shape (n,)."""
        if self.devices is not None:
            return self.devices.astype(np.float64)
        return np.asarray(shapes.accelerator_count[self.shape], dtype=np.float64)


def take(table: Table, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Table:
    """Return the given rows of a dataclass of columns, in the given order."""
    columns = ((each.name, getattr(table, each.name)) for each in fields(table))
    return replace(
        table, **{name: column[rows] for name, column in columns if isinstance(column, np.ndarray)}
    )


def enumerate_candidates(
    profile: JobProfile, shapes: MachineShapes, space: PlanSpace = PlanSpace()
) -> CandidateTable:
    """
    List every plan that keeps the job's global batch, and so its optimizer steps.

    All accelerators of a machine are used, or, where the batch cannot be shared by all of them, the largest divisor of
    them by which it can; a machine is paid whole. Each device gets an equal whole share of the global batch, run in
    the script's micro-batches, as one, or, so that something may fit, split by gradient accumulation about in half
    again and again down to single samples. One device needs no sharding; more are tried with DDP and with FSDP, several
    machines of several devices with hybrid FSDP, and DeepSpeed's ZeRO where it is in use or allowed. More than one
    machine is planned only where its network speed is known, and never for a TPU slice, which is sold as a
    whole. Where the profile does not know its batch, only plans with the profile's own number of devices are listed,
    with its own micro-batch and accumulation: those are the same step whatever the batch is. With
    `PlanSpace.other_batch` all accelerators are used, with the nearest global batch that they can share.

    Args:
        profile: the job.
        shapes: machines, n rows.
        space: which plans are tried.

    Returns:
        Plans ordered by shape, nodes, sharding, accumulation. Shapes without a plan: see `plan_gaps`.
    """
    shape, nodes, devices, batch = _chosen_layouts(profile, shapes, space)
    world = devices * nodes
    layout, micro, ratio, accumulate = _splits(profile, world, batch, space)
    # Columns: the codes of SHARDINGS that each layout can have.
    several = world[layout] > 1
    zero = several & (space.deepspeed or profile.parallel.strategy.startswith("deepspeed"))
    hybrid = (nodes[layout] > 1) & (devices[layout] > 1)
    row, sharding = np.nonzero(np.stack([~several, several, several, zero, zero, hybrid], axis=1))
    layout = layout[row]
    scripted = _as_scripted(profile, world[layout], sharding, micro[row], accumulate[row])
    plans = CandidateTable(
        shape=shape[layout],
        nodes=nodes[layout],
        sharding=sharding,
        micro_batch=micro[row],
        micro_ratio=ratio[row],
        accumulate=accumulate[row],
        devices=devices[layout],
        batch_factor=batch[layout] / (_global_batch(profile) or 1),
        as_scripted=scripted & (batch[layout] == (_global_batch(profile) or 1)),
    )
    if space.keep_plan:
        plans = take(plans, scripted)
    return take(plans, np.lexsort((plans.accumulate, plans.sharding, plans.nodes, plans.shape)))


def own_sharding(profile: JobProfile) -> str:
    """Return what of `SHARDINGS` the script's strategy is on several devices; auto is DDP, as in Lightning."""
    name = profile.parallel.strategy.lower()
    return next((sharding for beginning, sharding in _OWN_SHARDINGS if name.startswith(beginning)), "ddp")


def sharding_label(sharding: str) -> str:
    """
    Return the name that reports show of one of `SHARDINGS`.

    >>> sharding_label("fsdp"), sharding_label("zero1")
    ('FSDP', 'ZeRO-1')
    """
    return _LABELS.get(sharding, sharding.upper())


def plan_gaps(profile: JobProfile, shapes: MachineShapes, space: PlanSpace = PlanSpace()) -> NDArray[np.str_]:
    """
    Return the reason why each shape has no plan.

    Returns:
        One text a shape, shape (n,): "" where `enumerate_candidates` has at least one plan for it.
    """
    layouts = _layouts(profile, shapes, space)
    even = _shares_evenly(profile, layouts.nodes * layouts.devices)
    shared, planned = np.zeros((2, len(shapes)), dtype=np.bool_)
    shared[layouts.shape[even]] = True
    planned[_chosen_layouts(profile, shapes, space).shape] = True
    count = shapes.accelerator_count
    whole = _whole_devices(count)
    texts = [
        ""
        if planned[row]
        else _kept(profile, float(count[row]), space)
        if shared[row]
        else _gap(profile, float(count[row]), is_whole=bool(whole[row]))
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
    return f"a global batch of {batch} cannot be shared evenly by {count:.0f} devices: --allow batch tries others"


def _kept(profile: JobProfile, count: float, space: PlanSpace) -> str:
    """Say why no way to split a device's share is allowed."""
    own = f"{_own_micro_batch(profile):g}"
    if profile.batch.batch_norm and not space.lower_batch_norm:
        return (
            f"BatchNorm sees {own} samples of a device and would see fewer on {count:.0f} devices, which changes "
            "what is trained: --allow batch-norm permits it"
        )
    return f"the script's micro-batch of {own} does not divide the samples of each of {count:.0f} devices"


def _whole_devices(count: NDArray[np.float64]) -> NDArray[np.bool_]:
    whole: NDArray[np.bool_] = np.isfinite(count) & (count >= 1) & (count == np.floor(count))
    return whole


class _Layouts(NamedTuple):
    """Shape row, machines, used accelerators of each machine and global batch; arrays of shape (n,)."""

    shape: NDArray[np.int64]
    nodes: NDArray[np.int64]
    devices: NDArray[np.int64]
    batch: NDArray[np.int64]


def _layouts(profile: JobProfile, shapes: MachineShapes, space: PlanSpace) -> _Layouts:
    """Return every shape x node count x divisor of its accelerators that can exist, all of them first."""
    node_counts = space.node_counts(profile)
    tpu = _is_tpu(shapes.accelerator)
    several = ~np.isnan(shapes.network_gbit_per_s) & ~tpu
    whole = _whole_devices(shapes.accelerator_count)
    allowed = whole[:, None] & (several[:, None] | (node_counts == 1)[None, :])
    shape, column = np.nonzero(allowed)
    nodes = node_counts[column]
    count = np.where(whole, shapes.accelerator_count, 1.0).astype(np.int64)
    # A TPU slice is used as a whole: its chips are wired for all of it.
    parts = {
        int(number): np.array(_divisors(int(number))[::-1], dtype=np.int64)
        for number in np.unique(count[~tpu])
    }
    used = [count[row : row + 1] if tpu[row] else parts[int(count[row])] for row in shape]
    row = np.repeat(np.arange(len(shape)), [len(each) for each in used])
    devices = np.concatenate(used) if used else np.zeros(0, dtype=np.int64)
    shape, nodes = shape[row].astype(np.int64), nodes[row]
    # What fewer machines have room for needs no more of them.
    needed = (nodes == 1) | (devices * nodes > count[shape] * (nodes - 1))
    shape, nodes, devices = shape[needed], nodes[needed], devices[needed]
    return _Layouts(shape, nodes, devices, np.full(len(shape), _global_batch(profile) or 1, dtype=np.int64))


def _chosen_layouts(profile: JobProfile, shapes: MachineShapes, space: PlanSpace) -> _Layouts:
    """Return the layouts to plan, with their global batches: of each shape x node count one."""
    layouts = _layouts(profile, shapes, space)
    own = _global_batch(profile)
    world = layouts.nodes * layouts.devices
    keep = _shares_evenly(profile, world) & _has_split(profile, world, space)
    batch = layouts.batch
    if space.other_batch and own is not None and not space.keep_plan:
        first = np.ones(len(world), dtype=np.bool_)  # all accelerators
        first[1:] = (np.diff(layouts.shape) != 0) | (np.diff(layouts.nodes) != 0)
        near = _nearest_batch(own, world, space.least_micro_batch(profile))
        change = np.maximum(near / own, own / near)
        changed = first & ~keep & (change <= MOST_BATCH_CHANGE)
        batch, keep = np.where(changed, near, batch), keep | changed
    shape, nodes, devices, batch = (
        layouts.shape[keep],
        layouts.nodes[keep],
        layouts.devices[keep],
        batch[keep],
    )
    most = np.ones(len(shape), dtype=np.bool_)
    most[1:] = (np.diff(shape) != 0) | (np.diff(nodes) != 0)
    return _Layouts(shape[most], nodes[most], devices[most], batch[most])


def _nearest_batch(own: int, world: NDArray[np.int64], least: float) -> NDArray[np.int64]:
    """Return the global batch with the ratio nearest to the script's that gives each device `least` samples or more."""
    share = own / world
    low, high = np.floor(share), np.ceil(share)
    near = np.where((low > 0) & (share * share < low * high), low, high)
    return (np.maximum(near, np.ceil(least)) * world).astype(np.int64)


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


def _own_micro_batch(profile: JobProfile) -> float:
    """Return the script's micro-batch; that of a device's step shared by its accumulation where it is not known."""
    return float(
        profile.batch.micro_batch_size
        or (_samples_per_step(profile) or 0) / profile.parallel.accumulate_grad_batches
    )


def _has_split(profile: JobProfile, world: NDArray[np.int64], space: PlanSpace) -> NDArray[np.bool_]:
    """Mark the numbers of devices on which some micro-batch is allowed; only meaningful where the batch is shared."""
    batch = _global_batch(profile)
    if batch is None:
        return np.ones(len(world), dtype=np.bool_)
    share, own = batch // world, _own_micro_batch(profile)
    enough: NDArray[np.bool_] = share >= space.least_micro_batch(profile)
    if space.keep_plan:
        enough &= (share < own) | (share % own == 0)
    return enough


def _as_scripted(
    profile: JobProfile,
    world: NDArray[np.int64],
    sharding: NDArray[np.int64],
    micro: NDArray[np.float64],
    accumulate: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Mark the plans that are the script's own; see `CandidateTable.as_scripted`."""
    same: NDArray[np.bool_] = sharding == np.where(
        world > 1, SHARDINGS.index(own_sharding(profile)), SHARDINGS.index("none")
    )
    if _global_batch(profile) is None:
        return same
    same &= micro == np.minimum(_own_micro_batch(profile), micro * accumulate)
    return same


def _splits(
    profile: JobProfile, world: NDArray[np.int64], batch: NDArray[np.int64], space: PlanSpace
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return layout row, micro-batch, micro-ratio and accumulation of every way to run a device's share."""
    if _global_batch(profile) is None:
        rows = np.arange(len(world))
        accumulate = np.full(len(world), profile.parallel.accumulate_grad_batches, dtype=np.int64)
        return rows, np.full(len(world), np.nan), np.ones(len(world)), accumulate
    share = batch // world
    own, least = _own_micro_batch(profile), space.least_micro_batch(profile)
    options = {int(value): _accumulations(int(value), own, least) for value in np.unique(share)}
    counts = np.array([len(options[int(value)]) for value in share], dtype=np.int64)
    rows = np.repeat(np.arange(len(world)), counts)
    accumulate = np.fromiter(chain.from_iterable(options[int(value)] for value in share), np.int64)
    micro = (share[rows] // accumulate).astype(np.float64)
    return rows, micro, micro / own, accumulate


def _accumulations(share: int, own: float, least: float) -> tuple[int, ...]:
    """
    Return divisors of `share`, each the smallest one at least twice the one before, from 1 to `share`.

    That of the script's own micro-batch is among them, and none makes a micro-batch smaller than `least`.
    """
    divisors = _divisors(share)
    chosen = [1]
    for divisor in divisors:
        if divisor >= 2 * chosen[-1]:
            chosen.append(divisor)
    if chosen[-1] != share:
        chosen.append(share)
    if share > own and share % own == 0:
        chosen.append(int(share // own))
    return tuple(sorted({each for each in chosen if share / each >= least}))


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
