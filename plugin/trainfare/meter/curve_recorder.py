"""
The learning curve of a pilot run, for `trainfare strategy --pilot`.

While the run trains, only references to losses and metrics are kept: no value is read, so the host never waits
for the device, nothing is computed, and no more than `MOST_POINTS` points are held. They are read once, at the end.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from trainfare_core.strategy.curves import MOST_POINTS, CurvePoint, LearningCurve, Metric
from trainfare_core.strategy.strategies import STRATEGY_NAMES, Strategy

__all__ = ["AUTO", "CurveRecorder"]

AUTO = "auto"
"""Read the strategy from the module: adapters, packed weights, few trained parameters."""
FILE_NAME = "trainfare-curve.json"
AVERAGED = 8
"""Losses of so many steps make one point's training loss."""
FEW_TRAINED = 0.05
MOST_METRICS = 16


@dataclass(slots=True)
class _Seen:
    """One point, unread."""

    step: int
    losses: tuple[Any, ...]
    metrics: dict[str, Any]
    learning_rate: float | None
    elapsed_s: float


class CurveRecorder:
    """
    Records one run.

    Args:
        strategy: one of `STRATEGY_NAMES`, or `AUTO`.
        now: seconds from any origin.
    """

    def __init__(self, strategy: str, now: Callable[[], float]) -> None:
        self._strategy, self._now = strategy, now
        self._points: list[_Seen] = []
        self._recent: deque[Any] = deque(maxlen=AVERAGED)
        self._every = 1
        self._step = 0
        self._next = 1
        self._began_s = now()
        self._name = "run"
        self._parameters = self._trained = 0
        self._seen_as: Strategy | None = None

    def start(self, trainer: Any, module: nn.Module) -> None:
        """Read what the run is; called once, before the first step."""
        self._step = int(trainer.global_step)
        self._next = self._step + 1
        self._began_s = self._now()
        self._name = type(module).__name__[:200]
        self._parameters = sum(_count(parameter) for parameter in module.parameters())
        self._trained = sum(_count(one) for one in module.parameters() if one.requires_grad)
        self._seen_as = self._told_or_seen(module)

    def batch_end(self, trainer: Any, outputs: Any) -> None:
        """Keep a reference to the loss, and a point where one is due."""
        step = int(trainer.global_step)
        loss = _loss(outputs)
        if loss is not None:
            self._recent.append(loss)
        if step == self._step:
            return
        self._step = step
        if step >= self._next:
            self._keep(trainer, {})
            self._next = step + self._every

    def validation_end(self, trainer: Any) -> None:
        """Keep the metrics of a validation run: always a point of its own."""
        if self._step < 1:
            return
        metrics = {
            str(name): value
            for name, value in list(trainer.callback_metrics.items())[:MOST_METRICS]
            if not str(name).startswith("fare/")
        }
        if self._points and self._points[-1].step == self._step:
            self._points[-1].metrics.update(metrics)
        else:
            self._keep(trainer, metrics)

    def _keep(self, trainer: Any, metrics: dict[str, Any]) -> None:
        point = _Seen(
            self._step, tuple(self._recent), dict(metrics), _rate(trainer), self._now() - self._began_s
        )
        self._points.append(point)
        if len(self._points) >= MOST_POINTS:
            self._thin()

    def _thin(self) -> None:
        """Leave one point a stretch of steps, evenly over the whole run, rather one with metrics; and the newest."""
        self._one_a_stretch()
        while len(self._points) > MOST_POINTS // 2:
            self._every *= 2
            self._one_a_stretch()

    def _one_a_stretch(self) -> None:
        if not self._points:
            return
        newest = self._points[-1]
        kept: dict[int, _Seen] = {}
        for point in self._points:
            before = kept.get(point.step // self._every)
            if before is None or point.metrics or not before.metrics:
                kept[point.step // self._every] = point
        self._points = list(kept.values())
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
        """Read everything that was kept, once; waits for the device."""
        self._one_a_stretch()
        return LearningCurve(
            tool_version=tool_version,
            name=self._name,
            strategy=self._seen_as,
            trainable_parameters=self._trained,
            parameters=self._parameters,
            samples_per_step=samples_per_step,
            train_samples=train_samples,
            planned_steps=planned_steps,
            peak_memory_bytes=peak_memory_bytes,
            ended_early=ended_early,
            points=tuple(_read(point) for point in self._points),
            notes=self._notes(),
        )

    @staticmethod
    def write(curve: LearningCurve, directory: Path) -> Path:
        """Write a curve, whole or not at all, and return where."""
        from trainfare_providers.disk.files import make_folder, write_text

        make_folder(directory)
        path = directory / FILE_NAME
        write_text(path, curve.to_json())
        return path

    def _told_or_seen(self, module: nn.Module) -> Strategy | None:
        for strategy in STRATEGY_NAMES:
            if strategy == self._strategy:
                return strategy
        names: list[str] = [name for name, _ in module.named_parameters()]
        if any("lora_" in name for name in names):
            packed = any(one.dtype in (torch.uint8, torch.int8) for one in module.parameters())
            return "qlora" if packed else "lora"
        few = self._parameters > 0 and self._trained < FEW_TRAINED * self._parameters
        return "linear_probe" if few else None

    def _notes(self) -> tuple[str, ...]:
        if self._seen_as is not None:
            return ()
        return ("full fine-tuning and training from scratch look alike: say which with FareMeter(pilot=...)",)


def _count(parameter: torch.Tensor) -> int:
    packed = 2 if parameter.dtype == torch.uint8 else 1
    return parameter.numel() * packed


def _loss(outputs: Any) -> Any:
    """Return the loss tensor in what a training step gave, without its graph; None where there is none."""
    found: Any = outputs
    if isinstance(outputs, dict):
        found = cast("dict[str, Any]", outputs).get("loss")
    return found.detach() if isinstance(found, torch.Tensor) and found.numel() == 1 else None


def _rate(trainer: Any) -> float | None:
    for optimizer in trainer.optimizers[:1]:
        rate = optimizer.param_groups[0].get("lr")
        return float(rate) if isinstance(rate, (int, float)) else None
    return None


def _read(point: _Seen) -> CurvePoint:
    losses = [value for one in point.losses if (value := _number(one)) is not None]
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
    """Return a finite number; None for what has none: a diverged loss, a metric that is no scalar."""
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
    return number if math.isfinite(number) else None
