"""
Fit the time of large language models on many devices and write data/decoder_calibration.json.

    python -m trainfare_research.fitting.language_models --data DIR --cache DIR --date 2026-01-31 [--out FILE]
        [--record FILE]

DIR holds the tables of measured steps (`STEP_TABLES`) and microbench_achieved.csv. The single-device coefficients of
fit_calibration.py are left as they are. Scores are of rows left out of the fit: one accelerator family, source or
model size at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.language_models.coefficients import DecoderFit
from trainfare_core.prediction.language_models.step import doublings_of
from trainfare_core.prediction.language_models.sums import LIBRARIES
from trainfare_core.prediction.uncertainty import Z80
from trainfare_research.fits import LanguageModelRecord, Scores
from trainfare_research.fitting.command_line import fit_parser, write_fit
from trainfare_research.fitting.language_model_sums import (
    Rows,
    coefficients,
    empty_fit,
    read_rows,
    solve,
    stack_of,
)
from trainfare_research.fitting.table_lines import chip_of
from trainfare_research.scoring import error_summary, evenly_held, sigma_80
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.language.decoder_rows import DecoderRun

Array = NDArray[np.float64]
LEAST_ROWS = 10
"""A label of a kind with fewer rows has the width of the whole kind, and a maker with fewer counts as one that was
never measured. A chosen value."""
LEAST_DEVICES_SIGMA = 0.03
"""Least that several devices of one machine add to the width. A chosen value."""
LEAST_NETWORK_SIGMA = 0.05
"""Least that a network between machines adds to the width, however little is exchanged. A chosen value."""
LABELS = ("dense", "pytorch", "framework", "moe", "unfused")
"""Groups of runs, see `label_of`."""
PYTORCH = ("pytorch", "framework")
"""Eager and compiled programs without a library of kernels, on chips up to an A100 and on faster ones: each source is a
program of its own, as a new job is, and most rows are of one."""
COVERED = ("source", "device", "device and source")
COUNTED_ONCE = ("device", "size", "source")
"""Groups whose scores are also given with repeated timings counted once."""
LARGEST_SOURCE = "vtrain"
"""Nearly half of all rows, most of them of one machine: scores are given without it too."""
REFIT_EVALUATIONS = 15
"""Of the loss, for a fit that starts at the coefficients of all rows. A chosen value."""
LEVELS = {50: 0.6745, 80: Z80, 90: 1.6449}
"""Of a normal distribution: by these, errors of single devices have heavier tails, those of language models do not."""
SIZES_B = (0.5, 1, 2, 4, 8, 16, 40, 80, 180)


def family_of(run: DecoderRun) -> str:
    """Return the chip without its form and memory: variants of one chip are left out together."""
    return chip_of(run.device.name).replace("GB200", "B200")


def size_of(run: DecoderRun) -> str:
    """Return the model's size class, in 1e9 scalars."""
    return str(sum(run.parameters > limit * 1e9 for limit in SIZES_B))


Group = Callable[[DecoderRun, dict[str, str]], str]
GROUPS: dict[str, tuple[Group, ...]] = {
    "device": (lambda run, _: family_of(run),),
    "source": (lambda _, line: line["source"],),
    "size": (lambda run, _: size_of(run),),
    "vendor": (lambda run, _: run.device.vendor,),
    "device and source": (lambda run, _: family_of(run), lambda _, line: line["source"]),
}
"""Groups to leave out; of two, no row that shares either is in the fit."""


@dataclass(frozen=True)
class HeldOut:
    """
    Errors of rows from fits without any row of their group, shape (n,).

    Attributes:
        errors: ln(predicted / measured); NaN where the group is all rows.
        with_stack: the same where the offset of the row's stack is taken from dense rows on other GPUs; NaN where the
            fit had none.
    """

    errors: Array
    with_stack: Array


@dataclass(frozen=True)
class Study:
    """The rows of a table, the fit on all of them, their errors from fits without them, and all scores."""

    rows: Rows
    skipped: Counter[str]
    fit: DecoderFit
    left_out: dict[str, HeldOut]
    scores: Scores


