"""
What a kind of training loop does for a trace before launch: it makes a module ready, with its optimizers and step.

A kind derives from both classes and defines what they leave open.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from trainfare.fake_step.fake_step import LaterSteps
from trainfare.fake_step.fake_tensors import Faker
from trainfare.fake_step.real_tensors import RealTensors
from trainfare.job import TrainingJob
from trainfare.job.loop import TrainingStep
from trainfare.loops import load_kinds
from trainfare_core.errors import InputError


class PreparedModule(Protocol):
    """A module that its kind of loop makes ready for its step, in the order of these methods."""

    def set_up(self, tensors: Faker | RealTensors) -> None:
        """Do what a run does with the module first, before it may be changed."""
        del tensors

    def configure(self, tensors: Faker | RealTensors) -> None:
        """Build the parts that are only built on the device; runs where new tensors are fake."""
        del tensors

    @property
    def manual(self) -> bool:
        """See `TrainingStep.manual`."""
        return False

    def later_steps(self) -> LaterSteps | None:
        """
        Return what changes the step in the course of the run; None: nothing does.

        Raises:
            InputError: the job asks for what the module does not do.
        """
        return None

    @abstractmethod
    def step(self, tensors: Faker | RealTensors) -> TrainingStep:
        """Make the module's optimizers and return its step."""
        ...

    @abstractmethod
    def step_of(
        self, version: nn.Module, optimizers: list[torch.optim.Optimizer], copier: Faker
    ) -> TrainingStep:
        """
        Return the step of a version of the module with fewer blocks, after that of the module was made.

        Args:
            version: the copy; it calls no hook that comes before the first step once more.
            optimizers: copies of the module's optimizers, with the parameters of the version.
            copier: made both, and can copy what refers to them.
        """
        ...

    @property
    def untraced(self) -> str:
        """Work of the run beside its step, as a sentence; empty where there is none."""
        return ""


class LoopKind(Protocol):
    """A kind of training loop, as `trainfare.loops` lists them."""

    modules: str
    """The modules that it trains, as an error names them, e.g. "a LightningModule"."""
    meter: str = ""
    """How a run of it is measured, as code; "" where it is not said."""
    loop: str = ""
    """As `ProfileSource.loop`."""
    casts_itself: bool = False
    """The module casts by itself what a precision names: there is no autocast around its step."""

    def takes(self, module: nn.Module) -> bool:
        """Return whether the loop trains such a module; not where only a job itself says so."""
        del module
        return False

    def kept_objects(self, job: TrainingJob) -> tuple[object, ...]:
        """Return the objects of a job, beside its module, whose attributes a trace puts back."""
        del job
        return ()

    @property
    def frozen_parameters(self) -> Sequence[nn.Parameter]:
        """See `Loop.frozen_parameters`."""
        return ()

    @abstractmethod
    def prepare(self, job: TrainingJob, module: nn.Module) -> PreparedModule:
        """Begin to make a module ready."""
        ...

    def job_from_config(self, path: Path) -> TrainingJob | None:
        """Return the job that a YAML file describes, or None where the loop has no such files; see `load_job`."""
        del path
        return None


def find_kind(made: object) -> LoopKind:
    """
    Return the kind of loop that trains a module.

    Args:
        made: what `TrainingJob.module` gave.

    Raises:
        InputError: no kind of loop takes it.
    """
    wanted: list[str] = []
    for kind in load_kinds():
        if isinstance(made, nn.Module) and kind.takes(made):
            return kind  # type: ignore[no-any-return]
        wanted.append(kind.modules)
    msg = f"TrainingJob.module gave a {type(made).__name__}"
    raise InputError(
        f"{msg}: it must be {' or '.join(wanted)}, or a function without arguments that returns one"
    )
