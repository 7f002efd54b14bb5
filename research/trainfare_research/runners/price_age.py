"""
Fit how far prices move with age, and score the intervals on sources and machines left out.

    python -m trainfare_research.runners.price_age [--data DIR] [--write]

Pairs of readings of one machine, region and purchase option come from price_history.csv and from the rows that
offers.csv and offers_2026-11.csv share. A history that was kept at every change is read once a month, since its dates
alone would show only changes. A pair's weight makes a machine with n readings count as n - 1 pairs.

The form is that of `trainfare_core.prices.age_doubt`. Each kind (spot, capacity block, list price) is fitted as a whole
first; then each cloud, service and purchase option has its own change time, size and settling time, with the kind as a
prior. "Left out by source" scores the pairs of a source with classes fitted without any pair of it; "left out by
machine" leaves out a fifth of the machines.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from trainfare_core.number_format import percent
from trainfare_core.prices.age_doubt import ANY, PriceMoves, log_half_width
from trainfare_research.data import TABLES
from trainfare_research.truth_table import read_rows

OUT: Final = Path(__file__).resolve().parents[3] / "core/trainfare_core/data/price_age.json"
LEVELS: Final = (0.5, 0.8, 0.9)
KEPT_AT_CHANGES: Final = ("Cyclenerd/", "aws/karpenter-provider-aws", "vantage-sh/", "amorton45/")
"""Sources whose history has a row only where a price changed (and a last one a year or a month)."""
UNMOVED: Final = 1e-3
"""|ln ratio| up to which two readings are the same price: some sources round to 0.001 USD."""
KINDS: Final = ("spot", "capacity_block", ANY)
"""Purchase options that are pooled over the clouds; the last is of every other option."""
PRIOR_SD: Final = 0.7
"""Of ln(change time), ln(size) and ln(settling time) of a class around its kind: clouds differ by a factor of two."""
LOWEST_ZONE_2026: Final = (0.64, 0.91, 1.48)
"""
Lowest, median and highest ratio of EC2's lowest spot price in us-west-2, catalogue of 2026-08 over an API reading of
2026-06-12 (g5 and g6 machines). The only readings of EC2 spot weeks apart; each counts as one pair.
"""
FOLDS: Final = 5

Array = NDArray[np.float64]
Key = tuple[str, str, str]


class Reading(NamedTuple):
    """A price on a day, by source."""

    day: date
    usd_per_hour: float
    source: str


@dataclass(frozen=True)
class Pairs:
    """
    Pairs of readings of one price as columns, shape (n,).

    Attributes:
        key: provider, service, purchase option.
        machine: of which machine and place.
        first, second: families of the two sources.
        age_days: between the readings.
        log_ratio: ln(second price / first price).
        weight: of each pair in fits and scores.
    """

    key: list[Key]
    machine: list[str]
    first: list[str]
    second: list[str]
    age_days: Array
    log_ratio: Array
    weight: Array

    def take(self, rows: NDArray[np.bool_]) -> Pairs:
        """Return the marked pairs."""
        chosen = np.flatnonzero(rows).tolist()
        return Pairs(
            [self.key[i] for i in chosen],
            [self.machine[i] for i in chosen],
            [self.first[i] for i in chosen],
            [self.second[i] for i in chosen],
            self.age_days[rows],
            self.log_ratio[rows],
            self.weight[rows],
        )

    def where(self, test: Callable[[Key, str, str, str], bool]) -> NDArray[np.bool_]:
        """Mark the pairs whose key, machine and two sources pass a test."""
        columns = zip(self.key, self.machine, self.first, self.second, strict=True)
        return np.array([test(*column_pair) for column_pair in columns], dtype=np.bool_)


def read_pairs(folder: Path) -> Pairs:
    """Return all pairs of readings of the tables in a folder."""
    series: dict[tuple[Key, str], list[Reading]] = defaultdict(list)
    last_day: dict[str, date] = {}
    for row in read_rows(folder / "price_history.csv"):
        reading = Reading(_day(row["date"]), float(row["price_usd_per_hour"]), _family(row["source"]))
        key = (row["provider"], _service(row["provider"], row["instance_type"]), row["purchase_option"])
        series[key, f"{row['instance_type']} {row['region']}"].append(reading)
        last_day[reading.source] = max(reading.day, last_day.get(reading.source, reading.day))
    pairs = [
        (*name, reading, other, 1.0 / len(readings))
        for name, readings in ((name, _monthly(readings, last_day)) for name, readings in series.items())
        for i, reading in enumerate(readings)
        for other in readings[i + 1 :]
        # The weights of n (n - 1) / 2 pairs add up to about n - 1.
    ]
    pairs = [(*pair[:4], 2 * pair[4]) for pair in pairs]
    places = ("provider", "service", "instance_type", "region", "zone", "purchase_option")
    old = {tuple(row[name] for name in places): row for row in read_rows(folder / "offers.csv")}
    for row in read_rows(folder / "offers_2026-11.csv"):
        before = old.get(tuple(row[name] for name in places))
        if before is not None:
            key = (row["provider"], row["service"], row["purchase_option"])
            machine = f"{row['instance_type']} {row['region']} {row['zone']}"
            pairs.append((key, machine, _reading(before), _reading(row), 1.0))
    june, august = date(2026, 6, 12), date(2026, 8, 15)
    pairs += [
        (
            ("aws", "ec2", "spot"),
            f"lowest zone {ratio}",
            Reading(june, 1.0, "indexed excerpt 63272674179"),
            Reading(august, ratio, "skypilot-org/skypilot-catalog"),
            1.0,
        )
        for ratio in LOWEST_ZONE_2026
    ]
    pairs = [pair for pair in pairs if pair[3].day > pair[2].day]
    return Pairs(
        [pair[0] for pair in pairs],
        [pair[1] for pair in pairs],
        [pair[2].source for pair in pairs],
        [pair[3].source for pair in pairs],
        np.array([(pair[3].day - pair[2].day).days for pair in pairs], dtype=np.float64),
        np.array([math.log(pair[3].usd_per_hour / pair[2].usd_per_hour) for pair in pairs]),
        np.array([pair[4] for pair in pairs]),
    )


def _reading(row: dict[str, str]) -> Reading:
    return Reading(_day(row["observed_on"]), float(row["price_usd_per_hour"]), _family(row["source"]))


def _day(text: str) -> date:
    """Return the middle of what a date of that precision can mean."""
    year, *rest = (int(part) for part in text.split("-"))
    return date(year, *rest, *((7, 1) if not rest else (15,) if len(rest) == 1 else ()))


def _family(source: str) -> str:
    """Return the publisher of a source, without its version."""
    return source.split("@")[0].split("==")[0].split(" (")[0]


def _service(provider: str, instance_type: str) -> str:
    if provider == "aws":
        return "sagemaker" if instance_type.startswith("ml.") else "ec2"
    if provider == "gcp":
        return "tpu" if instance_type.startswith("TPU") else "gce"
    return "azure_vm"


def _monthly(series_readings: list[Reading], last_day: dict[str, date]) -> list[Reading]:
    """Return readings by time; a history kept at its changes is read every 30 days to its source's last day."""
    readings = sorted(
        reading for reading in series_readings if not reading.source.startswith(KEPT_AT_CHANGES)
    )
    for source in sorted(
        {reading.source for reading in series_readings} - {reading.source for reading in readings}
    ):
        steps = sorted(reading for reading in series_readings if reading.source == source)
        day, index = steps[0].day, 0
        while day <= last_day[source]:
            while index + 1 < len(steps) and steps[index + 1].day <= day:
                index += 1
            readings.append(steps[index]._replace(day=day))
            day += timedelta(days=30)
        readings.append(steps[-1]._replace(day=last_day[source]))
    return sorted(readings)


