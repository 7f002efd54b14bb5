"""Measured rows as operations: what fit_calibration.py fits on, read from the calibration data."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainfare_core.accelerators import Accelerator, accelerator
from trainfare_core.errors import UnknownNameError
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.step_time import POINTWISE_KINDS, compiles_graphs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from builders.profiles import gpt_profile
from builders.profiles import profile as resnet_profile

__all__ = [
    "BLEND",
    "FILES",
    "FUSED_BYTES_SHARE",
    "Row",
    "accumulation_of",
    "collective_fit",
    "job_of",
    "read_rows",
    "scaling_fit",
]

Array = NDArray[np.float64]

BLEND = 0.3
FILES = ("kernels.csv.gz", "microbench_achieved.csv", "throughput_train.csv", "collectives_allreduce.csv.gz")
FUSED_BYTES_SHARE = 0.55
"""Assumed, not fitted: of the bytes of eager pointwise operations, what a compiler that fuses them leaves."""
KERNELS_PER_GROUP = 60
GROUP_WEIGHT = 3.0
"""What all kernels of one (device, kind) count for together, in end-to-end rows."""
STEP_GROUP_WEIGHT = 2.0
"""
What all steps of one (source, workload, precision, chip) count for: sources differ by more than their rows.
"""
DTYPES = {"fp32": "fp32", "tf32": "tf32", "amp_fp16": "fp16", "fp16_pure": "fp16", "bf16": "bf16"}
TENSOR_KINDS = ("matmul", "convolution", "grouped_convolution", "attention", "recurrent")
KERNEL_KINDS = {
    "linear": "matmul", "bmm": "matmul", "conv2d": "convolution", "softmax": "softmax",
    "layernorm": "normalization",
    "gelu": "activation", "relu": "activation", "tanh": "activation", "dropout": "dropout",
    "embedding": "embedding",
    "contiguous": "copy",
}  # fmt: skip
MPT = {
    "125m": (12, 768, 12), "350m": (24, 1024, 16), "760m": (24, 1536, 12), "1b": (24, 2048, 16),
    "3b": (32, 2560, 20),
    "7b": (32, 4096, 32), "13b": (40, 5120, 40), "30b": (48, 7168, 56), "70b": (64, 8192, 64),
}  # fmt: skip


@dataclass
class Row:
    """One measurement: operations of a step (or one kernel) on one device, and the seconds they took."""

    device: Accelerator
    measured_s: float
    flop_s: Array
    byte_s: Array
    winograd: NDArray[np.bool_]
    kinds: list[str]
    paths: list[str]
    launches: float
    weight: float
    source: str
    workload: str
    precision: str
    end_to_end: bool
    extra_s: float = 0.0
    host_free: bool = False

    @property
    def chip(self) -> str:
        """The chip without its memory size or form: variants of one chip are left out together."""
        return re.sub(r"(-(SXM\d?|PCIE|NVL))?-\d+GB$", "", self.device.name)

    @property
    def group(self) -> tuple[str, str, str, str]:
        """Rows that say the same thing again."""
        return (self.source, self.workload, self.precision, self.chip)

    @property
    def generation(self) -> str:
        return self.device.generation


def read_rows(data: Path, straggler_share: float) -> tuple[list[Row], dict[str, int], dict[str, int]]:
    """Return rows, how many of each source, and how many were skipped by reason."""
    skipped: Counter[str] = Counter()
    steps = list(_steps(data, skipped))
    groups = Counter(row.group for row in steps)
    for row in steps:
        row.weight = STEP_GROUP_WEIGHT / groups[row.group]
        if row.workload == "MPT":  # measured on eight devices that wait for one another, by micro-batch
            row.measured_s /= 1 + 3 * straggler_share
    rows = [*_kernels(data, skipped), *_matmuls(data, skipped), *steps]
    return rows, dict(sorted(Counter(row.source for row in rows).items())), dict(skipped)


def _device(name: str, skipped: Counter[str]) -> Accelerator | None:
    try:
        return accelerator(name)
    except UnknownNameError:
        skipped[f"{name} is not in the catalogue"] += 1
        return None


def _kernels(data: Path, skipped: Counter[str]) -> Iterator[Row]:
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    with gzip.open(data / "kernels.csv.gz", "rt", newline="") as stream:
        for line in csv.DictReader(stream):
            if line["flag"].startswith(("launch", "below_dram")) or not float(line["bytes"] or 0):
                continue
            kind = KERNEL_KINDS.get(line["op"], "elementwise")
            groups.setdefault((line["device"], kind, line["direction"]), []).append(line)
    for (name, kind, _), lines in sorted(groups.items()):
        device = _device(name, skipped)
        if device is None:
            continue
        chosen = lines[:: max(1, len(lines) // KERNELS_PER_GROUP)][:KERNELS_PER_GROUP]
        for line in chosen:
            peak = device.peak_flops_per_s("fp32") or math.inf
            yield Row(
                device=device, measured_s=float(line["latency_ms"]) / 1e3,
                flop_s=np.array([float(line["flops"]) / peak]),
                byte_s=np.array([float(line["bytes"]) / device.memory_bandwidth_bytes_per_s]),
                winograd=np.array([kind == "convolution"]), kinds=[kind], paths=["vector"],
                launches=float(line["launches"] or 1), weight=GROUP_WEIGHT / len(chosen), source="kernels",
                workload=kind, precision="fp32", end_to_end=False, host_free=True,
            )  # fmt: skip


def _matmuls(data: Path, skipped: Counter[str]) -> Iterator[Row]:
    """Yield the best matrix product of each accelerator; a typical one is taken to reach 0.92 of the best."""
    for line in _csv(data / "microbench_achieved.csv"):
        if not line["bench"].startswith("matmul_best") or not line["dtype"].startswith(
            ("bf16", "fp16", "fp8")
        ):
            continue
        device = _device(line["device"], skipped)
        dtype = line["dtype"].split("_")[0]
        peak = device.peak_flops_per_s(dtype) if device else None
        if device is None or not peak:
            continue
        m, n, k = int(line["m"]), int(line["n"]), int(line["k"])
        flops = 2.0 * m * n * k
        yield Row(
            device=device, measured_s=flops / (float(line["achieved_tflops"]) * 1e12 * 0.92),
            flop_s=np.array([flops / peak]), byte_s=np.zeros(1), winograd=np.zeros(1, dtype=bool),
            kinds=["matmul"], paths=["tensor"], launches=0.0, weight=2.0, source="matmul ceilings",
            workload="matmul", precision=dtype, end_to_end=False, host_free=True,
        )  # fmt: skip


def _steps(data: Path, skipped: Counter[str]) -> Iterator[Row]:
    for line in _csv(data / "throughput_train.csv"):
        made = job_of(line) if _one_machine(line) else "more than one device, or machine"
        if isinstance(made, str):
            skipped[made] += 1
            continue
        job, step_s, workload = made
        device = _device(line["accelerator"], skipped)
        if device is None:
            continue
        if step_s is None:
            peak = device.peak_flops_per_s("bf16") or math.nan
            step_s = job.model_step_flops / (peak * float(line["mfu"]) / 100)
        row = _step_row(device, job, step_s, line, workload)
        if row is None:
            skipped[f"{device.name} has no {line['precision']}"] += 1
        else:
            yield row


def _one_machine(line: dict[str, str]) -> bool:
    """Whether the fit uses the row: communication hardly counts in it, or it gives utilisation."""
    if line["source"] == "llm-foundry":
        return line["nodes"] == "1"
    return line["devices"] == "1" or line["source"] in ("maxtext-tpu", "levanter")


def job_of(line: dict[str, str]) -> tuple[JobProfile, float | None, str] | str:
    """
    Return the micro-batch of one device as a profile, for a row of throughput_train.csv.

    Returns:
        The profile, the seconds of the whole optimizer step (None: the row gives MFU alone) and a name; or
        why there is no profile.
    """
    source, model, dtype = line["source"], line["model"], DTYPES.get(line["precision"])
    if dtype is None:
        return f"precision {line['precision']} has no rows of its own here"
    if "SUSPECT" in line["notes"]:
        return "marked suspect"
    if source in ("lambda-dlbench", "nvidia-dle", "timm"):
        return _vision_or_bert(line, dtype)
    if source == "llm-foundry" and line["batch_per_device"]:
        layers, width, heads = MPT[model.removeprefix("MPT-").lower()]
        batch, sequence = int(float(line["batch_per_device"])), int(line["sequence_length"])
        job = gpt_profile(
            layers=layers, width=width, heads=heads, sequence=sequence, vocabulary=50_368, batch_size=batch,
            checkpointing=line["activation_checkpointing"] == "full",
        )  # fmt: skip
        tokens = batch * sequence * int(line["devices"]) * accumulation_of(line)
        return job, tokens / float(line["throughput"]), "MPT"
    if source in ("maxtext-tpu", "levanter") and line["mfu"]:
        job = gpt_profile(layers=4, width=6144, heads=48, sequence=2048, batch_size=4, checkpointing=True)
        return job, None, "TPU"
    return f"no operation list for {source}"


def accumulation_of(line: dict[str, str]) -> int:
    """Return forward passes of one optimizer step, as the row's notes say; 1 where they do not."""
    found = re.search(r"grad_accum=(\d+)", line["notes"])
    return int(found[1]) if found else 1


