"""Manual optimization before launch: the trace goes on until every optimizer has stepped."""

from __future__ import annotations

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from builders.lightning_modules import Critic
from trainfare import TrainingJob, trace_job
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import JobProfile

WIDTH = 16
LINEAR = 2 * 4 * WIDTH * WIDTH
"""FLOPs of a linear layer for 4 samples: forward, and each of the two products of backward."""


class Accumulates(pl.LightningModule):
    """Steps its optimizer in every fourth batch."""

    def __init__(self, every: int = 4) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer, self.every = nn.Linear(WIDTH, WIDTH), every

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        self.manual_backward(self.layer(batch).square().mean())
        if (batch_idx + 1) % self.every == 0:
            optimizer: Any = self.optimizers()
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters())


def trace_module(module: Any, **changes: Any) -> JobProfile:
    job = {"batch": torch.ones(4, WIDTH), "batch_size": 4, "precision": "32-true", "max_epochs": 2}
    return trace_job(TrainingJob(module=module, **{**job, "train_samples": 160, **changes}))


def count_updated_bytes(profile: JobProfile) -> int:
    return sum(group.bytes_moved for group in profile.operations if group.phase == "optimizer")


@pytest.mark.parametrize("every", [1, 4, 32])
def test_accumulation_is_traced_up_to_its_step(every: int) -> None:
    """State and update of the optimizer are there; a step has the batches, samples and FLOPs of its accumulation."""
    profile = trace_module(lambda: Accumulates(every))
    parameters = WIDTH * WIDTH + WIDTH
    assert profile.optimizer.state_bytes == 2 * 4 * parameters + 2 * 4
    assert count_updated_bytes(profile) == count_updated_bytes(trace_module(lambda: Accumulates(1))) > 0
    assert profile.step_flops == every * 2 * LINEAR
    assert profile.batch.samples_per_step == 4 * every
    assert profile.parallel.accumulate_grad_batches == every
    assert profile.plan.optimizer_steps == 2 * -(-40 // every)
    assert profile.work_note is None


@pytest.mark.parametrize("offset", [0, 2, 4])
def test_a_generator_that_steps_rarely_is_added_by_its_share(offset: int) -> None:
    """FLOPs, state and update of both; max_steps counts the steps of both, and the report says what a step is."""
    profile = trace_module(lambda: Critic(5, offset))
    assert profile.step_flops == pytest.approx((1 + 1 / 5) * 2 * LINEAR, abs=2)
    parameters = WIDTH * WIDTH + WIDTH
    assert profile.optimizer.state_bytes == 2 * (2 * 4 * parameters + 2 * 4)
    both = trace_module(lambda: Critic(1))
    assert count_updated_bytes(profile) == pytest.approx(
        0.8 * count_updated_bytes(both) / 2 + 0.2 * count_updated_bytes(both), rel=1e-3
    )
    assert profile.plan.optimizer_steps == 80
    assert profile.batch.samples_per_step == 4
    assert "optimizer 2 in 80 %" in str(profile.work_note)
    assert "optimizers 1 and 2 in 20 %" in str(profile.work_note) or "2 and 1 in 20 %" in str(
        profile.work_note
    )
    assert trace_module(lambda: Critic(5, offset), max_epochs=None, max_steps=120).plan.optimizer_steps == 100


def test_an_optimizer_that_never_steps_is_named() -> None:
    """What is not seen within the bound is said beside the FLOPs; its state is counted all the same."""
    profile = trace_module(lambda: Critic(10**6, 40))
    assert profile.step_flops == 2 * LINEAR
    assert "Adam never stepped in the traced batches: its part is left out" in str(profile.work_note)
    assert profile.optimizer.state_bytes == trace_module(lambda: Critic(1)).optimizer.state_bytes


def test_no_step_at_all_is_refused() -> None:
    """Memory without the optimizer's state would be too small, so there is no answer."""
    with pytest.raises(TraceError, match="no optimizer stepped in 33 calls of training_step at") as raised:
        trace_module(lambda: Accumulates(1000))
    line = Accumulates.training_step.__code__.co_firstlineno
    assert f" at test_manual_steps.py:{line}: the Trainer counts a step where " in str(raised.value)
    assert "call it there" in str(raised.value)


class Alternates(Critic):
    """Generator and critic take turns."""

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        generator, critic = self.optimizers()  # type: ignore[misc]
        if batch_idx % 2:
            self.update(critic, self.critic(batch))
        else:
            self.update(generator, self.generator(batch).relu() @ batch.T)


def test_optimizers_that_take_turns_have_halves() -> None:
    """Half of the steps are of each."""
    profile = trace_module(Alternates)
    generator = 2 * LINEAR + 2 * (2 * 4 * 4 * WIDTH)
    assert profile.step_flops == pytest.approx((2 * LINEAR + generator) / 2, abs=2)
    assert profile.plan.optimizer_steps == 80
