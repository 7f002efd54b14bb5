"""The results of training are bitwise equal with and without FareMeter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders import bitwise, contract
from builders.cli import run_python
from builders.environments import lean_python

SCENARIOS = tuple(name for name in bitwise.SCENARIOS if name != "ddp")
"""Two processes are compared in `test_ddp.py::test_both_ranks_train_bitwise_equally`, and by `scripts/loss_compare.py`."""


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any, Path, Path]]:
    """Return each scenario's two fingerprints and folders; one process for each arm."""
    plain_dir, metered_dir = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("metered")
    with (
        bitwise.start_arm(SCENARIOS, plain_dir, meter=False) as plain_arm,
        bitwise.start_arm(SCENARIOS, metered_dir, meter=True) as metered_arm,
    ):
        plain = bitwise.fingerprints(plain_arm, SCENARIOS)
        metered = bitwise.fingerprints(metered_arm, SCENARIOS)
    return {name: (plain[name], metered[name], plain_dir / name, metered_dir / name) for name in SCENARIOS}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_losses_weights_and_generators_are_the_same(
    scenario: str,
    arms: dict[str, tuple[Any, Any, Path, Path]],
    record_property: Callable[[str, object], None],
) -> None:
    """Losses, batch order, weights, optimizer state and random generators are bitwise equal."""
    plain, metered, plain_dir, metered_dir = arms[scenario]
    assert plain == metered
    assert plain["status"] == "TrainerStatus.FINISHED"
    profile = json.loads((metered_dir / "trainfare-profile.json").read_text())
    assert profile["measured"]["steps"] == 4, "the callback did not measure, so the comparison proves nothing"
    assert bool(profile["operations"]) == (scenario != "compiled")  # a compiled step is timed and not traced
    assert not (plain_dir / "trainfare-profile.json").exists()
    contract.record_compared(record_property, plain["compared"])


def test_the_fingerprint_detects_one_random_draw(tmp_path: Path) -> None:
    """A callback that draws one random number changes the fingerprint."""
    code = (
        "import sys, json, torch, pytorch_lightning as pl\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from builders import bitwise\n"
        "class Draw(pl.Callback):\n"
        "    def on_train_batch_end(self, trainer, *_):\n"
        "        if trainer.global_step == 3: torch.rand(1)\n"
        "def run(): print(json.dumps(bitwise.run_arm('dropout', meter=False, folder=Path('.'))))\n"
        "run()\n"
        "run()\n"
        "bitwise.callbacks_for = lambda meter, folder: [Draw()]\n"
        "run()\n"
    )
    arguments = ("-W", "ignore", "-c", code, Path(bitwise.__file__).parents[1])
    done = run_python(*arguments, cwd=tmp_path, python=lean_python(), check=True)
    plain, again, drawn = map(json.loads, done.stdout.splitlines()[-3:])
    assert plain == again
    assert plain["rng_torch"] != drawn["rng_torch"]
    assert plain["losses_and_order"] != drawn["losses_and_order"]
