"""What the stack that ran a published row does to memory unasked: state, gradients, the loss, recomputation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from benchmarks.workloads.decoder import DecoderStep
from trainfare_core.job_profile import JobProfile, MemoryFacts, MemoryMoment

__all__ = ["with_loss", "with_selected_operations", "with_state"]

_STATE_BYTES = ((r"8-?bit|fp8", 2.03), (r"4-?bit", 1.06), (r"adafactor", 0.01))
"""Bytes of optimizer state a trained weight: two moments in 8 or 4 bits with their scales; factored moments."""
_OLD_TORCH = r"^hf-perf|detectron2"
"""Sources older than torch 2.0, whose `zero_grad` keeps the gradients and writes zeros."""
_GRAPH_UPDATE = r"\btf 1"
_GRAPH_COPIES = 4
"""Copies of the gradients in an update that a TensorFlow 1 graph runs at once (BERT's own Adam): the clipped ones, both
next moments, and the update itself."""
_SHIFTED_LOSS = r"qwen|fsdp-qlora|^hf-"
"""Sources that train with the causal loss of transformers before 4.46, which copies fp32 logits shifted by a token."""
_KEPT_LOGITS = r"peft|ms-swift"
"""Sources that train with today's: the output keeps the 16-bit logits through backward."""
_NO_LOGITS = "seq_cls"
_FUSED_LOSS = r"axolotl"
"""Sources whose recipes fuse head and loss (cut cross-entropy)."""
_CHUNKED_LOSS = r"torchtune(?!-flags)|torchao-ft"
"""Sources whose recipes take the loss of the logits in eight parts unasked."""
_LOGITS_BYTES = 10
"""Of one logit where the loss is: 16 bits, fp32, and the logarithm of the softmax; in backward as many."""


def with_state(profile: JobProfile, row: Mapping[str, str], text: str) -> JobProfile:
    """Return the profile with what the row's trainer keeps: fp32 masters, gradients in fp32, small moments."""
    trained = profile.trainable_parameters
    weights, gradients, state = 1.0, profile.memory.gradient_bytes, float(profile.optimizer.state_bytes)
    keep = bool(re.search(_OLD_TORCH, row["source_id"]))
    plain = row["optimizer"].lower() in ("adamw", "adam", "sgd-m", "")
    if "bf16/fp32 mixed" in row["precision"] or re.search(r"torchtitan", f"{row['source_id']} {text}"):
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
        # The host has the moments and makes the update; gradients stay here unless they are moved one by one.
        state, away = 0.0, "gradients" in row["optimizer"].lower()
        memory = _with_update(_with_gradients(memory, 0 if away else memory.gradient_bytes, keep=keep), 0)
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
    """Return the memory with gradients of this size, released before the next forward as a plain loop does; or kept."""
    scale = size / max(memory.gradient_bytes, 1)

    def of(moment: MemoryMoment) -> int:
        if keep:
            return size
        return 0 if moment.phase == "forward" else int(moment.gradient_bytes * scale)

    moments = tuple(m.model_copy(update={"gradient_bytes": of(m)}) for m in memory.moments)
    return memory.model_copy(update={"gradient_bytes": size, "moments": moments})


def _with_update(memory: MemoryFacts, size: int) -> MemoryFacts:
    """Return the memory with an update that allocates this much beside what is there."""
    moments = tuple(
        m.model_copy(update={"optimizer_bytes": size}) if m.phase == "optimizer" else m
        for m in memory.moments
    )
    return memory.model_copy(update={"moments": moments})


def with_loss(profile: JobProfile, row: Mapping[str, str], text: str, logits: int) -> JobProfile:
    """
    Return the profile with the loss of the row's stack in place of a plain cross-entropy over fp32 logits.

    Args:
        profile: one sample.
        row: of the table.
        text: its notes.
        logits: of one sample.
    """
    source = row["source_id"]
    if "chunked ce" in text or re.search(_CHUNKED_LOSS, source):
        return _around_the_loss(profile, logits, lambda size: size - (_LOGITS_BYTES - 4 - 10 / 8) * logits)
    if re.search(_FUSED_LOSS, source) or _NO_LOGITS in text:
        return _around_the_loss(profile, logits, lambda size: size - _LOGITS_BYTES * logits)
    if re.search(_SHIFTED_LOSS, source):
        # The shifted copy in forward; the logits themselves, which the output keeps, in backward.
        return _around_the_loss(profile, logits, lambda size: size + 4 * logits)
    if re.search(_KEPT_LOGITS, source):
        return _around_the_loss(profile, logits, lambda size: size + 2 * logits)
    return profile


def _around_the_loss(profile: JobProfile, logits: int, change: Callable[[int], float]) -> JobProfile:
    """Return the profile with its instants before the first gradient changed; what blocks keep is always there."""
    facts = profile.memory
    kept = max(0, facts.saved_activation_bytes - 4 * logits)

    def at(moment: MemoryMoment) -> MemoryMoment:
        around = moment.phase == "forward" or (moment.phase == "backward" and not moment.gradient_bytes)
        size = moment.activation_bytes
        changed = max(min(kept, size), int(change(size))) if around else size
        return moment.model_copy(update={"activation_bytes": changed})

    less = _LOGITS_BYTES * logits - change(_LOGITS_BYTES * logits) if logits else 0
    saved = facts.saved_activation_bytes - int(min(max(less, 0), 4 * logits))
    moments = tuple(at(moment) for moment in facts.moments)
    memory = facts.model_copy(update={"saved_activation_bytes": saved, "moments": moments})
    return profile.model_copy(update={"memory": memory})


def with_selected_operations(profile: JobProfile, again: JobProfile, step: DecoderStep) -> JobProfile:
    """
    Return the profile where single operations are kept: attention's results and those of every second product.

    Args:
        profile: the same with half of its blocks recomputed.
        again: the same with all of them recomputed.
        step: the decoder.
    """
    model, facts = step.model, profile.memory
    attention = model.head * model.heads
    products = (
        model.hidden + attention + 2 * model.head * model.kv_heads
    )  # results of the four around attention
    products += model.ffn * (2 if model.gated else 1) + model.hidden
    kept = 2 * step.sequence * model.layers * (attention + products // 2)
    less = facts.saved_activation_bytes - again.memory.saved_activation_bytes - kept
    moments = tuple(
        m.model_copy(update={"activation_bytes": m.activation_bytes - less})
        if m.activation_bytes > less
        else m
        for m in facts.moments
    )
    saved = facts.saved_activation_bytes - less
    memory = facts.model_copy(update={"saved_activation_bytes": saved, "moments": moments})
    return profile.model_copy(update={"memory": memory})
