"""Rows whose operation list is written down here (language models, TPUs), and the fits of links and scaling."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainfare_core.job_profile import JobProfile

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from builders.profiles import gpt_profile
from builders.profiles import profile as resnet_profile

__all__ = [
    "BLEND",
    "FILES",
    "FUSED_BYTES_SHARE",
    "accumulation_of",
    "collective_fit",
    "job_of",
    "scaling_fit",
]

Array = NDArray[np.float64]

BLEND = 0.3
FILES = ("kernels.csv.gz", "microbench_achieved.csv", "throughput_train.csv", "collectives_allreduce.csv.gz")
FUSED_BYTES_SHARE = 0.55
"""Assumed, not fitted: of the bytes of eager pointwise operations, what a compiler that fuses them leaves."""
DTYPES = {"fp32": "fp32", "tf32": "tf32", "amp_fp16": "fp16", "fp16_pure": "fp16", "bf16": "bf16"}
MPT = {
    "125m": (12, 768, 12), "350m": (24, 1024, 16), "760m": (24, 1536, 12), "1b": (24, 2048, 16),
    "3b": (32, 2560, 20),
    "7b": (32, 4096, 32), "13b": (40, 5120, 40), "30b": (48, 7168, 56), "70b": (64, 8192, 64),
}  # fmt: skip


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
