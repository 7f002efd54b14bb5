"""
Score the choice of a strategy on published comparisons left out of its evidence.

    python -m trainfare_research.runners.strategy --truth transfer_results.csv [--json OUT] [--rows OUT.csv]
    python -m trainfare_research.runners.strategy --truth learning_curves.csv [--json OUT]

Every comparison is answered with its whole study (group of authors) and every comparison of its domain left out, of
the evidence and of all that is fitted: what the rules of `prior` expect, the weights of comparisons and the limits of
the rules (`fitting/strategy_nested.py`, minutes), the interval's width and the threshold to answer at. `--rules all`
fits also the rule that QLoRA gains nothing over LoRA. `--leave-out source --rules shipped` is the easier protocol of
earlier versions: only the source of the scored row is left out, and the shipped rules, which were written with these
comparisons known, stay.

Baselines: always full fine-tuning; LoRA when offered; `pick_by_rules` by domain and size, which were tuned on these
rows; and "prior", the strategy that won most of the other sources' comparisons in any domain. Learning curves are
scored by `strategy_curves.py`.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainfare_core.methods.choice import Comparison, Evidence, comparisons
from trainfare_core.methods.methods import METHOD_NAMES, Method
from trainfare_core.methods.prior import CONSTANTS, FEW_SAMPLES, ChoiceConstants
from trainfare_core.number_format import percent
from trainfare_research.fitting import strategy_curves
from trainfare_research.fitting.strategy import constants, judge_comparison
from trainfare_research.fitting.strategy_choice import MethodChoice, choose
from trainfare_research.fitting.strategy_nested import KEPT, fit_constants, study_of
from trainfare_research.fitting.strategy_rows import ComparisonCase, read_cases, reference_of
from trainfare_research.truth_table import read_rows, truth_parser, write_json

SHARES = {"50": (0.25, 0.75), "80": (0.1, 0.9), "90": (0.05, 0.95)}
RISK_AT = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
LEFT_OUT: dict[str, Callable[[Comparison], frozenset[str]]] = {
    "source": lambda row: frozenset({row.source}),
    "study": lambda row: frozenset({study_of(row.source)}),
    "domain": lambda row: frozenset({study_of(row.source), row.domain}),
}
"""Names of which one shared with the scored comparison leaves another out."""
RULES_KEPT: dict[str, frozenset[str] | None] = {
    "shipped": None,
    "fitted": KEPT,
    "all": KEPT - {"packed"},
}
"""Rules that are not fitted again; None keeps all constants as they are shipped."""


@dataclass(frozen=True)
class AdvantageBand:
    """The interval of one strategy's advantage over the reference, 100 ln(ratio)."""

    strategy: Method
    low_80: float
    high_80: float
    inside: dict[str, bool]


@dataclass(frozen=True)
class ScoredComparison:
    """One comparison with its answer."""

    case: ComparisonCase
    choice: MethodChoice
    answered: bool
    bands: tuple[AdvantageBand, ...]


def answer(
    cases: list[ComparisonCase],
    names_of: Callable[[Comparison], frozenset[str]],
    kept: frozenset[str] | None,
    shipped: Sequence[Comparison],
) -> list[ScoredComparison]:
    """Answer every case from the comparisons that share no name with it; see `LEFT_OUT` and `RULES_KEPT`."""
    scored: dict[int, ScoredComparison] = {}
    for left_out in sorted({names_of(case.comparison) for case in cases}, key=sorted):
        rows = [row for row in shipped if not names_of(row) & left_out]
        known = Evidence.of(rows)
        weights = CONSTANTS if kept is None else fit_constants(rows, kept)
        factor, bar = constants(rows, known, weights)
        for index, case in enumerate(cases):
            if names_of(case.comparison) == left_out:
                scored[index] = _score_case(case, known, weights, factor, bar)
    return [scored[index] for index in range(len(cases))]


