"""
Recorder of the learning curve of a pilot run, for `trainfare strategy --pilot`.

While training runs, it keeps references to losses and metrics, at most `MOST_POINTS` points of them. It computes
nothing and reads no value, so the host does not wait for the device. The values are read once, at the end.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from trainfare.job.loop import Loop
from trainfare_core.methods.curves import MOST_POINTS, CurvePoint, LearningCurve, Metric
from trainfare_core.methods.methods import METHOD_NAMES, Method

AVERAGED_LOSSES = 8
"""The training loss of a point is the mean over this many batches; a chosen value that smooths the noise of single
batches."""
MAX_PROBE_SHARE = 0.05
"""Largest share of trained parameters that is taken for a linear probe; a chosen value. A classification head is
usually below it, and fine-tuning without adapters trains far more."""
MAX_METRICS = 16
"""Validation metrics kept of one point; a chosen value that bounds memory and the size of the file."""
PACKED_PER_BYTE = 2
"""4-bit weights, as bitsandbytes packs them, in one element of type uint8."""


@dataclass(slots=True)
class _RecordedPoint:
    """One point of the curve, as references to tensors."""

    step: int
    losses: tuple[Any, ...]
    metrics: dict[str, Any]
    learning_rate: float | None
    elapsed_s: float


class CurveRecorder:
    """
    Records the learning curve of one run.

    Args:
        strategy: one of `METHOD_NAMES`, or `auto` to infer it from the module: from adapters, packed weights and the
            share of trained parameters.
        now: seconds from any origin.
    """

    def __init__(self, strategy: str, now: Callable[[], float]) -> None:
        self._strategy, self._now = strategy, now
        self._loop: Loop
        self._points: list[_RecordedPoint] = []
        self._recent: deque[Any] = deque(maxlen=AVERAGED_LOSSES)
        self._every = 1
        self._step = 0
        self._next = 1
        self._began_s = now()
        self._name = "run"
        self._parameters = self._trained = 0
        self._recorded_strategy: Method | None = None

    def start(self, loop: Loop) -> None:
        """Read parameters and strategy of the module; called once, before the first step."""
        self._loop, module = loop, loop.module
        self._step = loop.updates
        self._next = self._step + 1
        self._began_s = self._now()
        self._name = type(module).__name__[:200]
        self._parameters = sum(_count(parameter) for parameter in module.parameters())
        self._trained = sum(_count(parameter) for parameter in module.parameters() if parameter.requires_grad)
        self._recorded_strategy = self._method_of(module)

    def batch_end(self, output: Any) -> None:
        """Keep a reference to the loss, or to that of a mapping with one, and add a point where one is due."""
        step = self._loop.updates
        loss = _read_loss(output)
        if loss is not None:
            self._recent.append(loss)
        if step == self._step:
            return
        self._step = step
        if step >= self._next:
            self._keep({})
            self._next = step + self._every

    def validation_end(self) -> None:
        """Add the metrics of a validation run to the point of this step."""
        if self._step < 1:
            return
        metrics = {
            str(name): value
            for name, value in list(self._loop.metrics().items())[:MAX_METRICS]
            if not str(name).startswith("fare/")
        }
        if self._points and self._points[-1].step == self._step:
            self._points[-1].metrics.update(metrics)
        else:
            self._keep(metrics)

    def _keep(self, metrics: dict[str, Any]) -> None:
        point = _RecordedPoint(
            self._step, tuple(self._recent), dict(metrics), _rate(self._loop), self._now() - self._began_s
        )
        self._points.append(point)
        if len(self._points) >= MOST_POINTS:
            self._thin()

    def _thin(self) -> None:
        """Halve the points: double the distance until at most half of `MOST_POINTS` are left."""
        self._keep_one_per_interval()
        while len(self._points) > MOST_POINTS // 2:
            self._every *= 2
            self._keep_one_per_interval()

    def _keep_one_per_interval(self) -> None:
        """Keep one point of each `_every` steps, if possible one with metrics, and the newest point."""
        if not self._points:
            return
        newest = self._points[-1]
        points: dict[int, _RecordedPoint] = {}
        for point in self._points:
            before = points.get(point.step // self._every)
            if before is None or point.metrics or not before.metrics:
                points[point.step // self._every] = point
        self._points = list(points.values())
        if self._points[-1] is not newest:
            self._points.append(newest)

    def curve(
        self,
        *,
        tool_version: str,
        planned_steps: int | None,
        samples_per_step: int | None,
        train_samples: int | None,
        peak_memory_bytes: int | None,
        ended_early: bool,
    ) -> LearningCurve:
        """Return the curve with the values of all points; waits for the device."""
        self._keep_one_per_interval()
        return LearningCurve(
            tool_version=tool_version,
            name=self._name,
            strategy=self._recorded_strategy,
            trainable_parameters=self._trained,
            parameters=self._parameters,
            samples_per_step=samples_per_step,
            train_samples=train_samples,
            planned_steps=planned_steps,
            peak_memory_bytes=peak_memory_bytes,
            ended_early=ended_early,
            points=tuple(_read(point) for point in self._points),
            notes=self._write_notes(),
        )

    def _method_of(self, module: nn.Module) -> Method | None:
        for strategy in METHOD_NAMES:
            if strategy == self._strategy:
                return strategy
        names: list[str] = [name for name, _ in module.named_parameters()]
        if any("lora_" in name for name in names):
            packed = any(parameter.dtype in (torch.uint8, torch.int8) for parameter in module.parameters())
            return "qlora" if packed else "lora"
        few = self._parameters > 0 and self._trained < MAX_PROBE_SHARE * self._parameters
        return "linear_probe" if few else None

    def _write_notes(self) -> tuple[str, ...]:
        if self._recorded_strategy is not None:
            return ()
        return (
            "full fine-tuning and training from scratch cannot be told apart: name one with FareMeter(pilot=...)",
        )


def _count(parameter: torch.Tensor) -> int:
    return parameter.numel() * (PACKED_PER_BYTE if parameter.dtype == torch.uint8 else 1)


def _read_loss(outputs: Any) -> Any:
    """Return the loss in the output of a training step, detached from its graph; None where there is none."""
    loss: Any = outputs
    if isinstance(outputs, dict):
        loss = cast("dict[str, Any]", outputs).get("loss")
    return loss.detach() if isinstance(loss, torch.Tensor) and loss.numel() == 1 else None


def _rate(loop: Loop) -> float | None:
    for optimizer in loop.optimizers[:1]:
        rate = optimizer.param_groups[0].get("lr")
        return float(rate) if isinstance(rate, (int, float)) else None
    return None


def _read(point: _RecordedPoint) -> CurvePoint:
    losses = [value for loss in point.losses if (value := _number(loss)) is not None]
    metrics = {name: _number(value) for name, value in sorted(point.metrics.items())}
    return CurvePoint(
        step=point.step,
        train_loss=sum(losses) / len(losses) if losses else None,
        metrics=tuple(
            Metric(name=name[:200], value=value) for name, value in metrics.items() if value is not None
        ),
        learning_rate=point.learning_rate,
        elapsed_s=max(0.0, point.elapsed_s),
    )


def _number(value: Any) -> float | None:
    """Return a finite number; None for NaN and infinity, and for what is not a scalar."""
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if math.isfinite(number) else None
