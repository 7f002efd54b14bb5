"""Nothing of the user's runs once more: every hook, loader, callback and logger is called as often as without FareMeter."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.core.hooks import CheckpointHooks, DataHooks, ModelHooks
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from builders import contract

pytestmark = pytest.mark.filterwarnings("ignore:.*AMP with fp16 is not supported on CPU")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
STEPS = ("automatic", "manual", "lbfgs")
ROWS, WIDTH = 32, 4


def count_calls(base: type, counts: Counter[str], names: set[str]) -> Any:
    """Return a class derived from `base` whose methods of these names are counted."""

    def wrap(name: str) -> Callable[..., Any]:
        inner = getattr(base, name)

        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            counts[f"{base.__name__}.{name}"] += 1
            return inner(self, *arguments, **named)

        call.__signature__ = inspect.signature(inner)  # type: ignore[attr-defined]
        return call

    return type(base.__name__, (base,), {name: wrap(name) for name in names})


def methods_of(*kinds: type) -> set[str]:
    """Return the names of the public methods that classes define."""
    return {
        name
        for kind in kinds
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }


class Rows(Dataset[Tensor]):
    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> Tensor:
        return torch.arange(WIDTH, dtype=torch.get_default_dtype()) / 8 + index / 64


class Order(Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(ROWS))

    def __len__(self) -> int:
        return ROWS


class Loader(DataLoader[Tensor]):
    def __iter__(self) -> Any:
        return super().__iter__()

    def __len__(self) -> int:
        return super().__len__()


class Body(nn.Module):
    """Two layers, of which the first is run again in backward."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(WIDTH, 8), nn.Dropout(0.3), nn.ReLU())
        self.last = nn.Linear(8, 1)

    def forward(self, rows: Tensor) -> Tensor:
        return self.last(checkpoint(self.first, rows, use_reentrant=False))  # type: ignore[no-any-return]


class Module(pl.LightningModule):
    """Its step reads a value and logs it, with an optimizer of each form."""

    def __init__(self, step: str, body: nn.Module) -> None:
        super().__init__()
        self.step, self.body = step, body
        self.automatic_optimization = step != "manual"
        self.losses: list[Tensor] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor | None:
        loss = self.body(batch).square().mean()
        self.losses.append(loss.detach().clone())
        if float(loss) > 1e6:
            loss = loss / 2
        self.log("loss", loss)
        if self.automatic_optimization:
            return loss
        first, second = self.optimizers()  # type: ignore[misc, attr-defined]
        self.manual_backward(loss)
        for optimizer in (first, second) if batch_idx % 2 else (first,):
            optimizer.step()
            optimizer.zero_grad()
        return None

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("validation", self.body(batch).square().mean())

    def configure_optimizers(self) -> Any:
        if self.step == "lbfgs":
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)
        if self.step == "manual":
            return [torch.optim.SGD(part.parameters(), lr=0.01) for part in (self.body.first, self.body.last)]
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class Writes(Logger):
    """Counts what is written through it, but for names under `fare/`."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    name = property(lambda self: "writes")  # type: ignore[assignment]
    version = property(lambda self: 0)  # type: ignore[assignment]

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if own := sorted(name for name in metrics if not name.startswith("fare/")):
            self.counts[f"logged {own} at {step}"] += 1

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        self.counts["log_hyperparams"] += 1

    def save(self) -> None:
        self.counts["save"] += 1

    def finalize(self, status: str) -> None:
        self.counts[f"finalize {status}"] += 1


def train(step: str, precision: Any, callbacks: list[Any]) -> tuple[Counter[str], contract.Outcome]:
    """Train with every method counted."""
    counts: Counter[str] = Counter()
    own = {"training_step", "validation_step", "configure_optimizers"}
    hooks = (
        methods_of(ModelHooks, CheckpointHooks) | own | {"optimizer_step", "optimizer_zero_grad", "backward"}
    )
    module = count_calls(Module, counts, hooks - {"configure_sharded_model"})
    body = count_calls(Body, counts, {"forward"})
    rows = count_calls(Rows, counts, {"__len__", "__getitem__"})
    order = count_calls(Order, counts, {"__len__", "__iter__"})
    loader = count_calls(Loader, counts, {"__len__", "__iter__"})

    def collate(samples: list[Tensor]) -> Tensor:
        counts["collate"] += 1
        return default_collate(samples)  # type: ignore[no-any-return]

    class Data(pl.LightningDataModule):
        def train_dataloader(self) -> Any:
            return loader(rows(), batch_size=2, sampler=order(), collate_fn=collate)

        def val_dataloader(self) -> Any:
            return loader(rows(), batch_size=4, collate_fn=collate)

    used = methods_of(DataHooks) - {"test_dataloader", "predict_dataloader"}
    data = count_calls(Data, counts, used | {"state_dict", "load_state_dict"})
    watch = count_calls(pl.Callback, counts, methods_of(pl.Callback))
    outcome = contract.fit(
        [*callbacks, watch()],
        lambda: module(step, body()),
        train=data(),
        validate=False,
        limit_val_batches=2,
        val_check_interval=5,
        precision=precision,
        logger=Writes(counts),
        log_every_n_steps=1,
        accumulate_grad_batches=2 if step == "automatic" else 1,
    )
    assert outcome.error is None
    return counts, outcome


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("step", STEPS)
def test_everything_is_called_as_often_as_without_fare_meter(
    step: str, precision: str, record_property: Callable[[str, object], None]
) -> None:
    """Hooks, steps, loaders, samples and writes; losses, weights, optimizer state and random states bit by bit."""
    plain, without = train(step, precision, [])
    profiles: list[Any] = []
    services = contract.fake_services(
        write_profile=lambda profile, folder: (profiles.append(profile), folder / "trainfare-profile.json")[1]
    )
    metered, with_meter = train(step, precision, [contract.meter(services)])
    assert profiles[0].step_flops > 0, "no step was traced"
    assert profiles[0].source.how == "real"
    assert with_meter.warned == ()
    assert metered == plain
    assert with_meter.comparable == without.comparable
    assert plain["Module.training_step"] >= ROWS
    assert {"Rows.__getitem__", "Loader.__iter__", "collate", "Body.forward", "Data.train_dataloader"} <= set(
        plain
    )
    record_property("{} calls of the user's code as often as without FareMeter", plain.total())
