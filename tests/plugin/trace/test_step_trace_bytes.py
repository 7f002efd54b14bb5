"""Bytes, phases, memory and the optimizer's update, as a CUDA machine would run them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from builders.models import Llama, LoraLinear, SmallCnn, SmallLstm
from trainfare.trace import StepTrace
from trainfare.trace.ledger import multi_tensor_launches
from trainfare_core.job_profile import JobProfile, OperationGroup

FLOAT = 4


def one(trace: StepTrace, **wanted: Any) -> OperationGroup:
    """Return the only group with these values."""
    groups = [o for o in trace.operations() if all(getattr(o, k) == v for k, v in wanted.items())]
    assert len(groups) == 1, [(o.kind, o.name, o.phase, o.shape) for o in trace.operations()]
    return groups[0]


def trace_stepped(
    model: nn.Module, x: torch.Tensor, optimizer: torch.optim.Optimizer, steps: int = 2
) -> StepTrace:
    """Trace the last of a few steps, when the optimizer's state is there."""
    trace = StepTrace(model, [optimizer])
    for step in range(steps):
        if step == steps - 1:
            trace.start()
        model(x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    trace.stop()
    assert trace.fault is None
    return trace


def test_bytes_of_elementwise_work_are_operands_and_result() -> None:
    """A sum of two tensors reads both and writes one; an expanded operand is read once."""
    x, row = torch.randn(8, 16), torch.randn(16)
    with StepTrace(nn.Module()) as trace:
        _ = x + x.t().reshape(8, 16)
        _ = x * row.expand(8, 16)
    added = one(trace, name="aten.add")
    assert (added.bytes_read, added.bytes_written, added.flops) == (2 * 128 * FLOAT, 128 * FLOAT, 0)
    scaled = one(trace, name="aten.mul")
    assert (scaled.bytes_read, scaled.bytes_written) == ((128 + 16) * FLOAT, 128 * FLOAT)


def test_a_tensor_like_another_one_is_written_and_the_other_is_not_read() -> None:
    x = torch.randn(8, 16)
    with StepTrace(nn.Module()) as trace:
        torch.zeros_like(x)
        x.new_ones(4, 16)
    for name, elements in (("aten.zeros_like", 128), ("aten.new_ones", 64)):
        group = one(trace, name=name)
        assert (group.bytes_read, group.bytes_written) == (0, elements * FLOAT), name


def test_views_and_allocations_move_no_bytes() -> None:
    """No kernel runs for them, so there is no record."""
    x = torch.randn(4, 6)
    with StepTrace(nn.Module()) as trace:
        x.view(24).reshape(6, 4).t()[1:].unsqueeze(0).expand(3, -1, -1).detach().split(1)
        torch.empty(5)
        x.new_empty(3)
    assert trace.operations() == ()


def test_a_look_up_reads_rows_and_not_the_table() -> None:
    """Three rows of a table of a thousand; its gradient is as large as the table."""
    table, ids = nn.Embedding(1000, 8), torch.tensor([1, 2, 3])
    with StepTrace(table) as trace:
        table(ids).sum().backward()
    forward, backward = (
        one(trace, kind="embedding", phase="forward"),
        one(trace, kind="embedding", phase="backward"),
    )
    assert forward.bytes_read == 3 * 8 * FLOAT + 3 * 8
    assert forward.bytes_fixed == 0
    assert backward.bytes_written == backward.bytes_fixed == 1000 * 8 * FLOAT


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.SparseAdam])
def test_the_update_of_a_sparse_gradient_touches_its_rows_and_not_the_table(make: Any) -> None:
    """Three rows of a table of ten thousand: an update that read the table would be thousands of times as long."""
    table, ids = nn.Embedding(10_000, 8, sparse=True), torch.tensor([1, 2, 3])
    update = [
        o
        for o in trace_stepped(table, ids, make(table.parameters(), lr=0.1)).operations()
        if o.phase == "optimizer"
    ]
    moved = [o.bytes_read + o.bytes_written for o in update]
    assert max(moved) >= 3 * 8 * FLOAT
    assert sum(moved) < 10_000 * 8 * FLOAT / 20


