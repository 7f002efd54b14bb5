"""
`research/trainfare_research/runners/memory.py`: published peaks are predicted in the quantity that was measured, and compared with the card.

Peaks: litgpt (Lightning-AI/litgpt, resource tables), torchtune (pytorch/torchtune, memory flags), BigScience
(bigscience-workshop/bigscience), NF4 runs of AnswerDotAI/fsdp_qlora.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path

import pytest

pytest.importorskip("lightning")

from builders.peaks import PEAK
from row_builders.memory_runs import size_run
from trainfare_core.prediction.memory.calibrated import memory_fit
from trainfare_research.fitting import memory_rows
from trainfare_research.runners import memory
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.memory_runs import MemoryRun, memory_run

ROWS = [
    {**PEAK, "row_id": "phi"},
    {**PEAK, "row_id": "phi-2", "micro_batch": "2", "peak_gib": "6.296"},
    {**PEAK, "row_id": "phi-4", "micro_batch": "4", "peak_gib": "9.947"},
    {
        **PEAK, "row_id": "llama", "model": "Llama-2-7B", "params_m": "6738", "seq_len_or_res": "1304",
        "method_detail": "LoRA trainable 4,194,304", "peak_gib": "19.837",
    },
    {
        **PEAK, "row_id": "oom", "model": "Llama-2-7B", "params_m": "6738", "seq_len_or_res": "1304",
        "method_detail": "LoRA trainable 4,194,304", "micro_batch": "4", "peak_gib": "", "status": "OOM",
    },
    {**PEAK, "row_id": "offload", "sharding": "FSDP CPU offload"},
    {**PEAK, "row_id": "doubtful", "other_flags": "suspect_seq: SUSPECT_SEQ_UNKNOWN"},
]  # fmt: skip


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> tuple[DecoderTraces, ProfileCache]:
    folder = tmp_path_factory.mktemp("traces")
    return DecoderTraces(folder), ProfileCache(folder)


Tools = tuple[DecoderTraces, ProfileCache]


def describe_row(tools: Tools, **row: str) -> MemoryRun:
    run = memory_run({**PEAK, **row}, *tools)
    assert isinstance(run, MemoryRun), run
    return run


def test_published_peaks_are_scored_and_other_rows_have_a_reason(tools: Tools, tmp_path: Path) -> None:
    truth, out, rows = (tmp_path / name for name in ("truth.csv", "out.json", "rows.csv"))
    with truth.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(PEAK))
        writer.writeheader()
        writer.writerows(ROWS)
    arguments = argparse.Namespace(
        truth=[truth],
        cache=tmp_path / "cache",
        json=[out],
        rows=[rows],
        one_measured_step=False,
        leave_one_source_out=False,
        traced_only=False,
        trace_backwards=False,
    )
    memory.run(arguments)
    document = json.loads(out.read_text(encoding="utf-8"))
    assert document["n"] == 4
    assert sum(document["skipped"].values()) == 3
    assert document["undoubted"] == {"rows": 5, "described": 4}, (
        "one is offloaded; others are doubted or have no figure"
    )
    assert "litgpt-resource-2023" in document["fitted_on"], (
        "the shipped fit saw these rows, and the document says so"
    )
    assert document["overall"]["mape"] < 0.15, "published LoRA peaks of one card"
    assert set(document["overall"]["coverage"]) == {"50", "80", "90"}
    with rows.open(newline="", encoding="utf-8") as stream:
        written = {row["row_id"]: row for row in csv.DictReader(stream)}
    assert (
        float(written["phi"]["low_80"])
        < float(written["phi"]["predicted"])
        < float(written["phi"]["high_80"])
    )
    assert "host" in written["offload"]["skip_reason"]
    assert "OOM" in written["oom"]["skip_reason"]
    arguments.one_measured_step = True
    memory.run(arguments)
    corrected = json.loads(out.read_text(encoding="utf-8"))
    assert corrected["n"] == 2, "the first Phi row is the measured step; Llama is alone"
    arguments.one_measured_step, arguments.leave_one_source_out = False, True
    with pytest.raises(SystemExit, match="two sources"):
        memory.run(arguments)


def test_error_of_a_measured_step_corrects_the_other_rows_of_its_group() -> None:
    predicteds: list[memory_rows.Predicted | str] = [
        size_run(g, quantity="allocated") for g in (4.0, 6.0, 9.0, 19.0)
    ]
    rows = memory_rows.memory_rows([dict(row) for row in ROWS[:4]], predicteds)
    answers = memory_rows.steps_before(rows)
    assert answers[0] == "the measured step of its group"
    assert answers[1] is answers[2] is rows[0]
    assert "no other" in str(answers[3])
    first, second = (row for row in rows[:2] if row is not None)
    fit = memory_fit().model_copy(update={"carried_share": 0.5})
    own = memory_rows.predict_gib(first, fit)
    carried = memory_rows.after_step_gib(first, second, fit) / memory_rows.predict_gib(second, fit)
    assert carried == pytest.approx((4.489 / own) ** 0.5)
    assert memory_rows.spread_of(second, first, fit) == fit.corrected
    assert memory_rows.spread_of(second, None, fit) == fit.allocated["one_device"]


def test_steps_of_another_precision_or_software_are_of_another_job() -> None:
    lines = [dict(ROWS[0]), {**ROWS[1], "precision": "fp32"}, {**ROWS[2], "other_flags": "torch 2.6"}]
    rows = memory_rows.memory_rows(lines, [size_run(g, quantity="allocated") for g in (4.0, 6.0, 9.0)])
    assert all("no other measured row of its job" in str(row) for row in memory_rows.steps_before(rows))


def test_the_figure_of_one_device_is_no_figure_of_several_that_share_the_weights(tmp_path: Path) -> None:
    fields, four = (
        dict(PEAK, peak_value="4.8"),
        {**PEAK, "peak_value": "4.8", "n_gpus": "4", "sharding": "FSDP"},
    )
    tools = DecoderTraces(tmp_path), ProfileCache(tmp_path)
    predicteds = memory_rows.describe_rows([fields, four, {**four, "peak_value": "3.1"}], *tools)
    assert isinstance(predicteds[0], memory_rows.Predicted)
    assert "figure of one device" in str(predicteds[1])
    assert isinstance(predicteds[2], memory_rows.Predicted)


def test_update_of_a_tensorflow_1_graph_is_the_peak_of_a_small_batch(tools: Tools) -> None:
    row = {
        "model": "BERT-base", "params_m": "110", "domain": "nlp", "method": "full_finetune", "method_detail": "",
        "precision": "fp32", "optimizer": "Adam", "seq_len_or_res": "64", "source_id": "bert-readme",
    }  # fmt: skip
    graph, eager = (describe_row(tools, **row, other_flags=flags) for flags in ("TF 1.11", ""))
    gradients = graph.profile.memory.gradient_bytes
    assert graph.parts().temporary_bytes[0] == pytest.approx(4 * gradients)
    assert peak(graph) > peak(eager) + 2 * gradients


def test_a_peak_is_compared_in_the_quantity_that_was_measured(tools: Tools) -> None:
    numbers = memory_fit().corrections
    kinds = ("max_allocated", "max_reserved", "nvidia-smi snapshot (rounded GB)")
    runs = [memory_rows.describe_run({**PEAK, "mem_kind": kind}, *tools) for kind in kinds]
    allocated, reserved, card = (p.gib(numbers) for p in runs if isinstance(p, memory_rows.Predicted))
    assert reserved == pytest.approx(allocated * (1 + numbers.cached_share))
    assert card == pytest.approx(reserved + 0.75), "the CUDA context"
    total = {**PEAK, "n_gpus": "4", "scope": "total_over_gpus", "peak_gib": "69.57"}
    assert memory_rows.parse_measured_gib(total) == pytest.approx(17.3925)
    assert memory_rows.parse_measured_gib({**PEAK, "status": "OOM"}) is None


def test_verdicts_are_counted_from_rows_that_name_their_card(tools: Tools) -> None:
    tiny, huge, close = size_run(1.0), size_run(500.0), size_run(30.0)
    lines = [
        {**PEAK, "status": "OOM"},
        {**PEAK, "status": "OOM"},
        dict(PEAK),
        {**PEAK, "gpu": ""},
        dict(PEAK),
    ]
    counts = memory.fit_counts(lines, [tiny, huge, huge, tiny, close], *tools)
    assert (counts["rows"], counts["called_fitting"], counts["false_fits"]) == (4, 1, 1)
    assert (counts["ran_but_refused"], counts["ran_and_may_not_fit"], counts["ran_out"]) == (1, 1, 2)
    assert (counts["false_fits_of_called"], counts["refused_of_ran"]) == (1.0, 0.5)
    most = {**PEAK, "status": "max_batch", "micro_batch": "1"}
    counts = memory.fit_counts([most], [tiny], *tools)
    assert (counts["rows"], counts["ran_out"]) == (2, 1), "it ran at one sample, not at two"
    counts = memory.fit_counts([{**most, "micro_batch": "0"}], ["the batch is not stated"], *tools)
    assert (counts["rows"], counts["ran_out"], counts["false_fits"]) == (1, 1, 1), "not even one sample ran"


MEGATRON = {
    "model": "gpt-L12-H512", "params_m": "63.504", "method": "scratch", "method_detail": "", "micro_batch": "4",
    "seq_len_or_res": "128", "n_gpus": "8", "act_ckpt": "none", "sharding": "tp2,pp2,dp+dist-opt",
    "precision": "bf16 mixed, fp32 main grads/params", "source_id": "x",
    "other_flags": "layers 12, hidden 512, heads 8, kv groups 8, ffn 2048, vocab 50304; transformer-impl local",
}  # fmt: skip


def test_megatron_states_every_size_and_its_layout(tools: Tools) -> None:
    """Sizes are read, not guessed; fp32 gradients stay from step to step, and experts are spread over their group."""
    run = describe_row(tools, **MEGATRON)
    assert run.profile.trainable_parameters == pytest.approx(63.5e6, rel=0.01)
    assert run.parallel is not None
    assert (int(run.parallel.tensor[0]), int(run.parallel.pipeline[0])) == (2, 2)
    assert bool(run.parallel.sharded_optimizer[0])
    assert run.profile.optimizer.state_bytes == 12 * run.profile.trainable_parameters
    assert all(m.gradient_bytes == 4 * run.profile.trainable_parameters for m in run.profile.memory.moments)
    flags = MEGATRON["other_flags"].replace("ffn 2048", "ffn 2048, experts 4 topk 1 expert-ffn 2048")
    spread = describe_row(
        tools, **{**MEGATRON, "params_m": "139", "sharding": "tp2,pp1,ep2,sp,dp", "other_flags": flags}
    )
    assert spread.parallel is not None
    assert int(spread.parallel.expert[0]) == 2
    assert spread.profile.trainable_parameters == pytest.approx(139e6, rel=0.02)


def test_what_a_row_does_not_state_is_said_or_refused(tools: Tools) -> None:
    """A missing LoRA rank is among what was assumed; a length that is only bounded gives no prediction."""
    assert "rank 8" in describe_row(tools, method_detail="lora q,v").assumed
    assert not any("rank" in text for text in describe_row(tools, method_detail="r16 q,v").assumed)
    assert "greatest length" in str(memory_run({**PEAK, "seq_len_or_res": "<=2048"}, *tools))
    assert "greatest length" in str(memory_run({**PEAK, "method_detail": "packing=false rank=8"}, *tools))
    assert "is not stated" in str(memory_run({**PEAK, "seq_len_or_res": ""}, *tools))
    assert "marks" in str(memory_run({**PEAK, "other_flags": "unpacked: SUSPECT_SEQ_UNKNOWN"}, *tools))
    padded = {
        **PEAK,
        "seq_len_or_res": "",
        "other_flags": "unpacked sequences, logged mean 512 tokens per sample",
    }
    assert "mean length" in str(memory_run(padded, *tools))
    packed = describe_row(tools, **{**padded, "other_flags": f"{padded['other_flags']}; (no pad tokens)"})
    assert packed.ratio == 2.0, "the trace has 256 tokens"


def test_experts_beside_sharded_weights_are_of_their_group(tools: tuple[DecoderTraces, ProfileCache]) -> None:
    """Megatron's proxy of DeepSeek with FSDP and expert groups of two."""
    row = {
        **PEAK, "model": "moe-L2-H512-E8", "method": "scratch", "method_detail": "", "micro_batch": "4",
        "seq_len_or_res": "1024", "n_gpus": "4", "act_ckpt": "none", "sharding": "tp1,pp1,ep2,sp,megatron-fsdp",
        "source_id": "megatron-golden", "other_flags": "mcore moe test; layers 2, hidden 512, heads 8, kv groups 8, "
        "ffn 2048 swiglu, experts 8 topk 4 expert-ffn 1024, vocab 50304; recompute none",
    }  # fmt: skip
    run = memory_run(row, *tools)
    assert isinstance(run, MemoryRun), run
    assert run.sharded
    assert run.parallel is not None
    assert run.parallel.expert[0] == 2


