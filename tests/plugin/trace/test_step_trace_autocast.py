"""Traces on fake tensors cast as CUDA's autocast does, list by list, and change nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from builders.models import Gpt2, Llama, SmallCnn, SmallLstm
from trainfare.trace import StepTrace, cuda_autocast
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import OperationGroup

HALF = torch.bfloat16


def list_handled_by_torch() -> set[str]:
    """Return the operations that have a kernel of CUDA's autocast in the installed torch, card or not."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    names = [
        n for n in torch._C._dispatch_get_all_op_names() if n.startswith("aten::") and has(n, "AutocastCUDA")
    ]
    return {name.removeprefix("aten::").partition(".")[0] for name in names}


def test_the_lists_are_those_of_the_installed_torch() -> None:
    """The lists hold exactly the operations that CUDA's autocast handles."""
    rows = (
        Path(cuda_autocast.__file__).with_name("autocast_casts.csv").read_text(encoding="utf-8").splitlines()
    )
    assert len(cuda_autocast.CASTS) == len(rows) - 1, "an operation is in two rows"
    ours = {operation for operation, how in cuda_autocast.CASTS.items() if how != "refused"}
    refused, reached_through_others = {"binary_cross_entropy"}, {
        "cudnn_convolution", "cudnn_convolution_transpose", "_cudnn_rnn"
    }  # fmt: skip
    assert list_handled_by_torch() - ours - refused - reached_through_others == set()
    assert ours - list_handled_by_torch() <= {"rms_norm", "linalg_matrix_sqrth"}, (
        "listed from a later torch on"
    )


def trace_module(
    step: Callable[[], Any], model: nn.Module | None = None, dtype: torch.dtype = HALF
) -> StepTrace:
    with FakeTensorMode(), StepTrace(model or nn.Module(), cuda_autocast_dtype=dtype) as trace:
        step()
    assert trace.fault is None
    return trace


def result(call: Callable[..., torch.Tensor], *shapes: tuple[int, ...], dtype: torch.dtype) -> torch.dtype:
    """Return the type of a call's result when its operands have one type."""
    with FakeTensorMode():
        operands = [torch.randn(shape, dtype=dtype) for shape in shapes]
        with StepTrace(nn.Module(), cuda_autocast_dtype=HALF):
            return call(*operands).dtype


X, Y, IMAGE, KERNEL = (4, 4), (4, 4), (1, 2, 6, 6), (3, 2, 3, 3)

LOWER: dict[str, tuple[Callable[..., torch.Tensor], tuple[tuple[int, ...], ...]]] = {
    "linear": (F.linear, (X, Y)),
    "matmul": (torch.matmul, (X, Y)),
    "operator @": (lambda a, b: a @ b, (X, Y)),
    "mm": (torch.mm, (X, Y)),
    "mv": (torch.mv, (X, (4,))),
    "bmm": (torch.bmm, ((2, 3, 4), (2, 4, 3))),
    "addmm": (torch.addmm, (X, X, Y)),
    "addmv": (torch.addmv, ((4,), X, (4,))),
    "addr": (torch.addr, (X, (4,), (4,))),
    "addbmm": (torch.addbmm, ((3, 3), (2, 3, 4), (2, 4, 3))),
    "baddbmm": (torch.baddbmm, ((2, 3, 3), (2, 3, 4), (2, 4, 3))),
    "einsum": (lambda a, b: torch.einsum("ij,jk->ik", a, b), (X, Y)),
    "einsum of a list": (lambda a, b: torch.einsum("ij,jk->ik", [a, b]), (X, Y)),
    "chain_matmul": (lambda a, b: torch.linalg.multi_dot([a, b]), (X, Y)),
    "linalg_vecdot": (torch.linalg.vecdot, (X, Y)),
    "prelu": (F.prelu, (X, (1,))),
    "conv1d": (F.conv1d, ((1, 2, 8), (3, 2, 3))),
    "conv2d": (F.conv2d, (IMAGE, KERNEL)),
    "conv3d": (F.conv3d, ((1, 2, 4, 4, 4), (3, 2, 3, 3, 3))),
    "conv_transpose1d": (F.conv_transpose1d, ((1, 2, 8), (2, 3, 3))),
    "conv_transpose2d": (F.conv_transpose2d, (IMAGE, (2, 3, 3, 3))),
    "conv_transpose3d": (F.conv_transpose3d, ((1, 2, 4, 4, 4), (2, 3, 3, 3, 3))),
    "scaled_dot_product_attention": (F.scaled_dot_product_attention, ((1, 2, 4, 8),) * 3),
    "lstm_cell": (lambda x, w, v: torch.lstm_cell(x, (x, x), w, v)[0], ((2, 4), (16, 4), (16, 4))),
    "gru_cell": (lambda x, w, v: torch.gru_cell(x, x, w, v), ((2, 4), (12, 4), (12, 4))),
    "rnn_tanh_cell": (lambda x, w, v: torch.rnn_tanh_cell(x, x, w, v), ((2, 4), (4, 4), (4, 4))),
    "rnn_relu_cell": (lambda x, w, v: torch.rnn_relu_cell(x, x, w, v), ((2, 4), (4, 4), (4, 4))),
}

