"""
Fit the ratio of measured peak memory to the sum of its parts, and the spread of that ratio, by class of job.

    python -m benchmarks.fitting.memory --truth memory_reference.csv --cache DIR [--write] [--date YYYY-MM-DD]

The location of a class is the weighted median of the medians of its sources in ln(measured / sum), and never below 0.
The half-widths of its intervals at 50, 80 and 90 % are those of its rows, pooled with those of all rows where it has
few sources. Scores are held out by source: a row is scored by a fit on the other sources. --write puts the fit on all
rows into the package, with the hash of the data and the scores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from benchmarks.fitting.memory_rows import (
    MemoryRow,
    after_step_gib,
    described_rows,
    memory_rows,
    predicted_gib,
    spread_of,
    steps_before,
)
from benchmarks.scoring import error_summary
from benchmarks.truth_table import read_rows, write_json
from trainfare_core.prediction.memory.calibrated import (
    MemoryClass,
    MemoryFit,
    SpreadFit,
)

__all__ = ["fit_rows", "held_out_scores", "leave_one_source_out", "steps_of_groups"]  # fmt: skip

OUT = Path(__file__).resolve().parents[2] / "core/trainfare_core/data/memory_calibration.json"
LEVELS = (0.5, 0.8, 0.9)
"""Coverages of the intervals, as in every prediction."""
POOLED_SOURCES = 2.0
"""Number of sources at which a class's own half-widths weigh as much as those of all rows. A chosen value: the
larger it is, the closer a class with few sources comes to the pooled half-widths."""
SHARES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Candidates for the share of a measured step's error that is added to the other predictions of its group."""
MEASURED_SIGMA = 0.05
"""Assumed, not fitted: standard deviation, in ln, of the peaks of other steps of a run around the measured step's."""
_SMALLEST_HALF_WIDTH = 1e-3
"""In ln: keeps the logarithm of a half-width finite where the rows of a class agree exactly."""
_CLASSES: tuple[MemoryClass, ...] = (
    "one_device", "one_device_adapters", "several_devices", "model_parallel", "quantised"
)  # fmt: skip


def fit_rows(rows: Sequence[MemoryRow], *, date: str = "", sha256: str = "") -> MemoryFit:
    """Return the fit on these rows, without scores."""
    locations = {name: _location([r for r in rows if r.name == name]) for name in _CLASSES}
    off = {name: [abs(r.residual - locations[name]) for r in rows if r.name == name] for name in _CLASSES}
    everything = [value for values in off.values() for value in values]
    classes: dict[MemoryClass, SpreadFit] = {}
    for name in _CLASSES:
        sources = len({r.source for r in rows if r.name == name})
        weight = sources / (sources + POOLED_SOURCES)
        classes[name] = _spread(locations[name], off[name], everything, weight, sources)
    draft = MemoryFit(
        schema_version=1, fitted_at=date, data_sha256=sha256, fitted_on=dict(Counter(r.source for r in rows)),
        classes=classes, carried_share=0.0, measured_sigma=MEASURED_SIGMA, scores={},
    )  # fmt: skip
    pairs = steps_of_groups(rows)
    share = min(SHARES, key=lambda s: _mean_error(pairs, draft.model_copy(update={"carried_share": s})))
    carried = draft.model_copy(update={"carried_share": share})
    alike = [(first, r) for first, r in pairs if first.name == r.name]
    after = [abs(math.log(r.measured_gib / after_step_gib(first, r, carried))) for first, r in alike]
    corrected = _spread(0.0, after, everything, 1.0, len({r.source for _, r in alike}))
    return carried.model_copy(update={"classes": {**classes, "corrected": corrected}})


def steps_of_groups(rows: Sequence[MemoryRow]) -> list[tuple[MemoryRow, MemoryRow]]:
    """Return pairs of the first row of a source, model and method (the measured step) and each of its other rows."""
    steps = zip(steps_before(rows), rows, strict=True)
    return [(first, row) for first, row in steps if isinstance(first, MemoryRow)]


