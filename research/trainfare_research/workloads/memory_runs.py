"""A row of memory_reference.csv as a traced profile, a micro-batch and a parallel plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import nn

from trainfare_core.candidates import ModelParallel
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.memory.peak import MemoryParts, memory_parts
from trainfare_research.workloads.cache import ProfileCache, profile_of
from trainfare_research.workloads.language.decoder import Decoder, DecoderStep, Method, Recompute
from trainfare_research.workloads.language.decoder_names import decoder_of
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.memory_launches import (
    TRAINED_TABLES,
    UNFUSED,
    as_launched,
    with_forward_alone,
    with_fp32_tables,
    with_kept_inputs,
    with_trained_tables,
)
from trainfare_research.workloads.memory_stacks import with_loss, with_selected_operations, with_state
from trainfare_research.workloads.registry import resolve
from trainfare_research.workloads.single_device import StepJob

_FEW_TOKENS = 256
"""Vocabulary of the model that is traced to see the instants that the logits hide."""
_MEAN_TOKENS = r"logged mean (\d+) tokens"
"""How a row states the mean length of its samples."""
_SHORT_TOKENS = 256
"""Tokens of the traced sample of such rows: one trace does for all of them."""
_ALPACA_TOKENS = 1304
"""Longest sample of Alpaca in Llama 2's tokens: it sets the peak of a run over the whole data set."""
_RECIPES = {"llama3_2/3b_full": (4, 8)}
"""Recipes of torchtune by name: micro-batch and forward passes of a step; all train on Alpaca, unpacked."""
_DEFAULT_RANK = 8
"""Of LoRA where a row states none: the default of PEFT."""
_SHAPE = re.compile(
    r"layers (?P<layers>\d+), hidden (?P<hidden>\d+), heads (?P<heads>\d+), kv groups (?P<groups>\d+), "
    r"ffn (?P<ffn>\d+)(?P<gated> swiglu)?"
    r"(?:, experts (?P<experts>\d+) topk (?P<active>\d+) expert-ffn (?P<wide>\d+))?, vocab (?P<vocabulary>\d+)"
)
"""How Megatron's test cases state the sizes of their model."""
_UNDESCRIBED_METHODS = ("galore", "lisa", "llamapro", "emb", "ln tune", "partial", "head")
"""Methods that no LoRA stands for; every other adapter is traced as a LoRA with as many weights."""
_UNDESCRIBED = {
    "offload": "weights or activations on the host: not modelled",
    "optimizer.in.backward": "the optimizer runs inside backward: not modelled",
    "paged": "an optimizer paged to the host: not modelled",
    "model init only": "measured before the first step",
    "suspect_seq": "the table marks the length of its samples as unknown",
    "may be accumulated": "the micro-batch may be a part of the stated batch",
}
_UNDESCRIBED_MODELS = (
    ("ddrnet|pidnet", "what its figure counts is not known: a training step holds more"),
    ("faster.*openimages", "what it holds beside its network is not known"),
    (
        "mask2former.*youtube|maskformer.*coco|solov2.light|htc_x101|crop640",
        "its blocks, images or batch are not described",
    ),
)
"""Networks of OpenMMLab whose figure is not that of what their name describes, by pattern, and what is not known."""
_PRECISIONS = {
    "fp32": "fp32", "fp32 (tf32)": "tf32", "fp16-mixed": "amp_fp16", "fp16 amp": "amp_fp16", "bf16 amp": "bf16",
    "bf16 (pure)": "bf16", "bf16-true": "bf16",
}  # fmt: skip
_TASKS = {
    "vision": "imagenet-classification",
    "vision-det": "openmmlab-detection",
    "vision-seg": "openmmlab-segmentation",
    "vision-3d": "openmmlab-3d",
}
"""Task of `resolve`, by domain; other domains train from scratch, or fine-tune BERT on questions."""
_RECOMPUTE_SWITCHES = (
    "activation_checkpointing_enable",
    "gradient_checkpointing_enable",
    "set_grad_checkpointing",
)
"""Names of the method that turns recomputation on: in transformers, now and before, and in timm."""
_IMAGE_MODELS = {"vit-h/14-224": "vit_huge_patch14_224", "vit-giant/14": "vit_giant_patch14_dinov2"}


