"""A callback that counts what a loop calls of it."""

from __future__ import annotations

from typing import Any


class CallCounter:
    """In front of a framework's callback: counts each hook that is asked for."""

    calls: dict[str, int]

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            calls = object.__getattribute__(self, "calls")
            calls[name] = calls.get(name, 0) + 1
        return object.__getattribute__(self, name)
