"""
Fit what measured peaks of memory hold beside the parts of a trace, and how far they spread.

    python -m trainfare_research.fitting.memory --truth TABLE.csv [--truth TABLE.csv ...] --cache DIR [--write]
        [--date DAY]

The corrections are a few factors and amounts, the same for every job. They minimise the errors of all rows in ln; each
row is weighted by one over the square root of its source's rows, and large errors count linearly, because sources
differ more than the rows of one. The intervals reach as far as the errors of rows whose source the corrections did
not see. Scores are of rows whose source is left out of everything, of the corrections and of the intervals, and of rows
whose family of models is. --write puts the fit on all rows into the package, and the scores beside it
(`trainfare_research.fits`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from trainfare_core.prediction.memory.calibrated import Corrections, MemoryClass, MemoryFit, SpreadFit
from trainfare_research.fits import MemoryRecord, path_of
from trainfare_research.fitting.memory_rows import (
    MemoryRow,
    after_step_gib,
    describe_rows,
    memory_rows,
    predict_gib,
    spread_of,
    steps_before,
)
from trainfare_research.scoring import error_summary, half_width
from trainfare_research.truth_table import read_rows, write_json
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.language.decoder_profile import DecoderTraces

Array = NDArray[np.float64]

OUT = Path(__file__).resolve().parents[3] / "core/trainfare_core/data/memory_calibration.json"
LEVELS = (0.5, 0.8, 0.9)
"""Coverages of the intervals, as in every prediction."""
NOTHING = Corrections(
    quantised_bytes=0.0, convolution_bytes=0.0, split_gradient_factor=1.0, cached_share=0.06
)
"""Where a fit starts: no correction; the allocator's cached blocks are a planning figure."""
_GIB = 2**30
_UNITS = {"quantised_bytes": float(_GIB), "convolution_bytes": float(_GIB)}
"""Of corrections in bytes, so that all parameters of the fit are of the order of 1."""
LINEAR_ERROR = 0.1
"""Error in ln from which on it counts linearly: about the median error of a row."""
_RIDGE = 0.02
"""Weight of the squared distance from no correction, against a mean loss of the order of 1: it only decides what few
rows leave open."""
POOLED_SOURCES = 2.0
"""Number of sources at which a class's own half-widths weigh as much as those of all rows. A chosen value: the
larger it is, the closer a class with few sources comes to the pooled half-widths."""
LEAST_SPREAD = 0.5
"""Share of the pooled half-widths that a class never goes below: the floor for kinds of jobs that its few sources do
not show. A chosen value."""
SHARES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Candidates for the power of a measured step's error that the other predictions of its group share."""
MEASURED_SIGMA = 0.05
"""Assumed, not fitted: standard deviation, in ln, of the peaks of other steps of a run around the measured step's."""
_SMALLEST_HALF_WIDTH = 1e-3
"""In ln: keeps the logarithm of a half-width finite where the rows of a class agree exactly."""
_CLASSES: tuple[MemoryClass, ...] = (
    "one_device", "one_device_adapters", "several_devices", "model_parallel", "quantised"
)  # fmt: skip
_MEASURED = {"allocated": ("allocated",), "device": ("reserved", "device")}
"""Quantities of the rows whose errors give the intervals of a prediction."""


