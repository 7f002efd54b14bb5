"""A step whose work depends on random draws is traced several times: its profile is the mean, with its spread."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, distributions, nn
from torch.nn import functional

from trainfare import TrainingJob, trace_job
from trainfare.fake_step.random_work import FEWEST_DRAWS, MOST_DRAWS, RandomWork
from trainfare.job import Batches
from trainfare.trace import StepFacts
from trainfare_core.job_profile import JobProfile, MemoryFacts, OperationGroup, OptimizerFacts

ROWS, WIDTH, LAYERS = 4, 16, 6
PRODUCT = 2 * ROWS * WIDTH * WIDTH
"""FLOPs of one product of a layer."""


class Net(nn.Module):
    """Equal layers and a head; subclasses choose which of them run. `calls` counts the steps of all copies."""

    calls: int

    def __init__(self, layers: int = LAYERS) -> None:
        super().__init__()
        type(self).calls = 0
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(layers))
        self.head = nn.Linear(WIDTH, 3)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        type(self).calls += 1
        return self.loss(batch)

    def loss(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if self.runs():
                x = torch.relu(layer(x))
        return self.head(x).square().mean()

    def runs(self) -> bool:
        return True

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


class LayerDrop(Net):
    """As encoders of Hugging Face have it."""

    def runs(self) -> bool:
        return not (self.training and torch.rand([]) < 0.1)


class LayerDropAndRead(LayerDrop):
    """Reads a value that depends on the weights, so that it is traced on real tensors."""

    def loss(self, x: Tensor) -> Tensor:
        loss = super().loss(x)
        return loss * 0.5 if loss > 1e6 else loss


class PythonDrop(Net):
    """Stochastic depth by a branch."""

    def runs(self) -> bool:
        return random.random() >= 0.1


class NumpyDrop(Net):
    def runs(self) -> bool:
        return bool(np.random.rand() >= 0.1)


class BernoulliDrop(Net):
    """A value that is written into a buffer before it is read."""

    def loss(self, x: Tensor) -> Tensor:
        kept = torch.zeros(len(self.layers))
        for index, layer in enumerate(self.layers):
            kept[index] = torch.bernoulli(torch.tensor(0.9))
            if kept[index].item():
                x = torch.relu(layer(x))
        return self.head(x).square().mean()


class ListDrop(Net):
    def loss(self, x: Tensor) -> Tensor:
        for kept, layer in zip(torch.rand(len(self.layers)).tolist(), self.layers, strict=True):
            if kept >= 0.1:
                x = torch.relu(layer(x))
        return self.head(x).square().mean()


class MaskedRows(Net):
    """A random mask selects the rows that go on."""

    def loss(self, x: Tensor) -> Tensor:
        return super().loss(x.repeat(8, 1)[torch.rand(8 * ROWS) < 0.5])


class Resolution(Net):
    """A size drawn for each batch."""

    def loss(self, x: Tensor) -> Tensor:
        return super().loss(x.repeat(random.choice([1, 2, 4]), 1))


class Segments(Net):
    """A length that depends on the weights and on noise, as that of a synthesizer: on real tensors alone."""

    def loss(self, x: Tensor) -> Tensor:
        length = (self.head(x + torch.randn_like(x)).abs().sum() * 100).long() % 5 + 1
        return super().loss(x.repeat(int(length), 1))


class MixUp(Net):
    """Half of the batches are mixed, which moves bytes and has no FLOPs of a product."""

    def loss(self, x: Tensor) -> Tensor:
        return super().loss(0.5 * x + 0.5 * x.flip(0) if random.random() < 0.5 else x)


class Dropout(Net):
    """Draws that no branch and no shape depends on: dropout, a stochastic depth by mask, noise, a permutation."""

    def loss(self, x: Tensor) -> Tensor:
        x = functional.dropout(x + torch.randn_like(x), 0.1)[torch.randperm(ROWS)]
        for layer in self.layers:
            x = x + functional.dropout(torch.relu(layer(x)), 0.1) * torch.empty(ROWS, 1).bernoulli_(0.9) / 0.9
        return self.head(x).square().mean()


class DropoutAndRead(Dropout):
    """Dropout and a read of the loss: on real tensors."""

    def loss(self, x: Tensor) -> Tensor:
        loss = super().loss(x)
        return loss * 0.5 if loss > 1e6 else loss


class Validated(Net):
    """torch.distributions reads a random sample to see whether it is valid."""

    def loss(self, x: Tensor) -> Tensor:
        noise = distributions.Normal(torch.zeros(ROWS, 1), torch.ones(ROWS, 1), validate_args=True)
        sample = noise.sample()
        return super().loss(x + sample) + noise.log_prob(sample).mean()


def job(module: Callable[[], nn.Module], **changes: Any) -> TrainingJob:
    fields = {"module": module, "batch": torch.ones(ROWS, WIDTH), "batch_size": ROWS, "max_steps": 100}
    return TrainingJob(**{**fields, **changes})


def mean_flops(kept: float) -> float:
    """Return the mean FLOPs of a step: the first layer that runs has no gradient of its input."""
    return 3 * PRODUCT * LAYERS * kept - PRODUCT + 3 * 2 * ROWS * WIDTH * 3


def notes_of(profile: JobProfile) -> list[str]:
    return [note for note in profile.notes if "step's work" in note]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (LayerDrop, "test_random_work.py:{} in runs reads a random value"),
        (LayerDropAndRead, "test_random_work.py:{} in runs reads a random value"),
        (BernoulliDrop, "in loss reads a random value"),
        (ListDrop, "in loss reads a random value"),
        (PythonDrop, "it draws from Python's generator"),
        (NumpyDrop, "it draws from NumPy's generator"),
    ],
)
def test_the_profile_is_the_mean_of_draws_with_its_spread(module: type[Net], said: str) -> None:
    """Layers are left out at random: the exact mean lies within two standard deviations of the profile's."""
    profile = trace_job(job(module))
    variation = profile.batch.variation
    assert variation is not None
    assert FEWEST_DRAWS <= variation.batches <= MOST_DRAWS
    assert 0.03 < variation.work_log_sigma < 0.06
    assert abs(math.log(profile.step_flops / mean_flops(0.9))) < 2 * variation.work_log_sigma
    assert variation.smallest_flops < mean_flops(0.9) < variation.largest_flops == mean_flops(1.0)
    [note] = notes_of(profile)
    line = LayerDrop.runs.__code__.co_firstlineno + 1
    assert said.format(line) in note
    assert note.endswith(f"mean of {variation.batches} traced steps")
    assert profile.work_note == f"mean of {variation.batches} traced steps, whose work is random"
    assert profile.source.how == ("real" if module is LayerDropAndRead else "fake")


