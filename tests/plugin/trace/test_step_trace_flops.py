"""`StepTrace` counts the FLOPs of a step, also where other counters are known to be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import distributed, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils.flop_counter import FlopCounterMode

from builders.models import Gpt2, Llama, LoraLinear, SmallLstm
from trainfare.trace import StepTrace
from trainfare_core.job_profile import OperationGroup


def trace_module(step: Callable[[], Any], module: nn.Module | None = None) -> tuple[OperationGroup, ...]:
    """Run a step under a trace and return its operations."""
    with StepTrace(module or nn.Module()) as trace:
        step()
    assert trace.fault is None
    return trace.operations()


def flops(operations: tuple[OperationGroup, ...], phase: str | None = None, kind: str | None = None) -> int:
    return sum(
        o.flops
        for o in operations
        if (phase is None or o.phase == phase) and (kind is None or o.kind == kind)
    )


def test_resnet50_is_counted_to_the_digit() -> None:
    """ResNet-50 on one 224 x 224 image: 4.089 GMAC forward; backward has no gradient of the image."""
    with FakeTensorMode():
        model = torchvision.models.resnet50()
        image = torch.randn(1, 3, 224, 224)
        operations = trace_module(lambda: model(image).sum().backward(), model)
    assert flops(operations, "forward") == 8_178_368_512
    assert flops(operations) == 24_299_077_632


@pytest.mark.parametrize("how", ["sdpa", "eager"])
def test_gpt2_is_counted_to_the_digit_in_both_spellings_of_attention(how: str) -> None:
    """GPT-2 124M, 1 x 512: attention counts whether fused or not (pytorch#134804, DeepSpeed#7256: it was 0 or doubled)."""
    with FakeTensorMode():
        model = Gpt2(how=how)
        ids = torch.randint(0, 50_257, (1, 512))
        operations = trace_module(lambda: model(ids), model)
    tokens, width, layers, vocabulary = 512, 768, 12, 50_257
    products = 2 * tokens * (12 * layers * width**2 + vocabulary * width)
    by_hand = products + layers * 4 * tokens**2 * width
    assert flops(operations, "forward") == by_hand == 136_160_477_184


def test_a_llama_of_seven_billion_is_within_one_percent_of_the_hand_formula() -> None:
    """6 FLOPs per weight and token, and attention forward plus 2.5 times as much backward (litgpt#403, #404)."""
    length, layers, width, hidden, vocabulary = 2048, 32, 4096, 11_008, 32_000
    with FakeTensorMode():
        model = Llama()
        ids = torch.randint(0, vocabulary, (1, length))
        operations = trace_module(lambda: model(ids).sum().backward(), model)
    weights = layers * (4 * width**2 + 3 * width * hidden) + vocabulary * width
    attention = layers * 4 * length**2 * width
    by_hand = 6 * weights * length + 3.5 * attention
    assert flops(operations) == pytest.approx(by_hand, rel=0.01)
    assert flops(operations, kind="attention") == 3.5 * attention


def test_grouped_query_attention_counts_query_heads() -> None:
    """Fewer key heads save bytes, not FLOPs; the record keeps both numbers of heads."""
    q, k, v = torch.randn(2, 8, 16, 4), torch.randn(2, 2, 16, 4), torch.randn(2, 2, 16, 4)
    operations = trace_module(
        lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    )
    (attention,) = [o for o in operations if o.kind == "attention"]
    assert attention.shape == (2, 8, 2, 16, 16, 4, 1)
    assert attention.flops == 4 * 2 * 8 * 16 * 16 * 4
    assert attention.bytes_read == 4 * (q.numel() + k.numel() + v.numel())


@pytest.mark.parametrize(
    ("heads", "repeat"),
    [
        (2, lambda k: k[:, :, None].expand(2, 2, 4, 16, 4).reshape(2, 8, 16, 4)),
        (2, lambda k: k.transpose(1, 2)[:, :, :, None].expand(2, 16, 2, 4, 4).flatten(2, 3).transpose(1, 2)),
        (2, lambda k: torch.repeat_interleave(k, 4, dim=1)),
        (2, lambda k: k.repeat(1, 4, 1, 1).half().float().permute(0, 1, 2, 3)),
        (1, lambda k: k[:, :1].expand(2, 8, 16, 4)),
        (8, lambda k: k[:1].expand(8, 2, 16, 4).reshape(2, 8, 16, 4)),
        (8, lambda k: torch.cat([k] * 4, dim=1)),
    ],
    ids=["expand", "expand and transpose", "repeat_interleave", "repeat", "one head", "batch", "other heads"],
)
def test_repeated_keys_have_the_heads_that_were_repeated(
    heads: int, repeat: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """A split must divide the heads of keys, not copies of them: plans over four devices were offered for two heads."""
    k = torch.randn(2, 2, 16, 4, requires_grad=True)
    q = torch.randn(2, 8, 16, 4)
    operations = trace_module(lambda: F.scaled_dot_product_attention(q, *[repeat(k * 1)] * 2))
    (attention,) = [o for o in operations if o.kind == "attention"]
    assert attention.shape[1:3] == (8, heads)


def test_attention_is_one_record_where_the_cpu_runs_five_operations() -> None:
    """With dropout the CPU runs five operations; CUDA runs one kernel forward and one backward."""
    x = torch.randn(2, 4, 16, 8, requires_grad=True)
    operations = trace_module(lambda: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1).sum().backward())
    attention = [o for o in operations if o.kind == "attention"]
    assert [(o.phase, o.launches) for o in attention] == [("forward", 1), ("backward", 1)]
    assert not [o for o in operations if o.kind in ("matmul", "softmax", "dropout")]
    assert attention[1].flops == 2.5 * attention[0].flops


def test_attention_is_products_where_the_user_asks_for_the_unfused_kernel() -> None:
    """`sdpa_kernel(MATH)` runs matrix products on CUDA too."""
    x = torch.randn(2, 4, 16, 8)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        operations = trace_module(lambda: F.scaled_dot_product_attention(x, x, x))
    assert not [o for o in operations if o.kind == "attention"]
    assert flops(operations, kind="matmul") == 4 * 2 * 4 * 16 * 16 * 8


def test_an_lstm_is_one_record_with_its_products() -> None:
    """(4, 32, 64) -> 128: 2 x 512 rows of gates x 128 steps x (64 + 128); the CPU's kernel has no formula in torch."""
    model = SmallLstm()
    x = torch.randn(4, 32, 64)
    operations = trace_module(lambda: model(x).sum().backward(), model)
    recurrent = {o.phase: o for o in operations if o.kind == "recurrent"}
    assert recurrent["forward"].flops == 25_165_824
    assert recurrent["forward"].launches == recurrent["backward"].launches == 1
    input_product = 2 * 4 * 32 * 512 * 64
    assert recurrent["backward"].flops == 2 * 25_165_824 - input_product  # the input wants no gradient


@pytest.mark.parametrize(("layer", "gates"), [(nn.GRU, 3), (nn.RNN, 1), (nn.LSTM, 4)])
def test_a_recurrent_layer_does_not_unroll(layer: type[nn.RNNBase], gates: int) -> None:
    """Hundreds of steps on the CPU are one launch on CUDA, forward and backward."""
    model = layer(8, 16, num_layers=2, bidirectional=True)
    x = torch.randn(20, 3, 8, requires_grad=True)
    operations = trace_module(lambda: model(x)[0].sum().backward(), model)
    recurrent = {o.phase: o for o in operations if o.kind == "recurrent"}
    rows = 2 * gates * 16 * 20 * 3 * 2
    assert recurrent["forward"].flops == rows * ((8 + 16) + (32 + 16))
    assert recurrent["backward"].flops == 2 * recurrent["forward"].flops
    assert recurrent["forward"].shape == (3, 20, 8, 16, 2, 2)
    assert sum(o.launches for o in operations) < 20


def test_a_recurrent_cell_is_counted() -> None:
    """A cell's FLOPs are its products: 2 x batch x gates x hidden x (input + hidden)."""
    cell, x = nn.LSTMCell(8, 16), torch.randn(5, 8)
    operations = trace_module(lambda: cell(x)[0].sum().backward(), cell)
    assert flops(operations, "forward", "recurrent") == 2 * 5 * 64 * (8 + 16)
    assert flops(operations, "backward", "recurrent") == 2 * 5 * 64 * (8 + 2 * 16)


def test_a_shared_weight_is_stored_once_and_counted_in_both_uses() -> None:
    """GPT-2's head is its embedding (DeepSpeed#2565, #4723: counted twice, or not at all)."""
    model = Gpt2(layers=1, width=16, heads=2, vocabulary=32, context=8)
    ids = torch.zeros(1, 8, dtype=torch.long)
    with StepTrace(model) as trace:
        model(ids).sum().backward()
    assert sum(group.count for group in trace.parameters()) == sum(p.numel() for p in model.parameters())
    head = [o for o in trace.operations() if o.kind == "matmul" and o.shape == (1, 8, 32, 16)]
    assert sum(o.flops for o in head) == 2 * 8 * 32 * 16


def test_frozen_weights_have_no_weight_gradient() -> None:
    """Half of backward is left out (NeMo Automodel#786: 6 N D for frozen models)."""
    layers = nn.Sequential(*[nn.Linear(16, 16, bias=False) for _ in range(3)])
    for layer in list(layers)[:2]:
        layer.requires_grad_(False)
    x = torch.randn(4, 16)
    operations = trace_module(lambda: layers(x).sum().backward(), layers)
    number = 2 * 4 * 16 * 16
    assert flops(operations, "forward") == 3 * number
    assert flops(operations, "backward") == number  # only the last layer's own weight


def test_lora_counts_the_gradients_of_its_own_weights_only() -> None:
    """Frozen 32 x 32 under a rank of 2: backward has the input's gradient through it, never its own."""
    model, x = LoraLinear(32, 32, 2), torch.randn(4, 32, requires_grad=True)
    operations = trace_module(lambda: model(x).sum().backward(), model)
    frozen, low = 2 * 4 * 32 * 32, 2 * 4 * 32 * 2
    assert flops(operations, "forward") == frozen + 2 * low
    assert flops(operations, "backward") == frozen + 4 * low


def test_a_convolution_with_a_frozen_input_has_no_input_gradient() -> None:
    """The first layer of a network, or a frozen trunk below it: weight gradient only."""
    layer = nn.Conv2d(3, 8, 3, padding=1)
    image = torch.randn(2, 3, 8, 8)
    with_gradient = torch.randn(2, 3, 8, 8, requires_grad=True)
    frozen = trace_module(lambda: layer(image).sum().backward(), layer)
    both = trace_module(lambda: layer(with_gradient).sum().backward(), layer)
    number = 2 * 2 * 8 * 8 * 8 * 3 * 9
    assert flops(frozen, "backward", "convolution") == number
    assert flops(both, "backward", "convolution") == 2 * number
    assert {o.name for o in frozen if o.phase == "backward" and o.kind == "convolution"} == {
        "aten.convolution_backward.weight"
    }


def test_a_convolution_with_a_frozen_weight_has_no_weight_gradient() -> None:
    """Only the input gradient is left."""
    layer = nn.Conv2d(3, 8, 3).requires_grad_(False)
    image = torch.randn(2, 3, 8, 8, requires_grad=True)
    operations = trace_module(lambda: layer(image).sum().backward(), layer)
    names = {o.name for o in operations if o.phase == "backward" and o.kind == "convolution"}
    assert names == {"aten.convolution_backward.input"}


@pytest.mark.parametrize("transposed", [False, True])
def test_a_grouped_convolution_costs_a_group_each_in_backward_too(transposed: bool) -> None:
    """calculate-flops.pytorch#30; torch's own formula takes the weight gradient of a depthwise layer `groups` times."""
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer, image = kind(8, 8, 3, padding=1, groups=8), torch.randn(1, 8, 6, 6, requires_grad=True)
    operations = trace_module(lambda: layer(image).sum().backward(), layer)
    assert flops(operations, "forward") == 2 * 8 * 36 * 9
    assert flops(operations, "backward") == 2 * flops(operations, "forward")


def test_accumulation_multiplies_forward_and_backward_and_not_the_update() -> None:
    """Four micro-batches: four times forward and backward, one update, three additions of gradients."""
    model, x = nn.Linear(8, 8, bias=False), torch.randn(4, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with StepTrace(model, [optimizer]) as trace:
        model(x).sum().backward()
        optimizer.step()
    groups, four = trace.operations(), trace.operations(micro_batches=4)
    for phase in ("forward", "backward"):
        assert flops(four, phase) == 4 * flops(groups, phase) > 0
    updates = [sum(o.bytes_moved for o in ops if o.phase == "optimizer") for ops in (groups, four)]
    assert updates[0] == updates[1] > 0
    (added,) = [o for o in four if o.name == "aten.add_" and o.phase == "backward"]
    assert (added.launches, added.bytes_fixed) == (3, 3 * 3 * 8 * 8 * 4)


@pytest.mark.parametrize("how", ["reentrant", "non-reentrant"])
def test_a_checkpoint_runs_forward_again_in_backward(how: str) -> None:
    """Hardware FLOPs exceed model FLOPs by the recomputed forward, which is marked."""
    plain, again = Llama(2, 32, 64, 4, 2, 64), Llama(2, 32, 64, 4, 2, 64, checkpointed=how)
    ids = torch.zeros(2, 16, dtype=torch.long)
    before = trace_module(lambda: plain(ids).sum().backward(), plain)
    operations = trace_module(lambda: again(ids).sum().backward(), again)
    recomputed = [o for o in operations if o.recomputed]
    assert recomputed
    assert {o.phase for o in recomputed} == {"backward"}
    assert sum(o.flops for o in operations if not o.recomputed) == flops(before)
    blocks = flops(before, "forward") - 2 * 2 * 16 * 32 * 64
    extra = sum(o.flops for o in recomputed)
    last_product = 2 * 2 * 2 * 16 * 64 * 32  # torch stops once everything that was saved is back
    assert extra == (blocks if how == "reentrant" else blocks - last_product)


def test_double_backward_is_not_taken_for_recomputation() -> None:
    """A gradient penalty runs backward with gradients on; nothing in it is a forward pass again."""
    model, x = nn.Linear(8, 8), torch.randn(4, 8, requires_grad=True)

    def step() -> None:
        (gradient,) = torch.autograd.grad(model(x).pow(2).sum(), x, create_graph=True)
        gradient.pow(2).sum().backward()

    assert not [o for o in trace_module(step, model) if o.recomputed]


@pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="this torch has no grouped products on the CPU")
def test_grouped_products_are_counted_on_the_routed_tokens() -> None:
    """Mixture of experts: one ragged product has the FLOPs of one product per expert."""
    experts = torch.randn(4, 16, 32, dtype=torch.bfloat16, requires_grad=True)
    tokens = torch.randn(24, 16, dtype=torch.bfloat16, requires_grad=True)
    offsets = torch.tensor([8, 8, 20, 24], dtype=torch.int32)
    operations = trace_module(lambda: F.grouped_mm(tokens, experts, offs=offsets).pow(2).sum().backward())
    by_hand = 2 * 24 * 16 * 32
    assert flops(operations, "forward", "grouped_matmul") == by_hand
    assert flops(operations, "backward", "grouped_matmul") == 2 * by_hand
    for group in operations:
        if group.kind == "grouped_matmul":
            _, m, n, k = group.shape
            assert 2 * m * n * k == by_hand


def _mixture(rows: int = 6) -> dict[str, tuple[Callable[[], Any], int]]:
    a, b, v = torch.randn(rows, 8), torch.randn(8, 5), torch.randn(8)
    bilinear = nn.Bilinear(4, 3, 5, bias=False)
    x1, x2 = torch.randn(rows, 4), torch.randn(rows, 3)
    ints = torch.randint(-3, 3, (32, 32), dtype=torch.int8)
    sparse = torch.eye(8).to_sparse_coo()
    signal = torch.randn(2, 16, dtype=torch.complex64)
    return {
        "mv": (lambda: a.mv(v), 2 * rows * 8),
        "addmv": (lambda: torch.addmv(torch.zeros(rows), a, v), 2 * rows * 8),
        "dot": (lambda: v.dot(v), 2 * 8),
        "outer": (lambda: torch.addr(torch.zeros(8, 8), v, v), 2 * 8 * 8),
        "addbmm": (lambda: torch.addbmm(torch.zeros(rows, 5), a[None], b[None]), 2 * rows * 8 * 5),
        "int8": (lambda: torch._int_mm(ints, ints), 2 * 32**3),
        "bilinear": (lambda: bilinear(x1, x2), 2 * rows * 4 * 3 * 5 + 2 * rows * 3 * 5),
        "sparse": (lambda: torch.sparse.mm(sparse, a.t().contiguous()), 2 * 8 * rows),
        "fft": (lambda: torch.fft.fft(signal), int(5 * 2 * 16 * math.log2(16))),
        "cdist": (
            lambda: torch.cdist(a, a, compute_mode="donot_use_mm_for_euclid_dist"),
            3 * rows * rows * 8,
        ),
        "linear": (lambda: F.linear(a, b.t()), 2 * rows * 8 * 5),
        "einsum": (lambda: torch.einsum("ij,jk->ik", a, b), 2 * rows * 8 * 5),
    }


@pytest.mark.parametrize("name", sorted(_mixture()))
def test_what_torch_counts_as_zero_has_a_formula(name: str) -> None:
    """Vector, integer, sparse, trilinear and Fourier operations have FLOPs, which torch's counter leaves out."""
    step, by_hand = _mixture()[name]
    with torch.no_grad():
        operations = trace_module(step)
    assert flops(operations) == by_hand
    assert not [o for o in operations if o.kind == "unknown"]


def test_the_fast_path_of_a_transformer_layer_is_counted() -> None:
    """Inference fuses a whole encoder layer into one operation, 0 FLOPs in torch's counter."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    x = torch.randn(3, 5, 16)
    with torch.no_grad():
        operations = trace_module(lambda: layer(x), layer)
    by_hand = 2 * 3 * 5 * (4 * 16 * 16 + 2 * 16 * 32) + 4 * 3 * 5 * 5 * 16
    assert flops(operations) == by_hand


def test_an_operation_without_a_formula_is_missing_coverage() -> None:
    """A custom kernel's bytes are counted and its FLOPs are unknown, not zero."""
    x = torch.randn(64, 64)
    with torch.library._scoped_library("trainfare_test", "FRAGMENT") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda t: t * 2, "CPU")
        with StepTrace(nn.Module()) as trace:
            torch.ops.trainfare_test.twice(x) @ x
    operations = trace.operations()
    assert trace.notes == ["no FLOP formula, bytes counted: trainfare_test.twice"]
    (unknown,) = [o for o in operations if o.kind == "unknown"]
    assert unknown.name == "trainfare_test.twice"
    assert unknown.bytes_moved == 2 * x.numel() * 4
    assert flops(operations) == 2 * 64**3


