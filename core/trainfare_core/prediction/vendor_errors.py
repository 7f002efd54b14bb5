"""
How far predictions miss on the software of a vendor that is not NVIDIA, where none of its runs are like the job.

`data/vendor_errors.csv` has the misses of each vendor by model, from rows that no fit had read: those of sources left
out (`fitted`), and those of tables that came later.
`trainfare_research.runners.vendor_errors` writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from pydantic import Field

from trainfare_core.documents import Record, data_rows
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.porting import LEAST_ROWS, count_measured_rows
from trainfare_core.variants import is_decoder

_OTHER_KIND_WEIGHT = 0.5
"""Of a language model's miss for another model, and the other way round. A chosen value."""
_OTHER_VENDOR_WEIGHT = 0.25
"""Of the misses of rows in no fit, for another vendor's generation of which no run was fitted. A chosen value."""

_LEAST_OWN_ROWS = 3
"""With which a die has no vendor's miss but its doubt: the fit has taken its own. A chosen value."""


class VendorError(Record):
    """Misses of one source and model, or group of models, on a vendor's software."""

    vendor: str
    source: str
    model: str
    language_model: bool
    accelerators: str
    rows: int = Field(ge=1)
    bias: float = Field(description="median of ln(measured / predicted), the rows in no fit")
    scatter: float = Field(description="standard deviation of ln(measured / predicted)")
    fitted: bool = Field(description="the coefficients that ship were fitted on these rows")


def expect_error(
    errors: Sequence[VendorError], vendor: str, *, language_model: bool, new_generation: bool
) -> tuple[float, float]:
    """
    Return mean and standard deviation of ln(measured / predicted) of a job unlike all that was measured.

    Each model counts the same, those of the other kind half. A model that the coefficients were fitted on says by how
    much a new one may miss, and no longer in which direction. Where the vendor has none, all vendors' count.

    Args:
        errors: of all vendors.
        vendor: of the device.
        language_model: kind of the job.
        new_generation: no run on the device's generation was fitted.
    """
    own = [error for error in errors if error.vendor == vendor] or list(errors)
    others = [error for error in errors if error not in own and not error.fitted] if new_generation else []
    errors = [*own, *others]
    same = np.array([error.language_model == language_model for error in errors])
    weight = np.where(same, 1.0, _OTHER_KIND_WEIGHT)
    weight[len(own) :] *= _OTHER_VENDOR_WEIGHT
    bias, scatter = (np.array([getattr(error, name) for error in errors]) for name in ("bias", "scatter"))
    left = np.where(same & [error.fitted for error in errors], 0.0, bias)
    mean = float(np.average(left, weights=weight))
    # Of one more model than those that the mean is of.
    variance = float(np.average((bias - mean) ** 2 + scatter**2, weights=weight)) * (1 + 1 / weight.sum())
    return mean, variance**0.5


def find_vendor_error(profile: JobProfile, device: Accelerator) -> tuple[float, float]:
    """
    Return mean and standard deviation of what a job's prediction misses by on a device.

    Both are 0 where enough runs like it were fitted on its generation; each of fewer takes its part off the mean, and
    some on its die all of it.
    """
    rows = count_measured_rows(profile, device)
    if rows is None or rows.of_generation >= LEAST_ROWS:
        return 0.0, 0.0
    mean, deviation = expect_error(
        load_vendor_errors(),
        device.vendor,
        language_model=is_decoder(profile),
        new_generation=not rows.of_any_work,
    )
    left = 0.0 if rows.of_silicon >= _LEAST_OWN_ROWS else 1 - rows.of_generation / LEAST_ROWS
    return max(mean, 0.0) * left, deviation  # no chip is better than those that were measured


@lru_cache(maxsize=1)
def load_vendor_errors() -> tuple[VendorError, ...]:
    """Return the table that ships with trainfare, read once per process."""
    return tuple(VendorError.model_validate(line, strict=False) for line in data_rows("vendor_errors.csv"))
