"""The product's prediction of one plan, for rows of tables that state where they ran."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trainfare_core.candidates import SHARDINGS, CandidateTable, ModelParallel
from trainfare_core.errors import UnknownNameError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prediction.engine import Run, predict_run
from trainfare_core.prices.book import MachineShapes

__all__ = ["Answer", "predict_plan"]


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


def predict_plan(
    run: Run,
    name: str,
    ratio: float,
    *,
    devices: int = 1,
    nodes: int = 1,
    gbit_per_s: float | None = None,
    sharding: str = "ddp",
    accumulate: int = 1,
    parallel: ModelParallel | None = None,
) -> tuple[float, float] | str:
    """
    Return predicted seconds and sigma of one optimizer step, or why there are none.

    Args:
        run: a prepared profile.
        name: of the accelerator, as a table spells it.
        ratio: micro-batch over the profile's.
        devices: of all machines.
        nodes: machines.
        gbit_per_s: network of one machine; None where it is not stated.
        sharding: of `SHARDINGS`, what several devices share.
        accumulate: forward passes of one step.
        parallel: how the plan splits the model, one row; None: not at all.
    """
    try:
        device = accelerator(name)
    except UnknownNameError:
        return f"{name} is not in the catalogue"
    if devices % nodes:
        return "devices are no multiple of nodes"
    machines = MachineShapes(
        accelerator=np.array([device.name]),
        accelerator_count=np.array([devices / nodes]),
        vcpus=np.array([math.nan]),
        memory_gib=np.array([math.nan]),
        network_gbit_per_s=np.array([gbit_per_s or math.nan]),
    )
    kind = SHARDINGS.index("none" if devices == 1 else sharding)
    plans = CandidateTable(
        shape=np.zeros(1, dtype=np.int64),
        nodes=np.array([nodes]),
        sharding=np.array([kind]),
        micro_batch=np.array([float(run.profile.batch.micro_batch_size or math.nan) * ratio]),
        micro_ratio=np.array([ratio]),
        accumulate=np.array([accumulate]),
        parallel=parallel,
    )
    table = predict_run(run, machines, plans)
    if table.unknown_because[0]:
        return str(table.unknown_because[0])
    return float(table.step_s[0]), float(table.log_sigma[0])
