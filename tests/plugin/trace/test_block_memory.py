"""What a trace says of activation checkpointing without it equals a trace with it."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.nn import functional as F

from trainfare.trace import StepTrace
from trainfare_core.job_profile import (
    BatchFacts,
    JobProfile,
    MemoryFacts,
    OperationGroup,
    ProfileSource,
    RunPlan,
)
from trainfare_core.variants.variant import add_checkpointing, why_not_checkpointed

WIDTH, TOKENS, BLOCKS = 32, 64, 5


class _Block(nn.Module):
    def __init__(self, *, ends_in_a_sum: bool) -> None:
        super().__init__()
        self.norm, self.wide, self.narrow = (
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 4 * WIDTH),
            nn.Linear(4 * WIDTH, WIDTH),
        )
        self.ends_in_a_sum = ends_in_a_sum

    def forward(self, x: Tensor) -> Tensor:
        y = self.narrow(F.gelu(self.wide(self.norm(x))))
        return x + y if self.ends_in_a_sum else cast("Tensor", F.gelu(y))


class _Net(nn.Module):
    def __init__(self, *, ends_in_a_sum: bool) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList(_Block(ends_in_a_sum=ends_in_a_sum) for _ in range(BLOCKS))
        self.head = nn.Linear(WIDTH, 4 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x).square().mean()


def _trace_small(net: nn.Module) -> JobProfile:
    optimizer = torch.optim.AdamW(net.parameters())
    with StepTrace(net, [optimizer]) as trace:
        net(torch.zeros(TOKENS, WIDTH)).backward()
        optimizer.step()
    assert trace.fault is None
    return JobProfile(
        name="net",
        source=ProfileSource(how="real", tool_version="0"),
        precision="32-true",
        operations=trace.operations(),
        parameters=trace.parameters(),
        optimizer=trace.optimizer_facts(),
        memory=trace.memory(),
        batch=BatchFacts(micro_batch_size=TOKENS, samples_per_step=TOKENS),
        plan=RunPlan(optimizer_steps=10),
    )


def _sums(operations: tuple[OperationGroup, ...], phase: str) -> tuple[int, int, int]:
    mine = [group for group in operations if group.phase == phase]
    return tuple(sum(getattr(g, name) for g in mine) for name in ("launches", "flops", "bytes_moved"))  # type: ignore[return-value]


def _peak(memory: MemoryFacts) -> int:
    return max(
        m.activation_bytes + m.fixed_bytes + m.gradient_bytes + m.optimizer_bytes for m in memory.moments
    )


@pytest.mark.parametrize("ends_in_a_sum", [True, False])
def test_the_derived_step_is_that_of_a_checkpointed_trace(ends_in_a_sum: bool) -> None:
    """
    Launches, FLOPs and bytes of every phase are equal, and the peak is within 15 % and never below by more than 1 %.

    Torch leaves out what a block does after its last saved tensor, here the last product where the block ends in a sum.
    """
    plain, checkpointing = (_Net(ends_in_a_sum=ends_in_a_sum) for _ in range(2))
    loose: Any = apply_activation_checkpointing
    loose(checkpointing, check_fn=lambda module: isinstance(module, _Block))
    profile, actual = _trace_small(plain), _trace_small(checkpointing)
    derived = add_checkpointing(profile)
    for phase in ("forward", "backward", "optimizer"):
        assert _sums(derived.operations, phase) == _sums(actual.operations, phase)
    assert derived.memory.saved_activation_bytes == actual.memory.saved_activation_bytes
    assert 0.99 <= _peak(derived.memory) / _peak(actual.memory) <= 1.15
    assert why_not_checkpointed(actual) == "the script already checkpoints activations"


def test_blocks_are_named_and_those_without_a_backward_are_none() -> None:
    """Class and number of the blocks that train; frozen ones whose inputs need no gradient would not run again."""
    net = _Net(ends_in_a_sum=True)
    facts = _trace_small(net).memory.blocks
    assert facts is not None
    assert (facts.classes, facts.count) == (("_Block",), BLOCKS)
    frozen = _Net(ends_in_a_sum=True)
    for part in (frozen.first, *list(frozen.blocks)[:3]):
        part.requires_grad_(requires_grad=False)
    some = _trace_small(frozen).memory.blocks
    assert some is not None
    assert some.count == BLOCKS - 3
    whole = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))
    with StepTrace(whole) as trace:
        whole(torch.zeros(TOKENS, WIDTH)).sum().backward()
    assert trace.memory().blocks is None
