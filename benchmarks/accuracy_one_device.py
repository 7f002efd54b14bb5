"""
Write docs/accuracy-one-device.md from what the fit and the runners measured.

    python benchmarks/accuracy_one_device.py --residuals R.csv --steps STEPS.json --kernels KERNELS.json

R.csv is of `fit_calibration.py --residuals`, the JSON files of `step_time.py --json` and `kernels.py --json`.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainfare_core.prediction.calibration import calibration

Line = dict[str, str]
HEAD = "| | rows | mean | median | p90 | worst | bias |\n|---|---|---|---|---|---|---|"
LEFT_OUT = ("chip", "generation", "source", "workload", "chip_and_workload")


def row(name: str, errors: list[float]) -> str:
    """Return a line of a table from ln(predicted / measured)."""
    log = np.array(errors)
    ape = np.abs(np.exp(log) - 1)
    numbers = (ape.mean(), np.median(ape), np.quantile(ape, 0.9), ape.max(), (np.exp(log) - 1).mean())
    return f"| {name} | {len(log)} | " + " | ".join(f"{100 * number:.1f} %" for number in numbers) + " |"


def scored(name: str, e: dict[str, Any]) -> str:
    """Return a line of a table from a runner's score."""
    keys = ("mape", "median_ape", "p90_ape", "worst_ape", "bias")
    return f"| {name} | {e['n']} | " + " | ".join(f"{100 * e[key]:.1f} %" for key in keys) + " |"