def test_fully_sharded_accumulation_of_accelerate_keeps_whole_gradients(tools: Tools) -> None:
    full = {
        "method": "full_finetune", "method_detail": "", "n_gpus": "4", "sharding": "FSDP", "act_ckpt": "full",
        "source_id": "x", "precision": "fp16 (pure)",
    }  # fmt: skip
    run, two = (
        describe_row(tools, **full, other_flags=f"HF SFTTrainer; gradient accumulation {n}") for n in (1, 2)
    )
    assert two.parts().gradients_bytes[0] == two.profile.memory.gradient_bytes
    assert run.parts().gradients_bytes[0] < two.profile.memory.gradient_bytes / 2


def test_a_smaller_loss_leaves_the_blocks_as_the_peak(tools: Tools) -> None:
    """Without logits the peak is in a block that is recomputed, not at the saved block inputs alone."""
    long = {"micro_batch": "16", "act_ckpt": "full", "source_id": "axolotl-examples"}
    run = describe_row(tools, **long)
    facts = run.profile.memory
    assert max(m.activation_bytes for m in facts.moments) > 1.2 * facts.saved_activation_bytes


@pytest.mark.parametrize(
    ("model", "task_size", "weights_m"),
    [("faster-rcnn_r50_fpn_1x_coco", "1333x800", 41.5), ("fcn_r50-d8_4xb2-40k_cityscapes-512x1024", "512x1024", 49.5)],
)  # fmt: skip
def test_networks_of_openmmlab_have_their_published_size(
    tools: Tools, model: str, task_size: str, weights_m: float
) -> None:
    domain = "vision-det" if "rcnn" in model else "vision-seg"
    run = describe_row(
        tools, model=model, domain=domain, method="full_finetune", method_detail="", precision="fp32", optimizer="",
        micro_batch="2", seq_len_or_res=task_size, n_gpus="8", sharding="DDP", source_id="mm-zoo", params_m="",
    )  # fmt: skip
    assert run.profile.parameter_bytes / 4e6 == pytest.approx(weights_m, rel=0.03), "million, as published"
    assert run.world == 8


