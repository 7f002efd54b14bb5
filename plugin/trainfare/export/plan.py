"""The plan that is exported: chosen by its name, with the machines that run the same one."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from trainfare.ledger.place import FILL_IN, LEDGER_VARIABLE, PROJECT_VARIABLE
from trainfare.report.headline import runner_up_option
from trainfare_core.errors import InputError
from trainfare_core.recommendation import (
    PREDICTION_VARIABLE,
    Launch,
    Option,
    PricedPlan,
    Recommendation,
    TrainerArguments,
)

PLAN_NAMES: Final = ("cheapest", "best-value", "own", "runner-up", "fastest", "spot", "other-clouds")
MOST_MACHINES: Final = 5
"""Machines of one file, in the order of the ranking: SageMaker's limit, kept for the others."""
CHECKPOINT_VARIABLE: Final = "TRAINFARE_CHECKPOINTS"
"""Environment variable with the folder for checkpoints, where the target mounts one."""
DATA_VARIABLE: Final = "TRAINFARE_DATA"
"""Environment variable with the folder of the training data, where the settings say what the target mounts there."""
MOST_SLOWER: Final = 2
"""Of two machines in one file: how many times as long as on the first a run may take on the other. The longest of them
is the time limit, so a run that hangs on the first costs at most as many times what it may."""
_AT_99: Final = 2.3263 / 1.2816
"""Of a log-normal quantity: its 99 % end over its 90 % end, in logarithms from the median."""
VISIBLE_VARIABLE: Final = "CUDA_VISIBLE_DEVICES"
"""Environment variable with the GPUs that a process sees, of NVIDIA's and of AMD's software."""


@dataclass(frozen=True, slots=True)
class ExportedFiles:
    """
    What is written for a plan.

    Attributes:
        text: of the file.
        beside: texts of files beside it, by what follows its name without extension.
    """

    text: str
    beside: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class PlanToExport:
    """
    A plan with what starts it.

    Attributes:
        answer: that has it.
        option: the plan.
        trainer: the plan in words of the Trainer.
        alternatives: other machines of the ranking that run the same plan, best first.
        launch: what starts the script.
        ledger: "off", or the address of the bucket where runs are recorded; "": none is known.
    """

    answer: Recommendation
    option: Option
    trainer: TrainerArguments
    alternatives: tuple[Option, ...]
    launch: Launch
    ledger: str = ""

    @property
    def prediction(self) -> str:
        """The plan as the run finds it in its environment."""
        return PricedPlan.from_option(self.option, self.answer.job.optimizer_steps).to_text()

    def list_variables(self, folder: str = "") -> dict[str, str]:
        """
        Return the variables by which a run finds its plan, its ledger and its project.

        Args:
            folder: of a ledger that the target keeps, where no other is known.
        """
        project = {PROJECT_VARIABLE: self.launch.project} if self.launch.project else {}
        ledger = self.ledger or folder or FILL_IN
        return {PREDICTION_VARIABLE: self.prediction, LEDGER_VARIABLE: ledger, **project}

    def list_visible(self, machines: Sequence[Option] = ()) -> dict[str, str]:
        """
        Return the variable that hides the GPUs a plan leaves unused; nothing where it uses all of them.

        Without it a script that takes every visible GPU, as `devices="auto"` does, expects more processes than start.

        Args:
            machines: that a file names; empty: the plan's own.
        """
        devices = self.trainer.devices
        if all(devices >= machine.accelerator_count for machine in machines or (self.option,)):
            return {}
        return {VISIBLE_VARIABLE: ",".join(map(str, range(devices)))} if self.option.service != "tpu" else {}

    def find_machines(self, services: frozenset[str]) -> tuple[Option, ...]:
        """Return the plan's machine and those that run the same plan on the services of a target, none far slower."""
        same = (
            option
            for option in self.alternatives
            if services & {option.service, *option.also_services}
            and find_limit_s(option) <= MOST_SLOWER * find_limit_s(self.option)
        )
        return (self.option, *same)[:MOST_MACHINES]

    def find_limit_s(self, machines: Sequence[Option] = ()) -> int | None:
        """Return the seconds within which 99 of 100 such runs end on each machine; None: the length is not known."""
        return (
            max(map(find_limit_s, machines or (self.option,))) if self.answer.basis == "whole_run" else None
        )

    def list_timeout_words(self, machines: Sequence[Option] = ()) -> list[str]:
        """Return what a shell puts before a command to end it at the limit; nothing where there is none."""
        limit_s = self.find_limit_s(machines)
        # Two minutes to save, as SageMaker leaves.
        return [] if limit_s is None else ["timeout", "--signal=TERM", "--kill-after=120", str(limit_s)]

    def list_command_words(self, folder: str = "") -> list[str]:
        """
        Return what follows `python`, with LightningCLI's flags where the command takes them.

        Args:
            folder: of the checkpoints; "" where the target has none, or writes `list_checkpoint_flags` itself.
        """
        try:
            words = shlex.split(self.launch.command or "FILL_IN_COMMAND")
        except ValueError as error:
            raise InputError(f"the command is not that of a shell: {error}") from error
        if not self.launch.trainer_flags:
            return words
        names = {"devices", "num_nodes", "strategy", "precision", "accumulate_grad_batches"}
        if self.trainer.strategy.endswith(")"):  # an object, which has no word
            names.remove("strategy")
        flags = self.trainer.model_dump(include=names)
        words += [f"--trainer.{name}={value}" for name, value in flags.items()]
        return [*words, *(self.list_checkpoint_flags(folder) if folder else ())]

    def list_checkpoint_flags(self, folder: str) -> list[str]:
        """Return LightningCLI's flags that keep checkpoints in a folder; spot machines go on from the last one."""
        if not self.launch.trainer_flags:
            return []
        flags = [f"--trainer.default_root_dir={folder}"]
        if self.option.spot is not None:
            # Without `dirpath` each start has a folder of its own, in which there is no last checkpoint.
            arguments = (f"dirpath={folder}", f"every_n_train_steps={self.option.spot.save_every_n_steps}")
            flags.append("--trainer.callbacks+=ModelCheckpoint")
            flags += [f"--trainer.callbacks.{argument}" for argument in (*arguments, "save_last=true")]
            flags.append("--ckpt_path=last")
        return flags