def fit(pairs: Pairs) -> tuple[PriceMoves, ...]:
    """Fit the pooled class of each kind, then every class with its kind as a prior; the specific ones come first."""
    of_kind = {kind: pairs.where(lambda key, *_, kind=kind: _kind(key[2]) == kind) for kind in KINDS}
    pooled = {kind: _pool(pairs.take(rows)) for kind, rows in of_kind.items() if rows.any()}
    classes = []
    for key in sorted(set(pairs.key)):
        ours = pairs.take(pairs.where(lambda key_asked, *_, key=key: key_asked == key))
        of_its_kind = pooled[_kind(key[2])]
        classes.append(
            _moves(
                key, _fit_parameters(_count_pairs(ours, 1.0), of_its_kind, fixed_power=True), len(ours.key)
            )
        )
    return (*classes, *(_moves((ANY, ANY, kind), theta, 0) for kind, theta in pooled.items()))


def _kind(purchase_option: str) -> str:
    return purchase_option if purchase_option in KINDS else ANY


def _pool(pairs: Pairs) -> Array:
    """Fit one kind; every class counts alike, so that the pool is of clouds and not of the largest table."""
    total: dict[Key, float] = defaultdict(float)
    for key, weight in zip(pairs.key, pairs.weight, strict=True):
        total[key] += weight
    share = np.array([_CLASS_WEIGHT / total[key] for key in pairs.key])
    return _fit_parameters(_count_pairs(pairs, share), _WEAK_PRIOR, fixed_power=False)