@pytest.mark.parametrize("module", [MaskedRows, Segments])
def test_a_shape_may_be_drawn(module: type[Net]) -> None:
    """Memory is that of the largest draw."""
    profile = trace_job(job(module))
    variation = profile.batch.variation
    assert variation is not None
    assert variation.smallest_flops < 0.8 * profile.step_flops
    assert variation.largest_flops > 1.2 * profile.step_flops
    plain = trace_job(job(Net)).memory.saved_activation_bytes
    assert profile.memory.saved_activation_bytes > 1.2 * plain


def test_draws_that_change_little_are_said() -> None:
    """What draws decide may be a branch that is taken rarely, or nothing: the steps that were traced are given."""
    profile = trace_job(job(MixUp))
    assert profile.step_flops == mean_flops(1.0)
    [note] = notes_of(profile)
    assert (
        note
        == "the step's work may be random (it draws from Python's generator): 15 traced steps did the same"
    )


@pytest.mark.parametrize(("module", "steps"), [(Net, 2), (Dropout, 2), (Validated, 2), (DropoutAndRead, 3)])
def test_a_step_without_random_work_is_traced_once(module: type[Net], steps: int) -> None:
    """
    The first batch makes the optimizer's state, the second is traced, and the forwards of 15 later ones are compared.

    Where a loss is read that depends on draws (on real tensors), a third shows that its work is the same.
    """
    profile = trace_job(job(module))
    assert module.calls == steps + 15
    assert (profile.batch.variation, profile.work_note, notes_of(profile)) == (None, None, [])