def bars(lines: list[Line]) -> str:
    """Return the bars of one device beside what was reached on rows left out of the fit."""

    def errors(column: str, keep: Callable[[Line], bool]) -> list[float]:
        return [float(line[f"{column}_left_out"]) for line in lines if keep(line)]

    def half(line: Line) -> bool:
        return line["precision"] in ("amp_fp16", "bf16") and line["source"] == "lambda-dlbench"

    def vision_or_bert(line: Line) -> bool:
        return half(line) and line["model"].startswith(("ResNet", "SSD", "BERT"))

    def transformer(line: Line) -> bool:
        return line["source"] == "neusight" and line["precision"] == "fp32"

    one_step = calibration().scores["chip_and_workload_left_out_one_measured_step"]
    table = [
        ("AMP, unseen model, seen device (RTX 3090)", "8 mean, 18 p90", "workload", lambda x: x["source"] == "timm"),
        ("AMP, unseen device and model, all workloads", "15 mean, 12 median", "chip_and_workload", half),
        ("the same, ResNet-50, SSD and BERT alone", "15 mean, 12 median", "chip_and_workload", vision_or_bert),
        ("launch-bound small batches, unseen device", "22 mean", "chip", lambda x: x["source"].startswith("ryujaehun")),
        ("fp32 eager transformers, unseen device", "7 mean, 20 worst", "chip", transformer),
    ]  # fmt: skip
    text = [
        "| what | bar, % | rows | mean | median | p90 | worst | bias |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for what, bar, column, keep in table:
        text.append(row(f"{what} | {bar}", errors(column, keep)))
    percent = [
        f"{100 * one_step[key]:.1f} %" for key in ("mape", "median_ape", "p90_ape", "worst_ape", "bias")
    ]
    text.append(
        f"| unseen device and model, one step measured on another chip | 10 mean | {one_step['n']:.0f} | "
        + " | ".join(percent) + " |"
    )  # fmt: skip
    return "\n".join(text)


def coverage(lines: list[Line]) -> str:
    """Return how many errors lie in the nominal intervals: models left out on seen chips, and with the chip too."""
    fit = calibration().sigma
    text = ["| left out | 50 % | 80 % | 90 % |", "|---|---|---|---|"]
    unseen = float(np.hypot(fit.base, fit.unseen_device))
    for name, column, sigma in (
        ("the model's family", "workload", fit.base),
        ("chip and family", "chip_and_workload", unseen),
        ("the chip", "chip", unseen),
    ):
        size = np.abs([float(line[f"{column}_left_out"]) for line in lines])
        inside = [float((size <= reach * sigma).mean()) for reach in fit.quantiles.values()]
        text.append(f"| {name} | " + " | ".join(f"{100 * share:.0f} %" for share in inside) + " |")
    return "\n".join(text)


def named(lines: list[Line], column: str, count: int) -> str:
    """Return the best and the worst workloads of a column."""
    groups: dict[str, list[float]] = {}
    for line in lines:
        groups.setdefault(f"{line['source']} {line['model']} {line['precision']}", []).append(
            float(line[column])
        )
    many = {name: errors for name, errors in groups.items() if len(errors) >= 2}
    order = sorted(many, key=lambda name: float(np.abs(np.exp(np.array(many[name])) - 1).mean()))
    return "\n".join([HEAD, *(row(name, many[name]) for name in (*order[:count], *order[-count:]))])


def document(lines: list[Line], steps: dict[str, Any], kernels: dict[str, Any]) -> str:
    fit = calibration()
    by = {
        key: sorted({line[key] for line in lines}) for key in ("source", "accelerator")
    }  # fmt: skip
    tables = [
        "\n".join(
            [
                HEAD,
                *(
                    row(value, [float(x["chip_left_out"]) for x in lines if x[key] == value])
                    for value in by[key]
                ),
            ]
        )
        for key in ("source", "accelerator")
    ]
    left = [row(name.replace("_", " "), [float(x[f"{name}_left_out"]) for x in lines]) for name in LEFT_OUT]
    skipped = "\n".join(
        f"- {count}: {reason}" for reason, count in sorted(steps["skipped"].items(), key=lambda x: -x[1])[:12]
    )
    return TEXT.format(
        date=fit.fitted_at, bars=bars(lines), left="\n".join([HEAD, *left]), coverage=coverage(lines),
        sources=tables[0], devices=tables[1], named=named(lines, "workload_left_out", 8),
        shipped="\n".join([HEAD, *(scored(name, e) for name, e in steps["by_scope"].items())]),
        kernels="\n".join([HEAD, *(scored(name, e) for name, e in kernels["by_device"].items())]),
        skipped=skipped, rows=len(lines),
    )  # fmt: skip


TEXT = """# How wrong predictions of one device are

Generated by `python benchmarks/accuracy_one_device.py`; never typed. Coefficients of {date}, {rows} measured
training steps. Errors are predicted over measured minus one; bias keeps the sign. Rows that their own table marks
as suspect are not fitted; nothing that hurts is dropped.

## Bars

{bars}

## Left out of the fit

{left}

By source, the row's chip left out:

{sources}

By device, the chip left out:

{devices}

The best and the worst workloads with two rows or more, their model family left out:

{named}

## Intervals

{coverage}

## What ships, on all rows it can be held against

Single-device rows were fitted on (see `fitted_on` in calibration.json), so this says how well the fit
describes what it knows:

{shipped}

Rows without an answer, most first:

{skipped}

## Kernels, timed alone, fp32

A sample of each device's kernels was fitted on. Winograd and FFT convolutions are the widest.

{kernels}

## Where the misses come from

Looked at by kind of operation, dtype and device:

- **The stack, not the chip.** Transformer-XL of lambda-dlbench runs at half the speed that the same code's
  vendor table gives on the same V100; ResNet-50 in mixed precision differs by 1.5 to 2.5 times between sources
  on one GPU. A predictor that does not know the trainer sits between them. With one measured step most of it is
  gone.
- **NCF and DLRM** are embedding gradients: how they are sorted and scattered differs by library version, and no
  other workload in the table teaches it.
- **Convolution over time in fp16 (WaveGlow)** gains next to nothing from tensor units there; a dilation is not
  in the profile.
- **A chip that no relative stands in for.** Leaving out the RTX 3090 leaves no other row of channels-last mixed
  precision with small networks; the last Ada card is predicted too slow from older ones.
- **Tacotron 2 of nvidia-dle**: two rows are an order of magnitude above the same model's other rows; they look
  like another unit.
- **NeuSight's labels** empty the allocator cache in every iteration, which adds allocation to small steps; its
  `torch.compile` rows are predicted as fused steps.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--residuals", type=Path, required=True)
    parser.add_argument("--steps", type=Path, required=True)
    parser.add_argument("--kernels", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/accuracy-one-device.md"))
    arguments = parser.parse_args()
    with arguments.residuals.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    steps, kernels = (json.loads(p.read_text(encoding="utf-8")) for p in (arguments.steps, arguments.kernels))
    arguments.out.write_text(document(lines, steps, kernels), encoding="utf-8")


if __name__ == "__main__":
    main()
