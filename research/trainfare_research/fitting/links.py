"""
Fit what several devices of one machine lose to one another, and write data/link_calibration.json.

    python -m trainfare_research.fitting.links --data DIR --cache DIR --date 2026-01-31 [--traced-only] [--out FILE]
        [--record FILE]

NVLink's bytes/s and seconds a message come from the all-reduces of collectives_allreduce.csv.gz (A100 behind NVSwitch,
8 ranks; the V100s of the table share their links in a mesh, 23 to 136 GB/s by the number of ranks). PCIe's sustained
share, the share of communication that never hides and what devices lose by waiting for each other come from training
steps of throughput_train.csv: a run on several devices beside the same run (model, precision, batch of a device,
software) on one, so that an error of the one-device prediction is in neither. Runs of one process on several devices
(`data_parallel.py`) depend on PCIe too. Robust least squares around priors; every (source, chip) counts by the square
root of its rows. Readings that their table marks as suspect, and NCF's (40 million samples in 3 ms), are left out.

The scores are of pairs whose source or chip was left out; with the constants that no row determines they go to the
record that benchmarks read.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import approx_fprime

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.network.collectives import CommunicationFit, LinkCalibration, traffic_of
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.host import host_launch_s
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline.times import operation_seconds
from trainfare_research.fits import LinkRecord
from trainfare_research.fitting.command_line import digest, fit_parser, write_fit
from trainfare_research.fitting.data_parallel import is_data_parallel
from trainfare_research.fitting.launched_rows import step_rows
from trainfare_research.fitting.robust import Prior, robust_fit
from trainfare_research.fitting.step_work import work_of
from trainfare_research.fitting.table_lines import Line, chip_of, is_suspect
from trainfare_research.scoring import summarize_held_out
from trainfare_research.truth_table import STEP_TABLES, read_rows
from trainfare_research.workloads import ProfileCache

Array = NDArray[np.float64]

FILES = ("collectives_allreduce.csv.gz", *STEP_TABLES)
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
"""Share of PCIe's rate that is left after the headers of its packets."""
_NOISE = 0.03
"""ln(predicted / measured) from which a pair counts less than by its square: repeated runs differ by about as much."""
_STEP = 1e-6
"""Of forward differences."""
_MESSAGE_S = 15e-6
"""Latency of a message over PCIe. A planning figure."""
_ASSUMED = {"network_efficiency": 0.5, "network_latency_s": 3e-5, "overlap_window": 0.7}
_ASSUMED_SHARE = {"ici": 0.7, "other": 0.5}
_ASSUMED_MESSAGE_S = {"ici": 5e-6, "other": _MESSAGE_S, "pcie": _MESSAGE_S}
"""
No training step of several machines that states its network is plain data-parallel. Trainers of these rows overlap
differently, and the window does not show: 0, 0.2, 0.4 and 0.65 leave errors of left-out chips within 0.2 points.
"""


@dataclass(frozen=True)
class AllReduce:
    """Latency and rate of the all-reduces in one NVSwitch machine, and the rows they were fitted on."""

    message_s: float
    bus_bytes_per_s: float
    rows: int

    @property
    def nvlink_share(self) -> float:
        """Sustained share of NVLink's nominal rate."""
        nominal = accelerator("A100-SXM-80GB").link_bytes_per_s or math.nan
        return round(min(self.bus_bytes_per_s / nominal, 1.0), 3)


def all_reduce_fit(data: Path) -> AllReduce:
    """Fit the all-reduce of eight A100 in one machine: t = 14 x latency + 2 x 7/8 x bytes / bus rate."""
    sizes, seconds = [], []
    for line in read_rows(data / FILES[0]):
        if line["device"].startswith("A100") and line["ranks"] == "8" and line["nodes"] == "1":
            sizes.append(float(line["bytes"]))
            seconds.append(float(line["latency_ms_out_of_place"]) / 1e3)
    x, y = np.array(sizes), np.array(seconds)
    design = np.stack([np.full(len(x), 14.0), 1.75 * x], axis=1) / y[:, None]
    latency, inverse = np.linalg.lstsq(design, np.ones(len(x)), rcond=None)[0]
    return AllReduce(float(f"{latency:.3g}"), float(1 / inverse), len(x))


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
    """Return runs on several devices of one machine beside the same run on one device."""
    lines = step_rows(data)
    alone: dict[tuple[str, ...], list[float]] = {}
    several: list[tuple[Line, JobProfile, float, float]] = []
    for line in lines:
        if is_suspect(line) or line["model"].startswith("NCF"):
            continue
        work = work_of(line, cache)
        if isinstance(work, str) or line["nodes"] not in ("", "1"):
            continue
        if line["devices"] == "1":
            alone.setdefault(_make_key(line), []).append(work.measured_s)
        else:
            several.append((line, work.job, work.ratio, work.measured_s))
    return [
        _pair(line, job, ratio, measured_s, statistics.median(alone[_make_key(line)]))
        for line, job, ratio, measured_s in several
        if _make_key(line) in alone
    ]


def _make_key(line: Line) -> tuple[str, ...]:
    return (
        *(line[name] for name in _SAME),
        line["notes"].partition(";")[0] if "suite" in line["notes"] else "",
    )


