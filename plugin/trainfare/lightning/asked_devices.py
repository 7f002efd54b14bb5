"""How many devices `Trainer(devices=...)` asks for: a number, or as many as the machine has."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Final, cast

_FILE: Final = "trainer/trainer.py"
_DEEPEST: Final = 12
"""Callers of a property of a callback up to the Trainer's `__init__`. Chosen: three in Lightning 2.6."""


def count_devices(value: Any) -> int | None:
    """Return how many devices `Trainer(devices=...)` asks for; None: as many as the machine has."""
    if isinstance(value, str) and value.strip().lstrip("-").isdigit():
        value = int(value)
    if isinstance(value, str) and "," in value:
        return sum(bool(part.strip()) for part in value.split(","))
    if isinstance(value, (list, tuple)):
        chosen = list(cast("Iterable[object]", value))
        if chosen and chosen != [-1]:
            return len(chosen)
    return value if isinstance(value, int) and value > 0 else None


def takes_any_devices() -> bool | None:
    """
    Return whether the Trainer that is being made takes as many devices as the machine has; None where none is.

    A Trainer forgets `devices="auto"` for the number that it found. While it is made it asks its callbacks for their
    `state_key`, and its argument is still there.
    """
    frame = inspect.currentframe()
    for _ in range(_DEEPEST):
        frame = None if frame is None else frame.f_back
        if frame is None:
            return None
        code = frame.f_code
        if code.co_name == "__init__" and code.co_filename.replace("\\", "/").endswith(_FILE):
            return count_devices(frame.f_locals["devices"]) is None if "devices" in frame.f_locals else None
    return None