FULL: dict[str, tuple[Callable[..., torch.Tensor], tuple[tuple[int, ...], ...]]] = {
    **{
        name: (getattr(torch, name), (X,))
        for name in [
            "acos",
            "asin",
            "cosh",
            "erfinv",
            "exp",
            "expm1",
            "log",
            "log10",
            "log2",
            "log1p",
            "reciprocal",
            "rsqrt",
            "sinh",
            "tan",
        ]
    },
    "pow": (lambda x: x**2, (X,)),
    "pow of tensors": (torch.pow, (X, Y)),
    "rpow": (lambda x: 2**x, (X,)),
    "softplus": (F.softplus, (X,)),
    "layer_norm": (lambda x, w: F.layer_norm(x, (4,), w), (X, (4,))),
    "group_norm": (lambda x: F.group_norm(x, 2), (IMAGE,)),
    "softmax": (lambda x: F.softmax(x, -1), (X,)),
    "Tensor.softmax": (lambda x: x.softmax(-1), (X,)),
    "log_softmax": (lambda x: F.log_softmax(x, -1), (X,)),
    "cross_entropy": (lambda x: F.cross_entropy(x, torch.zeros(4, dtype=torch.long)), (X,)),
    "nll_loss": (lambda x: F.nll_loss(x, torch.zeros(4, dtype=torch.long)), (X,)),
    "mse_loss": (F.mse_loss, (X, Y)),
    "l1_loss": (F.l1_loss, (X, Y)),
    "smooth_l1_loss": (F.smooth_l1_loss, (X, Y)),
    "huber_loss": (F.huber_loss, (X, Y)),
    "kl_div": (lambda x, y: F.kl_div(x, y, reduction="batchmean"), (X, Y)),
    "bce_with_logits": (F.binary_cross_entropy_with_logits, (X, Y)),
    "poisson_nll_loss": (F.poisson_nll_loss, (X, Y)),
    "soft_margin_loss": (F.soft_margin_loss, (X, Y)),
    "hinge_embedding_loss": (F.hinge_embedding_loss, (X, Y)),
    "triplet_margin_loss": (F.triplet_margin_loss, (X, Y, X)),
    "margin_ranking_loss": (F.margin_ranking_loss, ((4,), (4,), (4,))),
    "cosine_embedding_loss": (F.cosine_embedding_loss, (X, Y, (4,))),
    "cosine_similarity": (F.cosine_similarity, (X, Y)),
    "cdist": (torch.cdist, (X, Y)),
    "pdist": (F.pdist, (X,)),
    "dist": (torch.dist, (X, Y)),
    "renorm": (lambda x: torch.renorm(x, 2, 0, 1.0), (X,)),
    "logsumexp": (lambda x: torch.logsumexp(x, -1), (X,)),
    "sum": (lambda x: x.sum(), (X,)),
    "sum over a dimension": (lambda x: x.sum(1), (X,)),
    "prod": (lambda x: x.prod(), (X,)),
    "cumsum": (lambda x: x.cumsum(0), (X,)),
    "cumprod": (lambda x: x.cumprod(0), (X,)),
    "norm": (lambda x: x.norm(), (X,)),
    "torch.norm": (lambda x: torch.norm(x, p=1, dim=1), (X,)),
    "linalg.norm": (torch.linalg.norm, (X,)),
    "linalg.vector_norm": (torch.linalg.vector_norm, (X,)),
    "interpolate": (lambda x: F.interpolate(x, scale_factor=2, mode="nearest"), (IMAGE,)),
    "interpolate bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (IMAGE,)),
    "interpolate bicubic": (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), (IMAGE,)),
}

if "rms_norm" in list_handled_by_torch():
    FULL["rms_norm"] = (lambda x, w: F.rms_norm(x, (4,), w), (X, (4,)))

