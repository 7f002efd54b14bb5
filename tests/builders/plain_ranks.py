"""
Train with Accelerate and with Fabric on two processes under gloo, without and with FareMeter; each rank writes what it saw.

    python -m torch.distributed.run --nproc-per-node 2 tests/builders/plain_ranks.py FOLDER
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional


def train(folder: Path, library: str, *, metered: bool) -> dict[str, Any]:
    """Train, and return the collective calls by the sequence number of the group, a hash of the weights, and the profile."""
    from accelerate import Accelerator
    from lightning.fabric import Fabric

    from builders.lightning_modules import MeterHarness, loader
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
    before = dist.distributed_c10d._get_default_group()._get_sequence_number_for_group()
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
    after = dist.distributed_c10d._get_default_group()._get_sequence_number_for_group()
    weights = b"".join(value.numpy().tobytes() for value in plain.state_dict().values())
    profiles = [json.loads(profile.to_json()) for profile in harness.profiles]
    return {
        "sequence": after - before,
        "weights": hashlib.sha256(weights).hexdigest(),
        "profiles": profiles,
    }


def main() -> None:
    """Train four times, and write `rank-N.json`."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    result = {
        library: {str(metered): train(folder, library, metered=metered) for metered in (False, True)}
        for library in ("accelerate", "fabric")
    }
    (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
