"""
Fit the sustained efficiencies of the prediction on measured data and write data/calibration.json.

    python -m trainfare_research.runners.fit_calibration --data DIR --cache DIR --date 2026-01-31 [--out FILE]
        [--record FILE]
        [--residuals OUT.csv]

DATA holds kernels.csv.gz, microbench_achieved.csv and the tables of steps and submissions; CACHE the traces of models
(`workloads/`; missing ones are traced first). Everything is deterministic: the same data, traces and date
give the same bytes. The scores are of rows left out of the fit: one chip, one generation, one source, or a tenth of the
model families at a time. Intervals come from those residuals, never from the fit's own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from trainfare_core.prediction.network.collectives import link_calibration
from trainfare_core.prediction.roofline.coefficients import SourceFit, with_links
from trainfare_research.fits import Scores
from trainfare_research.fitting.calibration_file import calibration_of, record_of, sigma_of
from trainfare_research.fitting.command_line import digest, fit_parser, write_fit
from trainfare_research.fitting.held_out_groups import GROUPS, fold_of
from trainfare_research.fitting.one_device_held_out import REFIT_EVALUATIONS
from trainfare_research.fitting.one_device_rows import Row
from trainfare_research.fitting.one_device_solver import Problem, solve
from trainfare_research.fitting.one_device_tables import FILES, read_measurements
from trainfare_research.fitting.table_lines import SUBMISSION
from trainfare_research.scoring import error_summary, summarize_held_out
from trainfare_research.truth_table import write_rows
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.language.decoder_profile import DecoderTraces

Array = NDArray[np.float64]

Errors = dict[int, float]
"""ln(predicted / measured) by row."""
_ROWS_A_KERNEL = 10
"""Rows of the table behind each repetition of a sampled kernel's error in the kernels' interval: keeps lists short."""


def measure_held_out(
    problem: Problem,
    start: Array,
    group: Callable[[Row], str],
    *,
    steps_only: bool,
    evaluations: int = REFIT_EVALUATIONS,
) -> Errors:
    """
    Return the errors of every step (and kernel, where those are left out too), from fits without any row of its group.

    Args:
        problem: all measurements.
        start: where the fits begin.
        group: of a row; a chip's kernels leave with its steps.
        steps_only: whether kernels stay in every fit: their groups mean nothing to models and sources.
        evaluations: the most of each fit.
    """
    errors_left_out: Errors = {}
    rows = problem.rows
    groups = np.array([group(row) if row.end_to_end or not steps_only else "" for row in rows])
    steps = np.array([row.end_to_end for row in rows])
    for value in sorted(set(groups[steps]) - {""}):
        without = groups == value
        theta = solve(problem, start, evaluations, without)
        errors = problem.predict(theta) - problem.log_measured
        errors_left_out |= {int(i): float(errors[i]) for i in np.flatnonzero(without)}
    return errors_left_out


def chip_and_workload_held_out(problem: Problem, start: Array) -> Errors:
    """Return the errors of every step, from fits without its chip and without its model family."""
    errors_left_out: Errors = {}
    rows = problem.rows
    chips = np.array([row.chip for row in rows])
    steps = np.array([row.end_to_end and row.timed != SUBMISSION for row in rows])
    folds = np.array([fold_of(row) if row.end_to_end else "" for row in rows])
    for chip in sorted(set(chips[steps])):
        begin = solve(problem, start, REFIT_EVALUATIONS, chips == chip)
        for fold in sorted(set(folds[steps & (chips == chip)])):
            theta = solve(problem, begin, REFIT_EVALUATIONS - 3, (chips == chip) | (folds == fold))
            errors = problem.predict(theta) - problem.log_measured
            here = steps & (chips == chip) & (folds == fold)
            errors_left_out |= {int(i): float(errors[i]) for i in np.flatnonzero(here)}
    return errors_left_out


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


@dataclass(frozen=True)
class Carried:
    """
    How much of a source's error carries over to a target.

    Attributes:
        shares: of trainers' loops, as jobs are measured.
        left: the errors that remain in each pair, with shares from the pairs of the other targets and the same timing.
        half: whether a pair's precision is mixed fp16 or bf16.
        trainer: whether it is of trainers' loops, and not of bare steps.
    """

    shares: SourceFit
    left: Array
    half: NDArray[np.bool_]
    trainer: NDArray[np.bool_]


def fit_carried_over(problem: Problem, targets: Errors, sources: Errors) -> Carried:
    """
    Fit how much of a source's error carries over to a target, by how much slower the target is predicted.

    Args:
        problem: all measurements.
        targets: errors where neither chip nor model was in the fit.
        sources: errors where the model was not: the device that measured the step is a known one.
    """
    rows = list(problem.rows)
    pairs = pairs_of(rows, targets)
    target, source = np.array([[targets[i], sources[j]] for i, j in pairs]).T
    slower = np.array([_unit_log_s(rows[i], rows[j]) for i, j in pairs]) + target - source
    chips = np.array([rows[i].chip for i, _ in pairs])
    timed = np.array([rows[i].timed for i, _ in pairs])
    left = np.empty(len(pairs))
    for chip in np.unique(chips):
        for what in np.unique(timed[chips == chip]):
            here, others = (chips == chip) & (timed == what), (chips != chip) & (timed == what)
            left[here] = (
                target[here]
                - _compute_carried_part(_shares(source, target, slower, others), source, slower)[here]
            )
    shares = _shares(source, target, slower, timed == "trainer")
    half = np.array([rows[i].precision in ("amp_fp16", "bf16") for i, _ in pairs])
    return Carried(shares, left, half, timed == "trainer")


def _unit_log_s(row: Row, other: Row) -> float:
    """Return ln of the measured seconds of two rows' device for the same work, one over the other."""
    rates = [
        float(side.line.get("throughput") or 0) / float(side.line.get("devices") or 1)
        for side in (row, other)
    ]
    return math.log(rates[1] / rates[0]) if all(rates) else math.log(row.measured_s / other.measured_s)


