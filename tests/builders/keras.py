"""Small models of Keras on the torch backend for tests, without output; Keras writes its settings to a folder of ours."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("KERAS_HOME", tempfile.mkdtemp(prefix="trainfare-keras-"))

import pytest

keras: Any = pytest.importorskip("keras", reason="Keras is not installed")

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from builders.lightning_modules import Clock, MeterHarness  # noqa: E402
from trainfare.keras import FareMeter  # noqa: E402

quiet = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.* is deprecated"),
]
"""Warnings of Keras and torch: saving weights under NumPy 2, and what torch.compile imports."""


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Rows of 8 numbers computed from their index, and their targets; loading one takes `load_s` by the clock."""

    def __init__(self, rows: int = 64, clock: Clock | None = None, load_s: float = 0.0) -> None:
        self.rows, self.clock, self.load_s, self.calls = rows, clock, load_s, 0

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.calls += 1
        if self.clock is not None:
            self.clock.advance(self.load_s)
        row = torch.randn(8, generator=torch.Generator().manual_seed(index))
        return row, row[:2].square()


def pairs(rows: int = 64, batch_size: int = 4, **dataset: Any) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return a loader of `rows / batch_size` batches."""
    return DataLoader(Pairs(rows, **dataset), batch_size=batch_size)


class TimedLayer(keras.layers.Layer):  # type: ignore[misc]
    """A layer of 2 outputs: by the clock 7 ms in training and 50 in evaluation; its backward takes 4."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.dense = clock, keras.layers.Dense(2)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        out: Tensor = self.dense(inputs)
        if out.device.type != "meta":  # as when Keras asks for the shape
            self.clock.advance(0.007 if training else 0.050)
        if out.requires_grad and out.device.type != "meta":
            out.register_hook(lambda _: self.clock.advance(0.004))
        return out


def make_model(*layers: Any, optimizer: Any = "adam", **options: Any) -> Any:
    """Return a compiled model with weights that are the same each time; by default with dropout and BatchNorm."""
    keras.utils.set_random_seed(1)
    kinds = keras.layers
    default = (
        kinds.Dense(8, activation="relu"),
        kinds.BatchNormalization(),
        kinds.Dropout(0.5),
        kinds.Dense(2),
    )
    model = keras.Sequential([keras.Input((8,)), *(layers or default)])
    model.compile(optimizer=optimizer, loss="mse", **options)
    return model


def fit(model: Any, *callbacks: Any, x: Any = None, **given: Any) -> Any:
    """Fit a model without output, by default one epoch of 16 batches of 4 samples."""
    return model.fit(pairs() if x is None else x, callbacks=[*callbacks], verbose=0, shuffle=False, **given)


def make_meter(harness: MeterHarness, folder: Path, **settings: Any) -> FareMeter:
    """Return a FareMeter with the services of a harness."""
    kind = type("FareMeter", (FareMeter,), {"services": harness.services})
    given = {"report_dir": str(folder), "warmup_steps": 1, "measure_steps": 3, **settings}
    return kind(**given)  # type: ignore[no-any-return]
