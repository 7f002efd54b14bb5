"""FareMeter's arguments: validation, types for LightningCLI, and equal results from flags, YAML and Python."""

from __future__ import annotations

import importlib
import inspect
import math
import pickle
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import pytest

from builders.lightning_modules import NAMESPACES, module_class, quiet
from trainfare.lightning import FareMeter
from trainfare.meter.settings import (
    FitKeywords,
    LoopKeywords,
    MeterKeywords,
    MeterSettings,
    TrainKeywords,
)
from trainfare_core.errors import InputError
from trainfare_core.limits.limit_fields import plain_type

pytestmark = [
    *quiet,
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("warmup_steps", -1),
        ("warmup_steps", True),
        ("warmup_steps", 2.5),
        ("measure_steps", 0),
        ("measure_steps", 10**9),
        ("measure_steps", None),
        ("machine", "p4d.24xlarge"),
        ("machine", "aws:p4d.24xlarge"),
        ("machine", "aws:p4d.24xlarge@us east"),
        ("machine", 4),
        ("usd_per_hour", 0),
        ("usd_per_hour", math.nan),
        ("usd_per_hour", math.inf),
        ("usd_per_hour", "3"),
        ("budget_usd", -5.0),
        ("budget_usd", True),
        ("deadline_hours", 0.0),
        ("value_usd_per_month", 0.0),
        ("value_usd_per_hour", math.inf),
        ("deadline_hours", 1e400),
        ("report_dir", ""),
        ("report_dir", "a\0b"),
        ("report_dir", 7),
        ("price_lock", ""),
        ("own_prices", 3),
        ("quota", ""),
        ("total_samples", 0),
        ("total_samples", 10**30),
        ("batch_size", 0),
        ("batch_size", 10**9 + 1),
        ("batch_size", "4"),
        ("trace", 1),
        ("report", None),
        ("log_metrics", "no"),
        ("providers", "aws"),
        ("providers", []),
        ("regions", [""]),
        ("purchase", [3]),
        ("pilot", "magic"),
        ("pilot", True),
    ],
)
def test_a_bad_argument_is_named(name: str, value: Any) -> None:
    """An unusable value raises at construction; the message names the argument and what it takes."""
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(InputError, match=rf"FareMeter\({name}=.*it must"):
        FareMeter(**arguments)


def test_price_lock_and_own_prices_exclude_each_other() -> None:
    """A price lock contains own prices already, so giving both is an error."""
    with pytest.raises(InputError, match=r"own_prices=.*price_lock"):
        FareMeter(price_lock="trainfare.lock", own_prices="mine.toml")


def test_valid_arguments_are_converted() -> None:
    """Numpy integers, whole dollars, paths and lists are accepted and converted."""
    import numpy as np

    settings = MeterSettings.check(
        **{
            **{name: getattr(MeterSettings(), name) for name in MeterSettings.model_fields},
            "warmup_steps": np.int64(2),
            "usd_per_hour": 3,
            "machine": "gcp:n1-standard-4+nvidia-tesla-t4x1@us-central1",
            "report_dir": Path("out"),
            "providers": ["aws"],
        }
    )
    assert (settings.warmup_steps, settings.usd_per_hour, settings.report_dir, settings.providers) == (
        2,
        3.0,
        "out",
        ("aws",),
    )


def test_every_argument_is_typed_documented_and_has_a_default() -> None:
    """LightningCLI needs a type, a docstring entry and a default for each argument, and no *args."""
    signature = inspect.signature(FareMeter)
    assert set(signature.parameters) == set(MeterSettings.model_fields)
    for name, parameter in signature.parameters.items():
        assert parameter.annotation is not inspect.Parameter.empty, name
        assert parameter.default == getattr(MeterSettings(), name), name
        assert f"        {name}: " in str(FareMeter.__doc__), name