def _vision_or_bert(line: dict[str, str], dtype: str) -> tuple[JobProfile, float | None, str] | str:
    if not line["batch_per_device"] and line["devices"] != "1":
        return "the batch of a device is not stated"
    model, rate = line["model"].lower(), float(line["throughput"]) / int(line["devices"])
    batch = int(float(line["batch_per_device"] or 256))
    if model in ("resnet-50-v1.5", "resnet50") and "channels_last" not in line["notes"]:
        if line["source"] == "nvidia-dle" and "pytorch" not in line["framework"]:
            return "ResNet-50 of another framework"
        return resnet_profile(batch_size=batch, dtype=dtype), batch / rate, "ResNet-50"
    if model in ("bert-base-squad", "bert-large-squad"):
        layers, width, heads = (24, 1024, 16) if "large" in model else (12, 768, 12)
        job = gpt_profile(
            layers=layers, width=width, heads=heads, sequence=384, vocabulary=30_522, batch_size=batch,
            dtype=dtype, attention="math", dropout=True, head=False,
        )  # fmt: skip
        return job, batch / rate, "BERT"
    if model == "vit_base_patch16_224" and "nchw" in line["notes"]:
        job = gpt_profile(
            layers=12, width=768, heads=12, sequence=197, vocabulary=1000, batch_size=batch, dtype=dtype,
            attention="math", head=False,
        )  # fmt: skip
        return job, batch / rate, "ViT"
    return f"no operation list for {line['source']} {line['task']}"


