"""The measured tables of one device, read as rows of the fit: training steps, kernels and matmul ceilings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from trainfare_core.job_profile import JobProfile, OperationGroup, OperationKind
from trainfare_core.prediction.roofline.operations import Operations
from trainfare_research.fitting.launched_rows import step_rows
from trainfare_research.fitting.one_device_rows import Index, Row, RowMaker, merge_operations, roofline_s
from trainfare_research.fitting.one_device_solver import Problem, prior
from trainfare_research.fitting.submission_rows import submission_rows
from trainfare_research.fitting.table_lines import (
    CEILINGS,
    SUBMISSION,
    Line,
    host_copy_s,
    is_suspect,
    old_torch,
    parse_measured_step_s,
    torch_of,
)
from trainfare_research.truth_table import STEP_TABLES, SUBMISSION_TABLES, read_rows
from trainfare_research.workloads import ProfileCache, profile_of, resolve
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.language.decoder_rows import decoder_run

FILES = ("kernels.csv.gz", "microbench_achieved.csv", *STEP_TABLES, *SUBMISSION_TABLES)
_KERNEL_KINDS: dict[str, OperationKind] = {
    "linear": "matmul", "bmm": "matmul", "conv2d": "convolution", "softmax": "softmax", "layernorm": "normalization",
    "gelu": "activation", "relu": "activation", "tanh": "activation", "dropout": "dropout",
    "embedding": "embedding", "contiguous": "copy",
}  # fmt: skip
_KERNEL_NAMES = {
    "normalization": "aten.native_layer_norm", "softmax": "aten._softmax", "copy": "aten.clone",
    "convolution": "aten.convolution",
}  # fmt: skip
_KERNELS = {"linear": (50, 1.0), "bmm": (50, 1.0), "conv2d": (15, 1.0)}
"""Kernels taken of one (device, operator, direction, split), and their weight together, in steps. Chosen values; among
this weight and four times as much by models left out."""
_OTHER_KERNELS = (15, 0.4)
_LEAST_SHARE_OF_ROOFLINE = 0.9
"""A step faster than this share of its roofline cannot be what its table says: scored, not fitted. A chosen value;
the tenth allows for rounding in the tables and clocks above the rated ones."""
_STEP_GROUP_WEIGHT, _SUBMISSION_GROUP_WEIGHT, _LOADER_GROUP_WEIGHT = 2.0, 6.0, 0.5
"""All steps of one (source, workload, precision, chip) together: sources differ by more than their rows. Submissions
are the most carefully tuned and timed. Chosen among 0.5 to 6 by rows left out (research/docs/prediction-choices.md)."""
_TODAYS_SOFTWARE = 5.0
"""Times the weight of a group under PyTorch 2, or of `_DECODERS`: what predicted jobs run. A chosen value: less serves
models left out less well, and more serves chips left out less well."""
_MOST_GROUPS = 100
"""Groups of one source that count in full; the weight of each of n more falls with the root of n, so that a thousand
models on one card do not outweigh all other cards. A chosen value."""
_WITH_LOADER = ("milabench",)
"""Sources of few workloads whose steps wait for their loader on fast devices."""
_CEILING_WEIGHT, _TYPICAL_OF_BEST = 0.75, 0.95
"""Weight of the best matrix product of a device, and the share of it that a typical one reaches. Chosen values."""
_DECODERS = ("llm-foundry", "maxtext-tpu", "levanter")
"""Sources of language models whose rows of one machine are plain data parallelism: they inform the fit of one device,
and the latter two are its only rows of TPUs."""
_MACHINE = 8
"""Devices of one of llm-foundry's machines: they wait for one another and share the optimizer's work."""


def read_measurements(
    data: Path,
    cache: ProfileCache,
    traces: DecoderTraces,
    waiting_share: float,
    is_read: Callable[[Line], bool] = bool,
) -> tuple[Problem, Counter[str]]:
    """
    Return every measurement that has operations as the problem of the fit, and how many lines were skipped by reason.

    Args:
        data: folder of `FILES`.
        cache: traces of models on one device.
        traces: of language models.
        waiting_share: of a step, the loss for every doubling of devices in a machine.
        is_read: whether a line of steps, submissions or kernels is read; all are.
    """
    index, skipped = Index(prior), Counter[str]()
    maker = RowMaker(index, skipped)
    steps = filter(is_read, step_rows(data))
    rows = [
        *_read_steps(steps, cache, traces, maker, waiting_share),
        *submission_rows(data, cache, maker, is_read),
    ]
    groups = Counter(_group(row) for row in rows)
    of_source = Counter(source for source, *_ in groups)
    for row in rows:
        fitted = "pytorch" in row.line["framework"].lower() or not row.host or row.timed == SUBMISSION
        if fitted and row.measured_s < _LEAST_SHARE_OF_ROOFLINE * roofline_s(row):
            skipped["faster than its roofline: scored, not fitted"] += 1
            fitted = False
        row.weight = group_weight(row, of_source[row.source]) / groups[_group(row)] if fitted else 0.0
    rows_read = [
        *(merge_operations(row) for row in rows),
        *_kernels(data, maker, is_read),
        *_ceilings(data, maker),
    ]
    return Problem(rows_read, index), skipped


def group_weight(row: Row, groups: int) -> float:
    """Return the weight of all steps of a row's group, of a source with so many groups."""
    weight = _LOADER_GROUP_WEIGHT if row.source in _WITH_LOADER else _STEP_GROUP_WEIGHT
    if row.timed == SUBMISSION:
        weight = _SUBMISSION_GROUP_WEIGHT
    elif row.source in _DECODERS or torch_of(row.line.get("framework", "")).startswith("2."):
        weight *= _TODAYS_SOFTWARE
    return weight * math.sqrt(min(1.0, _MOST_GROUPS / groups))


