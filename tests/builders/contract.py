"""Small training runs for tests/contract, and records of their results and of process-wide state."""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from trainfare import FareMeter
from trainfare.ledger.place import LedgerPlace
from trainfare.meter.fit_meter import FitMeter
from trainfare.meter.services import MeterServices

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
BATCHES = 8
"""Batches in an epoch."""
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


class Samples(Dataset[Tensor]):
    """Samples for `BATCHES` batches of two; each sample is computed from its index."""

    def __len__(self) -> int:
        return 2 * BATCHES

    def __getitem__(self, index: int) -> Tensor:
        return torch.arange(4, dtype=torch.float32) + index / 10


def loader() -> DataLoader[Tensor]:
    """Return a loader of shuffled batches of two samples."""
    return DataLoader(Samples(), batch_size=2, shuffle=True)


class RepeatedBatch:
    """A loader that returns one batch again and again, so that loading costs no time."""

    def __init__(self, batches: int) -> None:
        self.batches = batches
        self.batch = torch.ones(2, 4)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Tensor]:
        return iter([self.batch] * self.batches)


class Tiny(pl.LightningModule):
    """
    Two linear layers with dropout; records every loss.

    Args:
        before_step: called with (module, batch_idx) at the start of each training step, as code of the user that
            may raise or stop the run.
        loss: replaces the loss, e.g. by NaN.
    """

    def __init__(
        self,
        before_step: Callable[[Any, int], None] | None = None,
        loss: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3), nn.Linear(4, 1))
        self.before_step = before_step
        self.replace_loss = loss
        self.losses: list[Tensor] = []
        self.modes_in_validation: list[int] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if self.before_step is not None:
            self.before_step(self, batch_idx)
        loss = self.net(batch).square().mean()
        if self.replace_loss is not None:
            loss = self.replace_loss(loss)
        self.losses.append(loss.detach().clone())
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.modes_in_validation.append(len(torch_modes()["dispatch"]))
        self.net(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01, foreach=False)


@dataclass(frozen=True)
class Outcome:
    """Results of one run; `comparable` is what FareMeter must not change, `compared` what its fingerprint is of."""

    status: str
    steps: int
    losses: int
    fingerprint: str
    error: tuple[str, str] | None
    profiler: str
    warned: tuple[str, ...]
    modes: dict[str, Any]
    compared: dict[str, int]

    @property
    def comparable(self) -> tuple[Any, ...]:
        """The results to compare with a run without FareMeter."""
        return (self.status, self.steps, self.losses, self.fingerprint, self.error, self.profiler)


def torch_modes() -> dict[str, Any]:
    """Return torch's active dispatch and function modes, compiler stance, saved-tensor hooks and step hooks."""
    from torch.optim import optimizer
    from torch.overrides import _get_current_function_mode_stack
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    stance = getattr(sys.modules.get("torch._dynamo.eval_frame"), "_stance", None)  # from 2.6 on, as the next
    top_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda _: None)
    return {
        "dispatch": [type(mode).__name__ for mode in _get_current_dispatch_mode_stack()],
        "function": [type(mode).__name__ for mode in _get_current_function_mode_stack()],
        "stance": "default" if stance is None else stance.stance,
        "saved_tensors_hooks": top_hooks(True) is not None,
        "step_hooks": len(optimizer._global_optimizer_pre_hooks)
        + len(optimizer._global_optimizer_post_hooks),
    }


NO_MODES = {
    "dispatch": [],
    "function": [],
    "stance": "default",
    "saved_tensors_hooks": False,
    "step_hooks": 0,
}


