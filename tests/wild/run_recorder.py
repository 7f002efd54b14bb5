"""What a training yields, hashed and counted: losses, logged values, weights, optimizer state, random states, calls of hooks."""

from __future__ import annotations

import functools
import hashlib
import importlib
import random
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from trainfare.lightning.callback_base import LightningCallback
from wild.batch_counter import BatchCounter

NAMESPACES = ("lightning.pytorch", "pytorch_lightning")
HOOKS = (
    "prepare_data", "setup", "configure_optimizers", "train_dataloader", "on_fit_start", "on_train_start",
    "on_train_epoch_start", "on_train_batch_start", "training_step", "optimizer_step", "configure_gradient_clipping",
    "on_train_batch_end", "on_train_epoch_end", "validation_step", "on_fit_end",
)  # fmt: skip


class Recorder(LightningCallback):
    """Hashes what a training yields, and counts the FLOPs of its batches where a counter is given."""

    def __init__(self, counter: BatchCounter | None) -> None:
        super().__init__()
        self.digests = {
            name: hashlib.sha256() for name in ("losses", "metrics", "weights", "optimizer", "random")
        }
        self.calls: Counter[str] = Counter()
        self.fits: list[dict[str, Any]] = []
        self._counter = counter

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        if self._counter is not None:
            self._counter.open_batch()

    def on_train_batch_end(self, _trainer: Any, _module: Any, outputs: Any, *_: Any, **__: Any) -> None:
        if self._counter is not None:
            self._counter.close_batch()
        feed(self.digests["losses"], outputs)

    def record_fit(self, trainer: Any) -> None:
        """Hash the state after a call of `fit`."""
        metrics = {name: value for name, value in trainer.callback_metrics.items() if "fare/" not in name}
        feed(self.digests["metrics"], metrics)
        feed(self.digests["weights"], trainer.lightning_module.state_dict())
        feed(self.digests["optimizer"], [optimizer.state_dict() for optimizer in trainer.optimizers])
        feed(self.digests["random"], [torch.get_rng_state(), np.random.get_state(), random.getstate()])
        flops = [] if self._counter is None else self._counter.take_batches()
        self.fits.append({"steps": trainer.global_step, "batches": flops})

    def report(self) -> dict[str, Any]:
        """Return what the parent process compares."""
        blind = [] if self._counter is None else sorted(self._counter.blind)
        hashes = {name: digest.hexdigest() for name, digest in self.digests.items()}
        return {"hashes": hashes, "calls": dict(self.calls), "fits": self.fits, "blind": blind}


def feed(digest: Any, value: Any) -> None:
    """Hash tensors and numbers in nested containers."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().as_subclass(torch.Tensor)
        dense = plain.to_dense() if plain.layout is not torch.strided else plain
        digest.update(f"{dense.dtype}{tuple(dense.shape)}".encode())
        digest.update(dense.resolve_conj().contiguous().cpu().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray):
        digest.update(value.tobytes())
    elif isinstance(value, dict):
        for name in value:
            digest.update(str(name).encode())
            feed(digest, value[name])
    elif isinstance(value, list | tuple):
        for item in value:
            feed(digest, item)
    elif isinstance(value, int | float | str | bool | None):
        digest.update(repr(value).encode())


def watch_trainers(recorder: Recorder, meter: Callable[[], list[Any]]) -> None:
    """Give every Trainer of this process the recorder, and FareMeter where the arm has one."""
    for name in NAMESPACES:
        if find_spec(name.partition(".")[0]) is not None:
            _watch_trainer(importlib.import_module(name).Trainer, recorder, meter)


def _watch_trainer(trainer_class: Any, recorder: Recorder, meter: Callable[[], list[Any]]) -> None:
    build, fit = trainer_class.__init__, trainer_class.fit

    @functools.wraps(build)
    def init(self: Any, *args: Any, callbacks: Any = None, **kwargs: Any) -> None:
        own = [] if callbacks is None else callbacks if isinstance(callbacks, list) else [callbacks]
        build(self, *args, callbacks=[*own, *meter(), recorder], **kwargs)

    @functools.wraps(fit)
    def fit_and_record(self: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        for hook in HOOKS:
            _count_calls(type(model), hook, recorder.calls)
        try:
            return fit(self, model, *args, **kwargs)
        finally:
            recorder.record_fit(self)

    trainer_class.__init__, trainer_class.fit = init, fit_and_record


def _count_calls(module_class: type, name: str, calls: Counter[str]) -> None:
    """Count the calls of a hook that a class of the user's or of a package defines."""
    owner = next(entry for entry in (*module_class.__mro__, object) if name in vars(entry) or entry is object)
    hook = vars(owner).get(name)
    if not callable(hook) or owner.__module__.startswith(NAMESPACES) or hasattr(hook, "counts_calls"):
        return

    @functools.wraps(hook)
    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return hook(*args, **kwargs)

    counted.counts_calls = True  # type: ignore[attr-defined]
    setattr(owner, name, counted)
