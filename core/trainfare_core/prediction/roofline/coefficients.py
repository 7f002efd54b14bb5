"""
The fitted coefficients of the one-device model: the shares of its peaks that a kernel sustains.

An efficiency is logistic(sum of coefficient x term), so it stays between 0 and 1 and no prediction beats the roofline;
`features.py` names the terms. A generation, device or class that was never measured has no coefficient: the device's
power, peak, bandwidth and age and the operation's kind stand in for it, and the interval is wider (`SigmaFit`).
`research/trainfare_research/runners/fit_calibration.py` writes the file; the constants of links have one of
their own (`network/`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainfare_core.documents import Record, data_text
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerators
from trainfare_core.prediction.network.collectives import CommunicationFit, link_calibration
from trainfare_core.prediction.roofline.features import (
    Path,
    Terms,
    convolution_term,
    device_compute_terms,
    device_memory_terms,
    generation_term,
)


class OverheadFit(Record):
    """Costs that do not depend on size, and Winograd's saving."""

    device_launch_s: float
    """From the end of one kernel to the start of the next."""
    host_launch_s: float
    """Of the Python thread that issues one launch of forward or of the optimizer, with PyTorch 2 or newer."""
    host_backward_share: float
    """Of `host_launch_s`, the cost of a launch of backward: its thread runs no Python."""
    old_host_factor: float
    """Times `host_launch_s` with PyTorch 0.x and 1.x, on the hosts of their time."""
    old_host_year_slope: float
    """ln of that factor's change from a GPU of one year to a GPU five years newer."""
    winograd_flops_share: float
    """FLOPs of an fp32 3x3 stride-1 convolution that are really executed, over the direct count."""
    fused_launch_share: float
    """Launches of pointwise operations that are left where a compiler fuses them, over the eager count."""


class SourceFit(Record):
    """How much of a measured step's ln(measured / predicted) holds on another GPU; see `SourceCorrection`."""

    share: float
    """Where the other GPU is predicted to be as fast."""
    share_per_log_slower: float
    """
    Change of the share where the other GPU is predicted e times as slow: more of it where the measured step was faster
    than predicted, less where it was slower.
    """


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


class Calibration(Record):
    """All coefficients with their provenance: date of the fit, hash of the data, rows by source."""

    schema_version: Literal[6]
    fitted_at: str
    data_sha256: str
    fitted_on: dict[str, int]
    devices: tuple[str, ...]
    """Names of those that ran a fitted step or kernel."""
    matmul_devices: tuple[str, ...]
    """Names of those of which the best matrix product alone was timed."""
    coefficients: dict[str, float]
    """By term (`features.py`), in logits."""
    overhead: OverheadFit
    communication: CommunicationFit
    """From link_calibration.json."""
    source: SourceFit
    sigma: SigmaFit

    def __hash__(self) -> int:
        """Return a hash of what a device's part of a logit depends on."""
        return hash((self.devices, self.matmul_devices, *self.coefficients.values()))

    def logit(self, terms: Terms) -> float:
        """Return the sum of coefficient x term; a term without a coefficient counts as zero."""
        known = self.coefficients
        return sum(value * known.get(name, 0.0) for name, value in terms)

    def logits(self, operations: Iterable[Terms]) -> NDArray[np.float64]:
        """Return the sums of n operations, shape (n,), each worked out once for all that share their terms."""
        terms = list(operations)
        known = {term: self.logit(term) for term in set(terms)}
        return np.array([known[term] for term in terms], dtype=np.float64)

    def device_logits(
        self, devices: Sequence[Accelerator], part: Path | Literal["memory"], *, convolution: bool = False
    ) -> NDArray[np.float64]:
        """
        Return the devices' part of the logits of one efficiency, shape (devices,).

        A device that was not itself measured in this kind of work gets at most the best of those that were, of its
        maker where there are any: power and peak alone would extrapolate beyond every measurement, and a ranking
        would then prefer what was never run.

        Args:
            devices: of the catalogue.
            part: the arithmetic path, or "memory" for the share of the bandwidth.
            convolution: of convolutions, and not of other operations; no difference to memory.
        """
        values = np.array(
            [self.device_logit(device, part, convolution) for device in devices], dtype=np.float64
        )
        unmeasured = [i for i, device in enumerate(devices) if not self.measures(device, part, convolution)]
        if unmeasured:
            best, every = _best_measured(self, part, convolution)
            for i in unmeasured:
                values[i] = min(values[i], best.get(devices[i].vendor, every))
        return values

    def device_logit(self, device: Accelerator, part: Path | Literal["memory"], convolution: bool) -> float:  # noqa: FBT001 - handed on
        """Return the device's own part of a logit, whatever was measured; see `device_logits`."""
        if part == "memory":
            return self.logit(device_memory_terms(device))
        return self.logit(device_compute_terms(device, part, convolution=convolution))

    def measures(self, device: Accelerator, part: Path | Literal["memory"], convolution: bool) -> bool:  # noqa: FBT001 - handed on
        """Return whether rows of this very device are behind this efficiency."""
        is_measured = self.is_known(device)
        if part == "memory":
            return is_measured
        of_generation = (convolution_term if convolution else generation_term)(device, part)
        return of_generation in self.coefficients and (is_measured or device.name in self.matmul_devices)

    def is_measured(self, device: Accelerator, path: Path) -> bool:
        """Whether kernels or steps of this generation and arithmetic path were in the fit."""
        return generation_term(device, path) in self.coefficients

    def is_known(self, device: Accelerator) -> bool:
        """
        Whether steps or kernels of this very device were in the fit, and not only others of its generation.

        The best matrix product of a device moves nothing of its memory: such a device is not known by that alone.
        """
        return device.name in self.devices


@lru_cache(maxsize=256)  # of several fits, where some leave rows out
def _best_measured(
    fit: Calibration,
    part: Path | Literal["memory"],
    convolution: bool,  # noqa: FBT001 - handed on
) -> tuple[dict[str, float], float]:
    """
    Return the highest logit of the measured devices of each maker, and of all makers.

    Where no convolution of a maker was measured, its devices with measured products on the same path count.
    """
    best: dict[str, float] = {}
    known: dict[str, float] = {}
    for of_convolutions in (True, False) if convolution else (False,):
        known = {}
        for device in accelerators():
            if fit.measures(device, part, of_convolutions):
                logit = fit.device_logit(device, part, convolution)
                known[device.vendor] = max(known.get(device.vendor, -math.inf), logit)
        best = known | best
    return best, max(known.values(), default=math.inf)


@lru_cache(maxsize=1)
def calibration() -> Calibration:
    """Return the coefficients that ship with trainfare, read once per process."""
    return with_links(json.loads(data_text("calibration.json")))


def with_links(document: dict[str, Any]) -> Calibration:
    """Return the coefficients of a file of `fit_calibration.py`, with the shipped constants of links."""
    links = link_calibration()
    sigma = {**document["sigma"], "several_devices": links.several_devices_log_sigma}
    return Calibration.model_validate({**document, "communication": links.communication, "sigma": sigma})
