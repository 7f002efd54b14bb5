"""The score of runs that split a model: which rows it takes, and what it says of each."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("lightning")

from benchmarks.split_plans import split_errors
from benchmarks.workloads.decoder_profile import DecoderTraces

ROW = {
    "source": "x", "model": "Llama-3.1-8B", "model_family": "llama", "task": "pretrain", "params": "", "batch_per_device": "1",
    "global_batch": "8", "sequence_length": "8192", "precision": "bf16", "accelerator": "H100-SXM5-80GB", "devices": "8",
    "nodes": "1", "strategy": "FSDP TP=2", "activation_checkpointing": "none", "optimizer": "adamw",
    "throughput": "40000", "throughput_unit": "tokens/s", "step_time_ms": "", "step_time_origin": "", "mfu": "",
    "model_tflops_per_device": "", "framework": "torchtitan", "measured": "", "notes": "",
}  # fmt: skip


def test_only_split_runs_of_the_users_own_kind_of_code_are_scored() -> None:
    """Megatron and a run that splits nothing are left out; half the throughput is twice the time, by ln 2."""
    rows = [
        ROW,
        {**ROW, "throughput": "20000"},
        {**ROW, "framework": "nemo/megatron"},
        {**ROW, "strategy": "FSDP"},
    ]
    (first, second) = split_errors(rows, DecoderTraces())
    assert (first[0], first[1]) == ("x", False)
    assert second[2] - first[2] == pytest.approx(math.log(2))
    far = list(split_errors([{**ROW, "throughput": "400"}], DecoderTraces()))
    assert [held for *_, held in far] == [False]