@dataclass(frozen=True)
class _Table:
    """
    Rows as arrays of shape (rows,), GiB.

    Attributes:
        plain: the allocator's peak without corrections.
        split_gradients: gradients of models split over devices, 0 of others.
        cached: whether the row's quantity counts the allocator's cached blocks; `context` is 0 where it does not count
            it.
        weight: adds up to 1.
    """

    plain: Array
    split_gradients: Array
    context: Array
    quantised: Array
    convolutions: Array
    cached: Array
    log_measured: Array
    weight: Array

    @classmethod
    def of(cls, rows: Sequence[MemoryRow]) -> _Table:
        """Return the arrays of these rows."""
        count = Counter(row.source for row in rows)

        def column(value: Callable[[MemoryRow], float]) -> Array:
            return np.array([value(row) for row in rows], dtype=np.float64)

        return cls(
            plain=column(lambda r: float(r.run.parts.allocated_bytes[0]) / _GIB),
            split_gradients=column(
                lambda r: float(r.run.parts.gradients_bytes[0]) / _GIB if r.name == "model_parallel" else 0.0
            ),
            context=column(
                lambda r: float(r.run.parts.overhead_bytes[0]) / _GIB if r.run.quantity == "device" else 0.0
            ),
            quantised=column(lambda r: r.name == "quantised"),
            convolutions=column(lambda r: r.run.convolutions),
            cached=column(lambda r: r.run.quantity != "allocated"),
            log_measured=column(lambda r: math.log(r.measured_gib)),
            weight=_as_shares(column(lambda r: count[r.source] ** -0.5)),
        )

    def only(self, chosen: NDArray[np.bool_]) -> _Table:
        """Return the chosen rows, each source with all of its rows or with none: their weights keep their ratios."""
        columns = {field.name: getattr(self, field.name)[chosen] for field in fields(self)}
        return _Table(**{**columns, "weight": _as_shares(columns["weight"])})

    def loss(self, values: Array) -> float:
        """Return the mean loss of corrections with these values, in the order of `Corrections`."""
        quantised, convolutions, gradients, cached = values
        allocated = self.plain + quantised * self.quantised + convolutions * self.convolutions
        allocated += (gradients - 1) * self.split_gradients
        predicted = allocated * (1 + cached * self.cached) + self.context
        errors = self.log_measured - np.log(np.maximum(predicted, 1e-6))
        return float(self.weight @ (np.sqrt(1 + (errors / LINEAR_ERROR) ** 2) - 1))


def _as_shares(weight: Array) -> Array:
    return np.asarray(weight / weight.sum())


def fit_corrections(rows: Sequence[MemoryRow], without: str = "") -> Corrections:
    """Return the corrections of these rows, with the correction of the name `without` left as it is in `NOTHING`."""
    return _fit_table(_Table.of(rows), without)


def _fit_table(table: _Table, without: str = "") -> Corrections:
    names = list(Corrections.model_fields)
    start = np.array([getattr(NOTHING, name) / _UNITS.get(name, 1.0) for name in names])
    free = np.array([name != without for name in names])

    def whole(values: Array) -> Array:
        full = start.copy()
        full[free] = values
        return full

    def total(values: Array) -> float:
        return table.loss(whole(values)) + _RIDGE * float(np.sum((values - start[free]) ** 2))

    bounds = [(0.0, 5.0)] * int(free.sum())  # a factor or amount in GiB outside is no correction
    options = {"xtol": 1e-2, "ftol": 1e-4, "maxiter": 20}
    solution = minimize(total, start[free], method="Powell", bounds=bounds, options=options).x
    values = whole(np.atleast_1d(solution))
    return Corrections(
        **{name: round(float(v) * _UNITS.get(name, 1.0), 4) for name, v in zip(names, values, strict=True)}
    )


class SourcesLeftOut:
    """
    Corrections of rows without some of their sources, each fitted once.

    The fit without a source leaves every other out in turn, so most pairs of sources are asked for twice.

    Args:
        rows: of all sources.
    """

    def __init__(self, rows: Sequence[MemoryRow]) -> None:
        self._table, self._source = _Table.of(rows), np.array([row.source for row in rows])
        self._known: dict[frozenset[str], Corrections] = {}

    def corrections(self, *left: str) -> Corrections:
        """Return the corrections of the rows of all other sources than these."""
        key = frozenset(left)
        if key not in self._known:
            is_kept = ~np.isin(self._source, list(key)) if key else np.ones(len(self._source), dtype=np.bool_)
            self._known[key] = _fit_table(self._table.only(is_kept))
        return self._known[key]


def _corrections_without(
    rows: Sequence[MemoryRow], key: Callable[[MemoryRow], str]
) -> dict[str, Corrections]:
    """Return for each value of a key the corrections of the rows of all other values."""
    return {left: fit_corrections(others or rows) for left, others in _others(rows, key).items()}


def compute_held_out_residuals(rows: Sequence[MemoryRow], key: Callable[[MemoryRow], str]) -> list[float]:
    """Return ln(measured / predicted) of each row, by corrections that saw no row of the same key."""
    fits = _corrections_without(rows, key)
    return [row.residual(fits[key(row)]) for row in rows]


def fit_rows(rows: Sequence[MemoryRow], *, date: str = "", sha256: str = "") -> MemoryFit:
    """Return the fit on these rows; intervals, and what a measured step says, are of rows whose source was left out."""
    return _fit_rows(rows, SourcesLeftOut(rows), date=date, sha256=sha256)


