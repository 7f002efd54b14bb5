"""
Fit what several devices of one machine lose to one another, and write data/link_calibration.json.

    python -m benchmarks.fitting.links --data DIR --cache DIR --date 2026-01-31 [--traced-only] [--out FILE]

NVLink's bytes/s and seconds a message come from the all-reduces of collectives_allreduce.csv.gz (A100 behind NVSwitch,
8 ranks; the V100s of the table share their links in a mesh, 23 to 136 GB/s by the number of ranks). PCIe's sustained
share, the share of communication that never hides and what devices lose by waiting for each other come from training
steps of throughput_train.csv: a run on several devices beside the same run (model, precision, batch of a device,
software) on one, so that an error of the one-device prediction is in neither. Runs of one process on several devices
(`data_parallel.py`) tell of PCIe too. Robust least squares around priors; every (source, chip) counts by the square
root of its rows. Readings that their table marks as suspect, and NCF's (40 million samples in 3 ms), are left out.

`scores` are of pairs whose source or chip was left out. `assumed` names what no row here can tell.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.fitting.collective_rows import collective_fit
from benchmarks.fitting.data_parallel import is_data_parallel
from benchmarks.fitting.one_device_rows import chip_of
from benchmarks.fitting.step_work import work_of
from benchmarks.workloads import ProfileCache
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.network.coefficients import LinkCalibration
from trainfare_core.prediction.network.collectives import traffic_of
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.operations import (
    Operations,
    device_rates,
    host_launch_s,
    operation_times,
)

__all__ = ["Pair", "fitted", "pairs_of", "slowdown_errors"]

Array = NDArray[np.float64]

FILES = ("collectives_allreduce.csv.gz", "throughput_train.csv")
_SAME = ("source", "accelerator", "model", "precision", "framework", "batch_per_device")
_PRIOR = {
    "straggler_share": (0.01, 0.02),
    "exposed_floor": (0.1, 0.1),
    "pcie3": (0.5, 0.15),
    "pcie4": (0.5, 0.15),
    "forward_share": (0.5, 0.3),
}
"""Mean and standard deviation; NCCL usually sustains half of what PCIe is rated at."""
_CEILING = 0.8
"""Of PCIe's rate, what packets leave."""
_NOISE = 0.03
_MESSAGE_S = 15e-6
_ASSUMED = {"network_efficiency": 0.5, "network_latency_s": 3e-5, "overlap_window": 0.7}
_ASSUMED_SHARE = {"ici": 0.7, "other": 0.5}
_ASSUMED_MESSAGE_S = {"ici": 5e-6, "other": _MESSAGE_S, "pcie": _MESSAGE_S}
"""
No training step of several machines that states its network is plain data-parallel. Trainers of these rows overlap
differently, and the window does not show: 0, 0.2, 0.4 and 0.65 leave errors of left-out chips within 0.2 points.
"""


@dataclass(frozen=True)
class Pair:
    """A run on several devices, and the same run on one."""

    source: str
    model: str
    chip: str
    link: str
    devices: int
    alone_s: float
    measured_s: float
    gradient_bytes: float
    link_bytes_per_s: float
    """Nominal, one direction."""
    backward_share: float
    """Of the device's time."""
    single_process: bool
    forward_s: float
    """Of the host, to issue one forward."""
    moved_bytes: float
    """Weights and gradients, which one process sends and sums."""


