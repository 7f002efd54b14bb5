"""Records of runs for tests."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from trainfare_core.documents import Interval
from trainfare_core.job_profile import JobProfile, MeasuredStep, Quantiles
from trainfare_core.ledger.run_record import Compared, RunMachine, RunPrediction, RunRecord

BEGAN = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)


def build_compared(mid: float, measured: float | None, factor: float = 1.25) -> Compared:
    """Return a quantity whose 80 % interval is its median divided and multiplied by a factor."""
    return Compared(predicted=Interval(mid=mid, low_80=mid / factor, high_80=mid * factor), measured=measured)


def run(number: int = 0, **fields: Any) -> RunRecord:
    """Return a finished run of one hour; `number` makes its id and its start."""
    began = BEGAN + timedelta(minutes=number)
    defaults: dict[str, Any] = {
        "run_id": f"{number:012x}",
        "state": "finished",
        "tool_version": "1",
        "started_at": began,
        "ended_at": began + timedelta(hours=1),
        "project": "vision",
        "job": "Net",
        "kind": "convolution",
        "machine": RunMachine(accelerator="L40S-48GB", accelerators=4, nodes=1),
        "prediction": RunPrediction(id="0" * 12, made="before"),
        "step_s": build_compared(1.0, 1.1),
    }
    return RunRecord(**{**defaults, **fields})


def build_measured(job: JobProfile, name: str = "NVIDIA H100 80GB HBM3", **fields: Any) -> JobProfile:
    """Return a profile with steps of 0.5 s on a device."""
    step = MeasuredStep(
        device_name=name,
        device_kind="cpu" if name == "cpu" else "cuda",
        steps=10,
        step=Quantiles(median_s=0.5, p10_s=0.45, p90_s=0.6),
        peak_memory_bytes=2**34,
        software="torch 2.13.0, lightning.pytorch 2.6.6",
    )
    return job.model_copy(update={"measured": step, **fields})
