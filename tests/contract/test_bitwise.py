"""Training is never harmed: with and without the meter, training leaves bitwise the same behind."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from builders import bitwise


@pytest.mark.parametrize("scenario", bitwise.SCENARIOS)
def test_losses_weights_and_generators_are_the_same(scenario: str, tmp_path: Path) -> None:
    """Losses, batch order, weights, optimizer state and RNG states do not know that they were metered."""
    plain_dir, metered_dir = tmp_path / "plain", tmp_path / "metered"
    plain_dir.mkdir()
    metered_dir.mkdir()
    with ThreadPoolExecutor(2) as pool:
        plain = pool.submit(bitwise.arm, scenario, plain_dir, meter=False)
        metered = pool.submit(bitwise.arm, scenario, metered_dir, meter=True)
    assert plain.result() == metered.result()
    assert (metered_dir / "trainfare-profile.json").is_file()
    assert not (plain_dir / "trainfare-profile.json").exists()


def test_the_runner_sees_one_draw(tmp_path: Path) -> None:
    """A callback that draws a single random number is caught: the fingerprint has teeth."""
    code = (
        "import sys, json, torch, pytorch_lightning as pl\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from builders import bitwise\n"
        "class Draw(pl.Callback):\n"
        "    def on_train_batch_end(self, trainer, *_):\n"
        "        if trainer.global_step == 3: torch.rand(1)\n"
        "if sys.argv[2] == 'draw': bitwise.callbacks_for = lambda meter, folder: [Draw()]\n"
        "print(json.dumps(bitwise.run_arm('dropout', meter=False, folder=Path('.'))))\n"
    )
    tests = str(Path(bitwise.__file__).parents[1])

    def run(mode: str) -> dict[str, Any]:
        command = [sys.executable, "-W", "ignore", "-c", code, tests, mode]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    plain, drawn = run("plain"), run("draw")
    assert plain["rng_torch"] != drawn["rng_torch"]
    assert plain["losses_and_order"] != drawn["losses_and_order"]