def _score_case(
    case: ComparisonCase, known: Evidence, weights: ChoiceConstants, factor: float, bar: float
) -> ScoredComparison:
    choice = choose(case.comparison.situation, known, weights)
    bands = []
    for name, edge, actual in judge_comparison(case.comparison, known, weights):
        limits = {
            key: (edge.quantile_pct(low, widening=factor), edge.quantile_pct(high, widening=factor))
            for key, (low, high) in SHARES.items()
        }
        inside = {key: low - 1e-9 <= actual <= high + 1e-9 for key, (low, high) in limits.items()}
        low_80, high_80 = limits["80"]
        bands.append(AdvantageBand(name, low_80, high_80, inside))
    return ScoredComparison(case, choice, choice.p_best > bar, tuple(bands))


def baselines(known: Evidence) -> dict[str, Callable[[ComparisonCase], Method]]:
    """Return the four baselines; only the last uses `known`."""
    return {
        "always_full_finetune": lambda case: first_of(case, "full_finetune"),
        "lora_when_offered": lambda case: first_of(case, "lora"),
        "rule_r": pick_by_rules,
        "prior": lambda case: most_wins(case, known.without(case.comparison.source)),
    }


def first_of(case: ComparisonCase, strategy_wanted: Method) -> Method:
    """Return a strategy where it is offered, else the one most like full fine-tuning."""
    order: tuple[Method, ...] = (strategy_wanted, "full_finetune", "lora", "scratch", "linear_probe", "qlora")
    return next(name for name in order if name in case.values)


def pick_by_rules(case: ComparisonCase) -> Method:
    """Return the pick of fixed rules by domain, size and metric, which were tuned on these rows."""
    row = case.comparison
    if row.domain in ("llm-cpt", "llm-pt"):
        return first_of(case, "full_finetune")
    few = row.samples is not None and row.samples <= FEW_SAMPLES
    if few or row.domain in ("llm-ift", "nlp-glue", "nlp-nlg"):
        return first_of(case, "lora")
    return first_of(case, "linear_probe" if "OOD" in row.metric else "full_finetune")


def most_wins(case: ComparisonCase, known: Evidence) -> Method:
    """Return the offered strategy that won the largest share of its pairs, in any domain."""

    def share(strategy: Method) -> float:
        others = [known.advantage_of(strategy, other) for other in case.values if other != strategy]
        tried = np.concatenate([values[~np.isnan(values)] for values in others])
        return float(((tried > 0) + 0.5 * (tried == 0)).mean()) if len(tried) else 0.5

    return max((name for name in METHOD_NAMES if name in case.values), key=share)


def figures(picks: list[tuple[ComparisonCase, Method]]) -> dict[str, Any]:
    """Return how good picks were, as fractions; macro figures are means over sources."""
    regrets = np.array([case.regret(pick) for case, pick in picks])
    wins = np.array([case.values[pick] == case.best for case, pick in picks])
    sources = np.array([case.comparison.source for case, _ in picks])
    by_source = [sources == name for name in sorted(set(sources.tolist()))]
    return {
        "n": len(picks),
        "winner": float(wins.mean()),
        "within_1pct": float((regrets <= 0.01).mean()),
        "mean_regret": float(regrets.mean()),
        "macro_winner": float(np.mean([wins[mine].mean() for mine in by_source])),
        "macro_regret": float(np.mean([regrets[mine].mean() for mine in by_source])),
    }


def score(scored: list[ScoredComparison]) -> dict[str, Any]:
    """Return the figures of the picks over all cases and over the answered ones, and the intervals' coverage."""
    out = figures([(row.case, row.choice.strategy) for row in scored])
    answered = [(row.case, row.choice.strategy) for row in scored if row.answered]
    bands = [band for row in scored for band in row.bands]
    out["answered"] = len(answered)
    out["of_answered"] = figures(answered) if answered else None
    out["coverage"] = {
        key: float(np.mean([band.inside[key] for band in bands])) if bands else None for key in SHARES
    }
    return out


def risk_coverage(scored: list[ScoredComparison]) -> list[dict[str, float]]:
    """Return the share of right winners among the most certain cases, for several shares answered."""
    order = sorted(scored, key=lambda row: -row.choice.p_best)
    out = []
    for share in RISK_AT:
        covered = order[: max(1, round(share * len(order)))]
        scores = figures([(row.case, row.choice.strategy) for row in covered])
        out.append({"answered": share, "winner": scores["winner"], "mean_regret": scores["mean_regret"]})
    return out


