"""Plans beside the devices they run on, and the parts of their steps: the columns between the engine and a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Array, Flags
from trainfare_core.candidates import SHARDINGS, CandidateTable, take
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.earlier_runs import Evidence
from trainfare_core.hardware.hosts import HostColumns, describe_hosts
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.distance import (
    DEVICES,
    HOST_STEPS,
    Likeness,
    MeasuredGroups,
    Work,
    describe_work,
)
from trainfare_core.prediction.input_pipeline import InputPipeline
from trainfare_core.prediction.language_models.coefficients import DecoderFit
from trainfare_core.prediction.language_models.sums import DecoderLedger
from trainfare_core.prediction.memory.sharding import Shards
from trainfare_core.prediction.network.collectives import Links
from trainfare_core.prediction.roofline.coefficients import Calibration
from trainfare_core.prediction.roofline.features import PATHS
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.source import SourceCorrection
from trainfare_core.prediction.uncertainty import UncertaintyFactors
from trainfare_core.prices.shapes import MachineShapes

BYTES_PER_GBIT: Final = 1e9 / 8
_FSDP, _HYBRID = SHARDINGS.index("fsdp"), SHARDINGS.index("hybrid")
_ZERO: Final = (SHARDINGS.index("zero1"), SHARDINGS.index("zero2"))
SMALLEST_S: Final = 1e-30
"""Keeps quotients of two zero times finite; far below any real time."""


@dataclass(frozen=True, slots=True)
class Run:
    """Everything about one profile that does not depend on the plan; made once by `engine.prepare`."""

    profile: JobProfile
    fit: Calibration
    operations: Operations
    correction: SourceCorrection
    pipeline: InputPipeline
    decoder: DecoderFit
    ledger: DecoderLedger | None
    """Sums of a language model, which has terms of its own; None: another kind of model."""
    groups: MeasuredGroups | None
    """Measured runs that predictions are compared with; None: with none, as research fits them."""
    earlier: tuple[Evidence, ...] = ()
    """Of the job's project and of devices; none where the job's own step was measured, which says more."""


@dataclass(frozen=True, slots=True)
class Devices:
    """The distinct accelerators of a table that have a prediction; lists of the same length."""

    found: list[Accelerator]
    rooflines: list[Roofline]
    links: list[Links]

    def column(self, values: list[float] | list[bool], row: NDArray[np.int64]) -> Array:
        """Return one value a device as a column; NaN where no device has a prediction."""
        return np.array(values or [np.nan], dtype=np.float64)[row]


@dataclass(frozen=True)
class PlacedPlans:
    """n plans, each with its machine and its device."""

    shapes: MachineShapes
    plans: CandidateTable
    devices: Devices
    row: NDArray[np.int64]
    """Index into `devices` of each plan; 0 where its device has no prediction."""
    factor: Array
    """What a measured step multiplies each plan's predicted step by; 1 where nothing was measured."""

    @cached_property
    def per_machine(self) -> Array:
        """Devices of one machine that the plan uses."""
        return np.maximum(self.plans.devices_of(self.shapes), 1.0)

    @cached_property
    def nodes(self) -> Array:
        """Machines."""
        return self.plans.nodes.astype(np.float64)

    @cached_property
    def world(self) -> Array:
        """Devices of the whole run."""
        return self.per_machine * self.nodes

    @cached_property
    def sharded(self) -> Flags:
        """Whether weights, gradients and optimizer state are sharded (FSDP, over all devices or those of a machine)."""
        return np.asarray((self.plans.sharding == _FSDP) | self.hybrid)

    @cached_property
    def hybrid(self) -> Flags:
        """Whether they are sharded over the devices of one machine, and machines reduce their shards."""
        return np.asarray(self.plans.sharding == _HYBRID)

    @cached_property
    def zero(self) -> Flags:
        """Whether the optimizer's state is sharded and the weights are whole (ZeRO-1 and ZeRO-2)."""
        return np.asarray(np.isin(self.plans.sharding, _ZERO))

    @cached_property
    def zero_2(self) -> Flags:
        """Whether gradients are reduced to their shard after every backward, and weights are whole (ZeRO-2)."""
        return np.asarray(self.plans.sharding == _ZERO[1])

    @cached_property
    def shards(self) -> Shards:
        """Over how many devices weights, gradients and the optimizer's state are divided."""
        return Shards.of(self.plans.sharding, self.per_machine, self.world)

    @cached_property
    def network_bytes_per_s(self) -> Array:
        """Nominal rate of one machine's network; NaN where it is not known."""
        gbit = self.shapes.network_gbit_per_s[self.plans.shape]
        return np.where(gbit > 0, gbit, np.nan) * BYTES_PER_GBIT

    @cached_property
    def vcpus_per_device(self) -> Array:
        """NaN where it is not known."""
        return np.asarray(self.shapes.vcpus[self.plans.shape] / self.per_machine)

    @cached_property
    def hosts(self) -> HostColumns:
        """The processor of each plan's machine."""
        number, shape = self.shapes.host, self.plans.shape
        return describe_hosts(np.full(len(shape), -1) if number is None else number[shape])

    def uncertainty(self, run: Run, step: StepColumns) -> UncertaintyFactors:
        """Return what widens the interval of each plan whose step has these parts."""
        devices_found, row, origin, fit = self.devices.found, self.row, run.correction.device, run.fit

        def flag(values: list[bool]) -> Flags:
            return np.array(values or [False], dtype=np.bool_)[row]

        step_s = step.step_s
        safe_s = np.where(step_s > 0, step_s, 1.0)
        return UncertaintyFactors(
            same_device=flag([origin is not None and d.name == origin.name for d in devices_found]),
            corrected=flag([origin is not None and d.kind == origin.kind for d in devices_found]),
            unmeasured=flag([not r.is_measured(fit) for r in self.devices.rooflines]),
            unseen_device=flag([not fit.is_known(d) for d in devices_found]),
            unseen_generation=flag(
                [not any(fit.is_measured(d, path) for path in PATHS) for d in devices_found]
            ),
            emulated=flag([r.emulated for r in self.devices.rooflines]),
            needs_porting=flag([d.kind != "gpu" for d in devices_found]),
            launch_share=step.host_share,
            communication_share=np.nan_to_num(step.communication_s / safe_s),
            network_share=np.nan_to_num(np.minimum(step.network_s, step.communication_s) / safe_s),
            synchronized_share=np.nan_to_num(step.synchronized_s / safe_s),
            several_devices=self.world > 1,
            several_nodes=self.plans.nodes > 1,
            compiled=run.profile.source.compiled or run.profile.source.fused,
            unknown_bytes_share=1.0 - run.profile.coverage,
            unfitted_share=self.devices.column(
                [r.compute_unfitted_share(run.operations) for r in self.devices.rooflines], row
            ),
        )

    def find_unknown_share(self, run: Run) -> Array:
        """Return the share of an error that no measured step of the job takes away: nothing on the same device."""
        origin, left = run.correction.device, 1.0 - run.fit.source.share
        shares = [
            1.0
            if origin is None or device.kind != origin.kind
            else 0.0
            if device.name == origin.name
            else left
            for device in self.devices.found
        ]
        return self.devices.column(shares, self.row)

    def compare(self, run: Run, groups: MeasuredGroups, host_share: Array) -> Likeness:
        """Return how each plan's work compares with measured runs; plans of one device and host share a comparison."""
        host = np.round(np.nan_to_num(host_share) * HOST_STEPS).astype(np.int64)
        devices = np.where(self.plans.nodes > 1, 2, np.where(self.world > 1, 1, 0))
        codes = (self.row * (HOST_STEPS + 1) + host) * len(DEVICES) + devices
        _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
        described = np.array([describe_work(roofline, run.operations) for roofline in self.devices.rooflines])
        row = self.row[first]
        *shares, length = described[row].T
        found = self.devices.found
        work = Work(
            features=np.stack([*shares, host[first] / HOST_STEPS, length], axis=1),
            vendor=tuple(found[int(index)].vendor for index in row),
            devices=devices[first],
            language_model=run.ledger is not None or self.plans.parallel is not None,
        )
        return take(groups.compare(work), inverse)