@pytest.mark.parametrize("rows", [4, 16])
def test_what_does_not_shrink_with_the_batch_is_marked(rows: int) -> None:
    """Weights, their gradients and nothing else, also where batch and features are equal (16 x 16 by 16 x 16)."""
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    x = torch.randn(rows, 16)
    with StepTrace(model) as trace:
        model(x).sum().backward()
    weight, bias = 16 * 16 * FLOAT, 16 * FLOAT
    forward = [o for o in trace.operations() if o.phase == "forward"]
    assert sum(o.bytes_fixed for o in forward) == 2 * (weight + bias)
    products = [o for o in trace.operations() if o.phase == "backward" and o.kind == "matmul"]
    assert sum(o.bytes_fixed for o in products) == 3 * weight  # two weight gradients, one weight read
    sums = [o for o in trace.operations() if o.phase == "backward" and o.kind == "reduction"]
    assert sum(o.bytes_fixed for o in sums) == 2 * bias


def test_bytes_that_are_not_fixed_follow_the_batch() -> None:
    """Twice the batch moves twice the rest, in every kind of layer."""

    def move_products(batch: int) -> tuple[int, int]:
        with FakeTensorMode():
            model = SmallCnn()
            image = torch.randn(batch, 3, 8, 8)
            with StepTrace(model) as trace:
                model(image).pow(2).mean(1).sum().backward()
        operations = trace.operations()
        fixed = sum(o.bytes_fixed for o in operations)
        return fixed, sum(o.bytes_moved for o in operations) - fixed

    (fixed, rest), (fixed_twice, rest_twice) = move_products(16), move_products(32)
    assert fixed == fixed_twice
    assert rest_twice == pytest.approx(2 * rest, rel=0.01)


def test_a_low_rank_update_multiplied_out_is_fixed() -> None:
    """The size of a result computed from parameters alone does not depend on the batch."""
    model, x = LoraLinear(8, 8, 2), torch.randn(64, 8)
    with StepTrace(model) as trace:
        F.linear(x, model.frozen.weight + model.up.weight @ model.down.weight)
    merged = one(trace, kind="matmul", shape=(1, 8, 8, 2))
    assert merged.bytes_fixed == merged.bytes_moved


@pytest.mark.skipif(
    not hasattr(torch.ops.aten, "_fused_rms_norm"), reason="this torch runs RMS norm in parts"
)
def test_backward_of_activation_norm_and_dropout_is_one_record() -> None:
    """CUDA has one kernel for each; the CPU runs dropout and RMS norm as several operations."""
    model = nn.Sequential(nn.RMSNorm(8), nn.SiLU(), nn.Dropout(0.5), nn.GELU(), nn.LayerNorm(8), nn.Mish())
    x = torch.randn(4, 8, requires_grad=True)
    with StepTrace(model) as trace:
        model(x).sum().backward()
    launches = {
        (o.kind, o.phase): sum(
            p.launches for p in trace.operations() if (p.kind, p.phase) == (o.kind, o.phase)
        )
        for o in trace.operations()
    }
    for kind, count in (("activation", 3), ("normalization", 2), ("dropout", 1)):
        assert launches[kind, "forward"] == launches[kind, "backward"] == count
    assert not [o for o in trace.operations() if o.kind == "elementwise"]


def test_softmax_and_cross_entropy_have_rows_and_columns() -> None:
    """Shapes are (rows, cols)."""
    x = torch.randn(6, 10, requires_grad=True)
    with StepTrace(nn.Module()) as trace:
        F.cross_entropy(x, torch.zeros(6, dtype=torch.long)).backward()
    assert [o.shape for o in trace.operations() if o.kind == "softmax"] == [(6, 10), (6, 10)]
    assert [o.phase for o in trace.operations() if o.kind == "loss"] == ["forward", "backward"]


