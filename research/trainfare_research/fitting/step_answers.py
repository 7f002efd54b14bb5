"""Predictions of rows that are no language models, those of one profile and one fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.engine import prepare
from trainfare_core.prediction.roofline.coefficients import Calibration, calibration
from trainfare_research.fitting.data_parallel import data_parallel_s, is_data_parallel
from trainfare_research.fitting.one_device_held_out import Fits
from trainfare_research.fitting.one_plan import Answer, Plan, predict_plans
from trainfare_research.fitting.split_tables import has_split_tables, predict_split_tables
from trainfare_research.fitting.step_work import Work
from trainfare_research.fitting.table_lines import ZERO_2, Line, accumulation_of
from trainfare_research.truth_table import answers_together, or_reason
from trainfare_research.workloads.language.decoder_plans import network_of


@dataclass(frozen=True)
class _Asked:
    """A row whose plan can be predicted."""

    index: int
    line: Line
    work: Work
    plan: Plan
    fit: Calibration

    @property
    def together(self) -> tuple[int, str, int, bool]:
        """What rows share that are predicted together: trace, torch version of its copy, fit, and where tables are."""
        job = self.work.job
        return id(job.operations), job.source.torch_version, id(self.fit), self.splits_tables

    @property
    def splits_tables(self) -> bool:
        """Whether its devices hold parts of its embedding tables."""
        return has_split_tables(self.line["model"], self.plan.devices)


def step_answers(
    lines: list[Line], works: Mapping[int, Work | str], fits: Fits | None
) -> dict[int, Answer | str]:
    """
    Return the prediction of each row, or why it has none, by index.

    Args:
        lines: of one table.
        works: what each row measured, or why that is not known, by index.
        fits: that leave a row's group out; None: the shipped one.
    """
    answers: dict[int, Answer | str] = {}
    groups: dict[tuple[int, str, int, bool], list[_Asked]] = {}
    for i, work in works.items():
        question = work if isinstance(work, str) else or_reason(_build_question, i, lines[i], work, fits)
        if isinstance(question, str):
            answers[i] = question
        else:
            groups.setdefault(question.together, []).append(question)
    for group in groups.values():
        answers |= {
            question.index: answer
            for question, answer in zip(group, answers_together(_predict_group, group), strict=True)
        }
    return answers


def _build_question(i: int, line: Line, work: Work, fits: Fits | None) -> _Asked | str:
    if fits is not None and is_data_parallel(line):
        return "one process on several devices has no fit of its own"
    try:
        plan = plan_of(line, work)
    except UnknownNameError as error:
        return str(error)
    return _Asked(i, line, work, plan, calibration() if fits is None else fits.of(line))


def plan_of(line: Line, work: Work) -> Plan:
    """
    Return where and how a row ran.

    Raises:
        UnknownNameError: its accelerator, or the network between its machines, is not known.
    """
    if line["devices"] == "1":
        return Plan(line["accelerator"], work.ratio)
    devices, nodes = int(line["devices"]), int(float(line["nodes"] or 1))
    machines, gbit_per_s = network_of(
        line, accelerator(line["accelerator"]), devices, nodes, partly_used=True
    )
    sharding = "zero2" if line["strategy"] == ZERO_2 else "fsdp" if "fsdp" in line["strategy"] else "ddp"
    return Plan(
        line["accelerator"], work.ratio, devices=devices, nodes=machines, gbit_per_s=gbit_per_s, sharding=sharding,
        accumulate=accumulation_of(line),
    )  # fmt: skip


def _predict_group(group: list[_Asked]) -> list[Answer | str]:
    """Return the answers of rows of one profile and fit."""
    first = group[0]
    run = prepare(first.work.job, first.fit, distance=first.fit is calibration())
    if first.splits_tables:
        steps = [predict_split_tables(run, question.plan) for question in group]
    else:
        steps = predict_plans(run, [question.plan for question in group])
    return [
        step if isinstance(step, str) else _answer(question, *step)
        for question, step in zip(group, steps, strict=True)
    ]


def _answer(question: _Asked, step_s: float, log_sigma: float) -> Answer:
    if is_data_parallel(question.line):
        plan = question.plan
        step_s = data_parallel_s(question.work.job, plan.name, plan.devices, plan.ratio)
    return question.work.answer(step_s, log_sigma)
