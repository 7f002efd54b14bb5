"""A stub of the Trainer: the attributes that a LightningModule may read of `self.trainer` in a traced step."""

from __future__ import annotations

import contextlib
import copy
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from trainfare.job.loop import do_nothing

with Path(__file__).with_name("trainer_facts.csv").open(encoding="utf-8") as _table:
    _FACTS = {
        row["attribute"]: (json.loads(row["value"]), row["copied"] == "yes") for row in csv.DictReader(_table)
    }
"""Attributes with their values before launch, and whether those of a live Trainer are copied."""


class NullLogger:
    """Accepts any call of any attribute, and does nothing."""

    def __getattr__(self, name: str) -> NullLogger:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_: object, **__: object) -> NullLogger:
        """Return itself, so that calls can be chained."""
        return self

    def __iter__(self) -> Iterator[object]:
        return iter(())


class TrainerStub:
    """
    Takes the place of the Trainer in a trace: it has the attributes to read, and runs no loop.

    Args:
        module: the module being traced.
        facts: values by attribute name, e.g. `{"max_epochs": 3}`.
        live: a real Trainer, of which `_FACTS` are copied once and any other attribute is read; None before launch.
    """

    current_epoch: int
    global_step: int
    datamodule: Any
    accumulate_grad_batches: int

    def __init__(self, module: nn.Module, facts: dict[str, Any], live: object | None = None) -> None:
        self.lightning_module = self.model = module
        self.optimizers: list[torch.optim.Optimizer] = []
        self.lr_scheduler_configs: list[SimpleNamespace] = []
        self.logger = NullLogger()
        self.loggers: list[NullLogger] = [self.logger]
        self.profiler = NullLogger()
        self.precision_plugin = SimpleNamespace(clip_gradients=self._clip_gradients)
        self.strategy = SimpleNamespace(
            root_device=torch.device("cpu"),
            global_rank=0,
            local_rank=0,
            world_size=1,
            is_global_zero=True,
            model=module,
            _lightning_optimizers=self.optimizers,
            backward=self._backward,
            barrier=do_nothing,
            broadcast=_return_first,
            reduce=_return_first,
            all_gather=self._all_gather,
            reduce_boolean_decision=_return_first,
            precision_plugin=self.precision_plugin,
        )
        self._live = live
        for name, (value, is_copied) in _FACTS.items():
            setattr(self, name, copy.copy(value))
            if live is not None and is_copied:
                with contextlib.suppress(Exception):
                    setattr(self, name, getattr(live, name))
        vars(self).update(facts)

    def __getattr__(self, name: str) -> Any:
        live = vars(self).get("_live")
        if name.startswith("__"):
            raise AttributeError(name)
        if live is not None:
            return getattr(live, name)
        raise AttributeError(f"the step reads trainer.{name}, for which a trace has no value")

    def _backward(self, loss: Tensor, _optimizer: object | None = None, *args: Any, **kwargs: Any) -> None:
        backward = getattr(self.lightning_module, "backward", None)
        if backward is None:
            loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]
        else:
            backward(loss, *args, **kwargs)

    def _all_gather(self, tensor: Tensor, *_: object, **__: object) -> Tensor:
        if self.world_size == 1:
            return tensor
        return tensor.unsqueeze(0).expand(self.world_size, *tensor.shape)

    @staticmethod
    def _clip_gradients(
        optimizer: torch.optim.Optimizer, clip_val: float = 0.0, gradient_clip_algorithm: object = "norm"
    ) -> None:
        if not clip_val:
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if getattr(gradient_clip_algorithm, "value", gradient_clip_algorithm) == "value":
            torch.nn.utils.clip_grad_value_(parameters, clip_val)
        else:
            torch.nn.utils.clip_grad_norm_(parameters, clip_val)


def attach(module: nn.Module, trainer: TrainerStub) -> None:
    """Make the stub the module's Trainer, and replace the module's logging methods by ones that do nothing."""
    for name in ("log", "log_dict"):
        object.__setattr__(module, name, do_nothing)
    if hasattr(type(module), "print"):
        object.__setattr__(module, "print", do_nothing)
    if hasattr(module, "_trainer"):
        for member in module.modules():
            if hasattr(member, "_trainer"):
                object.__setattr__(member, "_trainer", trainer)
                object.__setattr__(member, "log", do_nothing)
                object.__setattr__(member, "log_dict", do_nothing)
    else:
        module.trainer = trainer  # type: ignore[assignment]


def _return_first(value: Any, *_: object, **__: object) -> Any:
    return value
