"""Errors of predictions, in the form that every truth-table runner prints and writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.prediction.network.collectives import link_calibration
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.uncertainty import Z80
from trainfare_research.fits import one_device_record

Array = NDArray[np.float64]

LEVELS: Final = ("50", "80", "90")
_SOUND: Final = ("not_suspect", "multi_not_suspect")


@dataclass
class Scored:
    """One row with an answer: ln(predicted / measured), sigma and the groups it is counted in."""

    log_error: float
    log_sigma: float
    device: str
    family: str
    source: str
    scope: str
    reach: tuple[float, float, float] | None = None
    """Of |log_error| inside the central 50, 80 and 90 %; None: that of a trainer's loop."""
    suspect: bool = False
    """Whether the table itself marks the reading as suspect."""


def reach(situation: str, log_sigma: float) -> tuple[float, float, float]:
    """
    Return how far the central 50, 80 and 90 % reach, in ln.

    Args:
        situation: key of `OneDeviceRecord.reaches`: the tails depend on the timed work and on the devices measured.
        log_sigma: of the prediction.
    """
    shape = one_device_record().reaches[situation]
    half, most, nearly = (shape[level] * log_sigma for level in LEVELS)
    return half, most, nearly


def error_summary(log_errors: Sequence[float] | Array) -> dict[str, float]:
    """Return errors of predicted over measured as fractions, from their logarithms."""
    errors = np.asarray(log_errors, dtype=np.float64)
    ape = np.abs(np.exp(errors) - 1)
    return {
        "n": len(errors),
        "mape": float(ape.mean()),
        "median_ape": float(np.median(ape)),
        "p90_ape": float(np.quantile(ape, 0.9)),
        "worst_ape": float(ape.max()),
        "bias": float((np.exp(errors) - 1).mean()),
    }


def sigma_80(log_errors: Sequence[float] | Array) -> float:
    """Return the standard deviation of a normal distribution whose central 80 % holds 80 % of the errors."""
    return half_width(log_errors, 0.8) / Z80


def evenly_held(log_errors: Sequence[float] | Array, groups: Sequence[str], level: float) -> float:
    """
    Return the half-width that holds a share of the errors when every group counts the same.

    A new job comes from a source or a kind of work of its own, so a thousand rows of one count no more than ten of
    another. It is one more draw beside the n groups, so the level is taken (n + 1) / n times (split conformal), but
    at most half of what it leaves out is added: with few groups the largest single error would decide.

    Args:
        log_errors: ln(predicted / measured), n of them.
        groups: which source or kind of work each comes from, n of them.
        level: the share to hold, 0 to 1.
    """
    sizes = np.abs(np.asarray(log_errors, dtype=np.float64))
    rows_of = Counter(groups)
    level = min(level * (1 + 1 / len(rows_of)), (1 + level) / 2)
    share = np.array([1.0 / rows_of[name] for name in groups])
    order = np.argsort(sizes)
    reached = np.cumsum(share[order]) / share.sum()
    # A level that falls between two errors takes the larger: an interval may hold too much, not too little.
    return float(sizes[order][min(int(np.searchsorted(reached, level - 1e-9)), len(sizes) - 1)])


def half_width(
    log_errors: Sequence[float] | Array, level: float, weights: Sequence[float] | None = None
) -> float:
    """
    Return how far the central share of errors reaches around 0, in ln.

    Every row counts the same where no weights are given. Weights by the rows of a benchmark or source, to the powers
    0, 1/4, 1/2 and 3/4, were tried on the first tables of MLPerf and of memory, each group left out in turn: at 80 %
    they held 82 to 80 % and 93 to 84 %, rows alone 79 and 83 %.

    Args:
        log_errors: ln(predicted / measured).
        level: the share to hold, 0 to 1.
        weights: of each error; None: all count the same.
    """
    reach = np.abs(np.asarray(log_errors, dtype=np.float64))
    if weights is None:
        return float(np.quantile(reach, level))
    order = np.argsort(reach)
    held = np.cumsum(np.asarray(weights, dtype=np.float64)[order])
    return float(reach[order][np.searchsorted(held, level * held[-1])])


def summarize_held_out(log_errors: Sequence[float] | Array) -> dict[str, float]:
    """Return what a fit records of its errors: `error_summary` and `sigma_80`."""
    return {**error_summary(log_errors), "sigma_80": sigma_80(log_errors)}


def score(rows: list[Scored]) -> dict[str, Any]:
    """Return errors as fractions and how many measurements lie inside the central 50, 80 and 90 %."""
    errors = np.array([row.log_error for row in rows])
    reaches = np.array([row.reach or reach("trainer", row.log_sigma) for row in rows])
    coverage = {level: float((np.abs(errors) <= reaches[:, i]).mean()) for i, level in enumerate(LEVELS)}
    return {**error_summary(errors), "coverage": coverage}


def summary(scored: list[Scored], skipped: Counter[str]) -> dict[str, Any]:
    """Return the document of a runner: counts, and a score overall, by device, family, source and scope."""
    return {
        "n": len(scored),
        "skipped": dict(sorted(skipped.items())),
        "fitted_on": sorted({*calibration().fitted_on, *link_calibration().fitted_on}),
        "overall": score(scored),
        **_without_suspects(scored),
        **{f"by_{name}": _score_groups(scored, name) for name in ("device", "family", "source", "scope")},
    }


def _without_suspects(scored: list[Scored]) -> dict[str, Any]:
    """Return the scores without readings that their own table marks as suspect, where there are any."""
    sound = [row for row in scored if not row.suspect]
    if not sound or len(sound) == len(scored):
        return {}
    several = [row for row in sound if row.scope == "multi"]
    parts = {"not_suspect": score(sound), **({"multi_not_suspect": score(several)} if several else {})}
    return {"suspect": len(scored) - len(sound), **parts}


def print_table(document: dict[str, Any], groups: tuple[str, ...]) -> None:
    """Print the groups of a summary as one table."""
    skipped = sum(document["skipped"].values())
    print(f"{document['n']} rows scored, {skipped} skipped; coefficients of {calibration().fitted_at}")
    print(f"{'':28s}{'n':>7s}{'mean':>8s}{'median':>8s}{'p90':>8s}{'worst':>9s}{'bias':>8s}{'in 80 %':>8s}")
    for name, e in (
        *(pair for group in groups for pair in document[group].items()),
        *((name.replace("_", " "), document[name]) for name in _SOUND if name in document),
        ("overall", document["overall"]),
    ):
        numbers = "".join(f"{e[key]:8.1%}" for key in ("mape", "median_ape", "p90_ape"))
        print(
            f"{name:28s}{e['n']:7d}{numbers}{e['worst_ape']:9.1%}{e['bias']:8.1%}{e['coverage']['80']:8.0%}"
        )
    print(f"coverage {document['overall']['coverage']}")


def _score_groups(rows: list[Scored], name: str) -> dict[str, Any]:
    values = sorted({getattr(row, name) for row in rows})
    return {value: score([row for row in rows if getattr(row, name) == value]) for value in values}
