"""
Forecast the past of every technology, and compare the result with the published study.

    python -m trainfare_research.runners.decline_hindcast --truth technology_curves.csv [--json OUT] [--rows
        OUT.csv] [--surrogates N]

Farmer & Lafond 2016 pool 8,212 forecasts of 53 improving technologies; their numbers are printed beside
ours. Each forecast uses only the m years before its origin. Three constants of the library were chosen on such data
(`fitted_on`): theta 0.63, rho 0.19 and the inflation of 1.2. For Wright's law future production is known, so that its
intervals are conditional.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from trainfare_core.decline import MooreFit, Series, fit_moore, forecast, is_improving
from trainfare_research.decline.hindcast import Hindcast, HindcastError, HindcastModel, hindcast
from trainfare_research.decline.surrogates import surrogate_bands
from trainfare_research.truth_table import read_rows, truth_parser, write_json, write_rows

M = 5
"""Differences that each forecast uses, as in the published study."""
TAUS = tuple(range(1, 21))
SHOWN_TAUS = (1, 2, 3, 5, 10, 15, 20)
LEVELS = {"50": 0.5, "80": 0.8, "90": 0.9, "95": 0.95}
ALIASES = frozenset({"Fotovoltaica", "Photovoltaics", "Photovoltaics 4", "Ethanol 2", "Ethylene 2"})
"""PCDB has several series of one technology: Photovoltaics 2, Ethanol (Brazil) and Ethylene are kept."""
MIN_YEARS = 8
"""Of production, for Wright's law. Chosen: a forecast with m = 5 and its outcome need 7 points."""
FITTED_ON = (
    "FL2016: theta 0.63 and the inflation of 1.2",
    "51 technologies of PCDB: rho 0.19 (Lafond et al. 2018)",
)

PUBLISHED_COUNTS = {"technologies": 66, "improving": 53, "forecasts": 8212, "forecasts to 20 years": 6391}
PUBLISHED_XI = {1: 3.59, 2: 12.3, 3: 20.6, 5: 44.6, 10: 125.7, 15: 261.0, 20: 454.0}
PUBLISHED_COVERAGE: dict[tuple[str, HindcastModel, int, float], str] = {
    ("FL2016", "moore", 5, 0.0): "38/78/86",
    ("FL2016", "moore", 5, 0.63): "45/85/92",
    ("FL2016", "moore", 16, 0.63): "44/85/92",
    ("PCDB", "wright", 5, 0.0): "44/88/93",
    ("PCDB", "wright", 5, 0.19): "49/90/93",
    ("PCDB", "wright", 5, 0.63): "54/92/95",
    ("PCDB", "moore", 5, 0.0): "40/80/87",
}


@dataclass
class Technologies:
    """The series of one dataset, and the reasons for rows left out."""

    costs: dict[str, Series] = field(default_factory=dict)
    produced: dict[str, Series] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


def series_of(lines: list[dict[str, str]], *, production: bool) -> Series:
    """Return the rows of one technology as a series, with their production where `production`."""
    produced_units = [float(line["production"]) for line in lines] if production else None
    return Series.of(
        [float(line["year"]) for line in lines],
        [float(line["cost"]) for line in lines],
        production=produced_units,
    )


def select_produced_years(lines: list[dict[str, str]]) -> Series | None:
    """Return the years with production as a series, None where Wright's law cannot be fitted to them."""
    lines_with_production = [line for line in lines if line["production"]]
    if len(lines_with_production) < MIN_YEARS or any(
        float(line["production"]) <= 0 for line in lines_with_production
    ):
        return None
    whole = series_of(lines_with_production, production=True)
    grew = float(lines_with_production[-1]["production"]) > float(lines_with_production[0]["production"])
    return whole if whole.step_years == 1 and grew else None


def technologies(lines: list[dict[str, str]]) -> dict[str, Technologies]:
    """Return the series of every dataset, in the order of the file."""
    grouped: dict[tuple[str, str], list[dict[str, str]]] = {}
    for line in lines:
        grouped.setdefault((line["dataset"], line["technology"]), []).append(line)
    groups: dict[str, Technologies] = {}
    for (dataset, name), part in grouped.items():
        into = groups.setdefault(dataset, Technologies())
        try:
            whole = series_of(part, production=False)
            series = None if name in ALIASES else select_produced_years(part)
        except ValueError as error:  # a DeclineError, or text where a number should be
            into.skipped[str(error)] += len(part)
            continue
        if whole.step_years != 1:
            into.skipped["the years have gaps"] += len(part)
        else:
            into.costs[name] = whole
        if series is not None:
            into.produced[name] = series
    return groups


