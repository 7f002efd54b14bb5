"""Puts together what was read, traced and measured: one `JobProfile`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

import torch

from trainfare.meter.run_facts import RunFacts
from trainfare.meter.run_plan import PlannedRun
from trainfare.meter.timing.step_timer import StepTimes
from trainfare.trace.step_facts import StepFacts
from trainfare_core.job_profile import BatchFacts, JobProfile, MeasuredStep, ProfileSource, Quantiles

__all__ = ["BatchSizes", "measured_profile"]

LONGEST_NOTE = 500


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """
    Samples of one micro-batch on one device.

    Attributes:
        micro_batch_size: None where nobody can tell.
        tokens: of one micro-batch, where the batch says.
        notes: what had to be assumed.
    """

    micro_batch_size: int | None
    tokens: int | None
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls, told: int | None, loader: int | None, seen: Sequence[int | None], tokens: Sequence[int | None]
    ) -> BatchSizes:
        """
        Decide between what the user said, what the loader says and what the shapes say, in that order.

        Args:
            told: `FareMeter(batch_size=...)`.
            loader: batch size of the training DataLoader.
            seen: samples by shape, one for every batch looked at.
            tokens: tokens by shape.
        """
        known = [size for size in seen if size]
        notes: list[str] = []
        size = told or loader
        if size is None and known and len(known) == len(seen):
            size = median_low(known)
            if min(known) != max(known):
                notes.append(f"the batch size varies from {min(known)} to {max(known)}: {size} is taken")
        if size is None:
            notes.append("the number of samples in a batch is not known: give FareMeter(batch_size=...)")
        counted = [count for count in tokens if count]
        return cls(size, median_low(counted) if counted else None, tuple(notes))


def measured_profile(
    facts: RunFacts,
    plan: PlannedRun,
    step: StepFacts,
    sizes: BatchSizes,
    *,
    batches_per_step: float,
    times: StepTimes | None,
    validation_batch: Quantiles | None,
    peak_memory_bytes: int | None,
    compiled: bool,
    notes: Sequence[str],
) -> JobProfile:
    """
    Return the profile of a run.

    Args:
        facts: device, precision, strategy.
        plan: how long the run is.
        step: what one optimizer step does.
        sizes: samples of a micro-batch.
        batches_per_step: micro-batches in one optimizer step.
        times: the measured window; None where there were not enough steps.
        validation_batch: seconds of one validation batch.
        peak_memory_bytes: of the device; None on a CPU.
        compiled: the user's step runs under torch.compile.
        notes: what was assumed or could not be seen.
    """
    from trainfare_core._version import __version__

    micro = sizes.micro_batch_size
    weights_bytes = sum(group.parameter_bytes for group in step.parameters) + step.memory.buffer_bytes
    every_note = [*notes, *step.notes, *plan.notes, *sizes.notes]
    return JobProfile(
        name=facts.name,
        source=ProfileSource(
            how=step.how,
            tool_version=__version__,
            torch_version=str(torch.__version__),
            compiled=compiled or step.compiled,
        ),
        precision=facts.precision,
        operations=step.operations,
        parameters=step.parameters,
        optimizer=step.optimizer,
        memory=step.memory,
        batch=BatchFacts(
            micro_batch_size=micro,
            samples_per_step=None if micro is None else round(micro * batches_per_step),
            tokens_per_step=None if sizes.tokens is None else round(sizes.tokens * batches_per_step),
        ),
        parallel=facts.parallel.model_copy(
            update={"accumulate_grad_batches": max(1, round(batches_per_step))}
        ),
        plan=plan.run_plan(weights_bytes=weights_bytes, state_bytes=step.optimizer.state_bytes),
        measured=None if times is None else _measured(facts, times, validation_batch, peak_memory_bytes),
        notes=tuple(dict.fromkeys(note[:LONGEST_NOTE] for note in every_note)),
    )


def _measured(
    facts: RunFacts, times: StepTimes, validation_batch: Quantiles | None, peak_memory_bytes: int | None
) -> MeasuredStep:
    # Only on CPU and CUDA does a phase on the host's side, or an event on the device's, mean what it says.
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
        validation_batch=validation_batch,
        peak_memory_bytes=peak_memory_bytes,
        loader_workers=facts.loader_workers,
        software=facts.software,
    )
