"""
Plans that split a decoder itself over devices: tensor, pipeline, context and expert parallelism (`split_plans`).

A replica of the model is on tensor x pipeline x context devices; the replicas share the global batch. What is tried is
what published layouts use, so that the number of plans stays bounded:

- all accelerators of every machine, and GPUs alone: the frameworks that split a model run on no others;
- tensor groups within a machine: their exchange waits for every product, which a network between machines is too slow
  for; a power of two that divides the heads of queries and of keys and values, and the tokens that sequence parallelism
  shares;
- context groups within a machine, because their exchange of keys and values is not part of the prediction; each device
  keeps at least `LEAST_TOKENS` of a sample;
- pipeline stages with the same number of layers, each on whole machines or on an equal part of one, at most
  `MOST_STAGES`, and at least as many micro-batches as stages, with which a pipeline is ever full (no interleaving);
- expert groups among the replicas, a power of two that divides the experts;
- the script's micro-batch, and single samples, which take the least memory and make the shortest pipelines;
- the optimizer's state sharded over the replicas, as Megatron does (ZeRO-1); where only products are split, replicas
  sharded altogether too (FSDP), as Lightning does.
"""

from __future__ import annotations

from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainfare_core.arrays import Rows
from trainfare_core.candidates.layouts import whole_machines
from trainfare_core.candidates.space import PlanSpace, divisors, global_batch, own_micro_batch
from trainfare_core.candidates.table import SHARDINGS, CandidateTable, ModelParallel, join_tables
from trainfare_core.job_profile import JobProfile
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.variants import DecoderShape

LEAST_TOKENS: Final = 4096
"""Of a sample on one device of a context group: shorter samples fit without. A chosen value, that from which NVIDIA's
guides split samples."""
MOST_STAGES: Final = 64
"""Of a pipeline: the deepest one published for a model of known layout (1T parameters, Narayanan et al. 2021)."""

_NONE, _FSDP, _ZERO_1 = (SHARDINGS.index(name) for name in ("none", "fsdp", "zero1"))


def split_plans(profile: JobProfile, shapes: MachineShapes, space: PlanSpace) -> CandidateTable:
    """
    Return the plans that split a decoder over the devices of machines.

    Args:
        profile: one for which `PlanSpace.may_split`.
        shapes: machines.
        space: which plans are tried.

    Returns:
        Plans in no order, with the script's global batch: micro-batch x accumulation x replicas.
    """
    shape, nodes, devices = whole_machines(profile, shapes, space)
    model = DecoderShape.of(profile)
    stages = [number for number in divisors(max(model.layers, 1)) if number <= MOST_STAGES]
    plans: CandidateTable | None = None
    for tensor, context, pipeline in product(_powers(model.heads), _contexts(model), stages):
        possible = _possible(nodes, devices, tensor * context, pipeline)
        possible &= model.tokens % (tensor * context) == 0
        if tensor * context * pipeline > 1 and possible.any():
            rows = np.flatnonzero(possible)
            fitting_plans = _list_plans(
                profile, space, shape[rows], nodes[rows], devices[rows], (tensor, pipeline, context), model
            )
            plans = fitting_plans if plans is None else join_tables(plans, fitting_plans)
    nothing = np.zeros(0, dtype=np.int64)
    return (
        plans
        if plans is not None
        else _list_plans(profile, space, nothing, nothing, nothing, (1, 1, 1), model)
    )


def _powers(number: int) -> list[int]:
    """Return the powers of two that divide a number, 1 for none."""
    return [1] + [2**power for power in range(1, 10) if number and number % 2**power == 0]


def _contexts(model: DecoderShape) -> list[int]:
    """Return numbers of devices that share a sample; each has two equal parts of it, for causal attention."""
    return [size for size in _powers(model.tokens // 2) if size == 1 or model.tokens >= size * LEAST_TOKENS]


def _possible(nodes: Rows, devices: Rows, inside: int, pipeline: int) -> NDArray[np.bool_]:
    """Mark the machines on which a group has its place; stages are whole machines or equal parts of one."""
    parts = devices // inside
    even = (nodes % pipeline == 0) | (
        (pipeline % nodes == 0) & (parts % np.maximum(pipeline // nodes, 1) == 0)
    )
    return np.asarray((devices % inside == 0) & even)


def _list_plans(
    profile: JobProfile,
    space: PlanSpace,
    shape: Rows,
    nodes: Rows,
    devices: Rows,
    degrees: tuple[int, int, int],
    model: DecoderShape,
) -> CandidateTable:
    """Return the plans of one tensor x pipeline x context on some layouts, by micro-batch, sharding and experts."""
    tensor, pipeline, context = degrees
    replicas = devices * nodes // (tensor * pipeline * context)
    batch, own_micro = global_batch(profile) or 1, own_micro_batch(profile)
    least = space.least_micro_batch(profile, np.maximum(replicas, 1))
    share = np.where(batch % np.maximum(replicas, 1) == 0, batch // np.maximum(replicas, 1), 0)
    only_tensor = pipeline * context == 1
    rows, micros, shardings, experts = (list[Rows]() for _ in range(4))
    for micro in dict.fromkeys((max(int(own_micro), 1), 1)):
        fits = (share >= micro) & (share % micro == 0) & (share >= pipeline * micro) & (micro >= least)
        for expert in _powers(model.experts):
            holds = fits & (replicas * context % expert == 0)
            several = replicas * context > 1
            kinds = [(_NONE, ~several), (_ZERO_1, several)]
            if only_tensor and expert == 1:
                kinds.append((_FSDP, several))
            for kind, where in kinds:
                rows_held = np.flatnonzero(holds & where)
                rows.append(rows_held)
                for column, value in ((micros, micro), (shardings, kind), (experts, expert)):
                    column.append(np.full(len(rows_held), value, dtype=np.int64))
    row, micro_batch, sharding = (np.concatenate(parts) for parts in (rows, micros, shardings))
    count = len(row)

    def all_of(value: int) -> Rows:
        return np.full(count, value, dtype=np.int64)

    return CandidateTable(
        shape=shape[row],
        nodes=nodes[row],
        sharding=sharding,
        micro_batch=micro_batch.astype(np.float64),
        micro_ratio=micro_batch / own_micro,
        accumulate=share[row] // micro_batch,
        devices=devices[row],
        batch_factor=np.ones(count),
        weak=np.zeros(count, dtype=np.bool_),
        as_scripted=np.zeros(count, dtype=np.bool_),
        parallel=ModelParallel(
            tensor=all_of(tensor),
            pipeline=all_of(pipeline),
            virtual=all_of(1),
            context=all_of(context),
            expert=np.concatenate(experts),
            sharded_optimizer=np.asarray(sharding == _ZERO_1),
            overlap=np.ones(count, dtype=np.bool_),
        ),
    )
