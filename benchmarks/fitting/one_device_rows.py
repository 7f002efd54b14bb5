"""Measurements of one device as operations with features: what the per-operation model is fitted on and scored by."""

from __future__ import annotations

import csv
import gzip
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.fitting.collective_rows import FUSED_BYTES_SHARE, accumulation_of, job_of
from benchmarks.workloads import ProfileCache, StepJob, profile_of, resolve
from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import Accelerator, accelerator
from trainfare_core.job_profile import JobProfile, OperationGroup
from trainfare_core.prediction.roofline.features import (
    TENSOR_KINDS,
    compute_features,
    device_compute_features,
    device_memory_features,
    layout_of,
    log2_tiles,
    memory_features,
)
from trainfare_core.prediction.roofline.operations import (
    POINTWISE_KINDS,
    compiles_graphs,
    serial_kernels,
    usable_dtype,
    uses_winograd,
)

__all__ = [
    "WINOGRAD_LEAST",
    "Index",
    "Row",
    "chip_of",
    "kernel_group",
    "measured_step_s",
    "old_torch",
    "read_rows",
    "roofline_s",
    "timed_a_trainer",
    "torch_of",
]

Array = NDArray[np.float64]

_TENSOR = frozenset(("tf32", "fp16", "bf16", "fp8", "int8"))
_KERNEL_KINDS = {
    "linear": "matmul", "bmm": "matmul", "conv2d": "convolution", "softmax": "softmax", "layernorm": "normalization",
    "gelu": "activation", "relu": "activation", "tanh": "activation", "dropout": "dropout",
    "embedding": "embedding", "contiguous": "copy",
}  # fmt: skip
_KERNEL_NAMES = {
    "normalization": "aten.native_layer_norm", "softmax": "aten._softmax", "copy": "aten.clone",
    "convolution": "aten.convolution",
}  # fmt: skip
_KERNELS = {"linear": (50, 4.0), "bmm": (50, 4.0), "conv2d": (15, 4.0)}
"""Kernels taken of one (device, operator, direction, split), and what they count for together in steps."""
_OTHER_KERNELS = (15, 1.5)
WINOGRAD_LEAST = 1 / 4
"""F(4x4, 3x3) multiplies 36 times where the direct sum multiplies 144 times."""
_LEAST_SHARE_OF_ROOFLINE = 0.9
_STEP_GROUP_WEIGHT = 2.0
"""All steps of one (source, workload, precision, chip) together: sources differ by more than their rows."""
_CEILING_WEIGHT, _TYPICAL_OF_BEST = 3.0, 0.95
_HOST_COPY_BYTES_PER_S = 6e9
"""Pageable memory over PCIe 3, for sources whose timed step includes the copy of the batch."""


@dataclass
class Index:
    """Which coefficient is which: names with prior mean and standard deviation, as rows bring them up."""

    of: dict[str, int] = field(default_factory=dict)
    mean: list[float] = field(default_factory=list)
    sd: list[float] = field(default_factory=list)

    def add(self, name: str, prior: Callable[[str], tuple[float, float]]) -> int:
        if name not in self.of:
            self.of[name] = len(self.mean)
            mean, sd = prior(name)
            self.mean.append(mean)
            self.sd.append(sd)
        return self.of[name]


@dataclass
class Row:
    """One measurement: operations of a step (or one kernel) on one device, and the seconds they took."""

    device: Accelerator
    measured_s: float
    flop_s: Array
    byte_s: Array
    winograd: NDArray[np.bool_]
    compute: list[list[tuple[int, float]]]
    """(coefficient, value) of every operation."""
    memory: list[list[tuple[int, float]]]
    launches: Array
    """Forward, backward, optimizer."""
    kernels: float
    """What the device runs one after another, all phases."""
    weight: float
    source: str
    workload: str
    precision: str
    end_to_end: bool
    line: dict[str, str]
    extra_s: float = 0.0
    stands_for: float = 1.0
    """Rows of the table that this one was taken for."""
    host: bool = True
    old_host: bool = False

    @property
    def trainer(self) -> bool:
        """Whether a trainer's own loop was timed, with its loader and its logging, and not bare steps."""
        return timed_a_trainer(self.line)

    @property
    def chip(self) -> str:
        return chip_of(self.device.name)


