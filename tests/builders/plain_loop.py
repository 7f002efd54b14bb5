"""A training loop of plain PyTorch behind the two doors of `trainfare.job.loop`, as CONTRIBUTING.md describes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainfare.fake_step.loop_kind import LoopKind, PreparedModule
from trainfare.job.loop import Loop, Phase, PhaseListener, TrainingStep
from trainfare.job.run_facts import RunFacts
from trainfare.job.run_plan import LoopLength
from trainfare.meter.fit_meter import FitMeter

BATCHES, SAMPLES, SIZES = 24, 8, (16, 32, 4)


class PlainModule(nn.Module):
    """Two layers; it has neither a loss nor optimizers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(SIZES[0], SIZES[1]), nn.ReLU(), nn.Linear(SIZES[1], SIZES[2]))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.layers(values)  # type: ignore[no-any-return]


def make_optimizer(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr=1e-3)


def make_batch() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(SAMPLES, SIZES[0]), torch.randint(SIZES[2], (SAMPLES,))


class PlainStep(TrainingStep):
    name = "the plain step"

    def __init__(self, module: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._module, self._optimizers = module, list(optimizers)

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return self._optimizers

    def forward(self, batch: Any) -> torch.Tensor:
        return functional.cross_entropy(self._module(batch[0]), batch[1])

    def run(self, batch: Any, index: int) -> None:
        self._optimizers[0].zero_grad()
        self.forward(batch).backward()
        self._optimizers[0].step()


class PlainLoop(Loop):
    """Trains on the CPU, and says where its phases begin and end."""

    def __init__(self, module: nn.Module, folder: Path) -> None:
        self._module, self._folder, self._updates = module, folder, 0
        self._optimizers = [make_optimizer(module)]
        self._listener: PhaseListener | None = None

    module = property(lambda self: self._module)
    optimizers = property(lambda self: self._optimizers)
    updates = property(lambda self: self._updates)

    def run_facts(self) -> RunFacts:
        name, device = type(self._module).__name__, torch.device("cpu")
        return RunFacts(name, "32-true", device, "plain", loader_batch_size=SAMPLES)

    def length(self) -> LoopLength:
        return LoopLength(batches_per_epoch=BATCHES, max_epochs=1, max_steps=None)

    def folder(self) -> Path:
        return self._folder

    def watch(self, listener: PhaseListener, on_fault: Any) -> Callable[[], None]:
        self._listener = listener
        return lambda: setattr(self, "_listener", None)

    def _phase(self, phase: Phase, work: Callable[[], Any]) -> Any:
        if self._listener is not None:
            self._listener.begin(phase)
        result = work()
        if self._listener is not None:
            self._listener.end(phase)
        return result

    def train(self, meter: FitMeter) -> None:
        meter.prepare(1)
        meter.start(self)
        optimizer = self._optimizers[0]
        for _ in range(BATCHES):
            values, labels = self._phase(Phase.DATA_WAIT, make_batch)
            meter.batch_start((values, labels))
            optimizer.zero_grad()
            outputs = self._phase(Phase.FORWARD, lambda given=values: self._module(given))
            loss = functional.cross_entropy(outputs, labels)
            self._phase(Phase.BACKWARD, loss.backward)
            meter.before_step(optimizer)
            self._phase(Phase.OPTIMIZER, optimizer.step)
            self._updates += 1
            meter.batch_end(loss)
        meter.end()
        meter.close()


class _Prepared(PreparedModule):
    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def step(self, tensors: Any) -> PlainStep:
        return PlainStep(self._module, [make_optimizer(self._module)])

    def step_of(self, version: nn.Module, optimizers: list[torch.optim.Optimizer], copier: Any) -> PlainStep:
        return PlainStep(version, optimizers)


class PlainKind(LoopKind):
    modules = "a PlainModule"

    def takes(self, module: nn.Module) -> bool:
        return isinstance(module, PlainModule)

    def prepare(self, job: Any, module: nn.Module) -> _Prepared:
        return _Prepared(module)


KIND = PlainKind()
