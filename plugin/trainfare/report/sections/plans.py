"""What there is to say of each ranked option: its plan, why it is or is not the answer, what if, and what starts it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Final, TypeAlias

from trainfare.loops import format_plan
from trainfare.report.batch_scaling import describe_batch, describe_schedule
from trainfare.report.blocks import Block, Bullets, Code, Details, Heading, Line, Span, Text, Where
from trainfare.report.escape import terminal_text
from trainfare.report.facts import interruptions_text
from trainfare.report.headline import picks
from trainfare.report.price_age import price_age, price_date_of
from trainfare.report.rows import plan_label
from trainfare.report.runner_up import compare_options, describe_sensitivity, list_changes
from trainfare.report.sections.ranking import list_page_options
from trainfare.report.wording import (
    batch_text,
    bound_label,
    chance_text,
    cloud_label,
    describe_energy,
    describe_interval,
    describe_machine_place,
    describe_run,
    describe_unused_devices,
    hardware_label,
    has_other_batch,
    list_factors,
    machine_label,
    note_sentence,
    place_label,
    plan_changes_text,
    purchase_label,
    script_lines,
    terms_label,
)
from trainfare_core.number_format import percent
from trainfare_core.prices.commitments import CAPACITY_BLOCK
from trainfare_core.ranking.options.named_options import find_changes
from trainfare_core.recommendation import Option, Recommendation

_STARTERS: Final = {
    **dict.fromkeys(("ec2", "azure_vm", "gce"), "skypilot"),
    "sagemaker": "sagemaker",
    "azure_ml": "azureml",
}
"""What `trainfare export` can start all machines of a service with, beside torchrun; a test compares it with that."""


_OUTPUTS: Final = {"sagemaker": " --output job.json", "azureml": " --output job.yml"}
"""Of targets with several files, which `trainfare export` does not write to standard output."""

PlanFiles: TypeAlias = tuple[str, Option, Mapping[str, str]]
"""Names of a plan, the option, and the text of each file that starts it."""


def build_files_section(files: Sequence[PlanFiles]) -> list[Block]:
    """Return the files that start the named plans, closed."""
    if not files:
        return []
    note = (
        "What trainfare export answer.json --to TARGET --plan NAME --output FILE writes. Copy a file, replace each "
        "word FILL_IN_... in it, and start it as it says; this page starts nothing."
    )
    blocks: list[Block] = [
        Heading("Start it", where=Where.PAGE, on_paper=False),
        Text(note, "dim", Where.PAGE),
    ]
    for names, option, texts in files:
        title = names.replace("best-value", "best value").capitalize()
        place = f"{machine_label(option)} ({describe_machine_place(option)}), {terms_label(option)}"
        blocks.append(Text((Span(title, "strong"), f": {place}: {describe_run(option)}."), where=Where.PAGE))
        # A file that a page cannot show byte for byte is left out: who copies it would start something else.
        blocks += [
            Code(text, label)
            for label, text in texts.items()
            if text == "".join(f"{terminal_text(line)}\n" for line in text.splitlines())
        ]
    return blocks


def build_plans_section(recommendation: Recommendation, as_of: date) -> list[Block]:
    """Return the plan of every option, closed; `as_of` is the day to which the ages of prices are counted."""
    if not recommendation.options:
        return []
    note = (
        "The export reads the JSON of this answer: the file beside the page, or what --format json writes with the "
        "same arguments."
    )
    titles = {option.rank: title for title, option in picks(recommendation)}
    details = (
        _build_details(recommendation, option, as_of, titles.get(option.rank, ""))
        for option in list_page_options(recommendation)
    )
    title = Heading("Plans, and what starts them", where=Where.PAGE, on_paper=False)
    return [title, Text(note, "dim", Where.PAGE), *details]


def _build_details(recommendation: Recommendation, option: Option, as_of: date, title: str) -> Details:
    lines = () if option.trainer is None else script_lines(option.trainer)
    texts = (*lines, plan_changes_text(option).rstrip("."), describe_unused_devices(option).rstrip("."))
    batches = (describe_batch(recommendation, option), describe_schedule(recommendation, option))
    blocks: list[Block] = [Text((Span("Why: ", "strong"), _explain_rank(recommendation, option, title)))]
    if option.trainer is not None:
        blocks.append(Code(format_plan(option.trainer), f"Plan{batch_text(option.trainer)}"))
    lists = (
        (*filter(None, batches), *(f"{text}." for text in texts if text)),
        tuple(_list_what_if(recommendation, option)),
        tuple(map(note_sentence, option.notes)),
        tuple(f"{text}." for text in list_factors(option)),
    )
    blocks += [Bullets(items) for items in lists if items]
    blocks += [Code(text, f"Export to {target}") for target, text in _list_exports(option)]
    return Details(
        option.rank, f"#{option.rank} {machine_label(option)}", _list_facts(option, as_of), tuple(blocks)
    )


def _list_facts(option: Option, as_of: date) -> tuple[tuple[str, str], ...]:
    price = price_date_of(option)
    facts = (
        ("cost", describe_interval(option.run_usd, "usd")),
        ("time", describe_interval(option.run_hours, "h:auto")),
        ("within limits", chance_text(option.probability_within)),
        ("accelerators", hardware_label(option)),
        ("accelerator", option.accelerator),
        ("cloud", cloud_label(option)),
        ("region", option.region),
        ("zone", "" if option.zone is None else place_label(option)),
        ("purchase", purchase_label(option.purchase_option)),
        ("price", f"{terms_label(option)}, of {price.text}, {price_age(price, as_of).text}"),
        ("porting", "needed" if option.needs_porting else "none"),
        ("plan", plan_label(option)),
        ("global batch", f"{option.global_batch_size:,}" if has_other_batch([option]) else ""),
        ("step", f"{describe_interval(option.step_s, 's')}, bound by {bound_label(option.bound_by)}"),
        ("MFU", "" if option.mfu is None else percent(option.mfu)),
        ("memory", f"{describe_interval(option.memory_gib, 'gib')} of {option.device_memory_gib:.3g} GiB"),
        ("energy", describe_energy(option.energy)),
    )
    return tuple((name, value) for name, value in facts if value)


def _explain_rank(recommendation: Recommendation, option: Option, title: str) -> str:
    """Say what an option is best at, its title in the headline, or by what it differs from the answer."""
    answer = recommendation.best(recommendation.objective)
    if option.unmeasured_software:
        return f"A guess, never named cheapest or fastest: {option.rests_on}."
    if answer is None or answer.rank == option.rank:
        return f"It is the {title}." if title else "No option runs the script as it is."
    named = f"It is the {title}. " if title else ""
    compared = compare_options(recommendation, answer, option, "It")
    return f"{named}Beside {machine_label(answer)}, the {_name_objective(recommendation)}: {compared}"


def _name_objective(recommendation: Recommendation) -> str:
    return recommendation.objective.replace("_", " ")


def _list_what_if(recommendation: Recommendation, option: Option) -> Iterator[Line]:
    """Yield what would make an option the answer, and what interruptions mean for it."""
    answer, objective = recommendation.best(recommendation.objective), recommendation.objective
    # What is billed for data in object storage by the hour is not in an answer: no change is named where it counts.
    stored_usd = (
        0.0 if answer is None else answer.cost_parts.object_storage_usd + option.cost_parts.object_storage_usd
    )
    if answer is not None and answer.rank != option.rank and not stored_usd and not option.needs_porting:
        changes = list_changes(
            find_changes(option, answer, objective, recommendation.constraints), answer, option
        )
        if changes:
            sentence = f"it is the {_name_objective(recommendation)} if {', or if '.join(changes)}."
            yield Span("What if: ", "strong"), sentence
    if (
        answer is not None
        and answer.rank == option.rank
        and (sentence := describe_sensitivity(recommendation))
    ):
        yield Span("What if: ", "strong"), sentence
    if option.spot is not None:
        yield Span("Interruptions: ", "strong"), f"{interruptions_text(option)}."


def _list_exports(option: Option) -> Iterator[tuple[str, str]]:
    """Yield each target that starts the machine, with the command that writes its file."""
    if option.trainer is None:
        return
    # A capacity block is booked first: no file of a service can start it.
    services = () if option.purchase_option == CAPACITY_BLOCK else (option.service, *option.also_services)
    # SkyPilot has no type for a machine whose accelerators are added to it, as in n1-standard-4+nvidia-tesla-t4.
    starters = (_STARTERS.get(service) for service in services if "+" not in option.instance_type)
    porting = " --porting" if option.needs_porting else ""
    for target in dict.fromkeys((*starters, "torchrun")):
        if target is not None:
            out = _OUTPUTS.get(target, "")
            yield target, f"trainfare export answer.json --to {target} --plan {option.rank}{porting}{out}"
