"""Reports through the loggers of W&B and MLflow, offline in a new interpreter, read back from disk."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from builders.cli import run_python
from builders.environments import lean_python

SCRIPT = """
import sys
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import MLFlowLogger, WandbLogger

sys.path.append(sys.argv[2])
from builders.patient_meter import PatientMeter

folder = Path(sys.argv[1])

class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 1)
    def training_step(self, batch, batch_idx):
        return self.net(batch).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

torch.set_num_threads(1)
loggers = [
    WandbLogger(project="fares", save_dir=folder, offline=True),
    MLFlowLogger("fares", tracking_uri=f"sqlite:///{folder}/mlflow.db", artifact_location=f"file://{folder}/artifacts"),
]
meter = PatientMeter(warmup_steps=1, measure_steps=3, usd_per_hour=3.0, report_dir=str(folder / "report"), providers=["gcp"])
trainer = Trainer(
    max_epochs=1, accelerator="cpu", devices=1, logger=loggers, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, callbacks=[meter],
)
trainer.fit(Net(), torch.utils.data.DataLoader(torch.ones(16, 4), batch_size=2))
loggers[0].experiment.finish()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train once with both loggers; the only network is the loopback between wandb and its own process."""
    for name in ("wandb", "mlflow"):
        if find_spec(name) is None:  # importing them here takes two seconds
            pytest.skip(f"{name} is not installed")
    folder = tmp_path_factory.mktemp("tracking")
    settings = {
        "HOME": str(folder),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
    }
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "CUDA_VISIBLE_DEVICES": ""}
    arguments = ("-c", SCRIPT, folder, Path(__file__).parents[1])
    environment = {**settings, **quiet}
    done = run_python(*arguments, cwd=folder, environment=environment, python=lean_python(), check=True)
    assert "took no fare metrics" not in done.stderr
    return folder


def best(run: Path) -> Any:
    return json.loads((run / "report" / "trainfare-report.json").read_text())["options"][0]


def log_records(data: bytes) -> Iterator[bytes]:
    """Yield the records of LevelDB's log format, which W&B's file has: 32 KiB blocks of (crc, length, type) records."""
    block, at, parts = 32768, 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a full record, or its last part
            yield parts
            parts = b""


def test_wandb_gets_metrics_summary_and_table(run: Path) -> None:
    """The offline run folder, which `wandb sync` would send, has metrics, summary and table."""
    from wandb.proto import wandb_internal_pb2

    (file,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    names: set[str] = set()
    summary: dict[str, str] = {}
    for data in log_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        names |= {item.key or "/".join(item.nested_key) for item in record.history.item}
        summary |= {item.key or "/".join(item.nested_key): item.value_json for item in record.summary.update}
    assert {"fare/step_s", "fare/usd_so_far"} <= names
    assert json.loads(summary["fare/best_run_usd"]) == pytest.approx(best(run)["run_usd"]["mid"])
    (table,) = (run / "wandb").glob("offline-run-*/files/media/table/fare/options_*.table.json")
    rows = json.loads(table.read_text())
    first = dict(zip(rows["columns"], rows["data"][0], strict=True))
    assert (first["rank"], first["run_usd"]) == (1, pytest.approx(best(run)["run_usd"]["mid"]))
    assert first["machine"] == json.loads(summary["fare/best_machine"])


def test_mlflow_gets_metrics_tag_and_page(run: Path) -> None:
    """The sqlite store has metrics and tags; page and Markdown table are artifacts of the run."""
    with sqlite3.connect(run / "mlflow.db") as base:
        metrics = {key for (key,) in base.execute("select key from metrics")}
        tags = dict(base.execute("select key, value from tags"))
    base.close()
    assert {"fare/step_s", "fare/usd_so_far"} <= metrics
    assert best(run)["instance_type"] in tags["fare/best_machine"]
    assert float(tags["fare/best_run_usd"]) == pytest.approx(best(run)["run_usd"]["mid"], abs=0.006)
    paths_by_key = {file.name: file for file in (run / "artifacts").rglob("trainfare-report.*")}
    assert (
        paths_by_key["trainfare-report.html"].read_bytes()
        == (run / "report" / "trainfare-report.html").read_bytes()
    )
    assert "| " in paths_by_key["trainfare-report.md"].read_text()
