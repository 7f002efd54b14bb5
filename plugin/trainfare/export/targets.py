"""`TARGETS`: what a plan can be exported to, and the services whose machines each of them starts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from trainfare.export.azureml import export_azureml
from trainfare.export.plan import ExportedFiles, PlanToExport, choose_plan, find_option
from trainfare.export.sagemaker import export_sagemaker
from trainfare.export.skypilot import SERVICES, export_skypilot
from trainfare.export.torchrun import export_torchrun
from trainfare.job import command_of
from trainfare.ledger.place import find_ledger
from trainfare.prices.run_cost_table import read_one_table
from trainfare_core.errors import InputError
from trainfare_core.ledger.run_record import OFF
from trainfare_core.recommendation import Launch, Option, Recommendation

TARGETS: Final[Mapping[str, tuple[Callable[[PlanToExport], ExportedFiles], frozenset[str]]]] = {
    "skypilot": (export_skypilot, SERVICES),
    "sagemaker": (export_sagemaker, frozenset({"sagemaker"})),
    "azureml": (export_azureml, frozenset({"azure_ml"})),
    "torchrun": (export_torchrun, frozenset()),
}
"""What makes the files of each target, and the services whose machines it starts; none: those that are there."""


def export_plan(answer: Recommendation, target: str, name: str, *, porting: bool = False) -> ExportedFiles:
    """
    Return the files that start a plan of an answer.

    Args:
        answer: the ranked answer.
        target: of `TARGETS`.
        name: of the plan, see `choose_plan`.
        porting: take a plan that the script does not run as it is.

    Raises:
        InputError: no such plan, one that the target does not start, or settings that cannot be read.
    """
    stated = read_one_table("export", Launch)
    launch = (answer.launch or Launch()).model_copy(update=dict(stated.model_dump(exclude_unset=True)))
    place = find_ledger()
    ledger = OFF if place is None else "" if isinstance(place.folder, Path) else place.folder.address
    plan = replace(choose_plan(answer, name, launch, porting=porting), ledger=ledger)
    write, services = TARGETS[target]
    option = plan.option
    if services and not services & {option.service, *option.also_services}:
        ranks = (
            other.rank
            for other in answer.options
            if services & {other.service, *other.also_services} and not other.needs_porting
        )
        rank = next(ranks, None)
        there = "the answer has none" if rank is None else f"the first is --plan {rank}"
        raise InputError(
            f"--plan {name} is {option.machine} of {option.service}, and {target} starts machines of "
            f"{', '.join(sorted(services))}: {there}; rank those alone with recommend --service"
        )
    if option.purchase_option == "capacity_block" and services:
        raise InputError(f"--plan {name} is a capacity block, which is booked first: no file can start it")
    return write(plan)


def export_named_plans(answer: Recommendation) -> Iterator[tuple[str, Option, dict[str, str]]]:
    """Yield each plan that a page names: its names, the option, and the texts that `trainfare export` writes for it."""
    plans: dict[str, tuple[Option, list[str]]] = {}
    first = answer.objective.replace("_", "-")
    for name in dict.fromkeys((first, "runner-up", "cheapest", "best-value", "fastest", "spot")):
        if (option := find_option(answer, name)) is not None:
            plans.setdefault(option.plan_id, (option, []))[1].append(name)
    for option, names in plans.values():
        texts: dict[str, str] = {}
        for target in TARGETS:
            with contextlib.suppress(InputError):  # it does not start that machine, or not so long a run
                files = export_plan(answer, target, names[0])
                # What to fill in stands on top of a file, but in JSON: a page beside it says so, and comes first.
                ends = sorted({"": files.text, **files.beside}.items(), key=lambda end: end[0] != ".md")
                texts |= {f"{target}: FILE{end}": text for end, text in ends}
        if texts:
            yield ", ".join(names), option, texts


def read_launch(target: str, folder: Path = Path()) -> Launch:
    """
    Return what an answer's JSON says of the launch of a TARGET: its command, and the places that the settings state.

    Args:
        target: as on the command line; that of a profile file has no command.
        folder: of the settings, from which the command runs.

    Raises:
        InputError: a table `export` that cannot be read.
    """
    stated = read_one_table("export", Launch, folder)
    command = command_of(target)
    if command is not None:  # a path under the folder is the same on the machine that runs it
        command = command.replace(f"{folder.absolute()}/", "")
    return Launch(
        command=stated.command or command,
        trainer_flags=stated.trainer_flags or (command or "").startswith("FILL_IN_SCRIPT.py fit"),
        project=stated.project or folder.absolute().name or None,
        data=stated.data,
        checkpoints=stated.checkpoints,
    )
