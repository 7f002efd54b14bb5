"""Decoders of the measured tables: assembled traces equal whole ones, plans and rows are read as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

from builders.plans import plan, shapes
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.engine import predict_run, prepare
from trainfare_core.prediction.language_models.coefficients import decoder_calibration
from trainfare_core.prediction.language_models.sums import (
    DEEPSPEED_SUFFIX,
    GRAPH_PRECISION,
    LIBRARY_PRECISION,
    UNPACK_4_BITS,
)
from trainfare_core.prediction.memory.peak import memory_parts
from trainfare_core.prediction.uncertainty import UNFITTED_SIGMA
from trainfare_core.variants import CAST_TO_8_BITS
from trainfare_research.fitting.language_models_held_out import decoder_answers, predict_decoder
from trainfare_research.fitting.one_plan import Answer
from trainfare_research.workloads.language.decoder import Decoder, DecoderStep, trace_blocks
from trainfare_research.workloads.language.decoder_plans import Plan, is_one_graph, network_of, plan_of
from trainfare_research.workloads.language.decoder_profile import (
    DecoderTraces,
    blocks_of,
    with_narrow_products,
)
from trainfare_research.workloads.language.decoder_rows import (
    DecoderRun,
    decoder_run,
    is_decoder_row,
    step_of_memory_row,
)

SMALL = Decoder(4, 512, 8, 2, 1408, 2048)
SPARSE = Decoder(3, 512, 8, 2, 1408, 2048, experts=8, active=2, expert_ffn=512, dense_layers=1)
ROW = {
    "source": "x", "model": "Llama-3.1-8B", "model_family": "llama", "task": "pretrain", "params": "", "batch_per_device": "1",
    "global_batch": "128", "sequence_length": "8192", "precision": "bf16", "accelerator": "H100-SXM5-80GB", "devices": "8",
    "nodes": "1", "strategy": "TP=2, PP=2, CP=1, VP=4", "activation_checkpointing": "none", "optimizer": "adam (distributed)",
    "throughput": "80000", "throughput_unit": "tokens/s", "step_time_ms": "", "step_time_origin": "", "mfu": "",
    "model_tflops_per_device": "", "framework": "nemo/megatron", "measured": "", "notes": "",
}  # fmt: skip


def _bytes_left(job: JobProfile) -> dict[tuple[str, str, bool], float]:
    """Return what a fusing compiler leaves of the bytes of each operation: by name, phase and whether it runs again."""
    texts_by_key = dict[tuple[str, str, bool], float]()
    for group in job.operations:
        key = group.name, group.phase, group.recomputed
        texts_by_key[key] = texts_by_key.get(key, 0.0) + group.bytes_moved * group.left_where_fused
    return texts_by_key


@pytest.mark.parametrize(
    "step",
    [
        DecoderStep(SMALL, 64),
        DecoderStep(SPARSE, 64, recompute="full"),
        DecoderStep(SMALL, 64, method="lora", precision="bf16-mixed"),
    ],
    ids=["dense", "experts", "adapters-mixed"],
)
def test_an_assembled_decoder_equals_the_trace_of_the_whole(step: DecoderStep, tmp_path: Path) -> None:
    ours, whole = DecoderTraces(tmp_path).profile(step), trace_blocks(step, blocks_of(step.model))
    assert ours.step_flops == whole.step_flops
    assert sum(g.bytes_moved for g in ours.operations) == sum(g.bytes_moved for g in whole.operations)
    left, of_whole = _bytes_left(ours), _bytes_left(whole)
    assert left == pytest.approx(of_whole, rel=5e-3), "shares are weighed by bytes, and rounded"
    assert ours.memory.saved_activation_bytes == whole.memory.saved_activation_bytes
    assert [g.count for g in ours.parameters] == [g.count for g in whole.parameters]
    assert ours.optimizer.state_bytes == pytest.approx(whole.optimizer.state_bytes, rel=1e-6)
    for ratio in (1.0, 64.0):
        peaks = (memory_parts(p, np.array([ratio]), np.ones(1), np.array([False])) for p in (ours, whole))
        assert float(next(peaks).total_bytes[0]) == pytest.approx(float(next(peaks).total_bytes[0]), rel=1e-3)
    paths = list(tmp_path.iterdir())
    assert paths
    assert DecoderTraces(tmp_path).profile(step) == ours
    assert list(tmp_path.iterdir()) == paths, "the second time nothing is traced"


def test_frozen_weights_in_four_bits_and_products_in_eight() -> None:
    traces = DecoderTraces()
    lora, qlora = (traces.profile(DecoderStep(SMALL, 64, method=method)) for method in ("lora", "qlora"))
    assert qlora.parameter_bytes < 0.55 * lora.parameter_bytes, "tables of tokens stay in 16 bits"
    assert sum(g.name == UNPACK_4_BITS for g in qlora.operations) > 0
    full = traces.profile(DecoderStep(SMALL, 256))
    eight = with_narrow_products(full, SMALL.vocabulary)
    assert eight.step_flops == full.step_flops
    kinds = {g.dtype for g in eight.operations if g.kind == "matmul" and SMALL.vocabulary not in g.shape}
    assert kinds == {"fp8"}
    assert {g.dtype for g in eight.operations if g.kind == "attention"} == {"bf16"}
    casts = [g for g in eight.operations if g.name == CAST_TO_8_BITS]
    weights = sum(g.bytes_fixed for g in casts)
    inside = sum(g.count for g in full.parameters) - 2 * SMALL.vocabulary * SMALL.hidden
    # Forward and for the gradient of the input; 2 bytes read and 1 written. Norms are not cast.
    assert weights == pytest.approx(2 * 3 * inside, rel=0.01)


def test_products_in_four_bits_are_faster_where_they_have_units_and_less_sure() -> None:
    """NVFP4 on a GB200; an H100 has no such units, and no answer."""
    full = DecoderTraces().profile(DecoderStep(SMALL, 256))
    eight, four = (with_narrow_products(full, SMALL.vocabulary, dtype) for dtype in ("fp8", "fp4"))
    casts = [g for g in four.operations if g.name == CAST_TO_8_BITS]
    assert sum(g.bytes_read for g in casts) == pytest.approx(
        4 * sum(g.bytes_written for g in casts), rel=1e-3
    )
    inside = sum(g.count for g in full.parameters) - 2 * SMALL.vocabulary * SMALL.hidden
    assert sum(g.bytes_fixed for g in casts) == pytest.approx(2 * 2.5 * inside, rel=0.01), (
        "2 bytes read, half written"
    )
    slow, fast = (predict_run(prepare(job), shapes("GB200"), plan()) for job in (eight, four))
    assert fast.compute_s[0] < slow.compute_s[0]
    assert fast.log_sigma[0] == pytest.approx(np.hypot(slow.log_sigma[0], UNFITTED_SIGMA), rel=0.05)
    old = predict_run(prepare(four), shapes("H100-SXM-80GB"), plan())
    assert old.unknown_because[0] == "H100-SXM-80GB has no fp4 arithmetic for matmul"


def test_a_library_casts_each_weight_once_a_step() -> None:
    """Other frameworks cast it in every pass, so that more passes of a step cost them more."""
    eight = with_narrow_products(DecoderTraces().profile(DecoderStep(SMALL, 256)), SMALL.vocabulary)
    compiled = eight.model_copy(update={"source": eight.source.model_copy(update={"compiled": True})})
    library = compiled.model_copy(update={"precision": LIBRARY_PRECISION})
    fit = decoder_calibration().model_copy(update={"framework_slope": 0.0})

    def memory_s(job: JobProfile, passes: int) -> float:
        plans = plan(accumulate=passes)
        return float(predict_run(prepare(job, decoder=fit), shapes("H100-SXM-80GB"), plans).memory_s[0])

    assert memory_s(library, 1) == pytest.approx(memory_s(compiled, 1), rel=1e-6)
    assert memory_s(library, 16) < 0.97 * memory_s(compiled, 16)


def test_plans_are_read_from_every_spelling() -> None:
    h100 = accelerator("H100-SXM-80GB")
    plan = plan_of(
        {**ROW, "devices": "128", "nodes": "16", "strategy": "TP=4,PP=8, MBS=1, VP=12, SEQ=2048"}, h100
    )
    assert isinstance(plan, Plan)
    assert (plan.tensor, plan.pipeline, plan.virtual, plan.data, plan.machines) == (4, 8, 12, 4, 16)
    assert plan.gbit_per_s == 3200
    sharded = plan_of({**ROW, "strategy": "fsdp8", "notes": "4x100Gb RoCE"}, h100)
    assert isinstance(sharded, Plan)
    assert sharded.sharded
    assert sharded.gbit_per_s == 0, "one machine has no network between"
    assert not sharded.hybrid
    inside = plan_of({**ROW, "devices": "128", "nodes": "16", "strategy": "hsdp"}, h100)
    assert isinstance(inside, Plan)
    assert (inside.sharded, inside.hybrid) == (True, True)
    assert "divide" in str(plan_of({**ROW, "strategy": "TP=3"}, h100))
    four = {"notes": "2x400Gb"}
    assert network_of(four, accelerator("L40S-48GB"), 64, 16) == (16, 800.0), (
        "four cards a machine, not eight"
    )
    assert "host" in str(plan_of({**ROW, "notes": "section=Full Offload"}, h100))


def test_runs_of_bigscience_are_described_as_its_notes_say(tmp_path: Path) -> None:
    row = {
        **ROW, "source": "bigscience-tr11", "model": "GPT-1B", "accelerator": "A100-SXM4-80GB", "devices": "384",
        "nodes": "48", "strategy": "dp8,tp4,pp12,zero1", "sequence_length": "256", "framework": "megatron-deepspeed",
    }  # fmt: skip
    a100 = accelerator("A100-SXM-80GB")

    def plan_row(**changed: str) -> Plan:
        plan = plan_of({**row, **changed}, a100)
        assert isinstance(plan, Plan)
        return plan

    assert (plan_row().sequence_parallel, plan_row().sharded) == (False, False)
    assert plan_row(framework="nemo/megatron").sequence_parallel
    sharded = plan_row(notes="section=Megatron + Deepspeed ZeRO (old branch);", strategy="dp96,tp4")
    assert (sharded.sharded, sharded.sharding) == (True, "fsdp")
    run = decoder_run(row, DecoderTraces(tmp_path))
    assert isinstance(run, DecoderRun)
    answers = [
        predict_decoder(replace(run, plan=plan), decoder_calibration())
        for plan in (run.plan, replace(run.plan, overlap=True))
    ]
    steps = [answer.predicted_s for answer in answers if isinstance(answer, Answer)]
    assert len(steps) == 2
    assert steps[0] > 1.05 * steps[1], "the product's own path repeats norms, dropout and sums on each device"
    for framework, engine in (
        ("megatron-deepspeed", True),
        ("megatron(-deepspeed)", True),
        ("megatron-lm", False),
    ):
        run = decoder_run({**row, "framework": framework}, DecoderTraces(tmp_path))
        assert isinstance(run, DecoderRun)
        assert run.profile.precision.endswith(DEEPSPEED_SUFFIX) == engine, framework


def test_a_recipe_starts_its_step_as_one_graph_from_the_release_that_says_so(tmp_path: Path) -> None:
    row = {
        **ROW, "source": "megatron-bridge", "model": "Qwen3_30B_a3B", "accelerator": "GB200-SXM-186GB", "precision": "mxfp8",
        "strategy": "TP=1,PP=1,CP=1,EP=8", "sequence_length": "256", "notes": "release=26.06 NeMo Container",
    }  # fmt: skip

    def is_captured(**changed: str) -> bool:
        fields = {**row, **changed}
        return is_one_graph(fields, accelerator(fields["accelerator"]))

    releases = ("26.02.01", "26.04", "26.04.01", "26.06", "26.06.01", "26.10")
    assert [is_captured(notes=f"release={name} NeMo") for name in releases] == [False] * 3 + [True] * 3
    others = ({"precision": "bf16"}, {"source": "x"}, {"notes": ""}, {"model": "Qwen3_8B"})
    assert not any(is_captured(**other) for other in others)
    b300 = [
        is_captured(accelerator="B300-SXM-270GB", notes=f"release={name}") for name in ("26.06", "26.06.01")
    ]
    assert b300 == [False, True], "that recipe a release later"
    for notes, precision in ((row["notes"], GRAPH_PRECISION), ("release=26.04", LIBRARY_PRECISION)):
        run = decoder_run({**row, "notes": notes}, DecoderTraces(tmp_path))
        assert isinstance(run, DecoderRun)
        assert run.profile.precision == precision


def test_the_network_of_a_named_machine_is_the_published_one() -> None:
    """A note that names a machine type states its network; nodes that use two of their eight devices stay two nodes."""
    t4, a100, gb200 = (accelerator(name) for name in ("T4-16GB", "A100-SXM4-40GB", "GB200-NVL-186GB"))
    assert network_of({"notes": "fp32; g4dn.12xlarge; 2022"}, t4, 8, 2) == (2, 50.0)
    assert (
        network_of({"notes": "eager; Azure ND40rs_v2; measured"}, accelerator("V100-SXM2-32GB"), 8, 2)[1]
        == 100.0
    )
    assert network_of({"notes": "4x100Gb; g4dn.12xlarge"}, t4, 8, 2) == (2, 400.0), (
        "what is stated comes first"
    )
    assert network_of({"notes": "a T4 somewhere"}, t4, 8, 2) == (2, 0.0)
    assert network_of({"notes": ""}, a100, 4, 2) == (1, 0.0)
    assert network_of({"notes": ""}, a100, 4, 2, partly_used=True) == (2, 400.0)
    assert network_of({"notes": ""}, gb200, 64, 16, partly_used=True) == (1, 0.0), "one NVLink domain"


def test_a_row_becomes_a_step_and_a_prediction(tmp_path: Path) -> None:
    row = {**ROW, "model": "llama-1b-like", "notes": "hidden=512;layers=4;heads=8", "sequence_length": "256"}
    assert is_decoder_row(row)
    run = decoder_run(row, DecoderTraces(tmp_path))
    assert isinstance(run, DecoderRun)
    assert (run.micro_batch, run.passes) == (1.0, 64)
    assert run.step_s == pytest.approx(128 * 256 / 80000)
    four_bits = {**row, "precision": "nvfp4"}
    answers = decoder_answers(
        [row, {**row, "accelerator": "NoSuch-1GB"}, four_bits, {**four_bits, "accelerator": "GB200"}],
        DecoderTraces(tmp_path),
    )
    assert isinstance(answers[0], Answer)
    assert answers[0].predicted_s > 0
    assert answers[0].reach == pytest.approx(
        [z * answers[0].log_sigma for z in (0.6745, 1.2816, 1.6449)], rel=1e-4
    )
    assert answers[1] == "NoSuch-1GB is not in the catalogue"
    assert answers[2] == "H100-SXM-80GB has no fp4 arithmetic for matmul"
    assert isinstance(answers[3], Answer)
    assert answers[3].log_sigma > answers[0].log_sigma
    hybrid, whole = (
        decoder_answers([{**row, "devices": "16", "nodes": "2", "strategy": name}], DecoderTraces(tmp_path))[
            0
        ]
        for name in ("hsdp", "fsdp")
    )
    assert isinstance(hybrid, Answer)
    assert isinstance(whole, Answer)
    assert hybrid.predicted_s < whole.predicted_s, "weights travel inside a machine alone"
    assert "unknown length" in str(
        decoder_run({**row, "sequence_length": "", "task": "finetune-lora"}, DecoderTraces())
    )


def test_rows_of_one_trace_are_answered_together_as_each_alone(tmp_path: Path) -> None:
    """Other chips, plans and batches, and one whose devices have no units for the precision."""
    row = {**ROW, "model": "llama-1b-like", "notes": "hidden=512;layers=4;heads=8", "sequence_length": "256"}
    changes: list[dict[str, str]] = [
        {},
        {"accelerator": "V100-SXM2-16GB"},
        {"strategy": "TP=4", "global_batch": "64"},
        {"accelerator": "A100-SXM4-80GB", "devices": "16", "nodes": "2", "strategy": "fsdp"},
    ]
    traces = DecoderTraces(tmp_path)
    lines = [{**row, **changed} for changed in changes]
    runs = [decoder_run(line, traces) for line in lines]
    alone = [predict_decoder(run, decoder_calibration()) for run in runs if isinstance(run, DecoderRun)]
    assert len(alone) == len(lines)
    assert len({id(run.profile) for run in runs if isinstance(run, DecoderRun)}) < len(lines)
    answers = decoder_answers(lines, traces)
    assert [answers[i] for i in range(len(lines))] == alone


def test_unstated_recomputation_is_the_least_that_fits(tmp_path: Path) -> None:
    """A row that states none: the larger its micro-batch, the more blocks; MaxText recomputes all or nothing."""
    traces = DecoderTraces(tmp_path)
    row = {
        **ROW, "model": "llama-1b-like", "notes": "hidden=512;layers=16;heads=8", "sequence_length": "256", "strategy": "fsdp8",
        "activation_checkpointing": "", "framework": "pytorch",
    }  # fmt: skip

    def list_assumed(framework: str) -> list[str]:
        texts: list[str] = []
        for samples in range(100, 2000, 20):
            sized = {
                **row,
                "framework": framework,
                "batch_per_device": str(samples),
                "global_batch": str(8 * samples),
            }
            run = decoder_run(sized, traces)
            assert isinstance(run, DecoderRun)
            texts.append(next((words for words in run.assumed if "recomputation" in words), "none"))
        return list(dict.fromkeys(texts))

    half, whole = (f"recomputation of {words} activations" for words in ("half of all", "all"))
    assert list_assumed("pytorch") == ["none", half, whole]
    assert list_assumed("maxtext/jax") == ["none", whole]


def test_an_update_moves_what_the_row_says_of_each_weight(tmp_path: Path) -> None:
    """28 bytes with masters in 32 bits, unless the trainer is known to have none."""
    row = {**ROW, "model": "llama-1b-like", "notes": "hidden=512;layers=4;heads=8", "sequence_length": "256"}
    for notes, size in (("", 28), (";optimizer bytes a weight=48", 48)):
        run = decoder_run({**row, "notes": row["notes"] + notes}, DecoderTraces(tmp_path))
        assert isinstance(run, DecoderRun)
        moved = sum(g.bytes_moved for g in run.profile.operations if g.phase == "optimizer")
        assert moved == pytest.approx(size * run.profile.trainable_parameters, rel=1e-3)


def test_experts_without_a_stated_degree_are_not_described(tmp_path: Path) -> None:
    row = {
        **ROW,
        "model": "Mixtral-8x7B",
        "framework": "pytorch",
        "sequence_length": "256",
        "throughput": "1",
    }
    assert "how experts are spread" in str(decoder_run({**row, "strategy": "fsdp"}, DecoderTraces(tmp_path)))
    assert isinstance(decoder_run({**row, "strategy": "fsdp+ep1"}, DecoderTraces(tmp_path)), DecoderRun)


def test_a_rank_is_that_of_the_row_or_noted(tmp_path: Path) -> None:
    """Twice the rank is twice the trained weights; full fine-tuning has none."""
    row = {
        **ROW, "model": "llama-1b-like", "notes": "hidden=512;layers=4;heads=8", "sequence_length": "256",
        "strategy": "fsdp8", "task": "finetune-lora",
    }  # fmt: skip
    runs = [
        decoder_run({**row, **changes}, DecoderTraces(tmp_path))
        for changes in ({}, {"notes": f"{row['notes']}; LoRA r8"}, {"task": "finetune-full"})
    ]
    unstated, eight, full = runs
    assert isinstance(unstated, DecoderRun)
    assert isinstance(eight, DecoderRun)
    assert isinstance(full, DecoderRun)
    assert "rank 16" in unstated.assumed
    assert not any("rank" in note for note in (*eight.assumed, *full.assumed))
    assert unstated.profile.trainable_parameters == 2 * eight.profile.trainable_parameters


def test_pipelines_of_nemo_that_state_no_chunks_have_the_usual_ones(tmp_path: Path) -> None:
    row = {
        **ROW, "model": "llama-1b-like", "notes": "hidden=512;layers=16;heads=8", "sequence_length": "256",
        "framework": "nemo/megatron",
    }  # fmt: skip

    def virtual(strategy: str, **other: str) -> tuple[int, bool]:
        run = decoder_run({**row, "strategy": strategy, **other}, DecoderTraces(tmp_path))
        assert isinstance(run, DecoderRun)
        return run.plan.virtual, any("chunks" in words for words in run.assumed)

    assert virtual("TP=1,PP=4") == (2, True), "16 blocks in 4 stages of 2 chunks of 2"
    assert virtual("TP=1,PP=4,VP=4") == (4, False)
    assert virtual("TP=4,PP=1") == (1, False)
    assert virtual("TP=1,PP=4", framework="pytorch/torchtitan") == (1, False)


def test_samples_that_nemo_packs_for_fine_tuning_are_short(tmp_path: Path) -> None:
    row = {
        **ROW, "model": "llama-1b-like", "notes": "hidden=512;layers=4;heads=8", "sequence_length": "4096",
        "framework": "nemo/megatron",
    }  # fmt: skip
    whole, packed, padded = (
        decoder_run({**row, **other}, DecoderTraces(tmp_path))
        for other in (
            {},
            {"task": "finetune-full"},
            {"task": "finetune-full", "framework": "pytorch/torchtitan"},
        )
    )
    assert isinstance(whole, DecoderRun)
    assert isinstance(packed, DecoderRun)
    assert isinstance(padded, DecoderRun)
    assert (packed.passes, packed.tokens_per_step, packed.step_s) == (
        whole.passes, whole.tokens_per_step, whole.step_s,
    )  # fmt: skip
    assert packed.micro_batch == 16 * whole.micro_batch

    def attention_flops(run: DecoderRun) -> float:
        groups = (g for g in run.profile.operations if g.kind == "attention")
        return run.micro_batch * sum(g.flops for g in groups)

    assert attention_flops(packed) == pytest.approx(attention_flops(whole) / 16)
    assert attention_flops(padded) == attention_flops(whole)


def test_flops_of_two_thirds_mean_adapters_but_not_with_experts(tmp_path: Path) -> None:
    """A pretraining table of NeMo's counts attention of a model with experts in another way than the next."""
    traces = DecoderTraces(tmp_path)

    def get_trained_share(model: str, notes: str) -> float:
        row = {
            **ROW, "model": model, "notes": notes, "sequence_length": "256", "strategy": "TP=1,PP=1,EP=8",
            "framework": "nemo/megatron",
        }  # fmt: skip
        plain = decoder_run(row, traces)
        assert isinstance(plain, DecoderRun)
        per_token = 0.68 * plain.profile.model_step_flops / 256
        stated = per_token * float(row["throughput"]) / 8 / 1e12
        run = decoder_run({**row, "model_tflops_per_device": str(stated)}, traces)
        assert isinstance(run, DecoderRun), run
        return run.profile.trainable_parameters / plain.profile.trainable_parameters

    assert get_trained_share("llama-1b-like", "hidden=512;layers=4;heads=8") < 0.1
    assert get_trained_share("Qwen3_30B_a3B", "") == 1.0


