"""The `JobProfile` of a metered run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from trainfare.meter.metered_run import MeteredRun
from trainfare.meter.timing.step_timer import StepTimes
from trainfare.trace import StepFacts, group_parameters
from trainfare.trace.batch_spread import MeanWork, join_variations
from trainfare_core.installation import __version__
from trainfare_core.job_profile import (
    MAX_TEXT_CHARACTERS,
    BatchFacts,
    JobProfile,
    MeasuredStep,
    ProfileSource,
)
from trainfare_core.number_format import shorten_text


def build_measured_profile(run: MeteredRun, step: StepFacts, notes: Sequence[str]) -> JobProfile:
    """
    Return the profile of a run.

    Args:
        run: after its window was closed.
        step: operations, parameters and memory of one optimizer step.
        notes: what was assumed or could not be measured.
    """
    progress = run.progress
    facts, plan, sizes = progress.facts, progress.plan(), progress.sizes()
    # The samples of a profile are those of the batch that was traced.
    smaller = run.traced.smaller_samples
    micro = smaller or sizes.micro_batch_size
    tokens = sizes.tokens
    work = None if smaller else step.mean_work(run.traced.spread)
    mean = work or step
    norms = step.batch_norms.synchronize(asked=facts.sync_batchnorm)
    weights_bytes = sum(group.parameter_bytes for group in step.parameters) + step.memory.buffer_bytes
    every_note = [*notes, *facts.notes, *step.notes, *plan.notes, *sizes.notes]
    if smaller and sizes.micro_batch_size:
        tokens = None if tokens is None else round(tokens * smaller / sizes.micro_batch_size)
        every_note.append(
            f"the batch that was traced is the incomplete last one of an epoch: FLOPs and samples are of batches of "
            f"{smaller} samples, where others have {sizes.micro_batch_size}: no whole one ended in a step in time"
        )
    noise_scale = None
    if run.noise is not None:
        noise_scale, noise_note = run.measure_noise()
        every_note.append(noise_note)
    if facts.replicas is None:
        every_note.append(
            f"the samples of a step are not known: the strategy {facts.parallel.strategy} does not say over how many "
            "copies of the model they are shared"
        )
    return JobProfile(
        name=facts.name,
        source=ProfileSource(
            how=step.how,
            tool_version=__version__,
            torch_version=str(torch.__version__),
            compiled=run.traced.method.compiled,
            loop=facts.loop,
            in_loop=True,
        ),
        precision=facts.precision,
        operations=mean.operations,
        modules=mean.modules,
        parameters=group_parameters([(p, False) for p in run.loop.frozen_parameters], step.parameters),
        optimizer=step.optimizer,
        memory=mean.memory,
        batch=BatchFacts(
            micro_batch_size=micro,
            samples_per_step=None
            if micro is None or facts.replicas is None
            else round(micro * progress.batches_per_step),
            tokens_per_step=None if tokens is None else round(tokens * progress.batches_per_step),
            input=progress.input,
            batch_norm=bool(norms.of_device),
            synchronized_norms=norms.synchronized_norms,
            variation=join_variations(None if work is None else work.variation, step.variation),
            noise_scale_samples=noise_scale,
            scales=run.loop.complete_length(progress.length).scales,
        ),
        parallel=facts.parallel.model_copy(
            update={"accumulate_grad_batches": max(1, round(progress.batches_per_step))}
        ),
        plan=plan.run_plan(weights_bytes=weights_bytes, state_bytes=step.optimizer.state_bytes),
        measured=None
        if run.window.times is None
        else _build_measured_step(run, run.window.times, step, work),
        work_note=step.differs or None,
        notes=tuple(dict.fromkeys(shorten_text(note, MAX_TEXT_CHARACTERS) for note in every_note)),
    )


def _build_measured_step(
    run: MeteredRun, times: StepTimes, step: StepFacts, work: MeanWork | None
) -> MeasuredStep:
    facts, window = run.progress.facts, run.window
    ratio = run.traced.work_of_the_window(step)
    if run.traced.smaller_samples:
        ratio *= (run.progress.sizes().micro_batch_size or 0) / run.traced.smaller_samples or 1.0
    if work is not None and window.spread.batches:
        ratio *= work.over_mean(window.spread.median())
    # On other devices an operation runs later than the host's call of it, so host marks do not time the phases.
    phases = facts.device_kind in ("cpu", "cuda")
    name = torch.cuda.get_device_name(facts.device) if facts.device_kind == "cuda" else facts.device.type
    return MeasuredStep(
        device_name=name,
        device_kind=facts.device_kind,
        steps=times.steps,
        step=times.step,
        data_wait=times.data_wait,
        transfer=times.transfer if phases else None,
        forward=times.forward if phases else None,
        backward=times.backward if phases else None,
        optimizer=times.optimizer if phases else None,
        validation_batch=window.validation.batch_quantiles(),
        work_ratio=ratio,
        peak_memory_bytes=window.peak_memory_bytes,
        loader_workers=facts.loader_workers,
        machine=run.settings.machine or run.services.processor(),
        software=facts.software,
    )
