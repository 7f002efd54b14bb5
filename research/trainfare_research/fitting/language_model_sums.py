"""
Rows of language models as arrays, and the robust fit of their coefficients.

The model itself is the product's (`trainfare_core.prediction.language_models.step`). `language_models.py` writes the
coefficients and their scores; `language_models_held_out.py` predicts rows that were left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import approx_fprime
from scipy.special import expit

from trainfare_core.candidates import take
from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.language_models.coefficients import DecoderFit
from trainfare_core.prediction.language_models.step import DeviceRows, Spread, decoder_times
from trainfare_core.prediction.language_models.sums import DecoderLedger
from trainfare_core.prediction.network.collectives import link_of
from trainfare_core.prediction.roofline.coefficients import Calibration, calibration
from trainfare_research.fitting.command_line import digest
from trainfare_research.fitting.launched_rows import step_rows
from trainfare_research.fitting.robust import Prior, robust_fit
from trainfare_research.truth_table import STEP_TABLES, memory_tables
from trainfare_research.truth_table import read_rows as read_csv
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.language.decoder_rows import (
    DecoderRun,
    decoder_run,
    is_decoder_row,
    step_of_memory_row,
)

Array = NDArray[np.float64]
FILES = (*STEP_TABLES, "microbench_achieved.csv")
_BEND = 0.05
"""ln(predicted / measured) from which a row counts less than by its square. A chosen value: nearly absolute, so that
runs of one container that are twice as slow do not move the rest."""
_NOISE = 0.1
"""Standard deviation of a row of weight 1; sets how much measurements count beside the priors. A chosen value."""
_SOURCE_SD = 0.08
"""Prior standard deviation of a source's offset, in ln(time). A chosen value."""
_GROUP_POWER = -0.75
"""Exponent of the rows of a (source, device, experts) group in the weight of each: between counting rows (0) and
counting groups (-1). A chosen value."""
_LEAST_MFU = 0.1
"""A test that used less of its device waited for the Python and the logging of its trainer, which no model states. A
chosen value: all runs of small models are below, all runs of whole machines above."""
_NO_WIDTH = 1e-6
"""Prior standard deviation of a coefficient that is held."""
_STEP = 1e-5
"""Of forward differences."""
KINDS = ("tpu", "trainium", "gaudi")


def _positive(x: float) -> float:
    return max(x, 0.0)


PARAMETERS: dict[str, tuple[float, float, Callable[[float], float]]] = {
    "product_efficiency": (2.0, 0.7, expit),
    "product8_efficiency": (2.0, 0.7, expit),
    "integer_efficiency": (0.0, 0.7, expit),
    "grouped_efficiency": (0.5, 0.7, expit),
    "attention_efficiency": (0.0, 0.5, expit),
    "batched_efficiency": (-0.5, 0.5, expit),
    "misaligned_efficiency": (-1.0, 0.7, expit),
    "vector_efficiency": (1.0, 0.5, expit),
    "cast_bytes_share": (0.0, 0.7, expit),
    "unpack_efficiency": (-1.0, 1.0, expit),
    "host_launch_s": (np.log(20e-6), 0.2, np.exp),
    "unfused_host_factor": (0.7, 0.7, np.exp),
    "narrow_slope": (0.15, 0.1, _positive),
    "expert_slope": (0.15, 0.15, _positive),
    "tpu": (0.15, 0.5, np.exp),
    "trainium": (0.15, 0.5, np.exp),
    "gaudi": (0.15, 0.5, np.exp),
    "deepspeed_factor": (0.2, 0.3, np.exp),
    "framework_slope": (0.155, 0.07, float),
    "tensor_exposed": (0.0, 1.0, expit),
    "expert_exposed": (-1.0, 0.7, expit),
    "data_exposed": (-1.0, 0.7, expit),
    "shard_unit_s": (np.log(5e-4), 0.7, np.exp),
    "network_efficiency": (0.0, 0.6, expit),
}
"""
Prior mean and standard deviation of each coefficient on the scale it is fitted on, and the way from there to its value.

framework_slope: PyTorch runs that are not among the rows reach 57 % of an A100's peak and 44 % of an H100's; the
ceilings of matrix products explain 8 % of that: log2(57 / 44 / 1.08) / 1.67 doublings. Three sources inform it here.
"""