def test_convolution_shapes_hold_groups_stride_and_layout() -> None:
    """The axes are those of SHAPE_AXES; channels-last, the user's choice, is recorded."""
    layer = nn.Conv2d(4, 8, (3, 5), stride=2, padding=(1, 2), groups=2)
    image = torch.randn(2, 4, 8, 8)
    with StepTrace(layer) as trace:
        layer(image)
        layer(image.to(memory_format=torch.channels_last))
    shapes = {o.shape for o in trace.operations() if o.kind == "convolution"}
    assert shapes == {(2, 4, 8, 2, 1, 3, 5, 1, 4, 4, 2, last) for last in (0, 1)}


def test_full_precision_is_fp32_or_tf32() -> None:
    """By default torch lets cuDNN use TF32 and cuBLAS not; the record follows the switches."""
    with StepTrace(nn.Module()) as trace:
        F.conv1d(torch.randn(1, 2, 8), torch.randn(3, 2, 3))
        _ = torch.randn(4, 4) @ torch.randn(4, 4)
    assert one(trace, kind="convolution").dtype == "tf32"
    assert one(trace, kind="matmul").dtype == "fp32"


def test_fused_attention_of_full_precision_is_no_tf32() -> None:
    """Its kernel does not read torch's switch; the products beside it do."""
    x, before = torch.randn(1, 2, 8, 16), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with StepTrace(nn.Module()) as trace:
            _ = F.scaled_dot_product_attention(x, x, x) @ torch.randn(16, 4)
    finally:
        torch.set_float32_matmul_precision(before)
    assert one(trace, kind="attention").dtype == "fp32"
    assert one(trace, kind="matmul").dtype == "tf32"


# ---- the optimizer


