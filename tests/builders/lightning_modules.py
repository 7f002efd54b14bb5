"""Small modules, data and Trainers for the callback's tests, timed by a fake clock."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torch.utils.flop_counter import FlopCounterMode

from builders.recommendations import recommendation
from trainfare.lightning import FareMeter
from trainfare.meter.services import MeterServices
from trainfare_core.job_profile import JobProfile

NAMESPACES = ("pytorch_lightning", "lightning.pytorch")

quiet = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before the epoch"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
    pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
]
"""Warnings that Lightning gives in such small runs."""


class Clock:
    """A clock that only `advance` moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.now_s += seconds


class Rows(Dataset[Tensor]):
    """Rows of 8 numbers computed from their index; loading one takes `load_s` by the clock."""

    def __init__(self, rows: int = 64, clock: Clock | None = None, load_s: float = 0.0) -> None:
        self.rows = rows
        self.clock = clock
        self.load_s = load_s

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Tensor:
        if self.clock is not None:
            self.clock.advance(self.load_s)
        return torch.randn(8, generator=torch.Generator().manual_seed(index))


class Stream(IterableDataset[Tensor]):
    """The same rows without a length."""

    def __init__(self, rows: int = 64) -> None:
        self.rows = rows

    def __iter__(self) -> Any:
        return (torch.randn(8, generator=torch.Generator().manual_seed(index)) for index in range(self.rows))


def loader(rows: int = 64, batch_size: int = 4, **dataset: Any) -> DataLoader[Tensor]:
    """Return a loader of `rows / batch_size` batches in this process."""
    return DataLoader(Rows(rows, **dataset), batch_size=batch_size)


def stream(rows: int = 64, batch_size: int = 4) -> DataLoader[Tensor]:
    """Return a loader without a length."""
    return DataLoader(Stream(rows), batch_size=batch_size)


class ClockedSGD(torch.optim.SGD):
    """SGD whose update takes 2 ms by the clock."""

    clock: Clock | None = None

    def step(self, closure: Any = None) -> Any:
        """Run the closure, then the update."""
        loss = closure() if closure is not None else None
        super().step()
        if self.clock is not None:
            self.clock.advance(0.002)
        return loss


def module_class(namespace: str = "pytorch_lightning") -> type:
    """Return the LightningModule of these tests for one of the two namespaces."""
    pl = importlib.import_module(namespace)

    class Tiny(pl.LightningModule):  # type: ignore[misc, name-defined]
        """A small network. By the clock: transfer 3 ms, forward 7, backward 4, optimizer 2, validation 50."""

        def __init__(self, clock: Clock | None = None, optimizers: int = 1, **behaviour: Any) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
            self.clock = clock
            self.how_many = optimizers
            self.behaviour = behaviour
            self.automatic_optimization = not behaviour.get("manual", False)

        def _pass(self, seconds: float) -> None:
            if self.clock is not None:
                self.clock.advance(seconds)

        def on_before_batch_transfer(self, batch: Tensor, dataloader_idx: int) -> Tensor:
            if self.trainer.training:
                self._pass(0.003)
            return batch

        def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> int | None:
            return -1 if batch_idx == self.behaviour.get("skip_at") else None

        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor | None:
            if self.trainer.global_step == self.behaviour.get("raise_at") and "error" in self.behaviour:
                # Once only, so that the fake copy of this module can be traced at the end.
                raise self.behaviour.pop("error")
            self._pass(0.007)
            loss = self._loss(batch)
            if self.automatic_optimization:
                return loss
            every = self.behaviour.get("step_every", 1)
            self.manual_backward(loss)
            if (batch_idx + 1) % every == 0:
                optimizers = self.optimizers()
                for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
                    optimizer.step()
                    optimizer.zero_grad()
            return None

        def _loss(self, batch: Tensor) -> Tensor:
            loss = functional.mse_loss(self.layer(batch), torch.zeros(len(batch), 2))
            if self.clock is not None and loss.requires_grad:
                loss.register_hook(lambda _: self._pass(0.004))
            return loss

        def validation_step(self, batch: Tensor, batch_idx: int) -> None:
            self._pass(0.050)
            self._loss(batch)

        def configure_optimizers(self) -> Any:
            sgds = [ClockedSGD(self.parameters(), lr=0.01) for _ in range(self.how_many)]
            for optimizer in sgds:
                optimizer.clock = self.clock
            return sgds if self.how_many > 1 else sgds[0]

    return Tiny


Tiny: Any = module_class()


def update_by(
    kind: Callable[..., Any], *, only_trained: bool = False, **settings: Any
) -> Callable[[Any], Any]:
    """Return a `configure_optimizers` of one optimizer, of all parameters or of those that require gradients."""

    def configure_optimizers(self: Any) -> Any:
        parameters = self.parameters()
        return kind([p for p in parameters if p.requires_grad] if only_trained else parameters, **settings)

    return configure_optimizers


