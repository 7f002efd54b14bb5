"""What a ledger says of a job before it is predicted, as answers state it: runs, figures of devices, noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from pydantic import Field

from trainfare_core.documents import Finite, Record


class EarlierRuns(Record):
    """What earlier runs of the job's project say of its step on accelerators of one die: `ledger.correction`."""

    silicon: str = Field(description="die of the accelerators that are corrected, as the catalogue names it")
    accelerators: tuple[str, ...] = Field(description="of the runs")
    runs: tuple[str, ...] = Field(description="ids of the runs in the ledger, oldest first")
    factor: Finite = Field(description="what the predicted time of the device is multiplied by")
    log_sigma: Finite = Field(description="standard deviation of ln(factor), for this job")
    shared_log_sigma: Finite = Field(description="the same without a run, from published errors")
    published_log_sigma: Finite = Field(
        description="of ln(measured / predicted) of a run, as it was predicted"
    )
    least_log_sigma: Finite = Field(
        description="of ln(step) from run to run of one job, by these runs: no interval is narrower"
    )

    def describe(self) -> str:
        """Return the sentence that stands beside a corrected answer."""
        runs = f"{len(self.runs)} run{'s' if len(self.runs) > 1 else ''}"
        return (
            f"corrected by {round(100 * (self.factor - 1)):+d} % from {runs} of this project on "
            f"{' and '.join(self.accelerators)}; `--no-ledger` without"
        )


class DeviceFigures(Record):
    """What `trainfare calibrate` measured on an accelerator, over what is predicted: `ledger.device_figures`."""

    accelerator: str = Field(description="as the catalogue names it")
    measured_on: str = Field(description="day, in UTC")
    software: str = Field(description="versions of torch and of the driver")
    ratios: dict[str, Finite] = Field(
        description="measured over predicted seconds by kind of work: 'matmul bf16', 'convolution tf32', 'memory', "
        "'launch', 'all_reduce'; a kind that is not there keeps its prediction"
    )

    def describe(self) -> str:
        """Return the sentence that stands beside a corrected answer."""
        return f"by figures measured on this device on {self.measured_on}; `--no-ledger` without"


class MeasuredNoise(Record):
    """The noise scale of an earlier run of the job: `ledger.noise_scale`."""

    run: str = Field(description="its id in the ledger")
    samples: Finite


Evidence: TypeAlias = EarlierRuns | DeviceFigures | MeasuredNoise


def find_earlier_runs(evidence: Iterable[Evidence], silicon: str) -> EarlierRuns | None:
    """Return the runs on accelerators of a die; None where there are none."""
    runs = (entry for entry in evidence if isinstance(entry, EarlierRuns))
    return next((entry for entry in runs if entry.silicon == silicon), None)


def find_figures(evidence: Iterable[Evidence], name: str) -> DeviceFigures | None:
    """Return the figures of an accelerator; None where there are none."""
    figures = (entry for entry in evidence if isinstance(entry, DeviceFigures))
    return next((entry for entry in figures if entry.accelerator == name), None)