def _step_row(
    device: Accelerator, job: JobProfile, step_s: float, line: dict[str, str], workload: str
) -> Row | None:
    flop_s: list[float] = []
    paths: list[str] = []
    winograd: list[bool] = []
    passes = accumulation_of(line)
    shards = 8 * passes if workload == "MPT" else 1
    kept = [g for g in job.operations if not (workload == "TPU" and g.phase == "optimizer")]
    for group in kept:
        tensor = group.kind in TENSOR_KINDS
        wanted = group.dtype if tensor else "fp32"
        used = wanted if device.peak_flops_per_s(wanted) else "fp32"
        peak = device.peak_flops_per_s(used)
        if not peak and tensor:
            return None
        flop_s.append(group.flops / peak if peak else 0.0)
        paths.append("vector" if used == "fp32" else "tensor")
        winograd.append(
            group.kind == "convolution"
            and used == "fp32"
            and group.shape[5:7] == (3, 3)
            and group.shape[10] == 1
        )
    share = np.array([1.0 / shards if g.phase == "optimizer" else 1.0 for g in kept])
    fused = compiles_graphs(device)
    moved = np.array(
        [
            float(g.bytes_moved) * (FUSED_BYTES_SHARE if fused and g.kind in POINTWISE_KINDS else 1)
            for g in kept
        ]
    )
    return Row(
        device=device, measured_s=step_s / passes, flop_s=np.array(flop_s) * share,
        byte_s=moved / device.memory_bandwidth_bytes_per_s * share, winograd=np.array(winograd),
        kinds=[g.kind for g in kept], paths=paths, launches=float(sum(g.launches for g in kept)),
        weight=1.0, source=line["source"], workload=workload,
        precision=DTYPES[line["precision"]], end_to_end=True, host_free=workload == "TPU",
    )  # fmt: skip


