"""A script with Keras before launch: it stops at `Model.fit`, and its profile is that of the metered run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builders.cli import run_python
from builders.keras import make_meter, quiet
from builders.lightning_modules import MeterHarness
from builders.scripts import load_script
from trainfare import trace_job
from trainfare_core.errors import TargetError
from trainfare_core.job_profile import JobProfile

HEAD = """
import os, pathlib
os.environ["KERAS_BACKEND"] = "torch"
import keras, numpy as np, torch
from keras import layers

METERS = globals().get("METERS", [])
keras.utils.set_random_seed(0)
rows, targets = np.random.rand(90, 8).astype("float32"), np.random.rand(90, 2).astype("float32")

def make(*parts, optimizer="adam"):
    model = keras.Sequential([keras.Input((8,)), *parts, layers.Dense(2)])
    model.compile(optimizer=optimizer, loss="mse", metrics=["mae"])
    return model
"""
SCRIPTS = {
    "accumulation": """
steps = keras.optimizers.AdamW(gradient_accumulation_steps=4, clipnorm=1.0)
model = make(layers.Dense(16, activation="relu"), layers.BatchNormalization(), optimizer=steps)
saves = keras.callbacks.ModelCheckpoint("w.weights.h5", save_weights_only=True)
fit = dict(batch_size=6, epochs=5, validation_split=0.2, validation_freq=2, callbacks=[saves, *METERS])
model.fit(rows, targets, verbose=0, **fit)
""",
    "mixed": """
half = dict(dtype="mixed_bfloat16")
model = make(layers.Dense(64, activation="relu", **half), layers.Dropout(0.1, seed=3, **half), optimizer="sgd")
model.fit(rows, targets, batch_size=10, epochs=3, verbose=0, callbacks=METERS)
""",
    "scaled": """
keras.config.set_dtype_policy("mixed_float16")
model = make(layers.Dense(16))
keras.config.set_dtype_policy("float32")
model.fit(rows, targets, batch_size=9, epochs=2, verbose=0, callbacks=METERS)
""",
    "wrapped": """
inner = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU())
wrapped = layers.TorchModuleWrapper(inner, output_shape=(None, 16))
model = make(wrapped, optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
model.fit(rows, targets, batch_size=9, epochs=2, verbose=0, callbacks=METERS)
""",
    "own": """
class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.encode, self.decode, self.seed = layers.Dense(6), layers.Dense(8), keras.random.SeedGenerator(1)

    def call(self, values):
        mean, spread = keras.ops.split(self.encode(values), 2, axis=1)
        return self.decode(mean + spread * keras.random.normal(keras.ops.shape(mean), seed=self.seed))

    def train_step(self, data):
        self.zero_grad()
        loss = keras.ops.mean((self(data[0]) - data[0]) ** 2)
        loss.backward()
        weights = self.trainable_weights
        with torch.no_grad():
            self.optimizer.apply([weight.value.grad for weight in weights], weights)
        return {"loss": loss}

model = Own()
model.compile(optimizer="rmsprop")
model.fit(rows, targets, batch_size=9, epochs=2, verbose=0, callbacks=METERS)
""",
}

pytestmark = quiet


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trace(script: str, **options: Any) -> JobProfile:
    return trace_job(load_script(HEAD + script, **options))


@pytest.mark.parametrize("name", SCRIPTS)
def test_before_launch_is_as_metered(name: str, here: Path) -> None:
    """Each operation with its FLOPs, bytes and launches, parameters, optimizer, plan and batch are equal both ways."""
    harness = MeterHarness()
    exec(HEAD + SCRIPTS[name], {"METERS": [make_meter(harness, here)]})
    metered, before = harness.profile, trace(SCRIPTS[name]).with_loader_time(None)
    assert metered.operations
    assert before.operations == metered.operations
    assert before.source.how == "fake"
    for field in ("parameters", "optimizer", "batch", "parallel", "precision", "name"):
        assert getattr(before, field) == getattr(metered, field), field
    assert before.plan.model_copy(update={"steps_note": None}) == metered.plan
    assert before.memory.saved_activation_bytes == pytest.approx(metered.memory.saved_activation_bytes, abs=4)
    assert before.source.loop == "keras"
    precisions = {"mixed": "bf16-mixed", "scaled": "16-mixed"}
    assert before.precision == precisions.get(name, "32-true")


def test_nothing_is_trained_and_nothing_after_it_runs(here: Path) -> None:
    """Weights stay, no callback of the user's is told of a run, and the line of the call is named."""
    script = """
class Told(keras.callbacks.Callback):
    def on_train_begin(self, logs=None): pathlib.Path("told").touch()
    def set_model(self, model): pathlib.Path("told").touch()

model = make(layers.Dense(4))
before = [weight.numpy().tobytes() for weight in model.weights]
history = model.fit(rows, targets, callbacks=[Told()])
same = before == [weight.numpy().tobytes() for weight in model.weights]
model.save("model.keras")
assert same and not pathlib.Path("model.keras").exists() and np.isnan(history.history["val_loss"][-1])
model.fit(rows[:30], targets[:30], epochs=2)
pathlib.Path("trained").touch()
"""
    first, second = trace(script), trace(script, fit=2)
    assert {path.name for path in here.iterdir()} == {"train.py"}
    assert (first.plan.optimizer_steps, second.plan.optimizer_steps) == (3, 2)
    assert "call 1 of Model.fit, at train.py:" in first.notes[0]


@pytest.mark.parametrize("number", [1, 3])
def test_a_loop_without_fit_is_stopped_before_it_trains(number: int, here: Path) -> None:
    script = """
model = make(layers.Dense(4))
for _ in range(5):
    with open("steps", "a") as file: file.write("x")
    model.train_on_batch(rows, targets)
pathlib.Path("trained").touch()
"""
    stopped = (
        r"trains with Keras's Adam.apply, without Model.fit, at .*, called from train.py:\d+ in <module>"
    )
    with pytest.raises(TargetError, match=stopped):
        trace(script, optimizer_step=number)
    assert not (here / "trained").exists()
    assert (here / "steps").read_text() == "x" * number


def test_data_without_a_length_are_priced_by_their_steps(here: Path) -> None:
    """A generator with `steps_per_epoch`; without one the end is not known, and a note says what to give."""
    script = """
def batches():
    while True:
        yield rows[:6], targets[:6]

make(layers.Dense(4)).fit(batches(), {}, epochs=3, shuffle=False)
"""
    told = trace(script.replace("{}", "steps_per_epoch=7"))
    assert (told.plan.optimizer_steps, told.batch.micro_batch_size) == (21, 6)
    assert "give steps_per_epoch" in str(trace(script.replace("{}, ", "")).plan.unknown_because)


def test_the_command_profiles_a_script(here: Path) -> None:
    """As a user types it, with the update that a loop without `fit` would be stopped at."""
    (here / "train.py").write_text(HEAD + SCRIPTS["accumulation"])
    done = run_python("-m", "trainfare", "profile", "train.py", "-o", "job.json", cwd=here)
    assert done.exit_code == 0, done.stderr
    profile = JobProfile.from_json((here / "job.json").read_bytes())
    # 72 samples by 6 are 12 batches; 60 of 5 epochs are 15 updates, and 18 samples are validated after two epochs.
    assert (profile.plan.optimizer_steps, profile.plan.validation_batches) == (15, 2 * 3)
    assert not (here / "w.weights.h5").exists()
