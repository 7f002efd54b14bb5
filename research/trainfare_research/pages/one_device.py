"""
Write research/docs/accuracy-one-device.md from what the fit and the runners measured.

    python -m trainfare_research.pages.one_device --residuals R.csv --steps STEPS.json --kernels KERNELS.json

R.csv is of `fit_calibration.py --residuals`, the JSON files of `step_time.py --json` and `kernels.py --json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_research.fits import one_device_record
from trainfare_research.pages.markdown import render
from trainfare_research.scoring import LEVELS, error_summary
from trainfare_research.truth_table import read_rows

Line = dict[str, str]
Score = dict[str, float]
LEFT_OUT = ("chip", "generation", "source", "workload", "chip_and_workload")


def score(lines: Iterable[Line], left_out: str) -> Score:
    """Return the errors of rows by a fit without their chip, their source, ..."""
    return error_summary([float(line[f"{left_out}_left_out"]) for line in lines])


def is_recent(line: Line) -> bool:
    """Return whether a row is of AMP or bf16 in PyTorch 2.x: what most jobs of today are."""
    return line["precision"] in ("amp_fp16", "bf16") and "pytorch 2" in line["framework"].lower()


def bars(lines: list[Line]) -> list[tuple[str, str, Score]]:
    """Return the bars of one device beside what was reached on rows left out of the fit."""

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
        ("AMP or bf16, PyTorch 2.x, unseen model, seen device", "13 mean, 9 median", "workload", is_recent),
        ("AMP or bf16, PyTorch 2.x, unseen device and model", "18 mean, 13 median", "chip_and_workload", is_recent),
        ("AMP, unseen device and model, all workloads", "15 mean, 12 median", "chip_and_workload", half),
        ("the same, ResNet-50, SSD and BERT alone", "15 mean, 12 median", "chip_and_workload", vision_or_bert),
        ("AMP, unseen device, models seen elsewhere", "-", "chip", half),
        ("launch-bound small batches, unseen device", "22 mean", "chip", lambda x: x["source"].startswith("ryujaehun")),
        ("fp32 eager transformers, unseen H100, L4 or A100-80", "7 mean, 20 worst", "chip", as_published),
        ("the same, any unseen device", "-", "chip", transformer),
    ]  # fmt: skip
    bars_of_table = [
        (what, bar, [line for line in lines if keep(line)], left_out) for what, bar, left_out, keep in table
    ]
    once = one_device_record().scores
    return [
        *((what, bar, score(chosen, left_out)) for what, bar, chosen, left_out in bars_of_table if chosen),
        ("AMP, unseen device and model, one step measured on another chip", "10 mean",
         once["chip_and_workload_left_out_one_measured_step_amp"]),
        ("the same, any precision", "-", once["chip_and_workload_left_out_one_measured_step"]),
        ("of these, trainers' loops, as a job is measured", "-",
         once["chip_and_workload_left_out_one_measured_step_trainer"]),
        ("torch.compile, unseen model, seen device", "-", once["workload_left_out_compiled"]),
    ]  # fmt: skip


def coverage(lines: list[Line]) -> Iterator[tuple[str, str, int, list[float]]]:
    """Yield how many errors lie in the nominal intervals, by what was timed and what was left out."""
    fit = calibration().sigma
    unseen = float(np.hypot(fit.base, fit.unseen_device))
    for timed, words in (("trainer", "a trainer's loop"), ("steps", "bare steps")):
        chosen = [line for line in lines if line["timed"] == timed]
        for name, column, sigma, shape in (
            ("the model's family", "workload", fit.base, timed),
            ("chip and family", "chip_and_workload", unseen, f"{timed}:unseen"),
            ("the chip", "chip", unseen, f"{timed}:unseen"),
            ("the generation", "generation", unseen, f"{timed}:unseen"),
        ):
            size = np.abs([float(line[f"{column}_left_out"]) for line in chosen])
            reaches = one_device_record().reaches[shape].values()
            yield words, name, len(chosen), [float((size <= reach * sigma).mean()) for reach in reaches]
        yield words, "the source", len(chosen), _count_held_by_other_sources(chosen)


def _count_held_by_other_sources(lines: list[Line]) -> list[float]:
    """Return how many errors with a row's source left out lie within the quantiles of the other sources' errors."""
    source = np.array([line["source"] for line in lines])
    size = np.abs([float(line["source_left_out"]) for line in lines])
    inside = np.zeros((len(LEVELS), len(lines)), dtype=np.bool_)
    for name in np.unique(source):
        here = source == name
        reach = np.quantile(size[~here], [int(level) / 100 for level in LEVELS])
        inside[:, here] = size[here] <= reach[:, None]
    return [float(share) for share in inside.mean(axis=1)]


def by_value(lines: list[Line], key: str) -> list[tuple[str, Score]]:
    """Return the scores by a column, the row's chip left out."""
    values = sorted({line[key] for line in lines})
    return [(value, score([line for line in lines if line[key] == value], "chip")) for value in values]