_CLASS_WEIGHT: Final = 20.0
"""Readings that each class counts for in the pool of its kind. A chosen value: far above the prior's weight of one."""
_WEAK_PRIOR: Final = np.log([100.0, 1.0, 0.2, 100.0])
"""ln of change time in days, power, size and settling time in days: orders of magnitude only."""


class _Counts(NamedTuple):
    """Distinct pairs and how much each weighs, shape (n,)."""

    age_days: Array
    log_ratio: Array
    weight: Array


def _count_pairs(pairs: Pairs, share: Array | float) -> _Counts:
    """Merge equal pairs: monthly readings of prices that seldom move hold few distinct ones."""
    values = np.column_stack([pairs.age_days, np.abs(pairs.log_ratio).round(6)])
    distinct, inverse = np.unique(values, axis=0, return_inverse=True)
    weight = np.bincount(inverse.ravel(), weights=pairs.weight * share).astype(np.float64)
    return _Counts(distinct[:, 0], distinct[:, 1], weight)


def _moves(key: Key, theta: Array, pairs: int) -> PriceMoves:
    days, power, size, settle = (float(f"{value:.4g}") for value in np.exp(theta))
    return PriceMoves(
        provider=key[0],
        service=key[1],
        purchase_option=key[2],
        change_days=days,
        change_power=power,
        size=size,
        settle_days=settle,
        pairs=pairs,
    )


def _fit_parameters(counts: _Counts, prior: Array, *, fixed_power: bool) -> Array:
    """Return the parameters of the highest posterior density; the power is shared within a kind."""
    free = np.array([0, 2, 3] if fixed_power else [0, 1, 2, 3])
    sd = PRIOR_SD if fixed_power else 2.0

    def loss(values: Array) -> float:
        theta = prior.copy()
        theta[free] = np.clip(values, -12, 20)
        return _compute_loss(theta, counts) + float((((values - prior[free]) / sd) ** 2).sum()) / 2

    solution = minimize(loss, prior[free], method="Nelder-Mead", options={"maxiter": 2000})
    theta = prior.copy()
    theta[free] = solution.x
    return theta


def _compute_loss(theta: Array, counts: _Counts) -> float:
    """Return minus the weighted log-likelihood; theta: ln of change time, power, size, settling time."""
    change_days, power, size, settle_days = np.exp(theta)
    rate = (counts.age_days / change_days) ** power
    spread = size * np.sqrt(-np.expm1(-counts.age_days / settle_days))
    changed = np.log(-np.expm1(-np.maximum(rate, 1e-12))) - np.log(2 * spread) - counts.log_ratio / spread
    return -float((counts.weight * np.where(counts.log_ratio > UNMOVED, changed, -rate)).sum())


