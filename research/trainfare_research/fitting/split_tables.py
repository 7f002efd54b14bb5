"""
Steps of DLRM whose embedding tables are split over devices, as HugeCTR and NVIDIA's trainer in PyTorch run them.

A device holds some of the tables and looks up their rows for the samples of all devices: as many as it would look up in
all tables for its own samples. So its work is that of one device, the dense layers are data parallel, and each pass has
an all-to-all, of the rows found and then of their gradients. Nothing hides these two: the layers above the tables wait
for the rows, and the update of the tables for the gradients.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import SPARSE_TENSOR, JobProfile
from trainfare_core.prediction.columns import Run
from trainfare_core.prediction.network import collectives
from trainfare_research.fitting.one_plan import Plan, predict_plan
from trainfare_research.workloads.other.tabular import count_looked_up_bytes, dense_gradient_bytes


def has_split_tables(name: str, devices: int) -> bool:
    """Return whether a model or benchmark of a table spreads its embedding tables over so many devices."""
    return devices > 1 and name.lower().startswith("dlrm")


def predict_split_tables(run: Run, plan: Plan) -> tuple[float, float] | str:
    """Return predicted seconds and sigma of one optimizer step of a profile of one device's samples, or why not."""
    dense = replace(run, profile=_without_table_gradients(run.profile))
    answer = predict_plan(dense, plan)
    if isinstance(answer, str):
        return answer
    step_s, log_sigma = answer
    samples = (run.profile.batch.micro_batch_size or math.nan) * plan.ratio
    return step_s + 2 * _all_to_all_s(
        run, plan, count_looked_up_bytes(samples, run.profile.precision)
    ), log_sigma


def _all_to_all_s(run: Run, plan: Plan, payload_bytes: float) -> float:
    """
    Return seconds in which every device sends each other one its part of `payload_bytes`.

    A link carries what it carries in a gather; a machine's network the bytes of all its devices.
    """
    fit, per_machine = run.fit.communication, plan.devices // plan.nodes
    link = collectives.link_of(accelerator(plan.name), fit)
    links = (np.array([link.bytes_per_s]), np.array([link.latency_s]))

    def seconds(payload: float, inside: int, machines: int) -> float:
        network = np.array([(plan.gbit_per_s or math.nan) / 8 * 1e9])
        seconds_a_step = collectives.collective_s(
            np.array([payload]), 1.0, np.array([inside]), np.array([machines]), links, network, fit
        )
        return float(seconds_a_step[0])

    within = seconds(payload_bytes / plan.nodes, per_machine, 1)
    return within + (seconds(payload_bytes * per_machine, 1, plan.nodes) if plan.nodes > 1 else 0.0)


def _without_table_gradients(profile: JobProfile) -> JobProfile:
    """Return a profile whose sparse gradients stay with the devices that hold the tables."""
    operations = tuple(group for group in profile.operations if not group.name.startswith(SPARSE_TENSOR))
    batch = profile.batch.micro_batch_size or 0
    dense = dense_gradient_bytes(profile.parameter_bytes, batch, profile.precision)
    memory = profile.memory.model_copy(update={"gradient_bytes": dense})
    return profile.model_copy(update={"operations": operations, "memory": memory})
