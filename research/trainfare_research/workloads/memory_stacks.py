"""Defaults of the frameworks behind published rows that change memory: state, gradients, loss, recomputation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from trainfare_core.job_profile import JobProfile, MemoryFacts, MemoryMoment
from trainfare_research.workloads.language.decoder import DecoderStep
from trainfare_research.workloads.language.decoder_moments import change_memory, with_less_saved

_UPCAST = "bf16 AMP"
"""Precision whose trained weights accelerate casts to fp32 where FSDP shards them."""
_FOREACH = "hf sfttrainer"
"""Trainers whose AdamW updates all weights at once, with a copy of them as large as the gradients."""
_STATE_BYTES = ((r"8-?bit|fp8", 2.03), (r"4-?bit", 1.06), (r"adafactor", 0.01))
"""Bytes of optimizer state per trained weight: two moments in 8 or 4 bits with their scales; Adafactor's factors."""
_OLD_TORCH = r"^hf-perf|detectron2|^mm"
"""Sources older than torch 2.0, whose `zero_grad` keeps the gradients and writes zeros."""
_GRAPH_UPDATE = r"\btf 1"
_GRAPH_COPIES = 4
"""Copies of the gradients while a TensorFlow 1 graph updates all weights at once (the Adam of BERT's repository): the
clipped gradients, both new moments, and the update."""
_TRACED_LOSS = (8.0, 12.0)
"""
Bytes of one logit that a traced cross-entropy over fp32 logits holds, at the end of forward and in backward: logits and
log-softmax; log-softmax and the gradients of both.
"""
_SAVED_LOGIT = 4.0
"""Bytes of them that wait for backward: the log-softmax."""
_NO_LOSS = (0.0, 0.0)
_LOSSES: tuple[tuple[str, tuple[float, float]], ...] = (
    # Chunks of the logits in 16 bits, the log-softmax of each, and one chunk of the rest.
    ("chunked ce", (6.5, 7.25)), ("torchtune(?!-flags)|torchao-ft", (6.5, 7.25)),
    # A head fused with its loss, or a classifier of sequences: no logits of tokens.
    ("axolotl|seq_cls|liger", _NO_LOSS),
    # Megatron's works in the place of the fp32 logits, beside those in 16 bits.
    ("transformer-impl|bigscience", (6.0, 6.0)),
    # Unsloth's kernel under the causal loss of transformers: fp32 logits, and a copy shifted by a token, in whose
    # place the gradients are written. From 4.46 on the output keeps the logits in 16 bits.
    (r"transformers 4\.4[0-5]\b.*triton kernels \(cross-entropy", (8.0, 8.0)),
    (r"triton kernels \(cross-entropy", (10.0, 8.0)),
    # The causal loss of transformers, before 4.46 and from then on: fp32 logits, their shifted copy, the log-softmax.
    (r"transformers 4\.4[0-5]\b|qwen|fsdp-qlora|hf-perf", (12.0, 12.0)), ("fms-acceleration", (14.0, 12.0)),
    # The same with an output that the loop keeps through backward.
    ("peft-mc|ms-swift", (14.0, 14.0)),
)  # fmt: skip
"""Bytes of one logit as in `_TRACED_LOSS`, by a mark of the row's source or notes; the first that is there counts."""


def with_state(profile: JobProfile, row: Mapping[str, str], text: str) -> JobProfile:
    """Return the profile with the optimizer state, gradients and weights that the row's trainer keeps."""
    trained = profile.trainable_parameters
    weights, gradients, state = 1.0, profile.memory.gradient_bytes, float(profile.optimizer.state_bytes)
    keep = bool(re.search(_OLD_TORCH, row["source_id"]))
    plain = row["optimizer"].lower() in ("adamw", "adam", "sgd-m", "")
    if "fp32 main grads" in row["precision"]:  # Megatron: main gradients stay from step to step
        keep, gradients, state = True, 4 * trained, 12.0 * trained
    elif _UPCAST in row["precision"] and row["sharding"] == "FSDP" and "hf sfttrainer" in text:
        factor = 2.0 if trained == sum(g.count for g in profile.parameters) else 1.0
        weights, gradients, state = factor, 4 * trained, 8.0 * trained
    elif "bf16/fp32 mixed" in row["precision"] or re.search(r"torchtitan", f"{row['source_id']} {text}"):
        weights, gradients, state = 2.0, 4 * trained, 8.0 * trained
    elif "zero" in row["sharding"].lower():
        state = 12.0 * trained
        gradients = 4 * trained if "fp32 grad" in text else gradients
    for pattern, size in _STATE_BYTES:
        if re.search(pattern, row["optimizer"].lower()):
            state = size * trained
            break
    if row["optimizer"].lower().startswith("muon"):
        state -= 4.0 * trained
    memory = _with_gradients(profile.memory, int(gradients), keep=keep)
    if "offload" in row["optimizer"].lower():
        # Moments and update are on the host; gradients stay on the device unless they are offloaded as well.
        state, away = 0.0, "gradients" in row["optimizer"].lower()
        memory = _with_update(_with_gradients(memory, 0 if away else memory.gradient_bytes, keep=keep), 0)
    if re.search(_FOREACH, text) and not re.search("8-?bit|paged|fused", row["optimizer"].lower()):
        memory = _with_update(memory, memory.gradient_bytes)
    if re.search(_GRAPH_UPDATE, row["other_flags"].lower()):
        memory = _with_update(memory, _GRAPH_COPIES * memory.gradient_bytes)
    return profile.model_copy(
        update={
            "parameters": tuple(
                g.model_copy(update={"parameter_bytes": int(g.parameter_bytes * weights)})
                for g in profile.parameters
            ),
            "memory": memory,
            "optimizer": profile.optimizer.model_copy(
                update={
                    "state_bytes": int(state),
                    "implementation": profile.optimizer.implementation if plain else "fused",
                }
            ),
        }
    )


