"""
Train with Accelerate and with Fabric on two processes under gloo, without and with FareMeter; each rank writes what it saw.

    python -m torch.distributed.run --nproc-per-node 2 tests/builders/plain_ranks.py FOLDER
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def train(folder: Path, library: str, *, metered: bool) -> dict[str, Any]:
    """Train, and return what `describe_run` does."""
    from accelerate import Accelerator
    from lightning.fabric import Fabric

    from builders.lightning_modules import MeterHarness, loader
    from builders.rank_runs import describe_run
    from trainfare import FareMeter

    harness = MeterHarness()
    torch.manual_seed(0)
    plain: nn.Module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    stepper: Any = torch.optim.SGD(plain.parameters(), lr=0.1)
    if library == "accelerate":
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        model, optimizer, data = accelerator.prepare(plain, stepper, loader(96))
        tools: Any = accelerator
    else:
        tools = Fabric(accelerator="cpu", devices=2, strategy="ddp")
        tools.launch()
        model, optimizer = tools.setup(plain, stepper)
        data = tools.setup_dataloaders(loader(96))
    kind = type("FareMeter", (FareMeter,), {"services": harness.services})
    given = {"total_steps": 12, "warmup_steps": 1, "measure_steps": 3, "report_dir": str(folder)}

    def run() -> None:
        with kind.loop(model, optimizer, **given) if metered else contextlib.nullcontext() as meter:
            for _ in range(2):
                for number, batch in enumerate(meter.steps(data) if metered else data):
                    accumulates = number % 2 == 0
                    within = (
                        tools.accumulate(model)
                        if library == "accelerate"
                        else tools.no_backward_sync(model, accumulates)
                    )
                    with within:
                        tools.backward(functional.mse_loss(model(batch), torch.zeros(len(batch), 2)))
                    if library == "accelerate" or not accumulates:
                        optimizer.step()
                        optimizer.zero_grad()

    return describe_run(harness, plain, run)


def main() -> None:
    """Train four times, and write `rank-N.json`."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from builders.rank_runs import write_runs

    folder = Path(sys.argv[1])
    write_runs(
        folder,
        lambda: {
            library: {str(metered): train(folder, library, metered=metered) for metered in (False, True)}
            for library in ("accelerate", "fabric")
        },
    )


if __name__ == "__main__":
    main()
