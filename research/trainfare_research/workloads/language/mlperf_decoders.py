"""
Language models of MLPerf Training with the parallel plans of their submissions.

A result log states devices, samples and forward passes of a step, not the plan. Where a forward pass of a replica is
one sample, as in all public launch scripts of these benchmarks, the plan splits a model over
`devices x passes / samples` devices. How it does is taken from NVIDIA's launch scripts, which most submitters use:
tensor parallelism over 4 devices, then a pipeline for pre-training, and context parallelism over the rest. Where that
leaves a device more weights than it has memory, the log's number of passes is not that of the plan, and the row has
none. GPT-3 on TPU has the meshes of Google's launch scripts (mlcommons/training_results_v4.0 and v3.1,
`Google/benchmarks/gpt3`; AI-Hypercomputer/maxtext, `MaxText/configs`): weights are sharded over a slice, and slices
have copies. GPT-3 on Gaudi has tensor parallelism over 8 and a pipeline over what a log's passes leave (`run_gpt.sh` of
Intel's submissions). Other models there have no plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.language_models.sums import LIBRARY_PRECISION
from trainfare_core.prediction.memory.peak import usable_memory_bytes
from trainfare_research.workloads.language.decoder import Decoder, DecoderStep, Recompute
from trainfare_research.workloads.language.decoder_names import decoder_of
from trainfare_research.workloads.language.decoder_plans import Plan, network_of
from trainfare_research.workloads.language.decoder_profile import DecoderTraces, with_narrow_products
from trainfare_research.workloads.language.decoder_rows import DecoderRun

_TENSOR = 4
"""Devices of tensor parallelism in NVIDIA's launch scripts (`..xtp4pp1cp2.sh`, `..x4x8_mbs1.sh`)."""


@dataclass(frozen=True)
class _Benchmark:
    """What is trained, and how NVIDIA's submissions split what tensor parallelism leaves."""

    model: str
    """Its name in decoders.csv."""
    sequence: int
    """Tokens of a sample."""
    method: Literal["full", "lora"] = "full"
    pipeline: int = 1
    """Most stages; 0: as many as tensor parallelism leaves."""
    blocks: int = 1
    """Of one pipeline stage (interleaved schedule)."""


_BENCHMARKS = {
    "gpt3": _Benchmark("GPT3-175B", 2048, pipeline=0),
    "llama31_405b": _Benchmark("Llama-3.1-405B", 8192, pipeline=8, blocks=2),
    "llama31_8b": _Benchmark("Llama-3.1-8B", 8192),
    "llama2_70b_lora": _Benchmark("Llama2-70B", 8192, "lora"),
}
_RANK = 16
"""Of the LoRA matrices, which the benchmark's rules prescribe for the attention of every block."""
_MESHES = {"TPU-v5e": (16, 256), "TPU-v5p": (8, 8960), "TPU-v6e": (1, 256)}
"""Devices of tensor parallelism of GPT-3 on TPU (`ICI_MESH_SHAPE` of `gpt3.py`; `ici_tensor_parallelism` of
`v5p-*.sh` and `trillium/gpt3_175b.sh`), and most chips of a slice."""
_MOST_KEPT = 2.0
"""Samples a device from which on the scripts recompute every block instead of keeping its products."""
_RECOMPUTED_WHOLE = ("TPU-v5e", "TPU-v6e")
"""Accelerators of too little memory to keep them (16 and 32 GiB; `remat_policy=full`)."""
_GAUDI_TENSOR = 8
_GAUDI_SAMPLES = {"BF16": 1, "FP8": 2}
"""Samples of a pass of a replica on Gaudi: with them 8 stages, which are in the script, follow for all logs but one.
The script of the submissions in FP8 (v3.1) has fused attention, that of the earlier ones has not."""
_NO_WHOLE_NUMBER = "the devices of one replica are no whole number, or do not divide those of the run"
_SCRIPTS = {"tpu": "Google", "gaudi": "Intel"}
_NARROW_PRODUCTS = {"FP8": "fp8", "FP4": "fp4", "INT8": "int8"}
"""Type of the matrix products of blocks, by the first word of a row's precision."""
_WEIGHT_BYTES = 2
"""Of a weight on its device: in these trainers products in 8 bits cast weights of 16 bits."""


def is_decoder_benchmark(row: Mapping[str, str]) -> bool:
    """Return whether a row of time_to_train.csv trains a decoder."""
    return row["benchmark"] in _BENCHMARKS