AS_THEY_COME: dict[str, tuple[Callable[..., torch.Tensor], tuple[tuple[int, ...], ...]]] = {
    "relu": (F.relu, (X,)),
    "gelu": (F.gelu, (X,)),
    "silu": (F.silu, (X,)),
    "add": (torch.add, (X, Y)),
    "mul": (torch.mul, (X, Y)),
    "mean": (lambda x: x.mean(), (X,)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), (IMAGE,)),
    "batch_norm": (lambda x: F.batch_norm(x, None, None, training=True), (IMAGE,)),
    "dropout": (lambda x: F.dropout(x, 0.5), (X,)),
    "inner": (torch.inner, (X, Y)),
}


@pytest.mark.parametrize("name", sorted(LOWER))
def test_products_run_in_the_lower_type(name: str) -> None:
    """fp32 operands are cast down."""
    call, shapes = LOWER[name]
    assert result(call, *shapes, dtype=torch.float32) == HALF


@pytest.mark.parametrize("name", sorted(FULL))
def test_sensitive_work_runs_in_fp32(name: str) -> None:
    """Lower operands are cast up, or the result is asked for in fp32."""
    call, shapes = FULL[name]
    assert result(call, *shapes, dtype=HALF) == torch.float32


@pytest.mark.parametrize("dtype", [HALF, torch.float32])
@pytest.mark.parametrize("name", sorted(AS_THEY_COME))
def test_the_rest_keeps_its_type(name: str, dtype: torch.dtype) -> None:
    """Operations in no list run in what they are given."""
    call, shapes = AS_THEY_COME[name]
    assert result(call, *shapes, dtype=dtype) == dtype


@pytest.mark.parametrize(
    "call",
    [
        lambda a, b: torch.cat([a, b]),
        lambda a, b: torch.stack([a, b]),
        lambda a, b: torch.addcmul(a, a, b),
        lambda a, b: torch.addcdiv(a, a, b),
        lambda a, b: torch.atan2(a, b),
        lambda a, b: torch.tensordot(a, b, 1),
        lambda a, b: torch.dot(a[0], b[0]),
        lambda a, b: torch.vdot(a[0], b[0]),
        lambda a, b: torch.cross(a[:, :3], b[:, :3], dim=1),
        lambda a, b: a.scatter_add(0, torch.zeros(4, 4, dtype=torch.long), b),
        lambda a, b: a.index_put((torch.zeros(4, dtype=torch.long),), b),
    ],
)
def test_mixed_operands_take_the_widest_type(call: Callable[..., torch.Tensor]) -> None:
    """fp32 wins over bf16, in either order."""
    with FakeTensorMode():
        full, half = torch.randn(4, 4), torch.randn(4, 4, dtype=HALF)
        with StepTrace(nn.Module(), cuda_autocast_dtype=HALF) as trace:
            assert call(full, half).dtype == torch.float32
            assert call(half, full).dtype == torch.float32
    assert trace.fault is None


def test_double_precision_and_integers_are_left_alone() -> None:
    """Autocast casts neither."""
    assert result(torch.mm, X, Y, dtype=torch.float64) == torch.float64
    with FakeTensorMode(), StepTrace(nn.Module(), cuda_autocast_dtype=HALF):
        assert torch.ones(3, dtype=torch.long).sum().dtype == torch.long


def test_a_type_the_user_names_wins() -> None:
    """`softmax(..., dtype=...)` runs in the dtype that the user gives."""
    assert result(lambda x: F.softmax(x, -1, dtype=HALF), X, dtype=HALF) == HALF
    assert result(lambda x: x.sum(dtype=torch.float64), X, dtype=HALF) == torch.float64


def test_binary_cross_entropy_is_refused_as_on_cuda() -> None:
    """The error names the operation and what to do."""
    with pytest.raises(TraceError, match="binary_cross_entropy_with_logits"):
        trace_module(lambda: F.binary_cross_entropy(torch.rand(3), torch.rand(3)))


def casts(trace: StepTrace, phase: str = "forward") -> list[OperationGroup]:
    return [o for o in trace.operations() if o.name == "aten._to_copy" and o.phase == phase]


