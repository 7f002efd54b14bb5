"""Rows of language models for `step_time.py`: described, predicted through the product's path, left out on demand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from trainfare_core.candidates import ModelParallel
from trainfare_core.prediction.engine import prepare
from trainfare_core.prediction.language_models.coefficients import DecoderFit, decoder_calibration
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_research.fitting.language_model_sums import Rows, coefficients, empty_fit, read_rows, solve
from trainfare_research.fitting.language_models import LEVELS, REFIT_EVALUATIONS, folds
from trainfare_research.fitting.one_plan import Answer, Plan, predict_plans
from trainfare_research.truth_table import answers_together, or_reason
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.language.decoder_rows import DecoderRun, decoder_run, is_decoder_row

_SPLIT = (
    "tensor", "pipeline", "virtual", "context", "expert", "sharded_optimizer", "overlap", "sequence_parallel",
)  # fmt: skip
"""Columns of `ModelParallel` that a row's plan states."""


def decoder_answers(
    lines: list[dict[str, str]], traces: DecoderTraces, leave_out: str | None = None, data: Path | None = None
) -> dict[int, Answer | str]:
    """
    Return, by index of the line, what was predicted or why not; lines of other models are absent.

    Args:
        lines: of throughput_train.csv.
        traces: of decoders.
        leave_out: "device", "source" or "size": the row's group is in no fit that predicts it. The fits are made
            here, from the rows of every table in `data`; None: the shipped coefficients, which most of these rows
            helped to fit.
        data: folder with all tables that are fitted, for fits of one's own.
    """
    runs_by_line = {
        i: or_reason(decoder_run, line, traces)
        for i, line in enumerate(lines)
        if is_decoder_row(line) and not line.get("skip_reason")
    }
    runs = {i: run for i, run in runs_by_line.items() if isinstance(run, DecoderRun)}
    fits = _left_out(lines, runs, leave_out, data, traces) if leave_out and runs else {}
    answers: dict[int, Answer | str] = {i: run for i, run in runs_by_line.items() if isinstance(run, str)}
    together: dict[tuple[int, int], list[int]] = {}
    for i, run in runs.items():
        together.setdefault((id(run.profile), id(fits.get(i, decoder_calibration()))), []).append(i)
    for group in together.values():
        # The table of measured runs has the rows that a fit of one's own leaves out.
        fit = fits.get(group[0], decoder_calibration())
        predicted = partial(_predict_group, fit=fit, distance=fit is decoder_calibration())
        answers |= dict(zip(group, answers_together(predicted, [runs[i] for i in group]), strict=True))
    return answers


def _left_out(
    lines: list[dict[str, str]],
    runs: dict[int, DecoderRun],
    name: str,
    data: Path | None,
    traces: DecoderTraces,
) -> dict[int, DecoderFit]:
    if data is None:
        msg = "--leave-out needs --data: the folder with the tables of measured steps and microbench_achieved.csv"
        raise SystemExit(msg)
    shipped = decoder_calibration()
    base = empty_fit(data, shipped.fitted_at)
    index = sorted(runs)
    rows, _ = read_rows(data, traces, base)
    rows_asked = Rows.of([runs[i] for i in index], [lines[i] for i in index], base, calibration())
    start = solve(rows, base).theta
    fits: dict[int, DecoderFit] = {}
    for inside, seen in folds(rows, name, rows_asked):
        others = rows.only(seen)
        fit = coefficients(solve(others, base, start, REFIT_EVALUATIONS).theta, base)
        generations = tuple(sorted({run.device.generation for run in others.runs}))
        # Widths are those of the shipped fit: they come from held-out errors of every group in turn.
        fit = fit.model_copy(
            update={"sigma": shipped.sigma, "generations": generations, "vendors": shipped.vendors}
        )
        fits.update({i: fit for i, fold in zip(index, inside, strict=True) if fold})
    return fits


def predict_decoder(run: DecoderRun, fit: DecoderFit) -> Answer | str:
    """Return the prediction of one row from the engine, or why it has none; its width counts no distance."""
    return _predict_group([run], fit, distance=False)[0]


def _predict_group(group: list[DecoderRun], fit: DecoderFit, *, distance: bool) -> list[Answer | str]:
    """Return the answers of rows of one profile."""
    where, parallel = plans_of(group)
    prepared = prepare(group[0].profile, decoder=fit, distance=distance)
    steps = predict_plans(prepared, where, parallel)
    return [
        step if isinstance(step, str) else _answer(run, *step) for run, step in zip(group, steps, strict=True)
    ]


def plans_of(group: list[DecoderRun]) -> tuple[list[Plan], ModelParallel]:
    """Return where rows of one profile ran, and how each split its model."""
    plans = [run.plan for run in group]
    parallel = ModelParallel(**{name: np.array([getattr(plan, name) for plan in plans]) for name in _SPLIT})
    where = [
        Plan(
            run.device.name, run.micro_batch, devices=plan.devices, nodes=plan.machines, gbit_per_s=plan.gbit_per_s,
            sharding=plan.sharding, accumulate=run.passes,
        )
        for run, plan in zip(group, plans, strict=True)
    ]  # fmt: skip
    return where, parallel


def _answer(run: DecoderRun, step_s: float, sigma: float) -> Answer:
    half, most, nearly = (z * sigma for z in LEVELS.values())
    return Answer(run.step_s, step_s, sigma, (half, most, nearly))