@dataclass
class Rows:
    """Measured rows as arrays, ready for `decoder_times`."""

    runs: list[DecoderRun]
    lines: list[dict[str, str]]
    ledger: DecoderLedger
    devices: DeviceRows
    spread: Spread
    log_measured: Array
    weight: Array

    @classmethod
    def of(
        cls, runs: list[DecoderRun], lines: list[dict[str, str]], fit: DecoderFit, base: Calibration
    ) -> Rows:
        groups = [
            (line["source"], run.device.name, run.experts) for run, line in zip(runs, lines, strict=True)
        ]
        sizes = Counter(groups)
        weight = np.array([sizes[group] for group in groups], dtype=float) ** _GROUP_POWER
        return cls(
            runs, lines, DecoderLedger.stack([DecoderLedger.of(run.profile) for run in runs]),
            DeviceRows.of(
                [run.device for run in runs], [link_of(run.device, base.communication) for run in runs], fit
            ),
            spread_of(runs), np.log([run.step_s for run in runs]), weight,
        )  # fmt: skip

    def only(self, chosen: NDArray[np.bool_]) -> Rows:
        """Return the chosen rows."""
        index = np.flatnonzero(chosen)
        ledger = DecoderLedger(*(getattr(self.ledger, name)[index] for name in DecoderLedger.__slots__))
        spread = replace(
            self.spread,
            **{
                name: column[index]
                for name in Spread.__slots__
                if (column := getattr(self.spread, name)) is not None
            },
        )
        return Rows(
            [self.runs[i] for i in index], [self.lines[i] for i in index], ledger, take(self.devices, index), spread,
            self.log_measured[index], self.weight[index],
        )  # fmt: skip

    def errors(self, fit: DecoderFit) -> Array:
        """Return ln(predicted / measured) of every row."""
        times = decoder_times(self.ledger, self.devices, self.spread, fit)
        return np.asarray(np.log(times.step_s) - self.log_measured)

    def column(self, of: Callable[[DecoderRun], Any]) -> NDArray[Any]:
        """Return a fact of every run."""
        return np.array([of(run) for run in self.runs])

    @property
    def source(self) -> NDArray[np.str_]:
        """Source of every row."""
        return np.array([line["source"] for line in self.lines])


def spread_of(runs: Sequence[DecoderRun]) -> Spread:
    """Return the plans of runs as columns."""

    def column(name: str) -> Array:
        return np.array([float(getattr(run.plan, name)) for run in runs])

    machines, devices = column("machines"), column("devices")
    gbit = column("gbit_per_s")
    return Spread(
        ratio=np.array([run.micro_batch for run in runs]), passes=np.array([float(run.passes) for run in runs]),
        per_machine=devices / machines, machines=machines, network_per_s=np.where(gbit > 0, gbit, np.nan) * 1e9 / 8,
        tensor=column("tensor"), pipeline=column("pipeline"), virtual=column("virtual"), context=column("context"),
        expert=column("expert"), sharded=column("sharded") > 0, sharded_optimizer=column("sharded_optimizer") > 0,
        overlap=column("overlap") > 0, hybrid=column("hybrid") > 0,
        sequence_parallel=column("sequence_parallel") > 0,
    )  # fmt: skip


def coefficients(theta: Array, fit: DecoderFit) -> DecoderFit:
    """Return `fit` with the coefficients of theta."""
    values = {name: float(make(x)) for x, (name, (_, _, make)) in zip(theta, PARAMETERS.items(), strict=True)}
    kinds = {kind: values.pop(kind) for kind in KINDS}
    return fit.model_copy(update={**values, "kind_factor": kinds})


def stack_of(line: Mapping[str, str]) -> str:
    """Return the name of the trainer that ran a row: "nemo", "maxtext", "torchtitan", "megatron", ..."""
    match = re.match(r"(?:pytorch[/+ ])?([a-z]+)", line["framework"].lower())
    return match[1] if match else ""


@dataclass(frozen=True)
class Fitted:
    """
    What a fit found.

    Attributes:
        theta: coefficients, in the order of `PARAMETERS`.
        offsets: ln(predicted / measured) that each source lacks, by "source kind stack experts".
    """

    theta: Array
    offsets: dict[str, float]

    def offset_of(self, stack: str) -> float:
        """Return the mean offset of a stack's dense rows on GPUs; NaN where the fit had none."""
        offsets = [value for name, value in self.offsets.items() if name.endswith(f" gpu {stack} False")]
        return float(np.mean(offsets)) if offsets else float("nan")


