"""
Read a LightningCLI YAML config (`model`, `data`, `trainer`, `optimizer`, `lr_scheduler`) as a `TrainingJob`.

A config that names its classes (`class_path`) is enough by itself; of any other, `script_of_config` finds the script,
which knows them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Generator, Mapping
from pathlib import Path
from types import MethodType
from typing import Any, cast

from trainfare.job.missing_here import missing_here
from trainfare.job.script_target import Script
from trainfare.job.training_job import TrainingJob
from trainfare.job.user_code import describe, place_in_user_code
from trainfare_core.documents import MAX_DEPTH
from trainfare_core.errors import MissingExtraError, TargetError, TrainfareError
from trainfare_providers.disk.files import read_input

_MAX_BYTES = 2**20
"""Limit that keeps a damaged or hostile file from filling memory; chosen, many times the size of a real config."""
_FOLDERS_ABOVE = 3
"""Chosen: the folder of a run is two above the config in `lightning_logs/version_0`; one more for `configs/`."""
_SHORTENING = ("limit_train_batches", "overfit_batches", "fast_dev_run", "max_time")
"""Keys of `trainer` that change how many steps a run has, by rules that only a Trainer knows."""
_HAND_WRITTEN = "or write a function that returns a TrainingJob, and give script.py:function"


def job_from_config(path: Path) -> TrainingJob:
    """
    Read a LightningCLI config and return its job; the data are built now, the model when it is traced.

    Args:
        path: a YAML file whose `model` and `data` sections have a `class_path`.

    Raises:
        TargetError: the file is not such a config, or its data give no batch without a download.
        MissingExtraError: PyYAML, torch or jsonargparse is not installed.
    """
    from trainfare.job.target import Scope

    config = read_config(path)
    trainer = _render_section(path, config, "trainer")
    model = _render_section(path, config, "model")
    _class_path(path, "model", model)
    _refuse_shortened(path, trainer)
    scope = Scope(path.resolve().parent)
    with scope:
        batch, batch_size, train_samples = _first_batch(path, config)

        def build() -> Any:
            return _with_optimizer(path, config, _instance(path, "model", model))

        return scope.bind(
            TrainingJob(
                module=build,
                batch=batch,
                batch_size=batch_size,
                train_samples=train_samples,
                max_steps=_limit(trainer.get("max_steps")),
                max_epochs=_limit(trainer.get("max_epochs")),
                precision=str(trainer.get("precision") or "32-true"),
                accumulate_grad_batches=trainer.get("accumulate_grad_batches") or 1,
                devices=_devices(path, trainer.get("devices")),
                num_nodes=trainer.get("num_nodes") or 1,
                strategy=_strategy(path, trainer.get("strategy")),
                sync_batchnorm=trainer.get("sync_batchnorm") or False,
            )
        )


def script_of_config(target: str) -> Script | None:
    """
    Return the script that a config belongs to, with the arguments for it; None where the config names its classes.

    A config of `LightningCLI(Model, Data)`, such as the one that it saves in `lightning_logs/version_0`, does not say
    which classes it configures: the script does that calls LightningCLI, in the config's folder or one above it.

    Args:
        target: path of a YAML file; anything else has no script.

    Raises:
        TargetError: the file is not a LightningCLI config, or several scripts beside it call LightningCLI.
    """
    path = Path(target)
    if path.suffix not in (".yaml", ".yml"):
        return None
    config = read_config(path)
    if all("class_path" in (_mapping(config.get(name)) or {}) for name in ("model", "data")):
        return None
    scripts = _scripts_above(path)
    if len(scripts) > 1:
        listed = ", ".join(scripts)
        msg = f"{path} does not name its classes, and several scripts call LightningCLI ({listed})"
        raise TargetError(f"{msg}: give the one, e.g. trainfare profile {scripts[0]} -- fit --config {path}")
    if not scripts:
        return None
    runs = "run=False" not in Path(scripts[0]).read_text(encoding="utf-8", errors="replace")
    return Script(scripts[0], arguments=(*(("fit",) if runs else ()), "--config", str(path)))


def _scripts_above(path: Path) -> list[str]:
    """Return the scripts that call LightningCLI in the nearest folder that has any, relative to the current one."""
    folder = path.resolve().parent
    for above in (folder, *folder.parents[:_FOLDERS_ABOVE]):
        with contextlib.suppress(OSError):
            scripts = [script for script in sorted(above.glob("*.py")) if _calls_cli(script)]
            if scripts:
                return [os.path.relpath(script) for script in scripts]
    return []


def _calls_cli(path: Path) -> bool:
    with path.open("rb") as file:
        return b"LightningCLI(" in file.read(_MAX_BYTES)


def read_config(path: Path) -> dict[str, Any]:
    """
    Read YAML safely: at most 1 MiB and 64 levels, no aliases and no tags that create objects.

    Raises:
        TargetError: the file is absent, too large, or not plain YAML with a mapping at the top.
        MissingExtraError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("PyYAML", "lightning") from error
    text = read_input(path, _MAX_BYTES, kind="a LightningCLI config", error=TargetError)
    try:
        depth = 0
        events: Any = yaml.parse(text, Loader=yaml.SafeLoader)
        for event in events:
            if isinstance(event, yaml.AliasEvent):
                mark: Any = event.start_mark
                line = mark.line + 1
                raise TargetError(f"{path}:{line}: YAML aliases are not supported: write the value out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise TargetError(f"{path}: nested deeper than {MAX_DEPTH} levels")
        config: Any = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        # PyYAML raises the last three for a value with a tag that does not fit it, such as `!!timestamp x`.
        raise TargetError(f"{path}: not plain YAML: {describe(error)}") from error
    sections = _mapping(config) or {}
    known = ("model", "data", "trainer")
    sections = sections if any(name in sections for name in known) else _mapping(sections.get("fit")) or {}
    if not any(name in sections for name in known):
        msg = f"{path}: not a LightningCLI config: it has none of the sections 'model', 'data' and 'trainer'"
        raise TargetError(f"{msg}; {_HAND_WRITTEN}")
    return sections


def _mapping(value: object) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _render_section(path: Path, config: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name)
    section = {} if value is None else _mapping(value)
    if section is None:
        raise TargetError(f"{path}: the section {name!r} is a {type(value).__name__}, not a mapping")
    return section


def _class_path(path: Path, name: str, section: Mapping[str, Any]) -> str:
    class_path = section.get("class_path")
    if not isinstance(class_path, str) or "." not in class_path:
        msg = f"{path}: {name}.class_path is missing, so the config does not say which class it configures"
        way = f"give the script that calls LightningCLI, as in: trainfare profile train.py -- fit --config {path}"
        raise TargetError(f"{msg}, and no script beside it calls LightningCLI: {way}, {_HAND_WRITTEN}")
    return class_path


def _refuse_shortened(path: Path, trainer: Mapping[str, Any]) -> None:
    """Refuse a run whose length would be wrong by the other keys alone."""
    shortened = next((name for name in _SHORTENING if trainer.get(name)), None)
    if shortened is not None:
        msg = f"{path}: trainer.{shortened} changes the length of the run, which a config alone does not give"
        way = f"write a train.py that calls LightningCLI(), and run trainfare profile train.py -- fit --config {path}"
        raise TargetError(f"{msg}: {way}")


def _instance(path: Path, name: str, section: Mapping[str, Any], *leading: Any) -> Any:
    """Import the class of a section and build it as LightningCLI would, with jsonargparse."""
    class_path = _class_path(path, name, section)
    home, _, attribute = class_path.rpartition(".")
    with _report_user_errors(path, name):
        cls = getattr(importlib.import_module(home), attribute)
    arguments = _mapping(section.get("init_args")) or {}
    if leading:
        with _report_user_errors(path, name):
            return cls(*leading, **arguments)
    try:
        from jsonargparse import ArgumentParser
    except ImportError as error:
        raise MissingExtraError("jsonargparse[signatures]", "lightning") from error
    parser: Any = ArgumentParser(exit_on_error=False)
    with _report_user_errors(path, name):
        parser.add_subclass_arguments(cls, "it")
        parsed = parser.parse_object({"it": {"class_path": class_path, "init_args": arguments}})
        # Newer versions of jsonargparse renamed the method and warn about the old name.
        instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
        return instantiate(parsed)["it"]


def _with_optimizer(path: Path, config: Mapping[str, Any], module: Any) -> Any:
    """Replace `configure_optimizers` by the sections `optimizer` and `lr_scheduler`, as LightningCLI does."""
    section = _mapping(config.get("optimizer"))
    if section is None:
        return module
    scheduler = _mapping(config.get("lr_scheduler"))

    def configure_optimizers(self: Any) -> Any:
        optimizer = _instance(path, "optimizer", section, list(self.parameters()))
        if scheduler is None:
            return optimizer
        return [optimizer], [_instance(path, "lr_scheduler", scheduler, optimizer)]

    object.__setattr__(module, "configure_optimizers", MethodType(configure_optimizers, module))
    return module


def _first_batch(path: Path, config: Mapping[str, Any]) -> tuple[Any, int, int | None]:
    """Return the first training batch, its size and the number of training samples."""
    if not isinstance(config.get("data"), dict):
        raise TargetError(
            f"{path}: no 'data' section, so the shape of a batch is not known: add one, {_HAND_WRITTEN}"
        )
    data = _instance(path, "data", config["data"])
    advice = "run prepare_data() once beforehand if it needs files"
    with _report_user_errors(path, "data", advice):
        data.setup("fit")
        loader = data.train_dataloader()
        batch = next(iter(loader))
    size = getattr(loader, "batch_size", None)
    if size is None:
        size = getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    if not isinstance(size, int):
        msg = f"{path}: the training loader ({type(loader).__name__}) does not say its batch_size"
        raise TargetError(f"{msg}: {_HAND_WRITTEN}")
    samples: int | None = None
    with contextlib.suppress(Exception):
        samples = len(loader.dataset)
    return batch, size, samples


def _limit(value: object) -> Any:
    """Return None for -1, which means "no limit" in Lightning."""
    return None if value is None or value == -1 else value


def _devices(path: Path, value: object) -> int:
    if value is None or value == "auto":
        return 1
    if isinstance(value, list):
        return len(cast("list[object]", value))
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if isinstance(value, int) and value > 0:
        return value
    msg = f"{path}: trainer.devices is {value!r}, which depends on the machine"
    raise TargetError(f"{msg}: give a number, {_HAND_WRITTEN}")


def _strategy(path: Path, value: object) -> str:
    if value is None:
        return "auto"
    section = _mapping(value)
    if section is not None:
        name = str(section.get("class_path", "")).rpartition(".")[2].removesuffix("Strategy").lower()
        value = {"singledevice": "single_device"}.get(name, name)
    if not isinstance(value, str):
        raise TargetError(f"{path}: trainer.strategy is {value!r}: give Lightning's name of it")
    return value


@contextlib.contextmanager
def _report_user_errors(path: Path, section: str, advice: str | None = None) -> Generator[None, None, None]:
    try:
        yield
    except TrainfareError:
        raise
    except (Exception, SystemExit) as error:
        code_place = place_in_user_code(error.__traceback__)
        where = f" at {code_place}" if code_place else ""
        missing = missing_here(error)
        if missing is not None:
            raise TargetError(missing.sentence(f"{path}: the section {section!r}", error, where)) from error
        hint = f"{advice}, {_HAND_WRITTEN}" if advice else _HAND_WRITTEN
        msg = f"{path}: the section {section!r} cannot be built: {describe(error)}{where}"
        raise TargetError(f"{msg}: correct it, {hint}") from error
