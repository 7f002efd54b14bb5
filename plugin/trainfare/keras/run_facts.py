"""What a call of `Model.fit`, and the model, say of a run; and the model in the form of torch that a trace reads."""

from __future__ import annotations

import inspect
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, cast

import torch
from torch import nn
from torch.optim import Optimizer

from trainfare.job.input_kind import read_source
from trainfare.job.processes import find_processes
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import CheckpointTrigger, LoopLength
from trainfare_core.job_profile import ParallelFacts

keras: Any = import_module("keras")  # it has no types
BACKEND: Final[str] = keras.config.backend()
_PRECISIONS: Final = {
    "mixed_bfloat16": "bf16-mixed", "mixed_float16": "16-mixed",
    "bfloat16": "bf16-true", "float16": "16-true", "float64": "64-true",
}  # fmt: skip
"""Names of dtype policies, and Lightning's words for them."""


def find_fit(model: Any) -> Mapping[str, Any]:
    """Return the variables of the call of `fit` under way, which tells its callbacks little; empty: there is none."""
    frame = inspect.currentframe()
    while frame is not None:
        # Of no other frame: reading its variables would keep them alive until it ends.
        if frame.f_code.co_name == "fit" and str(frame.f_globals.get("__name__")).startswith("keras."):
            variables = dict(frame.f_locals)
            if variables.get("self") is model:
                return variables
        frame = frame.f_back
    return {}


def list_optimizers(model: Any) -> list[Any]:
    """Return the optimizers that are attributes of a model."""
    attributes = cast("dict[str, Any]", vars(model))
    values = [value for value in attributes.values() if isinstance(value, keras.optimizers.Optimizer)]
    return list({id(optimizer): optimizer for optimizer in values}.values())


def count_passes(model: Any) -> int:
    """Return the batches of one optimizer step."""
    optimizer = getattr(model, "optimizer", None)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return int(getattr(inner, "gradient_accumulation_steps", None) or 1)


def count_accumulated(model: Any) -> int:
    """Return the batches whose gradients are accumulated and not applied yet."""
    passes = count_passes(model)
    if passes == 1:
        return 0
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return int(inner._iterations.value) % passes  # noqa: SLF001 - `iterations` are those applied


def list_modules(model: Any) -> list[nn.Module]:
    """Return the modules of torch that a model consists of, those that its layers wrap among them."""
    layers = model._flatten_layers() if BACKEND == "torch" else ()  # noqa: SLF001 - `modules` leaves out those in lists
    return list({id(module): module for layer in layers for module in layer.modules()}.values())


def _read_value(variable: Any) -> torch.Tensor:
    """Return the value of a variable; of another backend a tensor like it, without memory."""
    if BACKEND == "torch":
        return variable.value  # type: ignore[no-any-return]
    dtype = getattr(torch, str(variable.dtype), torch.float32)
    value = torch.empty(tuple(variable.shape), dtype=dtype, device="meta")
    return nn.Parameter(value, requires_grad=bool(variable.trainable)) if dtype.is_floating_point else value


def view_model(model: Any) -> nn.Module:
    """Return a module whose parameters and buffers are the weights of a model; it has no forward."""
    view: Any = type(type(model).__name__, (nn.Module,), {})()
    view._compiler_ctx = (model.jit_compile or None) if BACKEND == "torch" else None  # noqa: SLF001 - see `TracingMethod`
    layers = model._flatten_layers()  # noqa: SLF001
    # As moving means; a frozen weight of Keras stays among those that were made to be trained.
    of_keras = [layer for layer in layers if type(layer).__name__ != "TorchModuleWrapper"]
    made_untrained = {id(own) for layer in of_keras for own in layer._non_trainable_variables}  # noqa: SLF001
    for number, variable in enumerate(model.weights):
        value, is_buffer = _read_value(variable), id(variable) in made_untrained
        (view.register_buffer if is_buffer else view.register_parameter)(str(number), value)
    for layer in layers:
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and layer.built:
            kind = nn.SyncBatchNorm if layer.synchronized else nn.BatchNorm1d
            norm: Any = kind(layer.moving_mean.shape[0], affine=False, track_running_stats=False)
            view.add_module(f"norm{len(view._modules)}", norm)  # noqa: SLF001
    for number, module in enumerate(list_modules(model)):
        for name, buffer in module.named_buffers(recurse=False):
            view.register_buffer(f"buffer{number}_{name}", buffer)
    return view  # type: ignore[no-any-return]


