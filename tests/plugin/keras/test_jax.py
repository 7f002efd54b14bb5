"""The `FareMeter` of Keras on JAX: time only; in processes of their own, because a process has one backend."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from builders.cli import run_python
from trainfare_core.job_profile import JobProfile

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")

SCRIPT = f"""
import os, sys
os.environ["KERAS_BACKEND"] = "jax"
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
import json, pathlib
import keras, numpy as np
from builders.lightning_modules import Clock, MeterHarness
from trainfare.keras import FareMeter

rows = np.random.default_rng(0).random((220, 8)).astype("float32")
clock = Clock()

class Passing(keras.callbacks.Callback):
    calls = 0
    def on_train_batch_end(self, batch, logs=None):
        self.calls += 1
        clock.advance(30.0 if self.calls == 1 else 0.035)
    def on_test_end(self, logs=None): clock.advance(0.060)
    def on_epoch_end(self, epoch, logs=None): clock.advance(9.0)

def fit(*callbacks):
    keras.utils.set_random_seed(0)
    parts = keras.layers.Dense(16, activation="relu"), keras.layers.Dropout(0.5), keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((8,)), *parts])
    model.compile(optimizer="adam", loss="mse", steps_per_execution=5)
    given = dict(batch_size=10, epochs=3, verbose=0, validation_data=(rows, rows[:, :2]))
    model.fit(rows, rows[:, :2], callbacks=[*callbacks], **given)
    return [np.asarray(variable.value).tobytes() for variable in [*model.weights, *model.optimizer.variables]]

harness = MeterHarness(clock)
meter = type("FareMeter", (FareMeter,), {{"services": harness.services}})(warmup_steps=1, measure_steps=2)
print(json.dumps([fit() == fit(Passing(), meter), harness.lines]))
"""


def test_time_is_divided_by_steps_per_execution_and_no_step_is_traced(tmp_path: Path) -> None:
    """22 batches in calls of 5: 35 ms a call are 7 a step; the first call, which compiles, and epoch ends are left out."""
    done = run_python("-c", SCRIPT, cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    same, lines = json.loads(done.stdout.splitlines()[-1])
    assert same
    assert "the step was not traced, because the backend of Keras is jax" in "".join(lines)
    profile = JobProfile.from_json((tmp_path / "trainfare-profile.json").read_bytes())
    assert profile.measured is not None
    assert profile.measured.steps == 10
    assert profile.measured.step.median_s == pytest.approx(0.007)
    assert profile.measured.step.p90_s == pytest.approx(0.007)
    assert (profile.measured.data_wait, profile.operations) == (None, ())
    assert (profile.plan.optimizer_steps, profile.batch.samples_per_step) == (66, 10)
    assert sum(group.count for group in profile.parameters) == 8 * 16 + 16 + 16 * 2 + 2


def test_before_launch_it_is_refused(tmp_path: Path) -> None:
    fit = SCRIPT.replace("json.dumps([fit() == fit(Passing(), meter), harness.lines])", "fit()")
    (tmp_path / "train.py").write_text(fit)
    done = run_python("-m", "trainfare", "profile", "train.py", cwd=tmp_path)
    assert done.exit_code == 2
    assert "the backend of Keras is jax" in done.stderr
    assert "set KERAS_BACKEND=torch, or measure a run with trainfare.keras.FareMeter" in done.stderr
