"""Linear attention and scans written in torch: all work is counted, before launch as in a run, and loops are named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from builders.jobs import job
from trainfare import trace_job
from trainfare.trace import StepTrace
from trainfare.trace.module_work import LOOPED
from trainfare_core.job_profile import JobProfile, OperationGroup

BATCH, HEADS, HEAD, CHUNK, WIDTH = 2, 2, 8, 16, 12


class Job(nn.Module):
    """A module that a Trainer could train; its `forward` takes what a loader gives."""

    def training_step(self, batch: torch.Tensor, _index: int) -> torch.Tensor:
        loss: torch.Tensor = self(batch).sum()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class DeltaRule(Job):
    """The gated delta rule, chunk by chunk (Yang et al. 2024, arXiv 2412.06464), as a user may write it."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(WIDTH, HEADS * 3 * HEAD, bias=False)
        self.gates = nn.Linear(WIDTH, 2 * HEADS, bias=False)
        self.out = nn.Linear(HEADS * HEAD, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = self.into(x).view(len(x), -1, CHUNK, HEADS, 3 * HEAD).permute(0, 3, 1, 2, 4)
        q, k, v = mixed.chunk(3, dim=-1)
        strength, decay = self.gates(x).view(len(x), -1, CHUNK, 2 * HEADS).permute(0, 3, 1, 2).chunk(2, dim=1)
        decay = F.logsigmoid(decay).cumsum(-1)
        strength = torch.sigmoid(strength)[..., None]
        within = torch.tril((decay[..., :, None] - decay[..., None, :]).exp())
        system = (strength * k) @ k.transpose(-1, -2) * within
        values, reads = (
            torch.linalg.solve_triangular(system, strength * right, upper=False, unitriangular=True)
            for right in (v, k * decay.exp()[..., None])
        )
        out, state = torch.empty_like(v), x.new_zeros(len(x), HEADS, HEAD, HEAD)
        for i in range(v.shape[2]):
            fresh = values[:, :, i] - reads[:, :, i] @ state
            scores = torch.einsum("bhik,bhjk->bhij", q[:, :, i], k[:, :, i]) * within[:, :, i]
            out[:, :, i] = scores @ fresh + q[:, :, i] @ state
            state = state * decay[:, :, i, -1:, None].exp() + k[:, :, i].transpose(-1, -2) @ fresh
        y: torch.Tensor = self.out(out.flatten(2, 3).transpose(1, 2).flatten(2))
        return y


def _words(kind: str, **sizes: Any) -> Callable[[], nn.Module]:
    """Return a builder of a small model of transformers over 64 words."""

    class Model(Job):
        def __init__(self) -> None:
            super().__init__()
            transformers: Any = pytest.importorskip("transformers")
            if not hasattr(transformers, kind):
                pytest.skip(f"this release of transformers has no {kind}")
            made = getattr(transformers, kind)
            shared = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "use_cache": False}
            self.model = made(made.config_class(**{**shared, **sizes})).train()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            loss: torch.Tensor = self.model(input_ids=x, labels=x).loss
            return loss

    return Model


_DELTA = {
    "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 1, "linear_num_value_heads": 2,
    "layer_types": ["linear_attention"],
}  # fmt: skip
MODELS = {
    "by hand": DeltaRule,
    "Qwen3-Next": _words("Qwen3NextForCausalLM", **_DELTA, mlp_only_layers=[0]),
    "Qwen3.5": _words("Qwen3_5ForCausalLM", **_DELTA),
    "LFM2": _words(
        "Lfm2ForCausalLM", intermediate_size=32, num_attention_heads=2, num_key_value_heads=1,
        layer_types=["conv"], block_auto_adjust_ff_dim=False,
    ),
    "Mamba-2": _words("Mamba2ForCausalLM", head_dim=8, num_heads=4, state_size=8, n_groups=1, chunk_size=16),
    "Falcon Mamba": _words("FalconMambaForCausalLM", state_size=8),
}  # fmt: skip


def _batch(build: Callable[[], nn.Module], tokens: int) -> torch.Tensor:
    return (
        torch.randn(BATCH, tokens, WIDTH)
        if build is DeltaRule
        else torch.zeros(BATCH, tokens, dtype=torch.long)
    )


