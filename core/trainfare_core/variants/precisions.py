"""
A job in another precision, from a trace of its step in it.

Only bf16 and fp16 follow from each other, where casts are the same. Which operands mixed precision casts does not
follow from the operations of full precision, and neither do those that the code itself keeps in fp32: for language
models of transformers, half the bytes of full precision are 20 to 30 % less than a trace in bf16 has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from trainfare_core.documents import data_rows
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import JobProfile, OperationGroup, StepInPrecision
from trainfare_core.variants.eight_bits import count_refused_rows

PRECISIONS: Final = ("bf16-mixed", "16-mixed", "bf16-true", "32-true", "transformer-engine")
"""Lightning's precisions that plans may have besides the script's own. fp16 weights are not among them: without a
loss scale small gradients are lost."""

_ROWS: Final = data_rows("precisions.csv")
_COMPUTED_IN: Final = {row["precision"]: row["computed_in"] for row in _ROWS}
_WEIGHT_BITS: Final = {row["precision"]: int(row["weight_bits"]) for row in _ROWS if row["weight_bits"]}
_SAME_CASTS: Final = {row["precision"]: row["same_casts"] for row in _ROWS if row["same_casts"]}
"""The precision whose step differs in the name of the 16-bit type alone, and in the scale of the loss."""
_LOSS_SCALE: Final = "aten._amp_foreach_non_finite_check_and_unscale_"
"""What torch's GradScaler runs before the update: gradients are divided by the scale and searched for inf."""


def find_compute_type(precision: str) -> str:
    """
    Return the type that matrix products of a precision are computed in; "" where it is not known.

    >>> find_compute_type("16-mixed")
    'fp16'
    """
    return _COMPUTED_IN.get(precision, "")


def weight_bits(precision: str) -> int:
    """Return the bits of a trained weight."""
    return _WEIGHT_BITS.get(precision, 32)


def is_known(profile: JobProfile, precision: str) -> bool:
    """Whether the step of a profile is known in a precision: it was traced in it or in one with the same casts."""
    known = _collect_traced_steps(profile)
    return precision in known or _SAME_CASTS.get(precision) in known


def precisions_not_known(profile: JobProfile) -> tuple[str, ...]:
    """Return those of `PRECISIONS` in which the step is not known, but for those in which it cannot be traced."""
    return tuple(
        precision
        for precision in PRECISIONS
        if not is_known(profile, precision) and precision not in profile.untraced_precisions
    )


def precisions_to_trace(profile: JobProfile) -> tuple[str, ...]:
    """Return the precisions to trace so that the step is known in all of `PRECISIONS`."""
    missing = precisions_not_known(profile)
    return tuple(precision for precision in missing if precision != "16-mixed" or "bf16-mixed" not in missing)


def with_precisions(
    profile: JobProfile, trace: Callable[[str], JobProfile], precisions: Iterable[str] | None = None
) -> JobProfile:
    """
    Return a profile with its step in other precisions; one that cannot be traced is named in its notes.

    Args:
        profile: the job.
        trace: traces the same job in a precision.
        precisions: those to trace; None: `precisions_to_trace`.
    """
    steps, untraced = list(profile.precisions), dict[str, str]()
    for precision in precisions_to_trace(profile) if precisions is None else precisions:
        if precision in _collect_traced_steps(profile):
            continue
        try:
            traced = trace(precision)
        except TraceError as error:
            untraced[precision] = str(error)
            continue
        rows = count_refused_rows(traced) if find_compute_type(precision) == "fp8" else 0
        if rows:
            untraced[precision] = f"layers in fp8 refuse inputs of {rows} rows (samples x tokens)"
        else:
            steps.append(_step(traced))
    notes = (f"the step cannot be traced in {name}: {because}"[:500] for name, because in untraced.items())
    return profile.model_copy(
        update={
            "precisions": tuple(steps),
            "untraced_precisions": (*profile.untraced_precisions, *untraced),
            "notes": (*profile.notes, *notes),
        }
    )


