"""A job as another implementation of its model runs it: modules as they are, `torch.compile`, or fused kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

from trainfare_core.errors import InputError
from trainfare_core.job_profile import JobProfile
from trainfare_core.variants.decoder import is_decoder

Implementation: TypeAlias = Literal["eager", "compile", "fused"]
_FUSED_NOTE: Final = (
    "fused kernels: of a trainer such as Megatron, litgpt or llm.c; which one is not known, and the terms were fitted "
    "on Megatron and NeMo, so the interval is wider; the memory is that of the traced code"
)


def with_implementation(profile: JobProfile, implementation: Implementation) -> JobProfile:
    """
    Return the job as an implementation runs it, without the step that another one measured.

    Args:
        profile: the job; its operations are those of the traced code, whatever runs them.
        implementation: "eager" as Hugging Face's modules do, "compile" under torch.compile, "fused" by a trainer with
            fused kernels of its own.

    Raises:
        InputError: fused kernels of a model that is timed otherwise than a language model.
    """
    if implementation == _read_implementation(profile):
        return profile
    fused = implementation == "fused"
    if fused and not is_decoder(profile):
        why = "known for language models in 16 or 8 bits alone"
        raise InputError(f"--implementation fused: {why}: give eager or compile")
    source = profile.source.model_copy(update={"compiled": implementation == "compile", "fused": fused})
    notes = (*profile.notes, _FUSED_NOTE) if fused else profile.notes
    return profile.model_copy(update={"source": source, "measured": None, "notes": notes})


def compare_implementations(profile: JobProfile, what: str, describe: Callable[[JobProfile], str]) -> str:
    """
    Return which implementation of a job is meant and what the others would cost, in one sentence.

    Args:
        profile: the job.
        what: start of the comparison, such as "a step would take".
        describe: returns what the job costs as another implementation runs it.
    """
    meant = _read_implementation(profile)
    others = ", ".join(
        f"{describe(with_implementation(profile, name))} under {name}"
        for name in get_args(Implementation)
        if name != meant and (name != "fused" or is_decoder(profile))
    )
    uncorrected = "" if profile.measured is None else " without the measured step"
    return f"implementation {meant}: {what} {others}{uncorrected}"


def _read_implementation(profile: JobProfile) -> Implementation:
    if profile.source.fused:
        return "fused"
    return "compile" if profile.source.compiled else "eager"