def chip_of(name: str) -> str:
    """Return the chip without its memory size or form: variants of one chip are left out together."""
    return re.sub(r"(-(SXM\d?|PCIE|NVL))?-\d+GB$", "", name)


def torch_of(framework: str) -> str:
    """Return the torch version that a row names, e.g. "1.13.0"; "" where it names none."""
    found = re.search(r"pytorch (\d+\.[\dx]+)", framework.lower())
    return found[1] if found else ""


def timed_a_trainer(line: dict[str, str]) -> bool:
    """Return whether a row's time is of a trainer's iterations, loader included, and not of bare steps."""
    return "training iterations" in line.get("measured", "")


def old_torch(line: dict[str, str]) -> bool:
    """Return whether torch 0 or 1 measured a row."""
    return torch_of(line["framework"])[:2] in ("0.", "1.")


def host_copy_s(line: dict[str, str], profile: JobProfile, ratio: float) -> float:
    """Return the seconds of the batch's copy to the device, where the source timed it with the step."""
    return profile.memory.input_bytes * ratio / _HOST_COPY_BYTES_PER_S if "H2D" in line["measured"] else 0.0


def measured_step_s(line: dict[str, str], job: StepJob) -> float | None:
    """Return the seconds of one step: as the row reports it, else from its throughput."""
    if line["step_time_origin"] == "reported" and line["step_time_ms"]:
        return float(line["step_time_ms"]) / 1e3
    return job.units * int(line["devices"]) / float(line["throughput"]) if line["throughput"] else None


def read_rows(
    data: Path, cache: ProfileCache, prior: Callable[[str], tuple[float, float]], straggler_share: float
) -> tuple[list[Row], Index, Counter[str]]:
    """Return every measurement that has operations, the coefficients they need, and what was skipped by reason."""
    index, skipped = Index(), Counter[str]()
    maker = _Maker(index, prior, skipped)
    rows = [*_steps(data, cache, maker, straggler_share)]
    groups = Counter(_group(row) for row in rows)
    for row in rows:
        fitted = "pytorch" in row.line["framework"].lower() or not row.host
        if fitted and row.measured_s < _LEAST_SHARE_OF_ROOFLINE * roofline_s(row):
            skipped["faster than its roofline: scored, not fitted"] += 1
            fitted = False
        row.weight = _STEP_GROUP_WEIGHT / groups[_group(row)] if fitted else 0.0
    merged = [_merged(row) for row in rows]
    return [*merged, *_kernels(data, maker), *_ceilings(data, maker)], index, skipped


def roofline_s(row: Row) -> float:
    """Return the least seconds of a step, with convolutions that Winograd may shorten at their shortest."""
    flop_s = row.flop_s * np.where(row.winograd, WINOGRAD_LEAST, 1.0)
    return float(np.maximum(flop_s, row.byte_s).sum())


def _merged(row: Row) -> Row:
    """Return a row with operations of the same features and nearly the same intensity added up: a third is left."""
    same: dict[tuple[object, ...], list[int]] = {}
    for i, (compute, memory) in enumerate(zip(row.compute, row.memory, strict=True)):
        flop_s, byte_s = row.flop_s[i], row.byte_s[i]
        intensity = round(math.log2(flop_s / byte_s) * 1.5) if flop_s and byte_s else None
        features = tuple((column, round(value, 2)) for column, value in compute)
        same.setdefault((features, tuple(memory), bool(row.winograd[i]), intensity), []).append(i)
    first = [members[0] for members in same.values()]
    return replace(
        row, flop_s=np.array([row.flop_s[members].sum() for members in same.values()]),
        byte_s=np.array([row.byte_s[members].sum() for members in same.values()]), winograd=row.winograd[first],
        compute=[row.compute[i] for i in first], memory=[row.memory[i] for i in first],
    )  # fmt: skip