def fit(
    callbacks: list[Any],
    make_module: Callable[[], Any] = Tiny,
    *,
    ckpt_path: Path | None = None,
    train: Any = None,
    validate: bool = True,
    **options: Any,
) -> Outcome:
    """Seed, train for two epochs unless `options` say otherwise, and return the results, an exception included."""
    torch.set_num_threads(1)
    seed()
    module = make_module()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        losses: list[Tensor] = getattr(module, "losses", [])
        trainer = pl.Trainer(
            **{
                **QUIET,
                "max_epochs": 2,
                "limit_val_batches": 1 if validate else 0,
                "num_sanity_val_steps": 0,
                "callbacks": callbacks,
                **options,
            }
        )
        profiler = trainer.profiler
        error = None
        ctrl_c = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, train or loader(), loader() if validate else None, ckpt_path=ckpt_path)
        except BaseException as raised:
            error = (type(raised).__name__, str(raised))
        finally:
            # After a Ctrl-C Lightning leaves the signal ignored for the rest of the process.
            signal.signal(signal.SIGINT, ctrl_c)
    states = {
        "losses": [loss.float().numpy().tobytes() for loss in losses],
        "tensors of weights and optimizers": [
            *(_bytes_of(tensor) for tensor in module.state_dict().values()),
            *(
                _bytes_of(value)
                for optimizer in trainer.optimizers
                for state in optimizer.state.values()
                for value in state.values()
                if isinstance(value, Tensor)
            ),
        ],
        "states of random generators": [
            torch.get_rng_state().numpy().tobytes(),
            repr(random.getstate()).encode(),
            repr(np.random.get_state()).encode(),
        ],
    }
    return Outcome(
        status=str(trainer.state.status),
        steps=trainer.global_step,
        losses=len(losses),
        fingerprint=hashlib.sha256(b"".join(chain(*states.values()))).hexdigest(),
        error=error,
        profiler="the user's" if trainer.__dict__["profiler"] is profiler else repr(trainer.profiler),
        warned=tuple(str(item.message) for item in caught if str(item.message).startswith("FareMeter")),
        modes=torch_modes(),
        compared={name: len(parts) for name, parts in states.items()},
    )


def _bytes_of(tensor: Tensor) -> bytes:
    """Return a tensor's bytes; NumPy has no bfloat16."""
    return tensor.detach().flatten().view(torch.uint8).numpy().tobytes()


def record_compared(record: Callable[[str, object], None], compared: dict[str, int]) -> None:
    """Record how many results of a run were equal to those of the run without FareMeter."""
    for name, count in compared.items():
        record(f"{{}} {name} equal bit by bit", count)


def seed() -> None:
    """Seed the random generators of Python, NumPy and torch."""
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)


# FareMeter with replaced services.


def fake_services(**changes: Any) -> MeterServices:
    """Return services that do not write, print or rank, so that a test is fast; `changes` replace single ones."""
    quiet = {
        "say": lambda line: None,
        "recommend": lambda profile, settings: SimpleNamespace(options=()),
        "write_profile": lambda profile, folder: folder / "trainfare-profile.json",
        "write_reports": lambda answer, profile, folder, as_of: (folder / "trainfare-report.html",),
        "show": lambda answer, profile, as_of, files: None,
        "markdown": lambda answer, profile, as_of: "",
        "usd_per_hour": lambda machine, lock, limit_s: 1.0,
        "write_curve": lambda curve, folder: folder / "trainfare-curve.json",
        "today": lambda: date(2026, 1, 1),
        "find_ledger": lambda: LedgerPlace(Path(), "contract"),
        "write_run": lambda record, folder: folder / record.file_name,
        "write_status": lambda status, folder: None,
    }
    return replace(MeterServices(), **{**quiet, **changes})


def meter(services: MeterServices | None = None, **arguments: Any) -> FareMeter:
    """Return a FareMeter with a window of 3 steps and these services, by default `fake_services()`."""
    kind = type("FareMeter", (FareMeter,), {"services": services or fake_services()})
    return kind(**{"warmup_steps": 1, "measure_steps": 3, **arguments})


