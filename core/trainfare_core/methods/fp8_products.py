"""What products in fp8 would change of a run: predicted for the job, beside what published runs gained and lost."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np

from trainfare_core.candidates import SHARDINGS, CandidateTable
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
