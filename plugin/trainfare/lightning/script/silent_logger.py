"""Loggers of either namespace that log nothing: no file, folder, connection or run of a tracking service is made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from trainfare.lightning.trainer_stub import NullLogger

_KEPT = ("name", "version", "save_dir", "log_dir", "root_dir")


class _Silent:
    """Put before a logger's class: keeps its name and folder as text, and does nothing in any method."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = kwargs.get("save_dir") or kwargs.get("dir") or next(iter(args), None)
        folder = str(given) if isinstance(given, (str, Path)) else "."
        name = str(kwargs.get("name") or "lightning_logs")
        version = str(kwargs.get("version") or "version_0")
        root = str(Path(folder) / name)
        texts = (name, version, folder, str(Path(root) / version), root)
        object.__setattr__(self, "trainfare_texts", dict(zip(_KEPT, texts, strict=True)))

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name == "trainfare_texts":
            return object.__getattribute__(self, name)
        return object.__getattribute__(self, "trainfare_texts").get(name, NullLogger())

    def __getitem__(self, index: int) -> _Silent:
        return self


@contextlib.contextmanager
def silent(base: Any) -> Generator[None, None, None]:
    """
    Make every logger silent that is made inside the block: each becomes an object of a silent subclass of its class.

    Args:
        base: Lightning's base class of loggers.
    """
    base.__new__ = staticmethod(_silent_new())
    try:
        yield
    finally:
        # Python does not forget that a class had a `__new__`: without one, it would refuse arguments from now on.
        base.__new__ = staticmethod(_plain_new)


def _plain_new(cls: Any, *_: object, **__: object) -> Any:
    plain: Any = object
    return plain.__new__(cls)


def _silent_new() -> Callable[..., Any]:
    values_by_type: dict[type, Any] = {}
    plain: Any = object

    def new(cls: Any, *_: object, **__: object) -> Any:
        if issubclass(cls, _Silent) or cls.__name__ == "DummyLogger":
            return plain.__new__(cls)
        if cls not in values_by_type:
            values_by_type[cls] = type(cls.__name__, (_Silent, cls), {"__module__": cls.__module__})
        return plain.__new__(values_by_type[cls])

    return new
