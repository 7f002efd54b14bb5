"""A row of throughput_train.csv that measured a decoder, as a profile, a parallel plan and the seconds of a step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.language_models.sums import (
    DEEPSPEED_SUFFIX,
    GRAPH_PRECISION,
    LIBRARY_PRECISION,
)
from trainfare_core.prediction.memory.peak import usable_memory_bytes
from trainfare_research.workloads.language.decoder import Decoder, DecoderStep, Method, Recompute
from trainfare_research.workloads.language.decoder_names import context_of, decoder_of
from trainfare_research.workloads.language.decoder_plans import Plan, is_one_graph, plan_of
from trainfare_research.workloads.language.decoder_profile import DecoderTraces, Software

_TASKS = (
    "pretrain", "finetune-lora", "finetune-qlora", "finetune-sft", "finetune-full", "finetune-adapter",
    "finetune-adapter_v2",
)  # fmt: skip
_MEMORY_TASKS = {"lora": "finetune-lora", "qlora": "finetune-qlora", "full_finetune": "finetune-full"}
"""Task of a row of a memory table, by its method."""
_FORM = re.compile(r"^([A-Z]+\d+)-(\d+GB)$")
"""How memory tables name a card without its form."""
_OTHER_MODELS = re.compile(
    r"(?<![a-z])(bert|clip|vit|swin|bart|t5|whisper|wav2vec|ast-|bridgetower|llava|amplify|yolo|language-per|vision-per)"
    r"|resnet"
)
_FUSED_KEPT_SHARE = 0.6
"""Saved activations with fused kernels over those of separate operations. A chosen value, which only decides how much
is recomputed in rows that do not state it."""
_FUSED = re.compile(r"compile|jax|thunder|nemo|megatron-core|synapse|neuronx")
"""Frameworks with a compiler or fused kernels."""
_LIBRARY = re.compile(r"nemo[ /]|megatron-core|maxtext|jax|synapse|neuronx")
"""Those that run libraries of fused kernels (Transformer Engine, XLA, vendors' graph compilers); the model
counts their casts, exchanges and launches of experts by rules of their own (`LIBRARY_PRECISION`)."""
_NARROW_PRODUCTS = {"fp8": "fp8", "mxfp8": "fp8", "int8": "int8", "nvfp4": "fp4"}
"""Type of a block's products by the precision of a row, where they have fewer than 16 bits."""
RECOMPUTED: Final[dict[Recompute, str]] = {"none": "no", "half": "half of all", "full": "all"}
_BLOCKS_OF_A_CHUNK = 2
"""Blocks of one pipeline chunk, where several stages are stated and no chunks. NeMo's rows of dense models that state
them have 1 to 4 blocks in each, most 1 or 2. With experts some state one chunk a stage: there one is assumed."""
_PACKED_TOKENS = 256
"""Tokens of each short sample that NeMo's fine-tuning packs into one of the stated length, across which no attention
goes. Its tables with FLOPs state those of the weights alone (6 a weight and token, 4 with LoRA): samples are short. A
chosen value; attention is 1 % of the work there, so that shorter samples would take as long."""
_ASSUMED_TOKENS = 8192
"""Tokens of one device's micro-batch where a row gives a utilisation and no batch."""
_ASSUMED_SAMPLES = 1024
"""Samples of a pretraining step where a row states a micro-batch alone."""
_UPDATE_BYTES = 28.0
"""Moved of each trained weight by an optimizer step: AdamW in one kernel, with a master, two states and the gradient in
32 bits."""
_USUAL_RANK = 16
"""LoRA's rank where a row does not state it: that of most rows that do."""
_LORA_FLOPS = (0.6, 0.7)
"""Range of FLOPs per token over those of full training that means frozen weights: 4 N of 6 N, for N weights. Not with
experts: one pretraining table states 0.69 for what another of the same source states 0.83."""
_OWN_FLOPS = (0.6, 1.6)
"""Range of stated over traced FLOPs per token in which a row's model is taken to be the described one. A chosen value,
wide enough for the conventions of counting (causal attention, embeddings, recomputation)."""


@dataclass(frozen=True)
class DecoderRun:
    """
    One measured configuration.

    Attributes:
        profile: of one sample of the whole model on one device.
        micro_batch: samples of one forward pass of a model replica.
        passes: forward passes of a replica in one optimizer step.
        step_s: measured seconds of one optimizer step; from the row's utilisation where it states no time.
        assumed: what the row does not state and was assumed.
    """

    device: Accelerator
    profile: JobProfile
    plan: Plan
    micro_batch: float
    passes: int
    step_s: float
    tokens_per_step: float
    parameters: int
    experts: bool
    assumed: tuple[str, ...]


def is_decoder_row(row: Mapping[str, str]) -> bool:
    """Return whether a row measured a language model that is not an encoder."""
    return (
        _task(row) in _TASKS
        and not _OTHER_MODELS.search(row["model"].lower())
        and row["throughput_unit"] in ("tokens/s", "samples/s", "sequences/s")
    )


def step_of_memory_row(row: Mapping[str, str], columns: Sequence[str]) -> dict[str, str] | None:
    """
    Return a row of a memory table as a row of throughput_train.csv, or None where it states no whole step.

    That is: one device, a language model, seconds of an optimizer step and its passes, samples of one length, and every
    weight frozen or trained as LoRA, QLoRA or full fine-tuning name it. Rows of several devices do not say how
    these are linked. A card whose form is not stated counts as the SXM one.
    """
    seconds = re.fullmatch(r"([\d.]+)s/it", row["throughput"])
    accumulated = re.search(r"grad accum (\d+)", row["other_flags"])
    task = _MEMORY_TASKS.get(row["method"])
    stated = task and row["domain"] == "llm" and row["n_gpus"] == "1" and row["seq_len_or_res"].isdigit()
    if not (seconds and accumulated and stated) or "emb" in row["method_detail"]:
        return None
    line = dict.fromkeys(columns, "")
    return line | {
        "source": row["source_id"], "model": row["model"], "task": str(task),
        "accelerator": _FORM.sub(r"\1-SXM-\2", row["gpu"]),
        "batch_per_device": row["micro_batch"], "sequence_length": row["seq_len_or_res"],
        "precision": row["precision"],
        "global_batch": str(int(row["micro_batch"]) * int(accumulated[1])), "devices": "1", "nodes": "1",
        "strategy": "single", "activation_checkpointing": "full" if row["act_ckpt"] == "yes" else row["act_ckpt"],
        "optimizer": row["optimizer"], "throughput_unit": "samples/s", "step_time_origin": "reported",
        "step_time_ms": f"{float(seconds[1]) * 1e3:g}", "framework": "pytorch (transformers)",
        "notes": f"{row['other_flags']}; gradient accumulation {accumulated[1]}; HF SFTTrainer",
    }  # fmt: skip


def _task(row: Mapping[str, str]) -> str:
    """Return the task as one of the spellings that tables use: "finetune_lora" is "finetune-lora"."""
    return row["task"].replace("finetune_", "finetune-")


def decoder_run(row: Mapping[str, str], traces: DecoderTraces) -> DecoderRun | str:
    """Return the run that a row measured, or why it cannot be described."""
    try:
        device = accelerator(row["accelerator"])
    except UnknownNameError:
        return f"{row['accelerator']} is not in the catalogue"
    if "SUSPECT" in row["notes"]:
        return "marked suspect"
    if "LAUNCH_BOUND" in row["notes"]:
        return "marked launch bound: no measurement of a model"
    if "document mask" in row["notes"]:
        return "attention within documents of unknown length"
    model = decoder_of(row["model"], row)
    if isinstance(model, str):
        return model
    plan = plan_of(row, device)
    if isinstance(plan, str):
        return plan
    assumed: list[str] = []
    plan = _interleave_plan(row, plan, model, assumed)
    sequence = int(float(row["sequence_length"] or 0))
    if not sequence:
        sequence = context_of(row["model"]) or 2048
        if _task(row).startswith("finetune"):
            return "samples of unknown length"
        assumed.append(f"{sequence} tokens a sample")
    size = _batch(row, plan, sequence, assumed)
    if isinstance(size, str):
        return size
    micro, passes = size
    if _task(row).startswith("finetune") and row["framework"].startswith("nemo"):
        micro, sequence = micro * sequence / _PACKED_TOKENS, _PACKED_TOKENS
        assumed.append(f"packed samples of {sequence} tokens")
    megatron_2021 = not plan.overlap
    method = _method(row)
    step = DecoderStep(
        model, sequence, fused_attention=not (megatron_2021 or "no fused attention" in row["notes"]),
        dropout=megatron_2021, method=method,
        rank=_rank(row, assumed) if method in ("lora", "qlora") else _USUAL_RANK,
        lora_everywhere="LoRA on every matrix" in row["notes"],
        separate="HF SFTTrainer" in row["notes"], fused_norms="RMSNorm" in row["notes"],
        precision="16-true" if "fp16" in row["precision"] else "bf16-true",
    )  # fmt: skip
    step = _recomputing(row, step, plan, micro, device, traces, assumed)
    fused = _FUSED.search(row["framework"].lower()) and "eager" not in row["framework"].lower()
    compiled = bool(fused or re.search(r"fused Triton kernels|; torch\.compile", row["notes"]))
    updated = re.search(r"optimizer bytes a weight=(\d+)", row["notes"])
    precision = suffix = ""
    if _LIBRARY.search(row["framework"].lower()):
        precision = GRAPH_PRECISION if is_one_graph(row, device) else LIBRARY_PRECISION
    elif megatron_2021 and "deepspeed" in row["framework"]:
        suffix = DEEPSPEED_SUFFIX
    software = Software(
        _NARROW_PRODUCTS.get(row["precision"], ""), compiled, float(updated[1]) if updated else _UPDATE_BYTES,
        precision, suffix,
    )  # fmt: skip
    profile = traces.run_by(software, step)
    tokens = micro * passes * plan.data * sequence
    spread = re.search(r"(?<![a-z])ep\s*=?\s*\d", row["strategy"].lower()) or "jax" in row["framework"]
    if model.experts and plan.sharded and not spread:
        return "how experts are spread is not stated"
    own_flops = _parse_stated_flops(row, profile, sequence)
    if (
        own_flops
        and not model.experts
        and step.method == "full"
        and _LORA_FLOPS[0] <= own_flops <= _LORA_FLOPS[1]
        and row["framework"].startswith("nemo")
    ):
        return decoder_run({**row, "task": "finetune-lora"}, traces)
    if own_flops and step.method == "full" and not _OWN_FLOPS[0] <= own_flops <= _OWN_FLOPS[1]:
        return "its TFLOP/s and tokens/s do not belong to this model"
    step_s = _parse_measured_s(row, device, profile, tokens, sequence)
    if step_s is None:
        return "neither time nor throughput nor utilisation"
    return DecoderRun(
        device,
        profile,
        plan,
        micro,
        passes,
        step_s,
        tokens,
        model.parameters,
        bool(model.experts),
        tuple(assumed),
    )


def _interleave_plan(row: Mapping[str, str], plan: Plan, model: Decoder, assumed: list[str]) -> Plan:
    """Return the plan, with the usual chunks where a row of NeMo has several stages and does not state their chunks."""
    stated = re.search(r"vp", row["strategy"].lower())
    if plan.pipeline == 1 or stated or model.experts or not row["framework"].startswith("nemo"):
        return plan
    virtual = max(1, round(model.layers / plan.pipeline / _BLOCKS_OF_A_CHUNK))
    assumed.append(f"{virtual} chunks a stage")
    return replace(plan, virtual=virtual)


def _parse_stated_flops(row: Mapping[str, str], profile: JobProfile, sequence: int) -> float | None:
    """Return FLOPs per token from the row's FLOP/s and tokens/s, over the traced ones; None where it lacks a rate."""
    if not (row["model_tflops_per_device"] and row["throughput"]) or row["throughput_unit"] != "tokens/s":
        return None
    rate = float(row["model_tflops_per_device"]) * 1e12 * int(float(row["devices"]))
    return rate / float(row["throughput"]) / (profile.model_step_flops / sequence)


def _batch(row: Mapping[str, str], plan: Plan, sequence: int, assumed: list[str]) -> tuple[float, int] | str:
    """Return samples of one forward pass of a replica, and passes of one step, or why they are not known."""
    stated = float(row["batch_per_device"] or 0)
    whole = float(row["global_batch"] or 0)
    tokens = re.search(r"global tokens per step=(\d+)", row["notes"])
    if tokens:
        whole = float(tokens[1]) / sequence
    accumulate = re.search(r"(?:grad_accum=|micro_num=|gradient accumulation )(\d+)", row["notes"])
    if not whole and accumulate and stated:
        whole = stated * int(accumulate[1]) * plan.data
    if not whole and not stated:
        if not (row["mfu"] or row["model_tflops_per_device"]):
            return "the batch is not stated"
        stated = max(1.0, _ASSUMED_TOKENS / sequence)
        assumed.append(f"{stated:g} samples a device")
        return stated, 1
    if not whole:
        whole = max(float(_ASSUMED_SAMPLES), stated * plan.data)
        assumed.append(f"{whole:g} samples a step")
    share = whole / plan.data
    if accumulate and row["source"] != "llm-foundry":
        passes = int(accumulate[1])
        return share / passes, passes
    if not stated:
        stated = 1.0 if row["framework"].startswith("nemo") or share > 4 or plan.pipeline > 1 else share
        assumed.append(f"micro-batches of {stated:g}")
    passes = max(1, round(share / stated))
    return share / passes, passes


def _method(row: Mapping[str, str]) -> Method:
    if "qlora" in _task(row) or "quant=bnb" in row["notes"]:
        return "qlora"
    if "lora" in _task(row):
        return "lora"
    return "adapter" if "adapter" in _task(row) else "full"


def _rank(row: Mapping[str, str], assumed: list[str]) -> int:
    """Return LoRA's rank: hardly any of the time, so a row that does not state it is described, with a note."""
    stated = re.search(r"\br(?:ank)?\s?=?(\d+)\b", row["notes"])
    if stated is None:
        assumed.append(f"rank {_USUAL_RANK}")
    return int(stated[1]) if stated else _USUAL_RANK


def _recomputing(
    row: Mapping[str, str], step: DecoderStep, plan: Plan, micro: float, device: Accelerator,
    traces: DecoderTraces, assumed: list[str],
) -> DecoderStep:  # fmt: skip
    """
    Return the step with the recomputation that the row states.

    Where it states none, the least of none, every second block and all is taken with which the step fits into the
    device. Where weights, gradients and optimizer state alone seem not to fit, the estimate is too high to decide, and
    nothing is recomputed.
    """
    stated = row["activation_checkpointing"].lower()
    kinds: dict[str, Recompute] = {"full": "full", "none": "none", "": "none"}
    if stated:
        return replace(step, recompute=kinds.get(stated, "half"))
    facts = traces.profile(step)
    share = plan.tensor * plan.pipeline
    shards = share * (plan.data if plan.sharded or plan.sharded_optimizer else 1)
    trained = facts.trainable_parameters
    spread = share * (min(plan.expert, plan.data) if step.model.experts and not plan.sharded else 1)
    weights = shards if plan.sharded else spread
    states = facts.parameter_bytes / weights + 14.0 * trained / max(shards, spread)
    in_flight = min(plan.pipeline, 4) if plan.pipeline > 1 else 1
    fused = _FUSED_KEPT_SHARE if _FUSED.search(row["framework"].lower()) else 1.0
    gradients = 2.0 * trained / weights
    room = usable_memory_bytes(device) - states - gradients
    if room <= 0:
        return step
    # MaxText recomputes either nothing or everything.
    steps = [how for how in RECOMPUTED if how != "half" or "maxtext" not in row["framework"]]
    for how in steps:
        kept_bytes = (
            traces.profile(replace(step, recompute=how)).memory.saved_activation_bytes * micro * in_flight
        )
        if kept_bytes * fused / (share * plan.context) <= room:
            break
    if how != "none":
        assumed.append(f"recomputation of {RECOMPUTED[how]} activations")
    return replace(step, recompute=how)


def _parse_measured_s(
    row: Mapping[str, str], device: Accelerator, profile: JobProfile, tokens: float, sequence: int
) -> float | None:
    """Return the seconds of one optimizer step; they may follow from the row's throughput or utilisation."""
    if row["step_time_origin"] == "reported" and row["step_time_ms"] and "micro" not in row["measured"]:
        return float(row["step_time_ms"]) / 1e3
    if row["throughput"]:
        rate = float(row["throughput"]) * (1 if row["throughput_unit"] == "tokens/s" else sequence)
        return tokens / rate
    # MFU and FLOP/s count attention but no recomputation.
    peak = device.peak_flops_per_s("bf16")
    if row["mfu"] and peak:
        rate = float(row["mfu"]) / 100 * peak
    elif row["model_tflops_per_device"]:
        rate = float(row["model_tflops_per_device"]) * 1e12
    else:
        return None
    flops = profile.model_step_flops / sequence * tokens
    return flops / (rate * int(float(row["devices"])))
