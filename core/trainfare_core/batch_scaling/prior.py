"""
The critical batch of a run of which nothing was measured, from published workloads.

`ln Bc = a + e ln(E / 1e6) + b ln(B0 / 256)`, with E the samples of the run and B0 its batch. The constants are those
of `data/critical_batch.json`, which `python -m trainfare_research.runners.fit_critical_batch` fits to MLPerf's
reference convergence points; research/docs/critical-batch.md has the scores. Kind, size and optimizer of a model are
not in it: so few workloads cannot carry them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

from trainfare_core.batch_scaling.critical_batch import CriticalBatch
from trainfare_core.documents import Record, data_text
from trainfare_core.errors import InputError

BASE_BATCH: Final = 256.0
RUN_SAMPLES: Final = 1e6
"""A batch and samples of a run at which both logarithms are 0: a usual job. They change no prediction."""


class BatchPrior(Record):
    """Constants of the formula, and the standard deviation of ln(Bc) of workloads that were left out of the fit."""

    constant: float
    per_log_base_batch: float
    per_log_run_samples: float
    log_sigma: float


class CriticalBatchFit(Record):
    """
    What `data/critical_batch.json` holds.

    Attributes:
        fitted_at: day of the fit.
        data_sha256: of the table of published points.
        workloads: how many were fitted.
        with_samples: where the samples of the run are known.
        without_samples: where they are not.
    """

    fitted_at: str
    data_sha256: str
    workloads: int
    with_samples: BatchPrior
    without_samples: BatchPrior


@lru_cache(maxsize=1)
def load_critical_batch_fit() -> CriticalBatchFit:
    """Return the fit that ships with trainfare, read once per process."""
    return CriticalBatchFit.model_validate_json(data_text("critical_batch.json"))


def predict_critical_batch(
    run_samples: float | None, base_batch: float, fit: CriticalBatchFit | None = None
) -> CriticalBatch:
    """
    Return the critical batch of a run of which nothing was measured.

    Example:
        >>> critical = predict_critical_batch(run_samples=1e6, base_batch=256)
        >>> ratio = critical.samples_ratio(256, 1024)
        >>> bool(1.0 < ratio.low < ratio.median < ratio.high < 4.0), critical.source
        (True, 'prior')

    Args:
        run_samples: samples that the run as it is sees, all epochs counted; None: not known.
        base_batch: samples a step of the run as it is, over all devices. A sample is what the loader gives: a sequence,
            an image.
        fit: the constants; None: those that ship.

    Raises:
        InputError: the samples or the batch are not positive and finite.
    """
    if not all(0 < value < math.inf for value in (base_batch, 1.0 if run_samples is None else run_samples)):
        raise InputError(
            f"critical batch: a run of {run_samples} samples in batches of {base_batch}: give positive, finite numbers"
        )
    fit = fit or load_critical_batch_fit()
    prior = fit.without_samples if run_samples is None else fit.with_samples
    logarithm = prior.constant + prior.per_log_base_batch * math.log(base_batch / BASE_BATCH)
    if run_samples is not None:
        logarithm += prior.per_log_run_samples * math.log(run_samples / RUN_SAMPLES)
    return CriticalBatch(median=math.exp(logarithm), log_sigma=prior.log_sigma, source="prior")
