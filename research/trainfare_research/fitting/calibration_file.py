"""From fitted coefficients and held-out errors to calibration.json and its record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.network.collectives import link_calibration
from trainfare_core.prediction.roofline.coefficients import Calibration, OverheadFit, SigmaFit, SourceFit
from trainfare_research.fits import OneDeviceRecord, Scores
from trainfare_research.fitting.one_device_rows import Index, Row
from trainfare_research.fitting.one_device_solver import overhead_of, submission_overhead_of
from trainfare_research.fitting.table_lines import CEILINGS
from trainfare_research.scoring import LEVELS, sigma_80

Array = NDArray[np.float64]
_Overhead = TypeVar("_Overhead", bound=OverheadFit)
Errors = Mapping[str, Sequence[float]]
"""ln(predicted / measured) of held-out rows by situation, as `OneDeviceRecord.reaches` names them."""

_LEAST_STEP = 0.1
"""Least that an unseen device or generation adds to the width, where its errors happen to be no larger."""
_ASSUMED_SIGMAS = {
    "unseen_path": 0.15, "emulated": 0.3, "needs_porting": 0.25, "several_nodes": 0.15,
    "launch_bound": 0.1, "unknown_share": 1.0, "same_device": 0.08,
}  # fmt: skip
"""Widths of situations without rows of their own, set wide. Assumed, not fitted."""


def calibration_of(
    index: Index, theta: Array, *, date: str, digest: str, rows_by_source: dict[str, int], source: SourceFit,
    sigma: SigmaFit, rows: Sequence[Row],
) -> Calibration:  # fmt: skip
    """Return the coefficients as they ship, rounded to what their data can tell."""
    devices, matmul_devices = list_measured_devices(rows)
    return Calibration(
        schema_version=6, fitted_at=date, data_sha256=digest, fitted_on=rows_by_source,
        devices=devices, matmul_devices=matmul_devices,
        coefficients=_coefficients(index, theta), overhead=_round_overhead(overhead_of(index, theta)),
        communication=link_calibration().communication, source=source, sigma=sigma,
    )  # fmt: skip


def _round_overhead(overhead: _Overhead) -> _Overhead:
    values = {name: float(f"{value:.3g}") for name, value in overhead.model_dump().items()}
    return type(overhead).model_validate(values)


def _coefficients(index: Index, theta: Array) -> dict[str, float]:
    """Return the terms' coefficients; costs that do not depend on size and offsets of stacks have none."""
    return {
        name: round(float(theta[i]), 4) + 0.0  # no negative zero
        for name, i in sorted(index.of.items())
        if "|" in name and not name.startswith("stack|")
    }


def list_measured_devices(rows: Iterable[Row]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return names of the devices whose steps or kernels are fitted, and of those with a best matrix product alone."""
    names = {True: set[str](), False: set[str]()}
    for row in rows:
        if row.weight:
            names[row.source == CEILINGS].add(row.device.name)
    return tuple(sorted(names[False])), tuple(sorted(names[True] - names[False]))


def with_coefficients(
    fit: Calibration,
    index: Index,
    theta: Array,
    devices: Sequence[str],
    matmul_devices: Sequence[str] = (),
    *,
    submission: bool = False,
) -> Calibration:
    """
    Return a calibration with coefficients of one's own, and the widths of `fit`.

    Args:
        fit: where links, networks and widths come from.
        index: which coefficient is which.
        theta: the coefficients.
        devices: names of those with fitted steps or kernels: any other counts as never measured.
        matmul_devices: names of those of which the best matrix product alone was fitted.
        submission: whether it predicts submissions, whose fused kernels are their vendors' own.
    """
    known = [accelerator(name) for name in (*devices, *matmul_devices)]
    seen = {f"silicon:{device.silicon}" for device in known} | {
        f"{kind}:{device.generation}" for device in known for kind in ("gen", "gen-convolution")
    }
    own_coefficients = {
        name: value
        for name, value in _coefficients(index, theta).items()
        if not name.partition("|")[2].startswith(("silicon:", "gen:", "gen-convolution:"))
        or name.partition("|")[2] in seen
    }
    return fit.model_copy(
        update={
            "coefficients": own_coefficients,
            "overhead": submission_overhead_of(index, theta) if submission else overhead_of(index, theta),
            "devices": tuple(devices),
            "matmul_devices": tuple(matmul_devices),
        }
    )


def record_of(
    index: Index, theta: Array, scores: Scores, errors: Errors, sigma: SigmaFit, date: str
) -> OneDeviceRecord:
    """Return what benchmarks read of a fit: scores, and how many widths hold its errors."""
    known, unseen = sigma.base, math.hypot(sigma.base, sigma.unseen_device)
    once = math.hypot(sigma.corrected, sigma.corrected_unseen_device)

    def width(situation: str) -> float:
        if situation.startswith("corrected"):
            return once
        return unseen if situation.endswith("unseen") else known

    reaches = {
        name: {
            level: round(float(np.quantile(np.abs(np.asarray(values)), int(level) / 100)) / width(name), 4)
            for level in LEVELS
        }
        for name, values in errors.items()
    }
    return OneDeviceRecord(
        fitted_at=date, scores=scores, reaches=reaches,
        timed_launch_s=float(f"{math.exp(theta[index.of['launch_timed']]):.3g}"),
        submission_overhead=_round_overhead(submission_overhead_of(index, theta)),
        trainer_factor=float(f"{math.exp(theta[index.of['trainer']]):.3g}"),
    )  # fmt: skip


def sigma_of(
    errors: Errors, sources: Sequence[float], generation: Sequence[float], once: Sequence[float],
    once_unseen: Sequence[float], compiled: Sequence[float],
) -> SigmaFit:  # fmt: skip
    """
    Return the standard deviations by what is not known.

    All are of the times of trainers' loops, as jobs run: bare steps come closer. `several_devices` is in the file of
    links.

    Args:
        errors: by situation: "trainer" (models left out on devices that were measured) and "trainer:unseen" (both
            left out).
        sources: errors of trainers' loops with a source left out: a new job is of a source of its own.
        generation: errors with a generation left out.
        once: with a model left out and one step measured on another chip.
        once_unseen: with chip and model left out and one step measured on another chip.
        compiled: of steps under torch.compile, with a model left out.
    """
    model, chip = (sigma_80(errors[name]) for name in ("trainer", "trainer:unseen"))
    base = max(model, sigma_80(sources))
    corrected = min(sigma_80(once), base - 0.001)  # a measured step never widens
    return SigmaFit(
        base=round(base, 3),
        unseen_device=_add_in_quadrature(chip, base, _LEAST_STEP),
        unseen_generation=_add_in_quadrature(sigma_80(generation), max(chip, base), _LEAST_STEP),
        corrected=round(corrected, 3),
        corrected_unseen_device=_add_in_quadrature(sigma_80(once_unseen), corrected, 0.0),
        compiled=_add_in_quadrature(sigma_80(compiled), base, _LEAST_STEP),
        several_devices=link_calibration().several_devices_log_sigma,
        **_ASSUMED_SIGMAS,
    )


def _add_in_quadrature(whole: float, part: float, least: float) -> float:
    """Return what a second cause adds to a width, in quadrature."""
    return round(math.sqrt(max(whole**2 - part**2, least**2)), 3)
