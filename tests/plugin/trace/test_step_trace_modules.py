"""The work of a step by submodule: counted by hand, and adding up to the operations however the step is run."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from trainfare.trace import StepTrace
from trainfare.trace.module_work import fold_names

BATCH, WIDTH = 8, 16
PRODUCT = 2 * BATCH * WIDTH * WIDTH
"""FLOPs of one linear layer of a block on one micro-batch."""


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = (
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WIDTH),
            nn.LayerNorm(WIDTH),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.second(F.gelu(self.first(self.norm(x))))
        heads = x.view(1, 2, BATCH // 2, WIDTH)
        return F.scaled_dot_product_attention(heads, heads, heads).reshape(BATCH, WIDTH)


class Net(nn.Module):
    def __init__(self, layers: int = 3, checkpointing: str = "") -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
        self.checkpointing = checkpointing

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            if self.checkpointing:
                x = checkpoint(block, x, use_reentrant=self.checkpointing == "reentrant")
            else:
                x = block(x)
        return self.head(x)


def trace_module(net: nn.Module) -> StepTrace:
    """Trace the second step; its input asks for a gradient, as a reentrant checkpoint needs."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x = torch.randn(BATCH, WIDTH, requires_grad=True)
    trace = StepTrace(net, [optimizer])
    for step in range(2):
        if step:
            trace.start()
        net(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    trace.stop()
    assert trace.fault is None
    return trace


def flops(trace: StepTrace, micro_batches: int = 1) -> dict[tuple[str, str], int]:
    return {
        (work.module, work.phase): work.flops
        for work in trace.modules(micro_batches=micro_batches)
        if work.flops
    }


def test_repeated_blocks_have_one_name() -> None:
    """Blocks of one class are `*`; the layers of a sequence keep their numbers."""
    names = set(fold_names(Net()).values())
    assert names == {
        "", "blocks", "blocks.*", "blocks.*.first", "blocks.*.second", "blocks.*.norm", "head", "head.0", "head.1", "head.2"
    }  # fmt: skip


def test_work_counted_by_hand() -> None:
    """Each linear layer has its own products, twice in backward; attention belongs to the block that calls it."""
    attention = 2 * 2 * 2 * (BATCH // 2) ** 2 * WIDTH
    assert flops(trace_module(Net())) == {
        ("blocks.*", "forward"): 3 * attention,
        ("blocks.*", "backward"): 3 * attention * 5 // 2,
        ("blocks.*.first", "forward"): 3 * PRODUCT,
        ("blocks.*.first", "backward"): 6 * PRODUCT,
        ("blocks.*.second", "forward"): 3 * PRODUCT,
        ("blocks.*.second", "backward"): 6 * PRODUCT,
        ("head.0", "forward"): PRODUCT,
        ("head.0", "backward"): 2 * PRODUCT,
        ("head.2", "forward"): PRODUCT // 8,
        ("head.2", "backward"): PRODUCT // 4,
    }


@pytest.mark.parametrize("variant", ["plain", "reentrant", "not reentrant"])
@pytest.mark.parametrize("kind", ["real", "fake"])
@pytest.mark.parametrize("micro_batches", [1, 4])
def test_modules_add_up_to_the_operations(variant: str, kind: str, micro_batches: int) -> None:
    """FLOPs and bytes of each phase, with recomputation, accumulation and the optimizer's update."""
    checkpointing = "" if variant == "plain" else variant
    if kind == "fake":
        with FakeTensorMode():
            trace = trace_module(Net(checkpointing=checkpointing))
    else:
        trace = trace_module(Net(checkpointing=checkpointing))
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for group in trace.operations(micro_batches=micro_batches):
        sums[group.phase][0] += group.flops
        sums[group.phase][1] += group.bytes_moved
    for work in trace.modules(micro_batches=micro_batches):
        sums[work.phase][0] -= work.flops
        sums[work.phase][1] -= work.bytes_moved
    assert dict(sums) == {"forward": [0, 0], "backward": [0, 0], "optimizer": [0, 0]}


@pytest.mark.parametrize("variant", ["reentrant", "not reentrant"])
def test_what_is_recomputed_belongs_to_its_block(variant: str) -> None:
    """A checkpoint runs a block's forward again in backward: the block's products, and no other's, are three there."""
    plain, again = flops(trace_module(Net())), flops(trace_module(Net(checkpointing=variant)))
    for name in ("blocks.*.first", "blocks.*.second"):
        assert again[name, "backward"] == plain[name, "backward"] + 3 * PRODUCT
    assert again["head.0", "backward"] == plain["head.0", "backward"]
    assert {key for key in again if not key[0]} == set()


def test_gradients_that_are_added_belong_to_the_layer_of_the_weight() -> None:
    """With four micro-batches three gradients of each weight are added to the first."""
    net = Net(layers=1)
    trace = trace_module(net)

    def move_products(micro_batches: int) -> int:
        return sum(
            work.bytes_moved
            for work in trace.modules(micro_batches=micro_batches)
            if (work.module, work.phase) == ("head.0", "backward")
        )

    assert move_products(4) == 4 * move_products(1) + 3 * 3 * 4 * (WIDTH * WIDTH + WIDTH)


def test_modules_are_called_as_before_afterwards() -> None:
    """Nothing follows the calls of modules after the trace, nor after one that fails."""
    before = nn.Module.__call__
    net = Net(layers=1)
    with pytest.raises(RuntimeError), StepTrace(net):
        net(torch.zeros(BATCH, WIDTH + 1))
    assert nn.Module.__call__ is before
