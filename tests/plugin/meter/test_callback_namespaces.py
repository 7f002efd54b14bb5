"""FareMeter with only one of the two Lightning packages, each in a new process that cannot import the other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys, warnings
warnings.simplefilter("ignore")
namespace, blocked = sys.argv[1], sys.argv[2].split(",")

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
if namespace == "neither":
    from trainfare_core.errors import MissingExtraError
    try:
        from trainfare import FareMeter
    except MissingExtraError as error:
        print(json.dumps({"error": str(error)}))
    sys.exit()
import importlib
pl = importlib.import_module(namespace)
from torch.utils.data import DataLoader
from trainfare import FareMeter
demos = importlib.import_module(namespace + ".demos.boring_classes")
trainer = pl.Trainer(
    accelerator="cpu", max_steps=16, limit_val_batches=0, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, callbacks=[FareMeter(providers=["aws"], report_dir="out")],
)
trainer.fit(demos.BoringModel())
loaded = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"bases": sorted(b.__module__ for b in FareMeter.__mro__ if b.__name__ == "Callback"),
                  "both": {"lightning", "pytorch_lightning"} <= loaded}))
"""


def run(folder: Path, namespace: str, blocked: str) -> dict[str, object]:
    command = [sys.executable, "-c", PROGRAM, namespace, blocked]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize(
    ("namespace", "blocked", "bases"),
    [
        ("pytorch_lightning", "lightning", ["pytorch_lightning.callbacks.callback"]),
        ("lightning.pytorch", "pytorch_lightning,lightning_fabric", ["lightning.pytorch.callbacks.callback"]),
    ],
)
def test_one_package_is_enough(tmp_path: Path, namespace: str, blocked: str, bases: list[str]) -> None:
    """With one package, its Callback is the only base, and a run writes the report."""
    assert run(tmp_path, namespace, blocked) == {"bases": bases, "both": False}
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["trainfare-profile.json", "trainfare-report.html", "trainfare-report.json"]


def test_without_either_the_extra_is_named(tmp_path: Path) -> None:
    """Without Lightning the error says what to install."""
    answer = run(tmp_path, "neither", "lightning,pytorch_lightning")
    assert "pip install 'trainfare[lightning]'" in str(answer["error"])