@dataclass(frozen=True)
class MemoryRun:
    """
    The run that a row measured.

    Attributes:
        profile: of one sample, or one micro-batch, of the whole model on one device.
        ratio: micro-batch over that of the profile.
        world: number of devices.
        sharded: whether weights, gradients and optimizer state are sharded over them.
        parallel: model parallelism; None: there is none.
        passes: forward passes of one optimizer step.
        flat_units: whether FSDP puts frozen and trained weights of a block into one flat parameter.
        last_stage: whether the figure is of the last stage of a pipeline, not of the fullest.
        own_buffers: whether the sharded optimizer reduces fp32 gradients in place, without buckets (Megatron).
        whole_gradients: whether gradients stay whole on every device until the last pass of a step (`no_sync` of FSDP).
        assumed: what the row does not state and was assumed.
    """

    profile: JobProfile
    ratio: float
    world: int
    sharded: bool
    parallel: ModelParallel | None = None
    passes: int = 1
    assumed: tuple[str, ...] = ()
    flat_units: bool = False
    last_stage: bool = False
    own_buffers: bool = False
    whole_gradients: bool = False

    def parts(self) -> MemoryParts:
        """Return the predicted parts of the memory of one device."""
        parts = self._compute_parts(self.parallel)
        if self.own_buffers and self.parallel is not None:
            plain = self._compute_parts(replace(self.parallel, sharded_optimizer=np.array([False])))
            return replace(parts, gradients_bytes=plain.gradients_bytes)
        if not self.whole_gradients:
            return parts
        return replace(parts, gradients_bytes=np.array([float(self.profile.memory.gradient_bytes)]))

    def _compute_parts(self, parallel: ModelParallel | None) -> MemoryParts:
        alone = self.last_stage and parallel is not None and int(parallel.virtual[0]) == 1
        return memory_parts(
            self.profile, np.array([self.ratio]), np.array([float(self.world)]), np.array([self.sharded]),
            parallel, np.array([1 if alone else self.passes]), flat_units=self.flat_units,
        )  # fmt: skip


def memory_run(row: Mapping[str, str], traces: DecoderTraces, cache: ProfileCache) -> MemoryRun | str:
    """
    Return the run that a row measured, or why it cannot be described.

    Raises:
        TraceError: torch cannot run the model on fake tensors.
    """
    row = as_launched(row)
    text = _all_text(row)
    reason = _explain_undescribed(row, text)
    if reason:
        return reason
    return _decoder_run(row, text, traces) if _is_decoder(row, text) else _other_run(row, cache)


def build_traced_job(row: Mapping[str, str]) -> StepJob | str:
    """Return the job of a row whose trace the cache keeps, or why there is none: language models have their own."""
    row = as_launched(row)
    text = _all_text(row)
    return _explain_undescribed(row, text) or (
        "a language model" if _is_decoder(row, text) else _other_job(row)
    )


def _explain_undescribed(row: Mapping[str, str], text: str) -> str:
    """Return why a row cannot be described by what it says; empty where it can."""
    plain = text.replace(row["optimizer"].lower(), "")
    return next((reason for phrase, reason in _UNDESCRIBED.items() if re.search(phrase, plain)), "")


def _all_text(row: Mapping[str, str]) -> str:
    return " ".join(row[k] for k in ("method_detail", "optimizer", "sharding", "other_flags")).lower()


def _is_decoder(row: Mapping[str, str], text: str) -> bool:
    return row["domain"] in ("llm", "vlm") or bool(_SHAPE.search(text))


