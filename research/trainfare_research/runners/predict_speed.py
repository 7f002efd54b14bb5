"""
Time one prediction of a profile on every accelerator, device count and number of machines.

    python -m trainfare_research.runners.predict_speed [--job job.json ...] [--repeat 50] [--json OUT]

Every accelerator of the catalogue that trains, times 1, 2, 4, 8 devices, times 1, 2, 4, 8, 16 machines, in one call of
`predict`, with the time to prepare the profile. The profiles are traced: a small one (ResNet-50), a large one (36
transformer layers that share no shape) and a language model; --job adds profiles of your own. Times are wall-clock,
milliseconds. The limit is 100 ms.
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
from benchmarks.cases import Case, case_parser, write_cases
from torch import nn
from torch.nn import functional
from torchvision.models import resnet50

from trainfare_core.candidates import SHARDINGS, CandidateTable
from trainfare_core.hardware.accelerators import accelerators
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import predict
from trainfare_core.prices.book import MachineShapes
from trainfare_research.workloads.language.decoder import Decoder, DecoderStep
from trainfare_research.workloads.language.decoder_profile import DecoderTraces
from trainfare_research.workloads.single_device import StepJob, traced

__all__ = ["PredictCase", "everything", "time_profile"]

DEVICES, MACHINES = (1, 2, 4, 8), (1, 2, 4, 8, 16)
LIMIT_MS = 100.0
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


class _Widths(nn.Module):
    """Transformer layers of 36 widths, each with an input of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(64 * (12 + i), 12 + i, 256 * (12 + i), batch_first=True)
            for i in range(36)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        widest = tokens[..., None].float().expand(-1, -1, 64 * 48)
        return torch.stack(
            [layer(widest[..., : 64 * (12 + i)]).square().mean() for i, layer in enumerate(self.layers)]
        ).sum()


def built_in() -> dict[str, JobProfile]:
    """Return the profiles that the limit is stated for: a small one, a large one and a language model."""
    images = StepJob(
        key="resnet50", network=resnet50, loss=_image_loss, batch_size=256, precision="bf16-mixed",
        inputs=lambda n: (torch.zeros(n, 3, 224, 224), torch.zeros(n, dtype=torch.long)),
    )  # fmt: skip
    widths = StepJob(
        key="36 widths", network=_Widths, loss=lambda net, batch: net(batch), optimizer="adamw", batch_size=8,
        precision="bf16-mixed", inputs=lambda n: torch.zeros(n, 1024, dtype=torch.long),
    )  # fmt: skip
    decoder = Decoder(layers=32, hidden=4096, heads=32, kv_heads=32, ffn=11_008, vocabulary=32_000)
    return {
        "predict_everything_small": traced(images),
        "predict_everything_large": traced(widths),
        "predict_everything_language_model": DecoderTraces().profile(DecoderStep(decoder, 2048)),
    }


def _image_loss(net: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(net(batch[0]), batch[1])


def main() -> None:
    """Run the command line."""
    parser = case_parser(__doc__)
    parser.add_argument(
        "--job", type=Path, action="append", default=[], help="another profile; may be repeated"
    )
    parser.add_argument("--repeat", type=int, default=50)
    arguments = parser.parse_args()
    profiles = built_in() | {path.stem: JobProfile.from_json(path.read_bytes()) for path in arguments.job}
    cases = {name: time_profile(profile, arguments.repeat) for name, profile in profiles.items()}
    print(f"{'profile':36s}{'operations':>11s}{'columns':>9s}{'answered':>10s}{'median':>11s}{'p90':>11s}")
    for name, case in cases.items():
        counts = f"{case.operations:11d}{case.columns:9d}{case.answered:10d}"
        print(f"{name:36s}{counts}{case.ours:8.1f} ms{case.p90:8.1f} ms")
    write_cases(arguments.json, cases)


if __name__ == "__main__":
    main()