def test_plans_state_and_recomputation_are_read_from_the_row(tools: Tools) -> None:
    plain, sharded = describe_row(tools), describe_row(tools, n_gpus="2", sharding="FSDP")
    assert sharded.sharded
    assert sharded.parts().weights_bytes[0] < 0.6 * plain.parts().weights_bytes[0]
    assert sharded.parts().activations_bytes[0] < 0.5 * plain.parts().activations_bytes[0], (
        "litgpt recomputes"
    )
    four = describe_row(tools, method="qlora", precision="nf4 base + bf16")
    assert four.parts().weights_bytes[0] < 0.5 * plain.parts().weights_bytes[0]
    split = describe_row(
        tools, model="GPT-x", params_m="1300", method="scratch", method_detail="", precision="fp16", n_gpus="8",
        optimizer="Adam", seq_len_or_res="256", act_ckpt="full", sharding="TP2 PP2 DP2 ZeRO-1",
        other_flags="24 layers hidden 2048 heads 16 GBS 64",
    )  # fmt: skip
    assert split.parallel is not None
    assert (int(split.parallel.tensor[0]), int(split.parallel.pipeline[0]), split.passes) == (2, 2, 32)
    trained = split.profile.trainable_parameters
    assert split.profile.optimizer.state_bytes == 12 * trained, "fp32 master weights and two moments"
    small = describe_row(tools, optimizer="bnb AdamW 8-bit")
    assert small.profile.optimizer.state_bytes == pytest.approx(
        2.03 * small.profile.trainable_parameters, rel=1e-6
    )


