"""
What is replaced in Lightning while a script runs up to its call of `Trainer.fit`.

docs/scripts.md lists it for users. Everything else that the script does is done for real.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Generator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from trainfare.job import place_of_caller
from trainfare.job.fit_call import FitCall, Recorder, skip_call
from trainfare.job.launch import Launch
from trainfare.job.loop import do_nothing
from trainfare.job.on_import import on_import
from trainfare.job.untrained import UntrainedMetrics
from trainfare.job.user_code import replace_attribute
from trainfare.lightning.cli_config import script_of_config
from trainfare.lightning.script.live_fit import live_job
from trainfare.lightning.script.replaced_answers import (
    make_untrained_metrics,
    make_untrained_predictions,
    name_unsaved_checkpoints,
)
from trainfare.lightning.script.trainer_arguments import (
    replacing_connector,
    replacing_fabric_connector,
    tolerant,
)
from trainfare.lightning.trainer_stub import NullLogger
from trainfare.script.loop_scripts import LoopScript
from trainfare_core.errors import TargetError

NAMESPACES: Final = ("pytorch_lightning", "lightning.pytorch")
_FABRICS: Final = ("lightning.fabric", "lightning_fabric")
_SKIPPED: Final[Mapping[str, tuple[Callable[[Mapping[str, Any]], Any], str]]] = {
    "validate": (make_untrained_metrics, "did nothing here: its metrics are nan"),
    "test": (make_untrained_metrics, "did nothing here: its metrics are nan"),
    "predict": (make_untrained_predictions, "did nothing here: its one prediction is nan"),
}
"""Methods of a Trainer that run a loop which is not training: what they return, and how that is told."""
_METRICS: Final = ("callback_metrics", "logged_metrics", "progress_bar_metrics")
_MAY_BE_MISSING: Final = (
    ("strategies", "DeepSpeedStrategy", "ParallelStrategy"),
    ("strategies", "XLAStrategy", "ParallelStrategy"),
    ("strategies", "SingleDeviceXLAStrategy", "Strategy"),
    ("accelerators", "XLAAccelerator", "Accelerator"),
    ("plugins", "TransformerEnginePrecision", "Precision"),
)
"""Module, class, and the class whose `__init__` is enough for it where its package is not installed."""
_OF_LOADING: Final = {"map_location", "hparams_file", "strict", "weights_only"}
"""Arguments of `load_from_checkpoint` that do not make another module."""
_KEPT: Final = ("name", "version", "save_dir", "log_dir", "root_dir")
"""What a silent logger keeps, as text."""
_LEARNING_RATE: Final = 1e-3
"""Chosen: what `lr_find` suggests here; no cost depends on it."""


@contextlib.contextmanager
def intercept_trainers(recorder: Recorder) -> Generator[None, None, None]:
    """Replace what a Trainer would start, write or need a device for, once its namespace is imported."""
    with contextlib.ExitStack() as stack:
        for namespace in NAMESPACES:
            stack.enter_context(on_import(namespace, partial(_intercept, namespace, recorder, stack)))
        if not recorder.only_fit:
            for package in _FABRICS:
                replace = partial(_replace_fabric, package, recorder.launch, stack)
                stack.enter_context(on_import(f"{package}.fabric", replace))
        yield


def _replace_fabric(package: str, launch: Launch, stack: contextlib.ExitStack) -> None:
    home: Any = sys.modules[f"{package}.fabric"]
    connector = home._Connector  # noqa: SLF001
    replaced = replacing_fabric_connector(package, connector.__init__, launch)
    stack.enter_context(replace_attribute(connector, "__init__", replaced))


def _intercept(namespace: str, recorder: Recorder, stack: contextlib.ExitStack) -> None:
    stack.enter_context(_quiet(namespace))

    def part(name: str) -> ModuleType:
        return import_module(f"{namespace}.{name}")

    def replace(home: Any, name: str, value: object) -> None:
        stack.enter_context(replace_attribute(home, name, value))

    trainer: Any = part("trainer.trainer").Trainer
    replace(trainer, "fit", _record_fit(trainer.fit, namespace, recorder))
    if not recorder.only_fit:
        _intercept_loops(trainer, part("tuner.tuning").Tuner, recorder, replace)
        module: Any = part("core.module").LightningModule
        replace(module, "load_from_checkpoint", _load_untrained(module, recorder))
    connector: Any = part("trainer.connectors.accelerator_connector")._AcceleratorConnector  # noqa: SLF001
    replace(connector, "__init__", replacing_connector(namespace, connector.__init__))
    stack.enter_context(_silent(part("loggers.logger").Logger))
    for home, name, base in _MAY_BE_MISSING:
        loose: Any = part(home)
        cls: Any = getattr(loose, name, None)
        if cls is not None:
            replace(cls, "__init__", tolerant(cls.__init__, getattr(loose, base)))


def _intercept_loops(
    trainer: Any, tuner: Any, recorder: Recorder, replace: Callable[[Any, str, object], None]
) -> None:
    for name, (result, what) in _SKIPPED.items():
        replace(trainer, name, skip_call(getattr(trainer, name), f"Trainer.{name}", recorder, result, what))
    for name in _METRICS:
        replace(trainer, name, _give_untrained(getattr(trainer, name), f"Trainer.{name}", recorder))
    replace(
        trainer,
        "save_checkpoint",
        skip_call(trainer.save_checkpoint, "save_checkpoint", recorder, do_nothing),
    )
    replace(tuner, "lr_find", skip_call(tuner.lr_find, "Tuner.lr_find", recorder, _suggestion))
    replace(tuner, "scale_batch_size", _keep_batch_size(tuner.scale_batch_size, recorder))


def _record_fit(original: Callable[..., None], namespace: str, recorder: Recorder) -> Callable[..., None]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> None:
        arguments = dict(signature.bind(self, *args, **kwargs).arguments)
        arguments.pop("self", None)
        recorder.note_call(FitCall(self, arguments, namespace, place_of_caller(), live_job), "Trainer.fit")
        self.strategy._lightning_module = arguments["model"]  # noqa: SLF001
        recorder.untrained.update(dict.fromkeys(name_unsaved_checkpoints(self), arguments["model"]))

    return fit


def _give_untrained(original: property, name: str, recorder: Recorder) -> property:
    read: Any = original.fget
    return property(
        lambda trainer: UntrainedMetrics(
            read(trainer), lambda metric: recorder.skip(f"{name}[{metric!r}]", "is nan here")
        )
    )


def _load_untrained(module_class: Any, recorder: Recorder) -> Any:
    """Return a `load_from_checkpoint` that knows the checkpoints which skipped calls of `fit` did not save."""
    original: Any = inspect.getattr_static(module_class, "load_from_checkpoint")

    def load(cls: Any, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        module = recorder.untrained.get(str(checkpoint_path))
        if not isinstance(module, cls) or kwargs.keys() - _OF_LOADING:
            return original.__get__(None, cls)(checkpoint_path, *args, **kwargs)
        recorder.skip("load_from_checkpoint", "gave the module as it was before training")
        return module

    return classmethod(load)


def _keep_batch_size(original: Callable[..., Any], recorder: Recorder) -> Callable[..., Any]:
    """Return a `scale_batch_size` that returns the batch size that the module or datamodule has."""
    signature = inspect.signature(original)

    @functools.wraps(original)
    def return_batch_size(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        recorder.skip("Tuner.scale_batch_size")
        name = bound.arguments.get("batch_arg_name", "batch_size")
        for owner in (bound.arguments.get("model"), bound.arguments.get("datamodule")):
            for holder in (owner, getattr(owner, "hparams", None)):
                if getattr(holder, name, None) is not None:
                    return getattr(holder, name)
        return None

    return return_batch_size


def _suggestion(_: object) -> SimpleNamespace:
    def suggest(*_: object, **__: object) -> float:
        return _LEARNING_RATE

    return SimpleNamespace(suggestion=suggest, results={"lr": [], "loss": []}, plot=NullLogger())


def _read_returned(trainer: Any, arguments: tuple[Any, ...], code_place: str) -> FitCall:
    """
    Return a call of `fit` that was not made.

    Args:
        trainer: made inside `intercept_trainers`.
        arguments: of `fit`.
        code_place: where the Trainer comes from.

    Raises:
        TargetError: it is no Trainer of Lightning, or it takes no such arguments.
    """
    homes = [base.__module__.removesuffix(".trainer.trainer") for base in type(trainer).__mro__]
    namespace = next((home for home in homes if home in NAMESPACES), None)
    if namespace is None:
        msg = f"{code_place}: a {type(trainer).__name__} is no Trainer of lightning.pytorch or pytorch_lightning"
        raise TargetError(msg)
    try:
        bound = inspect.signature(trainer.fit).bind(*arguments)
    except TypeError as error:
        raise TargetError(
            f"{code_place}: its tuple is a Trainer and the arguments of its fit: {error}"
        ) from error
    return FitCall(trainer, dict(bound.arguments), namespace, code_place, live_job)


@contextlib.contextmanager
def _quiet(namespace: str) -> Generator[None, None, None]:
    """Leave out what Lightning says of devices that were replaced, and of settings that the run itself will warn of."""
    log = logging.getLogger(namespace)
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Those that name a line of Lightning's; its deprecations of the user's code name the user's.
            warnings.filterwarnings("ignore", module=r"(lightning|pytorch_lightning|lightning_fabric)\.")
            yield
    finally:
        log.setLevel(before)


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
def _silent(base: Any) -> Generator[None, None, None]:
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


SCRIPT: Final = LoopScript(
    intercept_trainers,
    probe="trainfare.lightning.probe",
    read_returned=_read_returned,
    script_of_config=script_of_config,
)
"""As `trainfare.loops` asks for it."""
