"""
`JobVariant`: which changes of a job a plan makes, and `variants_of`, those that can be planned.

With activation checkpointing each block that repeats keeps what it is called with and runs its forward once more when
its backward begins (Chen et al. 2016, one segment a block). The operations are exact: a trace of the checkpointed job
has the same. The highest instants of
memory are estimated, because a profile has no lifetimes of single tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trainfare_core.job_profile import BlockFacts, JobProfile, MemoryFacts, MemoryMoment
from trainfare_core.variants.precisions import (
    PRECISIONS,
    convert_saved_state,
    find_compute_type,
    in_precision,
    is_known,
    precisions_not_known,
    precisions_to_trace,
    weight_bits,
)


def why_not_checkpointed(profile: JobProfile) -> str:
    """Return why there is no plan of a job with activation checkpointing; "" where there is one."""
    if any(group.recomputed for group in profile.operations):
        return "the script already checkpoints activations"
    blocks = profile.memory.blocks
    if blocks is None:
        return (
            "the profile names no blocks that repeat: the model has none, or an older version wrote the profile, and "
            "`trainfare profile` or FareMeter writes it again"
        )
    if blocks.saved_activation_bytes <= blocks.input_bytes:
        return "the blocks that repeat save no more than their inputs"
    return ""


def add_checkpointing(profile: JobProfile) -> JobProfile:
    """
    Return the profile of a job whose repeated blocks are checkpointed.

    Its measured peak of memory is left out, which is one without checkpointing, and so is the work by module.

    Args:
        profile: one for which `why_not_checkpointed` is "".
    """
    again = [
        group.model_copy(update={"phase": "backward", "recomputed": True})
        for group in profile.operations
        if group.in_block and group.phase == "forward"
    ]
    measured = profile.measured
    return profile.model_copy(
        update={
            "operations": (*profile.operations, *again),
            "modules": (),
            "memory": _reduce_memory(profile.memory),
            "measured": None if measured is None else measured.model_copy(update={"peak_memory_bytes": None}),
        }
    )


def _reduce_memory(facts: MemoryFacts) -> MemoryFacts:
    blocks = facts.blocks
    if blocks is None:
        return facts
    kept_bytes = max(0, facts.saved_activation_bytes - blocks.saved_activation_bytes) + blocks.input_bytes
    return facts.model_copy(
        update={
            "saved_activation_bytes": kept_bytes,
            "largest_temporary_bytes": max(facts.largest_temporary_bytes, blocks.largest_bytes),
            "moments": _moments(facts, blocks, kept_bytes),
        }
    )


def _moments(facts: MemoryFacts, blocks: BlockFacts, kept_bytes: int) -> tuple[MemoryMoment, ...]:
    """
    Return the highest instants: those that were, with fewer activations, and the backward of the last and first block.

    Activations go from block to block in backward, so a moment with a part of the saved ones has that part of those
    that are left. Gradients come as blocks go: both ends of that line are kept, and its middle is never higher than the
    higher end.
    """
    if not facts.moments:
        return ()
    saved = max(1, facts.saved_activation_bytes)
    moments: list[MemoryMoment] = []
    for moment in facts.moments:
        alive = min(saved, moment.activation_bytes) / saved
        gone = alive * (facts.saved_activation_bytes - kept_bytes)
        moments.append(moment.model_copy(update={"activation_bytes": round(moment.activation_bytes - gone)}))
    backward = [moment for moment in facts.moments if moment.phase == "backward"]
    if backward:
        last = min(backward, key=lambda moment: moment.gradient_bytes)
        first = max(backward, key=lambda moment: moment.gradient_bytes)
        moments.append(last.model_copy(update={"activation_bytes": kept_bytes + blocks.largest_bytes}))
        # The first block's inputs and what was saved before it are left; the rest of what is kept is freed.
        moments.append(
            first.model_copy(
                update={"activation_bytes": round(kept_bytes / blocks.count) + blocks.largest_bytes}
            )
        )
    return tuple(moments)


_CHECKPOINTED_STEP_SIGMA: Final = 0.05
"""Of ln(step time): how a device runs the forward of a block again is predicted and not measured. A chosen value; the
operations are those of a trace with checkpointing."""
_CHECKPOINTED_MEMORY_SIGMA: Final = 0.1
"""Of ln(peak memory): its instants are estimated, where a trace knows them. A chosen value: the estimate is at most 1 %
below and up to 30 % above traces of language models, a diffusion transformer and ResNet-50 with checkpointing."""


@dataclass(frozen=True, slots=True)
class JobVariant:
    """
    Changes of a job that its user allows.

    Attributes:
        checkpointing: activation checkpointing of the blocks that repeat.
        precision: Lightning's word; "" is the script's own.
        narrows_weights: trained weights have fewer bits than the script's, which changes what is trained.
    """

    checkpointing: bool = False
    precision: str = ""
    narrows_weights: bool = False

    def of(self, profile: JobProfile) -> JobProfile:
        """Return the profile of the changed job."""
        changed = in_precision(profile, self.precision) if self.precision else profile
        return add_checkpointing(changed) if self.checkpointing else changed

    def convert_saved_state(self, profile: JobProfile) -> JobProfile:
        """Return the profile with what the changed job keeps and writes; the rest of it is the job's own."""
        return convert_saved_state(profile, self.precision) if self.precision else profile

    @property
    def changes_training(self) -> bool:
        """Whether more than rounding to 16 bits changes: such a plan is taken where nothing else fits or on request."""
        return self.narrows_weights or find_compute_type(self.precision) == "fp8"

    @property
    def step_log_sigma(self) -> float:
        """Standard deviation of ln(step time) that the change adds."""
        return _CHECKPOINTED_STEP_SIGMA if self.checkpointing else 0.0

    @property
    def memory_log_sigma(self) -> float:
        """Standard deviation of ln(peak memory) that the change adds."""
        return _CHECKPOINTED_MEMORY_SIGMA if self.checkpointing else 0.0


def variants_of(
    profile: JobProfile, *, checkpointing: bool = False, precision: bool = False
) -> tuple[JobVariant, ...]:
    """
    Return the job as it is, first, and the changes of it that can be planned.

    Args:
        profile: the job.
        checkpointing: whether activation checkpointing is allowed.
        precision: whether other precisions are allowed.
    """
    variants = [JobVariant()]
    if precision:
        bits = weight_bits(profile.precision)
        variants += [
            JobVariant(precision=precision, narrows_weights=weight_bits(precision) < bits)
            for precision in PRECISIONS
            if precision != profile.precision and is_known(profile, precision)
        ]
    if checkpointing:
        variants += [
            JobVariant(
                checkpointing=True, precision=variant.precision, narrows_weights=variant.narrows_weights
            )
            for variant in variants
            if not why_not_checkpointed(variant.of(profile))
        ]
    return tuple(variants)


def why_no_variant(profile: JobProfile, *, checkpointing: bool = False) -> tuple[str, ...]:
    """Return why changes that are allowed are not planned, one sentence each; arguments as for `variants_of`."""
    because = why_not_checkpointed(profile) if checkpointing else ""
    return (f"activation checkpointing is not planned: {because}",) if because else ()


def why_no_precision(profile: JobProfile) -> str:
    """Return which precisions cannot be planned, and what helps; "" where all can."""
    missing = precisions_not_known(profile)
    if not missing:
        return ""
    options = " ".join(f"--precision {precision}" for precision in precisions_to_trace(profile))
    because = "the profile has no trace of its step in them"
    return f"precisions not planned: {', '.join(missing)}: {because}; `trainfare profile TARGET {options}` adds it"
