"""A step on fake tensors may read what does not depend on the weights; the batch may be made by anything, in any form."""

from __future__ import annotations

import dataclasses
import functools
from collections import UserDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, distributions, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from builders.jobs import BATCH, WIDTH, Tiny, job, tiny_batch, with_step
from builders.versions import is_before
from trainfare.fake_step import trace_job
from trainfare.job import is_builder
from trainfare_core.errors import TraceError

POSITIVE_ROWS = 3
"""Of the batch below."""
LINEAR = 2 * 2 * WIDTH * WIDTH
"""FLOPs of the linear layer for one row, forward and the weight's gradient: the batch needs none."""


def make_signed_batch() -> Tensor:
    batch = torch.ones(BATCH, WIDTH)
    batch[POSITIVE_ROWS:] = -1
    return batch


def _rows_by_mask(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    return self.layer(batch[batch.sum(1) > 0]).mean()


def _rows_by_nonzero(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    return self.layer(batch[torch.nonzero(batch[:, 0] > 0, as_tuple=True)]).mean()


def _rows_by_selection(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    return self.layer(batch.masked_select(batch > 0).view(-1, WIDTH)).mean()


def _rows_by_unique(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    count = int(torch.unique(batch).numel()) + 1
    return self.layer(batch[:count]).mean()


def _rows_by_list(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    return self.layer(batch[[row[0] > 0 for row in batch.tolist()]]).mean()


def _rows_by_numpy(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    count = int((batch.numpy()[:, 0] > 0).sum())
    return self.layer(batch[:count]).mean()


def _rows_by_buffer(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    return self.layer(batch[self.kept]).mean()


def _rows_after_writing(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    marked = torch.zeros(BATCH)
    marked[:POSITIVE_ROWS] = 1
    return self.layer(batch[marked.bool()]).mean()


@pytest.mark.parametrize(
    "step",
    [
        _rows_by_mask,
        _rows_by_nonzero,
        _rows_by_selection,
        _rows_by_unique,
        _rows_by_list,
        _rows_by_numpy,
        _rows_after_writing,
    ],
)
def test_shapes_that_depend_on_the_batch_are_those_of_the_batch(step: Callable[..., Any]) -> None:
    """The layer runs on the three rows that the step selects, and the profile names the line that looks at the batch."""
    profile = trace_job(job(with_step(step), make_signed_batch()))
    assert profile.source.how == "fake"
    assert profile.step_flops == POSITIVE_ROWS * LINEAR
    reads = [note for note in profile.notes if "values of the batch" in note]
    assert bool(reads) == (step is not _rows_after_writing)
    assert all(f"{__name__.rpartition('.')[2]}.py" in note and step.__name__ in note for note in reads)


def test_a_result_selected_by_a_known_mask_has_its_backward() -> None:
    """Only the operands' shapes are needed: the selected value may depend on the weights."""

    def step(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch)[batch > 0].mean() + self.layer(batch).masked_select(batch > 0).mean()

    assert trace_job(job(with_step(step), make_signed_batch())).step_flops == 2 * BATCH * LINEAR


def test_a_buffer_is_known() -> None:
    """A mask that the module holds decides as it does in training."""

    class Masked(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kept", torch.arange(BATCH) < POSITIVE_ROWS)

        def training_step(self, batch: Tensor, batch_idx: int) -> Any:
            return _rows_by_buffer(self, batch, batch_idx)

    live = Masked()
    for module in (Masked, live):
        assert trace_job(job(module, tiny_batch)).step_flops == POSITIVE_ROWS * LINEAR
    assert torch.equal(live.kept, torch.arange(BATCH) < POSITIVE_ROWS)


def test_what_an_unknown_value_was_written_to_is_unknown() -> None:
    """A copy of the batch into which a prediction is written depends on the weights, and so does a view of it."""

    def step(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
        copied = batch.clone()
        first = copied[0]
        copied[:, 0] = self.layer(batch)[:, 0].detach()
        return self.layer(batch).mean() * (1 if first.sum() > 0 else 2)

    with pytest.raises(TraceError, match="needs the values of a tensor"):
        trace_job(job(with_step(step), tiny_batch), real=None)


def test_the_batch_of_the_user_is_not_written_to() -> None:
    """A step that works in place does so on the trace's copy."""
    batch = make_signed_batch()

    def step(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch.clamp_(min=0)).mean() * batch.sum().item()

    trace_job(job(with_step(step), batch))
    assert torch.equal(batch, make_signed_batch())


def _guards(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    loss: Tensor = self.layer(batch).mean()
    assert torch.isfinite(loss)
    assert torch.isfinite(self.layer.weight).all()
    if torch.isnan(loss) or loss.isinf().any():
        raise ValueError("not finite")
    return loss


def _autoencoder(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    out = self.layer(batch)
    posterior = distributions.Normal(out, out.exp())
    prior = distributions.Normal(torch.zeros_like(out), torch.ones_like(out))
    return distributions.kl_divergence(posterior, prior).mean() - posterior.log_prob(batch).mean()


def _prints(self: Any, batch: Tensor, batch_idx: int) -> Tensor:
    loss: Tensor = self.layer(batch).mean()
    self.print(f"{loss:.3f}")
    return loss


@pytest.mark.parametrize("step", [_guards, _autoencoder, _prints])
def test_questions_with_one_answer_in_a_run_that_goes_on(step: Callable[..., Any]) -> None:
    """A loss is finite, the arguments of a distribution are valid, and a formatted loss is only printed."""
    profile = trace_job(job(with_step(step), tiny_batch))
    assert profile.source.how == "fake"
    assert profile.step_flops >= BATCH * LINEAR


@pytest.mark.parametrize("spelling", ["torch's", "own", "none"])
def test_the_causal_mask_of_a_transformer_is_recognised(spelling: str) -> None:
    """`nn.Transformer` compares a mask with the causal one: attention is causal, and needs no mask, where they agree."""

    class Decoder(Tiny):
        def __init__(self) -> None:
            super().__init__()
            block = nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True)
            self.blocks = nn.TransformerEncoder(block, 1)

        def training_step(self, batch: Tensor, batch_idx: int) -> Any:
            mask = {
                "torch's": nn.Transformer.generate_square_subsequent_mask(BATCH),
                "own": torch.triu(torch.full((BATCH, BATCH), float("-inf")), diagonal=1),
                "none": torch.zeros(BATCH, BATCH),
            }[spelling]
            return self.blocks(batch[None], mask=mask).mean()

    profile = trace_job(job(Decoder, tiny_batch))
    (attention,) = [o for o in profile.operations if o.kind == "attention" and o.phase == "forward"]
    assert attention.shape[-1] == (spelling != "none")


# ---- batches


@dataclasses.dataclass
class Sample:
    """A batch as anomalib's: a dataclass."""

    image: Tensor
    name: str


class Encoding(UserDict[str, Tensor]):
    """A batch as a tokenizer's BatchEncoding: no dict, but like one."""


class Graph:
    """A batch as PyTorch Geometric's: an object with tensors that can be called."""

    def __init__(self) -> None:
        self.x = make_signed_batch()

    def __call__(self, *names: str) -> Any:
        return ((name, getattr(self, name)) for name in names)


@pytest.mark.parametrize(
    ("batch", "read"),
    [
        (lambda: next(iter(DataLoader(make_signed_batch(), batch_size=BATCH))), lambda batch: batch),  # type: ignore[arg-type]
        (functools.partial(torch.ones, BATCH, WIDTH), lambda batch: batch),
        (Sample(make_signed_batch(), "one"), lambda batch: batch.image),
        (Encoding(input=make_signed_batch()), lambda batch: batch["input"]),
        ({"nested": [(make_signed_batch(), "name")]}, lambda batch: batch["nested"][0][0]),
        (Graph(), lambda batch: batch.x),
        (Graph, lambda batch: batch.x),
    ],
    ids=["loader", "partial", "dataclass", "encoding", "nested", "graph", "graph class"],
)
def test_a_batch_may_have_any_form(batch: Any, read: Callable[[Any], Tensor]) -> None:
    """A loader's own batch, dataclasses, mappings and objects: their tensors are found and their size is checked."""
    step = with_step(lambda self, batch, batch_idx: self.layer(read(batch)).mean())
    profile = trace_job(job(step, batch))
    assert profile.step_flops == BATCH * LINEAR
    assert profile.memory.input_bytes == BATCH * WIDTH * 4
    with pytest.raises(Exception, match="batch_size is 5, and the batch holds 4"):
        trace_job(job(step, batch, batch_size=5))


def test_a_jagged_batch_is_traced_with_its_lengths() -> None:
    """A nested tensor of three rows runs the layer on the sum of their lengths."""
    batch = torch.nested.nested_tensor(
        [torch.ones(length, WIDTH) for length in (2, 3, 5)], layout=torch.jagged
    )
    step = with_step(lambda self, batch, batch_idx: self.layer(batch).values().mean())
    # torch 2.5 computes the gradient of a nested input that needs none: three products for two.
    products = 3 if is_before("torch", "2.6") else 2
    assert trace_job(job(step, batch, batch_size=3)).step_flops == 10 * LINEAR * products / 2


def test_a_batch_too_large_for_this_machine_is_made_of_fake_tensors() -> None:
    """A builder that cannot have its memory runs again on fake tensors: 256 TiB here."""
    step = with_step(lambda self, batch, batch_idx: self.layer(batch[:, :WIDTH]).mean())
    profile = trace_job(job(step, lambda: torch.ones(BATCH, 2**44)))
    assert profile.step_flops == BATCH * LINEAR
    assert profile.memory.input_bytes == BATCH * 2**46


def test_what_is_a_builder() -> None:
    """Functions, methods, classes and partials build; other objects that can be called do not."""
    for value in (tiny_batch, Tiny, functools.partial(Tiny), "x".upper, functools.cache(tiny_batch), len):
        assert is_builder(value)
    for value in (Graph(), Tiny(), F, torch.ones(1), {"a": 1}):
        assert not is_builder(value)
