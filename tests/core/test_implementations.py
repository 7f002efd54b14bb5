"""A job as another implementation runs it."""

from __future__ import annotations

import pytest

from builders.profiles import gpt_profile, operation, profile
from trainfare_core.errors import InputError
from trainfare_core.prediction import predict_machine
from trainfare_core.variants import compare_implementations, with_implementation
from trainfare_core.variants.implementations import Implementation


def test_fused_kernels_are_the_fastest_and_the_least_certain() -> None:
    """On a chip faster than an A100 a compiler falls behind a library (docs/prediction.md), whose own trainer is unknown."""
    names: tuple[Implementation, ...] = ("eager", "compile", "fused")
    eager, compiled, fused = (
        predict_machine(with_implementation(gpt_profile(), name), "H100-SXM-80GB", 1).step_s for name in names
    )
    assert fused.mid < compiled.mid < eager.mid
    assert fused.high_80 / fused.low_80 > compiled.high_80 / compiled.low_80


def test_fused_trainers_neither_cast_weights_nor_add_gradients_in_every_pass() -> None:
    """
    Activations are cast and added as before, and so is what the update does.

    Megatron-LM (docs/source/api-guide/dist_optimizer.md) keeps 16-bit parameters beside the fp32 ones of its update, and
    `gradient_accumulation_fusion` lets the product that makes a gradient add to it; in llm.c "all parameters use a += in
    the backward pass" (train_gpt2.cu).
    """
    dropped = [
        operation(kind="copy", name="aten._to_copy", phase="forward", bytes_read=400, bytes_written=200, bytes_fixed=600),
        operation(kind="elementwise", name="aten.add_", phase="backward", bytes_read=8, bytes_written=4, bytes_fixed=12),
    ]  # fmt: skip
    kept = [
        operation(kind="copy", name="aten._to_copy", phase="forward", bytes_read=400, bytes_written=200, bytes_fixed=0),
        operation(kind="optimizer", name="aten.add_", phase="optimizer", bytes_read=8, bytes_written=4, bytes_fixed=12),
    ]  # fmt: skip
    job = gpt_profile()
    job = job.model_copy(update={"operations": (*job.operations, *dropped, *kept)})
    fused = with_implementation(job, "fused")
    executed = fused.operations_as_run
    assert executed[-2:] == tuple(kept)
    assert not any(group in executed for group in dropped)
    assert with_implementation(fused, "eager").operations_as_run == job.operations


def test_the_comparison_names_what_is_meant_and_what_is_possible() -> None:
    """Models other than language models are compared with a compiler alone."""
    for job, said in (
        (gpt_profile(), "implementation eager: a step would take 1 s under compile, 1 s under fused"),
        (with_implementation(gpt_profile(), "fused"), "implementation fused: a step would take 1 s under eager, 1 s under compile"),
        (profile(), "implementation eager: a step would take 1 s under compile"),
    ):  # fmt: skip
        assert compare_implementations(job, "a step would take", lambda _: "1 s") == said


def test_fused_kernels_are_refused_for_other_models() -> None:
    """Their times are those of language models."""
    with pytest.raises(InputError, match="give eager or compile"):
        with_implementation(profile(), "fused")
