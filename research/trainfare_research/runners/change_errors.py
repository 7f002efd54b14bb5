"""
Fit how far the errors of two predicted steps come apart where one thing differs, and score it on sources left out.

    python -m trainfare_research.runners.change_errors --rows ROWS.csv [--rows ROWS_2.csv] --cache DIR [--write]

ROWS are files of `step_time --leave-out source --rows`, whose fits saw no row of the source that they predict. A pair
is two rows of one source, accelerator, software and kind of timing that differ in one thing alone: batch, precision,
model (or the size of its samples), or devices and how they share the work. Its error is ln(predicted ratio / measured
ratio): what a source, a chip or a program has in common with itself cancels.

The form is that of `PairErrors` (core/trainfare_core/changes/change_range.py). A line through the 80 % quantiles of
|error| over |ln(predicted ratio)| is fitted for each thing, every source counting the same. The score is how many
errors lie within the 80 % interval that such a fit to all other sources gives.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, get_args

import numpy as np
from scipy.optimize import minimize

from trainfare_core.changes.change_range import ChangedThing, PairErrors, measure_changed_share
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.uncertainty import Z80
from trainfare_research.fitting.step_work import Work, work_of
from trainfare_research.fitting.table_lines import Line
from trainfare_research.truth_table import or_reason, read_rows
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.language.decoder_rows import is_decoder_row

OUT: Final = Path(__file__).resolve().parents[3] / "core/trainfare_core/data/change_errors.json"
SAME: Final = ("source", "accelerator", "framework", "measured")
"""Columns that both rows of a pair share."""
COLUMNS: Final[dict[ChangedThing, frozenset[str]]] = {
    "batch": frozenset({"batch_per_device", "global_batch"}),
    "precision": frozenset({"precision"}),
    "model": frozenset({"model", "model_family", "params", "sequence_length", "image_size"}),
    "devices": frozenset({"devices", "nodes", "strategy", "global_batch"}),
}
"""Columns in which the rows of a pair may differ, by what then differs; the first thing that holds."""
OTHER_COLUMNS: Final = ("activation_checkpointing", "optimizer", "task")
LEAST_PAIRS: Final = 10
"""Of one thing in a source that counts. Chosen: fewer are one or two readings, each in many pairs."""
MOST_PAIRS: Final = 2_000
"""Of one thing in a source that are taken, evenly spaced. Chosen: one source has 35,000 pairs of models."""
LEVEL: Final = 0.8


class Pair(NamedTuple):
    """Two rows that differ in one thing."""

    source: str
    thing: ChangedThing
    log_ratio: float
    """Absolute ln of the ratio of the predicted steps."""
    share: float
    """Of the larger step, what differs; 1 but for models."""
    error: float
    independent: float
    """Standard deviation of the error if those of both rows were independent."""


def find_thing(row: Line, other: Line) -> ChangedThing | None:
    """Return the one thing in which two rows differ; None: more than one, or nothing."""
    columns = frozenset().union(*COLUMNS.values(), OTHER_COLUMNS)
    differing = {name for name in columns if row.get(name, "") != other.get(name, "")}
    if differing <= {"model_family", "params"}:
        return None
    return next((thing for thing, allowed in COLUMNS.items() if differing <= allowed), None)


def find_pairs(rows: Iterable[Line], cache: ProfileCache | None = None) -> list[Pair]:
    """
    Return the pairs of rows that have a prediction.

    Args:
        rows: of `step_time --rows`.
        cache: traces, which tell how much of a model differs; None, and language models: all of it.
    """
    groups: dict[tuple[str, ...], list[Line]] = defaultdict(list)
    for row in rows:
        if row["predicted"] and row["measured_ms"]:
            groups[tuple(row[name] for name in SAME)].append(row)
    by_thing: dict[tuple[str, ChangedThing], list[tuple[Line, Line]]] = defaultdict(list)
    for group in groups.values():
        for row, other in itertools.combinations(group, 2):
            thing = find_thing(row, other)
            if thing is not None:
                by_thing[row["source"], thing].append((row, other))
    profiles: dict[int, JobProfile | None] = {}
    pairs: list[Pair] = []
    for (source, thing), both in sorted(by_thing.items()):
        if len(both) < LEAST_PAIRS:
            continue
        for row, other in both[:: math.ceil(len(both) / MOST_PAIRS)]:
            share = _measure_share(row, other, profiles, cache) if thing == "model" and cache else 1.0
            sigma = math.hypot(_read_sigma(row), _read_sigma(other))
            log_ratio = abs(math.log(float(row["predicted"]) / float(other["predicted"])))
            share = max(share, -math.expm1(-log_ratio))
            pairs.append(Pair(source, thing, log_ratio, share, _read_error(row) - _read_error(other), sigma))
    return pairs


def _read_error(row: Line) -> float:
    return math.log(float(row["predicted"]) / float(row["measured_ms"]))


def _read_sigma(row: Line) -> float:
    return math.log(float(row["high_80"]) / float(row["predicted"])) / Z80


def _measure_share(
    row: Line, other: Line, profiles: dict[int, JobProfile | None], cache: ProfileCache
) -> float:
    for side in (row, other):
        if id(side) not in profiles:
            profiles[id(side)] = _find_profile(side, cache)
    first, second = profiles[id(row)], profiles[id(other)]
    return 1.0 if first is None or second is None else measure_changed_share(first, second)


def _find_profile(row: Line, cache: ProfileCache) -> JobProfile | None:
    work = "" if is_decoder_row(row) else or_reason(work_of, row, cache)
    return work.job if isinstance(work, Work) else None


def fit_thing(pairs: Sequence[Pair], thing: ChangedThing) -> PairErrors:
    """Fit the 80 % quantile of the errors of one thing by the size of the change, every source counting the same."""
    ours = [pair for pair in pairs if pair.thing == thing]
    sizes = np.array([pair.log_ratio for pair in ours])
    shares = np.array([pair.share for pair in ours])
    errors = np.array([abs(pair.error) for pair in ours])
    counts = Counter(pair.source for pair in ours)
    weights = np.array([1.0 / counts[pair.source] for pair in ours])

    def loss(theta: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        least, slope = np.abs(theta)
        beyond = errors - Z80 * shares * (least + slope * sizes)
        return float((weights * np.where(beyond > 0, LEVEL * beyond, (LEVEL - 1) * beyond)).sum())

    solution = np.abs(minimize(loss, np.array([0.1, 0.05]), method="Nelder-Mead", tol=1e-7).x)
    return PairErrors(
        thing=thing,
        least=round(float(solution[0]), 4),
        slope=round(float(solution[1]), 4),
        pairs=len(ours),
        sources=len(counts),
    )


def score_left_out(pairs: Sequence[Pair]) -> dict[tuple[ChangedThing, str], tuple[int, float]]:
    """Return pairs, and the share of them inside the 80 % interval fitted to the other sources, by thing and source."""
    scores: dict[tuple[ChangedThing, str], tuple[int, float]] = {}
    for thing, source in sorted({(pair.thing, pair.source) for pair in pairs}):
        others = [pair for pair in pairs if pair.source != source and pair.thing == thing]
        if not others:
            continue
        errors = fit_thing(others, thing)
        inside = [
            abs(pair.error) <= Z80 * pair.share * min(errors.compute_sigma(pair.log_ratio), pair.independent)
            for pair in pairs
            if (pair.thing, pair.source) == (thing, source)
        ]
        scores[thing, source] = len(inside), float(np.mean(inside))
    return scores


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=Path, action="append", required=True, help="of step_time --rows")
    parser.add_argument("--cache", type=Path, required=True, help="folder of traces")
    parser.add_argument("--write", action="store_true", help=f"write {OUT.name} of trainfare_core")
    arguments = parser.parse_args(argv)
    rows = [row for path in arguments.rows for row in read_rows(path)]
    pairs = find_pairs(rows, ProfileCache(arguments.cache, only_held=True))
    fits = [fit_thing(pairs, thing) for thing in get_args(ChangedThing)]
    if arguments.write:
        lines = ",\n".join(json.dumps(fit.model_dump()) for fit in fits)
        OUT.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    scores = score_left_out(pairs)
    for fit in fits:
        print(
            f"{fit.thing:10s} {fit.pairs:6d} pairs of {fit.sources:2d} sources: {fit.least} + {fit.slope} |ln ratio|"
        )
        ours = {source: score for (thing, source), score in scores.items() if thing == fit.thing}
        for source, (count, share) in ours.items():
            print(f"    {source:26s} {count:6d} {share:6.1%}")
        print(f"    {'mean of sources':26s}        {np.mean([share for _, share in ours.values()]):6.1%}")
    print(f"all        {np.mean([share for _, share in scores.values()]):6.1%} of each thing and source")


if __name__ == "__main__":
    main()