def _fit_rows(
    rows: Sequence[MemoryRow], known: SourcesLeftOut, *left: str, date: str = "", sha256: str = ""
) -> MemoryFit:
    """Return the fit on rows of all sources of `known` but those that are left out."""
    sources = sorted({row.source for row in rows})
    # Rows of one source have no others: their own corrections are all there is.
    without = {name: known.corrections(*left, *([name] if len(sources) > 1 else [])) for name in sources}
    residuals = [row.residual(without[row.source]) for row in rows]
    spreads = {name: _spreads(rows, residuals, kinds) for name, kinds in _MEASURED.items()}
    draft = MemoryFit(
        schema_version=4, fitted_at=date, data_sha256=sha256, fitted_on=dict(Counter(r.source for r in rows)),
        corrections=known.corrections(*left), allocated=spreads["allocated"], device=spreads["device"],
        corrected=spreads["device"]["one_device"], carried_share=0.0, measured_sigma=MEASURED_SIGMA,
    )  # fmt: skip
    pairs = steps_of_groups(rows)
    if not pairs:
        return draft
    residual_of = {id(row): residual for row, residual in zip(rows, residuals, strict=True)}
    steps, others = np.array([(residual_of[id(first)], residual_of[id(row)]) for first, row in pairs]).T

    def after(share: float) -> Array:
        """Return ln(measured / predicted) of the other rows, as `after_step_gib` predicts them."""
        return np.asarray(others - share * steps)

    share = min(SHARES, key=lambda power: float(np.abs(np.expm1(-after(power))).mean()))
    alike = np.array([first.name == row.name for first, row in pairs])
    if not alike.any():
        return draft.model_copy(update={"carried_share": share})
    others_there = [row for _, row in pairs]
    halves = _half_widths(after(share).tolist(), others_there, np.flatnonzero(alike).tolist())
    there = {row.source for (_, row), same in zip(pairs, alike, strict=True) if same}
    spread = _spread_fit(halves, int(alike.sum()), len(there))
    return draft.model_copy(update={"carried_share": share, "corrected": spread})


def _spreads(
    rows: Sequence[MemoryRow], residuals: Sequence[float], kinds: tuple[str, ...]
) -> dict[MemoryClass, SpreadFit]:
    """Return the interval of each class, from the rows of these quantities; from all rows where there are none."""
    mine = [i for i, row in enumerate(rows) if row.run.quantity in kinds] or list(range(len(rows)))
    pooled = _half_widths(residuals, rows, mine)
    spreads: dict[MemoryClass, SpreadFit] = {}
    for name in _CLASSES:
        own_rows = [i for i in mine if rows[i].name == name]
        sources = len({rows[i].source for i in own_rows})
        weight = sources / (sources + POOLED_SOURCES)
        halves = _half_widths(residuals, rows, own_rows) if own_rows else pooled
        mixed = [
            max(math.exp(weight * math.log(a) + (1 - weight) * math.log(b)), LEAST_SPREAD * b)
            for a, b in zip(halves, pooled, strict=True)
        ]
        spreads[name] = _spread_fit(mixed, len(own_rows), sources)
    return spreads


def _half_widths(residuals: Sequence[float], rows: Sequence[MemoryRow], chosen: Sequence[int]) -> list[float]:
    """
    Return at each level how far the residuals of the chosen rows reach around 0, each source counted the same.

    Rows of one source share their errors: by rows alone, the four largest sources decide the widths of all others.
    Rows of which something was assumed count only where there are no others: a trace of the user's own script assumes
    nothing.
    """
    stated = [i for i in chosen if not rows[i].run.assumed] or list(chosen)
    count = Counter(rows[i].source for i in stated)
    weights = [1 / count[rows[i].source] for i in stated]
    reach = [residuals[i] for i in stated]
    return [max(_SMALLEST_HALF_WIDTH, half_width(reach, level, weights)) for level in LEVELS]


def _spread_fit(halves: Sequence[float], rows: int, sources: int) -> SpreadFit:
    half_50, half_80, half_90 = (round(float(v), 4) for v in np.maximum.accumulate(halves))
    return SpreadFit(half_50=half_50, half_80=half_80, half_90=half_90, rows=rows, sources=sources)


