"""
Train on two processes under gloo, without and with `FareMeter(noise_scale=True)`; each rank writes what it saw.

    python -m torch.distributed.run --nproc-per-node 2 tests/builders/noise_ranks.py FOLDER

The loops are DDP without accumulation, and the Trainers of Lightning and of Hugging Face with one of two batches.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

STEPS = 30
SETTINGS: dict[str, Any] = {"warmup_steps": 1, "measure_steps": 1, "noise_scale": True}


def make_model() -> nn.Module:
    """Return the same small network each time."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


def make_rows(rank: int) -> Tensor:
    """Return the batch of a rank, the same in each step."""
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(rank))


def find_loss(model: nn.Module, batch: Tensor) -> Tensor:
    """Return the loss of a batch."""
    return functional.mse_loss(model(batch), torch.ones(len(batch), 2))


def train_loop(harness: Any, folder: Path, model: nn.Module, *, metered: bool, lr: float) -> None:
    """Train with one batch a step."""
    from trainfare import FareMeter

    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=lr)
    kind = type("FareMeter", (FareMeter,), {"services": harness.services})
    batches = [make_rows(dist.get_rank())] * STEPS
    given = {"report_dir": str(folder), **SETTINGS}
    with kind.loop(wrapped, optimizer, **given) if metered else nullcontext() as meter:  # type: ignore[attr-defined]
        for batch in meter.steps(batches) if metered else batches:
            find_loss(wrapped, batch).backward()
            nn.utils.clip_grad_norm_(wrapped.parameters(), 0.01)
            optimizer.step()
            optimizer.zero_grad()


def train_lightning(harness: Any, folder: Path, model: nn.Module, *, metered: bool, lr: float) -> None:
    """Train with two batches a step."""
    from pytorch_lightning.strategies import DDPStrategy

    from builders.lightning_modules import lightning_module, loader, trainer, update_by

    module = lightning_module(
        lambda self, batch, _: find_loss(self.model, batch),
        update_by(torch.optim.SGD, lr=lr),
        lambda: {"model": model},
    )
    meters = [harness.meter(folder, **SETTINGS)] if metered else []
    options = {"strategy": DDPStrategy(process_group_backend="gloo"), "devices": 2, "max_steps": STEPS}
    trainer(folder, *meters, accumulate_grad_batches=2, gradient_clip_val=0.01, **options).fit(
        module(), loader()
    )


def train_hugging_face(harness: Any, folder: Path, model: nn.Module, *, metered: bool, lr: float) -> None:
    """Train with two batches a step."""
    from builders.huggingface import attach_meter, make_trainer

    options = {"max_steps": STEPS, "gradient_accumulation_steps": 2, "ddp_backend": "gloo"}
    made = make_trainer(folder, model, learning_rate=lr, **options)
    if metered:
        attach_meter(made, harness, folder, **SETTINGS)
    made.train()


def run(
    train: Callable[..., None],
    make: Callable[[], nn.Module],
    folder: Path,
    *,
    metered: bool,
    lr: float = 0.01,
) -> dict[str, Any]:
    """Train, and return what `describe_run` does."""
    from builders.lightning_modules import MeterHarness
    from builders.rank_runs import describe_run

    harness, model = MeterHarness(noise_every_steps=1), make()
    torch.manual_seed(dist.get_rank())
    return describe_run(harness, model, lambda: train(harness, folder, model, metered=metered, lr=lr))


def main() -> None:
    """Train each loop without and with a meter, and the first with a learning rate of 0; write `rank-N.json`."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    warnings.simplefilter("ignore")
    from builders.huggingface import make_classifier
    from builders.rank_runs import write_runs

    folder = Path(sys.argv[1])
    dist.init_process_group("gloo")
    loops = {
        "loop": partial(run, train_loop, make_model),
        "huggingface": partial(run, train_hugging_face, make_classifier),
        "lightning": partial(run, train_lightning, make_model),
    }

    def make_runs() -> dict[str, Any]:
        exact = {"exact": loops["loop"](folder, metered=True, lr=0.0)}
        return exact | {
            name: {str(metered): train(folder, metered=metered) for metered in (False, True)}
            for name, train in loops.items()
        }

    write_runs(folder, make_runs)


if __name__ == "__main__":
    main()