def improving(series_set: dict[str, Series]) -> dict[str, Series]:
    """Return the series whose cost falls significantly; that takes at least two changes to test."""
    return {
        name: series for name, series in series_set.items() if len(series.times) >= 3 and is_improving(series)
    }


def errors_of(done: Iterable[HindcastError]) -> dict[str, Any]:
    """Return E of the truth tables: fractions, of the cost; coverage of the product's own intervals."""
    pooled = Hindcast(M, tuple(done))
    signed = np.expm1([-error.log_error for error in pooled.errors])
    ape = np.abs(signed)
    return {
        "n": len(ape),
        "mape": float(ape.mean()),
        "median_ape": float(np.median(ape)),
        "p90_ape": float(np.quantile(ape, 0.9)),
        "worst_ape": float(ape.max()),
        "bias": float(signed.mean()),
        "coverage": {name: pooled.coverage(level, 1.2) for name, level in LEVELS.items()},
    }


def noise_line(fits: list[MooreFit]) -> Any:
    """Return scipy's regression of K on |mu|, one point a technology."""
    return stats.linregress([abs(fit.rate.log_per_year) for fit in fits], [f.k_per_sqrt_year for f in fits])


def coverage_text(done: Hindcast) -> str:
    """Return the coverage of the nominal 50, 90 and 95 % as the study prints it, "38/78/86"."""
    return "/".join(f"{100 * done.coverage(level):.0f}" for level in (0.5, 0.9, 0.95))