def _shares(source: Array, target: Array, slower: Array, chosen: NDArray[np.bool_]) -> SourceFit:
    """Return the shares, 0 to 1 each, that leave the least of the chosen targets' errors; 0 where there are none."""
    if not chosen.any():
        return SourceFit(share=0.0, share_per_log_slower=0.0)
    parts = np.stack([source, np.abs(source) * slower], axis=1)[chosen]
    share, change = lsq_linear(parts, target[chosen], bounds=(0.0, 1.0)).x
    return SourceFit(share=round(float(share), 3), share_per_log_slower=round(float(change), 3))


def _compute_carried_part(fit: SourceFit, source: Array, slower: Array) -> Array:
    """Return the part of each source's error that its target has too, as `SourceCorrection` counts it."""
    power = fit.share + fit.share_per_log_slower * np.sign(source) * slower
    return np.asarray(np.clip(power, 0.0, 1.0) * source)


def main() -> None:
    """Run the command line."""
    parser = fit_parser(__doc__, "calibration", "one_device")
    parser.add_argument("--traced-only", action="store_true", help="leave out rows that the cache lacks")
    parser.add_argument("--residuals", type=Path, help="write every held-out error here")
    arguments = parser.parse_args()
    cache = ProfileCache(arguments.cache, only_held=arguments.traced_only)
    waiting = link_calibration().communication.straggler_share
    problem, skipped = read_measurements(arguments.data, cache, DecoderTraces(arguments.cache), waiting)
    for reason, count in sorted(skipped.items()):
        print(f"skipped {count:6d}  {reason}")
    rows, index = list(problem.rows), problem.index
    theta = solve(problem)
    errors = problem.predict(theta) - problem.log_measured
    everything = {
        name: measure_held_out(problem, theta, group, steps_only=name not in ("chip", "generation"))
        for name, group in GROUPS.items()
    }
    kernels = kernel_errors(rows, everything["chip"])
    left = {
        name: {i: error for i, error in group_errors.items() if _is_scored(rows[i], name)}
        for name, group_errors in everything.items()
    }
    left["chip_and_workload"] = chip_and_workload_held_out(problem, theta)
    both = fit_carried_over(problem, left["chip_and_workload"], left["workload"])
    seen = fit_carried_over(problem, left["workload"], left["workload"])
    once, once_unseen = seen.left[seen.trainer].tolist(), both.left[both.trainer].tolist()
    compiled = [error for i, error in left["workload"].items() if rows[i].compiled]
    scored = {
        "in_sample": [float(errors[i]) for i, row in enumerate(rows) if _is_scored(row, "")],
        **{f"{name}_left_out": list(errors_by_row.values()) for name, errors_by_row in left.items()},
        "chip_and_workload_left_out_one_measured_step": both.left.tolist(),
        "chip_and_workload_left_out_one_measured_step_trainer": once_unseen,
        "chip_and_workload_left_out_one_measured_step_amp": both.left[both.half].tolist(),
        "workload_left_out_one_measured_step": seen.left.tolist(),
        "workload_left_out_compiled": compiled,
    }
    scores = {name: summarize_held_out(values) for name, values in scored.items()}
    report(rows, left, scores)
    situations = {**_by_situation(rows, left), "corrected:unseen": once_unseen, "kernels:unseen": kernels}
    sources = [error for i, error in left["source"].items() if rows[i].trainer]
    sigma = sigma_of(situations, sources, list(left["generation"].values()), once, once_unseen, compiled)
    fit = calibration_of(
        index, theta, date=arguments.date, digest=digest(arguments.data / name for name in FILES),
        rows_by_source=dict(sorted(Counter(row.source for row in rows).items())), source=both.shares, sigma=sigma,
        rows=rows,
    )  # fmt: skip
    # The constants of links stay in their own file.
    coefficients = fit.model_dump(exclude={"communication": True, "sigma": {"several_devices"}})
    with_links(coefficients)
    record = record_of(index, theta, scores, situations, sigma, arguments.date)
    write_fit(arguments, coefficients, record)
    if arguments.residuals:
        write_residuals(arguments.residuals, rows, left)