METER_METHODS = {
    "setup": "prepare",
    "on_train_start": "start",
    "on_train_batch_start": "batch_start",
    "on_before_optimizer_step": "before_step",
    "on_train_batch_end": "batch_end",
    "on_train_epoch_start": "epoch_start",
    "on_train_epoch_end": "epoch_end",
    "on_validation_start": "validation_start",
    "on_validation_end": "validation_end",
    "on_train_end": "end",
    "on_exception": "end",
    "teardown": "close",
}
"""Lightning's hooks, and what FareMeter calls of its meter in each."""


class FailingMeter:
    """A meter whose member `name` raises `error` and counts its uses in `hits`; other members are the real meter's."""

    def __init__(
        self, inner: FitMeter, name: str, error: Callable[[], BaseException], hits: list[str]
    ) -> None:
        self.__dict__.update(inner=inner, name=name, error=error, hits=hits)

    def __getattr__(self, name: str) -> Any:
        if name != self.name:
            return getattr(self.inner, name)
        if isinstance(inspect.getattr_static(type(self.inner), name, None), property):
            self._fail()
        return self._fail

    def __setattr__(self, name: str, value: Any) -> None:
        if name == self.name:
            self._fail()
        setattr(self.inner, name, value)

    def _fail(self, *_: Any) -> Any:
        self.hits.append(self.name)
        raise self.error()


def failing_meter(member: str, error: Callable[[], BaseException]) -> tuple[FareMeter, list[str]]:
    """
    Return a FareMeter whose inner meter fails at one member, and the list with one entry for each failure.

    Args:
        member: of the meter, or the hook of Lightning's that calls it.
        error: makes what it raises.
    """
    hits: list[str] = []
    member = METER_METHODS.get(member, member)

    class FailingFareMeter(FareMeter):
        # Lightning uses the name in the key of the callback's state.
        __qualname__ = "FareMeter"
        services = fake_services()

        def make_meter(self) -> Any:
            return FailingMeter(super().make_meter(), member, error, hits)

    return FailingFareMeter(warmup_steps=1, measure_steps=3), hits


def hooks_of(kind: type) -> list[str]:
    """Return the names of the methods of Lightning's Callback that a class overrides."""
    return sorted(
        name
        for name in dir(pl.Callback)
        if not name.startswith("_")
        and callable(getattr(pl.Callback, name))
        and getattr(kind, name) is not getattr(pl.Callback, name)
    )


# Process-wide state.


def process_state() -> dict[str, Any]:
    """Return the process-wide state that a callback must not change."""
    return {
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "log_handlers": list(logging.root.handlers),
        "log_level": logging.root.level,
        "log_disabled": logging.root.manager.disable,
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "default_dtype": torch.get_default_dtype(),
        "default_device": str(torch.get_default_device()),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "deterministic_warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "grad": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "matmul": torch.get_float32_matmul_precision(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "anomaly": torch.is_anomaly_enabled(),
        "sdp": torch.backends.cuda.flash_sdp_enabled(),
        "filters": list(warnings.filters),
        "excepthook": sys.excepthook,
        "displayhook": sys.displayhook,
        "stdout": sys.stdout,
        "trace": sys.gettrace(),
        "profile": sys.getprofile(),
        "recursion": sys.getrecursionlimit(),
        "path": list(sys.path),
        "python_threads": sorted(thread.name for thread in threading.enumerate()),
        "modes": torch_modes(),
    }


@contextmanager
def assert_unchanged() -> Iterator[None]:
    """Assert that the process-wide state is the same at the end of a block as at its start."""
    before = process_state()
    yield
    assert changes(before, process_state()) == {}


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """Return the differences of two states; of a mapping only the entries that differ."""

    def show_change(name: str) -> str:
        old, new = before[name], after[name]
        if isinstance(old, dict):
            keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            return repr({key: (old.get(key), new.get(key)) for key in keys})
        return repr((old, new))

    return {name: show_change(name) for name in before if before[name] != after[name]}