def siblings(lines: list[Line]) -> list[tuple[str, Score]]:
    """
    Return the errors of how many times as long a run takes on one device as on another one of the same die.

    Both devices are left out of the fit, with the rest of their chip: what their published rates say of the pair.
    """
    same: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        run = tuple(line[name] for name in ("source", "model", "precision", "framework", "batch_per_device"))
        same.setdefault((*run, accelerator(line["accelerator"]).silicon), []).append(line)
    pairs: dict[str, list[float]] = {}
    for group in same.values():
        for first, other in combinations(sorted(group, key=lambda x: accelerator(x["accelerator"]).name), 2):
            names = [accelerator(line["accelerator"]).name for line in (first, other)]
            if names[0] != names[1]:
                difference = float(first["chip_left_out"]) - float(other["chip_left_out"])
                pairs.setdefault(f"{names[0]} over {names[1]}, {first['source']}", []).append(difference)
    return [
        (name, error_summary(errors))
        for name, errors in sorted(pairs.items(), key=lambda pair: -len(pair[1]))
    ]


def best_and_worst(lines: list[Line], count: int) -> list[tuple[str, Score]]:
    """Return so many of the best and of the worst workloads with two rows or more, their family left out."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(f"{line['source']} {line['model']} {line['precision']}", []).append(line)
    scores = [(name, score(group, "workload")) for name, group in groups.items() if len(group) >= 2]
    scores.sort(key=lambda pair: pair[1]["mape"])
    return [*scores[:count], *scores[-count:]]


def document(lines: list[Line], steps: dict[str, Any], kernels: dict[str, Any]) -> str:
    """
    Return the page.

    Args:
        lines: held-out errors of rows of one device, one column for each group left out.
        steps: document of step_time.py.
        kernels: document of kernels.py.
    """
    return render(
        "one_device", date=calibration().fitted_at, lines=lines, bars=bars(lines), coverage=coverage(lines),
        left_out=[(name.replace("_", " "), score(lines, name)) for name in LEFT_OUT],
        by_source=by_value(lines, "source"), by_accelerator=by_value(lines, "accelerator"),
        siblings=siblings(lines),
        best_and_worst=best_and_worst(lines, 8), shipped=steps["by_scope"].items(), skipped=steps["skipped"],
        kernels=kernels["by_device"].items(),
    )  # fmt: skip


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--residuals", type=Path, required=True)
    parser.add_argument("--steps", type=Path, required=True)
    parser.add_argument("--kernels", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("research/docs/accuracy-one-device.md"))
    arguments = parser.parse_args()
    lines = read_rows(arguments.residuals)
    steps, kernels = (json.loads(p.read_text(encoding="utf-8")) for p in (arguments.steps, arguments.kernels))
    arguments.out.write_text(document(lines, steps, kernels), encoding="utf-8")


if __name__ == "__main__":
    main()
