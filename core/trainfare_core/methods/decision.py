"""Decision from draws: expected cost with fallback, chances, reasons for uncertainty, and whether a pilot pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from trainfare_core.methods.answer import PilotPlan
from trainfare_core.methods.choice import Advantage, evidence
from trainfare_core.methods.draws import Outcome, law_applies
from trainfare_core.methods.laws import chinchilla_draws
from trainfare_core.methods.methods import METHOD_NAMES, METHODS, Method
from trainfare_core.methods.question import Question
from trainfare_core.methods.situation import task_of
from trainfare_core.number_format import percent

REACH_BAR: Final = 0.8
"""
Methods that reach the target with at least this chance come first, by cost. Chosen: the level of the intervals.
"""
HOPELESS: Final = 0.5
"""Where every method has a lower chance, none is recommended: it would more likely miss than reach the target."""
SURE: Final = 0.8
"""P(the pick is the cheapest that reaches the target) below which a pilot is considered. Chosen, as `REACH_BAR`."""
FEW_ANALOGS: Final = 5
"""With fewer similar comparisons the evidence is called thin. Chosen."""
IN_PLAY: Final = 0.05
"""P(cheapest that reaches the target) from which a method takes part in a pilot. Chosen."""
PILOT_SHARES: Final = (0.01, 0.03, 0.10)
"""Nested parts of the data in a pilot: three sizes, a factor of ten, for the fit of err = c + a n^-b. Chosen."""
PILOT_RATES: Final = 2
"""Learning rates tried in a pilot: with one, a method may lose by its rate alone."""
PILOT_CAP: Final = 0.10
"""A pilot costs at most this part of the cheapest plan. Chosen: pilots that take more compete with the run itself."""
LEAST_CUT: Final = 0.02
"""
Least factor by which a pilot is shortened to meet its cap. Chosen: a fiftieth of the parts leaves too little to
compare.
"""
RESOLVES: Final = 0.95
"""Chance that a pilot names the better method: pairs of 45 public fine-tuning curves of one schedule were in the
right order in 95-99 % from their last common step."""
RESOLVES_LATE: Final = 0.6
"""The same where a method crosses the others late, as scratch does. Chosen: little above even."""
OSSIFIED_PARAMETERS: Final = 1e7
OSSIFIED_TOKENS: Final = 3e7
"""Models of about 1e6 parameters did better from scratch with more than 1e8 characters, some 3e7 tokens (Hernandez et
al. 2021, "ossification"); the parameters are a chosen margin above."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Chances and expected cost of one method from its draws; the other fields are those of `MethodLine`."""

    outcome: Outcome
    p_cheapest: float | None
    expected_usd: float | None
    falls_back_to: Method | None
    p_within: float | None


@dataclass(frozen=True, slots=True)
class MethodDecision:
    """
    The decision.

    Attributes:
        kind: train, pilot or none.
        pick, runner_up: methods; None where no method can be recommended.
        standings: of every method that has a cost.
        doubts: reasons for which the pick may be wrong.
        pilot: the pilot that would settle it.
        binding: why no method reaches the target.
        nearest: the method that most likely keeps the limits, where none is likely enough to.
    """

    kind: Literal["train", "pilot", "none"]
    pick: Method | None
    runner_up: Method | None
    standings: dict[Method, Standing]
    doubts: tuple[str, ...]
    pilot: PilotPlan | None
    binding: str | None
    nearest: Method | None = None


def decide(
    question: Question, drawn: Mapping[Method, Outcome], *, parameters: float | None
) -> MethodDecision:
    """
    Choose a method, a pilot or neither.

    Args:
        question: the question.
        drawn: the draws of each method that has a cost, at least one.
        parameters: of the model; None where not known.
    """
    standings = _standings(question, drawn)
    ranked = sorted(standings, key=lambda name: _order(question, standings[name], name))
    chances = [outcome.p_reach for outcome in drawn.values()]
    if all(chance is not None and chance < HOPELESS for chance in chances):
        binding = _binding(question, standings, parameters)
        return MethodDecision("none", None, None, standings, (), None, binding)
    pick, runner_up = ranked[0], ranked[1] if len(ranked) > 1 else None
    if not _keeps_limits(question, standings[pick]):
        nearest = max(
            ranked, key=lambda name: (standings[name].p_within or 0.0, -standings[name].outcome.mean_usd)
        )
        return MethodDecision("none", None, None, standings, (), None, None, nearest)
    doubts = _doubts(question, standings, pick, runner_up, parameters)
    pilot = _pilot(standings, pick) if doubts else None
    needed = pilot is not None and (pilot.worth_it or standings[pick].outcome.p_reach is None)
    return MethodDecision("pilot" if needed else "train", pick, runner_up, standings, doubts, pilot, None)


