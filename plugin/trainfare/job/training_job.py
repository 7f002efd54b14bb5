"""
`TrainingJob`: a training run described before launch, with the argument names of Lightning's Trainer.

Describing a job builds nothing and loads neither torch nor Lightning; `trace_job` builds and traces it.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from trainfare.job.run_facts import InputSource
from trainfare_core.errors import InputError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

WORDS = tuple(
    csv.DictReader(Path(__file__).with_name("lightning_words.csv").read_text(encoding="utf-8").splitlines())
)
"""Lightning's words for precisions and strategies, and the classes that these name."""

PRECISIONS = tuple(row["word"] for row in WORDS if row["kind"] == "precision")
"""Lightning's precision words."""

_PRECISION_ALIASES = {"64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}

HYBRID = "FSDPStrategy(sharding_strategy='HYBRID_SHARD')"
"""Hybrid FSDP, which has no word in Lightning's registry, as plans write it."""

STRATEGIES = tuple(row["word"] for row in WORDS if row["kind"] == "strategy")
"""Lightning's strategy words under which each device does the whole model's maths."""


def canonical_precision(word: object) -> str:
    """Return Lightning's long form of a precision: "16" and 16 are "16-mixed"; other words stay as they are."""
    return _PRECISION_ALIASES.get(str(word), str(word))


def is_builder(value: object) -> bool:
    """
    Return whether a value is a function, method, class or partial, which builds something.

    Another object that can be called is what it is: a module, or a graph of PyTorch Geometric.
    """
    return isinstance(value, (type, functools.partial)) or inspect.isroutine(value)


def build_value(value: Any) -> Any:
    """Return the value, or what it builds if it is a builder."""
    if not is_builder(value):
        return value
    build: Callable[[], Any] = value
    return build()


def _require_value(value: Any) -> Any:
    if value is None:
        raise ValueError("give the object itself, or a function that returns it")
    return value


def _take_whole(value: object) -> object:
    """Take a float without a fraction (`max_steps=1e5`) and any other integer type as an int."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    index = None if isinstance(value, bool) else getattr(value, "__index__", None)
    return value if index is None else index()


def _make_tuple(value: object) -> object:
    """Take a list as a tuple, and one object as a tuple of one, as Lightning does."""
    return tuple(cast("list[object]", value)) if isinstance(value, (list, tuple)) else (value,)


def _fraction_or_batches(value: float) -> float:
    if 0 < value <= 1 if type(value) is float else 1 <= value <= _MOST_BATCHES:
        return value
    raise ValueError("give a fraction of an epoch above 0.0 and up to 1.0, or a whole number of batches")


def _one_of(allowed: tuple[str, ...]) -> AfterValidator:
    def check(value: str) -> str:
        if value in allowed:
            return value
        near = difflib.get_close_matches(value, allowed, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"{hint}Lightning's words for it are {', '.join(allowed)}")

    return AfterValidator(check)


_MOST_BATCHES = 10**12
# The upper bounds are far above any real run. They keep a slip of the keyboard (1e30 steps) from overflowing the
# 64-bit integers of a job profile.
_Object: TypeAlias = Annotated[Any, AfterValidator(_require_value)]
_Batches: TypeAlias = Annotated[int, BeforeValidator(_take_whole), Field(ge=0, le=_MOST_BATCHES)]
_Steps: TypeAlias = Annotated[int, BeforeValidator(_take_whole), Field(ge=1, le=10**12)]
_Large: TypeAlias = Annotated[int, BeforeValidator(_take_whole), Field(ge=1, le=10**15)]
_Medium: TypeAlias = Annotated[int, BeforeValidator(_take_whole), Field(ge=1, le=10**9)]
_MicroBatches: TypeAlias = Annotated[int, BeforeValidator(_take_whole), Field(ge=1, le=10**6)]
_Devices: TypeAlias = Annotated[int, BeforeValidator(_take_whole), Field(ge=1, le=2**16)]
_Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Interval: TypeAlias = Annotated[int | float, AfterValidator(_fraction_or_batches)]
_Callbacks: TypeAlias = Annotated[tuple[Any, ...], BeforeValidator(_make_tuple)]
_Precision: TypeAlias = Annotated[str, BeforeValidator(canonical_precision), _one_of(PRECISIONS)]
_Strategy: TypeAlias = Annotated[str, _one_of(STRATEGIES)]


@dataclass(frozen=True, slots=True, eq=False, config=ConfigDict(strict=True, extra="forbid"))
class TrainingJob:
    """
    One training run, before it is launched.

    Args:
        module: a LightningModule, or a function without arguments that builds one (a class will do). It is
            called on fake tensors, so a model of any size needs almost no memory.
        batch: one micro-batch as the training DataLoader yields it, in any form, or a function that makes one, e.g.
            `lambda: next(iter(loader))`. A step that reads its values needs real ones.
            A DataLoader, or `Batches` of several: where they vary in size, the job is priced at their mean.
        batch_size: samples in that micro-batch, per device: the `batch_size` of the DataLoader.
        max_steps: optimizer steps of the whole run; None for no limit.
        max_epochs: passes over the training set; None for no limit.
        train_samples: samples in the training set, over all devices.
        tokens_per_sample: tokens of one sample, for throughput in tokens; None: those of the batch's `input_ids`.
        precision: one of `PRECISIONS`, or Lightning's short forms 64, 32, 16 and "bf16".
        accumulate_grad_batches: micro-batches in one optimizer step.
        devices: accelerators per node.
        num_nodes: machines.
        strategy: one of `STRATEGIES`.
        sync_batchnorm: several devices share the moments of BatchNorm, as under `Trainer(sync_batchnorm=True)`.
        checkpoint_every_n_steps: optimizer steps between two checkpoints.
        val_batches: batches of one validation run, per device.
        val_every_n_steps: optimizer steps between two validation runs; None means once an epoch.
        val_check_interval: the same in Lightning's words: a fraction of an epoch (0.25: four times in it), or batches.
        gradient_clip_val: norm to which gradients are clipped in each optimizer step; None: not at all.
        datamodule: the LightningDataModule that the module reads as `trainer.datamodule`, set up by the caller.
        callbacks: Lightning callbacks. `setup` of those that change the module is called, and unfreezing, accumulation
            by epoch and pruning are followed over the epochs; checkpoints give `checkpoint_every_n_steps`. What else
            they do is not traced.

    Raises:
        InputError: an argument that no Trainer takes; the message names it and says what is allowed.

    >>> job = TrainingJob(module=object, batch=object, batch_size=8, max_steps=1e5, precision="bf16", devices=4)
    >>> job.max_steps, job.precision, job.world_size
    (100000, 'bf16-mixed', 4)
    >>> TrainingJob(module=object, batch=object, batch_size=0)
    Traceback (most recent call last):
    trainfare_core.errors.InputError: TrainingJob.batch_size is 0: Input should be greater than or equal to 1
    """

    module: _Object = dataclasses.field(repr=False)
    batch: _Object = dataclasses.field(repr=False)
    batch_size: _Medium
    max_steps: _Large | None = None
    max_epochs: _Medium | None = None
    train_samples: _Large | None = None
    tokens_per_sample: _Medium | None = None
    precision: _Precision = "bf16-mixed"
    accumulate_grad_batches: _MicroBatches = 1
    devices: _Devices = 1
    num_nodes: _Devices = 1
    strategy: _Strategy = "auto"
    sync_batchnorm: bool = False
    checkpoint_every_n_steps: _Steps | None = None
    val_batches: _Batches = 0
    val_every_n_steps: _Steps | None = None
    val_check_interval: _Interval | None = None
    gradient_clip_val: _Positive | None = None
    datamodule: Any = dataclasses.field(default=None, repr=False)
    callbacks: _Callbacks = dataclasses.field(default=(), repr=False)

    @model_validator(mode="wrap")
    @classmethod
    def _check_arguments(cls, arguments: Any, handler: Callable[[Any], TrainingJob]) -> TrainingJob:
        try:
            return handler(arguments)
        except ValidationError as error:
            names = [field.name for field in dataclasses.fields(cls)]
            raise InputError(
                "; ".join(_describe_problem(detail, names) for detail in error.errors())
            ) from None

    @model_validator(mode="after")
    def _one_interval(self) -> TrainingJob:
        if self.val_every_n_steps is not None and self.val_check_interval is not None:
            raise InputError("TrainingJob.val_every_n_steps and val_check_interval: give one of them")
        return self

    @property
    def world_size(self) -> int:
        """Devices in the whole run."""
        return self.devices * self.num_nodes

    @property
    def samples_per_step(self) -> int:
        """Samples of one optimizer step on one device."""
        return self.batch_size * self.accumulate_grad_batches


def _describe_problem(error: ErrorDetails, names: Sequence[str]) -> str:
    """Return one sentence: which argument, its value, and what is allowed."""
    field = error["loc"][0]
    name = names[field] if isinstance(field, int) and field < len(names) else field
    # The input of a missing argument is the whole call, with the user's batch in it.
    value = "" if error["type"].startswith("missing") else f" is {error['input']!r}"
    return f"TrainingJob.{name}{value}: {error['msg'].removeprefix('Value error, ')}"


if TYPE_CHECKING:
    ChosenBatchBase = functools.partial[Any]
else:
    ChosenBatchBase = functools.partial


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """
    Micro-batches as the training DataLoader yields them, for `TrainingJob(batch=Batches(...))`.

    Where they vary in size, the job is priced at their mean.

    Args:
        found: at least one batch; some 16 show how far a run's batches vary.

    >>> Batches(([1, 2], [3])).found
    ([1, 2], [3])
    """

    found: tuple[Any, ...]
    source: InputSource = InputSource()  # noqa: RUF009 - it is frozen


class ChosenBatch(ChosenBatchBase):
    """A builder of one of several batches, which need not have the job's `batch_size`."""

    @classmethod
    def of(cls, batch: Any) -> ChosenBatch:
        """Return a builder that returns this batch."""
        return cls(_same, batch)


def _same(batch: Any) -> Any:
    return batch
