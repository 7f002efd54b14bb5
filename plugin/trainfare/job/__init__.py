"""What a user describes: a `TrainingJob`, or a TARGET or LightningCLI configuration that names one. Loads no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainfare.job.missing_here import describe_raised, missing_here
from trainfare.job.real_limits import REAL_LIMITS, RealLimits
from trainfare.job.script_target import (
    ALL_CALLS,
    RANK_OF_ONE,
    Probe,
    Script,
    command_of,
    script_of,
    target_of,
)
from trainfare.job.user_code import (
    describe,
    format_line,
    is_users_file,
    place_in_user_code,
    place_of_caller,
)

if TYPE_CHECKING:
    from trainfare.job.job_plan import plan_of, steps_per_epoch, with_steps
    from trainfare.job.live_job import LiveJob, LiveRun
    from trainfare.job.target import load_job
    from trainfare.job.training_job import Batches, ChosenBatch, TrainingJob, is_builder

__all__ = [
    "ALL_CALLS",
    "RANK_OF_ONE",
    "REAL_LIMITS",
    "Batches",
    "ChosenBatch",
    "LiveJob",
    "LiveRun",
    "Probe",
    "RealLimits",
    "Script",
    "TrainingJob",
    "command_of",
    "describe",
    "describe_raised",
    "format_line",
    "is_builder",
    "is_users_file",
    "load_job",
    "missing_here",
    "place_in_user_code",
    "place_of_caller",
    "plan_of",
    "script_of",
    "steps_per_epoch",
    "target_of",
    "with_steps",
]

_HOMES = {
    "job_plan": ("plan_of", "steps_per_epoch", "with_steps"),
    "live_job": ("LiveJob", "LiveRun"),
    "target": ("load_job",),
    "training_job": ("Batches", "ChosenBatch", "TrainingJob", "is_builder"),
}
"""Modules of this package and the names that each defines."""


def __getattr__(name: str) -> Any:
    # A command on a finished profile describes no job: 25 ms.
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
