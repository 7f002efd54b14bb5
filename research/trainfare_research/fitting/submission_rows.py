"""
Rows of time_to_train.csv as rows of the fit of one device: what each device of one machine did in a training step.

Convolutions on the newest chips were measured hardly anywhere else. The clock without evaluation, over the steps, is
the step; what the devices wait for one another and exchange is taken off at the constants of links. Language models
have a fit of their own; a sample or a table that several devices share is no measurement of one, and neither is a step
that may wait for the features of a sampled graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.network import collectives
from trainfare_core.prediction.network.collectives import CommunicationFit, link_calibration
from trainfare_core.prediction.roofline.operations import Operations
from trainfare_research.fitting.one_device_rows import Row, RowMaker
from trainfare_research.fitting.sampled_features import has_sampled_features
from trainfare_research.fitting.split_tables import has_split_tables
from trainfare_research.fitting.submission_steps import (
    Submission,
    build_submitted_step,
    evaluation_shares,
    training_devices,
    training_share,
)
from trainfare_research.fitting.submissions import group_of
from trainfare_research.fitting.table_lines import SUBMISSION, Line
from trainfare_research.truth_table import SUBMISSION_TABLES, has_table, read_rows
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.cache import Traced
from trainfare_research.workloads.language.mlperf_decoders import is_decoder_benchmark
from trainfare_research.workloads.mlperf import update_shares

_SOURCE = "mlperf"
_MOST_EXCHANGE = 0.3
"""Share of a step from which its exchange of gradients is too long to be taken off by a constant. A chosen value: at
the floor that is always exposed (`CommunicationFit.exposed_floor`) it is 8 % of the step, a fit's usual error."""


class _Steps:
    """Steps of submissions; those of one network, precision and sharding share their operations."""

    def __init__(self, cache: ProfileCache) -> None:
        self._cache = cache
        self._known: dict[tuple[str, ...], tuple[Traced, Operations] | str] = {}

    def of(self, line: Submission, devices: int) -> tuple[Traced, Operations] | str:
        facts = tuple(line[name] for name in ("benchmark", "precision", "round", "framework"))
        key = (*facts, str(update_shares(line, devices)))
        if key not in self._known:
            step = build_submitted_step(line, self._cache, devices)
            self._known[key] = step if isinstance(step, str) else (step, Operations.of(step.profile))
        return self._known[key]


def submission_rows(
    data: Path, cache: ProfileCache, maker: RowMaker, is_read: Callable[[Line], bool] = bool
) -> Iterator[Row]:
    """Yield the steps of one machine from `SUBMISSION_TABLES` in a folder; tables that it lacks have none."""
    steps = _Steps(cache)
    for path in (data / name for name in SUBMISSION_TABLES):
        lines = read_rows(path) if has_table(path) else []
        shares = evaluation_shares(lines)
        for line in filter(is_read, lines):
            row = _build_row(line, steps, maker, shares)
            if row is not None:
                yield row


def _build_row(line: Submission, steps: _Steps, maker: RowMaker, shares: dict[str, float]) -> Row | None:
    if is_decoder_benchmark(line) or not line["samples_to_converge"] or not _one_machine(line):
        return None
    whole, (devices, _) = float(line["global_batch_size"]), training_devices(line)
    if has_split_tables(line["benchmark"], devices) or has_sampled_features(line["benchmark"]):
        return None
    passes = int(line["grad_accum_steps"] or 1)
    micro = whole / devices / passes
    if micro < 1:
        return None
    step, device = steps.of(line, devices), maker.device(line["accelerator"])
    if isinstance(step, str) or device is None:
        maker.skipped[str(step)] += 1
        return None
    step_work, operations = step
    clock_s = float(line["time_to_train_min"]) * 60 * training_share(line, shares, devices)
    step_s = clock_s * whole / float(line["samples_to_converge"])
    own_s = _alone_s(step_s, device, step_work.profile, devices)
    if own_s is None:
        maker.skipped["the exchange of gradients is too long, or not known"] += 1
        return None
    return maker.row(
        operations, device, own_s / passes, _as_step(line, micro), ratio=micro * step_work.ratio,
        optimizer_share=1.0 / passes, source=_SOURCE, workload=line["benchmark"], precision=line["precision"],
    )  # fmt: skip


def _one_machine(line: Submission) -> bool:
    try:
        return group_of(line)[1] == "one"
    except UnknownNameError:
        return False


def _alone_s(step_s: float, device: Accelerator, profile: JobProfile, devices: int) -> float | None:
    """Return the step of one device without its peers, seconds; None where the exchange is a large part of it."""
    if devices == 1:
        return step_s
    fit = link_calibration().communication
    exchange_s = _exchange_s(device, profile, devices, fit)
    if not exchange_s < _MOST_EXCHANGE * step_s:
        return None
    waiting = 1.0 + fit.straggler_share * math.log2(min(devices, collectives.LONGEST_RING))
    return (step_s - fit.exposed_floor * exchange_s) / waiting


def _exchange_s(device: Accelerator, profile: JobProfile, devices: int, fit: CommunicationFit) -> float:
    link = collectives.link_of(device, fit)
    payload = collectives.traffic_of(profile).all_reduce_bytes
    seconds = collectives.collective_s(
        np.array([payload]), 2.0, np.array([devices]), np.array([1]),
        (np.array([link.bytes_per_s]), np.array([link.latency_s])), np.array([math.nan]), fit,
    )  # fmt: skip
    return float(seconds[0])


def _as_step(line: Submission, micro: float) -> Line:
    """Return the facts of a row in the columns of throughput_train.csv."""
    return {
        "source": _SOURCE, "model": line["benchmark"], "precision": line["precision"], "notes": "",
        "accelerator": line["accelerator"], "batch_per_device": f"{micro:g}", "framework": line["framework"],
        "measured": SUBMISSION,
    }  # fmt: skip