def lightning_module(
    step: Callable[..., Any] | None = None,
    optimizers: Callable[[Any], Any] | None = None,
    layers: Callable[..., dict[str, Any]] = dict,
    *,
    base: Any = None,
    name: str = "Module",
    **members: Any,
) -> Any:
    """
    Return a class of modules that differs from others by its step, optimizers or layers only.

    Args:
        step: the training_step; without one the base's.
        optimizers: the configure_optimizers; without one the base's, and SGD where no base is given.
        layers: returns the attributes of an instance by name, of the arguments that the class is called with.
        base: the class to derive from; a LightningModule of `pytorch_lightning` by default.
        name: the name of the class, for the ids of tests.
        members: further members of the class, such as hooks and `forward`.

    """
    parent = base or LightningModule
    if base is None and optimizers is None:
        optimizers = update_by(torch.optim.SGD, lr=0.1)

    def build(self: Any, *arguments: Any, **named: Any) -> None:
        parent.__init__(self)
        for attribute, layer in layers(*arguments, **named).items():
            setattr(self, attribute, layer)

    given = {"training_step": step, "configure_optimizers": optimizers}
    methods = {method: function for method, function in given.items() if function is not None}
    return type(name, (parent,), {"__init__": build, **methods, **members})


class Critic(LightningModule):
    """A critic that steps in every batch, and a generator that steps in some."""

    def __init__(self, every: int = 5, offset: int = 0, width: int = 16, generated: int = 16) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.critic, self.generator = nn.Linear(width, width), nn.Linear(width, generated)
        self.every, self.offset = every, offset

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        generator, critic = self.optimizers()
        self.update(critic, self.critic(batch))
        if batch_idx % self.every == self.offset:
            self.update(generator, self.generator(batch))

    def update(self, optimizer: Any, output: Tensor) -> None:
        """Step one of the optimizers."""
        optimizer.zero_grad()
        self.manual_backward(output.square().mean())
        optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(self.generator.parameters()), torch.optim.Adam(self.critic.parameters())]


class FlopCounter(Callback):
    """Counts the FLOPs of every batch of a run without FareMeter."""

    def __init__(self) -> None:
        self.flops: list[int] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.counter = FlopCounterMode(display=False)
        self.counter.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        self.counter.__exit__(None, None, None)
        self.flops.append(self.counter.get_total_flops())


class RecordingLogger(Logger):
    """A logger that records the `fare/*` metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "kept"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        return

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if any(name.startswith("fare/") for name in metrics):
            self.rows.append((step, dict(metrics)))


class MeterHarness:
    """Makes FareMeters whose services record the printed lines, the priced profiles and the shown reports."""

    def __init__(self, clock: Callable[[], float] | None = None, **services: Any) -> None:
        self.lines: list[str] = []
        self.profiles: list[JobProfile] = []
        self.shown = 0
        replaced = {
            "today": lambda: date(2026, 9, 1),
            "say": self.lines.append,
            "recommend": self._recommend,
            "show": self._show,
            "write_status": lambda status, folder: None,
            **({"now": clock} if clock is not None else {}),
            **services,
        }
        self.services = MeterServices(**replaced)

    def _recommend(self, profile: JobProfile, settings: Any) -> Any:
        del settings
        self.profiles.append(profile)
        return recommendation()

    def _show(self, *_: Any) -> None:
        self.shown += 1

    @property
    def profile(self) -> JobProfile:
        """The priced profile; fails unless there is exactly one."""
        assert len(self.profiles) == 1, self.lines
        return self.profiles[0]

    def meter(self, folder: Path, **arguments: Any) -> FareMeter:
        """Return a FareMeter with these services that writes to `folder`."""
        kind = type("FareMeter", (FareMeter,), {"services": self.services})
        return kind(**{"report_dir": str(folder), **arguments})  # type: ignore[no-any-return]


def trainer(folder: Path, *callbacks: Any, namespace: str = "pytorch_lightning", **options: Any) -> Any:
    """Return a CPU Trainer of one namespace, without output, loggers and checkpoints by default."""
    pl = importlib.import_module(namespace)
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": str(folder),
        "num_sanity_val_steps": 0,
        "callbacks": list(callbacks),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pl.Trainer(**{**defaults, **options})


def fare_meter_warnings(warned: Any) -> list[str]:
    """Return the messages of FareMeter among the caught warnings."""
    return [str(warning.message) for warning in warned if "FareMeter" in str(warning.message)]


def is_restored(of: Any) -> bool:
    """Return whether torch's dispatch-mode stack is empty and the Trainer has its own profiler."""
    return not _get_current_dispatch_mode_stack() and type(of.profiler).__name__ == "PassThroughProfiler"