def peak(run: MemoryRun) -> float:
    return float(run.parts().total_bytes[0])


def test_loss_is_that_of_the_framework_that_ran(tools: Tools) -> None:
    """
    Chunked and fused losses take less than a plain cross-entropy; outputs kept in 16 bits are more, and a kernel that
    writes gradients over the logits is less.
    """
    long = {"micro_batch": "16", "source_id": "x", "act_ckpt": "full"}
    plain = describe_row(tools, **long)
    logits = 16 * 1044 * 51_200
    shifted = describe_row(tools, **{**long, "source_id": "fms-acceleration"})
    assert peak(shifted) - peak(plain) == pytest.approx(2 * logits, rel=0.05), "14 bytes of a logit, not 12"
    flags = "transformers 4.48.1; fused Triton kernels (cross-entropy, RMSNorm)"
    kernel = describe_row(tools, **{**long, "source_id": "fms-acceleration", "other_flags": flags})
    assert peak(shifted) - peak(kernel) == pytest.approx(4 * logits, rel=0.05), "no log-softmax"
    before = describe_row(
        tools, **{**long, "source_id": "fms-acceleration", "other_flags": flags.replace("4.48", "4.43")}
    )
    assert peak(kernel) > peak(before), "the output kept its logits in fp32 alone"
    chunked, fused = (
        describe_row(tools, **{**long, "other_flags": "chunked CE"}),
        describe_row(tools, **{**long, "source_id": "axolotl-examples"}),
    )
    assert peak(fused) < peak(chunked) < peak(plain) < peak(shifted)
    classifier = describe_row(tools, **{**long, "method_detail": "train/seq_cls/sft.sh"})
    assert peak(classifier) == pytest.approx(peak(fused), rel=0.1)


