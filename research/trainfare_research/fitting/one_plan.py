"""The product's predictions of single plans, for rows of tables that state where they ran."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainfare_core.candidates import SHARDINGS, CandidateTable, ModelParallel
from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.columns import Run
from trainfare_core.prediction.engine import predict_run
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.shapes import MachineShapes


@dataclass(frozen=True)
class Answer:
    """
    Seconds of one optimizer step, and the standard deviation of ln(measured / predicted).

    `reach` is what the central 50, 80 and 90 % of |ln(measured / predicted)| stay below; None: the shipped quantiles.
    """

    measured_s: float
    predicted_s: float
    log_sigma: float
    reach: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Plan:
    """
    Where and how a row ran.

    Attributes:
        name: of the accelerator, as a table spells it.
        ratio: micro-batch over the profile's.
        devices: of all machines.
        nodes: machines.
        gbit_per_s: network of one machine; None where it is not stated.
        sharding: of `SHARDINGS`, what several devices share.
        accumulate: forward passes of one step.
    """

    name: str
    ratio: float
    devices: int = 1
    nodes: int = 1
    gbit_per_s: float | None = None
    sharding: str = "ddp"
    accumulate: int = 1


def predict_plan(run: Run, plan: Plan, parallel: ModelParallel | None = None) -> tuple[float, float] | str:
    """Return predicted seconds and sigma of one optimizer step of one plan, or why there are none."""
    return predict_plans(run, [plan], parallel)[0]


def predict_plans(
    run: Run, plans: Sequence[Plan], parallel: ModelParallel | None = None
) -> list[tuple[float, float] | str]:
    """
    Return predicted seconds and sigma of one optimizer step of each plan, or why there are none.

    Args:
        run: a prepared profile.
        plans: n of them, predicted together: what does not depend on the plan is worked out once.
        parallel: how each plan splits the model, n rows; None: not at all.
    """
    table = predict_table(run, plans, parallel)
    uneven = ["devices are no multiple of nodes" if plan.devices % plan.nodes else "" for plan in plans]
    columns = (table.unknown_because.tolist(), table.step_s.tolist(), table.log_sigma.tolist())
    return [
        first or reason or (step_s, log_sigma)
        for first, reason, step_s, log_sigma in zip(uneven, *columns, strict=True)
    ]


def predict_table(run: Run, plans: Sequence[Plan], parallel: ModelParallel | None = None) -> PredictionTable:
    """Return the whole prediction of each plan; arguments as of `predict_plans`."""
    names = [_device_of(plan) for plan in plans]
    shapes = MachineShapes(
        accelerator=np.array(names),
        accelerator_count=np.array([plan.devices / plan.nodes for plan in plans]),
        vcpus=np.full(len(plans), math.nan),
        memory_gib=np.full(len(plans), math.nan),
        network_gbit_per_s=np.array([plan.gbit_per_s or math.nan for plan in plans]),
    )
    ratio = np.array([plan.ratio for plan in plans])
    shardings = [SHARDINGS.index("none" if plan.devices == 1 else plan.sharding) for plan in plans]
    return predict_run(
        run,
        shapes,
        CandidateTable(
            shape=np.arange(len(plans)),
            nodes=np.array([plan.nodes for plan in plans]),
            sharding=np.array(shardings),
            micro_batch=float(run.profile.batch.micro_batch_size or math.nan) * ratio,
            micro_ratio=ratio,
            accumulate=np.array([plan.accumulate for plan in plans]),
            parallel=parallel,
        ),
    )


def _device_of(plan: Plan) -> str:
    """Return the catalogue's name of a plan's accelerator, or as it is: the prediction says that it is not known."""
    try:
        return accelerator(plan.name).name
    except UnknownNameError:
        return plan.name
