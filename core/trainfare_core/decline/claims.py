"""
Published claims about the falling cost of training, recomputed: which are consistent, off by a factor, or impossible.

The table `claims.csv` in this folder holds each stated figure and the arithmetic that should give it. The verdicts are
computed here.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from .decomposition import run_cost
from .errors import DeclineError
from .rates import LogRate, compose

__all__ = ["CLAIMS_FILE", "CheckedClaim", "ClaimVerdict", "Triple", "check_claims", "consistent_triples"]

ClaimVerdict: TypeAlias = Literal["consistent", "off", "impossible", "derived"]

CLAIMS_FILE: Final = Path(__file__).with_name("claims.csv")
TOLERANCE = 0.15
"""
Relative difference up to which a figure is consistent; of the log-rate for percentages a year. Chosen:
published headlines are rounded to one or two digits.
"""
PERCENT_A_YEAR = "percent a year"
"""The unit whose figures are compared as log-rates."""


@dataclass(frozen=True, slots=True)
class CheckedClaim:
    """
    A stated figure and the one computed from its own inputs.

    Attributes:
        id: short name.
        figure: what is claimed.
        stated: the figure as stated; None where only the inputs are, and the figure is derived.
        computed: from the inputs, in the same unit.
        unit: of both.
        off_by: computed / stated, of log-rates for percentages a year; None where nothing was stated.
        verdict: "consistent"; "off"; "impossible" where parts do not make the total; "derived": none stated.
        source: of the figure or its inputs.
        note: explanation; may be empty.
    """

    id: str
    figure: str
    stated: float | None
    computed: float
    unit: str
    off_by: float | None
    verdict: ClaimVerdict
    source: str
    note: str


@dataclass(frozen=True, slots=True)
class Triple:
    """Stated declines in percent a year: two components and their total."""

    hardware: float
    software: float
    total: float

    @property
    def residual(self) -> float:
        """Stated total minus the total computed from the components, percentage points a year."""
        return self.total - _combined(self.hardware, self.software)


def consistent_triples(stated: Triple) -> tuple[Triple, Triple, Triple]:
    """
    Return three consistent triples for one that is not, each keeping two of its figures, in whole percent.

    Raises:
        DeclineError: a percentage of 100 or more.
    """
    total = LogRate.from_decline(stated.total / 100)
    parts = [LogRate.from_decline(value / 100) for value in (stated.hardware, stated.software)]
    other = [round(100 * LogRate(total.log_per_year - part.log_per_year).decline) for part in reversed(parts)]
    return (
        Triple(other[0], stated.software, stated.total),
        Triple(stated.hardware, other[1], stated.total),
        Triple(stated.hardware, stated.software, round(100 * compose(*parts).decline)),
    )


def check_claims(path: Path = CLAIMS_FILE) -> tuple[CheckedClaim, ...]:
    """
    Recompute every claim of a table.

    Args:
        path: CSV with columns id, figure, stated, unit, check, inputs, source, note.

    Raises:
        DeclineError: an unknown check, or inputs that are not numbers or too few for it.
        OSError: the file cannot be read.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        return tuple(_checked(row) for row in csv.DictReader(stream))


def _checked(row: dict[str, str]) -> CheckedClaim:
    try:
        check = _CHECKS[row["check"]]
        computed = check(*(float(text) for text in row["inputs"].split(";")))
        stated = float(row["stated"]) if row["stated"] else None
    except (KeyError, ValueError, TypeError) as error:
        msg = (
            f"claim {row.get('id')}: check {row.get('check')!r} with {row.get('inputs')!r} cannot be computed"
        )
        raise DeclineError(msg) from error
    off_by = None if stated is None else _off_by(stated, computed, row["unit"])
    verdict: ClaimVerdict = "impossible" if row["check"] == "combined" else "off"
    if off_by is None:
        verdict = "derived"
    elif 1 / (1 + TOLERANCE) <= off_by <= 1 + TOLERANCE:
        verdict = "consistent"
    return CheckedClaim(
        row["id"],
        row["figure"],
        stated,
        computed,
        row["unit"],
        off_by,
        verdict,
        row["source"],
        row["note"],
    )


def _off_by(stated: float, computed: float, unit: str) -> float:
    if unit == PERCENT_A_YEAR:
        ours, theirs = (LogRate.from_decline(value / 100).log_per_year for value in (computed, stated))
        return ours / theirs
    return computed / stated


def _combined(*percents: float) -> float:
    return 100 * compose(*(LogRate.from_decline(value / 100) for value in percents)).decline


def _product(*factors: float) -> float:
    return math.prod(factors)


def _ratio(one: float, other: float) -> float:
    return one / other


def _log_ratio(one: float, other: float) -> float:
    return math.log(one) / math.log(other)


def _two_points(cost_0: float, cost_1: float, years: float) -> float:
    return 100 * LogRate.from_points(0, cost_0, years, cost_1).decline


def _projected(cost: float, percent_a_year: float, years: float, units: float) -> float:
    return cost * LogRate.from_decline(percent_a_year / 100).after(years) * units


def _yearly_factor(total: float, years: float) -> float:
    return math.pow(total, 1 / years)


def _halving(factor: float, months: float) -> float:
    return months / math.log2(factor)


def _cloud_cost(flop: float, flop_per_s: float, usd_per_hour: float) -> float:
    return run_cost(flop, flop_per_s, 1.0, usd_per_hour)


_CHECKS: Final[dict[str, Callable[..., float]]] = {
    "product": _product,
    "ratio": _ratio,
    "log_ratio": _log_ratio,
    "two_points": _two_points,
    "projected": _projected,
    "yearly_factor": _yearly_factor,
    "halving": _halving,
    "cloud_cost": _cloud_cost,
    "combined": _combined,
}