def _group(row: Row) -> tuple[str, str, str, str]:
    return row.source, row.workload, row.precision, row.chip


def _read_steps(
    lines: Iterable[Line], cache: ProfileCache, traces: DecoderTraces, maker: RowMaker, waiting_share: float
) -> Iterator[Row]:
    operations: dict[int, tuple[JobProfile, Operations]] = {}

    def operations_of(profile: JobProfile) -> Operations:
        if id(profile) not in operations:
            operations[id(profile)] = profile, Operations.of(profile)
        return operations[id(profile)][1]

    for line in lines:
        if line["source"] in _DECODERS:
            row = _decoder_row(line, traces, maker, waiting_share)
        elif line["devices"] == "1":
            row = _build_traced_row(line, cache, maker, operations_of)
        else:
            row = None
        if row is not None:
            yield row


def _build_traced_row(
    line: Line, cache: ProfileCache, maker: RowMaker, operations_of: Callable[[JobProfile], Operations]
) -> Row | None:
    job = resolve(line)
    work = profile_of(job, cache)
    if isinstance(work, str) or isinstance(job, str):
        maker.skipped[str(work)] += 1
        return None
    if is_suspect(line):
        maker.skipped["marked suspect"] += 1
        return None
    measured_s, device = parse_measured_step_s(line, job), maker.device(line["accelerator"])
    if measured_s is None or device is None:
        return None
    row = maker.row(
        operations_of(work.profile), device, measured_s, line, ratio=work.ratio, source=line["source"],
        workload=line["model"], precision=line["precision"],
    )  # fmt: skip
    if row is not None:
        row.old_host = old_torch(line)
        row.extra_s = host_copy_s(line, work.profile, work.ratio)
    return row


def _decoder_row(line: Line, traces: DecoderTraces, maker: RowMaker, waiting_share: float) -> Row | None:
    """Return one pass of a language model whose devices each run all of it; TPUs state a utilisation."""
    tpu = line["source"] != "llm-foundry"
    if not tpu and line["nodes"] != "1":
        return None
    run = decoder_run(line, traces)
    if isinstance(run, str):
        maker.skipped[run] += 1
        return None
    if max(run.plan.tensor, run.plan.pipeline, run.plan.context) > 1:
        maker.skipped["a model split over devices"] += 1
        return None
    # By micro-batch: the devices of a machine wait for one another, and the optimizer's work is shared.
    waiting = 1.0 if tpu else 1.0 + 3 * waiting_share
    return maker.row(
        Operations.of(run.profile), run.device, run.step_s / run.passes / waiting, line, ratio=run.micro_batch,
        optimizer_share=0.0 if tpu else 1.0 / (_MACHINE * run.passes), source=line["source"],
        workload="TPU" if tpu else "MPT", precision=line["precision"],
    )  # fmt: skip


def _kernels(data: Path, maker: RowMaker, is_read: Callable[[Line], bool]) -> Iterator[Row]:
    groups: dict[tuple[str, str, str, str], list[Line]] = {}
    for line in filter(is_read, read_rows(data / "kernels.csv.gz")):
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
                Operations.of_groups((kernel_group(line),)), device, float(line["latency_ms"]) / 1e3, line,
                end_to_end=False, source="kernels", workload=op, precision="fp32", weight=weight / len(chosen),
            )  # fmt: skip
            if row is not None:
                row.stands_for = len(lines) / len(chosen)
                yield row


def kernel_group(line: Line) -> OperationGroup:
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
        kind=kind, name=_KERNEL_NAMES.get(kind, "aten.mm"),
        phase="backward" if line["direction"] == "backward" else "forward", dtype="fp32", shape=shape,
        launches=size("launches"), flops=int(float(line["flops"])), bytes_read=int(float(line["bytes"])),
        bytes_written=0,
    )  # fmt: skip


def _ceilings(data: Path, maker: RowMaker) -> Iterator[Row]:
    """Yield the best matrix product of each accelerator, as the time of a typical one."""
    for line in read_rows(data / "microbench_achieved.csv"):
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
        seconds = group.flops / (float(line["achieved_tflops"]) * 1e12 * _TYPICAL_OF_BEST)
        row = maker.row(
            Operations.of_groups((group,)), device, seconds, line, end_to_end=False, source=CEILINGS,
            workload="matmul", precision=dtype, weight=_CEILING_WEIGHT,
        )  # fmt: skip
        if row is not None:
            yield row