def collective_fit(data: Path) -> dict[str, float]:
    """
    Fit latency and bytes/s of the all-reduce in one NVSwitch machine (A100, 8 ranks).

    Returns:
        `latency_s` of one message and `bus_bytes_per_s`: t = 14 x latency + 2 x 7/8 x bytes / bus rate.
    """
    sizes, seconds = [], []
    with gzip.open(data / "collectives_allreduce.csv.gz", "rt", newline="") as stream:
        for line in csv.DictReader(stream):
            if line["device"].startswith("A100") and line["ranks"] == "8" and line["nodes"] == "1":
                sizes.append(float(line["bytes"]))
                seconds.append(float(line["latency_ms_out_of_place"]) / 1e3)
    x, y = np.array(sizes), np.array(seconds)
    design = np.stack([np.full(len(x), 14.0), 1.75 * x], axis=1) / y[:, None]
    latency, inverse = np.linalg.lstsq(design, np.ones(len(x)), rcond=None)[0]
    return {"latency_s": float(latency), "bus_bytes_per_s": float(1 / inverse), "rows": float(len(x))}


def scaling_fit(data: Path) -> dict[str, float]:
    """
    Fit what several devices in one machine lose apart from the all-reduce.

    Each run on n devices is compared with the same run (model, precision, batch of a device, software) on
    one. Detection is left out: its loader on the host binds it, which is the input pipeline's term.

    Returns:
        `straggler_share`: median of (slow-down - 1) / log2(n) over rows; `sigma_80` of what is left; `rows`.
    """
    runs: dict[tuple[str, ...], dict[int, list[float]]] = {}
    for line in _csv(data / "throughput_train.csv"):
        single = (
            line["source"] == "lambda-dlbench" and line["batch_per_device"] and "SUSPECT" not in line["notes"]
        )
        if not single or line["task"] not in ("imagenet-classification", "finetune-squad"):
            continue
        key = tuple(
            line[name] for name in ("accelerator", "model", "precision", "framework", "batch_per_device")
        )
        devices = int(line["devices"])
        runs.setdefault(key, {}).setdefault(devices, []).append(float(line["throughput"]) / devices)
    pairs = [
        (math.log2(devices), float(np.median(run[1]) / np.median(rates)))
        for _, run in sorted(runs.items())
        if 1 in run
        for devices, rates in sorted(run.items())
        if devices > 1
    ]
    doublings, slowdown = np.array(pairs).T
    share = float(np.median((slowdown - 1) / doublings))
    left = np.abs(np.log(slowdown / (1 + share * doublings)))
    return {
        "straggler_share": share,
        "sigma_80": float(np.quantile(left, 0.8) / 1.2816),
        "rows": float(len(pairs)),
    }


def _csv(path: Path) -> Iterable[dict[str, str]]:
    with io.open(path, newline="", encoding="utf-8") as stream:  # noqa: UP020
        yield from csv.DictReader(stream)
