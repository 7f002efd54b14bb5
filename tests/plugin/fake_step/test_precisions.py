"""A step in 16-mixed, derived from its trace in bf16-mixed, is the one that a trace in 16-mixed has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders.jobs import Cnn, Transformer, job
from trainfare.fake_step import trace_job
from trainfare.job import TrainingJob
from trainfare.recommendation import recommend
from trainfare_core.job_profile import JobProfile
from trainfare_core.variants.precisions import in_precision

MODULES = [(Cnn, Cnn.batch), (Transformer, Transformer.batch)]


def in_each(made: TrainingJob, *precisions: str) -> list[JobProfile]:
    """Return traces of a job in precisions."""
    return [trace_job(replace(made, precision=precision)) for precision in precisions]


@pytest.mark.parametrize(("module", "batch"), MODULES)
def test_fp16_follows_from_bf16_and_bf16_from_fp16(module: object, batch: object) -> None:
    """FLOPs, bytes and memory of every kind of operation, to what the loss's scalar factor takes: some bytes."""
    bf16, fp16 = in_each(job(module=module, batch=batch), "bf16-mixed", "16-mixed")
    for derived, traced in ((in_precision(bf16, "16-mixed"), fp16), (in_precision(fp16, "bf16-mixed"), bf16)):
        assert derived.step_flops == traced.step_flops
        assert kinds(derived) == kinds(traced)
        assert derived.memory.saved_activation_bytes == pytest.approx(
            traced.memory.saved_activation_bytes, abs=64
        )
        assert (derived.parameters, derived.optimizer) == (traced.parameters, traced.optimizer)


def kinds(profile: JobProfile) -> dict[tuple[str, str, str], int]:
    """Return the KiB that operations move, by phase, kind and type; those below one are left out."""
    texts_by_key: dict[tuple[str, str, str], int] = {}
    for group in profile.operations:
        name = (group.phase, group.kind, group.dtype)
        texts_by_key[name] = texts_by_key.get(name, 0) + group.bytes_moved
    return {name: round(moved / 1024) for name, moved in texts_by_key.items() if moved >= 1024}


def test_a_job_in_python_is_traced_in_the_precisions_that_are_allowed() -> None:
    """The answer has no precision that is missing, and full precision gives way where mixed is a tenth faster."""
    training_job = job(module=Transformer, batch=Transformer.batch, precision="32-true")
    answer = recommend(training_job, allow=["precision"], accelerators=["A100"], max_nodes=1)
    assert not any("precisions not planned" in line for line in answer.assumptions)
    assert any(
        "precisions not planned" in line
        for line in recommend(trace_job(training_job), allow=["precision"]).assumptions
    )
