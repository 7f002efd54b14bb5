"""A job that is read from a live Trainer: the numbers of its run are the Trainer's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ConfigDict, SkipValidation
from pydantic.dataclasses import dataclass

from trainfare.job.run_plan import LoopLength
from trainfare.job.training_job import TrainingJob
from trainfare_core.job_profile import JobProfile


@dataclasses.dataclass(frozen=True, slots=True)
class LiveRun:
    """
    What a live Trainer says of a run, besides what a `TrainingJob` describes.

    Attributes:
        trainer: the Trainer, whose attributes the module may read; its data are set up.
        facts: the settings that decide the length of the run.
        batch_size_known: whether the samples of a batch could be counted; else `TrainingJob.batch_size` is 1.
        notes: what was replaced, skipped or assumed, for the profile.
        further: lengths of further calls of `fit` that are like this one, and are counted with it.
        part: what part of the script's calls of `fit` is counted; "" where it is all of them.
        narrow: type of the products that the precision puts into fewer than 16 bits.
        batch_note: what stands for a batch of the data, for the place of the FLOPs; "" where it is one.
        replaced: a sentence on what was replaced before, for an error that may come of it; "" where nothing was.
        kind: the `LoopKind` of the Trainer; None: that which takes the module.
        profile: of a step that was traced while the script ran; None: it is traced afterwards.
        root: the object and its attribute that is the folder which the Trainer writes to.
        wrap_module: does with the module what the strategy does before its optimizers are made; returns notes.
    """

    trainer: Any
    facts: LoopLength
    batch_size_known: bool = True
    notes: tuple[str, ...] = ()
    narrow: str = "fp8"
    batch_note: str = ""
    wrap_module: Callable[[Any], Sequence[str]] | None = None
    further: tuple[LoopLength, ...] = ()
    part: str = ""
    replaced: str = ""
    kind: Any = None
    root: tuple[Any, str] | None = None
    profile: JobProfile | None = None


@dataclass(frozen=True, slots=True, eq=False, config=ConfigDict(strict=True, extra="forbid"))
class LiveJob(TrainingJob):
    """
    A `TrainingJob` whose module has been set up by a live Trainer: a trace does not call `setup` again.

    Args:
        live: the Trainer and what it says of the run, from which the plan is counted.
    """

    live: SkipValidation[LiveRun] = dataclasses.field(kw_only=True, repr=False)
