"""What a prediction misses by on the software of a vendor that is not NVIDIA, where no run like the job's was fitted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from builders.toy_market import operation, shapes, small_job
from trainfare_core.candidates import enumerate_candidates
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile, MeasuredStep, Quantiles
from trainfare_core.prediction import predict
from trainfare_core.prediction.roofline.operations import usable_dtype
from trainfare_core.prediction.vendor_errors import (
    VendorError,
    expect_error,
    find_vendor_error,
    load_vendor_errors,
)

CONVOLUTIONS = tuple(
    operation(kind="convolution", name="aten.convolution", phase=phase, dtype="bf16") for phase in ("forward", "backward")
)  # fmt: skip


def error(bias: float, **changes: object) -> VendorError:
    fields = {
        "vendor": "amd", "source": "s", "model": "m", "language_model": False, "accelerators": "MI300X", "rows": 9,
        "bias": bias, "scatter": 0.1, "fitted": False,
    }  # fmt: skip
    return VendorError.model_validate({**fields, **changes})


def vision_job() -> JobProfile:
    return small_job(operations=CONVOLUTIONS)


def test_models_of_the_kind_count_whole_and_others_half() -> None:
    """By hand: (0.6 + 0.3 / 2) / 1.5 = 0.5, with 0.1^2 + 0.1^2 / 1.5 + 0.2^2 / 3 of variance, for one model more."""
    errors = [error(0.6), error(0.3, language_model=True)]
    mean, deviation = expect_error(errors, "amd", language_model=False, new_generation=False)
    assert mean == pytest.approx(0.5)
    assert deviation**2 == pytest.approx((0.02 + 0.5 * (0.04 + 0.01)) / 1.5 * (1 + 1 / 1.5))


def test_a_fitted_miss_has_no_direction_but_a_width() -> None:
    mean, deviation = expect_error(
        [error(0.6, fitted=True)], "amd", language_model=False, new_generation=False
    )
    assert mean == 0
    assert deviation > 0.6


def test_another_vendors_misses_count_for_a_generation_without_runs_alone() -> None:
    errors = [error(0.8), error(0.0, vendor="intel", fitted=True)]
    known, new = (
        expect_error(errors, "intel", language_model=False, new_generation=new)[0] for new in (False, True)
    )
    assert known == 0
    assert new == pytest.approx(0.25 * 0.8 / 1.25)
    assert expect_error(errors, "graphcore", language_model=False, new_generation=False)[0] > 0


def test_nothing_is_missed_on_nvidia_or_where_enough_was_fitted() -> None:
    for name in ("H100-SXM-80GB", "B200-SXM-180GB", "T4-16GB"):
        assert find_vendor_error(vision_job(), accelerator(name)) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["MI325X-256GB", "MI300X", "Gaudi3-128GB", "Trainium2"])
def test_an_interval_reaches_further_up_where_nothing_like_the_job_was_fitted(name: str) -> None:
    """Convolutions on ROCm took 1.9 to 4.2 times the time of the coefficients: most of that lies inside."""
    mean, deviation = find_vendor_error(vision_job(), accelerator(name))
    assert mean >= 0
    assert deviation > 0.3
    if name.startswith("MI3"):
        assert math.exp(mean - 1.28 * deviation) < 1.9
        assert math.exp(mean + 1.28 * deviation) > 2.6


def test_the_prediction_carries_it_until_a_step_was_measured_there() -> None:
    """On the vendor's own devices: the correction then says by how much it was missed."""
    machines = shapes(("MI325X-256GB", 1.0), ("H100-SXM-80GB", 1.0))
    job = vision_job()
    measured = job.model_copy(
        update={
            "measured": MeasuredStep(
                device_name="MI300X",
                device_kind="cuda",
                steps=50,
                step=Quantiles(median_s=0.5, p10_s=0.5, p90_s=0.5),
            )
        }
    )
    widths = []
    for profile in (job, measured):
        plans = enumerate_candidates(profile, machines)
        table = predict(profile, machines, plans)
        first = [int(np.flatnonzero(plans.shape == machine)[0]) for machine in (0, 1)]
        widths.append(table.log_sigma[first])
    mean, deviation = find_vendor_error(job, accelerator("MI325X-256GB"))
    assert mean > 0
    assert widths[0][0] > max(deviation, widths[0][1])
    assert widths[1][0] < deviation


def test_rocm_multiplies_tf32_as_fp32() -> None:
    """PyTorch takes the permission there only where HIPBLASLT_ALLOW_TF32=1."""
    for name, used in (("MI300X", "fp32"), ("A100-SXM-80GB", "tf32")):
        assert usable_dtype(accelerator(name), "tf32")[0] == used


def test_every_line_is_of_another_vendor_and_says_what_it_rests_on() -> None:
    errors = load_vendor_errors()
    assert {error.vendor for error in errors} == {"amd", "aws", "google", "intel"}
    assert all(error.accelerators and error.source for error in errors)
