"""Strategies, and a pilot report, as rows of text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from trainfare.report.escape import terminal_text
from trainfare.report.wording import (
    hardware_label,
    interval,
    machine_label,
    place_label,
    purchase_label,
    short_count,
    usd,
)
from trainfare_core.methods.answer import MethodLine, MethodsAnswer
from trainfare_core.methods.methods import METHODS
from trainfare_core.methods.pilots import PilotLine, PilotReport, sentences
from trainfare_core.number_format import percent
from trainfare_core.recommendation import Interval, Option

_IDENTIFIERS: Final = re.compile(
    r"\b(?:" + "|".join(name for name, facts in METHODS.items() if name not in facts.label) + r")\b"
)
_LABELS: Final[dict[str, str]] = {name: facts.label for name, facts in METHODS.items()}


@dataclass(frozen=True, slots=True)
class StrategyRow:
    """One strategy that has a price, as text."""

    name: str
    picked: bool
    cost: tuple[str, str]
    time: tuple[str, str]
    expected: str
    reach: str
    cheapest: str
    within: str
    quality: str
    machine: str
    hardware: str
    place: str
    trained: str
    work: str
    samples: str
    evidence: str
    knobs: tuple[str, ...]
    notes: tuple[str, ...]


def build_strategy_rows(answer: MethodsAnswer) -> tuple[StrategyRow, ...]:
    """Return every strategy that has a price, best first."""
    return tuple(
        _build_row(line, line.usd, line.hours, line.machine, answer)
        for line in answer.lines
        if line.usd is not None and line.hours is not None and line.machine is not None
    )


def explain_left_out(answer: MethodsAnswer) -> tuple[str, ...]:
    """Return every strategy without a price, and why it has none."""
    return tuple(_left_out(line) for line in answer.lines if line.usd is None)


def describe_pilot(answer: MethodsAnswer) -> tuple[str, ...]:
    """Return what a pilot costs and saves, and its design; empty where none is proposed."""
    pilot = answer.pilot
    if pilot is None:
        return ()
    pays = "it does not pay"
    if pilot.worth_it:
        pays = "it pays"
    elif pilot.saves_usd > pilot.usd:
        pays = "it costs more than a tenth of the cheapest plan, which is too much for a pilot"
    sums = f"{usd(pilot.usd)} for a pilot, {usd(pilot.saves_usd)} expected to be saved"
    return f"{sums}: {pays}", use_labels(pilot.design)


def use_labels(text: str) -> str:
    """Replace the strategies' identifiers by their labels, except one that is a word of its label ("scratch")."""
    return _IDENTIFIERS.sub(lambda found: _LABELS[found[0]], text)


def _build_row(
    line: MethodLine, cost: Interval, hours: Interval, machine: Option, answer: MethodsAnswer
) -> StrategyRow:
    traced = line.traced
    machine_text = f"{place_label(machine)}, {purchase_label(machine.purchase_option)}"
    return StrategyRow(
        name=METHODS[line.strategy].label,
        picked=line.strategy == answer.strategy,
        cost=interval(cost, "usd"),
        time=interval(hours, "h:auto"),
        expected=_format_expected(line),
        reach="target"
        if line.strategy == "full_finetune" and answer.question.target_value is None
        else _format_chance(line.p_reach),
        cheapest=_format_chance(line.p_cheapest),
        within="" if line.p_within is None else percent(line.p_within),
        quality=_quality(line, answer),
        machine=machine_label(machine),
        hardware=hardware_label(machine),
        place=f"{machine_text}, {usd(machine.usd_per_hour)}/h",
        trained=""
        if traced is None
        else f"{short_count(traced.trainable_parameters)} of {short_count(traced.parameters)}",
        work=""
        if traced is None
        else f"{short_count(traced.flops_per_sample, 'FLOP')} a sample, {machine.memory_gib.mid:.3g} GiB a device",
        samples=_format_samples(line),
        evidence=_evidence(line, answer),
        knobs=line.knobs,
        notes=line.notes,
    )


def _format_expected(line: MethodLine) -> str:
    if line.expected_usd is None:
        return "unknown"
    back = "" if line.falls_back_to is None else f", else {METHODS[line.falls_back_to].label}"
    return f"{usd(line.expected_usd)}{back}"


def _format_chance(chance: float | None) -> str:
    return "unknown" if chance is None else percent(chance)


def _quality(line: MethodLine, answer: MethodsAnswer) -> str:
    if line.quality_value is not None:
        value = line.quality_value
        return f"{value.mid:.4g} [{value.low_80:.4g} – {value.high_80:.4g}]"
    if line.quality is None:
        return "unknown"
    if line.strategy == answer.reference:
        return "reference"
    change = line.quality
    return f"{change.mid:+.1f} % [{change.low_80:+.1f} – {change.high_80:+.1f}]"


def _format_samples(line: MethodLine) -> str:
    if line.samples is None:
        return "unknown"
    value = line.samples
    return (
        f"{short_count(value.mid)} samples [{short_count(value.low_80)} – {short_count(value.high_80)}]: "
        f"{line.samples_because}"
    )


def _evidence(line: MethodLine, answer: MethodsAnswer) -> str:
    if line.strategy == answer.reference:
        return "the others are compared with it"
    if not line.analogs:
        return "no similar published comparison, only a rule"
    return f"{line.analogs} similar published comparisons of {len(line.analog_sources)} source(s)"


def _left_out(line: MethodLine) -> str:
    if line.impossible_because:
        return f"{METHODS[line.strategy].label}: not possible: {line.impossible_because}"
    return f"{METHODS[line.strategy].label}: unknown, because {line.unknown_because}"


def render_pilots(report: PilotReport) -> str:
    """Return the ranking as plain text, the same bytes for the same input."""
    better = "higher" if report.higher_is_better else "lower"
    where = "no common step" if report.common_step is None else f"at step {report.common_step:,}"
    lines = [f"Pilots by {report.metric} ({better} is better), {where}:"]
    lines += [_format_line(line) for line in report.lines]
    lines += [f"  - {text}" for text in sentences(report)]
    return "".join(f"{terminal_text(line)}\n" for line in lines)


def _format_line(line: PilotLine) -> str:
    rank = "-" if line.rank is None else f"{line.rank}."
    value = "unknown" if line.value_at_common_step is None else f"{line.value_at_common_step:.4g}"
    final = line.final
    end = (
        "end: unknown"
        if final is None
        else f"end: {final.mid:.4g} [{final.low_80:.4g} - {final.high_80:.4g}]"
    )
    steps = "" if line.steps_to_target is None else f", target reached after {line.steps_to_target:,} steps"
    return f"  {rank:3} {METHODS[line.strategy].label:18} {value:>9}   {end}{steps}"
