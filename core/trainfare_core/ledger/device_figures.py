"""
What `trainfare calibrate` measured on a device, beside what the same kernels are predicted to take there.

Kernels are compared with their own predictions and not with the peaks of a data sheet, which small ones do not come
near. The ratio of a kind of work is the geometric mean over its kernels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from pydantic import AwareDatetime, Field, ValidationError

from trainfare_core.documents import Count, KeptDocument, Record, first_problem
from trainfare_core.errors import InputError
from trainfare_core.hardware.accelerators import accelerator, resolve_device
from trainfare_core.hardware.earlier_runs import DeviceFigures, EarlierRuns, find_earlier_runs
from trainfare_core.job_profile import JobProfile, OperationGroup, Text
from trainfare_core.prediction.network.collectives import collective_s, link_of
from trainfare_core.prediction.roofline.coefficients import Calibration, calibration
from trainfare_core.prediction.roofline.features import TENSOR_KINDS
from trainfare_core.prediction.roofline.host import host_bound
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline.times import operation_seconds
from trainfare_core.prediction.roofline_job import own_device_s
from trainfare_core.prediction.source import LIMITS, get_measured_compute_s, source_device

NO_PREDICTION: Final = "trainfare predicts no step on this device"
LEAST_OF_ROOFLINE: Final = 0.8
"""Of the seconds at the peaks of the data sheet: a kernel that takes less did not run whole, or on another device.
Chosen: a GeForce card runs up to a tenth above the clock that its peak is stated for."""


class KernelTime(Record):
    """Seconds of one launch, or of an all-reduce of as many bytes as `operation` reads."""

    operation: OperationGroup
    reduced_by: Annotated[int, Field(ge=2, le=65_536)] | None = Field(
        default=None, description="devices that all-reduce; None: a launch on one"
    )
    seconds: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]

    @property
    def work(self) -> str:
        """Kind of work, as `DeviceFigures.ratios` names it."""
        group = self.operation
        if self.reduced_by:
            return "all_reduce"
        if group.kind in TENSOR_KINDS:
            return f"{group.kind} {group.dtype}"
        return "memory" if group.kind == "copy" else "launch"


class DeviceMeasurement(KeptDocument):
    """What `trainfare calibrate` measured."""

    schema_version: Literal[1] = 1
    tool_version: Text
    device_name: Text = Field(description="as the driver has it")
    memory_bytes: Count | None = Field(description="None: of a CPU")
    torch: Text
    driver: Text = Field(description="its version; '' where it is not known")
    measured_at: AwareDatetime
    kernels: tuple[KernelTime, ...]

    @property
    def accelerator(self) -> str | None:
        """Name of the device in the catalogue; None of a CPU, and of what is not in it."""
        device = None if self.memory_bytes is None else resolve_device(self.device_name, self.memory_bytes)
        return device.name if device else None

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str) -> DeviceMeasurement:
        """
        Read a measurement.

        Raises:
            InputError: not JSON, or not of this schema.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise InputError(f"{where}: no measurement of a device: {first_problem(error)}") from error


class Figure(NamedTuple):
    """One kind of work: its kernels, and measured over predicted seconds; or why these change no prediction."""

    work: str
    kernels: list[KernelTime]
    ratio: float | None
    refused: str = ""


def compare_kernels(measured: DeviceMeasurement) -> list[Figure]:
    """Compare each kind of work of a measurement with its prediction."""
    kernels_by_work: dict[str, list[KernelTime]] = {}
    for kernel in measured.kernels:
        kernels_by_work.setdefault(kernel.work, []).append(kernel)
    name = measured.accelerator
    if name is None:
        return [Figure(work, kernels, None, NO_PREDICTION) for work, kernels in kernels_by_work.items()]
    return [_judge(work, kernels, name) for work, kernels in kernels_by_work.items()]


def _judge(work: str, kernels: list[KernelTime], name: str) -> Figure:
    """Compare the kernels of one kind of work on an accelerator, and refuse a ratio that is not plausible."""
    predicted = [_predict(kernel, name, calibration()) for kernel in kernels]
    if not all(0 < predicted_s < math.inf for predicted_s, _ in predicted):
        return Figure(work, kernels, None, "its time on this device is not predicted")
    pairs = list(zip(kernels, predicted, strict=True))
    ratio = math.exp(
        sum(math.log(kernel.seconds / predicted_s) for kernel, (predicted_s, _) in pairs) / len(pairs)
    )
    speedup = max(floor_s / kernel.seconds for kernel, (_, floor_s) in pairs)
    if speedup * LEAST_OF_ROOFLINE > 1:
        return Figure(work, kernels, None, f"refused: {speedup:.2g} times as fast as its data sheet")
    if not LIMITS[0] <= ratio <= LIMITS[1]:
        limits = f"{LIMITS[0]:g} to {LIMITS[1]:g}"
        return Figure(work, kernels, None, f"refused: {ratio:.2g} times its prediction, not {limits}")
    return Figure(work, kernels, float(f"{ratio:.6g}"))


def _predict(kernel: KernelTime, name: str, fit: Calibration) -> tuple[float, float]:
    """Return seconds of a kernel as predicted, and at the peaks of the data sheet, 0 where these say nothing."""
    device, operations = accelerator(name), Operations.of_groups((kernel.operation,))
    if kernel.reduced_by:
        link = link_of(device, fit.communication)
        size_bytes, devices, ones = (
            np.array([float(number)]) for number in (kernel.operation.bytes_read, kernel.reduced_by, 1)
        )
        links = (ones * link.bytes_per_s, ones * link.latency_s)
        return float(collective_s(size_bytes, 2.0, devices, ones, links, ones, fit.communication)[0]), 0.0
    roofline = Roofline.of(device, operations)
    step_s = host_bound(*own_device_s(operations, [roofline], fit))
    floor_s = operation_seconds(operations, [roofline], 1.0, fit).floor_s
    return float(step_s[0]), float(floor_s[0, 0])


def choose_figures(
    profile: JobProfile, measurements: Iterable[DeviceMeasurement], earlier: Sequence[EarlierRuns] = ()
) -> tuple[DeviceFigures, ...]:
    """
    Return what measurements say of accelerators, in the order of their names.

    Of several of one accelerator the newest with the job's torch counts, else the newest. None where a step of the job
    was measured on an accelerator, nor on a die with earlier runs: their steps hold it already.

    Args:
        profile: the job.
        measurements: in any order.
        earlier: runs by which the job's prediction is corrected.
    """
    if source_device(profile) and get_measured_compute_s(profile) and profile.parallel.world_size == 1:
        return ()
    torch_version = profile.source.torch_version
    chosen: dict[str, DeviceMeasurement] = {}
    for measured in sorted(measurements, key=lambda entry: (entry.torch == torch_version, entry.measured_at)):
        name = measured.accelerator
        if name and not find_earlier_runs(earlier, accelerator(name).silicon):
            chosen[name] = measured
    figures = (
        DeviceFigures(
            accelerator=name,
            measured_on=measured.measured_at.date().isoformat(),
            software=f"torch {measured.torch}, driver {measured.driver or 'not known'}",
            ratios={entry.work: entry.ratio for entry in compare_kernels(measured) if entry.ratio},
        )
        for name, measured in sorted(chosen.items())
    )
    return tuple(entry for entry in figures if entry.ratios)