def test_a_weight_is_cast_once_in_a_forward() -> None:
    """Autocast caches the casts of leaves; a layer used three times casts its weight once, and its input each time."""
    with FakeTensorMode():
        layer, x = nn.Linear(8, 8, bias=False), torch.randn(4, 8)
        with StepTrace(layer, cuda_autocast_dtype=HALF) as trace:
            (layer(x) + layer(x) + layer(x)).sum().backward()
    (weights,) = [o for o in casts(trace) if o.shape == (64,)]
    (inputs,) = [o for o in casts(trace) if o.shape == (32,)]
    assert (weights.launches, weights.kind, weights.bytes_fixed) == (1, "copy", 64 * 6)
    assert inputs.launches == 3
    (gradient,) = [o for o in casts(trace, "backward") if o.shape == (64,)]
    assert (gradient.launches, gradient.dtype, gradient.bytes_fixed) == (1, "fp32", 64 * 6)


def test_weights_are_cast_again_in_the_next_forward() -> None:
    """The cache lives as long as one forward pass."""
    with FakeTensorMode():
        layer, x = nn.Linear(8, 8, bias=False), torch.randn(4, 8)
        with StepTrace(layer, cuda_autocast_dtype=HALF) as trace:
            for _ in range(2):
                layer(x).sum().backward()
    (weights,) = [o for o in casts(trace) if o.shape == (64,)]
    assert weights.launches == 2


@pytest.mark.parametrize("how", ["reentrant", "non-reentrant"])
def test_a_checkpoint_is_recomputed_in_the_same_types(how: str) -> None:
    """The forward that runs again in backward casts as the first did."""
    with FakeTensorMode():
        model, ids = Llama(2, 32, 64, 4, 2, 64, checkpointed=how), torch.zeros(2, 16, dtype=torch.long)
        with StepTrace(model, cuda_autocast_dtype=HALF) as trace:
            model(ids).sum().backward()
    assert trace.fault is None
    products = [o for o in trace.operations() if o.kind == "matmul"]
    assert {o.dtype for o in products if o.recomputed} == {"bf16"}
    assert {o.dtype for o in products} == {"bf16"}


def test_a_disabled_autocast_context_stays_in_full_precision() -> None:
    """Rotary tables and losses are often computed with autocast off."""
    with FakeTensorMode():
        x = torch.randn(4, 4)
        with StepTrace(nn.Module(), cuda_autocast_dtype=HALF) as trace:
            with torch.autocast("cpu", enabled=False):
                assert (x @ x).dtype == torch.float32
            assert (x @ x).dtype == HALF
    assert "autocast context of its own" in trace.notes[0]


def test_lightnings_own_cpu_autocast_around_the_step_does_not_add_its_casts() -> None:
    """CPU autocast leaves a layer norm in bf16; under CUDA's policy it is fp32 all the same."""
    with FakeTensorMode():
        x = torch.randn(4, 4, dtype=HALF)
        with StepTrace(nn.Module(), cuda_autocast_dtype=HALF), torch.autocast("cpu", dtype=HALF):
            assert F.layer_norm(x, (4,)).dtype == torch.float32
            assert (x.float() @ x.float()).dtype == HALF


