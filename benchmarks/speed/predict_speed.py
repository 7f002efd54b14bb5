"""
Time one prediction of a profile on every accelerator, device count and number of machines.

    python -m benchmarks.speed.predict_speed [--job job.json ...] [--repeat 50] [--json OUT]

Every accelerator of the catalogue that trains, times 1, 2, 4, 8 devices, times 1, 2, 4, 8, 16 machines, in one call of
`predict`, with the time to prepare the profile. The profiles: a small one (ResNet-50) and a language model of
docs/examples, and a large one that is traced here (36 transformer layers that share no shape); --job adds your own.
Times are wall-clock, milliseconds. The limit is 100 ms.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import nn

from benchmarks.cases import Case, case_parser, write_cases
from trainfare import TrainingJob
from trainfare.fake_step import trace_job
from trainfare_core.candidates import SHARDINGS, CandidateTable
from trainfare_core.hardware.accelerators import accelerators
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import predict
from trainfare_core.prices.shapes import MachineShapes

DEVICES, MACHINES = (1, 2, 4, 8), (1, 2, 4, 8, 16)
LIMIT_MS = 100.0
_EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
_NETWORK_GBIT_PER_S = 400.0
"""Of each machine. The time does not depend on it, but without a network most columns would have no prediction."""


@dataclass(frozen=True)
class PredictCase(Case):
    """Time of one call; `peer` is the limit."""

    p90: float
    columns: int
    answered: int
    operations: int


def everything(profile: JobProfile) -> tuple[MachineShapes, CandidateTable]:
    """Return every accelerator that trains as machines of 1 to 8 devices, and plans for 1 to 16 of them."""
    names = [device.name for device in accelerators() if device.trains]
    count = len(names) * len(DEVICES)
    shapes = MachineShapes(
        accelerator=np.repeat(names, len(DEVICES)),
        accelerator_count=np.tile(np.array(DEVICES, dtype=np.float64), len(names)),
        vcpus=np.full(count, 96.0),
        memory_gib=np.full(count, 1024.0),
        network_gbit_per_s=np.full(count, _NETWORK_GBIT_PER_S),
    )
    shape = np.repeat(np.arange(count), len(MACHINES))
    nodes = np.tile(np.array(MACHINES, dtype=np.int64), count)
    alone = shapes.accelerator_count[shape] * nodes == 1
    size = len(shape)
    plans = CandidateTable(
        shape=shape,
        nodes=nodes,
        sharding=np.where(alone, SHARDINGS.index("none"), SHARDINGS.index("ddp")),
        micro_batch=np.full(size, float(profile.batch.micro_batch_size or math.nan)),
        micro_ratio=np.ones(size),
        accumulate=np.full(size, profile.parallel.accumulate_grad_batches, dtype=np.int64),
    )
    return shapes, plans


def time_profile(profile: JobProfile, repeat: int) -> PredictCase:
    """Return the median and 90 % quantile of the time of one prediction on everything, over `repeat` calls."""
    shapes, plans = everything(profile)
    table = predict(profile, shapes, plans)
    times: list[float] = []
    for _ in range(repeat):
        gc.collect()
        start = time.perf_counter()
        predict(profile, shapes, plans)
        times.append((time.perf_counter() - start) * 1e3)
    middle = statistics.median(times)
    return PredictCase(
        ours=middle, peer=LIMIT_MS, ratio=LIMIT_MS / middle, unit="ms",
        p90=sorted(times)[math.ceil(0.9 * len(times)) - 1], columns=len(plans),
        answered=int((table.unknown_because == "").sum()), operations=len(profile.operations),
    )  # fmt: skip


class _Widths(LightningModule):
    """Transformer layers of 36 widths, each with an input of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(64 * (12 + i), 12 + i, 256 * (12 + i), batch_first=True)
            for i in range(36)
        )

    def training_step(self, tokens: torch.Tensor) -> torch.Tensor:
        widest = tokens[..., None].float().expand(-1, -1, 64 * 48)
        return torch.stack(
            [layer(widest[..., : 64 * (12 + i)]).square().mean() for i, layer in enumerate(self.layers)]
        ).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


def load_built_in() -> dict[str, JobProfile]:
    """Return the profiles that the limit is stated for: a small one, a large one and a language model."""
    widths = TrainingJob(
        module=_Widths, batch=lambda: torch.zeros(8, 1024, dtype=torch.long), batch_size=8, precision="bf16-mixed",
        max_steps=1,
    )  # fmt: skip
    small, language_model = (
        JobProfile.from_json((_EXAMPLES / f"{name}.json").read_bytes()) for name in ("resnet50", "llama-7b")
    )
    return {
        "predict_everything_small": small,
        "predict_everything_large": trace_job(widths),
        "predict_everything_language_model": language_model,
    }


def main() -> None:
    """Run the command line."""
    parser = case_parser(__doc__)
    parser.add_argument(
        "--job", type=Path, action="append", default=[], help="another profile; may be repeated"
    )
    parser.add_argument("--repeat", type=int, default=50)
    arguments = parser.parse_args()
    profiles = load_built_in() | {
        path.stem: JobProfile.from_json(path.read_bytes()) for path in arguments.job
    }
    cases = {name: time_profile(profile, arguments.repeat) for name, profile in profiles.items()}
    print(f"{'profile':36s}{'operations':>11s}{'columns':>9s}{'answered':>10s}{'median':>11s}{'p90':>11s}")
    for name, case in cases.items():
        counts = f"{case.operations:11d}{case.columns:9d}{case.answered:10d}"
        print(f"{name:36s}{counts}{case.ours:8.1f} ms{case.p90:8.1f} ms")
    write_cases(arguments.json, cases)


if __name__ == "__main__":
    main()
