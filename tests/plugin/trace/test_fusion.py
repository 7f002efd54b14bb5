"""What a compiler leaves of the bytes of pointwise operations that it fuses with their neighbours."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from builders.lightning_modules import lightning_module
from trainfare.trace import StepTrace
from trainfare_core.job_profile import POINTWISE_KINDS, OperationGroup

ROWS, WIDTH = 32, 64


def product(out: int = WIDTH) -> nn.Linear:
    return nn.Linear(WIDTH, out, bias=False)


Chain = lightning_module(
    layers=lambda: {"first": product(), "second": product()},
    base=nn.Module,
    forward=lambda self, x: self.second(self.first(x).mul(2.0).tanh().add(1.0)),
)
"""Two products with three pointwise operations between them."""


def shares(trace: StepTrace, phase: str) -> dict[str, float | None]:
    """Return the shares of one phase's operations by name."""
    assert trace.fault is None
    return {group.name: group.fused_bytes_share for group in trace.operations() if group.phase == phase}


def trace_module(model: nn.Module, *shape: int) -> StepTrace:
    x = torch.randn(*(shape or (ROWS, WIDTH)))
    with StepTrace(model) as trace:
        model(x).sum().backward()
    return trace


def test_a_chain_reads_its_input_and_writes_its_result() -> None:
    """Six passes over a tensor are two: the product's result is read, the next product's operand written."""
    forward = shares(trace_module(Chain()), "forward")
    assert forward["aten.mul"] == 0.5, "it reads the first product"
    assert forward["aten.tanh"] == 0.0, "backward computes it again"
    assert forward["aten.add"] == 0.5, "the second product reads its result"
    assert forward["aten.mm"] is None, "a product is a kernel of its own"


def test_backward_is_a_chain_of_its_own() -> None:
    backward = shares(trace_module(Chain()), "backward")
    assert backward["aten.tanh_backward"] == 0.667, "two tensors are read; the result is of the same kernel"
    assert backward["aten.mul"] == 0.5, "the product of the weight's gradient reads it"


Residual = lightning_module(
    layers=lambda: {"inner": product(), "head": product(1)},
    base=nn.Module,
    forward=lambda self, x: self.head((stream := x * 2.0) - self.inner(stream)),
)
"""A sum that is read beside a product and after it."""


def test_a_value_that_waits_for_a_product_is_written_and_read_again() -> None:
    """The difference needs the product of the stream, so no kernel makes the stream and the difference."""
    forward = shares(trace_module(Residual()), "forward")
    assert forward["aten.mul"] == 1.0
    assert forward["aten.sub"] == 1.0


Late = lightning_module(
    base=Residual, forward=lambda self, x: self.head(self.inner(stream := x * 2.0) - stream)
)
"""The same with the earlier value as the second operand."""


def test_the_latest_operand_decides_when_a_kernel_starts() -> None:
    forward = shares(trace_module(Late()), "forward")
    assert forward["aten.mul"] == 1.0
    assert forward["aten.sub"] == 1.0


Beside = lightning_module(base=Residual, forward=lambda self, x: self.head(self.inner(x) - x * 2.0))
"""The earlier value is no operand of the product: only the later operation reads it."""


def test_a_value_is_written_for_an_operation_that_starts_later() -> None:
    forward = shares(trace_module(Beside()), "forward")
    assert forward["aten.mul"] == 1.0
    assert forward["aten.sub"] == 1.0


TwoReaders = lightning_module(
    layers=lambda: {"inner": product(), "head": product(1)},
    base=nn.Module,
    forward=lambda self, x: self.head((inner := self.inner(x)).sigmoid() * inner),
)
"""Two operations on the result of one product."""


def test_one_kernel_reads_a_tensor_once() -> None:
    """Five passes are two: the second reader has the product's result already."""
    forward = shares(trace_module(TwoReaders()), "forward")
    assert forward["aten.sigmoid"] == 0.5
    assert forward["aten.mul"] == 0.333, (
        "of its two operands one is read by the same kernel and one made there"
    )


