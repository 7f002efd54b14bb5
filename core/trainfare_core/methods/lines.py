"""Lines of the answer, sorted, and its sentence, from traces, prices and draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from trainfare_core.arrays import Column
from trainfare_core.methods.answer import Change, MethodLine, MethodsAnswer, TracedFacts
from trainfare_core.methods.decision import MethodDecision, Standing, decide
from trainfare_core.methods.draws import Found, Priced, ReachedBy, Sizes, outcomes
from trainfare_core.methods.methods import METHOD_NAMES, METHODS, Method
from trainfare_core.methods.question import Question
from trainfare_core.number_format import figures, hours_text, percent
from trainfare_core.prices.facts import PriceBookFacts
from trainfare_core.recommendation import Interval


def answer_of(
    question: Question,
    strategy_outcomes: Sequence[Found],
    *,
    name: str,
    tool_version: str,
    pilots: Mapping[Method, ReachedBy] | None = None,
    pilot_notes: Sequence[str] = (),
    price_books: tuple[PriceBookFacts, ...] = (),
    assumptions: Sequence[str] = (),
) -> MethodsAnswer:
    """
    Answer a question.

    Args:
        question: the question.
        strategy_outcomes: one entry a method.
        name: of the job.
        tool_version: of trainfare.
        pilots: final values predicted from pilots.
        pilot_notes: limits of the pilots, in sentences.
        price_books: facts of the prices used.
        assumptions: in addition to those of the question.
    """
    priced = [outcome for outcome in strategy_outcomes if isinstance(outcome, Priced)]
    lines = [
        _write_unpriced_line(outcome) for outcome in strategy_outcomes if not isinstance(outcome, Priced)
    ]
    if priced:
        reference, sizes = _reference(question, priced), _find_sizes(strategy_outcomes)
        drawn = outcomes(question, priced, reference=reference, sizes=sizes, pilots=pilots or {})
        decision = decide(question, drawn, parameters=sizes.parameters)
        sentence = _write_sentence(question, decision)
        lines += [_write_priced_line(standing) for standing in decision.standings.values()]
        lines.sort(key=lambda line: _place(line, decision))
    else:
        reference, decision = None, MethodDecision("none", None, None, {}, (), None, None)
        reasons = (
            f"{outcome.strategy}: {outcome.unknown_because or outcome.impossible_because}"
            for outcome in strategy_outcomes
        )
        sentence = f"No strategy has a price: {'; '.join(reasons)}."
    return MethodsAnswer(
        tool_version=tool_version,
        name=name,
        question=question,
        kind=decision.kind,
        strategy=decision.pick,
        runner_up=decision.runner_up,
        sentence=sentence,
        doubts=decision.doubts,
        pilot=decision.pilot,
        reference=reference,
        lines=tuple(lines),
        assumptions=(*question.list_assumptions(), *assumptions, *pilot_notes),
        price_books=price_books,
    )


def _reference(question: Question, priced: Sequence[Priced]) -> Method:
    """Return the method that quality is relative to: full fine-tuning, else the known one, else the first."""
    there = [priced_strategy.strategy for priced_strategy in priced]
    candidates: tuple[Method, ...] = ("full_finetune", question.known_strategy, *reversed(METHOD_NAMES))
    return next(name for name in candidates if name in there)


def _find_sizes(outcomes: Sequence[Found]) -> Sizes:
    """Return the parameters of the model and of its adapters from the first traces that have them."""
    traced = [
        (METHODS[outcome.strategy].trains, outcome.profile)
        for outcome in outcomes
        if outcome.profile is not None
    ]
    model = [
        sum(g.count for g in profile.parameters) for trains, profile in traced if trains == "all weights"
    ]
    adapters = [profile.trainable_parameters for trains, profile in traced if trains == "adapters"]
    return Sizes(
        parameters=next((float(count) for count in model), None),
        lora_parameters=next((float(count) for count in adapters if count), None),
    )


def _write_unpriced_line(outcome: Found) -> MethodLine:
    unknown = outcome.unknown_because
    if unknown is None:
        unknown = "how long to train is not known: give the number of samples, or the job's own plan"
    return MethodLine(
        strategy=outcome.strategy,
        impossible_because=outcome.impossible_because,
        unknown_because=unknown if outcome.impossible_because is None else None,
        traced=_collect_traced_facts(outcome),
        knobs=outcome.knobs,
        notes=outcome.notes,
    )


def _write_priced_line(standing: Standing) -> MethodLine:
    outcome = standing.outcome
    priced_strategy, edge = outcome.priced, outcome.edge
    step = None if priced_strategy.profile is None else priced_strategy.profile.global_samples_per_step
    samples = _make_interval(outcome.samples)
    return MethodLine(
        strategy=priced_strategy.strategy,
        traced=_collect_traced_facts(priced_strategy),
        knobs=priced_strategy.knobs,
        samples=samples,
        samples_because=priced_strategy.amount.because,
        optimizer_steps=None if not step else math.ceil(samples.mid / step),
        machine=priced_strategy.option,
        usd=_make_interval(outcome.usd),
        hours=_make_interval(outcome.hours),
        quality=None if outcome.quality_pct is None else Change(**_quantiles(outcome.quality_pct)),
        quality_value=None if outcome.value is None else _make_interval(outcome.value),
        p_reach=outcome.p_reach,
        p_within=standing.p_within,
        p_cheapest=standing.p_cheapest,
        expected_usd=standing.expected_usd,
        falls_back_to=standing.falls_back_to,
        analogs=0 if edge is None else edge.analogs,
        analog_sources=() if edge is None else edge.sources,
        notes=priced_strategy.notes,
    )


def _collect_traced_facts(outcome: Found) -> TracedFacts | None:
    profile = outcome.profile
    if profile is None:
        return None
    samples = profile.batch.samples_per_step
    packed = 2 if METHODS[outcome.strategy].packs_weights else 1
    return TracedFacts(
        parameters=sum(
            group.count * (packed if group.dtype == "int8" else 1) for group in profile.parameters
        ),
        trainable_parameters=profile.trainable_parameters,
        flops_per_sample=profile.step_flops / samples if samples else 0.0,
        optimizer_state_bytes=profile.optimizer.state_bytes,
        saved_activation_bytes=profile.memory.saved_activation_bytes,
        weights_bytes=profile.parameter_bytes,
    )


def _quantiles(values: Column) -> dict[str, float]:
    """Return the 10, 50 and 90 % quantiles of the finite values; zeros where there are none."""
    finite = values[np.isfinite(values)]
    low, mid, high = np.quantile(finite, (0.1, 0.5, 0.9)).tolist() if len(finite) else (0.0, 0.0, 0.0)
    return {"low_80": low, "mid": mid, "high_80": high}


def _make_interval(values: Column) -> Interval:
    return Interval(**_quantiles(values))


def _place(line: MethodLine, decision: MethodDecision) -> tuple[int, float, int]:
    best = (decision.pick or decision.nearest, decision.runner_up)
    if line.strategy in best:
        level = best.index(line.strategy)
    else:
        level = 2 if line.usd is not None else 3 if line.unknown_because is not None else 4
    usd = line.expected_usd if line.expected_usd is not None else math.inf
    return level, usd, METHOD_NAMES.index(line.strategy)


def _write_sentence(question: Question, decision: MethodDecision) -> str:
    target = (
        f"within {question.within_pct:g} % of full fine-tuning"
        if question.target_value is None
        else f"{question.metric} {question.target_value:g}"
    )
    name = decision.pick or decision.nearest
    if name is None:
        return f"No strategy reaches the target ({target}), because {decision.binding}."
    standing = decision.standings[name]
    outcome = standing.outcome
    usd, option = _make_interval(outcome.usd), outcome.priced.option
    run = (
        f"{name}: ${usd.mid:,.2f} (80 %: ${usd.low_80:,.2f} to ${usd.high_80:,.2f})"
        f" on {option.nodes} x {option.machine}"
    )
    if decision.pick is None:
        return (
            f"Nothing fits {_name_limits(question)} with a probability of {percent(question.confidence)}. The nearest "
            f"is {run}, in {hours_text(_make_interval(outcome.hours).mid)}: its chance is "
            f"{percent(standing.p_within or 0.0)}."
        )
    if outcome.p_reach is None:
        run += f", with an unknown chance to reach {target}."
    elif name == "full_finetune" and question.target_value is None:
        run += "; the target is measured against it."  # that it reaches itself is no news
    else:
        run += f", with a chance of {percent(outcome.p_reach)} to reach {target}."
    if decision.kind == "pilot" and decision.pilot is not None:
        return f"Unknown: run a pilot of ${decision.pilot.usd:,.2f}. The best guess so far is {run}"
    return f"Train with {run}"


def _name_limits(question: Question) -> str:
    limits = [] if question.max_usd is None else [f"the budget of ${figures(question.max_usd)}"]
    if question.deadline_hours is not None:
        limits.append(f"the deadline of {hours_text(question.deadline_hours)}")
    return " and ".join(limits)
