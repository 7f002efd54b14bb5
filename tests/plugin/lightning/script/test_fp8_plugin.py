"""Weights, recipe and layers of Lightning's `TransformerEnginePrecision`, whose library is not installed here."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
import torch

from builders.lightning_modules import NAMESPACES, quiet
from trainfare.job.fit_call import FitCall, Recorder
from trainfare.lightning.script.fp8_plugin import Fp8Plugin
from trainfare.lightning.script.interception import intercept_trainers
from trainfare.lightning.script.live_fit import live_job
from trainfare.lightning.script.trainer_arguments import read_asked
from trainfare_core.errors import TargetError

pytestmark = quiet


class DelayedScaling:
    """A recipe by the name that Transformer Engine's has."""

    backward_override: str | None = None


class NVFP4BlockScaling(DelayedScaling):
    """Its base in the library is another; the most derived known name counts."""


class Mine(NVFP4BlockScaling):
    """A recipe of the user's, derived from one that is known."""


class HighPrecisionGradients(DelayedScaling):
    backward_override = "high_precision"


class Unknown:
    pass


def trainer_with(namespace: str, **arguments: Any) -> Any:
    """Return a Trainer whose plugin for fp8 was given these arguments."""
    with intercept_trainers(Recorder(lambda _: None, only_fit=True)):
        pl = importlib.import_module(namespace)
        plugins = importlib.import_module(f"{namespace}.plugins")
        given = {"weights_dtype": torch.bfloat16, **arguments}
        return pl.Trainer(max_epochs=1, plugins=plugins.TransformerEnginePrecision(**given))


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize(
    ("arguments", "plugin"),
    [
        ({}, Fp8Plugin("transformer-engine")),
        ({"recipe": {"margin": 1}, "replace_layers": True}, Fp8Plugin("transformer-engine")),
        (
            {"recipe": DelayedScaling(), "weights_dtype": torch.float16},
            Fp8Plugin("transformer-engine-float16"),
        ),
        ({"recipe": Mine()}, Fp8Plugin("transformer-engine", "fp4")),
    ],
)
def test_weights_and_recipe_are_read(namespace: str, arguments: dict[str, Any], plugin: Fp8Plugin) -> None:
    spec = read_asked(trainer_with(namespace, **arguments))
    assert (spec.fp8, spec.precision) == (plugin, plugin.precision)


@pytest.mark.parametrize(
    ("arguments", "because"),
    [
        ({"recipe": HighPrecisionGradients()}, "a recipe with backward_override"),
        ({"recipe": Unknown()}, "the recipe Unknown, whose products may be of any type"),
        ({"weights_dtype": torch.float32}, "weights_dtype=torch.float32"),
        ({"replace_layers": False}, "replace_layers=False"),
    ],
)
def test_what_no_trace_tells_is_refused_with_its_place(arguments: dict[str, Any], because: str) -> None:
    call = FitCall(trainer_with(NAMESPACES[0], **arguments), {}, NAMESPACES[0], "train.py:9", live_job)
    with pytest.raises(TargetError, match=rf"^train\.py:9: .*{re.escape(because)}"):
        live_job(call, ())


def test_other_plugins_are_left_alone() -> None:
    with intercept_trainers(Recorder(lambda _: None, only_fit=True)):
        plugins = importlib.import_module(f"{NAMESPACES[0]}.plugins")
        trainer = importlib.import_module(NAMESPACES[0]).Trainer(plugins=plugins.HalfPrecision("bf16-true"))
    assert (read_asked(trainer).fp8, read_asked(trainer).precision) == (None, "bf16-true")
