"""
Published claims about the falling cost of training, recomputed: which are consistent, off by a factor, or impossible.

The table `claims.csv` in this folder holds each stated figure and the arithmetic that should give it. The verdicts are
computed here.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from pydantic import Field

from trainfare_core.decline.decomposition import run_cost
from trainfare_core.decline.rates import LogRate, compose
from trainfare_core.decline.records import DeclineError, Finite
from trainfare_core.documents import Answer, Record

ClaimVerdict: TypeAlias = Literal["consistent", "off", "impossible", "derived"]

CLAIMS_FILE: Final = Path(__file__).with_name("claims.csv")
TOLERANCE = 0.15
"""
Relative difference up to which a figure is consistent; of the log-rate for percentages a year. Chosen:
published headlines are rounded to one or two digits.
"""
PERCENT_A_YEAR = "percent a year"
"""The unit whose figures are compared as log-rates."""
IMPOSSIBLE: Final = (57.0, 47.0, 70.0)
"""
Hardware, software and total as published in the article that `claims.csv` reviews, percent a year: they contradict each
other.
"""


class ClaimLine(Record):
    """One published figure and its recomputation."""

    id: str
    figure: str
    stated: Finite | None
    """None where only the inputs are stated, and the figure is derived from them."""
    computed: Finite
    unit: str
    off_by: Finite | None = Field(description="computed / stated, of log-rates for percent a year")
    verdict: ClaimVerdict
    """"impossible": the parts do not make the total; "derived": nothing was stated."""
    source: str
    note: str
    """May be empty."""


class TripleLine(Record):
    """Declines in percent a year: two components and their stated total."""

    hardware: Finite
    software: Finite
    total: Finite
    residual: Finite = Field(description="total minus that of the two components, percentage points")

    @classmethod
    def of(cls, hardware: float, software: float, total: float) -> TripleLine:
        """
        Take two components and their total, and compute the residual.

        Raises:
            DeclineError: a percentage of 100 or more.
        """
        residual = total - _combine_declines(hardware, software)
        return cls(hardware=hardware, software=software, total=total, residual=residual)


class ClaimsAnswer(Answer):
    """Every published figure with its verdict."""

    claims: tuple[ClaimLine, ...]
    impossible_triple: TripleLine
    consistent_triples: tuple[TripleLine, ...]


def claims_answer() -> ClaimsAnswer:
    """Return the claims table with its verdicts."""
    stated = TripleLine.of(*IMPOSSIBLE)
    return ClaimsAnswer(
        claims=check_claims(), impossible_triple=stated, consistent_triples=consistent_triples(stated)
    )


def consistent_triples(stated: TripleLine) -> tuple[TripleLine, TripleLine, TripleLine]:
    """
    Return three consistent triples for one that is not, each keeping two of its figures, in whole percent.

    Raises:
        DeclineError: a percentage of 100 or more.
    """
    total = LogRate.from_decline(stated.total / 100)
    parts = [LogRate.from_decline(value / 100) for value in (stated.hardware, stated.software)]
    other = [round(100 * LogRate(total.log_per_year - part.log_per_year).decline) for part in reversed(parts)]
    return (
        TripleLine.of(other[0], stated.software, stated.total),
        TripleLine.of(stated.hardware, other[1], stated.total),
        TripleLine.of(stated.hardware, stated.software, round(100 * compose(*parts).decline)),
    )


def check_claims(path: Path = CLAIMS_FILE) -> tuple[ClaimLine, ...]:
    """
    Recompute every claim of a table.

    Args:
        path: CSV with columns id, figure, stated, unit, check, inputs, source, note.

    Raises:
        DeclineError: an unknown check, or inputs that are not numbers or too few for it.
        OSError: the file cannot be read.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        return tuple(_check_row(row) for row in csv.DictReader(stream))


def _check_row(row: dict[str, str]) -> ClaimLine:
    try:
        computed = _compute(row["check"], [float(text) for text in row["inputs"].split(";")])
        stated = float(row["stated"]) if row["stated"] else None
    except (KeyError, ValueError, TypeError) as error:
        raise DeclineError(
            f"claim {row.get('id')}: check {row.get('check')!r} with {row.get('inputs')!r} cannot be computed"
        ) from error
    off_by = None if stated is None else _off_by(stated, computed, row["unit"])
    verdict: ClaimVerdict = "impossible" if row["check"] == "combined" else "off"
    if off_by is None:
        verdict = "derived"
    elif 1 / (1 + TOLERANCE) <= off_by <= 1 + TOLERANCE:
        verdict = "consistent"
    texts = {name: row[name] for name in ("id", "figure", "unit", "source", "note")}
    return ClaimLine(**texts, stated=stated, computed=computed, off_by=off_by, verdict=verdict)


def _off_by(stated: float, computed: float, unit: str) -> float:
    if unit == PERCENT_A_YEAR:
        ours, theirs = (LogRate.from_decline(value / 100).log_per_year for value in (computed, stated))
        return ours / theirs
    return computed / stated


def _combine_declines(*percents: float) -> float:
    return 100 * compose(*(LogRate.from_decline(value / 100) for value in percents)).decline


def _compute(check: str, inputs: Sequence[float]) -> float:
    """Return what a check gives for its inputs, in the order of the table; too few or too many are an error."""
    match check, inputs:
        case "product", _:
            return math.prod(inputs)
        case "ratio", [per_period, other]:
            return per_period / other
        case "log_ratio", [decline, other]:
            return math.log(decline) / math.log(other)
        case "two_points", [cost_0, cost_1, years]:
            return 100 * LogRate.from_points(0, cost_0, years, cost_1).decline
        case "projected", [cost, percent_a_year, years, units]:
            return cost * LogRate.from_decline(percent_a_year / 100).after(years) * units
        case "yearly_factor", [total, years]:
            return math.pow(total, 1 / years)
        case "halving", [factor, months]:
            return months / math.log2(factor)
        case "cloud_cost", [flop, flop_per_s, usd_per_hour]:
            return run_cost(flop, flop_per_s, 1.0, usd_per_hour)
        case "combined", _:
            return _combine_declines(*inputs)
        case _:
            raise ValueError(check)
