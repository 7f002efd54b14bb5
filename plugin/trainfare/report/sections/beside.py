"""What is said beside the ranking: nearest runs, the plan, start-up, input, spot machines and other clouds."""

from __future__ import annotations

from datetime import date
from typing import Final

from trainfare.report.facts import interruptions_text
from trainfare.report.headline import picks
from trainfare.report.rows import ranking_row
from trainfare.report.wording import batch_text, format_plan, plan_changes_text, script_lines
from trainfare_core.number_format import figures, percent
from trainfare_core.recommendation import Recommendation

_MOSTLY: Final = 0.5
"""A run whose start-up is at least this part of its cost is dominated by it. A chosen value."""


def write_texts_beside(recommendation: Recommendation, as_of: date) -> tuple[str, ...]:
    """
    Return what there is to say, a paragraph each.

    Args:
        recommendation: the ranked answer.
        as_of: the day of the report, to which the ages of prices are counted.
    """
    texts = (
        *_list_alternatives(recommendation, as_of),
        _describe_plan(recommendation),
        _describe_startup(recommendation),
        _describe_loader(recommendation),
        _describe_spot(recommendation, as_of),
        _describe_other_clouds(recommendation, as_of),
    )
    return tuple(text for text in texts if text)


def _list_alternatives(recommendation: Recommendation, as_of: date) -> list[str]:
    """Return what would give an answer, where there is none."""
    lines: list[str] = []
    for each in recommendation.alternatives:
        row = ranking_row(each.option, as_of)
        (dollars, dollar_range), (time, time_range) = row.run_usd, row.run_time
        lines.append(
            f"{each.change[:1].upper()}{each.change[1:]}: {row.machine} ({row.cloud}, {row.hardware}, {row.region}), "
            f"{dollars} [{dollar_range}] in {time} [{time_range}] at its price of {row.price_date}: {each.flag}"
        )
    return lines


def _describe_plan(recommendation: Recommendation) -> str:
    """Return the Trainer's arguments for the first option of the headline, and what they change of the script."""
    _, option = next(iter(picks(recommendation)), (None, None))
    if option is None or option.trainer is None:
        return ""
    changes = f" {plan_changes_text(option)}".rstrip()
    lines = "".join(f" {line}." for line in script_lines(option.trainer))
    return (
        f"Plan of #{option.rank}{batch_text(option.trainer)}: {format_plan(option.trainer)}.{lines}{changes}"
    )


def _describe_startup(recommendation: Recommendation) -> str:
    """Say that the run of the headline is mostly start-up, where it is."""
    _, option = next(iter(picks(recommendation)), (None, None))
    if option is None or option.run_usd.mid <= 0:
        return ""
    share = option.cost_parts.startup_usd / option.run_usd.mid
    if share < _MOSTLY:
        return ""
    return (
        f"{percent(share)} of the cost of #{option.rank} is its start-up before the first step: faster machines cost "
        "more here and save little time."
    )


def _describe_loader(recommendation: Recommendation) -> str:
    """Say what an input pipeline that was not measured must do for the first option of the headline."""
    _, option = next(iter(picks(recommendation)), (None, None))
    if recommendation.job.input_known or option is None or option.loader_samples_per_s_per_vcpu is None:
        return ""
    return (
        f"The input pipeline was not measured, and no time is counted for it: #{option.rank} needs "
        f"about {figures(option.loader_samples_per_s_per_vcpu)} samples a second from each vCPU. "
        "--loader-samples-per-s-per-vcpu states what yours makes."
    )


def _describe_spot(recommendation: Recommendation, as_of: date) -> str:
    """Say what the cheapest spot machine would cost, and by how much that is less than the cheapest ranked one."""
    option = recommendation.best_spot
    named = any(each.option.purchase_option == "spot" for each in recommendation.alternatives)
    if option is None and recommendation.no_spot_because and not named:
        return f"No spot machine is offered: {recommendation.no_spot_because}."
    if option is None or named:
        return ""
    row = ranking_row(option, as_of)
    (dollars, dollar_range), (time, time_range) = row.run_usd, row.run_time
    ranked = [one.run_usd.mid for one in recommendation.options if not one.needs_porting]
    saving = 1 - option.run_usd.mid / min(ranked) if ranked and min(ranked) > 0 else 0.0
    less = f", {percent(saving)} less than the cheapest above" if saving > 0 else ""
    return (
        f"Spot is not ranked. The cheapest, {row.machine} ({row.cloud}, {row.hardware}, {row.region}), would cost "
        f"{dollars} [{dollar_range}] in {time} [{time_range}] at its price of {row.price_date}{less}, with "
        f"{interruptions_text(option)}. --purchase spot ranks them."
    )


def _describe_other_clouds(recommendation: Recommendation, as_of: date) -> str:
    """Say what the cheapest quote of the clouds that were not ranked would cost."""
    option = recommendation.other_clouds
    if option is None:
        return ""
    row = ranking_row(option, as_of)
    (dollars, dollar_range), (time, time_range) = row.run_usd, row.run_time
    return (
        f"Not ranked: quotes of other clouds. The cheapest, {row.cloud} {row.machine} ({row.hardware}, "
        f"{row.purchase}), would cost {dollars} [{dollar_range}] in {time} [{time_range}] at its quote of "
        f"{row.price_date}; its host's network, disks and availability are not known. --all-clouds ranks them."
    )