@pytest.mark.parametrize(
    ("where", "keywords", "without"),
    [
        ("trainfare.lightning", MeterKeywords, set[str]()),
        ("trainfare.huggingface", TrainKeywords, {"pilot"}),
        ("trainfare.plain_loop", LoopKeywords, {"pilot", "log_metrics"}),
        ("trainfare.keras", FitKeywords, {"pilot", "log_metrics", "on_budget", "noise_scale"}),
    ],
)
def test_each_meter_names_and_types_the_settings_that_it_takes(
    where: str, keywords: type, without: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the fields, with their defaults and types, for `help`, editors and type checkers alike."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    meter: Any = importlib.import_module(where).FareMeter
    signature = inspect.signature(meter.loop if where.endswith("plain_loop") else meter)
    given = {name: one for name, one in signature.parameters.items() if name in MeterSettings.model_fields}
    fields, types = MeterSettings.model_fields, get_type_hints(keywords)
    assert list(given) == [name for name in fields if name not in without]
    assert set(given) == set(types)
    for name, parameter in given.items():
        assert (parameter.default, parameter.annotation) == (fields[name].default, types[name])
        accepts_none = type(None) in get_args(types[name])
        assert accepts_none == (fields[name].default is None), name
        told, kept = plain_type(types[name]), plain_type(fields[name].annotation)
        assert {list: tuple, str: Literal}.get(told, told) is kept or told is kept, name
    with pytest.raises(
        InputError, match=r"FareMeter.*\(stepz=\.\.\.\): .*it takes warmup_steps, measure_steps"
    ):
        make(meter, where, stepz=3)
    for name in without:
        with pytest.raises(InputError, match=rf"{name}=\.\.\."):
            make(meter, where, **{name: None})


def make(meter: Any, where: str, **settings: Any) -> Any:
    return meter.loop(None, None, **settings) if where.endswith("plain_loop") else meter(**settings)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_it_is_a_callback_of_both_namespaces(namespace: str) -> None:
    """FareMeter is a subclass of each namespace's Callback and can be pickled."""
    assert issubclass(FareMeter, importlib.import_module(namespace).Callback)
    assert isinstance(pickle.loads(pickle.dumps(FareMeter(measure_steps=4))), FareMeter)


FLAGS = [
    "--trainer.callbacks=trainfare.FareMeter",
    "--trainer.callbacks.measure_steps=4",
    "--trainer.callbacks.budget_usd=500",
    "--trainer.callbacks.machine=aws:p4d.24xlarge@us-east-1",
    "--trainer.callbacks.providers=[aws,gcp]",
    "--trainer.callbacks.trace=false",
    "--trainer.logger=false",
    "--trainer.accelerator=cpu",
]


def command_line(namespace: str, arguments: list[str]) -> Any:
    cli = importlib.import_module(f"{namespace}.cli")
    return cli.LightningCLI(
        module_class(namespace),
        args=arguments,
        run=False,
        save_config_callback=None,
        seed_everything_default=False,
    )


def meter_of(cli: Any) -> FareMeter:
    return next(callback for callback in cli.trainer.callbacks if isinstance(callback, FareMeter))


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_lightning_cli_sets_every_argument(namespace: str, tmp_path: Path) -> None:
    """Flags, and the YAML that LightningCLI writes for them, give the same settings."""
    by_flags = command_line(namespace, FLAGS)
    printed = tmp_path / "config.yaml"
    printed.write_text(by_flags.parser.dump(by_flags.config))
    by_file = command_line(namespace, [f"--config={printed}"])
    settings = meter_of(by_flags)._settings
    assert (settings.measure_steps, settings.budget_usd, settings.trace) == (4, 500.0, False)
    assert (settings.machine, settings.providers) == ("aws:p4d.24xlarge@us-east-1", ("aws", "gcp"))
    assert meter_of(by_file)._settings == settings


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_lightning_cli_explains_the_arguments(namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help shows each argument with its docstring entry."""
    with pytest.raises(SystemExit) as ended:
        command_line(namespace, ["--trainer.callbacks.help=trainfare.FareMeter"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in MeterSettings.model_fields:
        assert f".{name} " in text
    assert "what this run is on" in text


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_lightning_cli_refuses_a_wrong_type(namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Text in place of a number ends with exit code 2 and the argument's name."""
    flags = ["--trainer.callbacks=trainfare.FareMeter", "--trainer.callbacks.measure_steps=many"]
    with pytest.raises(SystemExit) as ended:
        command_line(namespace, flags)
    assert ended.value.code == 2
    assert "measure_steps" in capsys.readouterr().err


def test_fabric_is_said_not_to_be_supported() -> None:
    """Fabric calls hooks with whatever the user gives: one warning, and no error in the user's loop."""
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1, callbacks=[FareMeter()])
    with pytest.warns(UserWarning, match="FareMeter needs a Trainer and is off: Lightning Fabric"):
        fabric.call("on_train_start")
    fabric.call(
        "on_train_batch_end", outputs=None, batch=None, batch_idx=0
    )  # a second warning would be an error
    fabric.call("on_train_end", "anything")
