"""`JobVariant`: which changes of a job a plan makes, and `variants_of`, those that can be planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from trainfare_core.job_profile import JobProfile
from trainfare_core.variants.checkpointing import checkpointed, why_not_checkpointed
from trainfare_core.variants.precisions import (
    PRECISIONS,
    computed_in,
    in_precision,
    is_known,
    precisions_not_known,
    precisions_to_trace,
    saved_in,
    weight_bits,
)

__all__ = ["JobVariant", "variants_of", "why_no_precision", "why_no_variant"]

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
        return checkpointed(changed) if self.checkpointing else changed

    def saved(self, profile: JobProfile) -> JobProfile:
        """Return the profile with what the changed job keeps and writes; the rest of it is the job's own."""
        return saved_in(profile, self.precision) if self.precision else profile

    @property
    def changes_training(self) -> bool:
        """Whether more than rounding to 16 bits changes: such a plan is taken where nothing else fits or on request."""
        return self.narrows_weights or computed_in(self.precision) == "fp8"

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
    found = [JobVariant()]
    if precision:
        bits = weight_bits(profile.precision)
        found += [
            JobVariant(precision=each, narrows_weights=weight_bits(each) < bits)
            for each in PRECISIONS
            if each != profile.precision and is_known(profile, each)
        ]
    if checkpointing:
        found += [
            JobVariant(checkpointing=True, precision=each.precision, narrows_weights=each.narrows_weights)
            for each in found
            if not why_not_checkpointed(each.of(profile))
        ]
    return tuple(found)


def why_no_variant(profile: JobProfile, *, checkpointing: bool = False) -> tuple[str, ...]:
    """Return why changes that are allowed are not planned, one sentence each; arguments as for `variants_of`."""
    because = why_not_checkpointed(profile) if checkpointing else ""
    return (f"activation checkpointing is not planned: {because}",) if because else ()


def why_no_precision(profile: JobProfile) -> str:
    """Return which precisions cannot be planned, and what helps; "" where all can."""
    missing = precisions_not_known(profile)
    if not missing:
        return ""
    options = " ".join(f"--precision {each}" for each in precisions_to_trace(profile))
    because = "the profile has no trace of its step in them"
    return f"precisions not planned: {', '.join(missing)}: {because}; `trainfare profile TARGET {options}` adds it"
