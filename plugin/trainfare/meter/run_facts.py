"""Device, precision and strategy of a live Trainer, and how the operations of its step can be traced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from trainfare.job.replicas import replicas_of
from trainfare.meter.batch_facts import loader_batch_size, loader_workers
from trainfare_core.job_profile import ParallelFacts
from trainfare_core.variants import computed_in

__all__ = ["RunFacts", "TracingMethod", "read_run", "strategy_word", "tracing_method"]

DeviceKind = Literal["cpu", "cuda", "xla", "mps", "other"]
_KINDS: dict[str, DeviceKind] = {"cpu": "cpu", "cuda": "cuda", "xla": "xla", "mps": "mps"}
_STRATEGIES = {
    "SingleDeviceStrategy": "single_device",
    "SingleDeviceXLAStrategy": "single_xla",
    "DDPStrategy": "ddp",
    "FSDPStrategy": "fsdp",
    "DeepSpeedStrategy": "deepspeed",
    "ModelParallelStrategy": "model_parallel",
    "XLAStrategy": "xla",
    "XLAFSDPStrategy": "xla_fsdp",
}
_SHARDED = ("fsdp", "deepspeed", "modelparallel")
"""Parts of the lower-case class names of strategies that shard the weights over devices."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """
    Name, precision, parallelism, device and loader of a run, as the profile states them.

    `replicas` is the number of copies of the model that share the samples; None where the strategy does not say it.
    """

    name: str
    precision: str
    parallel: ParallelFacts
    replicas: int | None
    device: torch.device
    device_kind: DeviceKind
    software: str
    loader_batch_size: int | None
    loader_workers: int | None
    sync_batchnorm: bool
    """Several devices share the moments of BatchNorm."""


@dataclass(frozen=True, slots=True)
class TracingMethod:
    """
    How the operations of an optimizer step are found.

    Attributes:
        how: `real_step`: trace one step of the training; `fake_copy`: at the end of the run, trace an uncompiled
            copy of the module on fake tensors; `none`: do not trace.
        reason: why the real step is not traced.
        compiled: the step runs under `torch.compile`.
    """

    how: Literal["real_step", "fake_copy", "none"]
    reason: str = ""
    compiled: bool = False


def strategy_word(strategy: object) -> str:
    """Return Lightning's word for a strategy or one derived from it; the name of a class that it does not know."""
    names = [base.__name__ for base in type(strategy).__mro__]
    return next((_STRATEGIES[name] for name in names if name in _STRATEGIES), names[0])


def read_run(trainer: Any, module: nn.Module) -> RunFacts:
    """
    Read a run before its first step.

    Args:
        trainer: of either namespace, in `on_train_start`.
        module: the LightningModule.
    """
    device = torch.device(trainer.strategy.root_device)
    package = type(trainer).__module__.partition(".trainer")[0]
    replicas, world = replicas_of(trainer), max(1, int(trainer.world_size))
    version = getattr(__import__(package, fromlist=["__version__"]), "__version__", "")
    return RunFacts(
        name=type(module).__name__[:200],
        precision=str(trainer.precision),
        parallel=ParallelFacts(
            strategy=strategy_word(trainer.strategy),
            devices=max(1, int(trainer.num_devices)),
            num_nodes=max(1, int(trainer.num_nodes)),
            accumulate_grad_batches=max(1, int(trainer.accumulate_grad_batches)),
            replicas=None if replicas == world else replicas,
        ),
        replicas=replicas,
        device=device,
        device_kind=_KINDS.get(device.type, "other"),
        software=f"torch {torch.__version__}, {package} {version}"[:500],
        loader_batch_size=loader_batch_size(trainer),
        loader_workers=loader_workers(trainer),
        # On one device no strategy makes SyncBatchNorm of BatchNorm; the same Trainer on several does.
        sync_batchnorm=getattr(getattr(trainer, "_accelerator_connector", None), "_layer_sync", None)
        is not None,
    )


def tracing_method(trainer: Any, module: nn.Module) -> TracingMethod:
    """
    Choose how to trace the step without disturbing the training.

    Args:
        trainer: of either namespace, once the strategy is set up.
        module: the LightningModule.
    """
    strategy = type(trainer.strategy).__name__
    replicas = replicas_of(trainer)
    if replicas != max(1, int(trainer.world_size)):
        what = "may split" if replicas is None else "splits"
        reason = f"{strategy} {what} the model over devices, so no single rank runs the whole step"
        return TracingMethod("none", f"{reason}: `trainfare estimate` prices a language model by its sizes")
    if any(word in strategy.lower() for word in _SHARDED):
        reason = f"{strategy} shards the weights over devices, so no single rank runs the whole step"
        return TracingMethod("none", f"{reason}: trace it before launch with `trainfare profile`")
    if computed_in(str(trainer.precision)) == "fp8":
        reason = "the kernels of Transformer Engine hide their operations from a trace"
        return TracingMethod("none", f"{reason}: trace it before launch with `trainfare profile`")
    if _is_compiled(module):
        # A dispatch mode over compiled code makes torch compile it again and leaves it slower.
        reason = "the step runs under torch.compile: an uncompiled copy on fake tensors was traced instead"
        return TracingMethod("fake_copy", reason, compiled=True)
    if any(_is_graphed(part) for part in module.modules()):
        reason = (
            "the step replays CUDA graphs, which hide their operations: a copy on fake tensors was traced"
        )
        return TracingMethod("fake_copy", reason)
    device = torch.device(trainer.strategy.root_device)
    if device.type == "xla":
        reason = "an XLA device runs operations later: a copy on fake tensors was traced"
        return TracingMethod("fake_copy", reason)
    if device.type == "cpu" and str(trainer.precision).endswith("-mixed"):
        reason = "mixed precision on a CPU casts differently from CUDA: a copy on fake tensors was traced"
        return TracingMethod("fake_copy", reason)
    return TracingMethod("real_step")


def _is_compiled(module: nn.Module) -> bool:
    if getattr(module, "_compiler_ctx", None) is not None:
        return True
    return any(
        type(part).__name__ == "OptimizedModule" or getattr(part, "_compiled_call_impl", None) is not None
        for part in module.modules()
    )


def _is_graphed(part: nn.Module) -> bool:
    forward = vars(part).get("forward")
    return "make_graphed_callables" in getattr(forward, "__qualname__", "")
