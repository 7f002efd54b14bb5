"""Language models of MLPerf: the plan of a submission follows from its devices, samples and forward passes."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.language.decoder_rows import DecoderRun
from trainfare_research.workloads.language.mlperf_decoders import (
    build_submitted_decoder,
    is_decoder_benchmark,
)

ROW = {
    "benchmark": "llama2_70b_lora", "accelerator": "H100-SXM-80GB", "accelerators_total": "8", "nodes": "1",
    "global_batch_size": "8", "grad_accum_steps": "4", "precision": "FP8 mixed",
}  # fmt: skip


@pytest.fixture(scope="module")
def traces() -> DecoderTraces:
    return DecoderTraces()


@pytest.mark.parametrize(
    ("changes", "split"),
    [
        ({}, (4, 1, 1, 2)),
        ({"accelerators_total": "64", "nodes": "8", "grad_accum_steps": "1"}, (4, 1, 2, 8)),
        ({"accelerator": "B200", "grad_accum_steps": "1"}, (1, 1, 1, 8)),
        (
            {"benchmark": "gpt3", "accelerators_total": "768", "nodes": "96", "global_batch_size": "3072",
             "grad_accum_steps": "128"},
            (4, 8, 1, 24),
        ),
        (
            {"benchmark": "gpt3", "accelerators_total": "11616", "nodes": "1452", "global_batch_size": "2904",
             "grad_accum_steps": "6"},
            (4, 6, 1, 484),
        ),
    ],
)  # fmt: skip
def test_plan_follows_from_devices_samples_and_passes(
    traces: DecoderTraces, changes: dict[str, str], split: tuple[int, ...]
) -> None:
    """As in the public launch scripts of the same runs: `8x8x1xtp4pp1cp2`, `96x8x128x4x8_mbs1` and others."""
    run = build_submitted_decoder({**ROW, **changes}, traces, 3200.0)
    assert isinstance(run, DecoderRun), run
    plan = run.plan
    assert (plan.tensor, plan.pipeline, plan.context, plan.data) == split
    assert run.micro_batch == 1
    assert "fp8" in {group.dtype for group in run.profile.operations}


GPT3 = {
    "benchmark": "gpt3", "nodes": "128", "grad_accum_steps": "", "global_batch_size": "2048",
    "precision": "INT8 (AQT) / BF16",
}  # fmt: skip


@pytest.mark.parametrize(
    ("device", "count", "split", "slices", "recomputed"),
    [
        ("TPU-v5p", 512, (8, 64), 1, True),
        ("TPU-v5p", 1024, (8, 128), 1, False),
        ("TPU-v6e", 1024, (1, 1024), 4, True),
        ("TPU-v5e", 4096, (16, 256), 16, True),
    ],
)
def test_gpt_3_on_tpu_has_the_mesh_of_googles_scripts_and_products_of_integers(
    traces: DecoderTraces, device: str, count: int, split: tuple[int, int], slices: int, recomputed: bool
) -> None:
    """Weights are sharded over a slice; four samples a device leave no memory for the products of blocks."""
    run = build_submitted_decoder(
        {**ROW, **GPT3, "accelerator": device, "accelerators_total": str(count)}, traces, None
    )
    assert isinstance(run, DecoderRun), run
    plan = run.plan
    assert (plan.tensor, plan.data) == split
    assert (plan.machines, plan.sharding) == (slices, "hybrid" if slices > 1 else "fsdp")
    assert "int8" in {group.dtype for group in run.profile.operations}
    assert any(group.recomputed for group in run.profile.operations) == recomputed
    assert run.assumed == ("the split of the model is that of Google's launch scripts",)


@pytest.mark.parametrize(
    ("precision", "passes", "split", "micro", "fused"),
    [("BF16 mixed", "384", (8, 8, 4), 1, False), ("FP8 mixed", "256", (8, 8, 4), 2, True)],
)
def test_gpt_3_on_gaudi_has_eight_stages_of_eight_devices(
    traces: DecoderTraces, precision: str, passes: str, split: tuple[int, ...], micro: int, fused: bool
) -> None:
    """As in the script, from the passes of a log: 1,536 samples in 384 passes, or 2,048 in 256."""
    samples = "1536" if passes == "384" else "2048"
    run = build_submitted_decoder(
        {**ROW, **GPT3, "accelerator": "Gaudi2", "accelerators_total": "256", "nodes": "32",
         "global_batch_size": samples, "grad_accum_steps": passes, "precision": precision},
        traces, None,
    )  # fmt: skip
    assert isinstance(run, DecoderRun), run
    assert (run.plan.tensor, run.plan.pipeline, run.plan.data) == split
    assert run.micro_batch == micro
    assert ("attention" in {group.kind for group in run.profile.operations}) == fused
    assert run.assumed == ("the split of the model is that of Intel's launch scripts",)
    odd = build_submitted_decoder(
        {**ROW, **GPT3, "accelerator": "Gaudi2", "accelerators_total": "256", "grad_accum_steps": "300"},
        traces, None,
    )  # fmt: skip
    assert isinstance(odd, str)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accelerator": "Abacus-9"}, "not in the catalogue"),
        ({"precision": "TF32"}, "precision TF32"),
        (
            {"accelerator": "Gaudi2", "global_batch_size": "4", "grad_accum_steps": "1"},
            "split over devices is not stated",
        ),
        ({"precision": "FP8 mixed (FP4 configs also shipped)"}, "not known which"),
        ({"accelerator": "TPU-v5p", "precision": "BF16 mixed"}, "split over devices is not stated"),
        ({"global_batch_size": "7"}, "no whole number"),
        ({"grad_accum_steps": "1"}, "do not fit"),
    ],
)
def test_a_submission_whose_plan_is_not_known_has_a_reason(
    traces: DecoderTraces, changes: dict[str, str], reason: str
) -> None:
    run = build_submitted_decoder({**ROW, **changes}, traces, None)
    assert isinstance(run, str)
    assert reason in run


def test_four_bits_are_products_of_that_type(traces: DecoderTraces) -> None:
    run = build_submitted_decoder({**ROW, "precision": "FP4 (NVFP4) mixed"}, traces, 3200.0)
    assert isinstance(run, DecoderRun), run
    assert "fp4" in {group.dtype for group in run.profile.operations}


def test_encoders_are_no_decoder_benchmarks() -> None:
    assert is_decoder_benchmark(ROW)
    assert not is_decoder_benchmark({"benchmark": "bert"})