def _pair(line: Line, job: JobProfile, ratio: float, measured_s: float, alone_s: float) -> Pair:
    fit, device = calibration(), accelerator(line["accelerator"])
    operations = Operations.of(job)
    seconds = operation_seconds(operations, [Roofline.of(device, operations)], ratio, fit)
    phases = operations.by_phase(seconds.total_s)[0]
    return Pair(
        source=line["source"], model=line["model"], chip=chip_of(device.name), link=device.link or "pcie",
        devices=int(line["devices"]), alone_s=alone_s, measured_s=measured_s,
        gradient_bytes=traffic_of(job).all_reduce_bytes,
        link_bytes_per_s=device.link_bytes_per_s or device.pcie_bytes_per_s or math.nan,
        backward_share=float(phases[1] / phases.sum()), single_process=is_data_parallel(line),
        forward_s=float(host_launch_s(operations, [device], fit)[0, 0]),
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
    share, floor, third, fourth, forward = theta
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


def fit_links(pairs: list[Pair], nvlink: float, message_s: float) -> Array:
    """Return the coefficients in the order of the priors: none negative, and no PCIe faster than its packets."""
    mean, sd = np.array(list(_PRIOR.values())).T
    ceiling = np.array([_CEILING if name.startswith("pcie") else np.inf for name in _PRIOR])
    counts = Counter((p.source, p.chip) for p in pairs)
    weight = np.array([counts[p.source, p.chip] ** -0.5 for p in pairs])

    def errors(theta: Array) -> Array:
        return slowdown_errors(pairs, theta, nvlink, message_s)

    def slopes(theta: Array) -> Array:
        return np.asarray(approx_fprime(theta, errors, _STEP))

    prior = Prior(mean, sd, np.zeros(len(mean)), ceiling)
    return robust_fit(errors, slopes, prior, weight, bend=_NOISE, noise=_NOISE, evaluations=200)


def left_out(
    pairs: list[Pair], group: Callable[[Pair], str], nvlink: float, message_s: float
) -> dict[str, Array]:
    """Return errors of every group, from a fit without its pairs."""
    errors = {}
    for name in sorted({group(p) for p in pairs}):
        theta = fit_links([p for p in pairs if group(p) != name], nvlink, message_s)
        errors[name] = slowdown_errors([p for p in pairs if group(p) == name], theta, nvlink, message_s)
    return errors


def _score_errors(errors: Array) -> dict[str, float]:
    return {name: round(value, 4) for name, value in summarize_held_out(errors).items()}


def documents(
    pairs: list[Pair], link: AllReduce, data_sha256: str, date: str
) -> tuple[LinkCalibration, LinkRecord]:
    """Return the constants that ship, and what benchmarks read of the fit."""
    nvlink, message_s = link.nvlink_share, link.message_s
    theta = np.array([round(float(value), 4) for value in fit_links(pairs, nvlink, message_s)])
    values = dict(zip(_PRIOR, theta.tolist(), strict=True))
    by_source = left_out(pairs, lambda p: p.source, nvlink, message_s)
    by_chip = left_out(pairs, lambda p: p.chip, nvlink, message_s)
    scores = {
        "in_sample": _score_errors(slowdown_errors(pairs, theta, nvlink, message_s)),
        "chip_left_out": _score_errors(np.concatenate(list(by_chip.values()))),
        "source_left_out": _score_errors(np.concatenate(list(by_source.values()))),
        **{f"source left out: {name}": _score_errors(errors) for name, errors in by_source.items()},
    }
    pcie = {"pcie3": values["pcie3"], "pcie4": values["pcie4"]}
    shipped = LinkCalibration(
        schema_version=1, fitted_at=date, data_sha256=data_sha256,
        fitted_on={"all-reduce": link.rows, **dict(sorted(Counter(p.source for p in pairs).items()))},
        several_devices_log_sigma=scores["chip_left_out"]["sigma_80"],
        communication=CommunicationFit(
            link_efficiency={"nvlink": nvlink, "pcie": pcie["pcie4"], **pcie, **_ASSUMED_SHARE},
            link_latency_s={"nvlink": message_s, **_ASSUMED_MESSAGE_S},
            exposed_floor=values["exposed_floor"], straggler_share=values["straggler_share"], **_ASSUMED,
        ),
    )  # fmt: skip
    assumed = ("ici", "other", "pcie", "pcie's latency", *_ASSUMED)
    record = LinkRecord(
        fitted_at=date, scores=scores, assumed=assumed, data_parallel_forward_share=values["forward_share"]
    )
    return shipped, record


def main() -> None:
    """Fit the links and write the coefficients and the scores."""
    parser = fit_parser(__doc__, "link_calibration", "links")
    parser.add_argument("--traced-only", action="store_true", help="leave out rows that the cache lacks")
    arguments = parser.parse_args()
    pairs = pairs_of(arguments.data, ProfileCache(arguments.cache, only_held=arguments.traced_only))
    shipped, record = documents(
        pairs, all_reduce_fit(arguments.data), digest(arguments.data / name for name in FILES), arguments.date
    )
    for name, values in record.scores.items():
        print(f"{name:34s}", values)
    print(shipped.communication)
    write_fit(arguments, shipped.model_dump(), record)


if __name__ == "__main__":
    main()
