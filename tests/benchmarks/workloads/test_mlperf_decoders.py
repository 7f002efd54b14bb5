"""Language models of MLPerf: the plan of a submission follows from its devices, samples and forward passes."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from benchmarks.workloads.decoder_profile import DecoderTraces
from benchmarks.workloads.decoder_rows import DecoderRun
from benchmarks.workloads.mlperf_decoders import is_decoder_benchmark, submitted_decoder

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
    run = submitted_decoder({**ROW, **changes}, traces, 3200.0)
    assert isinstance(run, DecoderRun), run
    plan = run.plan
    assert (plan.tensor, plan.pipeline, plan.context, plan.data) == split
    assert run.micro_batch == 1
    assert "fp8" in {group.dtype for group in run.profile.operations}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"accelerator": "Abacus-9"}, "not in the catalogue"),
        ({"precision": "INT8 (AQT) / BF16"}, "precision INT8"),
        ({"precision": "FP8 mixed (FP4 configs also shipped)"}, "not known which"),
        ({"accelerator": "TPU-v5p", "precision": "BF16 mixed"}, "split over devices is not stated"),
        ({"global_batch_size": "7"}, "no whole number"),
        ({"grad_accum_steps": "1"}, "do not fit"),
    ],
)
def test_a_submission_whose_plan_is_not_known_has_a_reason(
    traces: DecoderTraces, changes: dict[str, str], reason: str
) -> None:
    found = submitted_decoder({**ROW, **changes}, traces, None)
    assert isinstance(found, str)
    assert reason in found


def test_four_bits_are_products_of_that_type(traces: DecoderTraces) -> None:
    run = submitted_decoder({**ROW, "precision": "FP4 (NVFP4) mixed"}, traces, 3200.0)
    assert isinstance(run, DecoderRun), run
    assert "fp4" in {group.dtype for group in run.profile.operations}


def test_encoders_are_no_decoder_benchmarks() -> None:
    assert is_decoder_benchmark(ROW)
    assert not is_decoder_benchmark({"benchmark": "bert"})
