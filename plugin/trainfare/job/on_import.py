"""Call a function once a module is imported."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, final


@final
class _OnImport(MetaPathFinder):
    """A finder that lets the others find a module, and calls a function once it is imported."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name, self._then = name, then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        for finder in sys.meta_path[
            sys.meta_path.index(self) + 1 :
        ]:  # one before it may wait for the same module
            spec = finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                loader: Any = spec.loader
                loader.exec_module = partial(self._execute, loader.exec_module)
                return spec
        return None

    def _execute(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        execute(module)
        self._then()


@contextlib.contextmanager
def on_import(name: str, then: Callable[[], None]) -> Generator[None, None, None]:
    """Call a function once a module is imported, now or later: importing it here would cost seconds."""
    finder = _OnImport(name, then)
    if name in sys.modules:
        then()
    else:
        sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