def test_without_a_dtype_nothing_is_cast() -> None:
    """A trace of a real step casts nothing."""
    model, x = SmallCnn(), torch.randn(4, 3, 8, 8)
    with StepTrace(model) as trace:
        model(x)
    assert casts(trace) == []


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor], set[tuple[str, str]]]] = {
    "cnn": (
        SmallCnn,
        lambda: torch.randn(4, 3, 8, 8),
        {("convolution", "bf16"), ("normalization", "bf16"), ("matmul", "bf16"), ("activation", "bf16")},
    ),
    "gpt": (
        lambda: Gpt2(2, 32, 4, 64, 32),
        lambda: torch.zeros(2, 16, dtype=torch.long),
        {("attention", "bf16"), ("normalization", "fp32"), ("matmul", "bf16"), ("embedding", "fp32")},
    ),
    "lstm": (SmallLstm, lambda: torch.randn(4, 32, 64), {("recurrent", "bf16"), ("matmul", "bf16")}),
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_runs_each_kind_in_cudas_type_with_the_same_flops(name: str) -> None:
    """Casts add bytes and launches, no FLOPs; losses and their softmax are fp32."""
    build, make, wanted = MODELS[name]

    def trace(dtype: torch.dtype | None) -> StepTrace:
        with FakeTensorMode():
            model, batch = build(), make()
            with StepTrace(model, cuda_autocast_dtype=dtype) as trace:
                out = model(batch)
                rows = out.reshape(-1, out.shape[-1])
                F.cross_entropy(rows, torch.zeros(rows.shape[0], dtype=torch.long)).backward()
        assert trace.fault is None
        return trace

    mixed, full = trace(HALF), trace(None)
    kinds = {(o.kind, o.dtype) for o in mixed.operations()}
    assert wanted <= kinds
    assert {("softmax", "fp32"), ("loss", "fp32")} <= kinds
    assert sum(o.flops for o in mixed.operations()) == sum(o.flops for o in full.operations())
    assert casts(mixed)
    assert casts(mixed, "backward")


def _cuda_result(call: Callable[..., torch.Tensor], operands: list[torch.Tensor]) -> torch.dtype | None:
    """Return the type CUDA's own autocast gives; None where the call needs a driver, or has no fake kernel."""
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", HALF)
    try:
        return call(*operands).dtype
    except (RuntimeError, AttributeError):
        return None
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch is built without CUDA")
@pytest.mark.parametrize("dtype", [HALF, torch.float32])
def test_cudas_own_autocast_gives_the_same_types(dtype: torch.dtype) -> None:
    """Every case above, against the real dispatch of a CUDA build; most of it needs no card."""
    compared, different = 0, []
    for name, (call, shapes) in {**LOWER, **FULL, **AS_THEY_COME}.items():
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            theirs = _cuda_result(call, [torch.empty(s, dtype=dtype, device="cuda:0") for s in shapes])
        if theirs is None:
            continue
        compared += 1
        if theirs != result(call, *shapes, dtype=dtype):
            different.append((name, theirs))
    assert different == []
    assert compared >= 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_real_cuda_step_has_the_products_of_the_fake_one(name: str) -> None:
    """Kind, phase, type, shape, launches and FLOPs of matrix work, and the number of casts, agree with the card."""
    build, make, _ = MODELS[name]

    def trace(device: str) -> StepTrace:
        fake = FakeTensorMode() if device == "cpu" else nullcontext()
        with fake, torch.device(device):
            model, batch = build(), make()
            with StepTrace(model, cuda_autocast_dtype=HALF if device == "cpu" else None) as trace:
                with torch.autocast("cuda", HALF) if device == "cuda" else nullcontext():
                    out = model(batch)
                    rows = out.reshape(-1, out.shape[-1])
                    loss = F.cross_entropy(rows, torch.zeros(rows.shape[0], dtype=torch.long))
                loss.backward()
        return trace

    real, fake = trace("cuda").operations(), trace("cpu").operations()
    kinds = ("matmul", "convolution", "attention", "recurrent")
    assert {(o.kind, o.phase, o.dtype, o.shape, o.launches, o.flops) for o in real if o.kind in kinds} == {
        (o.kind, o.phase, o.dtype, o.shape, o.launches, o.flops) for o in fake if o.kind in kinds
    }
    counts = [sum(o.launches for o in ops if o.name == "aten._to_copy") for ops in (real, fake)]
    assert counts[0] == counts[1]


def test_a_step_that_is_not_recorded_runs_alike() -> None:
    """The first step makes the optimizer's state: it casts as the recorded one does, and leaves no operations."""
    found = []
    for recording in (True, False):
        with FakeTensorMode():
            model, x = nn.Linear(4, 4), torch.randn(2, 4)
            optimizer = torch.optim.AdamW(model.parameters())
            with StepTrace(model, [optimizer], cuda_autocast_dtype=HALF, recording=recording) as trace:
                out = F.scaled_dot_product_attention(*(model(x)[None] for _ in range(3)))
                out.sum().backward()
                optimizer.step()
        assert trace.fault is None
        found.append((out.dtype, trace.optimizer_facts(), bool(trace.operations()), bool(trace.modules())))
    assert found == [(HALF, found[0][1], True, True), (HALF, found[0][1], False, False)]
    assert found[0][1].state_bytes > 0


def test_a_real_step_keeps_what_autocast_casts_attention_to() -> None:
    """Rotary embeddings leave queries and keys in fp32; autograd keeps their casts, as it does on fake tensors."""

    class Attention(nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            queries = tokens.view(2, 3, 8, 16) * 2
            return F.scaled_dot_product_attention(queries, queries + 1, queries + 2, is_causal=True)

    with torch.autocast("cpu", HALF), StepTrace(nn.Module()) as real:
        Attention()(torch.ones(2, 3, 128, requires_grad=True)).sum()
    with FakeTensorMode():
        tokens = torch.ones(2, 3, 128, requires_grad=True)
        with StepTrace(nn.Module(), cuda_autocast_dtype=HALF) as fake:
            Attention()(tokens).sum()
    assert real.memory().saved_activation_bytes == fake.memory().saved_activation_bytes > 0
    types = [[g.dtype for g in trace.operations() if g.kind == "attention"] for trace in (real, fake)]
    assert types == [["bf16"], ["bf16"]]