def test_gradients_are_released_before_forward_unless_torch_is_old(tools: Tools) -> None:
    """Detectron2's torch set them to zero; later loops release them, and gradient accumulation keeps them."""
    full = {"method": "full_finetune", "method_detail": "", "n_gpus": "1", "act_ckpt": "none"}
    now, old = (describe_row(tools, **{**full, "source_id": source}) for source in ("x", "detectron2-zoo"))
    gradients = now.profile.memory.gradient_bytes
    assert all(m.gradient_bytes == 0 for m in now.profile.memory.moments if m.phase == "forward")
    assert all(m.gradient_bytes == gradients for m in old.profile.memory.moments)
    recipe = describe_row(
        tools,
        **{**full, "micro_batch": "", "seq_len_or_res": "", "other_flags": "torchtune llama3_2/3B_full"},
    )
    assert (recipe.ratio, recipe.passes) == (4.0, 8)


BERT = {
    "model": "BERT-base", "params_m": "110", "domain": "nlp", "method": "full_finetune", "method_detail": "",
    "precision": "fp32", "optimizer": "AdamW", "seq_len_or_res": "128", "source_id": "x",
}  # fmt: skip


def test_an_encoder_recomputes_as_its_library_does(tools: Tools) -> None:
    plain, again = (describe_row(tools, **BERT, act_ckpt=how) for how in ("none", "full"))
    assert any(g.recomputed for g in again.profile.operations)
    saved = again.profile.memory.saved_activation_bytes
    assert saved < plain.profile.memory.saved_activation_bytes / 4


