"""
One step of a live module on its own tensors, once its training has ended.

FareMeter takes it where the step cannot be recorded while it trains, and reads a value that a fake copy does not have.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from trainfare.fake_step.fake_step import trace_step
from trainfare.fake_step.fake_tensors import copy_nested, rng_untouched
from trainfare.fake_step.module_parts import tensor_leaves
from trainfare.fake_step.real_tensors import RealTensors, check_size, restore_after
from trainfare.job import REAL_LIMITS, RealLimits, canonical_precision
from trainfare.job.loop import TrainingStep
from trainfare.trace import StepFacts

MAX_KEPT_BYTES: Final = 64 * 2**20
"""Size up to which a batch is kept until training has ended: a chosen value, above a hundred images of 224 x 224
pixels in fp32, and far below what an accelerator leaves free."""


def copy_small_batch(batch: Any) -> Any | None:
    """Return a copy of a batch, or None where it is too large to be kept while a model trains."""
    bytes_ = sum(tensor.numel() * tensor.element_size() for tensor in tensor_leaves(batch))
    return None if bytes_ > MAX_KEPT_BYTES else copy_nested(batch, lambda tensor: tensor.detach().clone())


def trace_live_step(
    module: nn.Module,
    batch: Any,
    optimizers: Sequence[torch.optim.Optimizer],
    make_step: Callable[[nn.Module, Sequence[torch.optim.Optimizer]], TrainingStep],
    *,
    precision: str,
    limits: RealLimits = REAL_LIMITS,
) -> StepFacts:
    """
    Trace one step of a live module on its own tensors, uncompiled; all that the step changes is put back.

    Args:
        module: the live module, of a run in one process.
        batch: one micro-batch, as the step receives it.
        optimizers: the live optimizers, in their order; copies of them step.
        make_step: returns the step of the module with copies of the optimizers; see `Loop.training_step`.
        precision: of the run, e.g. `trainer.precision`.
        limits: of memory and CPU time.

    Raises:
        TraceError: the step is beyond the limits, or raised.
    """
    check_size(
        [
            (parameter.numel() * parameter.element_size(), parameter.requires_grad)
            for parameter in module.parameters()
        ],
        limits,
    )
    with rng_untouched(), restore_after(module):
        training = make_step(module, [_copy_optimizer(optimizer) for optimizer in optimizers])
        with RealTensors(limits) as tensors:
            given = tensors.batch(batch)
            step = trace_step(
                module,
                given,
                training,
                None,
                precision=canonical_precision(precision),
                batch_bytes=sum(tensor.numel() * tensor.element_size() for tensor in tensors.batch_tensors),
            )
    return replace(step, notes=(*step.notes, *tensors.notes))


def _copy_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Copy an optimizer with its state; it is bound to the same parameters, and has none of its hooks."""
    original: Any = getattr(optimizer, "_optimizer", optimizer)
    twin: torch.optim.Optimizer = original.__class__.__new__(original.__class__)
    for name, value in cast("dict[str, Any]", vars(original)).items():
        if name != "step":  # that of the class, where a scheduler has wrapped it
            hooks = name.startswith("_optimizer_") and isinstance(value, OrderedDict)
            vars(twin)[name] = OrderedDict[int, Any]() if hooks else value
    loose: Any = twin
    loose.param_groups = [dict(group) for group in original.param_groups]
    loose.state = defaultdict(dict, {key: _clone_state(state) for key, state in original.state.items()})
    return twin


def _clone_state(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in state.items()
    }
