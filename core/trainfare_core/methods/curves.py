"""
`LearningCurve`: loss and metrics of a run over its steps, as FareMeter records them; JSON with a published schema.

A curve holds at most a few hundred numbers, and no data, weights, paths or host names.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, ValidationError

from trainfare_core.documents import KeptDocument, Record, first_problem
from trainfare_core.errors import ProfileError
from trainfare_core.methods.methods import Method

MOST_POINTS: Final = 256
"""Of one curve. Chosen: enough for its shape; the recorder keeps references to so many tensors while the run trains."""
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=10**18)]
Name: TypeAlias = Annotated[str, Field(max_length=200)]


class Metric(Record):
    """A metric by its name in the Trainer, e.g. val_loss."""

    name: Name
    value: Number


class CurvePoint(Record):
    """Values after a number of optimizer steps."""

    step: Annotated[int, Field(ge=1, le=10**18)]
    train_loss: Number | None = Field(default=None, description="mean over the last few steps")
    metrics: Annotated[tuple[Metric, ...], Field(max_length=64)] = ()
    learning_rate: Number | None = None
    elapsed_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class LearningCurve(KeptDocument):
    """Learning curve of one run."""

    schema_version: Literal[1] = 1
    tool_version: Name
    name: Name
    strategy: Method | None = Field(
        default=None, description="as given or recognised; None: full fine-tuning and scratch look alike"
    )
    trainable_parameters: Count
    parameters: Count
    samples_per_step: Count | None = None
    train_samples: Count | None = Field(default=None, description="in one pass of this run")
    planned_steps: Count | None = Field(default=None, description="of the whole schedule")
    peak_memory_bytes: Count | None = None
    ended_early: bool = False
    points: Annotated[tuple[CurvePoint, ...], Field(max_length=MOST_POINTS)]
    notes: tuple[Annotated[str, Field(max_length=500)], ...] = ()

    @property
    def last_step(self) -> int:
        """Steps trained; 0 where nothing was recorded."""
        return self.points[-1].step if self.points else 0

    @property
    def seen(self) -> float | None:
        """Part of the schedule that the curve covers, 0..1; None where the schedule's length is not known."""
        return None if not self.planned_steps else min(1.0, self.last_step / self.planned_steps)

    def metric_names(self) -> tuple[str, ...]:
        """Return the metrics that were recorded, `train_loss` last."""
        names = {metric.name for point in self.points for metric in point.metrics}
        trained = ("train_loss",) if any(point.train_loss is not None for point in self.points) else ()
        return (*sorted(names), *trained)

    def series(self, name: str) -> tuple[tuple[int, float], ...]:
        """Return (step, value) of one metric, by step; empty where it was not recorded."""
        if name == "train_loss":
            return tuple(
                (point.step, point.train_loss) for point in self.points if point.train_loss is not None
            )
        return tuple(
            (point.step, metric.value)
            for point in self.points
            for metric in point.metrics
            if metric.name == name and math.isfinite(metric.value)
        )

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "curve") -> LearningCurve:
        """
        Read a curve.

        Raises:
            ProfileError: not JSON, not a curve, or of a newer schema.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            msg = f"{where}: not a learning curve that FareMeter wrote: {first_problem(error)}"
            raise ProfileError(msg) from error
