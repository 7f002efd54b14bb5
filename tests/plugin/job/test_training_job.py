"""TrainingJob: what it accepts, what it refuses, and that describing a job loads nothing heavy."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from trainfare.job.training_job import PRECISIONS, STRATEGIES, TrainingJob
from trainfare_core.errors import InputError

_REQUIRED = {"module": object, "batch": object, "batch_size": 8}


def test_fields_and_defaults_are_the_published_ones() -> None:
    """The names, their order and their defaults are a contract with every script that describes a job."""
    fields = {field.name: field.default for field in dataclasses.fields(TrainingJob)}
    missing = dataclasses.MISSING
    assert list(fields.items()) == [
        ("module", missing),
        ("batch", missing),
        ("batch_size", missing),
        ("max_steps", None),
        ("max_epochs", None),
        ("train_samples", None),
        ("tokens_per_sample", None),
        ("precision", "bf16-mixed"),
        ("accumulate_grad_batches", 1),
        ("devices", 1),
        ("num_nodes", 1),
        ("strategy", "auto"),
        ("sync_batchnorm", False),
        ("checkpoint_every_n_steps", None),
        ("val_batches", 0),
        ("val_every_n_steps", None),
        ("val_check_interval", None),
        ("gradient_clip_val", None),
        ("datamodule", None),
        ("callbacks", ()),
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", 0),
        ("batch_size", -1),
        ("batch_size", None),
        ("batch_size", "8"),
        ("batch_size", True),
        ("batch_size", 2.5),
        ("batch_size", float("nan")),
        ("batch_size", float("inf")),
        ("max_steps", -1),
        ("max_steps", 0),
        ("max_steps", 10**30),
        ("max_epochs", -3),
        ("train_samples", float("nan")),
        ("tokens_per_sample", 10**30),
        ("accumulate_grad_batches", 0),
        ("devices", 0),
        ("num_nodes", -2),
        ("checkpoint_every_n_steps", 0),
        ("val_batches", -1),
        ("val_every_n_steps", 0),
        ("val_check_interval", 0),
        ("val_check_interval", 1.5),
        ("val_check_interval", float("nan")),
        ("gradient_clip_val", 0),
        ("gradient_clip_val", float("inf")),
        ("precision", "bf17-mixed"),
        ("precision", None),
        ("strategy", "dpp"),
        ("strategy", 3),
        ("module", None),
        ("batch", None),
    ],
)
def test_an_impossible_value_is_refused_with_its_field(field: str, value: object) -> None:
    """The message names the argument."""
    with pytest.raises(InputError, match=rf"TrainingJob\.{field}\b"):
        TrainingJob(**{**_REQUIRED, field: value})  # type: ignore[arg-type]


def test_one_way_to_say_how_often_validation_runs() -> None:
    """Two would contradict each other."""
    with pytest.raises(InputError, match="val_every_n_steps and val_check_interval: give one of them"):
        TrainingJob(**_REQUIRED, val_every_n_steps=5, val_check_interval=0.5)  # type: ignore[arg-type]


def test_a_misspelt_word_gets_a_suggestion_and_the_allowed_words() -> None:
    """The message says what to write instead."""
    with pytest.raises(InputError, match=r"did you mean 'bf16-mixed'.*32-true.*16-mixed"):
        TrainingJob(**_REQUIRED, precision="bf16-mixd")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "canonical"), [(32, "32-true"), ("16", "16-mixed"), (64, "64-true"), ("bf16", "bf16-mixed")]
)
def test_lightnings_short_precisions_mean_what_they_mean_there(given: object, canonical: str) -> None:
    """The Trainer's own aliases are taken, and stored as the long word."""
    assert TrainingJob(**_REQUIRED, precision=given).precision == canonical  # type: ignore[arg-type]


def test_every_word_of_the_installed_lightning_is_known() -> None:
    """A precision or strategy that the Trainer takes is not refused here."""
    from typing import get_args

    from lightning_fabric.plugins.precision.precision import _PRECISION_INPUT_STR
    from pytorch_lightning.strategies import StrategyRegistry

    assert set(get_args(_PRECISION_INPUT_STR)) == set(PRECISIONS)
    assert set(StrategyRegistry.available_strategies()) - {"single_tpu"} <= set(STRATEGIES)


def test_whole_floats_are_numbers() -> None:
    """`max_steps=1e5` is common in scripts."""
    steps = TrainingJob(**_REQUIRED, max_steps=1e5).max_steps  # type: ignore[arg-type]
    assert steps == 100_000
    assert isinstance(steps, int)


def test_describing_a_job_imports_neither_torch_nor_lightning() -> None:
    """The description is cheap enough for any script."""
    code = (
        "import sys; from trainfare import TrainingJob; TrainingJob(module=object, batch=object, batch_size=1);"
        "print([n for n in ('torch', 'lightning', 'pytorch_lightning', 'polars') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_job_never_prints_its_batch() -> None:
    """A repr in a log, or an error, holds no data of the user's."""
    assert "secret" not in repr(TrainingJob(module=object, batch="secret", batch_size=1))
