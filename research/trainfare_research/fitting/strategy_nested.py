"""
Constants of the choice of a method, fitted on some of the published comparisons only.

What a rule expects is the weighted mean of its studies' medians; where no comparison of its own is left, that of all
rules of its family. The weights of comparisons and the limits of the rules are searched one after another, each value
scored on studies left out of the rules and of the evidence. The search begins at round values and takes another value
only where the score is better. The conditions of the rules are not searched: they were written with these comparisons
known.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from trainfare_core.methods.choice import Comparison, Evidence, advantage
from trainfare_core.methods.methods import Method
from trainfare_core.methods.prior import RULES, ChoiceConstants, ExpectedAdvantage, find_rule
from trainfare_core.methods.situation import Situation

_STUDY: Final = re.compile(r"^(he2019|qlora|vpetl|automodel|tllib|nanogpt|simclr)")

ROUND: Final = ChoiceConstants(
    same_task=0.5,
    same_modality=0.1,
    other_modality=0.05,
    unlike_metric=0.05,
    both_conserve=0.5,
    unknown_size=0.5,
    across_few=0.5,
)
"""
Round values of what is not searched. Chosen: of `same_task`, `same_modality`, `both_conserve` and `unknown_size`, each
varied alone by a factor of two to four, none moved the share of winners by more than 0.02.
"""
GRID: Final[Mapping[str, tuple[float, ...]]] = {
    "source_power": (0.5, 0.75, 1.0),
    "decades": (1.0, 0.5, 0.25),
    "other_metric": (0.5, 1.0),
    "few_samples": (5e3, 2e4, 1e5),
    "rule_weight": (3.0, 6.0),
}
"""Values of each constant, the search begins at the first. Chosen: round, a factor of two or more apart."""
LEAST_DEVIATION_PCT: Final = 1.0
"""Of one comparison of one seed: repeated runs of most tasks differ by about one percent. Chosen."""
KEPT: Final[frozenset[str]] = frozenset({"packed", "starved"})
"""Not fitted. Weights in 4 bits are the same training with noise, so that they are not expected to gain; and no
comparison is starved of text, which Chinchilla's law is for."""


def study_of(source: str) -> str:
    """Return the group of authors of a source."""
    match = _STUDY.match(source)
    return match[1] if match else source


def fit_constants(rows: Sequence[Comparison], kept: frozenset[str] = KEPT) -> ChoiceConstants:
    """Return the constants that score best on `rows`, each study left out in turn."""
    values = {name: candidates[0] for name, candidates in GRID.items()}
    best = compute_loss(rows, values, kept)
    for name, candidates in GRID.items():
        for candidate in candidates[1:]:
            tried = {**values, name: candidate}
            loss = compute_loss(rows, tried, kept)
            if loss < best:
                best, values = loss, tried
    base = _apply_values(values)
    return replace(base, rules=fit_rules(observe(rows, base), base, values["rule_weight"], kept))


def compute_loss(rows: Sequence[Comparison], values: Mapping[str, float], kept: frozenset[str]) -> float:
    """
    Return the mean square of the chances' errors on studies left out, over all pairs of methods.

    A study counts as the root of its comparisons: a new study is what is predicted, and those of one are correlated.
    """
    known = Evidence.of(rows)
    studies = np.array([study_of(row.source) for row in rows])
    base, weight = _apply_values(values), values["rule_weight"]
    told = list(observe(rows, base))
    total, counted = 0.0, 0.0
    for study in sorted(set(studies.tolist())):
        mine = studies == study
        rest = known.where(~mine)
        fitted = replace(
            base, rules=fit_rules((value for value in told if value[1] != study), base, weight, kept)
        )
        chances: dict[tuple[Situation, Method, Method], float] = {}
        errors = [
            _compute_error(row, rest, fitted, chances) for row, out in zip(rows, mine, strict=True) if out
        ]
        total += len(errors) ** 0.5 * float(np.mean(errors))
        counted += len(errors) ** 0.5
    return total / counted


def _compute_error(
    row: Comparison,
    known: Evidence,
    constants: ChoiceConstants,
    chances: dict[tuple[Situation, Method, Method], float],
) -> float:
    """Return the error of a row; comparisons of one study often share a situation, so that `chances` keeps them."""
    errors = []
    for method, over in itertools.combinations(row.advantage_pct, 2):
        actual = np.sign(row.advantage_pct[method] - row.advantage_pct[over])
        key = (row.situation, method, over)
        if key not in chances:
            chances[key] = advantage(*key, known, constants).p_better
        errors.append((chances[key] - 0.5 * (1.0 + float(actual))) ** 2)
    return float(np.mean(errors))


def _apply_values(values: Mapping[str, float]) -> ChoiceConstants:
    weights: dict[str, Any] = {name: value for name, value in values.items() if name != "rule_weight"}
    return replace(ROUND, **weights)


def observe(rows: Iterable[Comparison], constants: ChoiceConstants) -> Iterator[tuple[str, str, float]]:
    """Yield each rule that speaks of a pair of a comparison, the study, and what was published of the pair."""
    for row in rows:
        situation, study = row.situation, study_of(row.source)
        for method, over in itertools.combinations(row.advantage_pct, 2):
            rule, factor = find_rule(situation, method, over, constants)
            if rule is not None and factor != 0:
                yield rule, study, (row.advantage_pct[method] - row.advantage_pct[over]) / factor


def fit_rules(
    observed: Iterable[tuple[str, str, float]],
    constants: ChoiceConstants,
    weight: float,
    kept: frozenset[str],
) -> dict[str, ExpectedAdvantage]:
    """Return what each rule expects by what `observe` yields; a rule in `kept` stays."""
    by_rule: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for rule, study, value in observed:
        by_rule[rule][study].append(value)
        by_rule[_family_of(rule)][study].append(value)
    out: dict[str, ExpectedAdvantage] = {}
    for rule, expected in RULES.items():
        studies = by_rule.get(rule) or by_rule.get(_family_of(rule)) or {"none": [0.0]}
        out[rule] = expected if rule in kept else _fit_rule(expected, studies, constants.source_power, weight)
    return out


def _fit_rule(
    expected: ExpectedAdvantage, studies: Mapping[str, list[float]], power: float, weight: float
) -> ExpectedAdvantage:
    counts = np.array([len(values) ** power for values in studies.values()])
    middle = float(np.average([np.median(values) for values in studies.values()], weights=counts))
    apart = [float(np.median(np.abs(np.array(values) - middle))) for values in studies.values()]
    deviation = max(1.4826 * float(np.average(apart, weights=counts)), LEAST_DEVIATION_PCT)
    return replace(expected, mean_pct=round(middle, 1), deviation_pct=round(deviation, 1), weight=weight)


def _family_of(rule: str) -> str:
    if rule.startswith(("scratch", "starved")):
        return "scratch over a probe" if "probe" in rule else "scratch over a checkpoint"
    return f"{rule.split('_')[0]} of any kind"