def study_of(data: Path, cache: Path | None, date: str) -> Study:
    """Fit every row in a folder of measurements, and score fits without them; traces what the cache lacks."""
    base = empty_fit(data, date)
    rows, skipped = read_rows(data, DecoderTraces(cache), base)
    theta = solve(rows, base).theta
    fit = coefficients(theta, base)
    left_out = {name: measure_held_out(rows, name, base, theta) for name in GROUPS}
    return Study(rows, skipped, fit, left_out, scores_of(rows, rows.errors(fit), left_out))


def folds(
    rows: Rows, name: str, rows_asked: Rows | None = None
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """
    Return, for every group, which rows are predicted and which a fit may see; groups with no others have none.

    Args:
        rows: that fits may see.
        name: of the group.
        rows_asked: that are predicted; None: the same.
    """
    keys, mine = (
        [
            np.array([of(run, line) for run, line in zip(some.runs, some.lines, strict=True)])
            for of in GROUPS[name]
        ]
        for some in (rows, rows if rows_asked is None else rows_asked)
    )
    for value in sorted(set(zip(*(key.tolist() for key in mine), strict=True))):
        seen = ~np.logical_or.reduce([key == group_key for key, group_key in zip(keys, value, strict=True)])
        if seen.any():
            yield (
                np.logical_and.reduce([key == group_key for key, group_key in zip(mine, value, strict=True)]),
                seen,
            )


def measure_held_out(
    rows: Rows, name: str, fit: DecoderFit, start: Array, fixed: Mapping[str, float] = MappingProxyType({})
) -> HeldOut:
    """Return the errors of every row from a fit without any row of its group; `fixed` as for `solve`."""
    errors, with_stack = np.full(len(rows.runs), np.nan), np.full(len(rows.runs), np.nan)
    for inside, seen in folds(rows, name):
        fitted_terms = solve(rows.only(seen), fit, start, REFIT_EVALUATIONS, fixed)
        outside = rows.only(inside)
        errors[inside] = outside.errors(coefficients(fitted_terms.theta, fit))
        offsets = np.array([fitted_terms.offset_of(stack_of(line)) for line in outside.lines])
        with_stack[inside] = errors[inside] + offsets
    return HeldOut(errors, with_stack)


def score_errors(errors: Array) -> dict[str, float]:
    """Return errors of predicted over measured as fractions, rounded."""
    return {name: round(value, 4) for name, value in error_summary(errors).items()}


def sigmas(rows: Rows, errors: dict[str, Array]) -> dict[str, float]:
    """
    Return the standard deviations by situation, so that 80 % of held-out errors lie inside.

    A generation with rows: the source left out, as no user's program is one of the sources; where a kind has one source
    alone, the size. One without rows: device and source left out. A vendor without rows: every vendor left out but the
    one with most rows, without which there would be nothing to fit. PyTorch's own programs differ more than libraries:
    each of their sources counts the same, however many rows it has.
    """
    kind, labels, source = rows.column(lambda run: run.device.kind), rows.column(label_of), rows.source

    def width(errors: Array, inside: NDArray[np.bool_], *, by_source: bool = False) -> float:
        known = inside & np.isfinite(errors)
        if not known.any():
            return float("nan")
        if not by_source:
            return sigma_80(errors[known])
        return evenly_held(errors[known], source[known].tolist(), 0.8) / Z80

    dense = (kind == "gpu") & np.isin(labels, ("dense", "pytorch"))
    machines = rows.spread.machines > 1
    near, far = (width(errors["source"], dense & chosen) for chosen in (~machines, machines))
    result = {
        "several devices": LEAST_DEVICES_SIGMA,
        "several machines": float(np.nanmax([far**2 - near**2, LEAST_NETWORK_SIGMA**2])) ** 0.5,
    }
    spread = spread_sigma(rows, result) ** 2

    def own(errors: Array, inside: NDArray[np.bool_], *, by_source: bool) -> float:
        """Return a width without the part that several devices and machines add to its rows."""
        total = width(errors, inside, by_source=by_source)
        return float(np.sqrt(max(total**2 - float(spread[inside].mean()), (total / 2) ** 2)))

    for name in sorted(set(kind)):
        several = len(set(source[kind == name])) > 1
        for label in LABELS:
            inside = (kind == name) & (labels == label)
            if inside.sum() < LEAST_ROWS:
                inside = kind == name
            every = label in PYTORCH
            seen = own(errors["source" if several else "size"], inside, by_source=every)
            result[f"{name} seen {label}"] = seen
            unseen = own(errors["device and source"], inside, by_source=every)
            result[f"{name} unseen {label}"] = max(seen, unseen)
    vendors = Counter(run.device.vendor for run in rows.runs)
    few = rows.column(lambda run: run.device.vendor) != vendors.most_common(1)[0][0]
    result["other vendor"] = width(errors["vendor"], few if few.any() else ~few)
    result["unseen"] = float(np.nanmax(list(result.values())))
    return {name: round(value, 3) for name, value in result.items()}


def ceiling_sigma(fit: DecoderFit) -> float:
    """Return the standard deviation of ln(best matrix product over the peak) from GPU to GPU."""
    shares = fit.matmul_ceiling["bf16"]
    chips = [name for name in shares if ":" not in name and accelerator(name).kind == "gpu"]
    return float(np.std(np.log([shares[name] for name in chips]), ddof=1))


def spread_sigma(rows: Rows, sigma: dict[str, float]) -> Array:
    """Return the width that several devices and several machines add to every row."""
    devices = rows.column(lambda run: run.plan.devices > 1)
    variance = devices * sigma["several devices"] ** 2
    variance += (rows.spread.machines > 1) * sigma["several machines"] ** 2
    return np.asarray(np.sqrt(variance))


def coverage(rows: Rows, errors: dict[str, Array], name: str) -> dict[str, float]:
    """
    Return how many held-out rows lie inside the central 50, 80 and 90 % of widths made from other groups' rows.

    Split-conformal: each group in turn is scored with widths from rows that share nothing with it, so no row helps to
    set its own.
    """
    ratio = np.full(len(rows.runs), np.nan)
    known = "seen" if name == "source" else "unseen"
    for inside, others in folds(rows, name):
        spreads = sigmas(rows.only(others), {key: value[others] for key, value in errors.items()})
        added = spread_sigma(rows, spreads)
        for i in np.flatnonzero(inside):
            run = rows.runs[i]
            label = f"{run.device.kind} {known} {label_of(run)}"
            ratio[i] = abs(errors[name][i]) / np.hypot(spreads.get(label, spreads["unseen"]), added[i])
    labels = rows.column(label_of)
    parts = {
        "": np.ones(len(ratio), dtype=bool),
        " GPU": rows.column(lambda run: run.device.kind == "gpu"),
        " without the largest source": rows.source != LARGEST_SOURCE,
        **{f" {label}": labels == label for label in LABELS},
    }
    share = rows.weight / rows.weight.sum()
    result: dict[str, float] = {}
    for level, z in LEVELS.items():
        for part, chosen in parts.items():
            if chosen.any():
                result[f"{level}{part}"] = float((ratio[chosen] <= z).mean())
        result[f"{level} by source"] = float(((ratio <= z) * share).sum())
    return {key: round(value, 4) for key, value in result.items()}


def label_of(run: DecoderRun) -> str:
    """Return the group of a run that is known beforehand, as `decoder_log_sigma` groups plans."""
    if run.experts:
        return "moe"
    if not run.plan.overlap:
        return "unfused"
    library = run.profile.precision in LIBRARIES
    if run.device.kind != "gpu" or library:
        return "dense"
    return "framework" if doublings_of(run.device) > 0 else "pytorch"


def main() -> None:
    """Run the command line."""
    arguments = fit_parser(__doc__, "decoder_calibration", "language_models").parse_args()
    study = study_of(arguments.data, arguments.cache, arguments.date)
    rows, fit = study.rows, study.fit
    for reason, count in study.skipped.most_common():
        print(f"skipped {count:5d}  {reason}")
    for name, values in study.scores.items():
        print(f"{name:44s}", values)
    errors = {name: study_part.errors for name, study_part in study.left_out.items()}
    vendors = Counter(run.device.vendor for run in rows.runs)
    final = fit.model_copy(
        update={
            "fitted_on": dict(sorted(Counter(line["source"] for line in rows.lines).items())),
            "vendors": tuple(sorted(name for name, count in vendors.items() if count >= LEAST_ROWS)),
            "generations": tuple(sorted({run.device.generation for run in rows.runs})),
            "sigma": {**sigmas(rows, errors), "unmeasured ceiling": round(ceiling_sigma(fit), 3)},
        }
    )  # fmt: skip
    shipped = round_document(final.model_dump())
    DecoderFit.model_validate(shipped)
    write_fit(arguments, shipped, LanguageModelRecord(fitted_at=arguments.date, scores=study.scores))


def scores_of(rows: Rows, fitted: Array, left_out: dict[str, HeldOut]) -> Scores:
    """Return in-sample and held-out scores of the groups that the bars name, and the coverage of the intervals."""
    vtrain = rows.source == LARGEST_SOURCE
    many, experts = (rows.column(lambda run: run.plan.devices >= 8), rows.column(lambda run: run.experts))
    kind = rows.column(lambda run: run.device.kind)
    parts = {
        "": np.ones(len(vtrain), dtype=bool),
        " without the largest source, 8 or more devices": ~vtrain & many,
        " without the largest source, 8 or more devices, dense": ~vtrain & many & ~experts,
        " experts": experts,
        " TPU": kind == "tpu",
        " Trainium": kind == "trainium",
    }
    scores = {"in sample": score_errors(fitted)}
    errors = {name: study_part.errors for name, study_part in left_out.items()}
    for name, values in errors.items():
        for label, chosen in parts.items():
            inside = chosen & np.isfinite(values)
            if inside.any():
                scores[f"{name} left out{label}"] = score_errors(values[inside])
        if name in COUNTED_ONCE and np.isfinite(values).any():
            scores[f"{name} left out, repeated once"] = score_errors(repeats_once(rows, values))
    stack = left_out["device"].with_stack
    chosen = ~vtrain & many & ~experts & (kind == "gpu") & np.isfinite(stack)
    if chosen.any():
        scores["device left out, stack seen on another GPU, dense"] = score_errors(stack[chosen])
    names = np.array([stack_of(line) for line in rows.lines])
    for name in sorted(set(names[chosen])):
        scores[f"device left out, stack seen on another GPU, dense, {name}"] = score_errors(
            stack[chosen & (names == name)]
        )
    for name in COVERED:
        scores[f"coverage, {name} left out"] = coverage(rows, errors, name)
    return scores


def repeats_of(rows: Rows) -> Array:
    """
    Return the combination that each row repeats, as an index, shape (n,); -1 for a row that repeats none.

    On one machine the largest source crosses few widths, tensor-parallel groups and micro-batches with many numbers of
    blocks, pipeline stages and replicas. How far a prediction is off depends on the former.
    """
    repeated = (rows.source == LARGEST_SOURCE) & (rows.spread.machines == 1)
    keys = np.stack([rows.ledger.width, rows.spread.tensor, rows.spread.ratio], axis=1)
    index_of_pair = np.full(len(repeated), -1)
    index_of_pair[repeated] = np.unique(keys[repeated], axis=0, return_inverse=True)[1].ravel()
    return index_of_pair


def repeats_once(rows: Rows, errors: Array) -> Array:
    """Return the errors of all rows that have one, but of those that repeat a combination only their median."""
    known = np.isfinite(errors)
    combination = np.where(known, repeats_of(rows), -1)
    once = [
        float(np.median(errors[combination == pair])) for pair in np.unique(combination[combination >= 0])
    ]
    return np.concatenate([errors[known & (combination < 0)], once])


def round_document(value: Any) -> Any:
    """Return the document with six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: round_document(item) for key, item in value.items()}
    return [round_document(item) for item in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    main()
