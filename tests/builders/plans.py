"""Machine shapes and plans for tests of the prediction, one row each by default."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from trainfare_core.candidates import SHARDINGS, CandidateTable
from trainfare_core.hardware.hosts import number_hosts
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import PredictionTable, predict
from trainfare_core.prices.shapes import MachineShapes


def shapes(
    *names: str, count: float = 1.0, network: float = math.nan, vcpus: float = math.nan, machine: str = ""
) -> MachineShapes:
    """Return one machine shape an accelerator name, all with the same numbers and the processor of `cloud:type`."""
    rows, (cloud, _, type_name) = len(names), machine.partition(":")
    hosts = number_hosts(pl.DataFrame({"provider": [cloud], "instance_type": [type_name]})).fill_null(-1)
    return MachineShapes(
        accelerator=np.array(names, dtype=np.str_),
        accelerator_count=np.full(rows, count),
        vcpus=np.full(rows, vcpus),
        memory_gib=np.full(rows, math.nan),
        network_gbit_per_s=np.full(rows, network),
        host=np.full(rows, hosts[0]),
    )


def plan(
    *, rows: int = 1, nodes: int = 1, sharding: str = "none", ratio: float = 1.0, accumulate: int = 1
) -> CandidateTable:
    """Return the same plan for the first `rows` shapes."""
    return CandidateTable(
        shape=np.arange(rows, dtype=np.int64),
        nodes=np.full(rows, nodes, dtype=np.int64),
        sharding=np.full(rows, SHARDINGS.index(sharding), dtype=np.int64),
        micro_batch=np.full(rows, 8.0 * ratio),
        micro_ratio=np.full(rows, ratio),
        accumulate=np.full(rows, accumulate, dtype=np.int64),
    )


def predict_one(
    job: JobProfile, name: str, *, count: float = 1.0, nodes: int = 1, sharding: str = "", ratio: float = 1.0,
    accumulate: int = 1, network: float = math.nan, vcpus: float = math.nan, machine: str = "",
) -> PredictionTable:  # fmt: skip
    """Return the prediction of one plan on one machine shape; several devices use DDP by default."""
    kind = sharding or ("ddp" if count * nodes > 1 else "none")
    return predict(
        job,
        shapes(name, count=count, network=network, vcpus=vcpus, machine=machine),
        plan(nodes=nodes, sharding=kind, ratio=ratio, accumulate=accumulate),
    )
