"""Whether a step of a run can be traced while it happens, without changing what runs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from trainfare.job.run_facts import RunFacts
from trainfare_core.variants import find_compute_type

WAY_OUT = "trace it before launch with `trainfare profile TARGET`"
"""What to do where a step cannot be traced while it trains."""


CPU_AUTOCAST = (
    "mixed precision on a CPU: its autocast leaves a few operations in another type than CUDA's (softmax and sums in "
    "the lower one, a GRU in full precision), and of an LSTM the casts are not seen, 5 % of its bytes"
)
# Against the trace before launch, which casts as CUDA does, FLOPs and the types of products were equal, and bytes
# within 0.1 % for an MLP with BatchNorm, a small transformer and a small conv net; an LSTM had 5 % fewer.


@dataclass(frozen=True, slots=True)
class TracingMethod:
    """
    Whether a step of the training is traced, which happens while it runs or not at all.

    Attributes:
        why_not: why no step is traced; empty: one is.
        compiled: the step runs under `torch.compile`.
        note: what differs between the traced step and the same on an accelerator.
    """

    why_not: str = ""
    compiled: bool = False
    note: str = ""


COMPILED = TracingMethod(f"the step runs under torch.compile: {WAY_OUT}", compiled=True)
"""A dispatch mode over compiled code makes torch compile it again and leaves it slower."""
EAGER = TracingMethod(
    compiled=True,
    note="the step runs under torch.compile; the trace is eager, an upper bound of bytes and launches",
)
"""As before launch, where nothing is compiled."""


def tracing_method(facts: RunFacts, module: nn.Module) -> TracingMethod:
    """
    Decide whether a step can be traced without disturbing the training.

    Args:
        facts: of the run.
        module: that is trained.
    """
    if facts.split_because:
        return TracingMethod(facts.split_because)
    if find_compute_type(facts.precision) == "fp8":
        return TracingMethod(f"the kernels of Transformer Engine hide their operations: {WAY_OUT}")
    if is_compiled(module) or facts.eager:
        return EAGER if facts.eager else COMPILED
    if any(_is_graphed(part) for part in module.modules()):
        return TracingMethod(f"the step replays CUDA graphs, which hide their operations: {WAY_OUT}")
    if facts.device_kind == "xla":
        return TracingMethod(f"an XLA device runs operations later than they are called: {WAY_OUT}")
    if facts.device_kind == "cpu" and facts.precision.endswith("-mixed"):
        return TracingMethod(note=CPU_AUTOCAST)
    return TracingMethod()


def is_compiled(module: nn.Module) -> bool:
    """Return whether torch.compile was applied to a module or a part of it."""
    if getattr(module, "_compiler_ctx", None) is not None:
        return True
    return any(
        type(part).__name__ == "OptimizedModule" or getattr(part, "_compiled_call_impl", None) is not None
        for part in module.modules()
    )


def _is_graphed(part: nn.Module) -> bool:
    forward = vars(part).get("forward")
    return "make_graphed_callables" in getattr(forward, "__qualname__", "")
