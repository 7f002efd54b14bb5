"""
Steps timed operation by operation: every job but language models.

    step = hold(device time x source correction, host launches) + exposed communication, and not faster
    than the input
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import source, uncertainty
from trainfare_core.prediction.columns import (
    SMALLEST_S,
    PlacedPlans,
    StepColumns,
    input_s,
    never_faster_than_roofline,
)
from trainfare_core.prediction.network import collectives
from trainfare_core.prediction.roofline.coefficients import Calibration
from trainfare_core.prediction.roofline.operations import (
    DeviceTime,
    Operations,
    Roofline,
    host_bound,
    host_launch_s,
    operation_times,
)

__all__ = ["RooflineJob"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RooflineJob:
    """A profile's operations with the coefficients that time them."""

    profile: JobProfile
    fit: Calibration
    operations: Operations
    correction: source.SourceCorrection
    pipeline: source.InputPipeline

    @classmethod
    def of(cls, profile: JobProfile, fit: Calibration) -> RooflineJob:
        """Read a profile and compare its measured step, where there is one, with its own prediction."""
        operations = Operations.of(profile)
        return cls(
            profile,
            fit,
            operations,
            source_correction(profile, operations, fit),
            source.input_pipeline(profile),
        )

    def step(self, placed: PlacedPlans) -> StepColumns:
        """Return the parts of the step of every plan."""
        passes = placed.plans.accumulate / self.profile.parallel.accumulate_grad_batches
        times = self._device_times(placed)
        factor, host_factor = placed.correction_factors(self.correction, self.fit)
        update = np.where(placed.sharded, 1.0 / placed.world, 1.0)
        compute_s, memory_s, floor_s = (
            (part[0] + part[1]) * passes + part[2] * update
            for part in (times.compute_s, times.memory_s, times.floor_s)
        )
        launch_s = (times.launch_s[0] + times.launch_s[1]) * passes + times.launch_s[2]
        factor = never_faster_than_roofline(
            factor, compute_s + memory_s + launch_s, floor_s, compiled=self.profile.source.compiled
        )
        compute_s, memory_s, launch_s = compute_s * factor, memory_s * factor, launch_s * factor
        host_s = self._host_s(placed, passes) * host_factor
        held_s = host_bound(compute_s + memory_s + launch_s, host_s)
        moved_s, network_s, window_s = self._communication(placed, times.total_s * factor, passes)
        waiting_s = self.fit.communication.straggler_share * np.log2(
            np.minimum(placed.per_machine, collectives.LONGEST_RING)
        ) * held_s  # fmt: skip
        exposed_s = collectives.exposed_s(moved_s, window_s, self.fit.communication)
        samples = placed.plans.micro_ratio * passes
        return StepColumns(
            compute_s=compute_s,
            memory_s=memory_s,
            launch_s=held_s - compute_s - memory_s,
            communication_s=exposed_s + waiting_s,
            hidden_s=moved_s - exposed_s,
            input_s=input_s(self.pipeline, placed.vcpus_per_device, samples, held_s + exposed_s + waiting_s),
            network_s=network_s,
            host_share=np.clip(host_s / np.maximum(held_s, SMALLEST_S), 0.0, 1.0),
        )

    def log_sigma(self, placed: PlacedPlans, step: StepColumns) -> Array:
        """Return the standard deviation of ln(step time) of every plan."""
        factors = placed.uncertainty(step, self.profile, self.correction, self.fit)
        return uncertainty.step_log_sigma(factors, self.fit.sigma)

    def _device_times(self, placed: PlacedPlans) -> DeviceTime:
        """Return seconds by phase of each plan, worked out once a distinct (device, micro-batch ratio)."""
        if not placed.devices.found:
            nothing = np.full((3, len(placed.row)), np.nan)
            return DeviceTime(nothing, nothing, nothing, nothing)
        pairs = np.stack([placed.row.astype(np.float64), placed.plans.micro_ratio])
        distinct, inverse = np.unique(pairs, axis=1, return_inverse=True)
        where = inverse.reshape(-1)
        times = operation_times(
            self.operations, placed.devices.rooflines, distinct[0].astype(np.int64), distinct[1], self.fit
        )
        return DeviceTime(
            times.compute_s[:, where],
            times.memory_s[:, where],
            times.launch_s[:, where],
            times.floor_s[:, where],
        )

    def _host_s(self, placed: PlacedPlans, passes: Array) -> Array:
        """Return seconds that the host needs to issue the step; the optimizer's launches are issued once."""
        found = placed.devices.found
        by_device = np.array(
            [host_launch_s(self.operations, device, self.fit) for device in found] or [np.zeros(3)]
        )
        forward, backward, update = by_device[placed.row].T
        return np.asarray((forward + backward) * passes + update)

    def _communication(
        self, placed: PlacedPlans, phase_s: Array, passes: Array
    ) -> tuple[Array, Array, Array]:
        """Return seconds of all communication, of its part between machines, and of the compute it can hide behind."""
        fit, traffic = self.fit.communication, collectives.traffic_of(self.profile)
        links = (
            placed.devices.column([link.bytes_per_s for link in placed.devices.links], placed.row),
            placed.devices.column([link.latency_s for link in placed.devices.links], placed.row),
        )
        accumulate = placed.plans.accumulate

        def seconds(payload: float, rings: float, local: Array) -> Array:
            return collectives.collective_s(
                np.full(len(placed.row), payload),
                rings,
                local,
                placed.nodes,
                links,
                placed.network_bytes_per_s,
                fit,
            )

        def all_kinds(local: Array) -> Array:
            reduce = seconds(traffic.all_reduce_bytes, 2.0, local)
            shard = seconds(traffic.gather_bytes, 1.0, local) + seconds(traffic.scatter_bytes, 1.0, local)
            return np.where(placed.sharded, shard * accumulate, reduce)

        # DDP reduces once, in the last backward; FSDP gathers and scatters in every micro-batch.
        last_backward_s: Array = phase_s[1] * passes / np.maximum(accumulate, 1).astype(np.float64)
        all_passes_s: Array = (phase_s[0] + phase_s[1]) * passes
        window_s: Array = np.where(placed.sharded, all_passes_s, last_backward_s)
        return all_kinds(placed.per_machine), all_kinds(np.ones_like(placed.per_machine)), window_s


def source_correction(
    profile: JobProfile, operations: Operations, fit: Calibration
) -> source.SourceCorrection:
    """Compare the measured step with its own prediction, without the network and the loader."""
    device, measured_s = source.source_device(profile), source.measured_compute_s(profile)
    if device is None or measured_s is None or not profile.operations or profile.parallel.world_size > 1:
        return source.SourceCorrection()
    roofline = Roofline.of(device, operations)
    if roofline.unknown_because:
        return source.SourceCorrection()
    times = operation_times(operations, [roofline], np.zeros(1, dtype=np.int64), np.ones(1), fit)
    host_s = float(host_launch_s(operations, device, fit).sum())
    return source.SourceCorrection.of(device, measured_s, float(times.total_s.sum()), host_s)