def test_chips_without_fp8_use_int8(tmp_path: Path) -> None:
    row = {
        **ROW, "model": "llama-1b-like", "notes": "hidden=512;layers=4;heads=8", "sequence_length": "256", "strategy": "fsdp8",
        "precision": "int8", "accelerator": "TPU-v6e", "framework": "maxtext/jax",
    }  # fmt: skip
    answers = decoder_answers([row], DecoderTraces(tmp_path))
    assert isinstance(answers[0], Answer), answers[0]


def test_a_memory_row_that_times_a_whole_step_is_a_measured_step(tmp_path: Path) -> None:
    row = {
        "source_id": "table", "model": "Qwen-7B", "domain": "llm", "method": "qlora", "method_detail": "Q-LoRA",
        "precision": "bf16", "optimizer": "AdamW", "micro_batch": "1", "seq_len_or_res": "256", "n_gpus": "1",
        "gpu": "A100-80GB", "act_ckpt": "yes", "other_flags": "grad accum 8", "throughput": "3.0s/it",
    }  # fmt: skip
    columns = list(ROW)
    line = step_of_memory_row(row, columns)
    assert line is not None
    assert is_decoder_row(line)
    run = decoder_run(line, DecoderTraces(tmp_path))
    assert isinstance(run, DecoderRun)
    assert (run.passes, run.step_s, run.device.name) == (8, 3.0, "A100-SXM-80GB")
    assert any(g.name == UNPACK_4_BITS for g in run.profile.operations)
    for unstated in (
        {"throughput": "12 min"}, {"n_gpus": "2"}, {"seq_len_or_res": "max 768"}, {"method_detail": "LoRA (emb)"},
        {"other_flags": ""},
    ):  # fmt: skip
        assert step_of_memory_row(row | unstated, columns) is None
