"""LightningModules and TrainingJobs for the tests of tracing: small, real, one behaviour each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainfare.job import TrainingJob
from trainfare.trace import StepTrace
from trainfare_core.job_profile import OperationGroup

BATCH = 4
WIDTH = 8


class Tiny(pl.LightningModule):
    """One linear layer to a scalar loss; `configure` replaces configure_optimizers."""

    def __init__(self, configure: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.configure = configure

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        return self.layer(batch).square().mean()

    def configure_optimizers(self) -> Any:
        if self.configure is not None:
            return self.configure(self)
        return torch.optim.AdamW(self.parameters(), foreach=False)


class Cnn(pl.LightningModule):
    """Convolution, batch norm, pooling, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * 16, 10),
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = functional.cross_entropy(self.net(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, foreach=False)

    @staticmethod
    def batch() -> Any:
        return torch.zeros(BATCH, 3, 8, 8), torch.zeros(BATCH, dtype=torch.long)


class Transformer(pl.LightningModule):
    """An embedding, one encoder layer with attention, a tied output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, activation="gelu")
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.tokens.weight

    def training_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor]:
        logits = self.head(self.block(self.tokens(batch)))
        return {"loss": functional.cross_entropy(logits.flatten(0, 1), batch.flatten())}

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), foreach=False)

    @staticmethod
    def batch() -> Any:
        return torch.zeros(BATCH, 6, dtype=torch.long)


class Lstm(pl.LightningModule):
    """Two recurrent layers and a linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(WIDTH, 16, num_layers=2, batch_first=True)
        self.head = nn.Linear(16, 1)

    def training_step(self, batch: Tensor) -> Tensor:
        hidden, _ = self.rnn(batch)
        return self.head(hidden[:, -1]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), foreach=False)

    @staticmethod
    def batch() -> Any:
        return torch.zeros(BATCH, 5, WIDTH)


class Gan(pl.LightningModule):
    """Manual optimization with two optimizers, toggled in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.critic = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        first, second = self.optimizers()
        self.toggle_optimizer(first)
        first.zero_grad()
        self.manual_backward(self.critic(self.generator(batch)).mean())
        first.step()
        self.untoggle_optimizer(first)
        with second.toggle_model():
            second.zero_grad()
            self.manual_backward(self.critic(batch).mean())
            second.step()
        for scheduler in self.lr_schedulers():
            scheduler.step()

    def configure_optimizers(self) -> Any:
        first = torch.optim.Adam(self.generator.parameters(), foreach=False)
        second = torch.optim.SGD(self.critic.parameters(), lr=0.1, foreach=False)
        return [first, second], [
            torch.optim.lr_scheduler.StepLR(optimizer, 10) for optimizer in (first, second)
        ]


def tiny_batch() -> Tensor:
    """Samples for `Tiny`, (BATCH, WIDTH)."""
    return torch.ones(BATCH, WIDTH)


def job(module: Any = Tiny, batch: Any = tiny_batch, batch_size: int = BATCH, **changes: Any) -> TrainingJob:
    """A job of ten fp32 steps, with any field changed."""
    return TrainingJob(
        **{
            "module": module,
            "batch": batch,
            "batch_size": batch_size,
            "max_steps": 10,
            "precision": "32-true",
            **changes,
        }
    )


def with_step(step: Callable[..., Any], **attributes: Any) -> Callable[[], Tiny]:
    """A builder of `Tiny` with another training_step and further attributes."""
    return lambda: type("Custom", (Tiny,), {"training_step": step, **attributes})()


def real_operations(module: Any, batch: Any) -> tuple[OperationGroup, ...]:
    """Trace the second of two real steps, as FareMeter would."""
    optimizer = module.configure_optimizers()
    module.log = lambda *_, **__: None
    takes_index = not isinstance(module, Lstm)

    def step() -> None:
        output = module.training_step(batch, 0) if takes_index else module.training_step(batch)
        optimizer.zero_grad()
        loss = output["loss"] if isinstance(output, dict) else output
        (loss / 1).backward()

    step()
    optimizer.step()
    trace = StepTrace(module, [optimizer])
    with trace:
        step()
        trace.begin_optimizer()
        optimizer.step()
        trace.end_optimizer()
    return trace.operations()


def by_key(operations: tuple[OperationGroup, ...]) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Return launches, FLOPs and bytes of every operation."""
    return {
        (o.kind, o.name, o.phase, o.dtype, o.shape): (o.launches, o.flops, o.bytes_read, o.bytes_written)
        for o in operations
    }
