"""What a script gets before training from what only training, or a person, would give: nan, or an empty line."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

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
