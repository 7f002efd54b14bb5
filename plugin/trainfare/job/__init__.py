"""What a user describes: a `TrainingJob`, or a TARGET or LightningCLI configuration that names one. Loads no torch."""

from trainfare.job.batches import Batches, ChosenBatch
from trainfare.job.job_plan import plan_of, steps_per_epoch, trainer_facts
from trainfare.job.live_job import LiveJob, LiveRun
from trainfare.job.missing_here import Missing, missing_here, raised
from trainfare.job.real_limits import REAL_LIMITS, RealLimits
from trainfare.job.script_target import Script, script_of, target_of
from trainfare.job.target import load_job
from trainfare.job.training_job import TrainingJob, built, canonical_precision, is_builder
from trainfare.job.user_code import (
    describe,
    is_of_tracing,
    is_of_user_code,
    place_in_user_code,
    place_of_caller,
)

__all__ = [
    "REAL_LIMITS",
    "Batches",
    "ChosenBatch",
    "LiveJob",
    "LiveRun",
    "Missing",
    "RealLimits",
    "Script",
    "TrainingJob",
    "built",
    "canonical_precision",
    "describe",
    "is_builder",
    "is_of_tracing",
    "is_of_user_code",
    "load_job",
    "missing_here",
    "place_in_user_code",
    "place_of_caller",
    "plan_of",
    "raised",
    "script_of",
    "steps_per_epoch",
    "target_of",
    "trainer_facts",
]