def find_limit_s(option: Option) -> int:
    """Return the seconds within which 99 of 100 such runs end on the machine of an option."""
    hours = option.run_hours
    if not hours.mid:
        return 3600
    return math.ceil(3600 * hours.mid * math.exp(_AT_99 * math.log(hours.high_80 / hours.mid)))


def choose_plan(answer: Recommendation, name: str, launch: Launch, *, porting: bool = False) -> PlanToExport:
    """
    Return a plan of an answer by its name.

    Args:
        answer: the ranked answer.
        name: one of `PLAN_NAMES`, or a rank.
        launch: what starts the script.
        porting: take a plan that the script does not run as it is.

    Raises:
        InputError: no plan has the name, or it needs porting, or the answer is of an older version.
    """
    option = find_option(answer, name)
    if option is None:
        because = answer.unknown_because or (
            "no option runs the script as it is: give a rank, and --porting"
            if answer.options and answer.cheapest_rank is None
            else "the answer has none; `trainfare recommend` shows what it has"
        )
        raise InputError(f"--plan {name}: {because}")
    if option.needs_porting and not porting:
        raise InputError(
            f"--plan {name}: the script does not run on {option.machine} as it is; --porting exports it all the same"
        )
    if option.trainer is None or not option.plan_id:
        raise InputError("the answer is of an older trainfare and has no plan: write it again")
    alternatives = tuple(
        other
        for other in answer.options
        if (other.trainer, other.purchase_option, other.arm64_host, other.needs_porting)
        == (option.trainer, option.purchase_option, option.arm64_host, option.needs_porting)
        # A script that was ported to one kind of accelerator runs on that kind alone.
        and (other.accelerator == option.accelerator or not option.needs_porting)
        and other.plan_id != option.plan_id
        and other.rank > (option.rank if option in answer.options else 0)
    )
    return PlanToExport(answer, option, option.trainer, alternatives, launch)


def find_option(answer: Recommendation, name: str) -> Option | None:
    """Return the option that `choose_plan` takes by a name; None where the answer has none."""
    if name == "spot":
        spot = (option for option in answer.options if option.purchase_option == "spot")
        return answer.best_spot or next((option for option in spot if not option.needs_porting), None)
    singles = {"own": answer.own_plan, "other-clouds": answer.other_clouds}
    if name in (*singles, "runner-up"):
        return singles[name] if name in singles else runner_up_option(answer)
    if name in PLAN_NAMES:
        return answer.best({"fastest": "fastest", "best-value": "best_value"}.get(name, "cheapest"))  # type: ignore[arg-type]
    if not name.isdecimal():
        raise InputError(f"--plan {name}: give one of {', '.join(PLAN_NAMES)}, or a rank")
    return next((option for option in answer.options if option.rank == int(name)), None)
