"""The document that fit_calibration.py writes: fitted effects, assumed constants, scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from calibration_rows import BLEND, FUSED_BYTES_SHARE
from numpy.typing import NDArray

from trainfare_core.accelerators import accelerator

__all__ = ["calibration_document", "sigmas"]

Array = NDArray[np.float64]


def calibration_document(
    index: dict[tuple[str, ...], int], theta: Array, scores: dict[str, dict[str, float]],
    counts: dict[str, int], link: dict[str, float], scaling: dict[str, float], digest: str, date: str,
) -> dict[str, Any]:  # fmt: skip
    """Return the whole calibration document."""

    def value(*name: str) -> float:
        return round(float(theta[index[name]]), 4)

    def effects(*prefix: str) -> dict[str, float]:
        return {name[-1]: value(*name) for name in index if name[:-1] == prefix}

    share = 1 / 2.25 + (1 - 1 / 2.25) / (1 + math.exp(-value("winograd")))
    nvlink = _a100_link_share(link["bus_bytes_per_s"])
    return {
        "schema_version": 1,
        "fitted_at": date,
        "data_sha256": digest,
        "fitted_on": {**counts, "all-reduce": int(link["rows"]), "scaling": int(scaling["rows"])},
        "scores": scores,
        "compute": {
            path: {
                "intercept": value("c0", path),
                "slopes": [value("slope", path, "watts"), value("slope", path, "year")],
                "kind": effects("ck", path),
                "generation": effects("cg", path),
            }
            for path in ("vector", "tensor")
        },
        "memory": {"kind": effects("mk"), "generation": effects("mg")},
        "overhead": {
            "device_launch_s": float(f"{math.exp(value('launch_device')):.3g}"),
            "host_launch_s": float(f"{math.exp(value('launch_host')):.3g}"),
            "host_launch_source": "fitted around a prior of 14 us; "
            "eager hosts were measured at 12-36 us (single kernels), 19 us (LLM) and 45-77 us (2018-2020)",
            "blend": BLEND,
            "winograd_flops_share": round(share, 4),
            "fused_bytes_share": FUSED_BYTES_SHARE,
            "fused_launch_share": 0.4,
        },
        "communication": {
            "link_efficiency": {"nvlink": nvlink, "pcie": 0.35, "ici": 0.7, "other": 0.5},
            "link_latency_s": {
                "nvlink": float(f"{link['latency_s']:.3g}"),
                "pcie": 1.5e-5,
                "ici": 5e-6,
                "other": 1.5e-5,
            },
            "straggler_share": round(scaling["straggler_share"], 4),
            "network_efficiency": 0.5,
            "network_latency_s": 3e-5,
            "exposed_floor": 0.2,
            "overlap_window": 0.7,
        },
        "sigma": sigmas(scores, scaling),
    }


def _a100_link_share(bus_bytes_per_s: float) -> float:
    """Return the measured bus rate over what the catalogue says of the A100's NVLink, one direction."""
    rate = accelerator("A100-SXM-80GB").link_bytes_per_s or 300e9
    return round(min(bus_bytes_per_s / rate, 1.0), 3)


def sigmas(scores: dict[str, dict[str, float]], scaling: dict[str, float]) -> dict[str, float]:
    """
    Return the standard deviations by ignorance.

    `base`, `corrected` and `unseen_generation` come from held-out residuals (the worse of chip and workload
    left out for `base`, chips with one step measured elsewhere for `corrected`), `several_devices` from what
    scaling does not explain; the others have no rows of their own here and are set wide.
    """
    base = max(scores["chip_left_out"]["sigma_80"], scores["workload_left_out"]["sigma_80"])
    unseen = max(scores["generation_left_out"]["sigma_80"] ** 2 - base**2, 0.15**2) ** 0.5
    corrected = max(scores["chip_left_out_one_measured_step"]["sigma_80"], 0.12)
    return {
        "base": round(base, 3), "unseen_generation": round(unseen, 3), "unseen_path": 0.2, "emulated": 0.3,
        "needs_porting": 0.25, "several_devices": round(scaling["sigma_80"], 3), "several_nodes": 0.15,
        "compiled": 0.25, "launch_bound": 0.3, "unknown_share": 1.0, "same_device": 0.08,
        "corrected": round(min(corrected, base), 3), "memory": 0.14, "memory_measured": 0.05,
    }  # fmt: skip
