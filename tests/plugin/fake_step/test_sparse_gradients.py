"""Gradients of `nn.Embedding` and `nn.EmbeddingBag` with `sparse=True`: sparse tensors with the rows of the batch, on fake tensors too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from builders.jobs import BATCH, WIDTH, Tiny, by_key, job, real_operations, tiny_batch
from builders.lightning_modules import update_by
from builders.plans import predict_one
from trainfare.fake_step import trace_job
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.roofline.operations import Operations

ROWS = 1000
BAG = 3
ROW_BYTES = WIDTH * 4 + 8
"""A row of the gradient, and its number."""


class Looked(Tiny):
    """A table of a thousand rows; `sparse` decides the type of its gradient."""

    sparse = True
    configure_optimizers = update_by(torch.optim.SGD, lr=0.1)

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, WIDTH, sparse=self.sparse)

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        rows = torch.arange(len(batch), device=batch.device)
        return self.layer(batch + self.table(rows)).square().mean()


class Adagrad(Looked):
    configure_optimizers = update_by(torch.optim.Adagrad, lr=0.1)


class SparseAdam(Looked):
    def configure_optimizers(self) -> Any:
        self.layer.requires_grad_(False)
        return torch.optim.SparseAdam(self.table.parameters(), lr=0.1)


class Bags(Looked):
    """Each sample adds up three rows of the table."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Any = nn.EmbeddingBag(ROWS, WIDTH, mode="sum", sparse=self.sparse)

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        rows = torch.arange(BAG * len(batch), device=batch.device)
        found = self.table(rows, rows[::BAG].contiguous())
        return self.layer(batch + found).square().mean()


class DenseBags(Bags):
    sparse = False


class AdagradBags(Bags):
    configure_optimizers = update_by(torch.optim.Adagrad, lr=0.1)


def count_updated_bytes(profile: JobProfile, ratio: float) -> float:
    """Return the bytes of the rows that the update changes, at a multiple of the batch."""
    operations = Operations.of(profile)
    of_rows = [group.kind == "indexing" and group.phase == "optimizer" for group in operations.groups]
    return float(operations.bytes_at(ratio)[of_rows].sum())


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of Adagrad itself, in any training
@pytest.mark.parametrize("model", [Looked, Adagrad, SparseAdam, Bags, AdagradBags, DenseBags])
def test_fake_and_real_sparse_gradients_agree_operation_by_operation(model: Any) -> None:
    """The fake kernels of torch lose every row of a sparse tensor that they copy, coalesce or mask."""
    real = by_key(real_operations(model(), tiny_batch()))
    assert by_key(trace_job(job(model)).operations) == real
    indexed = any(kind == "indexing" and moved > 0 for (kind, *_), (_, _, moved, _) in real.items())
    assert indexed == model.sparse


def test_a_sparse_gradient_is_the_rows_of_a_batch_and_is_not_copied() -> None:
    """Backward makes it of the gradient of the rows, the update reads it and changes as many rows of the table."""
    profile = trace_job(job(Looked))
    layer = WIDTH * WIDTH + WIDTH
    assert profile.memory.gradient_bytes == 4 * layer + BATCH * ROW_BYTES
    (update,) = (moment for moment in profile.memory.moments if moment.phase == "optimizer")
    assert update.activation_bytes >= BATCH * WIDTH * 4, "the rows are there until the update"
    (group,) = (group for group in profile.operations if "sparse" in group.name)
    assert (group.phase, group.kind, group.bytes_moved) == ("backward", "copy", 0)
    assert not [group for group in profile.operations if group.name == "aten.clone"]
    (added,) = (group for group in profile.operations if group.name == "aten.add_")
    assert (added.bytes_read, added.bytes_written) == (2 * BATCH * ROW_BYTES, BATCH * ROW_BYTES)


def test_more_samples_update_more_rows_and_the_same_weights() -> None:
    """The table's rows grow with the micro-batch; dense weights are updated once, whatever the batch."""
    profile = trace_job(job(Looked))
    once = count_updated_bytes(profile, 1.0)
    assert once == 3 * BATCH * ROW_BYTES
    assert count_updated_bytes(profile, 4.0) == 4 * once
    dense = [group for group in profile.operations if group.kind == "optimizer"]
    operations = Operations.of_groups(tuple(dense))
    assert operations.bytes_at(4.0).sum() == operations.bytes_at(1.0).sum() > 0


def test_bags_read_a_row_for_each_index_and_their_gradient_has_as_many() -> None:
    """Three rows a sample are read and updated, whatever the one that is returned."""
    profile = trace_job(job(Bags))
    (looked,) = (group for group in profile.operations if group.name == "aten._embedding_bag")
    rows, indices, starts = BAG * BATCH, 8 * BAG * BATCH, 8 * BATCH
    assert looked.bytes_read == rows * WIDTH * 4 + indices + starts
    assert profile.memory.gradient_bytes == 4 * (WIDTH * WIDTH + WIDTH) + rows * ROW_BYTES
    (update,) = (moment for moment in profile.memory.moments if moment.phase == "optimizer")
    assert update.activation_bytes >= rows * WIDTH * 4, "the rows are there until the update"
    assert count_updated_bytes(profile, 1.0) == 3 * rows * ROW_BYTES


@pytest.mark.parametrize("model", [Looked, Bags])
def test_a_larger_batch_moves_what_its_own_trace_says(model: Any) -> None:
    def move_products(samples: int, ratio: float) -> dict[str, float]:
        training_job = job(model, lambda: torch.ones(samples, WIDTH), batch_size=samples)
        operations = Operations.of(trace_job(training_job))
        found = zip(operations.groups, operations.bytes_at(ratio), strict=True)
        return {f"{group.phase} {group.name}": moved for group, moved in found if "mbedding" in group.name}

    assert move_products(BATCH, 4.0) == move_products(4 * BATCH, 1.0)


@pytest.mark.parametrize("model", [Looked, Bags])
def test_sparse_gradients_have_an_answer_on_one_device_alone(model: Any) -> None:
    """NCCL adds up no sparse tensors: such a run ends with an error on two GPUs, and a plan for it is none."""

    class Dense(model):
        sparse = False

    sparse, dense = (trace_job(job(module)) for module in (model, Dense))
    assert sparse.memory.gradient_bytes < dense.memory.gradient_bytes / 10
    assert predict_one(sparse, "A100-SXM-80GB").unknown_because[0] == ""
    for sharding in ("ddp", "fsdp"):
        refused = predict_one(sparse, "A100-SXM-80GB", count=2, sharding=sharding).unknown_because[0]
        assert "without sparse=True" in refused
        assert predict_one(dense, "A100-SXM-80GB", count=2, sharding=sharding).unknown_because[0] == ""
