"""
Score predicted kernels against timed ones.

    python -m benchmarks.kernels --truth kernels.csv.gz [--json OUT] [--rows OUT.csv]

Each row is one operator called alone in fp32, with its launch and the timer's events. The coefficients are the shipped
ones: they saw a sample of the kernels of every device in the file, so devices of calibration.json's "kernels" are not
held out; `fit_calibration.py` scores whole steps with their chip's kernels left out.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fitting.one_device_rows import kernel_group
from benchmarks.scoring import Scored, print_table, reach, summary
from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import OperationGroup
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.operations import Operations, RateKeys, device_rates


def seconds_of(groups: list[OperationGroup], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the predicted seconds of kernels timed alone on one accelerator, shape (kernels,)."""
    fit, device = calibration(), accelerator(name)
    count, launches = len(groups), np.array([g.launches for g in groups], dtype=float)
    operations = Operations(
        flops=np.array([g.flops for g in groups], dtype=float),
        bytes_batch=np.zeros(count), bytes_fixed=np.zeros(count),
        launches=launches, kernels=launches, phase=np.zeros(count, dtype=np.int64),
        kinds=tuple(g.kind for g in groups), rate=np.arange(count), keys=RateKeys.of(groups, fit), fused=False,
        old_host=False,
    )  # fmt: skip
    rates = device_rates(device, operations, fit)
    compute = operations.flops * rates.seconds_per_flop
    memory = np.array([g.bytes_moved for g in groups], dtype=float) * rates.seconds_per_byte
    work = np.maximum(compute, memory) + fit.overhead.blend * np.minimum(compute, memory)
    return np.asarray(work + operations.launches * fit.overhead.timed_launch_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=Path)
    arguments = parser.parse_args()
    lines = list(csv.DictReader(io.StringIO(_text(arguments.truth))))
    skipped: Counter[str] = Counter()
    by_device: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        line.update(predicted="", low_80="", high_80="", skip_reason=_reason(line))
        if line["skip_reason"]:
            skipped[line["skip_reason"]] += 1
        else:
            by_device.setdefault(line["device"], []).append(i)
    sigma = calibration().sigma
    width = math.hypot(sigma.base, sigma.unseen_device)
    reaches = reach("kernels:unseen", width)
    scored: list[Scored] = []
    for name, rows in by_device.items():
        predicted = seconds_of([kernel_group(lines[i]) for i in rows], name)
        spread = math.exp(reaches[1])
        for i, seconds in zip(rows, predicted.tolist(), strict=True):
            line, ms = lines[i], seconds * 1e3
            line.update(predicted=f"{ms:.6g}", low_80=f"{ms / spread:.6g}", high_80=f"{ms * spread:.6g}")
            error = math.log(ms / float(line["latency_ms"]))
            scored.append(Scored(error, width, name, line["op"], line["source_split"], "single", reaches))
    document = summary(scored, skipped)
    print_table(document, ("by_family", "by_source", "by_device"))
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if arguments.rows:
        with arguments.rows.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fieldnames=list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)


def _text(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")


def _reason(line: dict[str, str]) -> str:
    if not float(line["bytes"] or 0):
        return "moves nothing"
    try:
        accelerator(line["device"])
    except UnknownNameError:
        return f"{line['device']} is not in the catalogue"
    return ""


if __name__ == "__main__":
    main()
