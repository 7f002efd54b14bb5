"""
The fitted coefficients, and what they say about one accelerator: how much of its peaks a kernel sustains.

An efficiency is logistic(sum of coefficient x feature), so it stays between 0 and 1 and no prediction beats the
roofline:

    compute: of the path (constant, kind, power, age, ridge, generation) + shared (shape, layout, waves, device)
    memory:  kind, layout, shape, age, generation, device

`path` is "vector" (fp32, fp64) or "tensor" (tf32, fp16, bf16, fp8, int8); `features.py` names the features. A
generation, device or class that was never measured has no coefficient: the device's power, peak, bandwidth and age
and the operation's kind speak for it, and `Calibration.sigma` makes the interval wider.
`benchmarks/fit_calibration.py` writes the file; constants of links have one of their own (`links.py`).
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trainfare_core.documents import Record
from trainfare_core.hardware.accelerators import Accelerator
from trainfare_core.prediction.network.coefficients import CommunicationFit, link_calibration
from trainfare_core.prediction.roofline.features import (
    Features,
    device_compute_features,
    device_memory_features,
)

__all__ = [
    "PATHS",
    "Calibration",
    "CommunicationFit",
    "OverheadFit",
    "Path",
    "SigmaFit",
    "SourceFit",
    "calibration",
    "logistic",
    "with_links",
]

Path: TypeAlias = Literal["vector", "tensor"]
PATHS: Final[tuple[Path, ...]] = ("vector", "tensor")


class OverheadFit(Record):
    """Costs that do not depend on size, and two shares."""

    device_launch_s: float
    timed_launch_s: float
    """Of a kernel timed alone: its launch and the timer's events, which a step hides."""
    host_launch_s: float
    """Of the Python thread that issues one launch of forward or of the optimizer, with torch 2 or newer."""
    host_backward_share: float
    """Of `host_launch_s`, what a launch of backward takes: its thread runs no Python."""
    old_host_factor: float
    """Times `host_launch_s` with torch 0 and 1, on the hosts of their time."""
    old_host_year_slope: float
    """ln of that factor's change from a GPU of one year to a GPU five years newer."""
    host_launch_source: str
    blend: float
    """Share of the smaller of compute and memory time that does not hide behind the larger one."""
    winograd_flops_share: float
    """FLOPs of an fp32 3x3 stride-1 convolution that are really executed, over the direct count."""
    fused_bytes_share: float
    """Bytes of pointwise operations left after torch.compile fuses them, over the eager count."""
    fused_launch_share: float
    trainer_factor: float
    """Times a bare step, what the loop of a published trainer takes with its loader: for scoring tables that timed
    one. A job's own loader is measured, not assumed."""


class SourceFit(Record):
    """How much of a measured step's ln(measured / predicted) carries over to another GPU, and to its host."""

    same_generation: float
    other_generation: float
    host: float


class SigmaFit(Record):
    """Standard deviations of ln(measured / predicted) by what is not known; they add in quadrature."""

    base: float
    """This very device and its arithmetic path measured, one device, eager, source not measured."""
    unseen_device: float
    """Only other devices of its generation were measured."""
    unseen_generation: float
    unseen_path: float
    emulated: float
    needs_porting: float
    several_devices: float
    several_nodes: float
    compiled: float
    launch_bound: float
    unknown_share: float
    """Times the share of bytes that belongs to operations without a formula."""
    same_device: float
    """Replaces `base` where the step was measured on the very accelerator."""
    corrected: float
    """Replaces `base` where the step was measured on another known GPU."""
    corrected_unseen_device: float
    """Replaces `unseen_device` there."""
    memory: float
    memory_measured: float
    quantiles: dict[str, float]
    """Standard deviations to either end of the central 50, 80 and 90 %: held-out errors have longer tails than a
    normal distribution."""
    reaches: dict[str, dict[str, float]]
    """The same by what a table timed: "trainer" (a trainer's loop, as a job runs), "steps" (bare steps) or "kernels"
    on a device that was measured, and with ":unseen" on one that was not; "corrected" with a step measured on
    another device."""


