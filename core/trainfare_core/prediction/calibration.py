"""
The fitted coefficients, and what they say about one accelerator: how much of its peaks a kernel sustains.

An efficiency is logistic(sum of effects), so it stays between 0 and 1 and no prediction beats the roofline:

    compute: intercept[path] + slopes[path] . features(device) + kind[path] + generation[path]
    memory:  kind + generation

`path` is "vector" (fp32, fp64) or "tensor" (tf32, fp16, bf16, fp8, int8). A generation or kind that was never
measured has no effect of its own: the device's features and the mean of the others speak for it, and
`Calibration.sigma` makes the interval wider. `benchmarks/fit_calibration.py` writes the file.
"""

from __future__ import annotations

import math
from functools import lru_cache
from importlib import resources
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from trainfare_core.accelerators import Accelerator

__all__ = [
    "PATHS",
    "Calibration",
    "CommunicationFit",
    "ComputeFit",
    "MemoryFit",
    "OverheadFit",
    "Path",
    "SigmaFit",
    "calibration",
    "device_features",
    "logistic",
]

Path: TypeAlias = Literal["vector", "tensor"]
PATHS: Final[tuple[Path, ...]] = ("vector", "tensor")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ComputeFit(_Model):
    """Effects on the share of the dense peak that compute-bound kernels sustain; all in logits."""

    intercept: float
    slopes: tuple[float, float]
    kind: dict[str, float]
    generation: dict[str, float]


class MemoryFit(_Model):
    """Effects on the share of the memory bandwidth that memory-bound kernels sustain; all in logits."""

    kind: dict[str, float]
    generation: dict[str, float]


class OverheadFit(_Model):
    """Costs that do not depend on size, and two shares."""

    device_launch_s: float
    host_launch_s: float
    host_launch_source: str
    blend: float
    """Share of the smaller of compute and memory time that does not hide behind the larger one."""
    winograd_flops_share: float
    """FLOPs of an fp32 3x3 stride-1 convolution that are really executed, over the direct count."""
    fused_bytes_share: float
    """Bytes of pointwise operations left after torch.compile fuses them, over the eager count."""
    fused_launch_share: float


class CommunicationFit(_Model):
    """Alpha-beta constants of collectives; `link_*` by link family, e.g. "nvlink"."""

    link_efficiency: dict[str, float]
    link_latency_s: dict[str, float]
    network_efficiency: float
    network_latency_s: float
    exposed_floor: float
    """Share of communication that is exposed even when there is enough compute to hide all of it."""
    straggler_share: float
    """Of the step, for every doubling of the devices in one machine, which wait for one another."""
    overlap_window: float
    """Share of backward (FSDP: of forward and backward) that can hide communication."""


class SigmaFit(_Model):
    """Standard deviations of ln(measured / predicted) by what is not known; they add in quadrature."""

    base: float
    """Generation and arithmetic path measured, one device, eager, source not measured."""
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
    memory: float
    memory_measured: float


class Calibration(_Model):
    """All coefficients with their birth: date, hash of the data, rows and held-out scores."""

    schema_version: Literal[1]
    fitted_at: str
    data_sha256: str
    fitted_on: dict[str, int]
    scores: dict[str, dict[str, float]]
    compute: dict[Path, ComputeFit]
    memory: MemoryFit
    overhead: OverheadFit
    communication: CommunicationFit
    sigma: SigmaFit

    def compute_efficiency(self, device: Accelerator, path: Path, kind: str) -> float:
        """
        Return the share of the dense peak that kernels of `kind` sustain on `device`, in (0, 1).

        Args:
            device: any accelerator of the catalogue, measured or not.
            path: which arithmetic units run it.
            kind: an `OperationKind`; one that was never fitted counts as "matmul".
        """
        fit = self.compute[path]
        slopes = sum(s * x for s, x in zip(fit.slopes, device_features(device, path), strict=True))
        effect = fit.kind.get(kind, fit.kind["matmul"]) + fit.generation.get(device.generation, 0.0)
        return float(logistic(fit.intercept + slopes + effect))

    def memory_efficiency(self, device: Accelerator, kind: str) -> float:
        """Return the share of the memory bandwidth that kernels of `kind` sustain on `device`, in (0, 1)."""
        kinds = self.memory.kind
        return float(
            logistic(kinds.get(kind, kinds["other"]) + self.memory.generation.get(device.generation, 0.0))
        )

    def is_measured(self, device: Accelerator, path: Path) -> bool:
        """Whether kernels or steps of this generation and arithmetic path were in the fit."""
        return device.generation in self.compute[path].generation


def logistic(logit: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-logit))."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.asarray(logit, dtype=np.float64))))


def device_features(device: Accelerator, path: Path) -> tuple[float, float]:
    """
    Return what predicts the sustained clock of a device nobody has measured.

    Returns:
        ln of watts per dense TFLOP/s of the path, and years since 2020. A card with too little power for its
        peak cannot hold its clock; the watts a FLOP needs fall from year to year. Unknown power counts as
        the 1 W per TFLOP/s (tensor) or 12 W per TFLOP/s (vector) that is typical.
    """
    typical_w = 1.0 if path == "tensor" else 12.0
    candidates = ("bf16", "fp16", "tf32") if path == "tensor" else ("fp32",)
    peaks = [peak for dtype in candidates if (peak := device.peak_flops_per_s(dtype))]
    watts = device.power_w
    log_watts = math.log(watts / (peaks[0] / 1e12) / typical_w) if watts and peaks else 0.0
    return log_watts, (device.release_year - 2020) / 5.0


@lru_cache(maxsize=1)
def calibration() -> Calibration:
    """Return the coefficients that ship with trainfare, read once per process."""
    text = resources.files("trainfare_core").joinpath("data/calibration.json").read_text(encoding="utf-8")
    return Calibration.model_validate_json(text)
