"""
Load a TARGET: `path/to/file.py:callable`, `package.module:callable`, or a LightningCLI config.

A file is loaded with its own directory on `sys.path` and leaves neither the path nor `sys.modules` changed, beyond the
time that its code runs: one process can load two versions of a script.
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
from types import ModuleType
from typing import Any, TypeAlias

from trainfare.job.missing_here import describe_raised
from trainfare.job.script_target import script_of
from trainfare.job.training_job import TrainingJob, is_builder
from trainfare.job.user_code import place_in_user_code
from trainfare.loops import load_kinds
from trainfare_core.errors import MissingExtraError, TargetError, TrainfareError
from trainfare_core.number_format import list_items

_EXPECTED = "give path/to/file.py:callable or package.module:callable that returns a TrainingJob"
FromTrainer: TypeAlias = Callable[[Any, tuple[Any, ...]], TrainingJob]
"""Makes a job of a Trainer and the arguments of its `fit`."""


def load_job(target: str, from_trainer: FromTrainer | None = None) -> TrainingJob:
    """
    Return the `TrainingJob` that a TARGET describes.

    Args:
        target: `file.py:callable`, `package.module:callable`, or the path of a LightningCLI YAML config.
        from_trainer: what to do where the callable returns a tuple of a Trainer and the arguments of its `fit`;
            None: it must return a TrainingJob.

    Raises:
        TargetError: no such file, module or name; the callable raised or returned something else.
        MissingExtraError: torch or Lightning is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise MissingExtraError("torch", "lightning")
    if Path(target).suffix in (".yaml", ".yml"):
        return _from_config(Path(target))
    if script_of(target) is not None:
        msg = f"{target} is a script, which only the command line runs"
        raise TargetError(f"{msg}: give {target}:callable that returns a TrainingJob, e.g. {target}:job")
    path, separator, name = target.rpartition(":")
    if not separator or not path or not name:
        raise TargetError(f"{target!r} names no callable: {_EXPECTED}")
    scope = Scope(Path(path).resolve().parent if path.endswith(".py") else Path.cwd())
    with scope:
        module = _load_file(Path(path)) if path.endswith(".py") else _load_module(path)
        job = _call(_find_callable(module, name, path), target, from_trainer)
    return scope.bind(job)


def _from_config(path: Path) -> TrainingJob:
    """Read a configuration file by the first kind of loop that has such files."""
    for kind in load_kinds():
        job: TrainingJob | None = kind.job_from_config(path)
        if job is not None:
            return job
    raise TargetError(f"{path}: no training loop is known that reads such a file; {_EXPECTED}")


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = _near_files(path)
        raise TargetError(f"{path}: no such file{near}; {_EXPECTED}")
    spec = importlib.util.spec_from_file_location(TARGET_MODULE, path.resolve())
    if spec is None or spec.loader is None:
        raise TargetError(f"{path}: not a Python file; {_EXPECTED}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[TARGET_MODULE] = module
    with _report_user_errors(f"importing {path}"):
        spec.loader.exec_module(module)
    return module


def _load_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise TargetError(f"{name!r} is neither a .py file nor a module name; {_EXPECTED}")
    with _report_user_errors(f"importing {name}", missing=name):
        return importlib.import_module(name)


def _find_callable(module: ModuleType, name: str, path: str) -> Callable[[], Any]:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
        if value is None:
            known = [
                key for key, value in vars(module).items() if callable(value) and not key.startswith("_")
            ]
            near = difflib.get_close_matches(name, known, n=3)
            own_names = [
                key for key in known if getattr(vars(module)[key], "__module__", None) == module.__name__
            ]
            hint = (
                f"did you mean {', '.join(near)}?"
                if near
                else f"it defines {list_items(own_names, 300, most_items=10) or 'no callable'}"
            )
            raise TargetError(f"{path} has no {name!r}: {hint}")
    if not callable(value):
        raise TargetError(f"{path}:{name} is a {type(value).__name__}, not a callable: {_EXPECTED}")
    return value  # type: ignore[no-any-return]


def _call(function: Callable[[], Any], target: str, from_trainer: FromTrainer | None) -> TrainingJob:
    with _report_user_errors(f"{target}()"):
        value = function()
    if isinstance(value, TrainingJob):
        return value
    name = type(value).__name__
    parts: tuple[Any, ...] = tuple(value) if name == "tuple" else (value,)
    is_trainer = bool(parts) and callable(getattr(parts[0], "fit", None)) and hasattr(parts[0], "fit_loop")
    if from_trainer is not None and is_trainer and len(parts) > 1:
        return from_trainer(parts[0], parts[1:])
    got = "a Trainer without its module" if is_trainer else f"a {name}"
    raise TargetError(
        f"{target}() returned {got}: it must return a trainfare.TrainingJob, or for the command line a Trainer "
        "with the arguments of its fit: (trainer, module) or (trainer, module, datamodule)"
    )


@contextlib.contextmanager
def _report_user_errors(doing: str, *, missing: str | None = None) -> Generator[None, None, None]:
    """Turn an exception of the user's code into a TargetError with its line; a TrainfareError keeps its class."""
    try:
        yield
    except TrainfareError as error:
        code_place = place_in_user_code(error.__traceback__)
        error.args = (f"{doing}: {error}" + (f" (at {code_place})" if code_place else ""),)
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{missing}.".startswith(f"{error.name}."):
            raise TargetError(f"no module named {missing!r} here: {_EXPECTED}") from error
        raise TargetError(describe_raised(doing, error, "it must load without training")) from error


def _near_files(path: Path) -> str:
    with contextlib.suppress(OSError):
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix == ".py"]
        near = difflib.get_close_matches(path.name, names, n=3)
        if near:
            return f" (near it: {', '.join(near)})"
    return ""


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