def steps_of_groups(rows: Sequence[MemoryRow]) -> list[tuple[MemoryRow, MemoryRow]]:
    """
    Return pairs of the first row of a group, the measured step, and each other row of it.

    A step of several devices is in no pair: only the peak of a step on one device corrects predictions.
    """
    steps = zip(steps_before(rows), rows, strict=True)
    return [(first, row) for first, row in steps if isinstance(first, MemoryRow) and not first.run.several]


def leave_one_source_out(rows: Sequence[MemoryRow]) -> dict[str, MemoryFit]:
    """Return for each source the fit on the rows of the others: no part of it sees the source."""
    known = SourcesLeftOut(rows)
    return {
        left: _fit_rows(others, known, left) for left, others in _others(rows, lambda r: r.source).items()
    }


def _others(rows: Sequence[MemoryRow], key: Callable[[MemoryRow], str]) -> dict[str, list[MemoryRow]]:
    """Return for each value of a key the rows of all other values."""
    return {left: [r for r in rows if key(r) != left] for left in sorted({key(r) for r in rows})}


def score_held_out(rows: Sequence[MemoryRow]) -> dict[str, dict[str, float]]:
    """
    Return errors and coverage of each row by the fit without its source, before a run and after one measured step.

    Rows by the corrections without their family of models have errors alone.
    """
    fits = leave_one_source_out(rows)
    alone = [(r, predict_gib(r, fits[r.source]), spread_of(r, None, fits[r.source])) for r in rows]
    after = [
        (r, after_step_gib(first, r, fits[r.source]), spread_of(r, first, fits[r.source]))
        for first, r in steps_of_groups(rows)
    ]
    family = error_summary([-value for value in compute_held_out_residuals(rows, lambda r: r.family)])
    scores = {
        "source_left_out": _scores(alone),
        "family_left_out": {name: round(float(value), 4) for name, value in family.items()},
    }
    return {**scores, "source_left_out_one_measured_step": _scores(after)} if after else scores


def losses_without(rows: Sequence[MemoryRow]) -> dict[str, float]:
    """Return the mean loss of rows whose source is left out, with every correction ("none") and without each."""
    weights = _Table.of(rows).weight
    losses_by_name: dict[str, float] = {}
    for name in ("", *Corrections.model_fields):
        fits = {
            left: fit_corrections(others, name) for left, others in _others(rows, lambda r: r.source).items()
        }
        errors = np.array([row.residual(fits[row.source]) for row in rows])
        losses = np.sqrt(1 + (errors / LINEAR_ERROR) ** 2) - 1
        losses_by_name[name or "none"] = round(float(np.average(losses, weights=weights)), 4)
    return losses_by_name


def _scores(answers: Sequence[tuple[MemoryRow, float, SpreadFit]]) -> dict[str, float]:
    errors = np.array([math.log(peak / row.measured_gib) for row, peak, _ in answers])
    scores, source = error_summary(errors), np.array([row.source for row, _, _ in answers])
    for level in LEVELS:
        reach = np.array([getattr(spread, f"half_{level * 100:.0f}") for _, _, spread in answers])
        inside = np.abs(errors) <= reach
        scores[f"coverage_{level * 100:.0f}"] = float(inside.mean())
        scores[f"coverage_{level * 100:.0f}_by_source"] = float(
            np.mean([inside[source == name].mean() for name in set(source)])
        )
    return {name: round(float(value), 4) for name, value in scores.items()}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--truth", type=Path, required=True, action="append")
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--traced-only", action="store_true", help="trace no classifiers and detectors anew")
    parser.add_argument("--write", action="store_true", help="put the fit into the package")
    parser.add_argument("--date", default=datetime.now(timezone.utc).date().isoformat())
    arguments = parser.parse_args()
    lines = [line for path in arguments.truth for line in read_rows(path)]
    cache = ProfileCache(arguments.cache, only_held=arguments.traced_only)
    described = describe_rows(lines, DecoderTraces(arguments.cache), cache)
    rows = [row for row in memory_rows(lines, described) if row is not None]
    sha256 = hashlib.sha256(b"".join(path.read_bytes() for path in arguments.truth)).hexdigest()
    fit = fit_rows(rows, date=arguments.date, sha256=sha256)
    record = MemoryRecord(
        fitted_at=arguments.date, scores=score_held_out(rows), without_correction=losses_without(rows)
    )
    print(json.dumps({**fit.model_dump(), **record.model_dump()}, indent=1))
    if arguments.write:
        write_json(OUT, fit.model_dump())
        write_json(path_of("memory"), record.model_dump())


if __name__ == "__main__":
    main()
