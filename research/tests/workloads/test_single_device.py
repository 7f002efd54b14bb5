"""The traced step of a described network is that of a run, whatever its first batch leaves in the network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainfare import TrainingJob, trace_job
from trainfare_research.workloads.single_device import StepJob, Supervised, trace_step_job

BATCHES: list[int] = []


class Plain(nn.Module):
    """A network that keeps nothing of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.tables: dict[int, Tensor] = {}

    def forward(self, inputs: Tensor) -> Tensor:
        BATCHES.append(len(inputs))
        return self.layer(inputs).square().mean()


class Keeps(Plain):
    """A network that makes a table in its first batch, and reads it in every later one."""

    def forward(self, inputs: Tensor) -> Tensor:
        if len(inputs) not in self.tables:
            self.tables[len(inputs)] = torch.arange(8.0).cumsum(0)
        return super().forward(inputs + self.tables[len(inputs)])


class Biased(Plain):
    """A network that adds the same table to every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(1, 8))

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs + self.table)


def _inputs(samples: int) -> Tensor:
    return torch.zeros(samples, 8)


@pytest.mark.parametrize("optimizer", ["sgd", "sgd-plain", "adam-fused"])
@pytest.mark.parametrize(("network", "batches"), [(Plain, 1 + 1), (Keeps, 1 + 3 + 15)])
def test_a_step_is_that_of_a_run(network: type[Plain], batches: int, optimizer: str) -> None:
    """
    After the forward of the first batch one runs where that is like every other; else the two that are a run's follow,
    and 15 to compare.
    """
    job = StepJob("key", network, lambda net, inputs: net(inputs), _inputs, 4, "16-mixed", optimizer)
    BATCHES.clear()
    profile = trace_step_job(job)
    assert len(BATCHES) == batches

    whole = trace_job(
        TrainingJob(
            module=lambda: Supervised(job, lambda: None),
            batch=job.batch,
            batch_size=4,
            precision="16-mixed",
            max_steps=1,
        )
    )
    assert profile == whole


def test_one_sample_is_traced_as_two() -> None:
    """So that what all samples share does not grow with them: a sample moves the same bytes from a batch of 1 and of 4."""
    moved: list[list[float]] = []
    for size in (1, 4):
        profile = trace_step_job(
            StepJob("key", Biased, lambda net, inputs: net(inputs), _inputs, size, "32-true", "sgd-plain")
        )
        assert profile.batch.micro_batch_size == max(size, 2)
        moved.append(
            [
                (group.bytes_moved - group.bytes_fixed) / profile.batch.micro_batch_size
                for group in profile.operations
                if group.phase == "forward" and group.name == "aten.add"
            ]
        )
    assert moved[0] == moved[1] != []