def leave_one_source_out(rows: Sequence[MemoryRow]) -> dict[str, MemoryFit]:
    """Return for each source the fit on the rows of the others."""
    sources = sorted({row.source for row in rows})
    return {source: fit_rows([row for row in rows if row.source != source]) for source in sources}


def held_out_scores(rows: Sequence[MemoryRow]) -> dict[str, dict[str, float]]:
    """Return errors and coverage, before a run and after one measured step, each row by the fit without its source."""
    fits = leave_one_source_out(rows)
    alone = [(r, predicted_gib(r, fits[r.source]), fits[r.source].classes[r.name]) for r in rows]
    after = [
        (r, after_step_gib(first, r, fits[r.source]), spread_of(r, first, fits[r.source]))
        for first, r in steps_of_groups(rows)
    ]
    found = {"source_left_out": _scores(alone)}
    return {**found, "source_left_out_one_measured_step": _scores(after)} if after else found


def _scores(answers: Sequence[tuple[MemoryRow, float, SpreadFit]]) -> dict[str, float]:
    errors = np.array([math.log(peak / row.measured_gib) for row, peak, _ in answers])
    scores = error_summary(errors)
    for level in LEVELS:
        reach = np.array([getattr(spread, f"half_{level * 100:.0f}") for _, _, spread in answers])
        scores[f"coverage_{level * 100:.0f}"] = float((np.abs(errors) <= reach).mean())
    return {name: round(float(value), 4) for name, value in scores.items()}


def _location(rows: Sequence[MemoryRow]) -> float:
    by_source: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        by_source[row.source].append(row.residual)
    if not by_source:
        return 0.0
    medians = np.array([float(np.median(values)) for values in by_source.values()])
    weights = np.sqrt([len(values) for values in by_source.values()])
    return max(0.0, _weighted_median(medians, weights))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    running = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(running, running[-1] / 2)])


def _spread(
    location: float, own: Sequence[float], everything: Sequence[float], weight: float, sources: int
) -> SpreadFit:
    """
    Return a class's interval: half-widths in ln, weighted geometric means of its own and those of all rows.

    Args:
        location: of the class, in ln.
        own: absolute deviations from the location, of the class; where it has none, those of all classes count.
        everything: the same, of all classes.
        weight: of the class's own, between 0 and 1.
        sources: of the class's rows.
    """
    found: list[float] = []
    for level in LEVELS:
        mine, others = (
            max(float(np.quantile(values, level)), _SMALLEST_HALF_WIDTH)
            for values in (own or everything, everything)
        )
        found.append(round(math.exp(weight * math.log(mine) + (1 - weight) * math.log(others)), 4))
    half_50, half_80, half_90 = np.maximum.accumulate(found)
    return SpreadFit(
        location=round(location, 5), half_50=half_50, half_80=half_80, half_90=half_90, rows=len(own), sources=sources
    )  # fmt: skip


def _mean_error(pairs: Sequence[tuple[MemoryRow, MemoryRow]], fit: MemoryFit) -> float:
    errors = [abs(after_step_gib(a, b, fit) / b.measured_gib - 1) for a, b in pairs]
    return float(np.mean(errors)) if errors else 0.0


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--write", action="store_true", help="put the fit into the package")
    parser.add_argument("--date", default=datetime.now(timezone.utc).date().isoformat())
    arguments = parser.parse_args()
    lines = read_rows(arguments.truth)
    rows = [row for row in memory_rows(lines, described_rows(lines, arguments.cache)) if row is not None]
    scores = held_out_scores(rows)
    sha256 = hashlib.sha256(arguments.truth.read_bytes()).hexdigest()
    fit = fit_rows(rows, date=arguments.date, sha256=sha256).model_copy(update={"scores": scores})
    print(json.dumps(fit.model_dump(), indent=1))
    if arguments.write:
        write_json(OUT, fit.model_dump())


if __name__ == "__main__":
    main()