def solve(
    rows: Rows,
    fit: DecoderFit,
    start: Array | None = None,
    evaluations: int = 40,
    held: Mapping[str, float] = MappingProxyType({}),
) -> Fitted:
    """
    Return the coefficients of the smallest loss.

    Every source also has an offset of its own, a random effect: software stacks differ by more than chips, and without
    it the coefficients would bend to explain that. Predictions use no offset; their intervals include it.

    Args:
        rows: measured.
        fit: with the matrix ceilings that the rows' devices were read with.
        start: coefficients to begin at; the priors where it is None.
        evaluations: of the loss, at most.
        held: coefficients that stay where they are told to, on the scale that they are fitted on.
    """
    labels = [
        f"{line['source']} {run.device.kind} {stack_of(line)} {run.experts}"
        for run, line in zip(rows.runs, rows.lines, strict=True)
    ]
    names, source = np.unique(labels, return_inverse=True)
    count, sources = len(PARAMETERS), len(names)
    mean = [held.get(name, p[0]) for name, p in PARAMETERS.items()]
    sd = [_NO_WIDTH if name in held else p[1] for name, p in PARAMETERS.items()]
    prior = Prior(
        np.concatenate([mean, np.zeros(sources)]), np.concatenate([sd, np.full(sources, _SOURCE_SD)])
    )
    of_source = (source[:, None] == np.arange(sources)).astype(np.float64)

    def log_s(theta: Array) -> Array:
        times = decoder_times(rows.ledger, rows.devices, rows.spread, coefficients(theta, fit))
        return np.asarray(np.log(times.step_s))

    def errors(theta: Array) -> Array:
        return np.asarray(log_s(theta[:count]) + theta[count:][source] - rows.log_measured)

    def slopes(theta: Array) -> Array:
        return np.concatenate([approx_fprime(theta[:count], log_s, _STEP), of_source], axis=1)

    begin = None if start is None else np.concatenate([start, np.zeros(sources)])
    theta = robust_fit(
        errors, slopes, prior, rows.weight, bend=_BEND, noise=_NOISE, start=begin, evaluations=evaluations
    )
    offsets = {str(name): float(value) for name, value in zip(names, theta[count:], strict=True)}
    return Fitted(theta[:count], offsets)


def ceilings(data: Path) -> dict[str, dict[str, float]]:
    """Return the best matrix product over the dense peak, by type and accelerator; the mean by generation and maker."""
    efficiencies: dict[str, dict[str, float]] = {"bf16": {}, "fp8": {}}
    alike: dict[tuple[str, str], list[float]] = {}
    for line in read_csv(data / "microbench_achieved.csv"):
        dtype = {"bf16": "bf16", "fp8": "fp8", "fp16": "bf16"}.get(line["dtype"].split("_")[0])
        square = line["bench"] == "matmul_square_best"
        if dtype is None or not (line["bench"].startswith("matmul_best") or square):
            continue
        try:
            device = accelerator(line["device"])
        except UnknownNameError:
            continue
        peak = device.peak_flops_per_s(dtype) or device.peak_flops_per_s("fp16")
        if not peak or (square and device.name in efficiencies[dtype]):
            continue
        share = round(min(float(line["achieved_tflops"]) * 1e12 / peak, 1.0), 4)
        efficiencies[dtype][device.name] = max(share, efficiencies[dtype].get(device.name, 0.0))
        for group in (f"generation:{device.generation}", f"vendor:{device.vendor}"):
            alike.setdefault((dtype, group), []).append(share)
    for (dtype, group), shares in alike.items():
        efficiencies[dtype][group] = round(float(np.mean(shares)), 4)
    return {dtype: dict(sorted(shares.items())) for dtype, shares in efficiencies.items()}


def read_rows(
    data: Path, traces: DecoderTraces, fit: DecoderFit, is_read: Callable[[dict[str, str]], bool] = bool
) -> tuple[Rows, Counter[str]]:
    """Return every row of a decoder that can be described, and why the others cannot."""
    runs: list[DecoderRun] = []
    lines: list[dict[str, str]] = []
    skipped: Counter[str] = Counter()
    for line in filter(is_decoder_row, filter(is_read, all_steps(data))):
        run = decoder_run(line, traces)
        if isinstance(run, str):
            skipped[run] += 1
        elif _is_held_up(line):
            skipped["held up by its host: scored, not fitted"] += 1
        else:
            runs.append(run)
            lines.append(line)
    return Rows.of(runs, lines, fit, calibration()), skipped


def all_steps(data: Path) -> list[dict[str, str]]:
    """Return the measured steps of a folder, and those that memory tables beside it state."""
    steps = step_rows(data)
    memory_steps = [
        step_of_memory_row(row, list(steps[0])) for path in memory_tables(data) for row in read_csv(path)
    ]
    return steps + [line for line in memory_steps if line is not None]


def _is_held_up(line: Mapping[str, str]) -> bool:
    """Return whether a table says that a step used so little of its device that its host decided the time."""
    match = re.search(r"our estimate: MFU ([\d.]+)", line["notes"])
    return match is not None and float(match[1]) < _LEAST_MFU


def empty_fit(data: Path, date: str) -> DecoderFit:
    """Return a fit with measured ceilings and priors for the rest."""
    base: dict[str, Any] = {
        name: float(make(mean)) for name, (mean, _, make) in PARAMETERS.items() if name not in KINDS
    }
    return DecoderFit(
        fitted_at=date, data_sha256=digest([*(data / name for name in FILES), *memory_tables(data)]),
        fitted_on={}, generations=(), vendors=(),
        matmul_ceiling=ceilings(data), kind_factor=dict.fromkeys(KINDS, 1.0),
        sigma={}, **base,
    )  # fmt: skip