def _decoder_run(row: Mapping[str, str], text: str, traces: DecoderTraces) -> MemoryRun | str:
    assumed: list[str] = []
    model = _model(row, text)
    if isinstance(model, str):
        return model
    if row["domain"] == "vlm":
        assumed.append("the language model alone")
    undescribed = row["method"] != "scratch" and re.search(
        "|".join(_UNDESCRIBED_METHODS), row["method_detail"].lower()
    )
    if undescribed and "mlp" not in text and TRAINED_TABLES not in text:
        return f"what {row['method_detail'].split('/')[-1][:30]} trains is not described"
    stated, passes = _recipe(text)
    if not (row["micro_batch"] or stated):
        assumed.append("micro-batches of 1")
    micro = float(row["micro_batch"] or stated or 1)
    mean = re.search(_MEAN_TOKENS, text)
    if mean and not row["seq_len_or_res"]:  # flash attention holds as much for one token of any sample
        micro *= int(mean[1]) / _SHORT_TOKENS
    megatron = bool(_SHAPE.search(text))
    old = (
        "gbs" in text or "transformer-impl local" in text or UNFUSED in text
    )  # separate matrix products and softmax, with dropout
    tokens = _tokens(row, text, assumed)
    if isinstance(tokens, str):
        return tokens
    step = DecoderStep(
        model, tokens, fused_attention=not old, dropout=old or megatron,
        recompute=_recompute(row, text, assumed), precision="16-true" if "fp16" in row["precision"] else "bf16-true",
        method=_method(row, assumed),
    )  # fmt: skip
    if step.method != "full":
        rank, everywhere = _rank(row, model, assumed)
        step = replace(step, rank=rank, lora_everywhere=everywhere)
    profile = traces.profile(step)
    if step.recompute == "half" and "layer" not in row["act_ckpt"]:  # torchtitan's default: by operation
        profile = with_selected_operations(profile, traces.profile(replace(step, recompute="full")), step)
    few = replace(step, model=replace(model, vocabulary=_FEW_TOKENS))
    headless = partial(_build_block_profile, few, traces, row, text) if step.method != "full" else None
    profile = with_loss(profile, row, text, step.sequence * model.vocabulary, headless)
    profile_of_run = with_trained_tables(
        with_fp32_tables(with_state(profile, row, text), row, step), row, step
    )
    run = _spread(row, profile_of_run, micro, text)
    if isinstance(run, str):
        return run
    passes = max(passes, run.passes)
    accumulated = re.search(r"gradient accumulation (\d+)", text)
    several = bool(accumulated and int(accumulated[1]) > 1)
    return replace(
        run, assumed=tuple(assumed), flat_units="litgpt" in row["source_id"], passes=passes,
        own_buffers=megatron, last_stage=megatron,
        whole_gradients=run.sharded and "hf sfttrainer" in text and several,
    )  # fmt: skip


def _build_block_profile(
    step: DecoderStep, traces: DecoderTraces, row: Mapping[str, str], text: str
) -> JobProfile:
    """Return the step with few logits, whose instants are those of the blocks."""
    profile = traces.profile(step)
    if step.recompute != "full" or "hf sfttrainer" not in text:
        return profile
    return with_kept_inputs(profile, step, sharded="fsdp" in row["sharding"].lower() and row["n_gpus"] != "1")


def _recipe(text: str) -> tuple[int, int]:
    """Return the micro-batch and passes of the recipe that the notes name; (0, 1) where they name none."""
    return next((recipe for name, recipe in _RECIPES.items() if name in text), (0, 1))


def _model(row: Mapping[str, str], text: str) -> Decoder | str:
    """Return the decoder that the notes describe completely, else that of the row's name."""
    shape = _SHAPE.search(text)
    if shape:
        return _build_stated_decoder(shape, float(row["params_m"] or 0) * 1e6)
    width = re.search(r"hidden (\d+)", text)
    layers = re.search(r"layers (\d+)|(\d+) layers", text)
    vocabulary = 250_880 if "vocab 250k" in text else 50_304
    if width and "gbs" in text:
        hidden = int(width[1])
        size = (float(row["params_m"]) * 1e6 - vocabulary * hidden) / (12 * hidden**2)
        depth = int(layers[1] or layers[2]) if layers else max(1, round(size))
        heads = re.search(r"heads (\d+)", text)
        count = int(heads[1]) if heads and hidden % int(heads[1]) == 0 else hidden // 128
        return Decoder(depth, hidden, count, count, 4 * hidden, vocabulary, gated=False, tied=True)
    return decoder_of(row["model"], {"params_m": row["params_m"], "notes": ""})


def _build_stated_decoder(shape: re.Match[str], parameters: float) -> Decoder:
    """Return the decoder of a row that states every size; its number of weights tells whether the head is tied."""
    layers, hidden, heads, groups, ffn = (
        int(shape[n]) for n in ("layers", "hidden", "heads", "groups", "ffn")
    )
    experts, active, wide = (int(shape[n] or 0) for n in ("experts", "active", "wide"))
    gated = bool(shape["gated"])
    tied, apart = (
        Decoder(
            layers, hidden, heads, groups, ffn, int(shape["vocabulary"]), gated=gated, experts=experts,
            active=active, expert_ffn=wide, tied=tied,
        )
        for tied in (True, False)
    )  # fmt: skip
    closer = abs(tied.parameters - parameters) <= abs(apart.parameters - parameters)
    return tied if closer else apart


