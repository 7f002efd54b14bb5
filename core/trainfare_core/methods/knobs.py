"""
Settings beside the method, in the order to try them: precision, micro-batch, 8-bit optimizer, recomputation; and what
products in fp8 would change of a run: predicted for the job, beside what published runs gained and lost.

Each setting is a variant of the traced profile that is priced like any other. The variant with the fewest settings wins
unless another is clearly cheaper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from trainfare_core.candidates import SHARDINGS, CandidateTable, sharding_label
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.columns import Run
from trainfare_core.prediction.engine import predict_run, prepare
from trainfare_core.prediction.uncertainty import UNFITTED_SIGMA, Z80
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.recommendation import Option
from trainfare_core.variants import PUBLISHED, in_8_bits, may_be_in_8_bits

_FP8_PARAMETERS: Final = 3e9
"""
Smaller models gain little from fp8 products: +11-16 % tokens/s at 3B and +10-25 % at 8B were published, none below.
"""


def fp8_line(profile: JobProfile, option: Option) -> str:
    """
    Return the predicted step of a run whose products of linear layers are in fp8; "" where none can gain.

    The model has at least 3 billion parameters, and the chip a peak in fp8 above that in bf16. The interval is that of
    a precision without fitted rows.

    Args:
        profile: the job.
        option: its run.
    """
    count = sum(group.count for group in profile.parameters)
    device = accelerator(option.accelerator)
    fp8, bf16 = device.peak_flops_per_s("fp8"), device.peak_flops_per_s("bf16")
    chosen = may_be_in_8_bits(profile)
    if (
        count < _FP8_PARAMETERS
        or not fp8
        or not bf16
        or fp8 <= bf16
        or not any(map(chosen, profile.operations))
    ):
        return ""
    own_run = prepare(profile)
    changed = replace(prepare(in_8_bits(profile, chosen)), correction=own_run.correction)
    before_s, after_s = (_on_one_device_s(run, option) for run in (own_run, changed))
    if not math.isfinite(after_s):
        return ""
    # What devices exchange stays what it is.
    ratio = 1 - (before_s - after_s) / max(option.step_s.mid, before_s)
    spread = math.exp(Z80 * UNFITTED_SIGMA)
    low, mid, high = (
        f"{100 * abs(factor - 1):.0f} % {'less' if factor < 1 else 'more'}"
        for factor in (ratio / spread, ratio, ratio * spread)
    )
    return (
        f"fp8 products of linear layers (torchao): a step is predicted to take {mid} time (80 %: {low} to {high}); "
        f"{PUBLISHED}"
    )


def _on_one_device_s(run: Run, option: Option) -> float:
    """Return the seconds of the passes of an option's step on one of its devices."""
    own_micro, micro = run.profile.batch.micro_batch_size, option.micro_batch_size
    shapes = MachineShapes(
        accelerator=np.array([option.accelerator]), accelerator_count=np.ones(1), vcpus=np.full(1, np.nan),
        memory_gib=np.full(1, np.nan), network_gbit_per_s=np.full(1, np.nan),
    )  # fmt: skip
    plan = CandidateTable(
        shape=np.zeros(1, dtype=np.int64), nodes=np.ones(1, dtype=np.int64),
        sharding=np.full(1, SHARDINGS.index("none")), micro_batch=np.full(1, micro or np.nan, dtype=np.float64),
        micro_ratio=np.full(1, micro / own_micro if micro and own_micro else 1.0),
        accumulate=np.full(1, option.accumulate_grad_batches),
    )  # fmt: skip
    return float(predict_run(run, shapes, plan).step_s[0])


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
