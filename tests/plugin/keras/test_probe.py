"""`trainfare probe` of a script with Keras: it ends in the loop once its steps are measured, and the whole fit is priced."""

from __future__ import annotations

from pathlib import Path

from builders.cli import run_python
from builders.keras import quiet
from trainfare_core.job_profile import JobProfile

SCRIPT = """
import os, pathlib
os.environ.update(KERAS_BACKEND="torch", OMP_NUM_THREADS="1")
import keras, numpy as np

class Told(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        pathlib.Path("steps").write_text(str(batch + 1))

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
model.compile(optimizer="adam", loss="mse")
saves = [keras.callbacks.ModelCheckpoint("w.weights.h5", save_weights_only=True, save_freq=2)]
rows = np.zeros((400, 4), "float32")
"""
FIT = """
model.fit(rows, rows[:, :2], batch_size=4, epochs=50, verbose=0, callbacks=[Told(), *saves])
pathlib.Path("after").touch()
"""
LOOP = """
for _ in range(9):
    model.train_on_batch(rows, rows[:, :2])
pathlib.Path("after").touch()
"""

pytestmark = quiet


def test_the_whole_fit_is_priced_from_its_first_steps(tmp_path: Path) -> None:
    """50 epochs of 100 batches; nothing is saved, and nothing runs after the measured steps."""
    (tmp_path / "train.py").write_text(SCRIPT + FIT)
    done = run_python("-m", "trainfare", "probe", "train.py", "--steps", "4", "-o", "job.json", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    profile = JobProfile.from_json((tmp_path / "job.json").read_bytes())
    assert profile.measured is not None
    assert (profile.measured.steps, profile.plan.optimizer_steps) == (4, 5000)
    assert profile.operations
    assert profile.source.loop == "keras"
    assert {path.name for path in tmp_path.iterdir()} == {"train.py", "job.json", "steps"}
    assert int((tmp_path / "steps").read_text()) < 20


def test_a_loop_without_fit_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT + LOOP)
    done = run_python("-m", "trainfare", "probe", "train.py", cwd=tmp_path)
    assert done.exit_code == 2
    assert "trains with Keras's Adam.apply, without Model.fit, at" in done.stderr
    assert not (tmp_path / "after").exists()
