"""
Load a TARGET: `path/to/file.py:callable`, `package.module:callable`, or a LightningCLI config.

A file is loaded with its own directory on `sys.path` and leaves neither the path nor `sys.modules` changed:
one process can load two versions of a script.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from trainfare.training_job import TrainingJob, is_builder
from trainfare.user_code import describe, place_in_user_code
from trainfare_core.errors import MissingExtraError, TargetError, TrainfareError
from trainfare_core.job_profile import JobProfile

__all__ = ["load_job", "load_profile", "load_target"]

_EXPECTED = "give path/to/file.py:callable or package.module:callable that returns a TrainingJob"


def load_profile(target: str) -> JobProfile:
    """
    Load a TARGET and trace it; what the user's code prints goes to stderr.

    Raises:
        TargetError: the target cannot be loaded.
        MissingExtraError: torch or Lightning is not installed.
        TraceError: the step cannot be traced without hardware.
    """
    with contextlib.redirect_stdout(sys.stderr):
        job = load_job(target)
        from trainfare.job_trace import trace_job

        return trace_job(job)


def load_job(target: str) -> TrainingJob:
    """
    Return the `TrainingJob` of a TARGET that is about to be traced.

    Raises:
        TargetError: the target cannot be loaded.
        MissingExtraError: torch or Lightning is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("torch", "lightning")
    return load_target(target)


def load_target(target: str) -> TrainingJob:
    """
    Return the `TrainingJob` that a TARGET describes.

    Args:
        target: `file.py:callable`, `package.module:callable`, or the path of a LightningCLI YAML config.

    Raises:
        TargetError: no such file, module or name; the callable raised or returned something else.
    """
    if Path(target).suffix in (".yaml", ".yml"):
        from trainfare.cli_config import job_from_config

        return job_from_config(Path(target))
    place, separator, name = target.rpartition(":")
    if not separator or not place or not name:
        suggestion = f", e.g. {target}:job" if target.endswith(".py") else ""
        raise TargetError(f"{target!r} names no callable: {_EXPECTED}{suggestion}")
    scope = Scope(Path(place).resolve().parent if place.endswith(".py") else Path.cwd())
    with scope:
        module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
        job = _call(_named(module, name, place), target)
    return scope.bind(job)


class Scope:
    """
    The directory of a target on `sys.path`, and the modules imported from it, for as long as it is entered.

    Args:
        directory: where the target's own modules lie.
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """Return the job with its builders run inside this scope, so that what they import is found."""
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
        """Name what this directory provides, except what Python and installed packages have already."""
        names: set[str] = set()
        with contextlib.suppress(OSError):
            for entry in self._directory.iterdir():
                if entry.suffix == ".py":
                    names.add(entry.stem)
                elif entry.name.isidentifier() and any(entry.glob("*.py")):
                    names.add(entry.name)
        ours = {"trainfare", "trainfare_core", "trainfare_providers"}
        return {name for name in names - ours - set(sys.stdlib_module_names) if self._provides(name)} | {
            _ALIAS
        }

    def _provides(self, name: str) -> bool:
        """Tell whether a module of this name, if it is loaded, is not an installed package's."""
        loaded = sys.modules.get(name)
        origin = getattr(loaded, "__file__", None)
        return not (origin and "site-packages" in Path(origin).parts)


_ALIAS = "__trainfare_target__"


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = _near_files(path)
        raise TargetError(f"{path}: no such file{near}; {_EXPECTED}")
    spec = importlib.util.spec_from_file_location(_ALIAS, path.resolve())
    if spec is None or spec.loader is None:
        raise TargetError(f"{path}: not a Python file; {_EXPECTED}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_ALIAS] = module
    with _reported(f"importing {path}"):
        spec.loader.exec_module(module)
    return module


def _load_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise TargetError(f"{name!r} is neither a .py file nor a module name; {_EXPECTED}")
    with _reported(f"importing {name}", missing=name):
        return importlib.import_module(name)


def _named(module: ModuleType, name: str, place: str) -> Callable[[], Any]:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            known = [
                key for key, value in vars(module).items() if callable(value) and not key.startswith("_")
            ]
            near = difflib.get_close_matches(name, known, n=3)
            own = [key for key in known if getattr(vars(module)[key], "__module__", None) == module.__name__]
            hint = (
                f"did you mean {', '.join(near)}?"
                if near
                else f"it defines {', '.join(own[:10]) or 'no callable'}"
            )
            raise TargetError(f"{place} has no {name!r}: {hint}")
    if not callable(found):
        raise TargetError(f"{place}:{name} is a {type(found).__name__}, not a callable: {_EXPECTED}")
    return found  # type: ignore[no-any-return]


def _call(function: Callable[[], Any], target: str) -> TrainingJob:
    with _reported(f"{target}()"):
        job = function()
    if not isinstance(job, TrainingJob):
        raise TargetError(
            f"{target}() returned a {type(job).__name__}: it must return a trainfare.TrainingJob"
        )
    return job


@contextlib.contextmanager
def _reported(doing: str, *, missing: str | None = None) -> Generator[None, None, None]:
    """Turn what the user's code raises into a TargetError with its line; keep our own errors' class."""
    try:
        yield
    except TrainfareError as error:
        place = place_in_user_code(error.__traceback__)
        error.args = (f"{doing}: {error}" + (f" (at {place})" if place else ""),)
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{missing}.".startswith(f"{error.name}."):
            raise TargetError(f"no module named {missing!r} here: {_EXPECTED}") from error
        at = f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) else None
        place = at or place_in_user_code(error.__traceback__)
        where = f" at {place}" if place else ""
        raise TargetError(
            f"{doing} raised {describe(error)}{where}: it must load without training"
        ) from error


def _near_files(path: Path) -> str:
    with contextlib.suppress(OSError):
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix == ".py"]
        near = difflib.get_close_matches(path.name, names, n=3)
        if near:
            return f" (near it: {', '.join(near)})"
    return ""