@dataclass(frozen=True, slots=True)
class StepColumns:
    """Seconds of every plan's optimizer step by cause, without the input pipeline, arrays of shape (n,)."""

    compute_s: Array
    memory_s: Array
    launch_s: Array
    communication_s: Array
    hidden_s: Array
    """Communication that overlaps with backward, not part of the step."""
    samples: Array
    """Samples of one device's step over the profile's."""
    network_s: Array
    """Of `communication_s`, the part between machines."""
    synchronized_s: Array
    """Of `communication_s`, what SyncBatchNorm adds."""
    host_share: Array
    """How far the step is held up by the host that issues its launches, 0 to 1."""

    @property
    def step_s(self) -> Array:
        """The step, where its input is there."""
        return self.compute_s + self.memory_s + self.launch_s + self.communication_s


def never_faster_than_roofline(run: Run, factor: Array, predicted_s: Array, floor_s: Array) -> Array:
    """
    Return a correction, limited so that no step beats the roofline of its device; a compiled one may move less.

    Args:
        run: the profile.
        factor: from a measured step.
        predicted_s: what it multiplies.
        floor_s: the roofline.
    """
    if run.profile.source.compiled:
        return factor
    return np.asarray(np.maximum(factor, floor_s / np.maximum(predicted_s, SMALLEST_S)))