def _fill_outside_of_torch(x: torch.Tensor) -> torch.Tensor:
    """Return a result as Triton and CUDA libraries do: torch allocates it, a kernel of their own writes it."""
    out = torch.empty_like(x)
    out.numpy()[:] = x.numpy().cumsum(1)
    return out


def test_what_a_kernel_outside_of_torch_writes_is_missing_coverage() -> None:
    """Such as the scan of a state-space model: its FLOPs are unknown, not zero, and its result is counted once."""
    x = torch.randn(64, 64)
    with StepTrace(nn.Module()) as trace:
        scanned = _fill_outside_of_torch(x)
        scanned @ x + scanned
    assert trace.notes == ["no FLOP formula, bytes counted: kernel that torch did not launch"]
    (unknown,) = [o for o in trace.operations() if o.kind == "unknown"]
    assert (unknown.dtype, unknown.launches, unknown.bytes_moved) == ("fp32", 1, x.numel() * 4)


def test_allocated_memory_that_operations_of_torch_write_is_theirs() -> None:
    x, rows = torch.randn(64, 64), torch.arange(32)

    def step() -> None:
        torch.empty_like(x).copy_(x).mul_(2)
        torch.empty(64, 64).index_copy_(0, rows, x[:32]) @ x
        torch.mm(x, x, out=torch.empty(64, 64)).sum()
        parts = [torch.empty(64, 64), x.new_empty(64, 64)]
        torch._foreach_copy_(parts, [x, x])
        torch.stack(parts)
        torch.empty(0, 64).sum()

    assert "unknown" not in {o.kind for o in trace_module(step)}