class Calibration(Record):
    """All coefficients with their birth: date, hash of the data, rows and held-out scores."""

    schema_version: Literal[2]
    fitted_at: str
    data_sha256: str
    fitted_on: dict[str, int]
    scores: dict[str, dict[str, float]]
    compute: dict[Path, dict[str, float]]
    """Coefficients of one arithmetic path, in logits; "1" is the constant."""
    shared: dict[str, float]
    """Coefficients of operation shapes and of single devices, for either path."""
    memory: dict[str, float]
    overhead: OverheadFit
    communication: CommunicationFit
    """From link_calibration.json."""
    source: SourceFit
    sigma: SigmaFit

    def compute_logit(self, features: Features, path: Path) -> float:
        """Return an operation's part of the logit of its compute efficiency."""
        own, shared = self.compute[path], self.shared
        return sum(value * (own.get(name, 0.0) + shared.get(name, 0.0)) for name, value in features)

    def memory_logit(self, features: Features) -> float:
        """Return an operation's part of the logit of its memory efficiency."""
        return sum(value * self.memory.get(name, 0.0) for name, value in features)

    def device_compute_logit(self, device: Accelerator, path: Path) -> float:
        """Return the device's part of the logit of compute efficiency."""
        own = self.compute[path]
        known = (
            own["1"] + own.get(f"gen:{device.generation}", 0.0) + self.shared.get(f"dev:{device.name}", 0.0)
        )
        return known + sum(
            own.get(name, 0.0) * value for name, value in device_compute_features(device, path)
        )

    def device_memory_logit(self, device: Accelerator) -> float:
        """Return the device's part of the logit of memory efficiency."""
        own = self.memory
        known = own.get(f"gen:{device.generation}", 0.0) + own.get(f"dev:{device.name}", 0.0)
        return known + sum(own.get(name, 0.0) * value for name, value in device_memory_features(device))

    def compute_efficiency(self, device: Accelerator, path: Path, kind: str) -> float:
        """
        Return the share of the dense peak that large, regular kernels of `kind` sustain on `device`, in (0, 1).

        Args:
            device: any accelerator of the catalogue, measured or not.
            path: which arithmetic units run it.
            kind: an `OperationKind`; one that was never fitted counts as a matrix product.
        """
        return float(
            logistic(
                self.compute_logit(((f"kind:{kind}", 1.0),), path) + self.device_compute_logit(device, path)
            )
        )

    def memory_efficiency(self, device: Accelerator, kind: str) -> float:
        """Return the share of the memory bandwidth that kernels of `kind` sustain on `device`, in (0, 1)."""
        name = kind if f"kind:{kind}" in self.memory else "other"
        return float(logistic(self.memory_logit(((f"kind:{name}", 1.0),)) + self.device_memory_logit(device)))

    def is_measured(self, device: Accelerator, path: Path) -> bool:
        """Whether kernels or steps of this generation and arithmetic path were in the fit."""
        return f"gen:{device.generation}" in self.compute[path]

    def is_known(self, device: Accelerator) -> bool:
        """Whether this very device was in the fit, and not only others of its generation."""
        return f"dev:{device.name}" in self.shared


def logistic(logit: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-logit))."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(logit, dtype=np.float64))))


@lru_cache(maxsize=1)
def calibration() -> Calibration:
    """Return the coefficients that ship with trainfare, read once per process."""
    text = resources.files("trainfare_core").joinpath("data/calibration.json").read_text(encoding="utf-8")
    return with_links(json.loads(text))


def with_links(document: dict[str, Any]) -> Calibration:
    """Return the coefficients of a file of `fit_calibration.py`, with the shipped constants of links."""
    links = link_calibration()
    sigma = {**document["sigma"], "several_devices": links.several_devices_log_sigma}
    return Calibration.model_validate({**document, "communication": links.communication, "sigma": sigma})
