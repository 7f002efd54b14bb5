"""What is said of a plan above every exported file, and what the user fills in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from trainfare.export.plan import CHECKPOINT_VARIABLE, DATA_VARIABLE, VISIBLE_VARIABLE, PlanToExport
from trainfare.loops import format_plan
from trainfare.report import wording
from trainfare.report.escape import terminal_text
from trainfare_core.number_format import hours_text
from trainfare_core.recommendation import Launch, Option

_FILL_IN: Final = re.compile(r"FILL_IN_[A-Z_]+")
_TO_FILL_IN: Final[Mapping[str, str]] = {
    "COMMAND": "what follows `python`: the script with its arguments",
    "SCRIPT": "the script of the LightningCLI",
    "IMAGE": "container image with the packages of the script",
    "ACCOUNT": "AWS account by its number, or Azure storage account by its name",
    "ROLE": "role that the job takes; the settings have its whole ARN",
    "BUCKET": "S3 bucket of the code and of the output",
    "CHECKPOINTS": "bucket that keeps checkpoints, e.g. s3://bucket/folder",
    "LEDGER": "bucket where runs leave their records, e.g. s3://bucket/folder, which the machines may write into; else "
    "they stay on the machine (TRAINFARE_LEDGER, or folder in the table ledger of trainfare.toml)",
    "SETUP": "command that installs the packages of the script, e.g. pip install -r requirements.txt",
}


def list_fill_ins(text: str) -> list[str]:
    """Return each word of a text that the user replaces, with what it is."""
    names = dict.fromkeys(word.removeprefix("FILL_IN_") for word in _FILL_IN.findall(text))
    return [
        f"Fill in FILL_IN_{name}: {_TO_FILL_IN[name]}"
        + (
            f" ({name.lower()} in the table export of trainfare.toml)."
            if name.lower() in Launch.model_fields
            else "."
        )
        for name in names
        if name in _TO_FILL_IN
    ]


def list_facts(
    plan: PlanToExport, body: str, how: str, machines: Sequence[Option] = (), *, stop: str
) -> list[str]:
    """
    Return what is said above the text of a file, what is to be filled in first.

    Args:
        plan: what the file starts.
        body: the text.
        how: how the file is started.
        machines: that the file names, in its order; empty: it names none.
        stop: what happens at the time limit.
    """
    option, answer = plan.option, plan.answer
    limits = answer.constraints
    asked = [
        *([] if limits.max_usd is None else [wording.usd(limits.max_usd)]),
        *([] if limits.deadline_hours is None else [f"{limits.deadline_hours:g} h"]),
    ]
    facts = [
        *list_fill_ins(body),
        (
            f"Plan {option.plan_id} of {answer.job.name}: {wording.machine_label(option)} "
            f"({wording.describe_machine_place(option)}), {wording.terms_label(option)}."
        ),
        f"Predicted{wording.describe_basis(answer)}: {wording.describe_run(option)}, 80 % intervals.",
    ]
    if asked and option.probability_within is not None:
        facts.append(
            f"Chance to keep {' and '.join(asked)}: {wording.chance_text(option.probability_within)}."
        )
    facts += [
        f"If that cannot be had: {wording.machine_label(machine)} ({wording.describe_machine_place(machine)}), "
        f"{wording.terms_label(machine)}: {wording.describe_run(machine)}."
        for machine in machines[1:]
    ]
    folder = f"os.environ['{CHECKPOINT_VARIABLE}']" if CHECKPOINT_VARIABLE in body else "..."
    if option.spot is not None and not (plan.launch.trainer_flags and CHECKPOINT_VARIABLE in body):
        facts.append(
            "The machine may be taken back: "
            f"{_describe_saving(plan.trainer.code, option.spot.save_every_n_steps, folder)}."
        )
    facts += [
        f"The script must have {format_plan(plan.trainer)}{wording.batch_text(plan.trainer)}.",
        *(f"{line}." for line in wording.script_lines(plan.trainer)),
        wording.plan_changes_text(option),
        _describe_unused(option, body),
        f"Write checkpoints to the folder that {CHECKPOINT_VARIABLE} names."
        * (CHECKPOINT_VARIABLE in body and option.spot is None),
        f"Read the data from the folder that {DATA_VARIABLE} names." * (DATA_VARIABLE in body),
        "The script does not run there as it is: port it first." if option.needs_porting else "",
        *map(wording.note_sentence, option.notes),
        _describe_limit(plan, machines, stop),
        how,
    ]
    return [terminal_text(fact) for fact in facts if fact]


def _describe_limit(plan: PlanToExport, machines: Sequence[Option], stop: str) -> str:
    limit_s = plan.find_limit_s(machines)
    if limit_s is None:
        return "No time limit: the length of the run is not known."
    slowest = ", on the slowest of these machines" if len(machines) > 1 else ""
    each = " of each start" if plan.option.spot is not None else ""
    return (
        f"Time limit{each}: {hours_text(limit_s / 3600)}; if the interval holds, 99 of 100 runs end within it"
        f"{slowest}. Then {stop}. Checkpoints that were written stay."
    )


def _describe_unused(option: Option, body: str) -> str:
    text = wording.describe_unused_devices(option)
    return (
        f"{text.removesuffix('.')}: {VISIBLE_VARIABLE} hides the others."
        if VISIBLE_VARIABLE in body
        else text
    )


def _describe_saving(code: str, steps: int, folder: str) -> str:
    """Return how a script saves so often and goes on from its last checkpoint, by the words of its plan."""
    if not code:
        return (
            f"the Trainer must have ModelCheckpoint(dirpath={folder}, save_last=True, every_n_train_steps={steps}), "
            "and fit(..., ckpt_path='last') goes on"
        )
    if code.startswith("TrainingArguments"):
        return (
            f"it must have TrainingArguments(output_dir={folder}, save_steps={steps}), "
            "and train(resume_from_checkpoint=True) goes on"
        )
    where = "" if folder == "..." else f" to {folder}"
    return f"save every {steps:,} steps{where}, and go on from the last checkpoint"
