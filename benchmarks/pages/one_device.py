"""
Write docs/accuracy-one-device.md from what the fit and the runners measured.

    python -m benchmarks.pages.one_device --residuals R.csv --steps STEPS.json --kernels KERNELS.json

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

from benchmarks.fits import one_device_record
from benchmarks.scoring import error_summary
from trainfare_core.prediction.roofline.coefficients import calibration

Line = dict[str, str]
HEAD = "| | rows | mean | median | p90 | worst | bias |\n|---|---|---|---|---|---|---|"
LEFT_OUT = ("chip", "generation", "source", "workload", "chip_and_workload")


def row(name: str, errors: list[float]) -> str:
    """Return a line of a table from ln(predicted / measured)."""
    return scored(name, error_summary(errors))


def scored(name: str, e: dict[str, Any]) -> str:
    """Return a line of a table from a score."""
    keys = ("mape", "median_ape", "p90_ape", "worst_ape", "bias")
    return f"| {name} | {e['n']:.0f} | " + " | ".join(f"{100 * e[key]:.1f} %" for key in keys) + " |"


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

    def as_published(line: Line) -> bool:
        return transformer(line) and line["accelerator"].startswith(("H100", "L4", "A100-PCIe-80"))

    table: list[tuple[str, str, str, Callable[[Line], bool]]] = [
        ("AMP, unseen model, seen device (RTX 3090)", "8 mean, 18 p90", "workload", lambda x: x["source"] == "timm"),
        ("AMP, unseen device and model, all workloads", "15 mean, 12 median", "chip_and_workload", half),
        ("the same, ResNet-50, SSD and BERT alone", "15 mean, 12 median", "chip_and_workload", vision_or_bert),
        ("AMP, unseen device, models seen elsewhere", "-", "chip", half),
        ("launch-bound small batches, unseen device", "22 mean", "chip", lambda x: x["source"].startswith("ryujaehun")),
        ("fp32 eager transformers, unseen H100, L4 or A100-80", "7 mean, 20 worst", "chip", as_published),
        ("the same, any unseen device", "-", "chip", transformer),
    ]  # fmt: skip
    text = [
        "| what | bar, % | rows | mean | median | p90 | worst | bias |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for what, bar, column, keep in table:
        if any(keep(line) for line in lines):
            text.append(row(f"{what} | {bar}", errors(column, keep)))
    for what, bar, key in (
        ("AMP, unseen device and model, one step measured on another chip", "10 mean", "_amp"),
        ("the same, any precision", "-", ""),
    ):
        e = one_device_record().scores[f"chip_and_workload_left_out_one_measured_step{key}"]
        text.append(scored(f"{what} | {bar}", e))
    return "\n".join(text)


def coverage(lines: list[Line]) -> str:
    """Return how many errors lie in the nominal intervals, by what was timed and what was left out."""
    fit = calibration().sigma
    text = ["| timed | left out | rows | 50 % | 80 % | 90 % |", "|---|---|---|---|---|---|"]
    unseen = float(np.hypot(fit.base, fit.unseen_device))
    for timed, words in (("trainer", "a trainer's loop"), ("steps", "bare steps")):
        chosen = [line for line in lines if line["timed"] == timed]
        for name, column, sigma, shape in (
            ("the model's family", "workload", fit.base, timed),
            ("chip and family", "chip_and_workload", unseen, f"{timed}:unseen"),
            ("the chip", "chip", unseen, f"{timed}:unseen"),
            ("the generation", "generation", unseen, f"{timed}:unseen"),
            ("the source", "source", fit.base, "trainer"),
        ):
            size = np.abs([float(line[f"{column}_left_out"]) for line in chosen])
            inside = [
                float((size <= reach * sigma).mean()) for reach in one_device_record().reaches[shape].values()
            ]
            shares = " | ".join(f"{100 * share:.0f} %" for share in inside)
            text.append(f"| {words} | {name} | {len(chosen)} | {shares} |")
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
    """
    Return the page.

    Args:
        lines: held-out errors of rows of one device, one column for each group left out.
        steps: document of step_time.py.
        kernels: document of kernels.py.
    """
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

Generated by `python -m benchmarks.pages.one_device`; never typed. Coefficients of {date}, {rows} measured
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

Single-device rows were fitted on (see `fitted_on` in calibration.json), so this is the error of the fit on its own
rows:

{shipped}

Rows without an answer, most first:

{skipped}

## Kernels, timed alone, fp32

A sample of each device's kernels was fitted on. Winograd and FFT convolutions are the widest.

{kernels}

## Where the misses come from

Looked at by kind of operation, dtype and device:

- **The stack, not the chip.** Within one workload of one source, errors scatter by 3 to 20 %; between workloads their
  levels differ by up to a factor of two. Transformer-XL of lambda-dlbench runs at half the speed that the same code's
  vendor table gives on the same V100, in fp32 too, at every batch; GNMT, BERT and ResNet-50 lie within 15 %. The fit
  gives each workload of each source an offset of its own and predictions none, so such rows stay wrong by their whole
  offset, and the rest is no longer bent to meet them. With one measured step most of it is gone.
- **Old numbers of one benchmark disagree**: the Quadro RTX 8000 runs Transformer-XL at twice the speed under torch 1.13
  that it had under 1.4; the A5000 rows labelled TF32 look like plain fp32. A row's torch version moves only the host.
- **A chip that no relative stands in for.** Leaving out the RTX 3090 leaves no other row of channels-last mixed
  precision and no other table of image models; Volta and Ada are predicted too slow from the others.
- **Convolution over time in fp16 (WaveGlow)** gains next to nothing from tensor units; a dilation is not in the
  profile.
- **Channels-last grouped convolution** on the RTX 3090 is up to 8 times slower than its roofline and up to 4 times
  slower than the same model in NCHW: a gap of that library version, not physics.
- **BERT at length 512 in the vendor's accumulating tables** would need more than the peak: padding was skipped, or the
  batch means something else. Rows below 0.9 of their roofline are scored and not fitted.
- **NeuSight's labels** empty the allocator cache in every iteration, which adds allocation to small steps; one GPT-2
  label of the MI210 is 1.7 times its neighbours.
"""


def main() -> None:
    """Run the command line."""
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