@pytest.mark.parametrize("module", [LayerDropAndRead, NumpyDrop])
def test_the_same_job_gives_the_same_bytes(module: type[Net]) -> None:
    """Whatever the generators' states are, which stay as they were."""
    first = trace_job(job(module)).to_json()
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    before = (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())
    assert trace_job(job(module)).to_json() == first
    assert before == (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())


def test_equal_blocks_that_are_left_out_at_random_do_not_stand_for_each_other() -> None:
    """Of 12 layers, two to four would be traced, were they equal."""
    profile = trace_job(job(lambda: LayerDrop(12)))
    assert profile.step_flops == pytest.approx(3 * PRODUCT * 12 * 0.9, rel=0.1)
    assert profile.batch.variation is not None


def test_batches_that_vary_and_random_work_widen_the_interval_together() -> None:
    """The doubt is that of both."""
    batches = Batches(tuple(torch.ones(rows, WIDTH) for rows in (2, 4, 8, 16, 4, 4)))
    sizes, draws, both = (
        trace_job(task).batch.variation
        for task in (job(Net, batch=batches), job(Resolution), job(Resolution, batch=batches))
    )
    assert sizes is not None
    assert draws is not None
    assert both is not None
    assert both.batches == 6
    assert both.work_log_sigma > max(sizes.work_log_sigma, draws.work_log_sigma)
    assert both.work_log_sigma == pytest.approx(
        math.hypot(sizes.work_log_sigma, draws.work_log_sigma), rel=0.3
    )


class Manual(LightningModule):
    """Two optimizers, the second of which steps in every second batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.one, self.two = LayerDrop(), LayerDrop()

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        optimizers: Any = self.optimizers()
        for index, net in enumerate((self.one, self.two)):
            if batch_idx % (index + 1) == 0:
                optimizers[index].zero_grad()
                self.manual_backward(net.loss(batch))
                optimizers[index].step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(net.parameters()) for net in (self.one, self.two)]


def test_manual_optimization() -> None:
    """The mean of each kind of batch, and the spread of their sum."""
    profile = trace_job(job(Manual))
    assert profile.step_flops == pytest.approx(1.5 * mean_flops(0.9), rel=0.08)
    assert profile.batch.variation is not None
    assert 0 < profile.batch.variation.work_log_sigma < 0.06
    assert "mean of steps in which not all optimizers step" in str(profile.work_note)


def test_large_steps_are_traced_a_few_times() -> None:
    """A number of operations is the limit, which is the same on every machine; that of a real trace counts FLOPs, too."""
    group = OperationGroup(
        name="mm",
        kind="matmul",
        phase="forward",
        dtype="fp32",
        launches=20_000,
        flops=10**12,
        bytes_read=4,
        bytes_written=4,
    )
    small = group.model_copy(update={"launches": 10})
    memory = MemoryFacts(saved_activation_bytes=0, gradient_bytes=0)
    optimizer = OptimizerFacts(names=(), state_bytes=0)
    step = StepFacts("fake", (group,), (), (), optimizer, memory)
    light = replace(step, operations=(small,))
    for real, facts, most in ((False, step, 4), (False, light, 15), (True, light, 4)):
        work = RandomWork(real=real)
        with work.watch():
            random.random()
        assert work.has_source()
        traced = [facts]
        while work.wants_more(traced, passes=1):
            traced.append(facts)
        assert len(traced) == most