def view_optimizer(optimizer: Any) -> Optimizer:
    """Return an optimizer of Keras, which is built, in the form of torch's: its parameters and its state."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    together = any(base.__name__ == "TorchParallelOptimizer" for base in type(inner).__mro__)
    # A name of its own: of torch's optimizer of the same name there may be a variant in 8 bits. The module says of
    # those of Keras itself that their update is the same in each step, as that of torch's own.
    home = type(inner).__module__
    home = "torch.optim." if home.startswith("keras.") else home
    kind: Any = type(f"keras.{type(inner).__name__}", (Optimizer,), {"__module__": home})
    trained = [_read_value(variable) for variable in inner._trainable_variables]  # noqa: SLF001
    view = kind(trained, {"foreach": together})
    view.state["keras"] = {str(number): _read_value(v) for number, v in enumerate(optimizer.variables)}
    return view  # type: ignore[no-any-return]


def read_precision(model: Any) -> str:
    """Return the precision of the policy under which most weights are, in Lightning's words."""
    weights: Counter[str] = Counter()
    for layer in model._flatten_layers(include_self=False):  # noqa: SLF001
        own = layer._trainable_variables  # noqa: SLF001 - without those of the layers in it
        weights[layer.dtype_policy.name] += sum(math.prod(variable.shape) for variable in own)
    policy = max(weights, key=weights.__getitem__, default="")
    return _PRECISIONS.get(policy, "32-true")


def read_run(model: Any, fit: Mapping[str, Any]) -> RunFacts:
    """
    Read a run whose model is built.

    Args:
        model: that is fitted.
        fit: the variables of the call.
    """
    adapter = getattr(fit.get("epoch_iterator"), "data_adapter", None)
    shared = keras.distribution.distribution() is not None or find_processes()[1] > 1
    shared = shared or getattr(getattr(model, "distribute_strategy", None), "num_replicas_in_sync", 1) > 1
    why = "the model or its batches are shared among devices, so no single device runs the whole step"
    why = why if shared else ""
    if BACKEND == "torch":
        device = next((weight.value.device for weight in model.weights), torch.device("cpu"))
    else:
        on_host = all(name.startswith("cpu") for name in keras.distribution.list_devices())
        device = torch.device("cpu" if on_host else "xla")
        why = f"the backend of Keras is {BACKEND}: with KERAS_BACKEND=torch, `trainfare profile` traces the step"
    version = getattr(sys.modules.get(BACKEND), "__version__", "")
    return RunFacts(
        name=type(model).__name__[:200],
        precision="32-true",  # else the trace is said to have torch's autocast; see `complete_facts`
        parallel=ParallelFacts(strategy="auto" if shared else "single_device"),
        replicas=None if shared else 1,
        device=device,
        software=f"keras {keras.__version__}, {BACKEND} {version}",
        loader_batch_size=getattr(adapter, "batch_size", None),
        loader_workers=getattr(getattr(adapter, "_dataloader", None), "num_workers", None),
        input=read_source(getattr(adapter, "_dataloader", None)),
        split_because=why,
        loop="keras",
    )


def read_length(
    fit: Mapping[str, Any], callbacks: Sequence[Any], first_epoch: int, passes: int, validated: int | None
) -> LoopLength:
    """
    Read what decides the length of a run.

    Args:
        fit: the variables of the call.
        callbacks: of the call.
        first_epoch: that it trains, from 0.
        passes: batches of one optimizer step.
        validated: batches of one validation; None: not known yet.
    """
    batches, epochs = getattr(fit.get("epoch_iterator"), "num_batches", None), fit.get("epochs")
    steps = None if batches is None or epochs is None else batches * epochs // passes
    frequency: Any = fit.get("validation_freq", 1)
    listed = None if isinstance(frequency, int) else sum(1 for epoch in frequency if epoch <= (epochs or 0))
    saves: list[CheckpointTrigger] = []
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.ModelCheckpoint):
            every = 0 if callback.save_freq == "epoch" else max(1, int(callback.save_freq) // passes)
            saves.append(CheckpointTrigger(every, int(not every), False, bool(callback.save_weights_only)))
    stops = [callback for callback in callbacks if isinstance(callback, keras.callbacks.EarlyStopping)]
    return LoopLength(
        batches_per_epoch=batches,
        max_epochs=epochs,
        max_steps=None,
        estimated_steps=steps,
        accumulate_grad_batches=passes,
        calls_done=first_epoch * (batches or 0) // passes,
        validates=fit.get("validation_data") is not None,
        validation_batches=validated,
        validation_runs=listed,
        validate_every_n_epochs=frequency if listed is None else 1,
        checkpoints=tuple(saves),
        early_end=type(stops[0]).__name__ if stops else "",
        no_length="the training set has no length: give steps_per_epoch to `fit`",
    )
