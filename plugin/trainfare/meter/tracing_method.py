"""How the operations of a run's step can be traced without disturbing its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from trainfare.job.run_facts import RunFacts
from trainfare_core.variants import find_compute_type


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


def tracing_method(facts: RunFacts, module: nn.Module) -> TracingMethod:
    """
    Choose how to trace the step without disturbing the training.

    Args:
        facts: of the run.
        module: that is trained.
    """
    if facts.split_because:
        return TracingMethod("none", facts.split_because)
    if find_compute_type(facts.precision) == "fp8":
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
    if facts.device_kind == "xla":
        reason = "an XLA device runs operations later: a copy on fake tensors was traced"
        return TracingMethod("fake_copy", reason)
    if facts.device_kind == "cpu" and facts.precision.endswith("-mixed"):
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
