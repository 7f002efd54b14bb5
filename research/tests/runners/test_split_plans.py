"""The score of runs that split a model: which rows it takes, and what it says of each."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("lightning")

from trainfare_research.runners.split_plans import context_exchange_s, split_runs
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.language.decoder_rows import decoder_run

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
    (first, second) = split_runs(rows, DecoderTraces())
    assert (first.source, first.context, first.exchange_share) == ("x", 1, 0.0)
    assert second.error - first.error == pytest.approx(math.log(2))
    far = list(split_runs([{**ROW, "throughput": "400"}], DecoderTraces()))
    assert [run.held for run in far] == [False]


def test_keys_and_values_of_a_context_group_are_counted_by_hand() -> None:
    """32 blocks of 8 heads of 128 keys and as many values of 8,192 tokens in bf16: 3/4 of them three times, 450 GB/s."""
    row = {**ROW, "strategy": "FSDP CP=4"}
    run = decoder_run(row, DecoderTraces())
    assert not isinstance(run, str)
    sent_bytes = 3 * 3 / 4 * 32 * 2 * 8 * 128 * 8192 * 2 * run.micro_batch * run.passes
    assert context_exchange_s(run) == pytest.approx(sent_bytes / 450e9)
    (split,) = split_runs([row], DecoderTraces())
    assert (split.context, split.exchange_share) == (4, pytest.approx(context_exchange_s(run) / run.step_s))
