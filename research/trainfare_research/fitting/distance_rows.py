"""Measured steps with what describes their work and their errors from fits without their group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.distance import DEVICES, FEATURES, describe_work, name_work
from trainfare_core.prediction.engine import prepare
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.roofline.host import host_bound
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline_job import own_device_s
from trainfare_research.fitting.language_models_held_out import decoder_answers, plans_of
from trainfare_research.fitting.launched_rows import read_launched_rows
from trainfare_research.fitting.one_device_held_out import FitsWithout
from trainfare_research.fitting.one_plan import Answer, predict_table
from trainfare_research.fitting.step_answers import step_answers
from trainfare_research.fitting.step_work import Work, work_of
from trainfare_research.fitting.table_lines import Line, is_suspect
from trainfare_research.truth_table import STEP_TABLES, has_table, or_reason
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.language.decoder_rows import DecoderRun, decoder_run, is_decoder_row

LEFT_OUT = ("source", "vendor", "work")
"""What is left out of the fits, each in turn. A kind of work only of jobs that are no language models: those have one
fit of their own, and nothing is left of it without them."""


def read_distance_rows(data: Path, cache: ProfileCache) -> list[dict[str, str]]:
    """Return every answered, unsuspected step with its description and its errors, ln(measured / predicted)."""
    traces = DecoderTraces(cache.folder)
    lines = [
        line
        for name in STEP_TABLES
        if has_table(data / name)
        for line in read_launched_rows(data / name)
        if not is_suspect(line)
    ]
    works: dict[int, Work | str] = {}
    described: dict[int, dict[str, str]] = {}
    for i, line in enumerate(lines):
        if is_decoder_row(line):
            run = or_reason(decoder_run, line, traces)
            if isinstance(run, DecoderRun):
                described[i] = _describe_decoder(run, line)
        else:
            works[i] = line.get("skip_reason", "") or or_reason(work_of, line, cache)
            work = works[i]
            if isinstance(work, Work):
                described[i] = _describe_step(work, line)
    for name in LEFT_OUT:
        for i, answer in _answers(lines, works, traces, data, cache, name):
            if i in described:
                error = np.log(answer.measured_s / answer.predicted_s)
                described[i] |= {name: f"{error:.5f}", f"{name}_sigma": f"{answer.log_sigma:.5f}"}
    errors = [column for name in LEFT_OUT for column in (name, f"{name}_sigma")]
    return [
        row | {name: row.get(name, "") for name in errors} for row in described.values() if "source" in row
    ]


def _answers(
    lines: list[Line],
    works: dict[int, Work | str],
    traces: DecoderTraces,
    data: Path,
    cache: ProfileCache,
    name: str,
) -> Iterator[tuple[int, Answer]]:
    answers: dict[int, Answer | str] = {}
    if name != "work":
        answers |= decoder_answers(lines, traces, name, data)
    answers |= step_answers(lines, works, FitsWithout(data, cache, name))
    yield from ((i, answer) for i, answer in answers.items() if isinstance(answer, Answer))


def _describe_step(work: Work, line: Line) -> dict[str, str]:
    device, operations = accelerator(line["accelerator"]), Operations.of(work.job)
    roofline = Roofline.of(device, operations)
    device_s, host_s = own_device_s(operations, [roofline], calibration(), work.ratio)
    host = float(np.clip(host_s / host_bound(device_s, host_s), 0.0, 1.0)[0])
    return _description(line, roofline, operations, host, "operations")


def _describe_decoder(run: DecoderRun, line: Line) -> dict[str, str]:
    operations = Operations.of(run.profile)
    table = predict_table(prepare(run.profile, distance=False), *plans_of([run]))
    host = float((table.launch_s / (table.compute_s + table.memory_s + table.launch_s))[0])
    return _description(line, Roofline.of(run.device, operations), operations, host, "language")


def _description(
    line: Line, roofline: Roofline, operations: Operations, host: float, model: str
) -> dict[str, str]:
    *shares, log10_kernel_s = describe_work(roofline, operations).tolist()
    devices = 0 if line["devices"] == "1" else 1 if float(line["nodes"] or 1) <= 1 else 2
    features = dict(zip(FEATURES, (*shares, host, log10_kernel_s), strict=True))
    line["work"] = name_work(np.array(shares)) if model == "operations" else "language model"
    line["vendor"] = roofline.device.vendor
    return {
        "model": line["model"],
        "kind": line["work"],
        "maker": line["vendor"],
        "from": line["source"],
        "model_kind": model,
        "devices": DEVICES[devices],
        "accelerator": roofline.device.name,
        "generation": roofline.device.generation,
        **{key: f"{value:.4f}" for key, value in features.items()},
    }