def _standings(question: Question, drawn: Mapping[Method, Outcome]) -> dict[Method, Standing]:
    cheapest = _cheapest(drawn)
    out: dict[Method, Standing] = {}
    for name, outcome in drawn.items():
        chance, fallback, expected = outcome.p_reach, _fallback(outcome, drawn), None
        if outcome.reached is not None:
            rest = 0.0 if fallback is None else float((drawn[fallback].usd * ~outcome.reached).mean())
            expected = outcome.mean_usd + rest
        out[name] = Standing(
            outcome=outcome,
            p_cheapest=None if cheapest is None else float((cheapest == METHOD_NAMES.index(name)).mean()),
            expected_usd=expected,
            falls_back_to=fallback if chance is not None and chance < 1 else None,
            p_within=_p_within(question, outcome),
        )
    return out


def _cheapest(drawn: Mapping[Method, Outcome]) -> NDArray[np.int64] | None:
    """Return for every draw the cheapest method that reaches the target, as an index; -1 where none does."""
    costs = [
        np.where(outcome.reached, outcome.usd, np.inf)
        for outcome in drawn.values()
        if outcome.reached is not None
    ]
    if len(costs) < len(drawn):
        return None
    usd = np.stack(costs)
    index = np.array([METHOD_NAMES.index(name) for name in drawn])[usd.argmin(axis=0)]
    return np.where(np.isfinite(usd.min(axis=0)), index, -1)


def _fallback(outcome: Outcome, drawn: Mapping[Method, Outcome]) -> Method | None:
    """Return the method to try next: the cheapest of those with a higher chance to reach the target."""
    likelier: list[Method] = [
        name for name in drawn if (drawn[name].p_reach or 0.0) > (outcome.p_reach or 0.0)
    ]
    return min(likelier, key=lambda name: drawn[name].mean_usd, default=None)


def _p_within(question: Question, outcome: Outcome) -> float | None:
    if question.max_usd is None and question.deadline_hours is None:
        return None
    within = np.ones(len(outcome.usd), dtype=np.bool_)
    if question.max_usd is not None:
        within &= outcome.usd <= question.max_usd
    if question.deadline_hours is not None:
        within &= outcome.hours <= question.deadline_hours
    return float(within.mean())


def _keeps_limits(question: Question, standing: Standing) -> bool:
    return standing.p_within is None or standing.p_within >= question.confidence


def _order(question: Question, standing: Standing, name: Method) -> tuple[int, int, float, int]:
    """Sort by limits kept, then level of the chance to reach the target, then expected dollars."""
    within = _keeps_limits(question, standing)
    reach = standing.outcome.p_reach
    level = 0 if reach is None or reach >= REACH_BAR else 1 if reach >= HOPELESS else 2
    usd = standing.expected_usd if standing.expected_usd is not None else np.inf
    return (0 if within else 1, level, float(usd), METHOD_NAMES.index(name))


def _doubts(
    question: Question,
    standings: Mapping[Method, Standing],
    pick: Method,
    runner_up: Method | None,
    parameters: float | None,
) -> tuple[str, ...]:
    out: list[str] = []
    reach, cheapest = standings[pick].outcome.p_reach, standings[pick].p_cheapest
    if reach is None:
        out.append(
            "whether the target is reached is unknown: no value that any strategy reaches here is known"
        )
    elif cheapest is not None and cheapest < SURE and runner_up is not None:
        out.append(f"{pick} is the cheapest that reaches the target in {percent(cheapest)} of cases only")
    if reach is not None and reach < REACH_BAR:
        out.append(f"no strategy reaches the target with a chance of {percent(REACH_BAR)}")
    if question.checkpoint == "unknown":
        out.append("how similar the checkpoint's data is to this data is not known")
    if question.thresholded:
        out.append(f"{question.metric} jumps, which the published differences cannot predict")
    picked = [standings[name].outcome.edge for name in (pick, runner_up) if name is not None]
    out += _thin_evidence(question, picked)
    small = parameters is not None and parameters < OSSIFIED_PARAMETERS
    much = (question.tokens or 0.0) > OSSIFIED_TOKENS
    if small and much and task_of(question.domain) == "pretraining":
        out.append("a small model with this much data may do better from scratch (ossification)")
    return tuple(out)


