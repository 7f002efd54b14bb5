"""What replaced calls answer: of the form that a run's answer has, and not a number."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import torch

_KEYBOARD: Final = ("", "y", "n")
"""Chosen: the default, then yes, then no; a prompt that takes none of them would ask for ever."""


class UntrainedMetrics(dict[str, Any]):
    """
    Metrics of a run that did not take place: those that are there, and nan under any other name.

    Args:
        metrics: those that are there.
        on_missing: told of each name that is not.
    """

    def __init__(self, metrics: Mapping[str, Any], on_missing: Callable[[str], None]) -> None:
        super().__init__(metrics)
        self._on_missing = on_missing

    def __missing__(self, name: str) -> Any:
        self._on_missing(name)
        return torch.tensor(math.nan)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a metric; nan where it is not there and no default is given."""
        return self[name] if name in self or default is None else default


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


def answer_input(record: Callable[[str], None]) -> Callable[[object], str]:
    """
    Return an `input` for a process without a terminal: an empty line, then "y", then "n", then the end of the file.

    Args:
        record: told of each answer.
    """
    asked: Counter[str] = Counter()

    def answer(prompt: object = "", /) -> str:
        print(prompt)  # noqa: T201 - as Python's own does
        count = asked[str(prompt)]
        asked[str(prompt)] += 1
        if count == len(_KEYBOARD):
            raise EOFError(f"a trace has no terminal, and input() was asked the same {count + 1} times")
        record(f"got {_KEYBOARD[count]!r}, because a trace has no terminal")
        return _KEYBOARD[count]

    return answer


def _nan() -> float:
    return math.nan