def _group(row: Row) -> tuple[str, str, str, str]:
    return row.source, row.workload, row.precision, row.chip


@dataclass
class _Maker:
    """Turns operations on a device into a `Row`."""

    index: Index
    prior: Callable[[str], tuple[float, float]]
    skipped: Counter[str]
    _known: dict[int, tuple[tuple[OperationGroup, ...], _Operations]] = field(default_factory=dict)

    def device(self, name: str) -> Accelerator | None:
        try:
            return accelerator(name)
        except UnknownNameError:
            self.skipped[f"{name} is not in the catalogue"] += 1
            return None

    def row(
        self, groups: tuple[OperationGroup, ...], device: Accelerator, measured_s: float, line: dict[str, str],
        *, ratio: float = 1.0, optimizer_share: float = 1.0, end_to_end: bool = True, source: str,
        workload: str, precision: str, weight: float = 0.0,
    ) -> Row | None:  # fmt: skip
        known = self._known.get(id(groups))
        if known is None:
            known = self._known[id(groups)] = (groups, _Operations.of(groups))
        made = known[1]
        used = [usable_dtype(device, dtype) for dtype in made.dtypes]
        if any(peak is None and tensor for (_, peak), tensor in zip(used, made.tensor, strict=True)):
            self.skipped[f"{device.name} has no {precision}"] += 1
            return None
        paths = ["tensor" if name in _TENSOR else "vector" for name, _ in used]
        share = np.where(made.phase == 2, optimizer_share, ratio)
        fused = np.where(made.pointwise & compiles_graphs(device), FUSED_BYTES_SHARE, 1.0)
        moved = (made.bytes_batch * ratio + made.bytes_fixed) * np.where(
            made.phase == 2, optimizer_share, 1.0
        )
        peaks = np.array([peak or math.inf for _, peak in used])
        tiles = np.clip(made.log2_tiles + math.log2(ratio) - math.log2(device.sm_count or 100), -4.0, 0.0)
        return Row(
            device=device, measured_s=measured_s, flop_s=made.flops * share / peaks,
            byte_s=moved * fused / device.memory_bandwidth_bytes_per_s,
            winograd=made.winograd & np.array([path == "vector" for path in paths]),
            compute=self._compute(made, device, paths, np.nan_to_num(tiles)),
            memory=self._memory(made, device),
            launches=np.array([made.launches[made.phase == phase].sum() for phase in range(3)]),
            kernels=float(made.kernels.sum()),
            weight=weight, source=source, workload=workload, precision=precision, end_to_end=end_to_end, line=line,
            host=end_to_end and not compiles_graphs(device),
        )  # fmt: skip

    def _compute(
        self, made: _Operations, device: Accelerator, paths: list[str], waves: Array
    ) -> list[list[tuple[int, float]]]:
        of_device = {
            path: [
                (f"{path}|1", 1.0), (f"{path}|gen:{device.generation}", 1.0), (f"shared|dev:{device.name}", 1.0),
                *((f"{path}|{name}", value) for name, value in device_compute_features(device, path)),
            ]
            for path in dict.fromkeys(paths)
        }  # fmt: skip
        found: list[list[tuple[int, float]]] = []
        for path, features, flops, wave in zip(paths, made.compute, made.flops, waves, strict=True):
            if not flops:
                found.append([])
                continue
            own = [(f"{path if _of_path(name) else 'shared'}|{name}", value) for name, value in features]
            if wave:
                own.append(("shared|waves", float(wave)))
            found.append(
                [(self.index.add(name, self.prior), value) for name, value in (*of_device[path], *own)]
            )
        return found

    def _memory(self, made: _Operations, device: Accelerator) -> list[list[tuple[int, float]]]:
        of_device = (
            ("gen:" + device.generation, 1.0), ("dev:" + device.name, 1.0), *device_memory_features(device),
        )  # fmt: skip
        return [
            [(self.index.add(f"memory|{name}", self.prior), value) for name, value in (*of_device, *features)]
            for features in made.memory
        ]


