"""The plans to predict, as columns: `CandidateTable`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.variants import JobVariant

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Table = TypeVar("Table", bound="DataclassInstance")

SHARDINGS: Final = ("none", "ddp", "fsdp", "zero1", "zero2", "hybrid")
"""What data-parallel devices share: nothing; weights, gradients and optimizer state over all devices (FSDP); the state
(ZeRO-1); gradients and state (ZeRO-2); everything over the devices of one machine, which is repeated (hybrid FSDP)."""

_LABELS: Final = {"zero1": "ZeRO-1", "zero2": "ZeRO-2", "hybrid": "hybrid FSDP"}


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
        ones = np.ones(count, dtype=np.int64)
        return cls(
            ones, ones, ones, ones, ones, np.zeros(count, dtype=np.bool_), np.ones(count, dtype=np.bool_)
        )

    @property
    def devices(self) -> NDArray[np.int64]:
        """Devices of one replica of the model, shape (n,)."""
        return self.tensor * self.pipeline * self.context

    @property
    def degrees(self) -> NDArray[np.int64]:
        """Tensor, pipeline, context and expert, shape (4, n)."""
        return np.stack([self.tensor, self.pipeline, self.context, self.expert])

    @property
    def is_none(self) -> NDArray[np.bool_]:
        """Whether a plan is one of `none`, shape (n,)."""
        return np.asarray(~self.splits & ~self.sharded_optimizer & self.overlap)

    @property
    def splits(self) -> NDArray[np.bool_]:
        """Whether a plan splits the model, shape (n,)."""
        return np.asarray((self.degrees > 1).any(axis=0))


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
        weak: every device has the batch that it has in the script, and the loop counts its steps there; None: in no
            plan.
        as_scripted: the script's strategy and micro-batch, or a micro-batch of a device's whole share where that is
            smaller; several devices under "auto" or one device's strategy are DDP, as in Lightning.
        variant: index into `variants`; None: all plans run the job as it is.
        variants: the changes of the job that plans make; the first is none.
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
    weak: NDArray[np.bool_] | None = None
    as_scripted: NDArray[np.bool_] | None = None
    variant: NDArray[np.int64] | None = None
    variants: tuple[JobVariant, ...] = (JobVariant(),)
    parallel: ModelParallel | None = None

    def __len__(self) -> int:
        """Return the number of plans."""
        return len(self.shape)

    def variant_of(self, plan: int) -> JobVariant:
        """Return how a plan changes the job."""
        return self.variants[0 if self.variant is None else int(self.variant[plan])]

    @property
    def variant_or_none(self) -> NDArray[np.int64]:
        """Index into `variants` of each plan, 0 for none; shape (n,)."""
        return np.zeros(len(self), dtype=np.int64) if self.variant is None else self.variant

    @property
    def weak_or_not(self) -> NDArray[np.bool_]:
        """Whether each plan scales weakly, shape (n,)."""
        return np.zeros(len(self), dtype=np.bool_) if self.weak is None else self.weak

    @property
    def batch_factor_or_one(self) -> NDArray[np.float64]:
        """Samples of an optimizer step of each plan over the script's, shape (n,)."""
        return np.ones(len(self)) if self.batch_factor is None else self.batch_factor

    @property
    def devices_or_all(self) -> NDArray[np.int64]:
        """Accelerators of each machine that are used, 0 for all of them; shape (n,)."""
        return np.zeros(len(self), dtype=np.int64) if self.devices is None else self.devices

    def devices_of(self, shapes: MachineShapes) -> NDArray[np.float64]:
        """Return the accelerators of one machine that each plan uses, shape (n,)."""
        if self.devices is not None:
            return self.devices.astype(np.float64)
        return np.asarray(shapes.accelerator_count[self.shape], dtype=np.float64)

    def replicas_of(self, shapes: MachineShapes) -> NDArray[np.float64]:
        """Return the replicas of the model that share each plan's global batch, shape (n,)."""
        world = self.devices_of(shapes) * self.nodes
        return world if self.parallel is None else world / self.parallel.devices


def take(table: Table, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Table:
    """Return the given rows of a dataclass of columns, in the given order."""
    taken: dict[str, object] = {}
    for field in fields(table):
        column = getattr(table, field.name)
        if isinstance(column, np.ndarray):
            taken[field.name] = column[rows]
        elif isinstance(column, ModelParallel):
            taken[field.name] = take(column, rows)
    return replace(table, **taken)


def join_tables(first: Table, second: Table) -> Table:
    """Return the rows of one dataclass of columns and then those of another; what is None stays so."""
    both: dict[str, object] = {}
    for field in fields(first):
        left, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(left, np.ndarray):
            columns: list[NDArray[Any]] = [getattr(table, field.name) for table in (first, second)]
            both[field.name] = np.concatenate(columns)
        elif isinstance(left, ModelParallel):
            both[field.name] = join_tables(left, other)
    return replace(first, **both)


def sharding_label(sharding: str) -> str:
    """
    Return the name that reports show of one of `SHARDINGS`.

    >>> sharding_label("fsdp"), sharding_label("zero1")
    ('FSDP', 'ZeRO-1')
    """
    return _LABELS.get(sharding, sharding.upper())
