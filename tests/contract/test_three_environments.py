"""FareMeter with only `lightning`, only `pytorch_lightning`, both or neither, each in a new interpreter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders import environments

ENVIRONMENTS = {
    "lightning_alone": (("pytorch_lightning", "lightning_fabric"), ["lightning.pytorch"]),
    "pytorch_lightning_alone": (("lightning",), ["pytorch_lightning"]),
    "both": ((), ["pytorch_lightning", "lightning.pytorch"]),
}

SCRIPT = """
import importlib, json, sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

folder = Path(sys.argv[1])

def installed(name):
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False

from trainfare import FareMeter
import torch

sys.path.append(sys.argv[2])
from builders.patient_meter import PatientMeter

torch.set_num_threads(1)
result = {
    "metadata": [name for name in ("lightning", "pytorch-lightning") if installed(name)],
    "bases": [base.__module__ for base in FareMeter.__bases__[-1].__bases__],
    "loaded": [name for name in ("lightning", "pytorch_lightning") if name in sys.modules],
    "ours": sys.modules["trainfare"].__file__,
    "runs": {},
}

for namespace in ("pytorch_lightning", "lightning.pytorch"):
    try:
        pl = importlib.import_module(namespace)
    except ImportError:
        continue

    class Counter(pl.Callback):
        batches, restored = 0, None
        def on_train_batch_end(self, *_):
            self.batches += 1
        def state_dict(self):
            return {"batches": self.batches}
        def load_state_dict(self, state):
            self.restored = dict(state)

    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(4, 1)
        def training_step(self, batch, batch_idx):
            return self.net(batch).square().mean()
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def trainer(counter, meter, epochs):
        return pl.Trainer(
            max_epochs=epochs, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[counter, meter],
        )

    where = folder / namespace
    loader = torch.utils.data.DataLoader(torch.ones(16, 4), batch_size=2)
    meter, counter = PatientMeter(warmup_steps=1, measure_steps=3, report_dir=str(where), providers=["gcp"]), Counter()
    first = trainer(counter, meter, 1)
    first.fit(Net(), loader)
    first.save_checkpoint(folder / "half.ckpt")
    again, resumed = Counter(), PatientMeter(warmup_steps=1, measure_steps=3, report=False)
    second = trainer(again, resumed, 2)
    second.fit(Net(), loader, ckpt_path=str(folder / "half.ckpt"))
    result["runs"][namespace] = {
        "is_callback": isinstance(meter, pl.Callback),
        "status": [first.state.status.value, second.state.status.value],
        "files": sorted(path.name for path in where.iterdir()),
        "software": json.loads((where / "trainfare-profile.json").read_text())["measured"]["software"],
        "counted": [counter.batches, again.batches, again.restored],
        "elapsed": [meter.state_dict()["elapsed_s"], resumed.state_dict()["elapsed_s"]],
    }
print("SEEN " + json.dumps(result))
"""


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_meter_works_with_what_is_installed(
    environment: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """
    The bases are the Callback classes of the installed namespaces, and a run of each Trainer writes the report.

    Another callback keeps its state, and a checkpoint can be resumed.
    """
    hidden, namespaces = ENVIRONMENTS[environment]
    site = tmp_path / "site"
    site.mkdir()
    result = environments.run_there(
        environments.overlay(site, hidden), SCRIPT, str(tmp_path), str(Path(__file__).parents[1])
    )
    assert result["ours"].startswith(str(site))
    assert [base.partition(".callbacks")[0] for base in result["bases"]] == namespaces
    assert len(result["metadata"]) == len(result["loaded"]) == len(namespaces)
    assert sorted(result["runs"]) == sorted(namespaces)
    for namespace, run in result["runs"].items():
        check_run(namespace, run)
    record_property("{} runs in three environments, each reported and resumed", len(result["runs"]))


def check_run(namespace: str, run: dict[str, Any]) -> None:
    """Check a run of one namespace's Trainer and the run that resumes it."""
    assert run["is_callback"]
    assert run["status"] == ["finished", "finished"]
    names = ("profile.json", "report.html", "report.json", "status.json")
    assert run["files"] == [f"trainfare-{name}" for name in names]
    assert namespace in run["software"]
    assert run["counted"] == [8, 8, {"batches": 8}]
    assert 0.0 < run["elapsed"][0] < run["elapsed"][1]


def test_without_any_lightning_the_error_names_the_extra(tmp_path: Path) -> None:
    """The error says what to install; commands that need no Lightning still work."""
    site = tmp_path / "site"
    site.mkdir()
    hidden = ("pytorch_lightning", "lightning", "lightning_fabric", "torch")
    script = (
        "import json, trainfare\n"
        "from trainfare.cli import main\n"
        "try:\n    trainfare.FareMeter\n"
        "except Exception as error:\n    text = f'{type(error).__name__}: {error}'\n"
        "try:\n    main(['offers', '--provider', 'gcp', '--limit', '1', '--format', 'json'])\n"
        "except SystemExit as end:\n    code = end.code\n"
        "else:\n    code = 0\n"
        "print('SEEN ' + json.dumps([text, code]))\n"
    )
    text, code = environments.run_there(environments.overlay(site, hidden), script)
    assert text.startswith("MissingExtraError")
    assert "[lightning]" in text
    assert code in (0, None)
