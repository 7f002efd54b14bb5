"""
Fit the sustained efficiencies of the prediction on measured data and write data/calibration.json.

    python -m benchmarks.fit_calibration --data DIR --cache DIR --date 2026-01-31 [--out FILE] [--residuals OUT.csv]

DATA holds kernels.csv.gz, microbench_achieved.csv, throughput_train.csv and collectives_allreduce.csv.gz; CACHE the
traces of their models (`benchmarks/workloads/`; what it lacks is traced first). Everything is deterministic: the same
data, traces and date give the same bytes. The scores are of rows left out of the fit: one chip, one generation, one
source, or a tenth of the model families at a time. Intervals come from those residuals, never from the fit's own.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from benchmarks.fitting.calibration_file import calibration_document
from benchmarks.fitting.collective_rows import FILES, scaling_fit
from benchmarks.fitting.held_out_groups import GROUPS, fold_of
from benchmarks.fitting.one_device_rows import Row, read_rows
from benchmarks.fitting.one_device_solver import Problem, prior, solve
from benchmarks.workloads import ProfileCache
from trainfare_core.prediction.roofline.coefficients import with_links

Array = NDArray[np.float64]

Errors = dict[int, float]
"""ln(predicted / measured) by row."""
_REFIT_ITERATIONS = 5


def held_out(problem: Problem, start: Array, group: Callable[[Row], str], *, steps_only: bool) -> Errors:
    """
    Return the errors of every step (and kernel, where those are left out too), from fits that saw no row of its group.

    Args:
        problem: all measurements.
        start: where the fits begin.
        group: of a row; a chip's kernels leave with its steps.
        steps_only: whether kernels stay in every fit: their groups mean nothing to models and sources.
    """
    found: Errors = {}
    rows = problem.rows
    groups = np.array([group(row) if row.end_to_end or not steps_only else "" for row in rows])
    steps = np.array([row.end_to_end for row in rows])
    for value in sorted(set(groups[steps])):
        without = groups == value
        theta = solve(problem, start, _REFIT_ITERATIONS, without)
        errors = problem.predict(theta) - problem.log_measured
        found |= {int(i): float(errors[i]) for i in np.flatnonzero(without)}
    return found


def chip_and_workload_held_out(problem: Problem, start: Array) -> Errors:
    """Return the errors of every step, from fits that saw neither its chip nor its model family."""
    found: Errors = {}
    rows = problem.rows
    chips = np.array([row.chip for row in rows])
    steps = np.array([row.end_to_end for row in rows])
    folds = np.array([fold_of(row) if row.end_to_end else "" for row in rows])
    for chip in sorted(set(chips[steps])):
        begin = solve(problem, start, _REFIT_ITERATIONS, chips == chip)
        for fold in sorted(set(folds[steps & (chips == chip)])):
            theta = solve(problem, begin, _REFIT_ITERATIONS - 2, (chips == chip) | (folds == fold))
            errors = problem.predict(theta) - problem.log_measured
            found |= {int(i): float(errors[i]) for i in np.flatnonzero((chips == chip) & (folds == fold))}
    return found


def pairs_of(rows: list[Row], errors: Errors) -> list[tuple[int, int]]:
    """Return (target, source) rows: the same run, software and precision, on two different chips."""
    same: dict[tuple[str, ...], list[int]] = {}
    for i in errors:
        row = rows[i]
        key = (row.source, row.line["model"], row.precision, row.line["framework"])
        same.setdefault(key, []).append(i)
    return [
        (i, j) for group in same.values() for i, j in permutations(group, 2) if rows[i].chip != rows[j].chip
    ]


def corrected(
    problem: Problem, theta: Array, targets: Errors, sources: Errors
) -> tuple[dict[str, float], list[float]]:
    """
    Fit how much of a source's error carries over to a target, by how far apart they are.

    Args:
        problem: all measurements.
        theta: coefficients that say how far a host held up a step.
        targets: errors where neither chip nor model was in the fit.
        sources: errors where the model was not: the device that measured the step is a known one.

    Returns:
        The shares for chips of one generation, of two, and for hosts, and the errors that are left, each computed
        with shares from the pairs of the other targets.
    """
    rows = problem.rows
    pairs = pairs_of(rows, targets)
    near = np.array([rows[i].device.generation == rows[j].device.generation for i, j in pairs])
    target, source = np.array([[targets[i], sources[j]] for i, j in pairs]).T
    hosts = problem.host_share(theta)[np.array(pairs)]
    device = source * (1 - hosts[:, 0]) * (1 - hosts[:, 1])
    parts = np.stack([device * near, device * ~near, source * hosts[:, 0] * hosts[:, 1]], axis=1)
    chips = np.array([rows[i].chip for i, _ in pairs])
    left = np.empty(len(pairs))
    for chip in np.unique(chips):
        here = chips == chip
        left[here] = target[here] - parts[here] @ _shares(parts[~here], target[~here])
    found = _shares(parts, target)
    return dict(zip(("same_generation", "other_generation", "host"), map(float, found), strict=True)), list(
        left
    )


def _shares(parts: Array, target: Array) -> Array:
    """Return the shares of `parts`, 0 to 1 each, that leave the least of `target`."""
    return np.asarray(lsq_linear(parts, target, bounds=(0.0, 1.0)).x)


def score(errors: list[float]) -> dict[str, float]:
    """Return errors as fractions, and the standard deviation whose central 80 % holds 80 % of them."""
    log = np.array(errors)
    ape = np.abs(np.exp(log) - 1)
    return {
        "n": float(len(log)),
        "mape": float(ape.mean()),
        "median_ape": float(np.median(ape)),
        "p90_ape": float(np.quantile(ape, 0.9)),
        "worst_ape": float(ape.max()),
        "bias": float((np.exp(log) - 1).mean()),
        "sigma_80": float(np.quantile(np.abs(log), 0.8) / 1.2816),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--traced-only", action="store_true", help="leave out rows that the cache lacks")
    parser.add_argument("--out", type=Path, default=Path("core/trainfare_core/data/calibration.json"))
    parser.add_argument("--residuals", type=Path, help="write every held-out error here")
    parser.add_argument("--date", required=True, help="written into the file; the fit itself reads no clock")
    arguments = parser.parse_args()
    scaling = scaling_fit(arguments.data)
    cache = ProfileCache(arguments.cache, only_held=arguments.traced_only)
    rows, index, skipped = read_rows(arguments.data, cache, prior, scaling["straggler_share"])
    for reason, count in sorted(skipped.items()):
        print(f"skipped {count:6d}  {reason}")
    problem = Problem(rows, index)
    theta = solve(problem)
    errors = problem.predict(theta) - problem.log_measured
    steps = [i for i, row in enumerate(rows) if row.end_to_end]
    scores = {"in_sample": score([float(errors[i]) for i in steps])}
    left: dict[str, Errors] = {}
    for name, group in GROUPS.items():
        found = held_out(problem, theta, group, steps_only=name in ("source", "workload"))
        left[name] = {i: error for i, error in found.items() if rows[i].end_to_end}
        if name == "chip":
            kernels = kernel_errors(rows, found)
        scores[f"{name}_left_out"] = score(list(left[name].values()))
        print(
            f"{name} left out:", {key: round(value, 3) for key, value in scores[f"{name}_left_out"].items()}
        )
    left["chip_and_workload"] = chip_and_workload_held_out(problem, theta)
    scores["chip_and_workload_left_out"] = score(list(left["chip_and_workload"].values()))
    shares, remaining = corrected(problem, theta, left["chip_and_workload"], left["workload"])
    scores["chip_and_workload_left_out_one_measured_step"] = score(remaining)
    half = [rows[i].precision in ("amp_fp16", "bf16") for i, _ in pairs_of(rows, left["chip_and_workload"])]
    scores["chip_and_workload_left_out_one_measured_step_amp"] = score(
        [error for error, wanted in zip(remaining, half, strict=True) if wanted]
    )
    scores["workload_left_out_one_measured_step"] = score(
        corrected(problem, theta, left["workload"], left["workload"])[1]
    )
    report(rows, left, scores)
    counts = {name: sum(row.source == name for row in rows) for name in sorted({row.source for row in rows})}
    document = calibration_document(
        index.of, theta, scores, counts, scaling, digest(arguments.data), arguments.date, shares,
        {**_by_situation(rows, left), "corrected:unseen": remaining, "kernels:unseen": kernels},
    )  # fmt: skip
    text = _with_other_sections(arguments.out, document)
    with_links(text)
    arguments.out.write_text(json.dumps(text, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"wrote {arguments.out}")
    if arguments.residuals:
        write_residuals(arguments.residuals, rows, left)


def kernel_errors(rows: list[Row], errors: Errors) -> list[float]:
    """Return the errors of kernels whose chip was left out, each as often as the table has rows like it, in tens."""
    found: list[float] = []
    for i, error in errors.items():
        if rows[i].source == "kernels":
            found += [error] * max(1, round(rows[i].stands_for / 10))
    return found


def _by_situation(rows: list[Row], left: dict[str, Errors]) -> dict[str, list[float]]:
    """Return the errors of models left out, by what their rows timed and whether their chip was left out too."""
    return {
        f"{what}{where}": [error for i, error in left[name].items() if rows[i].trainer == (what == "trainer")]
        for what in ("trainer", "steps")
        for where, name in (("", "workload"), (":unseen", "chip_and_workload"))
    }


def _with_other_sections(out: Path, document: dict[str, object]) -> dict[str, object]:
    """Keep the sections that other fits wrote."""
    if not out.exists():
        return document
    before = json.loads(out.read_text(encoding="utf-8"))
    own = {*document, "compute", "memory", "shared"}
    return {**{k: v for k, v in before.items() if k not in own}, **document}


def report(rows: list[Row], left: dict[str, Errors], scores: dict[str, dict[str, float]]) -> None:
    """Print the scores, and the held-out errors by source, precision and chip."""
    for name, values in scores.items():
        print(f"{name:34s}", {key: round(value, 3) for key, value in values.items()})
    for name, errors in left.items():
        cells: dict[str, list[float]] = {}
        for i, error in errors.items():
            cells.setdefault(f"{rows[i].source} {rows[i].precision}", []).append(error)
            cells.setdefault(f"{rows[i].source}", []).append(error)
        for what, values in sorted(cells.items()):
            found = score(values)
            print(
                f"  {name:11s}{what:36s}{len(values):5d}  mean {found['mape']:6.1%}  median "
                f"{found['median_ape']:6.1%}  p90 {found['p90_ape']:6.1%}  bias {found['bias']:+6.1%}"
            )


def write_residuals(path: Path, rows: list[Row], left: dict[str, Errors]) -> None:
    """Write one line a step: what it was, and ln(predicted / measured) by what was left out."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            [
                "source",
                "model",
                "precision",
                "accelerator",
                "batch",
                "framework",
                "timed",
                *(f"{name}_left_out" for name in left),
            ]
        )
        for i in left["chip"]:
            line = rows[i].line
            row = [
                line[key]
                for key in ("source", "model", "precision", "accelerator", "batch_per_device", "framework")
            ]
            row.append("trainer" if rows[i].trainer else "steps")
            writer.writerow([*row, *(f"{errors.get(i, float('nan')):.4f}" for errors in left.values())])


def digest(data: Path) -> str:
    """Return one SHA-256 over the files the fit reads."""
    whole = hashlib.sha256()
    for name in FILES:
        whole.update((data / name).read_bytes())
    return whole.hexdigest()


if __name__ == "__main__":
    main()