def _with_gradients(memory: MemoryFacts, size: int, *, keep: bool) -> MemoryFacts:
    """Return the memory with gradients of this size, which are released before the next forward pass unless `keep`."""
    scale = size / max(memory.gradient_bytes, 1)

    def of(moment: MemoryMoment) -> int:
        if keep:
            return size
        return 0 if moment.phase == "forward" else int(moment.gradient_bytes * scale)

    return change_memory(memory, lambda m: {"gradient_bytes": of(m)}, gradient_bytes=size)


def _with_update(memory: MemoryFacts, size: int) -> MemoryFacts:
    """Return the memory with an optimizer update that allocates so many bytes."""
    return change_memory(memory, lambda m: {"optimizer_bytes": size} if m.phase == "optimizer" else {})


def with_loss(
    profile: JobProfile,
    row: Mapping[str, str],
    text: str,
    logits: int,
    headless: Callable[[], JobProfile] | None = None,
) -> JobProfile:
    """
    Return the profile with the loss of the row's framework in place of a cross-entropy over fp32 logits.

    Args:
        profile: of one sample, as traced.
        row: of the table.
        text: its notes.
        logits: number of logits of one sample.
        headless: traces the same step with few logits, whose instants are those of the blocks; None: not traced.
    """
    forward, backward = (
        ours - traced for ours, traced in zip(_loss_of(row, text), _TRACED_LOSS, strict=True)
    )
    facts = profile.memory
    kept_bytes = max(0, facts.saved_activation_bytes - int(_SAVED_LOGIT * logits))
    first = min((m.gradient_bytes for m in facts.moments if m.phase == "backward"), default=0)

    def at(moment: MemoryMoment) -> dict[str, int]:
        """Change the activations before the first gradient; the saved ones of the blocks stay."""
        size, more = moment.activation_bytes, forward if moment.phase == "forward" else backward
        around = moment.phase == "forward" or (moment.phase == "backward" and moment.gradient_bytes == first)
        return {"activation_bytes": max(min(kept_bytes, size), int(size + more * logits)) if around else size}

    memory = change_memory(
        facts, at, saved_activation_bytes=kept_bytes
    )  # a pipeline's stages share those of the blocks alone
    if headless is not None:  # the loss may not be the peak
        memory = memory.model_copy(update={"moments": (*memory.moments, *headless().memory.moments)})
    return profile.model_copy(update={"memory": memory})


def _loss_of(row: Mapping[str, str], text: str) -> tuple[float, float]:
    marks = f"{row['source_id']} {text}"
    return next((loss_class for mark, loss_class in _LOSSES if re.search(mark, marks)), _TRACED_LOSS)


def with_selected_operations(profile: JobProfile, again: JobProfile, step: DecoderStep) -> JobProfile:
    """
    Return the profile with selective recomputation: results of attention and of every second matrix product are kept.

    Args:
        profile: of the model with half of its blocks recomputed.
        again: of the model with all blocks recomputed.
        step: the decoder.
    """
    model, facts = step.model, profile.memory
    attention = model.head * model.heads
    # Widths of the results of the four matrix products around attention, then of the feed-forward.
    products = model.hidden + attention + 2 * model.head * model.kv_heads
    products += model.ffn * (2 if model.gated else 1) + model.hidden
    kept_bytes = 2 * step.sequence * model.layers * (attention + products // 2)
    less = facts.saved_activation_bytes - again.memory.saved_activation_bytes - kept_bytes
    return profile.model_copy(update={"memory": with_less_saved(facts, less)})