def _tokens(row: Mapping[str, str], text: str, assumed: list[str]) -> int | str:
    """Return the tokens of a sample, or why they are not known."""
    match = re.search(r"\d+", row["seq_len_or_res"])
    if row["seq_len_or_res"].startswith("<=") or "packing=false" in text:
        return "only the greatest length of a sample is stated"
    if re.search(_MEAN_TOKENS, text) and not match:
        if "no pad tokens" not in text:
            return "only the mean length of padded samples is stated"
        assumed.append("every sample is as long as the mean")
        return _SHORT_TOKENS
    if not match:
        if "alpaca" not in text and not _recipe(text)[0]:
            return "the length of its samples is not stated"
        assumed.append(f"{_ALPACA_TOKENS} tokens a sample")
        return _ALPACA_TOKENS
    if "torchtune" in row["source_id"] and "unpacked" in text:  # its recipes train on Alpaca
        assumed.append("the longest sample of Alpaca")
        return min(int(match[0]), _ALPACA_TOKENS)
    if "max" in row["seq_len_or_res"] or "unpacked" in text:
        assumed.append("samples of the greatest length")
    return int(match[0])


def _recompute(row: Mapping[str, str], text: str, assumed: list[str]) -> Recompute:
    """Return which activations are recomputed: as stated, else the default of the framework (litgpt, torchtune)."""
    stated = row["act_ckpt"].lower()
    if stated.startswith(("selective", "per-op")):
        return "half"
    if stated:
        return "none" if stated in ("no", "none", "false") else "full"
    source = f"{row['source_id']} {text}"
    if ("litgpt" in source and row["sharding"] == "FSDP") or "torchtune" in source:
        return "full"
    if "litgpt" not in source:
        assumed.append("nothing is recomputed")
    return "none"


def _method(row: Mapping[str, str], assumed: list[str]) -> Method:
    if row["method"] in ("full_finetune", "scratch"):
        return "full"
    if row["method"] == "peft_other":
        assumed.append("another adapter, as a LoRA of its size")
    return "qlora" if row["method"] == "qlora" or "nf4" in row["precision"] else "lora"


def _rank(row: Mapping[str, str], model: Decoder, assumed: list[str]) -> tuple[int, bool]:
    """Return LoRA's rank, from the number of trained weights where it is stated, and whether it is on every matrix."""
    trained = re.search(r"trainable[= ]([\d,]+)", row["method_detail"])
    if trained:
        wide = model.head * (2 * model.heads + 2 * model.kv_heads) + 2 * model.hidden
        return max(1, round(int(trained[1].replace(",", "")) / (model.layers * wide))), False
    text = f"{row['method_detail']} {row['other_flags']}"
    rank = re.search(r"(?<![a-z])r(?:ank)?\s?=?(\d+)", text)
    everywhere = not re.search("q,v|q,k,v,o", text)
    if rank is None:
        assumed.append(f"rank {_DEFAULT_RANK}")
        return _DEFAULT_RANK, everywhere
    return int(rank[1]), everywhere


