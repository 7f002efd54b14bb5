"""What a live Trainer says about device, precision and strategy, and whether its step may be watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from trainfare.meter.batch_facts import loader_batch_size, loader_workers
from trainfare_core.job_profile import ParallelFacts

__all__ = ["RunFacts", "WatchVerdict", "may_watch", "read_run"]

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


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The run as the profile describes it; read once, before the first step."""

    name: str
    precision: str
    parallel: ParallelFacts
    device: torch.device
    device_kind: DeviceKind
    software: str
    loader_batch_size: int | None
    loader_workers: int | None


@dataclass(frozen=True, slots=True)
class WatchVerdict:
    """
    How the operations of a step can be seen.

    `watch`: the real step; `fake_copy`: an uncompiled copy on fake tensors, at the end; `unseen`: not at all.
    """

    how: Literal["watch", "fake_copy", "unseen"]
    because: str = ""
    compiled: bool = False


def read_run(trainer: Any, module: nn.Module) -> RunFacts:
    """
    Read the facts of a run.

    Args:
        trainer: of either namespace, in `on_train_start`.
        module: the LightningModule.
    """
    device = torch.device(trainer.strategy.root_device)
    strategy = type(trainer.strategy).__name__
    package = type(trainer).__module__.partition(".trainer")[0]
    version = getattr(__import__(package, fromlist=["__version__"]), "__version__", "")
    return RunFacts(
        name=type(module).__name__[:200],
        precision=str(trainer.precision),
        parallel=ParallelFacts(
            strategy=_STRATEGIES.get(strategy, strategy),
            devices=max(1, int(trainer.num_devices)),
            num_nodes=max(1, int(trainer.num_nodes)),
            accumulate_grad_batches=max(1, int(trainer.accumulate_grad_batches)),
        ),
        device=device,
        device_kind=_KINDS.get(device.type, "other"),
        software=f"torch {torch.__version__}, {package} {version}"[:500],
        loader_batch_size=loader_batch_size(trainer),
        loader_workers=loader_workers(trainer),
    )


def may_watch(trainer: Any, module: nn.Module) -> WatchVerdict:
    """
    Decide how the operations of this run's step can be seen without touching it.

    Args:
        trainer: of either namespace, once the strategy is set up.
        module: the LightningModule.
    """
    strategy = type(trainer.strategy).__name__.lower()
    if any(word in strategy for word in _SHARDED):
        because = (
            f"{type(trainer.strategy).__name__} spreads the weights over devices, so no trace sees them whole"
        )
        return WatchVerdict("unseen", f"{because}: trace it before launch with `trainfare profile`")
    if _is_compiled(module):
        because = "the step runs under torch.compile: an uncompiled copy on fake tensors was traced instead"
        return WatchVerdict("fake_copy", because, compiled=True)
    if any(_is_graphed(part) for part in module.modules()):
        because = (
            "the step replays CUDA graphs, which hide their operations: a copy on fake tensors was traced"
        )
        return WatchVerdict("fake_copy", because)
    device = torch.device(trainer.strategy.root_device)
    if device.type == "xla":
        return WatchVerdict(
            "fake_copy", "an XLA device runs operations later: a copy on fake tensors was traced"
        )
    if device.type == "cpu" and str(trainer.precision).endswith("-mixed"):
        because = "mixed precision on a CPU casts differently from CUDA: a copy on fake tensors was traced"
        return WatchVerdict("fake_copy", because)
    return WatchVerdict("watch")


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
