"""
Train with Accelerate and with Fabric on two processes under gloo, without and with FareMeter; each rank writes what it saw.

    python -m torch.distributed.run --nproc-per-node 2 tests/builders/plain_ranks.py FOLDER
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

STOP: dict[str, Any] = {"on_budget": "checkpoint_and_stop", "budget_usd": 0.05, "usd_per_hour": 3600.0}
"""A second costs a dollar, and a step takes 20 ms."""
FAULT_S = 0.095
"""On rank 1 the clock fails from then on: in the fifth step."""


def train(
    folder: Path, library: str, *, metered: bool, fault: bool = False, **settings: Any
) -> dict[str, Any]:
    """
    Train, and return what `describe_run` does, with the steps; `settings` are those of a meter on a clock of its own.

    With a fault, the meter of rank 1 is turned off by one.
    """
    from accelerate import Accelerator
    from lightning.fabric import Fabric

    from builders.lightning_modules import Clock, MeterHarness, loader
    from builders.rank_runs import describe_run
    from trainfare import FareMeter

    clock, done = Clock(), list[int]()
    began_s = clock()

    def read_clock() -> float:
        if fault and os.environ["RANK"] == "1" and clock() - began_s > FAULT_S:
            raise ZeroDivisionError
        return clock()

    harness = MeterHarness(read_clock) if settings else MeterHarness()
    torch.manual_seed(0)
    plain: nn.Module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    plain.register_forward_pre_hook(lambda *_: clock.advance(0.010))
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
    given |= settings

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
                        done.append(number)

    return {**describe_run(harness, plain, run), "batches": len(done)}


def main() -> None:
    """Train four times for each library, and write `rank-N.json`."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from builders.rank_runs import write_runs

    folder = Path(sys.argv[1])
    write_runs(
        folder,
        lambda: {
            library: {
                **{str(metered): train(folder, library, metered=metered) for metered in (False, True)},
                "stopped": train(folder / "stopped", library, metered=True, **STOP),
                "faulty": train(folder / "faulty", library, metered=True, fault=True, **STOP),
            }
            for library in ("accelerate", "fabric")
        },
    )


if __name__ == "__main__":
    main()