Dropped = lightning_module(
    layers=lambda: {"first": product(), "second": product()},
    base=nn.Module,
    forward=lambda self, x: self.second(F.dropout(self.first(x) * 2.0, 0.5)),
)
"""Dropout between two products."""


def test_a_mask_of_dropout_is_kept_for_backward() -> None:
    trace = trace_module(Dropped())
    size = ROWS * WIDTH
    (group,) = [g for g in trace.operations() if g.name == "aten.native_dropout"]
    assert group.bytes_moved == 9 * size
    assert group.fused_bytes_share == round(5 / 9, 3), "its result and a byte for each element"
    backward = shares(trace, "backward")
    assert backward["aten.native_dropout_backward"] is not None
    assert 0.5 < backward["aten.native_dropout_backward"] < 1.0, "the next operation is of the same kernel"


Normalised = lightning_module(
    layers=lambda: {
        "first": product(),
        "norm": nn.LayerNorm(WIDTH),
        "scale": nn.Parameter(torch.ones(WIDTH)),
        "second": product(1),
    },
    base=nn.Module,
    forward=lambda self, x: self.second(self.norm(self.first(x)) * self.scale),
)
"""A norm whose result the next operation of its kernel reads, and backward."""


def test_backward_reads_the_result_of_a_norm_and_computes_no_norm_again() -> None:
    forward = shares(trace_module(Normalised()), "forward")
    assert forward["aten.native_layer_norm"] == 1.0


class RunAgain(Chain):
    """The chain between the products under activation checkpointing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def chain(y: torch.Tensor) -> torch.Tensor:
            return y.mul(2.0).tanh().add(1.0)

        return self.second(checkpoint(chain, self.first(x), use_reentrant=False))


def test_a_chain_that_runs_again_reads_its_input_again() -> None:
    trace = trace_module(RunAgain())
    assert trace.fault is None
    again = {group.name: group.fused_bytes_share for group in trace.operations() if group.recomputed}
    assert again["aten.mul"] == 0.5, "it reads the first product, and its result stays in the kernel"
    assert again["aten.tanh"] == 0.0, "backward computes it again"


Biased = lightning_module(
    layers=lambda: {"first": product(), "bias": nn.Parameter(torch.zeros(WIDTH)), "second": product(1)},
    base=nn.Module,
    forward=lambda self, x: self.second((self.first(x) + self.bias).tanh()),
)
"""A bias, whose gradient is a sum over rows."""


def test_a_sum_over_rows_reads_the_gradient_again() -> None:
    backward = shares(trace_module(Biased()), "backward")
    assert backward["aten.sum"] == 1.0


BiasAlone = lightning_module(
    layers=lambda: {"bias": nn.Parameter(torch.zeros(WIDTH)), "second": product(1)},
    base=nn.Module,
    forward=lambda self, x: self.second((x + self.bias).tanh()),
)
"""A bias on the input, which has no gradient."""


def test_a_gradient_is_written_for_a_sum_over_rows() -> None:
    backward = shares(trace_module(BiasAlone()), "backward")
    assert backward["aten.tanh_backward"] == 1.0


def test_gradients_that_are_added_to_earlier_ones_are_no_part_of_a_kernel() -> None:
    model = Chain()
    x = torch.randn(ROWS, WIDTH)
    model(x).sum().backward()
    with StepTrace(model) as trace:
        model(x).sum().backward()
    added = [g for g in trace.operations() if g.name == "aten.add_" and g.phase == "backward"]
    assert added
    assert all(group.fused_bytes_share is None for group in added)


def test_every_pointwise_operation_of_a_step_has_a_share() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    model(torch.randn(2, 3, 8, 8))
    trace = trace_module(model, 2, 3, 8, 8)

    def says(group: OperationGroup) -> bool:
        return (group.fused_bytes_share is not None) == (group.kind in POINTWISE_KINDS)

    groups = [group for group in trace.operations() if group.phase != "optimizer"]
    assert {group.kind for group in groups} >= {"convolution", "normalization", "activation"}
    assert all(says(group) for group in groups)