def _of_path(feature: str) -> bool:
    """Return whether a shape feature has a coefficient of its own on each arithmetic path."""
    return feature.startswith(("kind:", "backward:", "conv:1d", "conv:3d")) or feature.endswith(":misaligned")


@dataclass
class _Operations:
    """A profile's operations as arrays, without a device."""

    flops: Array
    bytes_batch: Array
    bytes_fixed: Array
    launches: Array
    kernels: Array
    phase: NDArray[np.int64]
    dtypes: list[str]
    tensor: list[bool]
    pointwise: NDArray[np.bool_]
    winograd: NDArray[np.bool_]
    log2_tiles: Array
    compute: list[tuple[tuple[str, float], ...]]
    memory: list[tuple[tuple[str, float], ...]]

    @classmethod
    def of(cls, groups: tuple[OperationGroup, ...]) -> _Operations:
        layout = layout_of(groups)
        fixed = np.array([g.bytes_fixed for g in groups], dtype=float)
        return cls(
            flops=np.array([g.flops for g in groups], dtype=float),
            bytes_batch=np.array([g.bytes_moved for g in groups], dtype=float) - fixed,
            bytes_fixed=fixed,
            launches=np.array([g.launches for g in groups], dtype=float),
            kernels=np.array([serial_kernels(g) for g in groups], dtype=float),
            phase=np.array([("forward", "backward", "optimizer").index(g.phase) for g in groups]),
            dtypes=[g.dtype if g.kind in TENSOR_KINDS else "fp32" for g in groups],
            tensor=[g.kind in TENSOR_KINDS for g in groups],
            pointwise=np.array([g.kind in POINTWISE_KINDS for g in groups]),
            winograd=np.array([uses_winograd(g) for g in groups]),
            log2_tiles=np.array([log2_tiles(g) for g in groups]),
            compute=[compute_features(g) for g in groups],
            memory=[memory_features(g, layout) for g in groups],
        )


