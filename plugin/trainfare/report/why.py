"""The answer of `trainfare why` as text."""

from __future__ import annotations

import textwrap

from trainfare.loops import format_plan
from trainfare.report.batch_scaling import describe_quality, describe_schedule
from trainfare.report.escape import terminal_text
from trainfare.report.first_screen_texts import describe_loader
from trainfare.report.wording import plan_changes_text, script_lines
from trainfare_core.ranking.alternatives.why_not import WhyNot, run_text
from trainfare_core.ranking.options.rejections import REASON_WORDS
from trainfare_core.recommendation import Option


def why_text(answer: WhyNot, *, width: int) -> str:
    """
    Return the sentence; then what rejects the other offers of a ranked machine, or what would admit a rejected one.

    Args:
        answer: why a machine is not the answer.
        width: columns.
    """
    lines = [f"{answer.sentence}."]  # it begins with the name of a machine or a number
    if answer.option is not None:
        if answer.option.trainer is not None:
            lines.append(f"Plan: {format_plan(answer.option.trainer)}.")
            lines += [f"{line}." for line in script_lines(answer.option.trainer)]
        lines += _describe_batch(answer, answer.option)
        if answer.option.plan_changes:
            lines.append(plan_changes_text(answer.option))
        lines += [loader] if (loader := describe_loader(answer.option)) else []
        lines += [f"Note: {note.text}." for note in answer.option.notes]
        lines += [
            f"Not ranked: {item.count:,} of its {answer.offers:,} prices: {REASON_WORDS[item.reason]} ({item.detail})."
            for item in answer.rejections
        ]
    lines += [
        f"{alternative.flag}: {alternative.change}, {run_text(alternative.option)}."
        for alternative in answer.alternatives
    ]
    return "".join(f"{textwrap.fill(terminal_text(line), width, break_on_hyphens=False)}\n" for line in lines)


def _describe_batch(answer: WhyNot, option: Option) -> list[str]:
    """Name the global batch of a plan that has another than the script, that of the answer, and what each costs."""
    best = answer.best
    if option.batch_ratio == 1 and (best is None or best.batch_ratio == 1):
        return []
    named = [("", option)] if best is None else [("", option), ("the answer's: ", best)]
    texts = [
        f"{whose}{one.global_batch_size:,}"
        + ("" if one.optimizer_steps is None else f" in {one.optimizer_steps:,.0f} steps")
        for whose, one in named
        if one.global_batch_size
    ]
    costs = [f"{whose}{text}" for whose, one in named if (text := describe_quality(answer, one))]
    lines = (f"Global batch {'; '.join(texts)}.", *costs, describe_schedule(answer, option))
    return [f"{line[:1].upper()}{line[1:]}" for line in lines if line]
