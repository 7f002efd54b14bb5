"""
Train scenarios with or without FareMeter and print a hash of each result of the training.

    python tests/builders/bitwise.py accumulate bf16 --meter

Used by tests/contract/test_bitwise.py and scripts/loss_compare.py. The arms with and without FareMeter run in
separate processes, so that neither can influence the other. Scenarios of one arm may share a process; `ddp` starts
processes of its own. The fingerprint covers every loss, the batch order, weights, buffers, optimizer state and the
final states of the Python, NumPy and torch generators.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

MARK = "FINGERPRINT "
SCENARIOS = (
    "dropout",
    "attention",
    "lstm",
    "workers",
    "accumulate",
    "bf16",
    "clip_and_schedule",
    "manual_two_optimizers",
    "validation",
    "compiled",
    "ddp",
    "resume",
)


class Noise(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Samples computed from their index, plus noise from the global generators, which shows any additional draw."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        fixed = torch.Generator().manual_seed(index)
        image = torch.randn(3, 16, 16, generator=fixed)
        jitter = 0.1 * torch.rand(1) + 0.1 * random.random() + 0.1 * float(np.random.rand())
        return image + jitter, torch.tensor(index % 5), torch.tensor(index)


class Body(nn.Module):
    """Convolution, batch normalisation and dropout, then attention or an LSTM over the pixels of a row."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.2)
        )
        if kind == "attention":
            self.attention = nn.MultiheadAttention(16, 2, dropout=0.1, batch_first=True)
        if kind == "lstm":
            self.lstm = nn.LSTM(16, 16, num_layers=2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (batch, 5)."""
        tokens = self.conv(images).flatten(2).transpose(1, 2)[:, ::8]
        if self.kind == "attention":
            tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        if self.kind == "lstm":
            tokens = self.lstm(tokens)[0]
        return self.head(tokens.mean(1))


class Recorder(pl.LightningModule):
    """Trains `Body` and records each loss and the order of the samples."""

    def __init__(self, scenario: str) -> None:
        super().__init__()
        self.scenario = scenario
        self.body = Body(scenario)
        self.automatic_optimization = scenario != "manual_two_optimizers"
        self.recorded: list[Tensor] = []
        if scenario == "compiled":
            self.body = torch.compile(self.body, backend="eager")  # type: ignore[assignment]

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor | None:
        images, labels, order = batch
        loss = functional.cross_entropy(self.body(images), labels)
        self.recorded += [order, loss.detach().clone()]
        self.log("loss", loss)
        if self.automatic_optimization:
            return loss
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            optimizer.zero_grad()
            loss = functional.cross_entropy(self.body(images), labels)
            self.manual_backward(loss)
            optimizer.step()
        return None

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        self.log("val", functional.cross_entropy(self.body(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        if self.scenario == "manual_two_optimizers":
            halves = (self.body.conv.parameters(), self.body.head.parameters())
            return [torch.optim.SGD(half, lr=0.05, momentum=0.9) for half in halves]
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        if self.scenario == "clip_and_schedule":
            return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1)}
        return optimizer


def trainer_for(scenario: str, folder: Path, callbacks: list[pl.Callback], max_epochs: int = 2) -> pl.Trainer:
    """Return the Trainer of one scenario: deterministic, on the CPU, without output."""
    options: dict[str, Any] = {
        "accumulate": {"accumulate_grad_batches": 4},
        "bf16": {"precision": "bf16-mixed"},
        "clip_and_schedule": {"gradient_clip_val": 0.5},
        "validation": {"val_check_interval": 3, "num_sanity_val_steps": 1},
        "ddp": {"devices": 2, "strategy": DDPStrategy(process_group_backend="gloo")},
    }.get(scenario, {})
    return pl.Trainer(
        **{"devices": 1, "limit_val_batches": 2 if scenario == "validation" else 0, **options},
        accelerator="cpu",
        max_epochs=max_epochs,
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=callbacks,
    )


def fingerprint(module: Recorder, trainer: pl.Trainer) -> dict[str, Any]:
    """Return the SHA-256 of each result of the training, how many there are, the step count and the status."""
    states = {
        "losses_and_order": [tensor.numpy().tobytes() for tensor in module.recorded],
        "weights": [t.detach().contiguous().numpy().tobytes() for t in module.state_dict().values()],
        "optimizer": [
            value.numpy().tobytes()
            for optimizer in trainer.optimizers
            for state in optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        ],
        "rng_python": [repr(random.getstate()).encode()],
        "rng_numpy": [repr(np.random.get_state()).encode()],
        "rng_torch": [torch.get_rng_state().numpy().tobytes()],
    }
    hashes: dict[str, Any] = {
        name: hashlib.sha256(b"".join(data)).hexdigest() for name, data in states.items()
    }
    compared = {
        "losses": len(module.recorded[1::2]),
        "tensors of weights and optimizers": len(states["weights"]) + len(states["optimizer"]),
        "states of random generators": sum(len(data) for name, data in states.items() if "rng" in name),
    }
    return {
        **hashes,
        "compared": compared,
        "global_step": trainer.global_step,
        "status": str(trainer.state.status),
    }


def run_arm(scenario: str, *, meter: bool, folder: Path) -> dict[str, Any]:
    """Train `scenario` in this process and return its fingerprint."""
    torch.set_num_threads(1)
    pl.seed_everything(1234, verbose=False)
    module = Recorder(scenario)
    workers = 2 if scenario == "workers" else 0
    loader = DataLoader(Noise(), batch_size=4, shuffle=True, num_workers=workers)
    checkpoint = None
    if scenario == "resume":
        first = trainer_for(scenario, folder, callbacks_for(meter, folder), max_epochs=1)
        first.fit(module, loader, loader)
        checkpoint = folder / "half.ckpt"
        first.save_checkpoint(checkpoint)
    trainer = trainer_for(scenario, folder, callbacks_for(meter, folder))
    trainer.fit(module, loader, loader, ckpt_path=None if checkpoint is None else str(checkpoint))
    return {**fingerprint(module, trainer), "rank": trainer.global_rank}


def callbacks_for(meter: bool, folder: Path) -> list[pl.Callback]:
    """Return the arm's callbacks; only the metered arm imports FareMeter."""
    if not meter:
        return []
    from trainfare import FareMeter

    return [FareMeter(warmup_steps=2, measure_steps=4, report_dir=str(folder), usd_per_hour=1.0)]


def arm(scenarios: Sequence[str], folder: Path, *, meter: bool) -> dict[str, dict[str, Any]]:
    """Run one arm in a process of its own; return the fingerprint of its rank 0 for every scenario."""
    with start_arm(scenarios, folder, meter=meter) as process:
        return fingerprints(process, scenarios)


def start_arm(scenarios: Sequence[str], folder: Path, *, meter: bool) -> subprocess.Popen[str]:
    """Start one arm in a process of its own."""
    from builders.environments import lean_python

    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    command = [lean_python(), __file__, *scenarios, "--folder", str(folder), *(["--meter"] if meter else [])]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def fingerprints(process: subprocess.Popen[str], scenarios: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Wait for the end of an arm; return the fingerprint of its rank 0 for every scenario."""
    printed, _ = process.communicate()
    lines = [line for line in printed.splitlines() if line.startswith(MARK)]
    results = dict(json.loads(line.removeprefix(MARK)) for line in lines)
    if set(results) != set(scenarios):
        raise RuntimeError(f"{scenarios}: the run failed\n{printed}")
    return results


def main() -> None:
    """Run one arm and print each fingerprint as one line of JSON (rank 0 alone prints)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenarios", nargs="+", choices=SCENARIOS)
    parser.add_argument("--meter", action="store_true")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for scenario in arguments.scenarios:
            folder = (arguments.folder or Path(scratch)) / scenario
            folder.mkdir(exist_ok=True)
            result = run_arm(scenario, meter=arguments.meter, folder=folder)
            if result["rank"] == 0:
                print(MARK + json.dumps([scenario, result]))


if __name__ == "__main__":
    main()