def _thin_evidence(question: Question, edges: Sequence[Advantage | None]) -> list[str]:
    if task_of(question.domain) == "unknown":
        return [f"no published comparison is of the kind {question.domain!r}"]
    out: list[str] = []
    for edge in edges:
        if edge is not None and (edge.analogs < FEW_ANALOGS or len(edge.sources) < 2):
            count = f"{edge.analogs} comparison{'' if edge.analogs == 1 else 's'}"
            out.append(f"only {count} of {len(edge.sources)} source(s) are similar: {edge.because}")
            break
    rows = evidence()
    sizes = rows.samples[(rows.domain == question.domain) & ~np.isnan(rows.samples)]
    size = question.situation(METHOD_NAMES).samples
    if size is not None and len(sizes) and not 0.1 * sizes.min() <= size <= 10 * sizes.max():
        out.append(
            f"{size:,.0f} samples are more than ten times outside what was published for {question.domain}"
        )
    return out


def _pilot(standings: Mapping[Method, Standing], pick: Method) -> PilotPlan | None:
    """Return the pilot, shortened to a tenth of the cheapest plan, and its expected saving."""
    if len(standings) < 2 and standings[pick].outcome.p_reach is not None:
        return None
    in_play: tuple[Method, ...] = tuple(
        name
        for name in METHOD_NAMES
        if name in standings
        and (standings[name].p_cheapest is None or (standings[name].p_cheapest or 0) >= IN_PLAY)
    ) or (pick,)
    plan_usd = [float(np.median(standings[name].outcome.usd)) for name in in_play]
    starts_usd = [standings[name].outcome.startup_usd for name in in_play]
    startup_usd = max(starts_usd)
    share = sum(PILOT_SHARES) * PILOT_RATES
    wanted_usd = share * sum(max(0.0, plan - start) for plan, start in zip(plan_usd, starts_usd, strict=True))
    cap_usd = PILOT_CAP * min(plan_usd)
    # One machine runs them all: its start is paid in any case; the rest is cut to the cap, to a fiftieth at most.
    cut = min(1.0, max(LEAST_CUT, (cap_usd - startup_usd) / wanted_usd)) if wanted_usd > 0 else 1.0
    usd = startup_usd + cut * wanted_usd
    largest = cut * max(PILOT_SHARES)
    saves = _saving_usd(standings, pick)
    late = any(METHODS[name].crosses_late for name in in_play)
    worth = saves * (RESOLVES_LATE if late else RESOLVES)
    return PilotPlan(
        usd=usd,
        saves_usd=saves,
        worth_it=worth > usd and usd <= cap_usd,
        strategies=in_play,
        data_share=max(largest, 1e-9),
        design=(
            f"{', '.join(in_play)}: nested parts of the data up to {percent(largest, 1)}, each with its own complete "
            f"schedule, {PILOT_RATES} learning rates, 100 steps or more; FareMeter(pilot=..., report_dir=...) records "
            "the curves, then: trainfare strategy ... --pilot runs/*/trainfare-curve.json"
        ),
    )


def _saving_usd(standings: Mapping[Method, Standing], pick: Method) -> float:
    """Return E[cost of the pick, with fallback] - E[cost of the cheapest that reaches the target]."""
    mine, fallback = standings[pick].outcome, standings[pick].falls_back_to
    best_usd = np.full(len(mine.usd), np.inf)
    for standing in standings.values():
        outcome = standing.outcome
        if outcome.reached is None:
            return mine.mean_usd
        best_usd = np.minimum(best_usd, np.where(outcome.reached, outcome.usd, np.inf))
    spent = mine.usd
    if fallback is not None and mine.reached is not None:
        spent = spent + standings[fallback].outcome.usd * ~mine.reached
    known = np.isfinite(best_usd)
    return float(max(0.0, (spent[known] - best_usd[known]).sum() / len(spent)))


def _binding(question: Question, standings: Mapping[Method, Standing], parameters: float | None) -> str:
    """Name the limit that keeps the target out of reach."""
    best: Method = max(standings, key=lambda name: standings[name].outcome.p_reach or 0.0)
    chance = standings[best].outcome.p_reach or 0.0
    if law_applies(question, best) and parameters and question.target_value is not None:
        term = chinchilla_draws(np.zeros((1, 3))).binding_term(question.target_value, parameters)
        words = {
            "E": "the target lies below the entropy of the text (term E)",
            "A/N": f"{parameters:,.0f} parameters are too few for it with any amount of data (term A/N)",
            "B/D": "the data are too few even when repeated (term B/D)",
        }
        return f"{words[term]}; chance {percent(chance)}"
    value = standings[best].outcome.value
    reaches = "" if value is None else f": it is predicted to reach {float(np.median(value)):.4g}"
    return f"the gap to the target is too wide even for {best}{reaches} (chance {percent(chance)})"
