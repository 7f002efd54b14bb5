"""
`TrainingJob`: a training run described before launch, in the Trainer's own words.

Describing a job builds nothing and imports neither torch nor Lightning; `trace_job` does the work.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainfare_core.errors import InputError

__all__ = ["PRECISIONS", "STRATEGIES", "TrainingJob"]

PRECISIONS = (
    "32-true",
    "16-mixed",
    "bf16-mixed",
    "16-true",
    "bf16-true",
    "64-true",
    "transformer-engine",
    "transformer-engine-float16",
)
"""Lightning's precision words."""

_PRECISION_ALIASES = {"64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}

STRATEGIES = (
    "auto",
    "single_device",
    "ddp",
    "ddp_find_unused_parameters_false",
    "ddp_find_unused_parameters_true",
    "ddp_fork",
    "ddp_fork_find_unused_parameters_false",
    "ddp_fork_find_unused_parameters_true",
    "ddp_notebook",
    "ddp_notebook_find_unused_parameters_false",
    "ddp_notebook_find_unused_parameters_true",
    "ddp_spawn",
    "ddp_spawn_find_unused_parameters_false",
    "ddp_spawn_find_unused_parameters_true",
    "deepspeed",
    "deepspeed_stage_1",
    "deepspeed_stage_1_offload",
    "deepspeed_stage_2",
    "deepspeed_stage_2_offload",
    "deepspeed_stage_3",
    "deepspeed_stage_3_offload",
    "deepspeed_stage_3_offload_nvme",
    "fsdp",
    "fsdp_cpu_offload",
    "single_xla",
    "xla",
    "xla_debug",
    "xla_fsdp",
)
"""Lightning's strategy words under which each device does the whole model's maths."""

_LARGEST = {
    "batch_size": 10**9,
    "max_steps": 10**15,
    "max_epochs": 10**9,
    "train_samples": 10**15,
    "tokens_per_sample": 10**9,
    "accumulate_grad_batches": 10**6,
    "devices": 65_536,
    "num_nodes": 65_536,
    "checkpoint_every_n_steps": 10**12,
    "val_batches": 10**12,
    "val_every_n_steps": 10**12,
}
_OPTIONAL = (
    "max_steps",
    "max_epochs",
    "train_samples",
    "tokens_per_sample",
    "checkpoint_every_n_steps",
    "val_every_n_steps",
)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingJob:
    """
    One training run, before it is launched.

    Args:
        module: a LightningModule, or a callable without arguments that builds one (a class will do). It is
            called on fake tensors, so that a model of any size costs no memory.
        batch: one micro-batch as the training DataLoader yields it, or a callable that makes one.
        batch_size: samples in that micro-batch, per device: the `batch_size` of the DataLoader.
        max_steps: optimizer steps of the whole run; None for no limit.
        max_epochs: passes over the training set; None for no limit.
        train_samples: samples in the training set, over all devices.
        tokens_per_sample: tokens of one sample, for throughput in tokens.
        precision: one of `PRECISIONS`, or Lightning's short forms 64, 32, 16 and "bf16".
        accumulate_grad_batches: micro-batches in one optimizer step.
        devices: accelerators per node.
        num_nodes: machines.
        strategy: one of `STRATEGIES`.
        checkpoint_every_n_steps: optimizer steps between two checkpoints.
        val_batches: batches of one validation run, per device.
        val_every_n_steps: optimizer steps between two validation runs; None means once an epoch.

    Raises:
        InputError: a value that no Trainer takes; the message names the field and what is allowed.
    """

    module: Any = field(repr=False)
    batch: Any = field(repr=False)
    batch_size: int
    max_steps: int | None = None
    max_epochs: int | None = None
    train_samples: int | None = None
    tokens_per_sample: int | None = None
    precision: str = "bf16-mixed"
    accumulate_grad_batches: int = 1
    devices: int = 1
    num_nodes: int = 1
    strategy: str = "auto"
    checkpoint_every_n_steps: int | None = None
    val_batches: int = 0
    val_every_n_steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("module", "batch"):
            if getattr(self, name) is None:
                msg = f"TrainingJob.{name} is None: give the {name} itself, or a function that returns it"
                raise InputError(msg)
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            whole = _whole_number(name, value, smallest=0 if name == "val_batches" else 1, largest=largest)
            object.__setattr__(self, name, whole)
        precision = str(self.precision)
        object.__setattr__(
            self,
            "precision",
            _one_of("precision", _PRECISION_ALIASES.get(precision, precision), PRECISIONS),
        )
        _one_of("strategy", self.strategy, STRATEGIES)

    @property
    def world_size(self) -> int:
        """Devices in the whole run."""
        return self.devices * self.num_nodes

    @property
    def samples_per_step(self) -> int:
        """Samples of one optimizer step on one device."""
        return self.batch_size * self.accumulate_grad_batches


def is_builder(value: object) -> bool:
    """Tell a callable that builds something from a value; a module is callable, and a value all the same."""
    return callable(value) and (isinstance(value, type) or not hasattr(value, "named_parameters"))


def built(value: Any) -> Any:
    """Return the value, or what its builder returns."""
    if not is_builder(value):
        return value
    build: Callable[[], Any] = value
    return build()


def _whole_number(name: str, value: object, *, smallest: int, largest: int) -> int:
    none = ", or None" if name in _OPTIONAL else ""
    allowed = f"a whole number from {smallest} to {largest}{none}"
    if isinstance(value, bool):
        raise InputError(f"TrainingJob.{name} is {value!r}: it must be {allowed}")
    if isinstance(value, float):
        if not value.is_integer():
            raise InputError(f"TrainingJob.{name} is {value!r}: it must be {allowed}")
        value = int(value)
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"TrainingJob.{name} is {value!r}: it must be {allowed}") from None
    if not smallest <= number <= largest:
        raise InputError(f"TrainingJob.{name} is {number}: it must be {allowed}")
    return number


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> str:
    if isinstance(value, str) and value in allowed:
        return value
    near = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    msg = f"TrainingJob.{name} is {value!r}{hint}: Lightning's words for it are {', '.join(allowed)}"
    raise InputError(msg)