def study(fl: Technologies, surrogates: int) -> dict[str, Any]:
    """Print the results of the published study beside ours and return ours."""
    improving_series = improving(fl.costs)
    done = hindcast(improving_series, M, TAUS, moving_average=0.63)
    every = sum(
        max(0, years * (years + 1) // 2)
        for years in (len(s.times) - M - 1 for s in improving_series.values())
    )
    counts = {
        "technologies": len(fl.costs),
        "improving": len(improving_series),
        "forecasts": every,
        "forecasts_to_20": len(done.errors),
    }
    print(f"{'Farmer & Lafond 2016':28s}{'published':>12s}{'ours':>12s}")
    for (name, published), mine in zip(PUBLISHED_COUNTS.items(), counts.values(), strict=True):
        print(f"{name:28s}{published:12,}{mine:12,}")
    fits = [fit_moore(series) for series in improving_series.values()]
    line = noise_line(fits)
    print(f"{'K = a + b |mu|: a':28s}{'0.02 (.008)':>12s}{line.intercept:12.4f}")
    print(f"{'b':28s}{'0.76 (.04)':>12s}{line.slope:12.3f}")
    print(f"{'R squared':28s}{'0.87':>12s}{line.rvalue**2:12.3f}")
    bands = {
        theta: surrogate_bands(improving_series, M, TAUS, theta, runs=surrogates, seed=1)
        for theta in (0.0, 0.25, 0.63)
    }
    print(f"\nXi, mean of (error / K)^2, m = 5; 95 % band of {surrogates} simulated data sets")
    print(
        f"{'tau':>4s}{'n':>6s}{'published':>11s}{'ours':>8s}" + "".join(f"{f'theta {t}':>20s}" for t in bands)
    )
    measured = {tau: done.at(tau).mean_square() for tau in TAUS}
    for tau in SHOWN_TAUS:
        band = "".join(
            f"{f'{bands[t][tau - 1].low:.3g} to {bands[t][tau - 1].high:.4g}':>20s}" for t in bands
        )
        print(f"{tau:4d}{len(done.at(tau).errors):6d}{PUBLISHED_XI[tau]:11.4g}{measured[tau]:8.4g}{band}")
    for theta, theta_bands in bands.items():
        outside = [band.tau for band in theta_bands if not band.holds(measured[band.tau])]
        z = math.fsum(measured[b.tau] / b.mean for b in theta_bands) / len(theta_bands)
        print(
            f"theta {theta}: Xi outside the band at tau {outside or 'none'}; mean of Xi over simulated {z:.2f}"
        )
    return {
        **counts,
        "k_intercept": line.intercept,
        "k_slope": line.slope,
        "xi": {str(tau): value for tau, value in measured.items()},
        "xi_published": {str(tau): value for tau, value in PUBLISHED_XI.items()},
        "surrogate_bands": {
            str(theta): {str(b.tau): [b.low, b.mean, b.high] for b in band} for theta, band in bands.items()
        },
    }


def coverages(groups: dict[str, Technologies]) -> dict[str, Any]:
    """Print the coverage rows beside the published ones and return them."""
    print(f"\n{'coverage of nominal 50/90/95 %':34s}{'series':>8s}{'n':>7s}{'published':>12s}{'ours':>12s}")
    rows: dict[str, Any] = {}
    for (dataset, model, m, average), published in PUBLISHED_COVERAGE.items():
        if dataset not in groups:
            continue
        source = groups[dataset]
        chosen = improving(source.produced if dataset == "PCDB" else source.costs)
        done = hindcast(chosen, m, TAUS, model=model, moving_average=average)
        name = f"{dataset} {model} m={m} {'rho' if model == 'wright' else 'theta'} {average:g}"
        print(f"{name:34s}{len(chosen):8d}{len(done.errors):7d}{published:>12s}{coverage_text(done):>12s}")
        rows[name] = {"n": len(done.errors), "published": published, "ours": coverage_text(done)}
    return rows


def next_year(lines: list[dict[str, str]], groups: dict[str, Technologies]) -> None:
    """Add to every row the cost forecast from the five years before it, or the reason for which there is none."""
    for line in lines:
        line.update(predicted="", low_80="", high_80="", skip_reason="")
        series = groups[line["dataset"]].costs.get(line["technology"])
        if series is None:
            line["skip_reason"] = "its years have gaps, or a cost is not a number above 0"
            continue
        index = series.times.index(float(line["year"]))
        if index <= M:
            line["skip_reason"] = f"fewer than {M} yearly changes before it"
            continue
        before = Series(series.times[:index], series.costs[:index])
        ahead = forecast(fit_moore(before, M), series.times[index])
        bounds = ahead.interval(0.8)
        for name, value in (("predicted", ahead.median), ("low_80", bounds.low), ("high_80", bounds.high)):
            line[name] = f"{value:.6g}"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = truth_parser(__doc__)
    parser.add_argument("--surrogates", type=int, default=1000, help="simulated data sets a theta")
    arguments = parser.parse_args(argv)
    started = time.perf_counter()
    lines = read_rows(arguments.truth)
    groups = technologies(lines)
    document: dict[str, Any] = {"fitted_on": list(FITTED_ON)}
    if "FL2016" in groups:
        document["study"] = study(groups["FL2016"], arguments.surrogates)
    document["coverage_rows"] = coverages(groups)
    everything: dict[str, tuple[HindcastError, ...]] = {
        dataset: hindcast(improving(part.costs), M, TAUS).errors for dataset, part in groups.items()
    }
    scored = {dataset: errors for dataset, errors in everything.items() if errors}
    print(
        f"\n{'Moore, m=5, theta .63, inflation 1.2':38s}{'n':>7s}{'median':>9s}{'p90':>9s}{'in 50/90/95 %':>16s}"
    )
    by_source = {dataset: errors_of(errors) for dataset, errors in scored.items()}
    for dataset, e in by_source.items():
        inside = "/".join(f"{100 * e['coverage'][level]:.0f}" for level in ("50", "90", "95"))
        print(f"{dataset:38s}{e['n']:7,d}{e['median_ape']:9.1%}{e['p90_ape']:9.1%}{inside:>16s}")
    skipped: Counter[str] = Counter()
    for part in groups.values():
        skipped.update(part.skipped)
        not_improving = sum(len(s.times) for n, s in part.costs.items() if n not in improving(part.costs))
        skipped["the cost does not fall with p <= 0.10"] += not_improving
    pooled = [error for errors in scored.values() for error in errors]
    sectors = {line["technology"]: line["sector"] for line in lines}
    document |= {
        "n": len(pooled),
        "skipped": dict(sorted(skipped.items())),
        "overall": errors_of(pooled) if pooled else None,
        "by_device": {},
        "by_scope": {},
        "by_source": by_source,
        "by_family": {
            sector: errors_of(error for error in pooled if sectors[error.series] == sector)
            for sector in sorted({sectors[error.series] for error in pooled})
        },
    }
    write_json(arguments.json, document)
    if arguments.rows:
        next_year(lines, groups)
        write_rows(arguments.rows, lines)
    print(f"\n{time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
