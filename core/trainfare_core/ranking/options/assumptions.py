"""What an answer says of its job, and what it assumes, in sentences (part of stage 6)."""

from __future__ import annotations

from trainfare_core.batch_scaling import CriticalBatch, explain_not_predicted, find_critical_batch
from trainfare_core.candidates import own_sharding
from trainfare_core.job_profile import JobProfile
from trainfare_core.number_format import percent, round_figure
from trainfare_core.prediction.breakdown import describe_synchronized_norms
from trainfare_core.prediction.input_pipeline import input_pipeline
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.recommendation import Constraints, CriticalBatchFacts, Interval, JobSummary
from trainfare_core.run_cost.sentences import cost_assumptions
from trainfare_core.variants import why_no_precision, why_no_variant, why_not_split


def _describe_batch(profile: JobProfile, request: Request) -> str:
    machines = f"up to {request.plan_space.node_counts(profile)[-1]} machines of one kind"
    if request.plan_space.scales_weakly(profile):
        return (
            "each device keeps the script's batch: more of them have a larger global batch, and an epoch fewer steps, "
            f"where they share its data; a number of steps that the script states stays; {machines}"
        )
    nearest = (
        ", but where all accelerators cannot share it the nearest batch that they can is trained with, in as "
        "many steps as see the same samples: the learning rate must be set anew and the result may differ"
        if "batch" in request.constraints.allow
        else ""
    )
    return (
        "the global batch stays what the profile trains with: more devices share it, and the number of optimizer "
        f"steps does not change{nearest}; {machines}"
    )


def _plan_assumption(profile: JobProfile, constraints: Constraints) -> str:
    name = profile.parallel.strategy
    kept_text = (
        "each machine runs the fastest strategy and micro-batch that fit"
        if "plan" in constraints.allow
        else f"the script's own strategy ({name}, on several devices {own_sharding(profile).upper()}) and micro-batch "
        "are " + ("kept" if constraints.keep_plan else "kept where they fit, and what is changed is named")
    )
    if profile.batch.batch_norm is None:
        return f"{kept_text}; whether the model has BatchNorm, which sees fewer samples on more devices, is not known"
    sees, changes = (
        ("may see", "changes") if "batch-norm" in constraints.allow else ("never sees", "would change")
    )
    norms: list[str] = []
    if profile.batch.batch_norm:
        norms.append(f"BatchNorm {sees} fewer samples of a device")
    if profile.batch.synchronized_norms is not None:
        norms.append(f"SyncBatchNorm {sees} fewer samples of all devices")
    return (
        f"{kept_text}; {', '.join(norms)} than in the script, which {changes} what is trained"
        if norms
        else kept_text
    )


def assumptions_of(profile: JobProfile, request: Request, notes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the assumptions of an answer, in sentences."""
    constraints = request.constraints
    lines = [
        _describe_batch(profile, request),
        _plan_assumption(profile, constraints),
        (
            "intervals are the central 80 %; an option is feasible when it keeps budget and deadline "
            f"together with {percent(constraints.confidence)} confidence"
        ),
        (
            "machines marked 'needs porting' do not run the script as it is, are never called cheapest "
            "or fastest, and do not push others off the cost-time front"
        ),
    ]
    if not request.all_regions:
        lines.append("each machine is listed once per number of machines, at its cheapest region")
    if constraints.purchase is None:
        lines.append("spot, reserved, savings-plan and capacity-block prices are left out unless asked for")
    if profile.plan.optimizer_steps is None and (constraints.max_usd, constraints.deadline_hours) != (
        None,
        None,
    ):
        lines.append("the length of the run is not known: budget and deadline could not be applied")
    lines += why_no_variant(
        profile, checkpointing="checkpointing" in constraints.allow and not constraints.keep_plan
    )
    if constraints.any_split and (because := why_not_split(profile)):
        lines.append(f"splitting the model is not planned: {because}")
    if constraints.any_precision and (because := why_no_precision(profile)):
        lines.append(because)
    lines += cost_assumptions(profile, constraints.run_cost, constraints.data_gb)
    if profile.batch.synchronized_norms is not None:
        lines.append(describe_synchronized_norms(profile.batch.synchronized_norms))
    lines += [f"profile: {note}" for note in profile.notes]
    return (*lines, *notes)


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
        warmup_steps=profile.plan.warmup_steps,
        global_batch_size=profile.global_samples_per_step,
        scales=profile.batch.scales,
        optimizers=profile.optimizer.names,
        trace_coverage=round_figure(profile.coverage),
        input_known=input_pipeline(profile).is_known,
        measured_on=None if measured is None else measured.device_name,
        measured_step_s=None if measured is None else measured.step.median_s,
    )


def describe_critical_batch(profile: JobProfile, constraints: Constraints) -> CriticalBatchFacts | None:
    """Return from which batch a larger one needs clearly more samples; None where the job's batch is not known."""
    critical = find_critical_batch(profile, constraints.critical_batch)
    if critical is None:
        return None
    if not isinstance(critical, CriticalBatch):
        return CriticalBatchFacts(samples=None, source=None, unknown_because=explain_not_predicted(critical))
    low, mid, high = (
        round_figure(end)
        for end in (critical.interval.low_80, critical.interval.mid, critical.interval.high_80)
    )
    return CriticalBatchFacts(samples=Interval(mid=mid, low_80=low, high_80=high), source=critical.source)