def test_the_update_is_not_forward_although_lightning_calls_forward_inside_it() -> None:
    """A closure runs forward and backward inside `step`; what follows it is the update."""
    model, x = nn.Linear(8, 8), torch.randn(2, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def closure() -> float:
        optimizer.zero_grad()
        loss = model(x).sum()
        loss.backward()
        with torch.no_grad():
            model(x)  # a teacher without gradients is forward, not update
        return float(loss.detach())

    optimizer.step(closure)
    with StepTrace(model, [optimizer]) as trace:
        optimizer.step(closure)
    matmuls = [(o.phase, o.launches) for o in trace.operations() if o.kind == "matmul"]
    assert sorted(matmuls) == [("backward", 1), ("forward", 2)]
    updates = [o for o in trace.operations() if o.phase == "optimizer"]
    assert updates
    assert {o.kind for o in updates} == {"optimizer"}
    assert all(o.bytes_fixed == o.bytes_moved for o in updates)


def test_clipping_between_the_marks_belongs_to_the_update() -> None:
    """Unscaling and clipping are part of an optimizer step; the next forward is not."""
    model, x = nn.Linear(8, 8), torch.randn(2, 8)
    with StepTrace(model) as trace:
        model(x).sum().backward()
        trace.begin_optimizer()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        trace.end_optimizer()
        model(x)
    assert {o.phase for o in trace.operations() if o.kind == "matmul"} == {"forward", "backward"}
    assert [o for o in trace.operations() if o.phase == "optimizer"]


def test_work_on_gradients_is_the_update_without_marks_too() -> None:
    """A training loop that clips by hand calls none of the marks."""
    model, x = nn.Linear(8, 8), torch.randn(2, 8)
    with StepTrace(model) as trace:
        model(x).sum().backward()
        nn.utils.clip_grad_value_(model.parameters(), 0.1)
    assert {o.kind for o in trace.operations() if o.phase == "optimizer"} == {"optimizer"}


@pytest.mark.parametrize(
    ("options", "implementation", "launches"),
    [
        ({}, "foreach", 8),
        ({"foreach": True}, "foreach", 8),
        ({"fused": True}, "fused", 1),
        ({"foreach": False}, "for_loop", 32),
    ],
)
def test_an_update_launches_what_cuda_would_launch(
    options: dict[str, Any], implementation: str, launches: int
) -> None:
    """By default CUDA takes multi-tensor kernels, although the CPU loops over the parameters."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, **options)
    trace = trace_stepped(model, torch.randn(2, 8), optimizer)
    updates = [o for o in trace.operations() if o.phase == "optimizer"]
    assert sum(o.launches for o in updates) == launches
    assert trace.optimizer_facts().implementation == implementation
    assert {o.kind for o in updates} == {"optimizer"}


def test_a_fused_update_reads_four_lists_and_writes_three() -> None:
    """AdamW: weight, gradient and two moments in; weight and moments out."""
    model = nn.Linear(64, 64, bias=False)
    trace = trace_stepped(model, torch.randn(2, 64), torch.optim.AdamW(model.parameters(), fused=True))
    update = one(trace, phase="optimizer")
    weight = 64 * 64 * FLOAT
    assert weight * 4 <= update.bytes_read <= weight * 4 + 64
    assert weight * 3 <= update.bytes_written <= weight * 3 + 64
    assert update.shape == (64 * 64,)


def test_loops_and_multi_tensor_kernels_move_the_same_bytes() -> None:
    """Replacing the CPU's loop by multi-tensor kernels changes launches, not bytes."""
    model, x = nn.Sequential(*[nn.Linear(32, 32) for _ in range(4)]), torch.randn(2, 32)

    def move_products(**options: Any) -> int:
        trace = trace_stepped(model, x, torch.optim.AdamW(model.parameters(), **options))
        return sum(o.bytes_moved for o in trace.operations() if o.phase == "optimizer")

    assert (
        move_products()
        == move_products(foreach=False)
        == pytest.approx(move_products(foreach=True), rel=0.25)
    )


def test_multi_tensor_kernels_are_cut_by_tensors_and_by_chunks() -> None:
    """At most 36 tensors of four lists, at most 320 chunks of 65,536 elements, whichever cuts more."""
    assert multi_tensor_launches([10] * 72, 4) == 2
    assert multi_tensor_launches([10] * 73, 4) == 3
    assert multi_tensor_launches([320 * 65_536], 4) == 1
    assert multi_tensor_launches([320 * 65_536 + 1], 1) == 2
    assert multi_tensor_launches([], 1) == 0


def test_an_update_with_products_keeps_them() -> None:
    """Orthogonalising optimizers multiply matrices; that work has FLOPs."""

    class Multiplying(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(p.grad @ p.grad.t() @ p.grad, alpha=1e-3)

    model = nn.Linear(8, 8, bias=False)
    trace = trace_stepped(model, torch.randn(2, 8), Multiplying(model.parameters()))
    product = one(trace, phase="optimizer", kind="matmul")
    assert (product.launches, product.flops) == (2, 2 * 2 * 8**3)
    assert trace.optimizer_facts().implementation == "for_loop"


def test_optimizer_facts_count_the_state() -> None:
    """Two moments per parameter and a step counter each; two optimizers of two kinds are mixed."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    first = torch.optim.AdamW(model[0].parameters())
    trace = trace_stepped(model, torch.randn(2, 8), first)
    facts = trace.optimizer_facts()
    assert (facts.names, facts.state_bytes) == (("AdamW",), 2 * 72 * FLOAT + 2 * FLOAT)
    second = torch.optim.SGD(model[1].parameters(), foreach=False)
    assert StepTrace(model, [first, second]).optimizer_facts().implementation == "mixed"
    assert StepTrace(model).optimizer_facts().implementation == "unknown"


# ---- memory


def test_saved_activations_are_each_counted_once() -> None:
    """Two layers keep: the hidden activation, twice used; not the weights, not the batch."""
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 8))
    x = torch.randn(4, 16)
    with StepTrace(model) as trace:
        model(x).sum().backward()
    memory = trace.memory()
    assert memory.saved_activation_bytes == 2 * 4 * 32 * FLOAT  # before and after the activation
    assert memory.input_bytes == x.numel() * FLOAT
    assert memory.gradient_bytes == sum(p.numel() for p in model.parameters()) * FLOAT


def test_a_custom_function_keeps_what_its_backward_reads() -> None:
    """Custom kernels save tensors out of reach of saved-tensor hooks; the read in backward shows that they were kept."""

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            (x,) = ctx.saved_tensors
            return 2 * grad * x

    layer, x = nn.Linear(8, 32, bias=False), torch.randn(4, 8)
    with StepTrace(layer) as trace:
        Square.apply(layer(x)).sum().backward()
    assert trace.memory().saved_activation_bytes == 4 * 32 * FLOAT


@pytest.mark.parametrize("how", ["reentrant", "non-reentrant"])
def test_a_checkpoint_keeps_its_inputs_only(how: str) -> None:
    """Saved activations shrink to one tensor per block, and the recomputed block is temporary."""
    ids = torch.zeros(2, 16, dtype=torch.long)

    def memory(checkpointed: str) -> Any:
        model = Llama(4, 32, 96, 4, 4, 16, checkpointed=checkpointed)
        with StepTrace(model) as trace:
            model(ids).sum().backward()
        return trace.memory()

    plain, again = memory(""), memory(how)
    boundary = 2 * 16 * 32 * FLOAT
    assert again.saved_activation_bytes < plain.saved_activation_bytes / 3
    assert again.saved_activation_bytes >= 4 * boundary
    per_block = (plain.saved_activation_bytes - again.saved_activation_bytes) / 4
    assert again.largest_temporary_bytes == pytest.approx(per_block, rel=0.25)


def test_the_largest_temporary_is_the_largest_operation_that_is_not_kept() -> None:
    """Without gradients nothing is kept: operands and result of the widest product."""
    model, x = nn.Sequential(nn.Linear(4, 256), nn.Linear(256, 4)), torch.randn(8, 4)
    with torch.no_grad(), StepTrace(model) as trace:
        model(x)
    memory = trace.memory()
    assert memory.saved_activation_bytes == 0
    assert memory.largest_temporary_bytes == (8 * 256 + 8 * 4) * FLOAT


def test_buffers_are_counted_separately() -> None:
    """Running statistics are neither parameters nor activations."""
    model = SmallCnn()
    with StepTrace(model) as trace:
        model(torch.randn(4, 3, 8, 8)).sum().backward()
    assert trace.memory().buffer_bytes == 2 * 8 * FLOAT + 8


def test_parameters_are_grouped_by_type_and_training() -> None:
    """Frozen and half-precision weights are separate groups; a weight with two names counts once."""
    model = nn.Module()
    model.tied = nn.Linear(8, 8, bias=False)
    model.again = model.tied
    model.lora = LoraLinear(8, 8, 2)
    model.half = nn.Linear(4, 4, bias=False, dtype=torch.bfloat16)
    groups = {(g.dtype, g.trainable): (g.count, g.parameter_bytes) for g in StepTrace(model).parameters()}
    assert groups == {("fp32", True): (96, 384), ("fp32", False): (64, 256), ("bf16", True): (16, 32)}


# ---- the account


def test_operations_have_a_fixed_order_and_are_valid_profile_groups() -> None:
    """The same step gives the same tuple, and it goes through JSON."""

    def trace_module() -> StepTrace:
        torch.manual_seed(0)
        model = SmallLstm()
        return trace_stepped(model, torch.randn(2, 6, 64), torch.optim.AdamW(model.parameters()))

    first, second = trace_module().operations(), trace_module().operations()
    assert first == second
    keys = {(o.kind, o.phase, o.dtype, o.shape, o.name, o.recomputed) for o in first}
    assert len(keys) == len(first)
    assert all(OperationGroup.model_validate_json(o.model_dump_json()) == o for o in first)
    assert "operations" in JobProfile.model_fields


def test_a_trace_can_be_stopped_and_started_between_micro_batches() -> None:
    """Recorded operations add up: gradients of the second micro-batch are added to the first's."""
    model, x = nn.Linear(8, 8, bias=False), torch.randn(2, 8)
    trace = StepTrace(model)
    for _ in range(2):
        with trace:
            model(x).sum().backward()
    forward = one(trace, phase="forward", kind="matmul")
    assert forward.launches == 2
    added = [o for o in trace.operations() if o.phase == "backward" and o.name in ("aten.add_", "aten.add")]
    assert [(o.launches, o.bytes_fixed) for o in added] == [(1, 3 * 64 * FLOAT)]
