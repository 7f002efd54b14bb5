"""`EarlierRuns`: by which runs of the job's project its prediction is corrected, as answers state it."""

from __future__ import annotations

from collections.abc import Iterable

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
        description="of ln(step) from run to run of one job: no interval is narrower"
    )

    def describe(self) -> str:
        """Return the sentence that stands beside a corrected answer."""
        runs = f"{len(self.runs)} run{'s' if len(self.runs) > 1 else ''}"
        return (
            f"corrected by {round(100 * (self.factor - 1)):+d} % from {runs} of this project on "
            f"{' and '.join(self.accelerators)}; `--no-ledger` without"
        )


def find_earlier_runs(earlier: Iterable[EarlierRuns], silicon: str) -> EarlierRuns | None:
    """Return the runs on accelerators of a die; None where there are none."""
    return next((runs for runs in earlier if runs.silicon == silicon), None)
