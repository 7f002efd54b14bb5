"""
Fit how the interval of a prediction grows with its distance from measured runs, and write the table of their groups.

    python -m trainfare_research.runners.fit_distance --data DIR --cache DIR --date DAY [--rows FILE.csv]

DATA holds the tables of steps and what `fit_calibration` reads; CACHE the traces of models. Every source, vendor and
kind of work is left out of the fits in turn. The constants of `distance.json` are those with which the groups that were
left out hold nearest to 80 % at the least width, each counted the same; a group is scored by constants that were fitted
without it, and compared with groups without it.
`measured_groups.csv` beside it has the groups, and `fits/distance.json` the coverage of every one that was left out.
--rows keeps the errors: read where the file exists, else written.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.prediction.distance import (
    DEVICES,
    FEATURES,
    DistanceFit,
    Likeness,
    MeasuredGroup,
    MeasuredGroups,
    Work,
)
from trainfare_core.prediction.uncertainty import Z80
from trainfare_research.fits import DistanceRecord, GroupCoverage
from trainfare_research.fitting.command_line import fit_parser, write_fit
from trainfare_research.fitting.distance_rows import LEFT_OUT, read_distance_rows
from trainfare_research.truth_table import read_rows, write_rows
from trainfare_research.workloads import ProfileCache

Array = NDArray[np.float64]
Line = dict[str, str]

_NAMES: Final = {"source": "from", "vendor": "maker", "work": "kind"}
"""Column of a row's own group, by what is left out."""
LEAST_ROWS: Final = 20
"""Rows of a group that is scored: with fewer its share inside moves by a tenth with two rows. Asked for."""
LEAST_GROUP_ROWS: Final = 3
"""Rows of a group that ships: a median of fewer is one run. A chosen value."""
_NAMED: Final = 3
"""Accelerators named of a group."""
_WIDTH_COSTS: Final = 0.2
"""Of the median width's ln: a tenth wider must bring a group two points nearer to 80 %. A chosen value; a proper score,
which counts how far errors are outside, let the one source decide whose steps take six times as long as predicted."""
_TRIED: Final[dict[str, tuple[float, ...]]] = {
    "per_distance": (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8), "other_vendor": (0.0, 0.1, 0.2, 0.3, 0.4, 0.6),
    "host": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6), "host_language": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5),
}  # fmt: skip
"""Values of each constant, one constant after another until none changes."""
_START: Final = DistanceFit(per_distance=0.2, other_vendor=0.2, host=0.2, host_language=0.4)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """A group that was left out: its errors, ln(measured / predicted), the widths of before, and how rows compare."""

    what: str
    name: str
    errors: Array
    log_sigma: Array
    compare: Callable[[DistanceFit], Likeness]

    def widen(self, fit: DistanceFit) -> Array:
        """Return the widened sigmas by these constants."""
        groups = MeasuredGroups((), fit)
        return groups.widen(self.log_sigma, self.compare(fit), np.ones(len(self.errors)))

    @cache  # noqa: B019 - lives as long as the command
    def score(self, fit: DistanceFit) -> float:
        """Return how far the share inside is from 80 %, and what the width costs."""
        sigma = self.widen(fit)
        held = float((np.abs(self.errors) <= Z80 * sigma).mean())
        return abs(held - 0.8) + _WIDTH_COSTS * float(np.log(np.median(sigma / self.log_sigma)))


def group_key(row: Line) -> tuple[str, ...]:
    """Return what rows of a group share."""
    return row["from"], row["kind"], row["maker"], row["devices"], row["model_kind"]


def build_groups(rows: Sequence[Line]) -> list[MeasuredGroup]:
    """Return the groups of rows whose source was left out, `held` still 1, in a fixed order."""
    members: dict[tuple[str, ...], list[Line]] = {}
    for row in rows:
        if row["source"]:
            members.setdefault(group_key(row), []).append(row)
    groups: list[MeasuredGroup] = []
    for (source, work, vendor, devices, kind), lines in sorted(members.items()):
        if len(lines) < LEAST_GROUP_ROWS:
            continue
        errors = np.array([float(row["source"]) for row in lines])
        names = [name for name, _ in Counter(row["accelerator"] for row in lines).most_common()]
        more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
        groups.append(
            MeasuredGroup(
                source=source, work=work, vendor=vendor, language_model=kind == "language", devices=devices,
                accelerators=", ".join((*names[:_NAMED], *more)), rows=len(lines),
                features=tuple(round(fmean(float(row[name]) for row in lines), 3) for name in FEATURES),
                bias=round(float(np.median(errors)), 3),
                typical_error=round(median(abs(float(np.exp(-error)) - 1) for error in errors), 3),
                scatter=round(float(np.std(errors)), 3), held=1.0,
            )
        )  # fmt: skip
    return groups


def list_left_out(rows: Sequence[Line], groups: Sequence[MeasuredGroup]) -> list[LeftOut]:
    """Return every source, vendor and kind of work with enough rows, compared with the groups of all others."""
    cases: list[LeftOut] = []
    for what in LEFT_OUT:
        column = _NAMES[what]
        counts = Counter(row[column] for row in rows if row[what])
        for name, count in sorted(counts.items()):
            if count >= LEAST_ROWS:
                mine = [row for row in rows if row[what] and row[column] == name]
                others = tuple(group for group in groups if getattr(group, what) != name)
                cases.append(_leave_out(what, name, mine, others))
    return cases