def report(scored: list[ScoredComparison], skipped: dict[str, int], left_out: str) -> dict[str, Any]:
    """Return everything as JSON-able data."""
    shipped = list(comparisons())
    known = Evidence.of(shipped)
    rivals = baselines(known)

    def rivals_on(rows: list[ScoredComparison]) -> dict[str, Any]:
        return {name: figures([(row.case, pick(row.case)) for row in rows]) for name, pick in rivals.items()}

    by_domain: dict[str, list[ScoredComparison]] = defaultdict(list)
    by_source: dict[str, list[ScoredComparison]] = defaultdict(list)
    for row in scored:
        by_domain[row.case.comparison.domain].append(row)
        by_source[row.case.comparison.source].append(row)
    return {
        **score(scored),
        "skipped": skipped,
        "fitted_on": sorted({row.source for row in shipped}),
        "left_out": left_out,
        "risk_coverage": risk_coverage(scored),
        "baselines": rivals_on(scored),
        "by_domain": {
            name: {**score(rows), "baselines": rivals_on(rows)} for name, rows in sorted(by_domain.items())
        },
        "by_source": {name: score(rows) for name, rows in sorted(by_source.items())},
    }


def write_rows(path: Path, scored: list[ScoredComparison]) -> None:
    """Write one line a comparison and strategy, without the reference."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["source", "domain", "dataset", "model", "metric", "samples", "best", "picked", "p_best",
             "answered", "regret", "strategy", "advantage_pct", "low_80", "high_80"]
        )  # fmt: skip
        for row in scored:
            what, pick = row.case.comparison, row.choice.strategy
            best = next(name for name in METHOD_NAMES if row.case.values.get(name) == row.case.best)
            head = [what.source, what.domain, what.dataset, what.model, what.metric, what.samples, best, pick]
            head += [f"{row.choice.p_best:.3f}", row.answered, f"{row.case.regret(pick):.4f}"]
            reference = what.advantage_pct[reference_of(what.advantage_pct)]
            for band in row.bands:
                actual = what.advantage_pct[band.strategy] - reference
                writer.writerow([*head, band.strategy, f"{actual:.3f}", band.low_80, band.high_80])


def show(out: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{'':24}{'n':>5}{'winner':>8}{'<=1 %':>8}{'regret':>8}{'macro win':>11}{'macro regret':>14}")

    def line(name: str, entry: dict[str, Any]) -> None:
        print(
            f"{name:24}{entry['n']:5}{entry['winner']:8.3f}{entry['within_1pct']:8.3f}{entry['mean_regret']:8.4f}"
            f"{entry['macro_winner']:11.3f}{entry['macro_regret']:14.4f}"
        )

    line("trainfare strategy", out)
    line("  of the answered", out["of_answered"])
    for name, entry in out["baselines"].items():
        line(name, entry)
    for name, entry in out["by_domain"].items():
        line(f"  {name}", entry)
    print("coverage of the intervals:", {key: round(value, 3) for key, value in out["coverage"].items()})
    print(
        "answered: winner",
        {percent(row["answered"]): round(row["winner"], 3) for row in out["risk_coverage"]},
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = truth_parser(__doc__)
    parser.add_argument("--leave-out", choices=list(LEFT_OUT), default="domain")
    parser.add_argument("--rules", choices=list(RULES_KEPT), default="fitted")
    arguments = parser.parse_args(argv)
    if strategy_curves.LOSS in next(iter(read_rows(arguments.truth)), {}):
        curves = strategy_curves.score(strategy_curves.read_runs(arguments.truth))
        strategy_curves.show(curves)
        write_json(arguments.json, curves)
        return
    cases, skipped = read_cases(arguments.truth)
    if not cases:
        sys.exit(f"{arguments.truth.name}: no comparison of two strategies in it: {dict(skipped)}")
    scored = answer(cases, LEFT_OUT[arguments.leave_out], RULES_KEPT[arguments.rules], comparisons())
    group = {"source": "the source", "study": "the study", "domain": "the study and the domain"}
    out = report(scored, dict(skipped), f"{group[arguments.leave_out]} of each scored row")
    show(out)
    write_json(arguments.json, out)
    if arguments.rows:
        write_rows(arguments.rows, scored)


if __name__ == "__main__":
    main()