def _is_scored(row: Row, left_out: str) -> bool:
    """Return whether a row is scored by what was left out: submissions by their benchmark alone, steps by the rest."""
    return row.end_to_end and (row.timed == SUBMISSION) == (left_out == "benchmark")


def kernel_errors(rows: list[Row], errors: Errors) -> list[float]:
    """Return the errors of kernels whose chip was left out, each as often as the table has rows like it, in tens."""
    errors_repeated: list[float] = []
    for i, error in errors.items():
        if rows[i].source == "kernels":
            errors_repeated += [error] * max(1, round(rows[i].stands_for / _ROWS_A_KERNEL))
    return errors_repeated


def _by_situation(rows: list[Row], left: dict[str, Errors]) -> dict[str, list[float]]:
    """Return the errors of models left out, by what their rows timed and whether their chip was left out too."""
    return {
        f"{what}{where}": [error for i, error in left[name].items() if rows[i].timed == what]
        for what in ("trainer", "steps")
        for where, name in (("", "workload"), (":unseen", "chip_and_workload"))
    }


def report(rows: list[Row], left: dict[str, Errors], scores: Scores) -> None:
    """Print the scores, and the held-out errors by source and precision."""
    for name, values in scores.items():
        print(f"{name:50s}", {key: round(value, 3) for key, value in values.items()})
    for name, errors in left.items():
        cells: dict[str, list[float]] = {}
        for i, error in errors.items():
            cells.setdefault(f"{rows[i].source} {rows[i].precision}", []).append(error)
            cells.setdefault(f"{rows[i].source}", []).append(error)
        for what, cell in sorted(cells.items()):
            summary = error_summary(cell)
            print(
                f"  {name:18s}{what:36s}{len(cell):5d}  mean {summary['mape']:6.1%}  median "
                f"{summary['median_ape']:6.1%}  p90 {summary['p90_ape']:6.1%}  bias {summary['bias']:+6.1%}"
            )


def write_residuals(path: Path, rows: list[Row], left: dict[str, Errors]) -> None:
    """Write one line a step: its facts, and ln(predicted / measured) by what was left out."""
    facts = ("source", "model", "precision", "accelerator", "batch_per_device", "framework")
    lines = [
        {
            **{name: rows[i].line[name] for name in facts},
            "timed": rows[i].timed,
            **{
                f"{name}_left_out": f"{errors_by_row.get(i, math.nan):.4f}"
                for name, errors_by_row in left.items()
            },
        }
        for i in left["chip"]
    ]
    write_rows(path, lines)


if __name__ == "__main__":
    main()
