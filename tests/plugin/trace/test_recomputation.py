"""Activation checkpointing in every form runs forward again, counted by hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import CheckpointImpl, checkpoint_wrapper
from torch.nn import functional as F
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from trainfare.trace import StepTrace
from trainfare_core.job_profile import OperationGroup

ROWS, WIDTH = 32, 64
PRODUCT = 2 * ROWS * WIDTH * WIDTH
"""FLOPs of one linear layer in forward."""


class _Product(torch.autograd.Function):
    """A matrix product without grad mode, as every `autograd.Function` runs its forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return grads[0] @ weight.T, x.T @ grads[0]


class _Custom(nn.Module):
    """A linear layer as a custom function, then a product under `no_grad`, then dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = cast("Any", _Product).apply(x.flatten(0, 1), self.weight)
        with torch.no_grad():
            scale = (x @ self.weight).sum()
        return cast("Tensor", self.dropout(x * scale))


class _Attention(nn.Module):
    """One projection for query, key and value of two heads; the block ends in attention, or in dropout after it."""

    def __init__(self, *, dropout: bool) -> None:
        super().__init__()
        self.project, self.dropout = nn.Linear(WIDTH, WIDTH), nn.Dropout(0.1 if dropout else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.project(x).view(1, ROWS, 2, WIDTH // 2).transpose(1, 2)
        out = F.scaled_dot_product_attention(heads, heads, heads)
        return out if not self.dropout.p else cast("Tensor", self.dropout(out))


def _linear(*ending: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), *ending)


ATTENTION = 2 * 2 * ROWS * ROWS * WIDTH
BLOCKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "dropout": (lambda: _linear(nn.Dropout(0.1)), 2 * PRODUCT),
    "RMS norm": (lambda: _linear(nn.RMSNorm(WIDTH)), 2 * PRODUCT),
    "layer norm": (lambda: _linear(nn.LayerNorm(WIDTH)), 2 * PRODUCT),
    "dropout inside": (lambda: _linear(nn.Dropout(0.1), nn.Linear(WIDTH, WIDTH), nn.ReLU()), 3 * PRODUCT),
    "attention": (lambda: _Attention(dropout=False), PRODUCT + ATTENTION),
    "attention, dropout": (lambda: _Attention(dropout=True), PRODUCT + ATTENTION),
    "custom function": (_Custom, 2 * PRODUCT),
    "encoder layer": (
        lambda: nn.TransformerEncoderLayer(WIDTH, 2, WIDTH, dropout=0.1, norm_first=True, batch_first=True),
        6 * PRODUCT + ATTENTION,
    ),
}
"""A block, and the FLOPs of its forward."""

_NAMED = {"reentrant": CheckpointImpl.REENTRANT, "non-reentrant": CheckpointImpl.NO_REENTRANT}


def _checkpoint_block(block: nn.Module, how: str, source: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the block under a checkpoint; `source` needs a gradient where it is reentrant."""
    if how in _NAMED:
        return functools.partial(checkpoint, block, use_reentrant=how == "reentrant")
    if how.startswith("wrapper"):
        return cast("Any", checkpoint_wrapper)(block, checkpoint_impl=_NAMED[how.removeprefix("wrapper, ")])
    raise AssertionError(how)


def _trace_small(
    run: Callable[[Tensor], Tensor], module: nn.Module, source: Tensor
) -> tuple[OperationGroup, ...]:
    with StepTrace(module) as trace:
        run(source).sum().backward()
    assert trace.fault is None
    return trace.operations()


def _flops(operations: tuple[OperationGroup, ...], *, recomputed: bool) -> int:
    return sum(o.flops for o in operations if o.recomputed == recomputed)


@pytest.mark.filterwarnings("ignore:Please specify CheckpointImpl.NO_REENTRANT:FutureWarning")
@pytest.mark.parametrize("tensors", ["real", "fake"])
@pytest.mark.parametrize(
    "how", ["reentrant", "non-reentrant", "wrapper, reentrant", "wrapper, non-reentrant"]
)
@pytest.mark.parametrize("which", BLOCKS)
def test_the_second_forward_is_counted_whatever_the_block_ends_in(which: str, how: str, tensors: str) -> None:
    """A block that ends in a fused call is recomputed under that call's autograd node (it was swallowed: -20 % of GPT-2)."""
    make, forward_flops = BLOCKS[which]
    with FakeTensorMode() if tensors == "fake" else torch.enable_grad():
        block = make()
        source = torch.randn(1, ROWS, WIDTH, requires_grad=True)
        plain = _trace_small(block, block, source)
        again = _trace_small(_checkpoint_block(block, how, source), block, source)
    assert sum(o.flops for o in plain if o.phase == "forward") == forward_flops
    assert _flops(again, recomputed=False) == sum(o.flops for o in plain)
    assert _flops(again, recomputed=True) == forward_flops
    fused = {o.name: o.launches for o in plain if o.phase == "forward" and o.kind != "elementwise"}
    ran_again = {o.name: o.launches for o in again if o.recomputed and o.kind != "elementwise"}
    kinds = ("dropout", "rms_norm", "addmm", "attention")
    for name, launches in fused.items():
        if any(kind in name for kind in kinds):
            assert ran_again[name] == launches


def test_a_selective_checkpoint_runs_again_what_its_policy_does_not_keep() -> None:
    """Kept products are not run again; everything else of the block is."""

    def policy(_context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
        keep = operation is torch.ops.aten.mm.default
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE

    block = nn.Sequential(
        nn.Linear(WIDTH, WIDTH, bias=False), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Dropout(0.1)
    )
    contexts = functools.partial(create_selective_checkpoint_contexts, policy)
    source = torch.randn(ROWS, WIDTH, requires_grad=True)

    def run(x: Tensor) -> Tensor:
        return cast("Any", checkpoint)(block, x, use_reentrant=False, context_fn=contexts)

    again = _trace_small(run, block, source)
    assert _flops(again, recomputed=True) == PRODUCT
    assert {o.name for o in again if o.recomputed and o.flops} == {"aten.addmm"}


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_hugging_face_model_that_recomputes_its_layers(reentrant: bool) -> None:
    """GPT-2's layers end in dropout: all their products run again, embeddings and output layer do not."""
    transformers: Any = pytest.importorskip("transformers")
    layers, width, tokens = 2, 32, 16
    config = transformers.GPT2Config(
        n_layer=layers,
        n_embd=width,
        n_head=2,
        vocab_size=64,
        n_positions=tokens,
        bos_token_id=0,
        eos_token_id=0,
    )
    model: Any = transformers.GPT2LMHeadModel(config).train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    ids = torch.zeros(2, tokens, dtype=torch.long)
    operations = _trace_small(lambda _: model(ids, labels=ids, use_cache=False).loss, model, ids)
    products = 2 * 2 * tokens * 12 * width**2
    attention = 2 * 2 * 2 * tokens * tokens * width
    assert _flops(operations, recomputed=True) == layers * (products + attention)
