"""Rows of one device by the protocols of `step_time.py`: a group left out of the fit, one step measured elsewhere."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.engine import prepare
from trainfare_core.prediction.roofline.coefficients import Calibration, calibration
from trainfare_core.prediction.roofline.host import host_bound
from trainfare_core.prediction.roofline.operations import Operations, Roofline
from trainfare_core.prediction.roofline_job import own_device_s
from trainfare_core.prediction.source import SourceCorrection
from trainfare_research.fitting.calibration_file import list_measured_devices, with_coefficients
from trainfare_research.fitting.held_out_groups import FIT_GROUPS
from trainfare_research.fitting.one_device_solver import Problem, solve
from trainfare_research.fitting.one_device_tables import read_measurements
from trainfare_research.fitting.one_plan import Answer, Plan, predict_plan
from trainfare_research.fitting.step_work import Work
from trainfare_research.fitting.table_lines import Line, chip_of
from trainfare_research.workloads import ProfileCache
from trainfare_research.workloads.language.decoder_profile import DecoderTraces

REFIT_EVALUATIONS = 8
"""Of the loss, for a fit that starts at the coefficients of all rows. A chosen value: the loss moves by less than a
thousandth of itself afterwards."""


class Fits(Protocol):
    """A fit for every row."""

    def of(self, line: Line) -> Calibration:
        """Return the fit that predicts a row."""


@lru_cache(maxsize=1)  # runners in one process leave rows out of the same measurements
def _solve_measured(data: Path, folder: Path, only_held: bool) -> tuple[Problem, NDArray[np.float64]]:  # noqa: FBT001 - handed on
    """Return the problem of the fit, and its solution on all rows."""
    cache, waiting = ProfileCache(folder, only_held=only_held), calibration().communication.straggler_share
    problem, _ = read_measurements(data, cache, DecoderTraces(folder), waiting)
    return problem, solve(problem)


class FitsWithout:
    """
    Fits of all measurements but those of one chip, one source or one benchmark's submissions, each made once.

    Args:
        data: folder of throughput_train.csv and the other files that the fit reads.
        cache: traces.
        name: "device", "source" or "benchmark".
    """

    def __init__(self, data: Path, cache: ProfileCache, name: str) -> None:
        self._name = {"device": "chip"}.get(name, name)
        self._problem, self._start = _solve_measured(data, cache.folder, cache.only_held)
        self._groups = np.array([FIT_GROUPS[self._name](row) for row in self._problem.rows])
        self._known: dict[str, Calibration] = {}

    def of(self, line: Line) -> Calibration:
        """Return the fit without any measurement of a row's chip, source or benchmark."""
        value = chip_of(accelerator(line["accelerator"]).name) if self._name == "chip" else line[self._name]
        if value not in self._known:
            without = self._groups == value
            theta = solve(self._problem, self._start, REFIT_EVALUATIONS, without)
            rows_left = [row for row, left in zip(self._problem.rows, without, strict=True) if not left]
            self._known[value] = with_coefficients(
                calibration(), self._problem.index, theta, *list_measured_devices(rows_left),
                submission=self._name == "benchmark",
            )  # fmt: skip
        return self._known[value]


def _predict_work(line: Line, work: Work, fit: Calibration, correction: SourceCorrection) -> Answer | str:
    """Return the prediction of one step on a row's one device, corrected by another, or why it has none."""
    run = replace(prepare(work.job, fit, distance=False), correction=correction)
    answer = predict_plan(run, Plan(line["accelerator"], work.ratio))
    return answer if isinstance(answer, str) else work.answer(*answer)


def one_step_answers(
    lines: list[Line], works: dict[int, Work], fits: FitsWithout | None
) -> dict[int, list[Answer]]:
    """
    Predict each row once for every other chip that ran the same model with the same software and precision.

    Args:
        lines: the table.
        works: what its rows of one device measured, by index.
        fits: fits without any row of the target's group; None: the shipped one.

    Returns:
        By index, one answer for every step measured elsewhere; rows without one are absent.
    """
    same: dict[tuple[str, ...], list[int]] = {}
    for i in works:
        key = tuple(lines[i][name] for name in ("source", "model", "precision", "framework"))
        same.setdefault(key, []).append(i)
    chips = {i: chip_of(accelerator(lines[i]["accelerator"]).name) for i in works}
    answers_by_line: dict[int, list[Answer]] = {}
    for group in same.values():
        for i, j in permutations(group, 2):
            if chips[i] == chips[j]:
                continue
            fit = calibration() if fits is None else fits.of(lines[i])
            correction = _correct_from_elsewhere(lines[j], works[j], fit)
            answer = _predict_work(lines[i], works[i], fit, correction)
            if isinstance(answer, Answer) and correction.device is not None:
                answers_by_line.setdefault(i, []).append(answer)
    return answers_by_line


def _correct_from_elsewhere(line: Line, work: Work, fit: Calibration) -> SourceCorrection:
    """Return the correction of other devices that follows from a row's measured step."""
    device = accelerator(line["accelerator"])
    operations = Operations.of(work.job)
    device_s, host_s = own_device_s(operations, [Roofline.of(device, operations)], fit, work.ratio)
    measured_s = (work.measured_s - work.extra_s) / work.factor
    return SourceCorrection.of(device, measured_s, float(host_bound(device_s, host_s)[0]))
