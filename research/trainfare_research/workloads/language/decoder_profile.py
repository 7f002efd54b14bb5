"""
Profiles of whole decoders, assembled from traces of one and of two blocks.

    profile(n blocks) = trace(first) + sum over kinds of (blocks of the kind) x (trace(first, kind) - trace(first))

A kind is a dense block or a block with experts, or the mixer of a block of a `Hybrid`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from trainfare_core.job_profile import JobProfile, MemoryFacts, OperationGroup
from trainfare_core.prediction.language_models.sums import UNPACK_4_BITS
from trainfare_core.variants import in_8_bits, multiplies_weights
from trainfare_research.workloads.cache import TraceStore
from trainfare_research.workloads.language.decoder import Decoder, DecoderStep, trace_blocks
from trainfare_research.workloads.language.decoder_moments import (
    change_memory,
    moments_of_blocks,
    with_less_saved,
)
from trainfare_research.workloads.language.hybrid import trace_hybrid_blocks
from trainfare_research.workloads.language.hybrid_parts import Hybrid
from trainfare_research.workloads.tracer_digest import tracer_digest

_BLOCKS = Path(__file__).with_name("decoder.py")
_HYBRID_BLOCKS = tuple(
    Path(__file__).with_name(f"{name}.py") for name in ("hybrid", "hybrid_parts", "linear_attention")
)


@dataclass(frozen=True)
class Software:
    """
    What a row's software makes of a trace.

    Attributes:
        narrow: type of the products of its blocks; "": that of the trace.
        compiled: whether a compiler fuses its pointwise operations.
        optimizer_bytes: that the update moves of each trained weight.
        precision: of the profile, which names the library; "": that of the trace.
        suffix: of the precision, which names the engine.
    """

    narrow: str
    compiled: bool
    optimizer_bytes: float
    precision: str = ""
    suffix: str = ""


class DecoderTraces:
    """
    Profiles of whole decoders; traces of blocks are kept and shared between models of different depth.

    Args:
        folder: where traces are kept, created where it is missing; None: in memory only.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._store = TraceStore(folder)
        self._whole: dict[DecoderStep, JobProfile] = {}
        self._run: dict[tuple[DecoderStep, Software], JobProfile] = {}

    def profile(self, step: DecoderStep) -> JobProfile:
        """
        Return the profile of one step of the whole model on one sample and one device.

        Raises:
            TraceError: torch cannot run it on fake tensors.
        """
        if step not in self._whole:
            self._whole[step] = self._assemble(step)
        return self._whole[step]

    def run_by(self, software: Software, step: DecoderStep) -> JobProfile:
        """
        Return the profile of one step as some software runs it; the same one for the same step and software.

        Raises:
            TraceError: torch cannot run it on fake tensors.
        """
        if (step, software) not in self._run:
            profile = self.profile(step)
            if software.narrow:
                profile = with_narrow_products(profile, step.model.vocabulary, software.narrow)
            source = profile.source.model_copy(update={"compiled": software.compiled})
            precision = (software.precision or profile.precision) + software.suffix
            profile = profile.model_copy(update={"source": source, "precision": precision})
            self._run[step, software] = _with_optimizer_bytes(profile, software.optimizer_bytes)
        return self._run[step, software]

    def _assemble(self, step: DecoderStep) -> JobProfile:
        if step.recompute == "half":
            kept_profile, again = (self.profile(replace(step, recompute=how)) for how in ("none", "full"))
            return _mean(kept_profile, again)
        blocks = blocks_of(step.model)
        first = blocks[0]
        base = self._trace(step, (first,))
        counts = Counter(blocks)
        counts[first] -= 1
        whole = base
        more: list[tuple[MemoryFacts, int]] = []
        for kind, count in sorted(counts.items()):
            if count:
                two = self._trace(step, (first, kind))
                whole = _plus(whole, base, two, count)
                more.append((two.memory, count))
        moments = moments_of_blocks(base.memory, more)
        whole = whole.model_copy(update={"memory": whole.memory.model_copy(update={"moments": moments})})
        whole = _group_expert_products(whole, step.model.experts)
        return whole if step.method != "qlora" else _with_four_bits(whole, step.model.vocabulary)

    def _trace(self, step: DecoderStep, kinds: tuple[Any, ...]) -> JobProfile:
        step = replace(step, method="lora") if step.method == "qlora" else step
        hybrid = isinstance(step.model, Hybrid)
        sources = (_BLOCKS, *_HYBRID_BLOCKS) if hybrid else (_BLOCKS,)
        text = f"{step.key(kinds)}\n{tracer_digest(sources, ('torch',))}"
        name = f"decoder-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        profile = self._store.load(name)
        if profile is None:
            trace = trace_hybrid_blocks if hybrid else trace_blocks
            profile = self._store.save(name, trace(step, kinds))
        return profile