def _spread(row: Mapping[str, str], profile: JobProfile, micro: float, text: str) -> MemoryRun | str:
    world, how = int(row["n_gpus"] or 1), row["sharding"].lower()
    if "device_map" in how and ("device_map" in row["method_detail"] or "ddp" not in row["method_detail"]):
        return "copies, or layers over devices by device_map: which is not stated"
    sharded = world > 1 and ("fsdp" in how or "zero3" in how or "zero-3" in how)
    if how == "zero-2/3":
        sharded = row["method"] == "full_finetune"
    degree = {name: int(value) for name, value in re.findall(r"\b(tp|pp|cp|dp|vp|ep)(\d+)", how)}
    state_alone = world > 1 and not sharded and bool(re.search("zero(?!-0)|dist-opt", how))
    if not state_alone and not {"tp", "pp", "cp", "ep"} & degree.keys():
        return MemoryRun(profile, micro, world, sharded)
    tensor, pipeline, context = (degree.get(name, 1) for name in ("tp", "pp", "cp"))
    data = max(1, world // (tensor * pipeline * context))
    whole = re.search(r"gbs (\d+)", text)
    passes = max(1, round(int(whole[1]) / (micro * data))) if whole else pipeline
    if pipeline > 1 and sharded:  # torchtitan states the batch of all micro-batches of a step
        micro, passes = max(1.0, micro / pipeline), pipeline
    ones = np.ones(1, dtype=np.int64)
    parallel = replace(
        ModelParallel.none(1), tensor=ones * tensor, pipeline=ones * pipeline, context=ones * context,
        virtual=ones * _chunks(degree, text), expert=ones * degree.get("ep", 1),
        sharded_optimizer=np.array([state_alone]),
        # Megatron of 2021 had none; its test cases name it.
        sequence_parallel=np.array([bool(re.search(r"\bsp\b", how)) if _SHAPE.search(text) else "gbs" not in text]),
    )  # fmt: skip
    return MemoryRun(profile, micro, world, sharded, parallel, passes)


def _chunks(degree: Mapping[str, int], text: str) -> int:
    """Return the chunks of layers of a pipeline's device: Megatron's names state the layers of one ("vp1")."""
    shape = _SHAPE.search(text)
    if shape is None or "vp" not in degree:
        return 1
    return max(1, int(shape["layers"]) // (degree.get("pp", 1) * degree["vp"]))


def _other_run(row: Mapping[str, str], cache: ProfileCache) -> MemoryRun | str:
    """Return the run of an image classifier, a BERT or a detector, which `resolve` builds."""
    work = profile_of(_other_job(row), cache)
    if isinstance(work, str):
        return work
    profile = with_forward_alone(with_state(work.profile, row, ""), row)
    return MemoryRun(profile, work.ratio, int(row["n_gpus"] or 1), sharded=False)


def _other_job(row: Mapping[str, str]) -> StepJob | str:
    job = _step_job(row)
    if isinstance(job, StepJob) and row["act_ckpt"].lower() in ("full", "yes"):
        return replace(job, network=_recomputing(job.network), key=f"{job.key}.recompute")
    return job


def _recomputing(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """
    Return a builder of the same module with the recomputation of its library turned on.

    Raises:
        TraceError: the library has none for this model.
    """

    def build_recomputing() -> nn.Module:
        module = build()
        for part in module.modules():
            for name in _RECOMPUTE_SWITCHES:
                switch = getattr(part, name, None)
                if callable(switch):
                    switch()
                    return module
        raise TraceError("this model's library cannot recompute its blocks")

    return build_recomputing


def _task(row: Mapping[str, str]) -> str:
    """Return the task under which `resolve` knows a row's model."""
    if row["model"].startswith("d2/"):
        return "detection"
    if row["domain"] in _TASKS:
        return _TASKS[row["domain"]]
    if row["domain"] == "vision-cls" and row["method"] == "full_finetune":
        return "imagenet-classification"
    if row["domain"] == "nlp" and row["method"] == "scratch" and row["seq_len_or_res"]:
        return "pretrain"
    return "train" if row["method"] == "scratch" else "finetune-squad"


def _framework(flags: str) -> str:
    """Return the release of PyTorch as the tables of steps spell it: it decides how attention is computed."""
    match = re.search(r"torch[- ](\d+\.\d+)", flags.lower())
    return f"pytorch {match[1]}" if match else ""


def _step_job(row: Mapping[str, str]) -> StepJob | str:
    precision = _PRECISIONS.get(row["precision"].lower())
    if precision is None:
        return "precision is not stated, or not a mode of torch that a trace shows"
    task, name = _task(row), row["model"]
    for pattern, reason in _UNDESCRIBED_MODELS:
        if task.startswith("openmmlab") and re.search(pattern, name.lower()):
            return reason
    if task in ("imagenet-classification", "finetune-squad", "detection"):
        name = name.split(" ")[0].lower()
    size = re.search(r"\d+", row["seq_len_or_res"])
    job = resolve(
        {
            "task": task, "model": _IMAGE_MODELS.get(name, name), "precision": precision, "optimizer": row["optimizer"],
            "source": "timm" if task[0] == "i" else row["source_id"],
            "batch_per_device": row["micro_batch"], "global_batch": "",
            "devices": "1", "image_size": size[0] if size else "", "sequence_length": size[0] if size else "",
            "notes": row["other_flags"], "framework": _framework(row["other_flags"]), "throughput_unit": "samples/s",
        }
    )  # fmt: skip
    if isinstance(job, StepJob) and ("pure" in row["precision"] or "true" in row["precision"]):
        return replace(job, precision="bf16-true", key=f"{job.key}.true")
    if isinstance(job, StepJob) and precision == "amp_fp16":
        # fp32 weights under autocast; `resolve` takes fp16 weights, as the throughput tables have.
        return replace(job, precision="16-mixed", key=f"{job.key}.mixed")
    return job