def _leave_out(what: str, name: str, rows: Sequence[Line], others: tuple[MeasuredGroup, ...]) -> LeftOut:
    parts: list[tuple[NDArray[np.int64], Work]] = []
    for kind in ("operations", "language"):
        chosen = [i for i, row in enumerate(rows) if row["model_kind"] == kind]
        if chosen:
            lines = [rows[i] for i in chosen]
            parts.append(
                (
                    np.array(chosen),
                    Work(
                        np.array([[float(row[name]) for name in FEATURES] for row in lines]),
                        tuple(row["maker"] for row in lines),
                        np.array([DEVICES.index(row["devices"]) for row in lines]),
                        kind == "language",
                    ),
                )
            )
    order = np.argsort(np.concatenate([index for index, _ in parts]))

    @cache
    def compare(fit: DistanceFit) -> Likeness:
        found = [MeasuredGroups(others, fit).compare(work) for _, work in parts]
        columns = [[getattr(part, field.name) for part in found] for field in fields(Likeness)]
        return Likeness(*(np.concatenate(column)[order] for column in columns))

    def compare_with(fit: DistanceFit) -> Likeness:
        # The constants that only widen change no comparison.
        return compare(fit.model_copy(update={"per_distance": 0.0, "other_vendor": 0.0}))

    errors, sigma = (np.array([float(row[column]) for row in rows]) for column in (what, f"{what}_sigma"))
    return LeftOut(what, name, errors, sigma, compare_with)


def fit_constants(cases: Sequence[LeftOut], start: DistanceFit = _START) -> DistanceFit:
    """Return the constants with the least mean score of the cases."""
    best, least = start, fmean(case.score(start) for case in cases)
    while True:
        before = best
        for name, values in _TRIED.items():
            for value in values:
                fit = best.model_copy(update={name: value})
                score = fmean(case.score(fit) for case in cases)
                if score < least - 1e-12:
                    best, least = fit, score
        if best == before:
            return best


def cover(case: LeftOut, fit: DistanceFit) -> GroupCoverage:
    """Return the coverage of a group by constants fitted without it."""
    sigma, likeness = case.widen(fit), case.compare(fit)
    before, now = (np.abs(case.errors) <= Z80 * width for width in (case.log_sigma, sigma))
    values = {
        "bias": np.median(case.errors), "typical_error": np.median(np.abs(np.expm1(-case.errors))),
        "distance": np.median(likeness.distance), "guesses": likeness.is_guess.mean(),
        "held_before": before.mean(), "held": now.mean(), "width": np.median(sigma / case.log_sigma),
    }  # fmt: skip
    rounded = {name: round(float(value), 3) for name, value in values.items()}
    return GroupCoverage(left_out=case.what, name=case.name, rows=len(case.errors), **rounded)


def _with_coverage(
    group: MeasuredGroup, rows: Sequence[Line], groups: Sequence[MeasuredGroup], fit: DistanceFit
) -> MeasuredGroup:
    """Return a group with the share of its errors inside, compared with the groups of other sources."""
    kind = "language" if group.language_model else "operations"
    key = group.source, group.work, group.vendor, group.devices, kind
    mine = [row for row in rows if row["source"] and group_key(row) == key]
    others = tuple(other for other in groups if other.source != group.source)
    return group.model_copy(
        update={"held": cover(_leave_out("source", group.source, mine, others), fit).held}
    )


def groups_text(groups: Sequence[MeasuredGroup]) -> str:
    """Return measured_groups.csv."""
    others = [name for name in MeasuredGroup.model_fields if name != "features"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*others, *FEATURES])
    for group in groups:
        writer.writerow([*(getattr(group, name) for name in others), *group.features])
    return stream.getvalue()


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = fit_parser(__doc__, "distance", "distance")
    parser.add_argument("--traced-only", action="store_true", help="leave out rows that the cache lacks")
    parser.add_argument("--rows", type=Path, help="the errors, as a run before kept them")
    arguments = parser.parse_args(argv)
    if arguments.rows and arguments.rows.exists():
        rows = [dict(line) for line in read_rows(arguments.rows)]
    else:
        cache = ProfileCache(arguments.cache, only_held=arguments.traced_only)
        rows = read_distance_rows(arguments.data, cache)
        write_rows(arguments.rows, rows)
    groups = build_groups(rows)
    cases = list_left_out(rows, groups)
    fit = fit_constants(cases)
    fits = [fit_constants([*cases[:i], *cases[i + 1 :]], fit) for i in range(len(cases))]
    covered = sorted(
        (cover(case, own_fit) for case, own_fit in zip(cases, fits, strict=True)),
        key=lambda group: -abs(group.held - 0.8),
    )
    rows_held = sum(group.rows * group.held for group in covered) / sum(group.rows for group in covered)
    record = DistanceRecord(fitted_at=arguments.date, groups=tuple(covered), rows_held=round(rows_held, 3))
    for group in covered:
        print(" ".join(f"{value!s:>14}" for value in group.model_dump().values()))
    print(
        fit,
        f"{record.groups_held:.0%} of the groups hold 70 to 90 %; mean {record.held:.1%}, rows {rows_held:.1%}",
    )
    of_source = {case.name: own for case, own in zip(cases, fits, strict=True) if case.what == "source"}
    held = [_with_coverage(group, rows, groups, of_source.get(group.source, fit)) for group in groups]
    table = arguments.out.with_name("measured_groups.csv")
    table.write_text(groups_text(held), encoding="utf-8")
    write_fit(arguments, fit.model_dump(), record)


if __name__ == "__main__":
    main()