def _steps(data: Path, cache: ProfileCache, maker: _Maker, straggler_share: float) -> Iterator[Row]:
    with (data / "throughput_train.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    for line in lines:
        if line["source"] in ("llm-foundry", "maxtext-tpu", "levanter"):
            row = _written_row(line, maker, straggler_share)
        elif line["devices"] == "1":
            row = _traced_row(line, cache, maker)
        else:
            row = None
        if row is not None:
            yield row


def _traced_row(line: dict[str, str], cache: ProfileCache, maker: _Maker) -> Row | None:
    job = resolve(line)
    found = profile_of(job, cache)
    if isinstance(found, str) or isinstance(job, str):
        maker.skipped[str(found)] += 1
        return None
    if "SUSPECT" in line["notes"]:
        maker.skipped["marked suspect"] += 1
        return None
    measured_s, device = measured_step_s(line, job), maker.device(line["accelerator"])
    if measured_s is None or device is None:
        return None
    row = maker.row(
        found.profile.operations, device, measured_s, line, ratio=found.ratio, source=line["source"],
        workload=line["model"], precision=line["precision"],
    )  # fmt: skip
    if row is not None:
        row.old_host = old_torch(line)
        row.extra_s = host_copy_s(line, found.profile, found.ratio)
    return row


def _written_row(line: dict[str, str], maker: _Maker, straggler_share: float) -> Row | None:
    """Return a language model's row of one machine, or a TPU's utilisation as a step."""
    tpu = line["source"] != "llm-foundry"
    if not tpu and line["nodes"] != "1":
        return None
    made, device = job_of(line), maker.device(line["accelerator"])
    if isinstance(made, str) or device is None:
        return None
    job, step_s, workload = made
    passes = accumulation_of(line)
    if step_s is None:
        peak = device.peak_flops_per_s("bf16") or math.nan
        step_s = job.model_step_flops / (peak * float(line["mfu"]) / 100)
    # Eight devices that wait for one another, by micro-batch, with the optimizer's work shared.
    waiting = 1.0 if tpu else 1.0 + 3 * straggler_share
    share = 0.0 if tpu else 1.0 / (8 * passes)
    return maker.row(
        job.operations, device, step_s / passes / waiting, line, optimizer_share=share, source=line["source"],
        workload=workload, precision=line["precision"],
    )  # fmt: skip


def _kernels(data: Path, maker: _Maker) -> Iterator[Row]:
    groups: dict[tuple[str, str, str, str], list[dict[str, str]]] = {}
    with gzip.open(data / "kernels.csv.gz", "rt", newline="") as stream:
        for line in csv.DictReader(stream):
            if line["flag"].startswith(("launch", "below_dram")) or not float(line["bytes"] or 0):
                continue
            if line["direction"] == "backward" and line["op"] not in ("linear", "bmm"):
                continue  # their bytes are nominal, not what the kernel moves
            key = (line["device"], line["op"], line["direction"], line["source_split"])
            groups.setdefault(key, []).append(line)
    for (name, op, _, _), lines in sorted(groups.items()):
        device = maker.device(name)
        if device is None:
            continue
        most, weight = _KERNELS.get(op, _OTHER_KERNELS)
        chosen = lines[:: max(1, len(lines) // most)][:most]
        for line in chosen:
            row = maker.row(
                (kernel_group(line),), device, float(line["latency_ms"]) / 1e3, line, end_to_end=False,
                source="kernels", workload=op, precision="fp32", weight=weight / len(chosen),
            )  # fmt: skip
            if row is not None:
                row.stands_for = len(lines) / len(chosen)
                yield row


def kernel_group(line: dict[str, str]) -> OperationGroup:
    """Return a row of kernels.csv.gz as one operation."""

    def size(name: str) -> int:
        return int(float(line[name] or 1))

    kind = _KERNEL_KINDS.get(line["op"], "elementwise")
    shape: tuple[int, ...] = (size("rows") * size("cols"),)
    if kind == "matmul":
        shape = (size("batch"), size("m"), size("n"), size("k"))
    elif kind == "convolution":
        space = size("in_size")
        shape = (size("batch"), size("c_in"), size("c_out"), 1, 1, 3, 3, 1, space, space, 1, 0)
    elif kind in ("softmax", "normalization"):
        shape = (size("rows"), size("cols"))
    return OperationGroup(
        kind=kind, name=_KERNEL_NAMES.get(kind, "aten.mm"), phase=line["direction"], dtype="fp32", shape=shape,
        launches=size("launches"), flops=int(float(line["flops"])), bytes_read=int(float(line["bytes"])),
        bytes_written=0,
    )  # fmt: skip


def _ceilings(data: Path, maker: _Maker) -> Iterator[Row]:
    """Yield the best matrix product of each accelerator; a typical one is taken to reach 0.95 of the best."""
    with (data / "microbench_achieved.csv").open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    for line in lines:
        dtype = line["dtype"].split("_")[0]
        if not line["bench"].startswith("matmul_best") or dtype not in ("bf16", "fp16", "fp8"):
            continue
        device = maker.device(line["device"])
        if device is None or not device.peak_flops_per_s(dtype):
            continue
        m, n, k = int(line["m"]), int(line["n"]), int(line["k"])
        group = OperationGroup(
            kind="matmul", name="aten.mm", phase="forward", dtype=dtype, shape=(1, m, n, k), launches=1,
            flops=2 * m * n * k, bytes_read=0, bytes_written=0,
        )  # fmt: skip
        row = maker.row(
            (group,), device, group.flops / (float(line["achieved_tflops"]) * 1e12 * _TYPICAL_OF_BEST), line,
            end_to_end=False, source="matmul ceilings", workload="matmul", precision=dtype, weight=_CEILING_WEIGHT,
        )  # fmt: skip
        if row is not None:
            yield row
