"""What kernels that were measured on a device say of predictions there, and what is refused."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from builders.measurements import addition, copy, measurement, product
from builders.profiles import gpt_profile
from trainfare_core.errors import InputError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.hardware.earlier_runs import EarlierRuns
from trainfare_core.job_profile import MeasuredStep, Quantiles
from trainfare_core.ledger.device_figures import (
    DeviceMeasurement,
    KernelTime,
    choose_figures,
    compare_kernels,
)

A100 = accelerator("A100-SXM-80GB")
JOB = gpt_profile(batch_size=64)


def test_published_rates_are_near_what_is_predicted() -> None:
    """
    A product at 260 TFLOP/s and a copy at 1.7 TB/s are an A100 as predicted, and no 312 TFLOP/s and 2.0 TB/s.

    Rates: the best product of an A100 of 80 GB is 267.9 TFLOP/s (github.com/stas00/ml-engineering, compute/accelerator);
    BabelStream copies at 1.7 TB/s there.
    """
    seconds = (2 * 8192**3 / 260e12, 2 * 4 * 2**28 / 1.7e12)
    figures = compare_kernels(measurement((product(8192), seconds[0]), (copy(2**28), seconds[1])))
    assert [figure.work for figure in figures] == ["matmul bf16", "memory"]
    for figure in figures:
        assert figure.ratio == pytest.approx(1.0, abs=0.15)


def test_a_kind_of_work_is_the_geometric_mean_of_its_kernels() -> None:
    """One product in 1.1 and one in 1.3 times the seconds of another measurement are sqrt(1.1 x 1.3) times as slow."""
    small, large = (product(2048), 8e-5), (product(8192), 4.4e-3)
    (before,) = compare_kernels(measurement(small, large))
    (after,) = compare_kernels(measurement((small[0], 1.1 * small[1]), (large[0], 1.3 * large[1])))
    assert (after.ratio or 0.0) / (before.ratio or 1.0) == pytest.approx((1.1 * 1.3) ** 0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("seconds", "because"),
    [
        (
            2 * 8192**3 / 624e12,
            "refused: 2 times as fast as its data sheet",
        ),  # NVIDIA's sheet: 312 TFLOP/s dense
        (2 * 8192**3 / 26e12, "times its prediction, not 0.4 to 3"),
    ],
)
def test_a_figure_that_is_not_plausible_is_refused(seconds: float, because: str) -> None:
    """A clock that is wrong, a card of another name or one that others use change no prediction."""
    measured = measurement((product(8192), seconds))
    (figure,) = compare_kernels(measured)
    assert figure.ratio is None
    assert because in figure.refused
    assert choose_figures(JOB, [measured]) == ()


def test_all_reduces_are_compared_with_those_of_as_many_devices() -> None:
    """Eight A100 reach 230 GB/s of bus bandwidth with NCCL (its tests' own measure): B = 2 x 7/8 x bytes / seconds."""
    size_bytes = 2**28
    time = KernelTime(operation=copy(size_bytes // 4), reduced_by=8, seconds=2 * 7 / 8 * size_bytes / 230e9)
    (figure,) = compare_kernels(measurement(kernels=(time,)))
    assert figure.work == "all_reduce"
    assert figure.ratio == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize("device", [{"memory_bytes": None}, {"device_name": "Unheard Of 9000"}])
def test_a_cpu_and_a_device_without_predictions_have_no_ratio(device: dict[str, None]) -> None:
    """What was measured is there, and says that nothing uses it."""
    measured = measurement((addition(), 5e-6), **device)
    (figure,) = compare_kernels(measured)
    assert (figure.work, figure.ratio) == ("launch", None)
    assert figure.refused == "trainfare predicts no step on this device"
    assert choose_figures(JOB, [measured]) == ()


def test_the_newest_with_the_torch_of_the_job_counts() -> None:
    """Else the newest of all: JOB was traced with 2.8.0."""
    old = measurement(measured_at=datetime(2026, 11, 1, tzinfo=timezone.utc))
    older, other = (
        measurement(torch=version, measured_at=datetime(2026, month, 2, tzinfo=timezone.utc))
        for version, month in (("2.8.0", 10), ("2.9.0", 12))
    )
    (figures,) = choose_figures(JOB, [other, old, older])
    assert (figures.accelerator, figures.measured_on) == (A100.name, "2026-11-01")
    assert figures.software == "torch 2.8.0, driver 570.86"
    assert figures.describe() == "by figures measured on this device on 2026-11-01; `--no-ledger` without"
    assert set(figures.ratios) == {"matmul bf16", "all_reduce"}
    (figures,) = choose_figures(JOB, [other, other.model_copy(update={"torch": "2.7.0"})])
    assert figures.measured_on == "2026-12-02"


def test_measured_steps_say_more_than_kernels() -> None:
    """Neither a job that was measured itself, nor a die with earlier runs of the project, takes figures."""
    quantiles = Quantiles(median_s=0.2, p10_s=0.2, p90_s=0.2)
    step = MeasuredStep(device_name="NVIDIA L40S", device_kind="cuda", steps=10, step=quantiles)
    assert choose_figures(gpt_profile(batch_size=64, measured=step), [measurement()]) == ()
    runs = EarlierRuns(
        silicon=A100.silicon, accelerators=(A100.name,), runs=("0" * 12,), factor=1.1, log_sigma=0.1,
        shared_log_sigma=0.2, published_log_sigma=0.2, least_log_sigma=0.05,
    )  # fmt: skip
    assert choose_figures(JOB, [measurement()], [runs]) == ()
    assert choose_figures(JOB, [measurement()], [runs.model_copy(update={"silicon": "AD102"})])


@pytest.mark.parametrize("text", ["{", "{}", measurement().to_json().replace("0.00055", "-1")])
def test_what_is_no_measurement_is_an_error_of_ours(text: str) -> None:
    """With its name."""
    with pytest.raises(InputError, match="ledger x: no measurement of a device"):
        DeviceMeasurement.from_json(text, where="ledger x")
