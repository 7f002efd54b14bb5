"""
Settings beside the method, in the order to try them: precision, micro-batch, 8-bit optimizer, recomputation.

Each setting is a variant of the traced profile that is priced like any other. The variant with the fewest settings wins
unless another is clearly cheaper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from trainfare_core.candidates import sharding_label
from trainfare_core.job_profile import JobProfile
from trainfare_core.methods.fp8_products import fp8_line
from trainfare_core.recommendation import Option

WORTH_IT: Final = 0.97
"""A variant with more settings must cost less than this part of one with fewer. Chosen: 3 % is inside the error of a
predicted step time, and each setting may need the learning rate checked again."""
_ADAMS: Final = frozenset({"Adam", "AdamW"})
_EIGHT_BIT: Final = 2.03 / 8.0
"""
Bytes of Adam's state in 8 bits over those in fp32: two one-byte moments and their block scales (Dettmers et al.
2022).
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """
    A profile with some settings changed.

    Attributes:
        profile: of the changed run.
        knobs: the settings in words, in the order to try them; empty is the job unchanged.
        needs_nvidia: its kernels (bitsandbytes) run on NVIDIA GPUs only.
    """

    profile: JobProfile
    knobs: tuple[str, ...]
    needs_nvidia: bool = False


def eight_bit_adam(variant: Variant) -> Variant | None:
    """Return the variant with Adam's two moments in 8 bits; None where the optimizer is not Adam."""
    optimizer = variant.profile.optimizer
    if not optimizer.names or not set(optimizer.names) <= _ADAMS or not optimizer.state_bytes:
        return None
    smaller = round(optimizer.state_bytes * _EIGHT_BIT)
    saved = optimizer.state_bytes - smaller
    plan = variant.profile.plan
    profile = variant.profile.model_copy(
        update={
            "optimizer": optimizer.model_copy(update={"state_bytes": smaller}),
            "plan": plan.model_copy(update={"checkpoint_bytes": max(0, plan.checkpoint_bytes - saved)}),
        }
    )
    return Variant(profile, (*variant.knobs, f"8-bit {optimizer.names[0]}"), needs_nvidia=True)


def without_activations(variant: Variant) -> Variant:
    """Return the variant as if backward needed nothing of forward: none that recomputes costs less or is smaller."""
    memory = variant.profile.memory.model_copy(
        update={"saved_activation_bytes": 0, "largest_temporary_bytes": 0, "moments": (), "blocks": None}
    )
    return replace(variant, profile=variant.profile.model_copy(update={"memory": memory}), needs_nvidia=False)


def best_variant(options: Sequence[tuple[Variant, Option]]) -> tuple[Variant, Option] | None:
    """Return the cheapest variant, or one with fewer settings that costs hardly more."""
    best: tuple[Variant, Option] | None = None
    for variant, option in sorted(options, key=lambda pair: len(pair[0].knobs)):
        if best is None or option.run_usd.mid < WORTH_IT * best[1].run_usd.mid:
            best = (variant, option)
    return best


def knob_lines(variant: Variant, option: Option) -> tuple[str, ...]:
    """Return all settings of a run in words, in the order to try them."""
    batch = [] if option.micro_batch_size is None else [f"micro-batch {option.micro_batch_size}"]
    if option.accumulate_grad_batches > 1:
        batch.append(f"accumulate {option.accumulate_grad_batches} micro-batches")
    lines = [f"precision {variant.profile.precision}", *([", ".join(batch)] if batch else [])]
    lines += [knob for knob in variant.knobs if not knob.startswith("precision ")]
    if option.sharding not in ("none", "ddp"):
        lines.append(f"sharded over the devices ({sharding_label(option.sharding)})")
    fp8 = fp8_line(variant.profile, option)
    return (*lines, fp8) if fp8 else tuple(lines)