def in_precision(profile: JobProfile, precision: str) -> JobProfile:
    """
    Return the profile of a job in another precision.

    Its measured peak of memory is left out, and so is the work by module. Checkpoints have the size of
    `convert_saved_state`.

    Args:
        profile: the job.
        precision: one for which `is_known`.
    """
    known = _collect_traced_steps(profile)
    step = known.get(precision) or _in_other_half(known[_SAME_CASTS[precision]], precision)
    measured = profile.measured
    return profile.model_copy(
        update={
            **{name: getattr(step, name) for name in StepInPrecision.model_fields},
            "plan": convert_saved_state(profile, precision).plan,
            "modules": (),
            "measured": None if measured is None else measured.model_copy(update={"peak_memory_bytes": None}),
        }
    )


def convert_saved_state(profile: JobProfile, precision: str) -> JobProfile:
    """
    Return a profile with the parameters, optimizer state, memory and checkpoints of another precision alone.

    A checkpoint that is smaller than the weights and the optimizer's state holds weights alone, or a part of them.

    Args:
        profile: the job.
        precision: one for which `is_known`, or the job's own.
    """
    if precision == profile.precision:
        return profile
    steps = {step.precision: step for step in profile.precisions}
    step = steps.get(precision) or steps.get(_SAME_CASTS.get(precision, "")) or profile
    written = profile.plan.checkpoint_bytes
    state = written >= _sum_saved_bytes(profile, state=True)
    own_bytes, new = (_sum_saved_bytes(step, state=state) for step in (profile, step))
    return profile.model_copy(
        update={
            **{name: getattr(step, name) for name in ("parameters", "optimizer", "memory")},
            "plan": profile.plan.model_copy(
                update={"checkpoint_bytes": round(written * new / own_bytes) if own_bytes else written}
            ),
        }
    )


def _sum_saved_bytes(step: StepInPrecision | JobProfile, *, state: bool) -> int:
    """Return the bytes of all parameters and buffers, and with `state` of the optimizer's."""
    weights_bytes = sum(group.parameter_bytes for group in step.parameters) + step.memory.buffer_bytes
    return weights_bytes + (step.optimizer.state_bytes if state else 0)


def _step(profile: JobProfile) -> StepInPrecision:
    return StepInPrecision(**{name: getattr(profile, name) for name in StepInPrecision.model_fields})


def _collect_traced_steps(profile: JobProfile) -> dict[str, StepInPrecision]:
    """Return the steps that were traced, by precision; the profile's own is one."""
    return {step.precision: step for step in (*profile.precisions, _step(profile))}


def _in_other_half(step: StepInPrecision, precision: str) -> StepInPrecision:
    """Return a step with the other type of 16 bits, and with the scale of the loss where the type needs it."""
    old, new = find_compute_type(step.precision), find_compute_type(precision)
    operations = tuple(
        group.model_copy(update={"dtype": new}) if group.dtype == old else group
        for group in step.operations
        if group.name != _LOSS_SCALE
    )
    parameters = tuple(
        group.model_copy(update={"dtype": new}) if group.dtype == old else group for group in step.parameters
    )
    update = {"precision": precision, "operations": operations, "parameters": parameters}
    if precision == "16-mixed":
        update["operations"] = (*operations, *_loss_scale(step))
    return step.model_copy(update=update)


def _loss_scale(step: StepInPrecision) -> tuple[OperationGroup, ...]:
    """Return the pass over all gradients before the update; without gradients there is none."""
    moved_bytes = step.memory.gradient_bytes
    count = sum(group.count for group in step.parameters if group.trainable)
    if not moved_bytes:
        return ()
    # Like the update's other kernels over lists of tensors, of which one launch takes a part of the list.
    lists = [
        group.launches
        for group in step.operations
        if group.phase == "optimizer" and group.shape == (count,) and group.launches
    ]
    unscaled = OperationGroup(
        kind="optimizer",
        name=_LOSS_SCALE,
        phase="optimizer",
        dtype="fp32",
        shape=(count,),
        launches=min(lists, default=1),
        flops=0,
        bytes_read=moved_bytes,
        bytes_written=moved_bytes,
        bytes_fixed=2 * moved_bytes,
    )
    return (unscaled,)
