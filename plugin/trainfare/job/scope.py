"""Keep a TARGET's directory on `sys.path` and its modules in `sys.modules` only while its code runs."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from trainfare.job.training_job import TrainingJob, is_builder

TARGET_MODULE = "__trainfare_target__"
"""Name in `sys.modules` of a TARGET's file while its scope is entered."""


class Scope:
    """
    A context in which a target's directory is on `sys.path` and the modules imported from it in `sys.modules`.

    Args:
        directory: of the target's own modules.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._modules: dict[str, ModuleType] = {}
        self._shadowed: dict[str, ModuleType] = {}
        self._depth = 0

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth == 1:
            sys.path.insert(0, str(self._directory))
            importlib.invalidate_caches()
            local = self._local_names()
            self._shadowed = {
                name: module for name, module in sys.modules.items() if name.split(".")[0] in local
            }
            for name in self._shadowed:
                del sys.modules[name]
            sys.modules.update(self._modules)

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth:
            return
        with contextlib.suppress(ValueError):
            sys.path.remove(str(self._directory))
        local = self._local_names()
        self._modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] in local}
        for name in self._modules:
            del sys.modules[name]
        sys.modules.update(self._shadowed)
        self._shadowed = {}

    def bind(self, job: TrainingJob) -> TrainingJob:
        """Return the job with its builders wrapped to run inside this scope, so that they find their imports."""
        return dataclasses.replace(job, module=self._bound(job.module), batch=self._bound(job.batch))

    def _bound(self, value: Any) -> Any:
        if not is_builder(value):
            return value
        build: Callable[[], Any] = value

        def inside() -> Any:
            with self:
                return build()

        return inside

    def _local_names(self) -> set[str]:
        """Return the module names of this directory, without those of Python and of installed packages."""
        names: set[str] = set()
        with contextlib.suppress(OSError):
            for entry in self._directory.iterdir():
                if entry.suffix == ".py":
                    names.add(entry.stem)
                elif entry.name.isidentifier() and any(entry.glob("*.py")):
                    names.add(entry.name)
        ours = {"trainfare", "trainfare_core", "trainfare_providers"}
        return {name for name in names - ours - set(sys.stdlib_module_names) if self._provides(name)} | {
            TARGET_MODULE
        }

    def _provides(self, name: str) -> bool:
        """Return whether this directory provides a module of this name: a loaded one is not from site-packages."""
        loaded = sys.modules.get(name)
        origin = getattr(loaded, "__file__", None)
        return not (origin and "site-packages" in Path(origin).parts)
