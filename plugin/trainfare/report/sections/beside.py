"""What is said beside the ranking: nearest runs, the plan, start-up, input, spot machines and other clouds."""

from __future__ import annotations

from trainfare.loops import format_plan
from trainfare.report.cost_driver import describe_cost_driver
from trainfare.report.facts import compare_spot, interruptions_text
from trainfare.report.first_screen_texts import (
    describe_commitment,
    describe_earlier_runs,
    describe_nodes,
    describe_quota,
    describe_unknowns,
)
from trainfare.report.headline import list_named_options, picks
from trainfare.report.price_age import price_date_of
from trainfare.report.runner_up import compare_runner_up, describe_sensitivity
from trainfare.report.wording import (
    batch_text,
    cloud_label,
    describe_machine_place,
    describe_run,
    hardware_label,
    machine_label,
    plan_changes_text,
    purchase_label,
    script_lines,
)
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import figures, percent
from trainfare_core.recommendation import Option, Recommendation


def write_texts_beside(recommendation: Recommendation, profile: JobProfile | None = None) -> tuple[str, ...]:
    """
    Return what there is to say, a paragraph each; what the first screen leaves out is among them.

    Args:
        recommendation: the ranked answer.
        profile: of the job, if available: says how often checkpoints are written.
    """
    _, option = next(iter(picks(recommendation)), (None, None))
    named = list_named_options(recommendation)
    texts = (
        *_list_alternatives(recommendation),
        f"{compare_runner_up(recommendation)} {describe_sensitivity(recommendation)}".strip(),
        "" if option is None else _describe_plan(option),
        describe_quota(named),
        describe_earlier_runs(recommendation),
        describe_cost_driver(named, profile),
        describe_unknowns(named),
        describe_nodes(recommendation),
        describe_commitment(recommendation),
        "" if option is None or recommendation.job.input_known else _describe_loader(option),
        _describe_spot(recommendation),
        _describe_other_clouds(recommendation),
        _describe_guesses(recommendation),
    )
    return tuple(text for text in texts if text)


def _describe_guesses(recommendation: Recommendation) -> str:
    guesses = (option.rests_on for option in recommendation.options if option.unmeasured_software)
    reasons = "; ".join(dict.fromkeys(guesses))
    return f"Unknown: {reasons}. Their figures are guesses." if reasons else ""


def _list_alternatives(recommendation: Recommendation) -> list[str]:
    """Return what would give an answer, where there is none."""
    return [
        f"{alternative.change[:1].upper()}{alternative.change[1:]}: {machine_label(alternative.option)} "
        f"({describe_machine_place(alternative.option)}), {describe_run(alternative.option)} "
        f"at its price of {price_date_of(alternative.option).text}: {alternative.flag}"
        for alternative in recommendation.alternatives
    ]


def _describe_plan(option: Option) -> str:
    """Return the Trainer's arguments for the first option of the headline, and what they change of the script."""
    if option.trainer is None:
        return ""
    changes = f" {plan_changes_text(option)}".rstrip()
    lines = "".join(f" {line}." for line in script_lines(option.trainer))
    return (
        f"Plan of #{option.rank}{batch_text(option.trainer)}: {format_plan(option.trainer)}.{lines}{changes}"
    )


def _describe_loader(option: Option) -> str:
    """Say what an input pipeline that was not measured must do for the first option of the headline."""
    if option.loader_samples_per_s_per_vcpu is None:
        return ""
    counted = "no time is counted for it" if option.loader is None else "published rates stand for it"
    return (
        f"The input pipeline was not measured, and {counted}: #{option.rank} needs "
        f"about {figures(option.loader_samples_per_s_per_vcpu)} samples a second from each vCPU. "
        "--loader-samples-per-s-per-vcpu states what yours makes."
    )


def _describe_spot(recommendation: Recommendation) -> str:
    """Say what the cheapest spot machine would cost, and by how much that is less than the cheapest ranked one."""
    option = recommendation.best_spot
    named = any(alternative.option.purchase_option == "spot" for alternative in recommendation.alternatives)
    if option is None and recommendation.no_spot_because and not named:
        return f"No spot machine is offered: {recommendation.no_spot_because}."
    if option is None or named:
        return ""
    saving = compare_spot(recommendation, option)
    less = f", {percent(saving)} less than the cheapest above" if saving > 0 else ""
    return (
        f"Spot is not ranked. The cheapest, {machine_label(option)} ({describe_machine_place(option)}), would cost "
        f"{describe_run(option)} at its price of {price_date_of(option).text}{less}, with "
        f"{interruptions_text(option)}. --purchase spot ranks them."
    )


def _describe_other_clouds(recommendation: Recommendation) -> str:
    """Say what the cheapest quote of the clouds that were not ranked would cost."""
    option = recommendation.other_clouds
    if option is None:
        return ""
    purchase = purchase_label(option.purchase_option)
    return (
        f"Not ranked: quotes of other clouds. The cheapest, {cloud_label(option)} {machine_label(option)} "
        f"({hardware_label(option)}, {purchase}), would cost {describe_run(option)} at its quote of "
        f"{price_date_of(option).text}; its host's network, disks and availability are not known. "
        "--all-clouds ranks them."
    )