def blocks_of(model: Decoder) -> tuple[bool, ...] | tuple[str, ...]:
    """Return for each block whether it has experts; of a hybrid, its kind."""
    if isinstance(model, Hybrid):
        return model.blocks
    return tuple(bool(model.experts) and layer >= model.dense_layers for layer in range(model.layers))


def _mean(kept_profile: JobProfile, again: JobProfile) -> JobProfile:
    """Return the profile of a model of which every second block is recomputed: the mean of none and of all."""
    first, other = _by_key(kept_profile.operations), _by_key(again.operations)
    groups = tuple(
        group if key in first and key in other else _halve_group(group)
        for key, group in (first | other).items()
    )
    less = (kept_profile.memory.saved_activation_bytes - again.memory.saved_activation_bytes + 1) // 2
    return kept_profile.model_copy(
        update={"operations": groups, "memory": with_less_saved(kept_profile.memory, less)}
    )


def _halve_group(group: OperationGroup) -> OperationGroup:
    fields = ("launches", "flops", "bytes_read", "bytes_written")
    update = {name: int(getattr(group, name)) // 2 for name in fields}
    update["bytes_fixed"] = min(group.bytes_fixed // 2, update["bytes_read"] + update["bytes_written"])
    return group.model_copy(update=update)


def _plus(whole: JobProfile, first: JobProfile, two: JobProfile, count: int) -> JobProfile:
    """Return `whole` plus `count` times the difference between `two` and `first`."""
    groups = _by_key(whole.operations)
    less = _by_key(first.operations)
    for key, group in _by_key(two.operations).items():
        groups[key] = _add_group(groups.get(key), less.get(key), group, count)
    weights, fewer = ({(p.dtype, p.trainable): p for p in of.parameters} for of in (whole, first))
    for part in two.parameters:
        weight_key = (part.dtype, part.trainable)
        sizes = _sums(
            weights.get(weight_key), fewer.get(weight_key), part, count, ("count", "parameter_bytes")
        )
        weights[weight_key] = part.model_copy(update=sizes)
    facts, names = whole.memory, ("saved_activation_bytes", "gradient_bytes", "buffer_bytes")
    memory = _sums(facts, first.memory, two.memory, count, names)
    memory["largest_temporary_bytes"] = max(facts.largest_temporary_bytes, two.memory.largest_temporary_bytes)
    state = _sums(whole.optimizer, first.optimizer, two.optimizer, count, ("state_bytes",))
    return whole.model_copy(
        update={
            "operations": tuple(group for group in groups.values() if group.launches > 0),
            "parameters": tuple(weights.values()),
            "optimizer": whole.optimizer.model_copy(update=state),
            "memory": facts.model_copy(update=memory),
        }
    )


def _sums(
    whole: BaseModel | None, first: BaseModel | None, two: BaseModel, count: int, names: Sequence[str]
) -> dict[str, int]:
    """Return fields of `whole` plus `count` times the difference between `two` and `first`; what is None counts 0."""

    def of(part: BaseModel | None, name: str) -> int:
        return 0 if part is None else int(getattr(part, name))

    return {name: max(0, of(whole, name) + count * (of(two, name) - of(first, name))) for name in names}


def _make_key(group: OperationGroup) -> tuple[object, ...]:
    shape = () if group.phase == "optimizer" else group.shape
    return (group.kind, group.name, group.phase, group.dtype, shape, group.recomputed)


def _by_key(groups: Iterable[OperationGroup]) -> dict[tuple[object, ...], OperationGroup]:
    groups_by_key: dict[tuple[object, ...], OperationGroup] = {}
    for group in groups:
        key = _make_key(group)
        groups_by_key[key] = (
            group if key not in groups_by_key else _add_group(groups_by_key[key], None, group, 1)
        )
    return groups_by_key


def _add_group(
    whole: OperationGroup | None, less: OperationGroup | None, more: OperationGroup, count: int
) -> OperationGroup:
    sizes = _sums(
        whole, less, more, count, ("launches", "flops", "bytes_read", "bytes_written", "bytes_fixed")
    )
    sizes["bytes_fixed"] = min(sizes["bytes_fixed"], sizes["bytes_read"] + sizes["bytes_written"])
    share = _compute_fused_bytes_share([(whole, 1), (less, -count), (more, count)])
    return (whole or more).model_copy(update={**sizes, "fused_bytes_share": share})


def _compute_fused_bytes_share(parts: Iterable[tuple[OperationGroup | None, int]]) -> float | None:
    """Return what a fusing compiler leaves of the bytes of groups, each so many times; None where one does not say."""
    left = moved = 0.0
    for group, times in parts:
        if group is not None and group.bytes_moved:
            if group.fused_bytes_share is None:
                return None
            left += times * group.bytes_moved * group.fused_bytes_share
            moved += times * group.bytes_moved
    return min(max(left / moved, 0.0), 1.0) if moved > 0 else None


def _group_expert_products(profile: JobProfile, experts: int) -> JobProfile:
    """Return the profile with the batched matrix products of experts as grouped ones, which frameworks run instead."""
    if not experts:
        return profile

    def regroup(group: OperationGroup) -> OperationGroup:
        if group.kind != "matmul" or not group.bytes_fixed or group.shape[0] != experts:
            return group
        _, rows, columns, depth = group.shape
        update = {"kind": "grouped_matmul", "shape": (experts, rows * experts, columns, depth)}
        return group.model_copy(update=update)

    return profile.model_copy(update={"operations": tuple(regroup(group) for group in profile.operations)})


def _with_four_bits(profile: JobProfile, vocabulary: int) -> JobProfile:
    """
    Return the profile with frozen weights in 4 bits, which every matrix product first dequantises to 16 bits.

    NF4 with doubly quantised scales takes 4 + 8/64 + 32/(64 x 256) = 4.127 bits a weight (Dettmers et al. 2023).
    """
    bits = 4.127 / 16
    frozen = sum(g.parameter_bytes for g in profile.parameters if not g.trainable)
    largest = 0
    extra: list[OperationGroup] = []
    for group in profile.operations:
        weight = group.bytes_fixed
        if group.kind != "matmul" or not multiplies_weights(group, vocabulary):
            continue
        if group.shape[2] * group.shape[3] * 2 * group.launches > weight:
            continue
        largest = max(largest, weight // max(group.launches, 1))
        extra.append(
            group.model_copy(
                update={
                    "kind": "copy", "name": UNPACK_4_BITS, "shape": (weight // 2 // max(group.launches, 1),),
                    "flops": 0, "bytes_read": int(weight * bits), "bytes_written": weight,
                    "bytes_fixed": weight + int(weight * bits),
                }
            )
        )  # fmt: skip
    embedding = min(frozen, _embedding_bytes(profile, vocabulary))
    kept_bytes = embedding + (frozen - embedding) * bits
    parameters = tuple(
        g
        if g.trainable
        else g.model_copy(update={"parameter_bytes": int(kept_bytes * g.parameter_bytes / frozen)})
        for g in profile.parameters
    )
    memory = change_memory(
        profile.memory,
        lambda m: {"fixed_bytes": m.fixed_bytes + (largest if m.phase != "optimizer" else 0)},
        largest_temporary_bytes=profile.memory.largest_temporary_bytes + largest,
    )
    return profile.model_copy(
        update={"operations": (*profile.operations, *extra), "parameters": parameters, "memory": memory}
    )


def _embedding_bytes(profile: JobProfile, vocabulary: int) -> int:
    """Return the bytes of input embedding and output head, which stay in 16 bits."""
    heads = [g.bytes_fixed for g in profile.operations if g.kind == "matmul" and vocabulary in g.shape]
    return 2 * max(heads, default=0)


def with_narrow_products(profile: JobProfile, vocabulary: int, dtype: str = "fp8") -> JobProfile:
    """Return the profile with the matrix products of its blocks, neither head nor router, in 8 bits or "fp4"."""
    return in_8_bits(profile, lambda group: multiplies_weights(group, vocabulary), dtype)


def _with_optimizer_bytes(profile: JobProfile, bytes_a_weight: float) -> JobProfile:
    """Return the profile with an optimizer step that moves so many bytes of each trained weight."""
    traced = sum(group.bytes_moved for group in profile.operations if group.phase == "optimizer")
    factor = bytes_a_weight * profile.trainable_parameters / max(traced, 1)

    def move_bytes(group: OperationGroup) -> OperationGroup:
        if group.phase != "optimizer":
            return group
        sizes = ("bytes_read", "bytes_written", "bytes_fixed")
        return group.model_copy(update={name: int(getattr(group, name) * factor) for name in sizes})

    return profile.model_copy(update={"operations": tuple(move_bytes(group) for group in profile.operations)})
