"""Fitted coefficients of language models; `research/trainfare_research/fitting/language_models.py` writes the file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from trainfare_core.documents import Record, data_text
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator, accelerators

USUAL_CEILING: Final = 0.8
"""Share of the dense peak that the best matrix product reaches, where it was not measured; near the mean of those
that were (0.76)."""


ALIKE: Final = 0.15
"""Chips of one generation whose peaks differ by less than this share count as alike. A chosen value."""


class DecoderFit(Record):
    """
    Coefficients of `decoder_times`, with their provenance: date of the fit, hash of the data, rows by source.

    `matmul_ceiling` is measured, by accelerator and type ("bf16", "fp8"): the best matrix product over the dense
    peak. The efficiencies multiply it (products) or the datasheet's figure (attention, bandwidth). Products in 4 bits
    have the measured share of 16 bits and the efficiency of those in 8. Everything else holds for all devices;
    `kind_factor` multiplies the device time of what is not a GPU.
    """

    fitted_at: str
    data_sha256: str
    fitted_on: dict[str, int]
    generations: tuple[str, ...]
    """Generations of the accelerators that had rows."""
    vendors: tuple[str, ...]
    """Their makers."""
    matmul_ceiling: dict[str, dict[str, float]]
    product_efficiency: float
    product8_efficiency: float
    integer_efficiency: float
    """Of products of integers of 8 bits."""
    grouped_efficiency: float
    attention_efficiency: float
    batched_efficiency: float
    misaligned_efficiency: float
    """Of the efficiency of batched products, what those of heads that 8 does not divide reach."""
    vector_efficiency: float
    cast_bytes_share: float
    """Of the bytes of casts to 8 bits, what is moved: many are fused into the operation before."""
    unpack_efficiency: float
    """Of the bandwidth, what unpacking weights of 4 bits reaches; it is bound by its integer arithmetic."""
    host_launch_s: float
    unfused_host_factor: float
    """The same for trainers that issue gradients after backward: they also issue more, smaller operations."""
    narrow_slope: float
    """Loss of efficiency for every halving of a product's width below 4,096."""
    expert_slope: float
    """The same for experts, below 16,384, by the geometric mean of the sides of their larger matrix."""
    kind_factor: dict[str, float]
    deepspeed_factor: float
    """Device time of Megatron of 2021 under DeepSpeed's engine over that without it."""
    framework_slope: float
    """Exponent of the bf16 peak over an A100's (up to an H100's) by which eager and compiled PyTorch take longer."""
    tensor_exposed: float
    """Share of the tensor-parallel exchange that the step waits for, where a library overlaps it with products."""
    expert_exposed: float
    data_exposed: float
    """Share of gradient and weight traffic that is exposed even where there is enough to hide it behind."""
    shard_unit_s: float
    """Of one block whose weights are sharded, in one pass: what its gathers and reductions cost whatever their size."""
    network_efficiency: float
    sigma: dict[str, float]
    """Standard deviation of ln(measured / predicted) by situation: 80 % of rows left out of the fit lie inside."""

    def ceiling(self, device: Accelerator, dtype: str) -> float:
        """
        Return the share of the dense peak that the best matrix product reaches on `device`.

        A device that was not measured reaches the share of the measured one of its die that has the most similar power
        for its peak, since power limits the clock. Without one it counts as the mean of its generation, else of its
        maker. A type that was not measured there reaches the share that bf16 reaches, and what was not measured at all
        `USUAL_CEILING`.
        """
        for dtype_name in (dtype, "bf16"):
            measured = self.matmul_ceiling.get(dtype_name, {})
            same_die = _nearest_of_die(device, measured)
            for name in (*same_die, f"generation:{device.generation}", f"vendor:{device.vendor}", "any"):
                if name in measured:
                    return measured[name]
        return USUAL_CEILING

    def knows_ceiling(self, device: Accelerator) -> bool:
        """Whether the best matrix product was measured on `device`, or on one of its generation and of its speed."""
        peak = device.peak_flops_per_s("bf16") or 0.0
        for name in self.matmul_ceiling.get("bf16", {}):
            if name == device.name:
                return True
            if name == "any" or ":" in name:
                continue
            other = accelerator(name)
            near = abs(peak - (other.peak_flops_per_s("bf16") or 0.0)) <= ALIKE * peak
            if other.generation == device.generation and near:
                return True
        return False

    def has_rows(self, device: Accelerator) -> bool:
        """
        Whether runs on this very device are among the rows.

        Rows are listed by generation: they are of the devices whose best matrix product was timed, or of the only one.
        """
        if device.generation not in self.generations or device.name in self.matmul_ceiling.get("bf16", {}):
            return device.generation in self.generations
        return [other.name for other in accelerators() if other.generation == device.generation] == [
            device.name
        ]

    def roofline(self) -> DecoderFit:
        """Return the same with every efficiency 1 and nothing but kernels: what no prediction may beat."""
        return self.model_copy(
            update={
                "matmul_ceiling": {"bf16": {"any": 1.0}, "fp8": {"any": 1.0}, "fp4": {"any": 1.0}},
                "product_efficiency": 1.0, "product8_efficiency": 1.0, "integer_efficiency": 1.0,
                "grouped_efficiency": 1.0,
                "attention_efficiency": 1.0, "batched_efficiency": 1.0,
                "misaligned_efficiency": 1.0, "vector_efficiency": 1.0,
                "unpack_efficiency": 1.0, "narrow_slope": 0.0, "expert_slope": 0.0, "host_launch_s": 0.0,
                "shard_unit_s": 0.0, "kind_factor": {}, "deepspeed_factor": 1.0, "framework_slope": 0.0,
            }
        )  # fmt: skip


def _nearest_of_die(device: Accelerator, measured: Iterable[str]) -> tuple[str, ...]:
    """Return the measured device of the same die with the most similar watts for a FLOP/s; none where there is none."""
    siblings = [
        other
        for name in measured
        if name != "any" and ":" not in name and (other := accelerator(name)).silicon == device.silicon
    ]

    def distance(other: Accelerator) -> tuple[bool, float]:
        return other != device, abs(math.log(_watts_per_flop(other) / _watts_per_flop(device)))

    return (min(siblings, key=distance).name,) if siblings else ()


def _watts_per_flop(device: Accelerator) -> float:
    peak = device.peak_flops_per_s("bf16") or device.peak_flops_per_s("fp16") or 1.0
    return (device.power_w or 1.0) / peak


@lru_cache(maxsize=1)
def decoder_calibration() -> DecoderFit:
    """Return the coefficients that ship with trainfare, read once per process."""
    return DecoderFit.model_validate_json(data_text("decoder_calibration.json"))