def pairs_of(data: Path, cache: ProfileCache) -> list[Pair]:
    """Return runs on several devices of one machine that have a twin on one device."""
    with (data / "throughput_train.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    alone: dict[tuple[str, ...], list[float]] = {}
    several: list[tuple[dict[str, str], JobProfile, float, float]] = []
    for line in lines:
        if "SUSPECT" in line["notes"] or line["model"].startswith("NCF"):
            continue
        work = work_of(line, cache)
        if isinstance(work, str) or line["nodes"] not in ("", "1"):
            continue
        if line["devices"] == "1":
            alone.setdefault(_key(line), []).append(work.measured_s)
        else:
            several.append((line, work.job, work.ratio, work.measured_s))
    return [
        _pair(line, job, ratio, measured_s, statistics.median(alone[_key(line)]))
        for line, job, ratio, measured_s in several
        if _key(line) in alone
    ]


def _key(line: dict[str, str]) -> tuple[str, ...]:
    return (
        *(line[name] for name in _SAME),
        line["notes"].partition(";")[0] if "suite" in line["notes"] else "",
    )


def _pair(line: dict[str, str], job: JobProfile, ratio: float, measured_s: float, alone_s: float) -> Pair:
    fit, device = calibration(), accelerator(line["accelerator"])
    operations = Operations.of(job, fit)
    rates = [device_rates(device, operations, fit)]
    times = operation_times(operations, rates, np.zeros(1, dtype=np.int64), np.array([ratio]), fit)
    phases = times.total_s[:, 0]
    return Pair(
        source=line["source"], model=line["model"], chip=chip_of(device.name), link=device.link or "pcie",
        devices=int(line["devices"]), alone_s=alone_s, measured_s=measured_s,
        gradient_bytes=traffic_of(job).all_reduce_bytes,
        link_bytes_per_s=device.link_bytes_per_s or device.pcie_bytes_per_s or math.nan,
        backward_share=float(phases[1] / phases.sum()), single_process=is_data_parallel(line),
        forward_s=float(host_launch_s(operations, device, fit)[operations.phase == 0].sum()),
        moved_bytes=float(job.parameter_bytes + job.memory.gradient_bytes),
    )  # fmt: skip


def slowdown_errors(pairs: list[Pair], theta: Array, nvlink: float, message_s: float) -> Array:
    """
    Return ln(predicted / measured) of runs on several devices whose run on one is known.

    Args:
        pairs: n runs.
        theta: in the order of the priors.
        nvlink: sustained share of NVLink.
        message_s: seconds a message over NVLink.
    """
    share, floor, third, fourth, forward = _bounded(theta)
    count = np.array([float(p.devices) for p in pairs])
    alone = np.array([p.alone_s for p in pairs])
    rate = np.array([p.link_bytes_per_s for p in pairs])
    links = [p.link for p in pairs]
    sustained = np.array(
        [nvlink if name.startswith("nvlink") else third if name == "pcie3" else fourth for name in links]
    )
    each_s = np.array([message_s if name.startswith("nvlink") else _MESSAGE_S for name in links])
    payload = np.array([p.gradient_bytes for p in pairs])
    moved_s = 2 * (count - 1) / count * payload / (rate * sustained) + 2 * (count - 1) * each_s
    hidden_s = _ASSUMED["overlap_window"] * np.array([p.backward_share for p in pairs]) * alone
    exposed_s = np.maximum(floor * moved_s, moved_s - hidden_s)
    ranks_s = alone * (1 + share * np.log2(count)) + exposed_s
    issued_s = count * forward * np.array([p.forward_s for p in pairs])
    process_s = alone + issued_s + np.array([p.moved_bytes for p in pairs]) / (rate * sustained)
    predicted = np.where([p.single_process for p in pairs], process_s, ranks_s)
    return np.asarray(np.log(predicted / np.array([p.measured_s for p in pairs])))


def _bounded(theta: Array) -> Array:
    """Return coefficients with their sign, and no PCIe faster than its packets."""
    ceiling = np.array([_CEILING if name.startswith("pcie") else math.inf for name in _PRIOR])
    return np.asarray(np.minimum(np.abs(theta), ceiling))


def fitted(pairs: list[Pair], nvlink: float, message_s: float) -> Array:
    """Return the coefficients in the order of the priors."""
    mean, sd = np.array(list(_PRIOR.values())).T
    counts = Counter((p.source, p.chip) for p in pairs)
    weight = np.array([counts[p.source, p.chip] ** -0.5 for p in pairs])

    def loss(theta: Array) -> float:
        errors = slowdown_errors(pairs, theta, nvlink, message_s)
        robust = weight * (np.sqrt(1 + (errors / _NOISE) ** 2) - 1)
        return float(robust.sum() + 0.5 * (((_bounded(theta) - mean) / sd) ** 2).sum())

    options = {"maxiter": 8000, "xatol": 1e-5, "fatol": 1e-7}
    found = minimize(loss, mean, method="Nelder-Mead", options=options)
    return _bounded(found.x)


def left_out(
    pairs: list[Pair], group: Callable[[Pair], str], nvlink: float, message_s: float
) -> dict[str, Array]:
    """Return errors of every group, from a fit that saw none of its pairs."""
    errors = {}
    for name in sorted({group(p) for p in pairs}):
        theta = fitted([p for p in pairs if group(p) != name], nvlink, message_s)
        errors[name] = slowdown_errors([p for p in pairs if group(p) == name], theta, nvlink, message_s)
    return errors


def score(errors: Array) -> dict[str, float]:
    """Return errors as fractions, and the standard deviation whose central 80 % holds 80 % of them."""
    ape = np.abs(np.exp(errors) - 1)
    return {
        "n": float(len(errors)),
        "mape": round(float(ape.mean()), 4),
        "median_ape": round(float(np.median(ape)), 4),
        "p90_ape": round(float(np.quantile(ape, 0.9)), 4),
        "bias": round(float((np.exp(errors) - 1).mean()), 4),
        "sigma_80": round(float(np.quantile(np.abs(errors), 0.8)) / 1.2816, 4),
    }


def document(pairs: list[Pair], link: dict[str, float], digest: str, date: str) -> dict[str, Any]:
    """Return the file's content."""
    nominal = accelerator("A100-SXM-80GB").link_bytes_per_s or math.nan
    nvlink, message_s = (
        round(min(link["bus_bytes_per_s"] / nominal, 1.0), 3),
        float(f"{link['latency_s']:.3g}"),
    )
    theta = dict(zip(_PRIOR, (round(float(v), 4) for v in fitted(pairs, nvlink, message_s)), strict=True))
    by_source = left_out(pairs, lambda p: p.source, nvlink, message_s)
    by_chip = left_out(pairs, lambda p: p.chip, nvlink, message_s)
    values = np.array([theta[name] for name in _PRIOR])
    scores = {
        "in_sample": score(slowdown_errors(pairs, values, nvlink, message_s)),
        "chip_left_out": score(np.concatenate(list(by_chip.values()))),
        "source_left_out": score(np.concatenate(list(by_source.values()))),
        **{f"source left out: {name}": score(errors) for name, errors in by_source.items()},
    }
    counts = Counter(p.source for p in pairs)
    pcie = {"pcie3": theta.pop("pcie3"), "pcie4": theta.pop("pcie4")}
    return {
        "schema_version": 1,
        "fitted_at": date,
        "data_sha256": digest,
        "fitted_on": {"all-reduce": int(link["rows"]), **dict(sorted(counts.items()))},
        "assumed": [
            "ici",
            "other",
            "pcie",
            "pcie's latency",
            "network_efficiency",
            "network_latency_s",
            "overlap_window",
        ],
        "scores": scores,
        "several_devices_log_sigma": scores["chip_left_out"]["sigma_80"],
        "data_parallel_forward_share": theta.pop("forward_share"),
        "communication": {
            **_ASSUMED,
            **theta,
            "link_efficiency": {"nvlink": nvlink, "pcie": pcie["pcie4"], **pcie, **_ASSUMED_SHARE},
            "link_latency_s": {"nvlink": message_s, **_ASSUMED_MESSAGE_S},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--traced-only", action="store_true", help="leave out rows that the cache lacks")
    parser.add_argument("--out", type=Path, default=Path("core/trainfare_core/data/link_calibration.json"))
    parser.add_argument("--date", required=True, help="written into the file; the fit itself reads no clock")
    arguments = parser.parse_args()
    pairs = pairs_of(arguments.data, ProfileCache(arguments.cache, only_held=arguments.traced_only))
    whole = hashlib.sha256()
    for name in FILES:
        whole.update((arguments.data / name).read_bytes())
    content = document(pairs, collective_fit(arguments.data), whole.hexdigest(), arguments.date)
    LinkCalibration.model_validate(content)
    arguments.out.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for name, values in content["scores"].items():
        print(f"{name:34s}", values)
    print(content["communication"])
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