def test_a_decomposition_without_a_formula_is_missing_coverage() -> None:
    """Its FLOPs grow with the cube of the size, which its bytes do not show."""
    operations = trace_module(lambda: torch.linalg.svd(torch.randn(8, 8)))
    assert "unknown" in {o.kind for o in operations}


@pytest.mark.parametrize(
    "build",
    [
        lambda: Gpt2(2, 32, 4, 64, 32, how="eager"),
        lambda: nn.Sequential(nn.Embedding(64, 8), nn.Linear(8, 64)),
    ],
)
def test_flops_agree_with_torchs_counter(build: Callable[[], nn.Module]) -> None:
    """Where torch's counter is right, both agree."""
    model, ids = build(), torch.zeros(2, 16, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    assert flops(trace_module(lambda: model(ids).sum().backward(), model)) == counter.get_total_flops()


@pytest.mark.filterwarnings("ignore:DTensor random operators:UserWarning")  # before torch 2.6
def test_a_layer_sharded_over_four_devices_counts_a_quarter() -> None:
    """Tensor parallelism: each device multiplies its own slice; counting DTensors gives the global size."""
    distributed.init_process_group("fake", rank=0, world_size=4, store=FakeStore())
    try:
        model, x = (
            nn.Sequential(nn.Linear(16, 64, bias=False), nn.Linear(64, 16, bias=False)),
            torch.randn(8, 16),
        )
        whole = trace_module(lambda: model(x).sum().backward(), model)
        plan = {"0": ColwiseParallel(), "1": RowwiseParallel()}
        parallelize_module(model, init_device_mesh("cpu", (4,)), plan)
        cut = trace_module(lambda: model(x).sum().backward(), model)
    finally:
        distributed.destroy_process_group()
    assert flops(cut) == flops(whole) / 4
    weights = [sum(o.bytes_fixed for o in ops if o.phase == "forward") for ops in (cut, whole)]
    assert weights[0] == weights[1] / 4 > 0


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_counted_and_still_runs() -> None:
    """It is a higher-order operator and compiles itself; both must work while a step is recorded."""
    q, k, v = (torch.randn(1, 2, 16, 8) for _ in range(3))
    operations = trace_module(lambda: flex_attention(q, k, v))
    (attention,) = [o for o in operations if o.kind == "attention"]
    assert attention.flops == 4 * 2 * 16 * 16 * 8
