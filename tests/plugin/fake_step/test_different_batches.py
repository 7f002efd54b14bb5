"""Batches that do different work, and optimizers that do more in every k-th step: the mean of several is the profile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from trainfare import TrainingJob, trace_job
from trainfare.fake_step.job_trace import trace_changed
from trainfare.fake_step.random_work import MOST_DRAWS
from trainfare_core.errors import TraceError
from trainfare_core.job_profile import JobProfile

ROWS, WIDTH = 4, 16
PRODUCT = 2 * ROWS * WIDTH * WIDTH
"""FLOPs of one product of a layer."""
EXTRA = 3 * PRODUCT
"""Of a batch that takes the layer twice: its input needs a gradient."""


class Net(LightningModule):
    """Takes its first layer twice in some batches."""

    def __init__(self, layers: int = 1) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(layers))
        )
        self.calls = 0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        x = self.layers(self.first(batch))
        if self.does_more(batch_idx):
            x = self.first(x)
        self.calls += 1
        return x.square().mean()

    def does_more(self, batch_idx: int) -> bool:
        del batch_idx
        return False

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


class EverySecond(Net):
    def does_more(self, batch_idx: int) -> bool:
        return batch_idx % 2 == 0


class LastOfFive(Net):
    def does_more(self, batch_idx: int) -> bool:
        return (batch_idx + 1) % 5 == 0


class EveryThirdStep(Net):
    def does_more(self, batch_idx: int) -> bool:
        del batch_idx
        return self.trainer.global_step % 3 == 0


class EveryFourthCall(Net):
    def does_more(self, batch_idx: int) -> bool:
        del batch_idx
        return self.calls % 4 == 0


class OnlyTheFirst(Net):
    """As a module that fills a cache."""

    def does_more(self, batch_idx: int) -> bool:
        del batch_idx
        return not self.calls


class SecondByHand(EverySecond):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class ReadingEverySecond(EverySecond):
    """Reads a value that depends on the weights, so that it is traced on real tensors."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * 0.5 if loss > 1e6 else loss


def flops(profile: JobProfile) -> int:
    return sum(group.flops for group in profile.operations)


def trace(module: type[Net], **arguments: Any) -> JobProfile:
    made = lambda: module(**arguments)  # noqa: E731
    return trace_job(TrainingJob(made, torch.randn(ROWS, WIDTH), ROWS, max_steps=100))


@pytest.mark.parametrize(
    ("module", "share"),
    [(EverySecond, 1 / 2), (LastOfFive, 1 / 5), (EveryThirdStep, 1 / 3), (EveryFourthCall, 1 / 4), (SecondByHand, 1 / 2), (ReadingEverySecond, 1 / 2)],
)  # fmt: skip
def test_work_of_every_kth_batch_is_counted_by_its_share(module: type[Net], share: float) -> None:
    profile, plain = trace(module), flops(trace(Net))
    assert flops(profile) == pytest.approx(plain + share * EXTRA, rel=0.01)
    variation = profile.batch.variation
    assert variation is not None
    assert (variation.smallest_flops, variation.largest_flops) == (plain, plain + EXTRA)
    assert "which do different work" in str(profile.work_note)


def test_first_batch_alone_changes_nothing() -> None:
    profile = trace(OnlyTheFirst)
    assert flops(profile) == flops(trace(Net))
    assert (profile.batch.variation, profile.work_note) == (None, None)


@pytest.mark.parametrize(("module", "passes"), [(Net, 1), (EverySecond, 2)])
def test_equal_blocks_do_not_stand_for_each_other_then(module: type[Net], passes: int) -> None:
    began: list[int] = []

    def run_pass(work: Callable[[], JobProfile]) -> JobProfile:
        began.append(1)
        if len(began) == 2:
            raise TraceError("every block is traced")
        return work()

    job = TrainingJob(lambda: module(layers=8), torch.randn(ROWS, WIDTH), ROWS, max_steps=100)
    with contextlib.suppress(TraceError):
        trace_changed(job, None, worthwhile=3.0, run_pass=run_pass)
    assert len(began) == passes


class Preconditioned(torch.optim.SGD):
    """Makes its preconditioner anew in every third step."""

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        for parameter in (p for group in self.param_groups for p in group["params"] if p.ndim == 2):
            state = self.state[parameter]
            state["count"] = state.get("count", 0) + 1
            if state["count"] % 3 == 0:
                state["inverse"] = parameter.grad @ parameter.grad.T
        return loss


def precondition(module: nn.Module) -> Any:
    return Preconditioned(module.parameters(), 0.1)


def test_work_of_every_kth_optimizer_step_is_counted_by_its_share() -> None:
    class Own(Net):
        configure_optimizers = precondition

    profile, more = trace(Own), 2 * 2 * WIDTH**3
    assert flops(profile) == pytest.approx(flops(trace(Net)) + more / 3, rel=0.01)
    assert profile.batch.variation is not None
    assert profile.batch.variation.batches <= MOST_DRAWS


def test_optimizer_that_always_does_the_same_is_traced_once() -> None:
    class Same(torch.optim.SGD):
        pass

    class Own(Net):
        def configure_optimizers(self) -> Any:
            return Same(self.parameters(), 0.1)

    assert trace(Own).batch.variation is None
