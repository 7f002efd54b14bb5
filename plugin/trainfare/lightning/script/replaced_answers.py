"""What replaced calls of a Trainer answer: of the form that a run's answer has, and not a number."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch


def make_untrained_metrics(arguments: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return what `validate` and `test` do: for each loader, metrics by name, every one of which is nan."""
    loaders = arguments.get("dataloaders")
    count = len(cast("list[Any]", loaders)) if isinstance(loaders, (list, tuple)) else 1
    return [defaultdict(_nan) for _ in range(count)]


def make_untrained_predictions(arguments: Mapping[str, Any]) -> list[Any] | None:
    """Return what `predict` does: one batch with one prediction, which is nan."""
    return None if arguments.get("return_predictions") is False else [torch.tensor([math.nan])]


def name_unsaved_checkpoints(trainer: Any) -> list[str]:
    """Give the checkpoint callbacks of a Trainer what they have after a run, a path and a score; return the paths."""
    paths: list[str] = []
    for callback in trainer.checkpoint_callbacks:
        if hasattr(callback, "best_model_path"):
            folder = getattr(callback, "dirpath", None) or trainer.default_root_dir
            paths.append(str(Path(folder) / "not-saved-in-a-trace.ckpt"))
            callback.best_model_path = paths[-1]
            callback.best_model_score = torch.tensor(math.nan)
    return paths


def _nan() -> float:
    return math.nan