def test_attention_is_that_of_the_release_that_the_row_names(tools: Tools) -> None:
    """From torch 2.4 on BERT's attention keeps no scores of all pairs of tokens."""
    row = {
        **BERT,
        "model": "BertForMaskedLM",
        "method": "scratch",
        "seq_len_or_res": "512",
        "micro_batch": "16",
    }
    old, now = (
        describe_row(tools, **row, other_flags=f"torch {release}, eager")
        for release in ("1.13.1", "2.5.1+cu121")
    )
    assert peak(now) < 0.8 * peak(old)
    predicted = memory_rows.describe_run({**PEAK, **row}, *tools)
    assert isinstance(predicted, memory_rows.Predicted)
    assert not predicted.convolutions


def test_detectors_differ_by_their_heads(tools: Tools) -> None:
    """Proposals take less than boxes, boxes less than masks."""
    row = {
        "domain": "vision-det", "method": "full_finetune", "method_detail": "", "precision": "fp32",
        "optimizer": "SGD-M", "micro_batch": "1", "seq_len_or_res": "800px", "source_id": "detectron2-zoo",
    }  # fmt: skip
    names = ("rpn_R_50_FPN", "faster_rcnn_R_50_FPN", "mask_rcnn_R_50_FPN")
    runs = [describe_row(tools, **row, model=f"d2/{name}") for name in names]
    peaks, weights = [peak(run) for run in runs], [run.profile.parameter_bytes for run in runs]
    assert peaks == sorted(peaks)
    assert weights == sorted(weights)
    assert weights[1] / 4e6 == pytest.approx(41.5, rel=0.03), "million, as published"
    assert "no description" in str(memory_run({**PEAK, **row, "model": "d2/faster_rcnn_R_50_C3"}, *tools))


def test_an_update_on_the_host_leaves_weights_and_gradients_on_the_device(tools: Tools) -> None:
    here, host, both = (
        describe_row(tools, **{**BERT, "optimizer": name})
        for name in ("AdamW", "AdamW CPU offload", "AdamW CPU offload incl. gradients")
    )
    trained = here.profile.trainable_parameters
    assert here.profile.optimizer.state_bytes == pytest.approx(8 * trained, rel=1e-3)
    assert host.profile.optimizer.state_bytes == both.profile.optimizer.state_bytes == 0
    assert peak(here) - peak(host) >= 7.5 * trained
    assert both.profile.memory.gradient_bytes == 0 < host.profile.memory.gradient_bytes
    assert isinstance(memory_run({**PEAK, **BERT, "sharding": "FSDP CPU offload"}, *tools), str)


def test_selective_recomputation_takes_less_than_every_second_block(tools: Tools) -> None:
    full = {"method": "scratch", "method_detail": "", "source_id": "torchtitan-2024", "micro_batch": "32"}
    none, layer, op, all_of_it = (
        describe_row(tools, **{**full, "act_ckpt": how})
        for how in ("none", "selective (every 2nd layer)", "selective", "full")
    )
    assert peak(all_of_it) < peak(op) < peak(layer) < peak(none)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"method_detail": "train_galore.sh"}, "not described"),
        ({"model": "Emu3-Gen", "params_m": ""}, "not known"),
        ({"sharding": "DDP/device_map", "n_gpus": "8"}, "device_map"), ({"domain": "nlp", "model": "Stable-Diffusion-v1-4", "precision": "fp32", "optimizer": "AdamW"}, "no description"),
        ({"other_flags": "batch 32 may be accumulated"}, "part of the stated batch"),
        ({"domain": "vision-det", "model": "solov2_light_r50_fpn_3x_coco", "precision": "fp32"}, "not described"),
        ({"domain": "vision", "precision": "int3"}, "precision"), ({"method_detail": "model init only"}, "first step"),
    ],
)  # fmt: skip
def test_rows_without_a_prediction_have_a_reason(tools: Tools, change: dict[str, str], reason: str) -> None:
    assert reason in str(memory_run({**PEAK, **change}, *tools))


def test_usable_memory_of_a_card_is_that_of_the_prediction(tools: Tools) -> None:
    usable = memory_rows.card_gib("A100-40GB")
    assert usable is not None
    assert math.isclose(usable, 40 * 0.985 - 0.3, rel_tol=1e-6)
    assert memory_rows.card_gib("80GB class") is None
