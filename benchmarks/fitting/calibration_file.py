"""The document that fit_calibration.py writes: fitted effects, assumed constants, scores."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fitting.collective_rows import BLEND, FUSED_BYTES_SHARE
from benchmarks.fitting.one_device_rows import WINOGRAD_LEAST
from trainfare_core.hardware.accelerators import Accelerator
from trainfare_core.prediction.roofline.coefficients import Calibration

__all__ = ["calibration_document", "sigmas", "with_coefficients"]

Array = NDArray[np.float64]


def calibration_document(
    index: dict[str, int], theta: Array, scores: dict[str, dict[str, float]], counts: dict[str, int],
    scaling: dict[str, float], digest: str, date: str, shares: dict[str, float],
    residuals: dict[str, list[float]],
) -> dict[str, Any]:  # fmt: skip
    """Return the sections of one device and of intervals."""
    return {
        "schema_version": 2,
        "fitted_at": date,
        "data_sha256": digest,
        "fitted_on": {**counts, "scaling": int(scaling["rows"])},
        "scores": scores,
        **_coefficients(index, theta),
        "source": {name: round(share, 3) for name, share in shares.items()},
        "sigma": _sigma(scores, residuals),
    }


def _coefficients(index: dict[str, int], theta: Array) -> dict[str, Any]:
    """Return the fitted sections: efficiencies, and costs that do not depend on size."""

    def value(name: str) -> float:
        return round(float(theta[index[name]]), 4)

    def part(prefix: str) -> dict[str, float]:
        return {name.removeprefix(prefix): value(name) for name in sorted(index) if name.startswith(prefix)}

    def exp(name: str) -> float:
        return float(f"{math.exp(value(name)):.3g}")

    saved = WINOGRAD_LEAST + (1 - WINOGRAD_LEAST) / (1 + math.exp(-value("winograd")))
    return {
        "compute": {"vector": part("vector|"), "tensor": part("tensor|")},
        "shared": part("shared|"),
        "memory": part("memory|"),
        "overhead": {
            "device_launch_s": exp("launch_device"),
            "timed_launch_s": exp("launch_timed"),
            "host_launch_s": exp("launch_host"),
            "host_backward_share": exp("host_backward"),
            "old_host_factor": exp("old_host"),
            "old_host_year_slope": value("old_host_year"),
            "host_launch_source": "fitted around a prior of 14 us; "
            "eager hosts were measured at 12-36 us (single kernels), 19 us (LLM) and 45-77 us (2018-2020)",
            "blend": BLEND,
            "winograd_flops_share": round(saved, 4),
            "fused_bytes_share": FUSED_BYTES_SHARE,
            "fused_launch_share": 0.4,
            "trainer_factor": exp("trainer"),
        },
    }


def with_coefficients(
    fit: Calibration, index: dict[str, int], theta: Array, devices: Collection[Accelerator]
) -> Calibration:
    """
    Return a calibration with coefficients of one's own, and the widths of `fit`.

    Args:
        fit: where links, networks and widths come from.
        index: which coefficient is which.
        theta: the coefficients.
        devices: what the coefficients were fitted on: any other device counts as never measured.
    """
    names = {f"dev:{device.name}" for device in devices} | {f"gen:{device.generation}" for device in devices}

    def seen(part: dict[str, float]) -> dict[str, float]:
        return {
            name: value
            for name, value in part.items()
            if not name.startswith(("dev:", "gen:")) or name in names
        }

    own = _coefficients(index, theta)
    own["compute"] = {path: seen(part) for path, part in own["compute"].items()}
    own["shared"], own["memory"] = seen(own["shared"]), seen(own["memory"])
    return Calibration.model_validate({**fit.model_dump(), **own})


def _sigma(scores: dict[str, dict[str, float]], residuals: dict[str, list[float]]) -> dict[str, Any]:
    """Return the standard deviations, and how many of them hold 50, 80 and 90 % of the errors of each situation."""
    found = sigmas(scores, residuals)
    known, unseen = found["base"], math.hypot(found["base"], found["unseen_device"])
    once = math.hypot(found["corrected"], found["corrected_unseen_device"])
    reaches = {
        name: _reaches(
            errors, once if name.startswith("corrected") else unseen if name.endswith("unseen") else known
        )
        for name, errors in residuals.items()
    }
    return {**found, "quantiles": reaches["trainer"], "reaches": reaches}


def _reaches(errors: list[float], sigma: float) -> dict[str, float]:
    size = np.abs(np.array(errors)) / sigma
    return {str(level): round(float(np.quantile(size, level / 100)), 4) for level in (50, 80, 90)}


def _sigma_80(errors: list[float]) -> float:
    return float(np.quantile(np.abs(errors), 0.8)) / 1.2816


def sigmas(scores: dict[str, dict[str, float]], residuals: dict[str, list[float]]) -> dict[str, float]:
    """
    Return the standard deviations by ignorance.

    All are of what trainers' loops take, as jobs run: bare steps come closer. `base` is of models left out on
    devices that were seen, `unseen_device` and `unseen_generation` add what a chip
    or a generation left out adds, `corrected` is of models left out
    with one step measured on another chip, `corrected_unseen_device` adds what an unseen chip adds then,
    `several_devices` is in the file of links; the others have no rows of their own here and are set wide.
    """
    base, chip = (_sigma_80(residuals[name]) for name in ("trainer", "trainer:unseen"))
    generation = scores["generation_left_out"]["sigma_80"]
    corrected = min(scores["workload_left_out_one_measured_step"]["sigma_80"], base - 0.001)
    corrected_new = scores["chip_and_workload_left_out_one_measured_step"]["sigma_80"]
    return {
        "base": round(base, 3), "unseen_device": round(max(chip**2 - base**2, 0.1**2) ** 0.5, 3),
        "unseen_generation": round(max(generation**2 - max(chip, base) ** 2, 0.1**2) ** 0.5, 3), "unseen_path": 0.15,
        "emulated": 0.3, "needs_porting": 0.25,
        "several_nodes": 0.15, "compiled": 0.25, "launch_bound": 0.1, "unknown_share": 1.0, "same_device": 0.08,
        "corrected": round(corrected, 3),
        "corrected_unseen_device": round(max(corrected_new**2 - corrected**2, 0.0) ** 0.5, 3),
        "memory": 0.14,
        "memory_measured": 0.05,
    }  # fmt: skip
