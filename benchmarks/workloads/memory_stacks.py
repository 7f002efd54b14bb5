"""Defaults of the frameworks behind published rows that change memory: state, gradients, loss, recomputation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from benchmarks.workloads.decoder import DecoderStep
from benchmarks.workloads.decoder_moments import changed, with_less_saved
from trainfare_core.job_profile import JobProfile, MemoryFacts, MemoryMoment

__all__ = ["with_loss", "with_selected_operations", "with_state"]

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
_SHIFTED_LOSS = r"qwen|fsdp-qlora|^hf-|^fms-"
"""Sources that train with the causal loss of transformers before 4.46, which copies fp32 logits shifted by a token."""
_KEPT_LOGITS = r"peft|ms-swift"
"""Sources with the loss of transformers from 4.46 on, whose output keeps the 16-bit logits through backward."""
_NO_LOGITS = "seq_cls"
"""Mark of rows that train a sequence classifier, which has no logits of tokens."""
_IN_PLACE_LOSS = "fused triton kernels \\(cross-entropy"
"""Mark of rows whose cross-entropy reads the 16-bit logits and writes their gradients over them."""
_FUSED_LOSS = r"axolotl"
"""Sources whose recipes fuse the head with the loss (cut cross-entropy), so that no logits are stored."""
_CHUNKED_LOSS = r"torchtune(?!-flags)|torchao-ft"
"""Sources whose recipes compute the loss in eight chunks by default."""
_LOGITS_BYTES = 10
"""Of one logit during the loss: 2 in 16 bits, 4 in fp32, 4 of the log-softmax; as many in backward."""


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

    return changed(memory, lambda m: {"gradient_bytes": of(m)}, gradient_bytes=size)


def _with_update(memory: MemoryFacts, size: int) -> MemoryFacts:
    """Return the memory with an optimizer update that allocates so many bytes."""
    return changed(memory, lambda m: {"optimizer_bytes": size} if m.phase == "optimizer" else {})


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
        profile: of one sample.
        row: of the table.
        text: its notes.
        logits: number of logits of one sample.
        headless: traces the same step with few logits, whose instants are those of the blocks; None: not traced.
    """
    more = _bytes_of_a_logit(row["source_id"], text) * logits
    facts = profile.memory
    kept = max(0, facts.saved_activation_bytes - 4 * logits)

    def at(moment: MemoryMoment) -> dict[str, int]:
        """Change the activations before the first gradient; the saved ones of the blocks stay."""
        around = moment.phase == "forward" or (moment.phase == "backward" and not moment.gradient_bytes)
        size = moment.activation_bytes
        return {"activation_bytes": max(min(kept, size), int(size + more)) if around else size}

    saved = facts.saved_activation_bytes - int(min(max(-more, 0), 4 * logits))
    memory = changed(facts, at, saved_activation_bytes=saved)
    if headless is not None and more < 0:  # a smaller loss may not be the peak
        memory = memory.model_copy(update={"moments": (*memory.moments, *headless().memory.moments)})
    return profile.model_copy(update={"memory": memory})


def _bytes_of_a_logit(source: str, text: str) -> float:
    """Return the bytes of one logit that the loss of a source holds more than a cross-entropy over fp32 logits."""
    if "chunked ce" in text or re.search(_CHUNKED_LOSS, source):
        return 4 + 10 / 8 - _LOGITS_BYTES
    if re.search(_FUSED_LOSS, source) or _NO_LOGITS in text or "liger" in text:
        return -_LOGITS_BYTES
    if re.search(_IN_PLACE_LOSS, text):
        return 2 - _LOGITS_BYTES
    if "transformer-impl" in text:  # Megatron's works in the place of the fp32 logits
        return -4
    if re.search(_SHIFTED_LOSS, source):
        return 4  # the shifted copy in forward; the logits themselves, which the output keeps, in backward
    return 2 if re.search(_KEPT_LOGITS, source) else 0


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
    kept = 2 * step.sequence * model.layers * (attention + products // 2)
    less = facts.saved_activation_bytes - again.memory.saved_activation_bytes - kept
    return profile.model_copy(update={"memory": with_less_saved(facts, less)})
