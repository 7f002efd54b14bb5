"""What an answer says about its job."""

from __future__ import annotations

from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.source import input_pipeline
from trainfare_core.ranking.options.options import round_figure
from trainfare_core.recommendation import JobSummary


def job_summary(profile: JobProfile) -> JobSummary:
    """Return what an answer says about its job."""
    measured, variation = profile.measured, profile.batch.variation
    return JobSummary(
        name=profile.name,
        precision=profile.precision,
        parameters=sum(group.count for group in profile.parameters),
        trainable_parameters=profile.trainable_parameters,
        step_flops=profile.step_flops,
        batch_flops=None if variation is None else (variation.smallest_flops, variation.largest_flops),
        work_note=profile.work_note,
        optimizer_steps=profile.plan.optimizer_steps,
        steps_note=profile.plan.steps_note,
        global_batch_size=profile.global_samples_per_step,
        trace_coverage=round_figure(profile.coverage),
        input_known=input_pipeline(profile).worker_s is not None,
        measured_on=None if measured is None else measured.device_name,
        measured_step_s=None if measured is None else measured.step.median_s,
    )