class Coverage(NamedTuple):
    """Score of a class: the shares of pairs that moved and that lie inside the central 50, 80 and 90 %."""

    pairs: int
    moved: float
    inside_50: float
    inside_80: float
    inside_90: float
    factor_80: float
    """Mean factor between the ends of the 80 % interval."""


def score_folds(pairs: Pairs, folds: Iterable[NDArray[np.bool_]]) -> dict[Key, Coverage]:
    """Score the pairs of each fold with the classes fitted to all the others; the kinds as a whole have service ANY."""
    rows_by_key: dict[Key, list[tuple[float, ...]]] = defaultdict(list)
    for fold in folds:
        if not fold.any() or fold.all():
            continue
        classes, ours = fit(pairs.take(~fold)), pairs.take(fold)
        columns = zip(ours.key, ours.age_days, np.abs(ours.log_ratio), ours.weight, strict=True)
        cached = {key: _class_of(key, classes) for key in set(ours.key)}
        for key, age, moved, weight in columns:
            widths = [float(log_half_width(cached[key], age, level)) for level in LEVELS]
            inside = (moved <= width + UNMOVED for width in widths)
            row = (weight, moved > UNMOVED, *inside, 2 * widths[1])
            rows_by_key[key].append(row)
            rows_by_key[ANY, ANY, _kind(key[2])].append(row)
    return {
        key: _measure_coverage(np.array(rows, dtype=np.float64)) for key, rows in sorted(rows_by_key.items())
    }


def _measure_coverage(rows: Array) -> Coverage:
    means = (rows[:, :1] * rows[:, 1:]).sum(axis=0) / rows[:, 0].sum()
    moved, inside_50, inside_80, inside_90, width = (float(mean) for mean in means)
    return Coverage(len(rows), moved, inside_50, inside_80, inside_90, math.exp(width))


def _class_of(key: Key, classes: tuple[PriceMoves, ...]) -> PriceMoves:
    names = (key, (ANY, ANY, _kind(key[2])), (ANY, ANY, ANY))
    by_name = {
        (age_class.provider, age_class.service, age_class.purchase_option): age_class for age_class in classes
    }
    return next(by_name[name] for name in names if name in by_name)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=TABLES / "prices", help="folder of the price tables; else our own"
    )
    parser.add_argument("--write", action="store_true", help=f"write {OUT.name} of trainfare_core")
    arguments = parser.parse_args()
    pairs = read_pairs(arguments.data)
    classes = fit(pairs)
    if arguments.write:
        lines = ",\n".join(age_class.model_dump_json() for age_class in classes)
        OUT.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(
        "| prices | pairs | changed in a year | factor of the 80 % interval: 1 week | 1 month | 3 months | 1 year |"
    )
    print("|---|---|---|---|---|---|---|")
    for age_class in classes:
        ends = " | ".join(f"x{math.exp(2 * age_class.log_half_width(days)):.2f}" for days in (7, 30, 91, 365))
        name = f"{age_class.provider} {age_class.service} {age_class.purchase_option}"
        print(f"| {name} | {age_class.pairs:,} | {percent(age_class.chance_changed(365), 0)} | {ends} |")
    sources = sorted({*pairs.first, *pairs.second})
    by_source = [pairs.where(lambda *names, source=source: source in names[2:]) for source in sources]
    by_machine = [
        pairs.where(lambda _, machine, *__, fold=fold: crc32(machine.encode()) % FOLDS == fold)
        for fold in range(FOLDS)
    ]
    for title, folds in (("source", by_source), ("machine", by_machine)):
        print(
            f"\n| left out by {title} | pairs | moved | inside 50 % | 80 % | 90 % | mean factor of the 80 % |"
        )
        print("|---|---|---|---|---|---|---|")
        for key, score in score_folds(pairs, folds).items():
            shares = " | ".join(percent(share, 0) for share in score[1:5])
            print(f"| {' '.join(key)} | {score.pairs:,} | {shares} | x{score.factor_80:.2f} |")


if __name__ == "__main__":
    main()