def before_launch(build: Callable[[], nn.Module], tokens: int) -> JobProfile:
    return trace_job(job(build, lambda: _batch(build, tokens), BATCH, max_steps=1), real=None)


def in_a_run(module: nn.Module, batch: torch.Tensor) -> StepTrace:
    """Trace forward and backward on real tensors; a Trainer divides the loss by the number of passes."""
    with StepTrace(module) as trace:
        (module(batch).sum() / 1).backward()
    assert trace.fault is None
    return trace


def _work(operations: Sequence[OperationGroup]) -> dict[tuple[str, str], tuple[int, int]]:
    texts_by_key: dict[tuple[str, str], tuple[int, int]] = {}
    for group in operations:
        flops, launches = texts_by_key.get((group.phase, group.name), (0, 0))
        texts_by_key[group.phase, group.name] = flops + group.flops, launches + group.launches
    return texts_by_key


# Models of transformers say that they run without a library's kernels, which is what is traced.
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_fake_and_real_tensors_have_the_same_work_and_none_of_it_is_unknown(name: str) -> None:
    fake = [group for group in before_launch(MODELS[name], 32).operations if group.phase != "optimizer"]
    real = in_a_run(MODELS[name](), _batch(MODELS[name], 32)).operations()
    assert not [group.name for group in (*fake, *real) if group.kind == "unknown"]
    ours, theirs = _work(fake), _work(real)
    # A solution is stored by columns, whose gradient a CPU copies once more; all else is equal.
    copies = {("backward", "aten.clone")}
    assert {key: ours[key] for key in ours if key not in copies} == {
        key: theirs[key] for key in theirs if key not in copies
    }
    moved = [sum(group.bytes_moved for group in groups) for groups in (fake, real)]
    assert moved[0] == pytest.approx(moved[1], rel=0.01)


def test_the_delta_rule_is_counted_to_the_digit() -> None:
    tokens, chunks = 48, 3
    forward = [group for group in before_launch(DeltaRule, tokens).operations if group.phase == "forward"]
    linear = 2 * BATCH * tokens * WIDTH * (HEADS * 3 * HEAD + 2 * HEADS + HEADS * HEAD)
    pairs, state = CHUNK * CHUNK * HEAD, CHUNK * HEAD * HEAD
    # Products of keys, scores and their values; both systems, each n^2 a column; what reads and writes the state.
    rule = BATCH * HEADS * chunks * (3 * 2 * pairs + 2 * pairs + 3 * 2 * state)
    assert sum(group.flops for group in forward) == linear + rule


@pytest.mark.parametrize("left", [True, False])
def test_a_triangular_system_counts_the_square_of_its_size_for_each_column(left: bool) -> None:
    system = torch.eye(8).expand(3, 8, 8).contiguous()
    columns = torch.randn(3, 8, 5) if left else torch.randn(3, 5, 8)
    with StepTrace(nn.Module()) as trace:
        torch.linalg.solve_triangular(system, columns, upper=False, left=left)
    (group,) = [operation for operation in trace.operations() if "triangular" in operation.name]
    assert (group.kind, group.shape, group.flops) == ("matmul", (3, 8, 5, 8), 3 * 5 * 8**2)


def test_a_loop_over_chunks_is_named_and_layers_are_not() -> None:
    def loops(tokens: int) -> list[str]:
        return [note for note in before_launch(DeltaRule, tokens).notes if "as a loop does" in note]

    (note,) = loops(LOOPED * CHUNK)
    assert note.startswith("one call launches an operation up to")
    assert not loops(4 * CHUNK)
    blocks = nn.Sequential(*(DeltaRule() for _ in range(2)))
    (note,) = in_a_run(blocks, torch.randn(1, LOOPED * CHUNK, WIDTH)).notes
    assert note.endswith(": *")
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(LOOPED)))
    assert not in_a_run(layers, torch.randn(4, WIDTH)).notes


def test_a_loop_outside_of_all_modules_is_the_steps_own() -> None:
    x = torch.ones(4)
    with StepTrace(nn.Module()) as trace:
        for _ in range(LOOPED):
            x = x * 2
    (note,) = trace.notes
    assert note.endswith("the step itself")
