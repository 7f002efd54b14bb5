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

    def wait_for(self, spec: ModuleSpec) -> None:
        """Call the function once an import that has begun ends well, of which its spec is told last."""
        kind = type(spec)

        def end(own: Any, is_initializing: bool) -> None:  # noqa: FBT001 - signature of a setter
            own.__class__ = kind
            own._initializing = is_initializing  # noqa: SLF001
            if self in sys.meta_path and self._name in sys.modules:
                self._then()

        spec.__class__ = type(kind.__name__, (kind,), {"_initializing": property(lambda _: True, end)})


@contextlib.contextmanager
def on_import(name: str, then: Callable[[], None]) -> Generator[None, None, None]:
    """Call a function once a module is imported, now or later: importing it here would cost seconds."""
    finder = _OnImport(name, then)
    spec: Any = getattr(sys.modules.get(name), "__spec__", None)
    begun = getattr(spec, "_initializing", False)  # what a module imports finds it half loaded
    if name in sys.modules and not begun:
        then()
    else:
        sys.meta_path.insert(0, finder)
        if begun:
            finder.wait_for(spec)
    try:
        yield
    finally:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