def build_submitted_decoder(
    row: Mapping[str, str], traces: DecoderTraces, gbit_per_s: float | None
) -> DecoderRun | str:
    """
    Return the step of a row of time_to_train.csv, without its measured time, or why there is none.

    Args:
        row: of one of the benchmarks of `is_decoder_benchmark`.
        traces: of decoders.
        gbit_per_s: network of one machine, as the row states it; None: the usual one of its accelerator.
    """
    benchmark = _BENCHMARKS[row["benchmark"]]
    try:
        device = accelerator(row["accelerator"])
    except UnknownNameError:
        return f"{row['accelerator']} is not in the catalogue"
    kind = row["precision"].partition(" ")[0]
    if kind not in (*_NARROW_PRODUCTS, "BF16") or "also" in row["precision"]:
        return f"precision {row['precision'] or 'not stated'}: no such arithmetic in the catalogue, or not known which"
    model = decoder_of(benchmark.model, {"notes": ""})
    if isinstance(model, str):
        return model
    plan = _plan(row, device, benchmark, model, gbit_per_s)
    if isinstance(plan, str):
        return plan
    step = DecoderStep(
        model, benchmark.sequence, method=benchmark.method, rank=_RANK, recompute=_find_recomputed(row, device),
        fused_attention=device.kind != "gaudi" or kind == "FP8",
    )  # fmt: skip
    profile = traces.profile(step)
    if kind in _NARROW_PRODUCTS:
        profile = with_narrow_products(profile, model.vocabulary, _NARROW_PRODUCTS[kind])
    profile = profile.model_copy(
        update={
            "precision": LIBRARY_PRECISION,
            "source": profile.source.model_copy(update={"compiled": True}),
        }
    )
    samples, passes = float(row["global_batch_size"]), int(row["grad_accum_steps"] or 1)
    return DecoderRun(
        device, profile, plan, samples / plan.data / passes, passes, math.nan, samples * benchmark.sequence,
        model.parameters, experts=False,
        assumed=(f"the split of the model is that of {_SCRIPTS.get(device.kind, 'NVIDIA')}'s launch scripts",),
    )  # fmt: skip


def _find_recomputed(row: Mapping[str, str], device: Accelerator) -> Recompute:
    """Return which activations a submission computes again: none of those on GPUs, whose devices share a sample."""
    if device.kind != "tpu":
        return "none"
    samples = float(row["global_batch_size"]) / int(row["accelerators_total"])
    return "full" if device.name in _RECOMPUTED_WHOLE or samples > _MOST_KEPT else "none"


def _plan(
    row: Mapping[str, str],
    device: Accelerator,
    benchmark: _Benchmark,
    model: Decoder,
    gbit_per_s: float | None,
) -> Plan | str:
    """Return how a submission split its model, or why that is not known."""
    devices, nodes = int(row["accelerators_total"]), int(row["nodes"] or 1)
    samples, passes = float(row["global_batch_size"]), int(row["grad_accum_steps"] or 1)
    if row["benchmark"] == "gpt3" and device.name in _MESHES:
        return _mesh(device, devices)
    if row["benchmark"] == "gpt3" and device.kind == "gaudi":
        kind = row["precision"].partition(" ")[0]
        return _gaudi_plan(device, devices, samples / passes / _GAUDI_SAMPLES.get(kind, 1), gbit_per_s, nodes)
    share = devices * passes / samples
    degree = max(1, round(share))
    if device.kind == "tpu" or (device.kind != "gpu" and share > 1):
        return "how the model is split over devices is not stated"
    if devices % degree or (share > 1 and share != degree):
        return _NO_WHOLE_NUMBER
    tensor = math.gcd(_TENSOR, degree)
    rest = degree // tensor
    pipeline = math.gcd(benchmark.pipeline, rest) if benchmark.pipeline else rest
    if model.parameters * _WEIGHT_BYTES / (tensor * pipeline) > usable_memory_bytes(device):
        return "the weights do not fit the devices of one replica that the passes of a step leave"
    machines, gbit = _find_network(device, devices, nodes, gbit_per_s)
    return Plan(
        devices, machines, gbit,
        tensor=tensor, pipeline=pipeline, context=rest // pipeline,
        virtual=max(1, round(model.layers / pipeline / benchmark.blocks)) if pipeline > 1 else 1,
        sharded_optimizer=True,
    )  # fmt: skip


def _mesh(device: Accelerator, devices: int) -> Plan:
    tensor, chips = _MESHES[device.name]
    slices, gbit = _find_network(device, devices, -(-devices // chips), None)
    return Plan(devices, slices, gbit, tensor=tensor, sharded=True, hybrid=slices > 1)


def _gaudi_plan(
    device: Accelerator, devices: int, replicas: float, gbit_per_s: float | None, nodes: int
) -> Plan | str:
    stages = devices / replicas / _GAUDI_TENSOR
    if replicas % 1 or stages % 1:
        return _NO_WHOLE_NUMBER
    machines, gbit = _find_network(device, devices, nodes, gbit_per_s)
    return Plan(devices, machines, gbit, tensor=_GAUDI_TENSOR, pipeline=int(stages))


def _find_network(
    device: Accelerator, devices: int, nodes: int, gbit_per_s: float | None
) -> tuple[int, float]:
    """Return the machines and the Gbit/s of one: the row's, where it counts the machines so, else the usual."""
    machines, usual = network_of({"notes": ""}, device, devices, nodes)
    return machines, gbit_per_s if gbit_per_s and machines == nodes else usual
