"""What a measured step changes: the correction of other devices, and the input pipeline."""

from __future__ import annotations

import math

import pytest

from builders.plans import predict_one
from builders.profiles import operation, profile
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import JobProfile, MeasuredStep, ParallelFacts, Quantiles
from trainfare_core.prediction import predict_machine
from trainfare_core.prediction.roofline.coefficients import calibration
from trainfare_core.prediction.source import LIMITS, SourceCorrection


def quantiles(seconds: float) -> Quantiles:
    """Return a time that never varies."""
    return Quantiles(median_s=seconds, p10_s=seconds, p90_s=seconds)


def make_measured(
    step_s: float, *, device: str = "Tesla V100-SXM2-16GB", kind: str = "cuda", wait_s: float | None = None,
    workers: int | None = None, **job: object,
) -> JobProfile:  # fmt: skip
    """Return a ResNet-50 whose step was measured."""
    facts = MeasuredStep(
        device_name=device,
        device_kind=kind,  # type: ignore[arg-type]
        steps=10,
        step=quantiles(step_s),
        data_wait=None if wait_s is None else quantiles(wait_s),
        loader_workers=workers,
    )
    return profile(batch_size=128, dtype="fp16", measured=facts, **job)


def step_s(job: JobProfile, name: str = "V100-SXM2-16GB", **plan: float) -> float:
    """Return the predicted step."""
    return float(predict_one(job, name, **plan).step_s[0])  # type: ignore[arg-type]


PLAIN = profile(batch_size=128, dtype="fp16")


@pytest.mark.parametrize("ratio", [0.7, 1.0, 1.4, 2.5])
def test_the_source_device_is_predicted_as_it_was_measured(ratio: float) -> None:
    """On the very device, the prediction is the measurement."""
    job = make_measured(step_s(PLAIN) * ratio)
    assert step_s(job) == pytest.approx(step_s(PLAIN) * ratio, rel=0.01)


@pytest.mark.parametrize("ratio", [0.7, 1.4])
def test_another_gpu_is_corrected_in_part(ratio: float) -> None:
    """On another GPU the ratio counts with the fitted power, which follows how much slower that GPU is."""
    job, fit = make_measured(step_s(PLAIN) * ratio), calibration().source
    assert 0 < fit.share < 1
    assert 0 < fit.share_per_log_slower < 1
    for name in ("A100-SXM-80GB", "T4-16GB", "V100-SXM2-32GB"):
        change = fit.share_per_log_slower * math.log(step_s(PLAIN, name) / step_s(PLAIN))
        power = min(max(fit.share + (change if ratio < 1 else -change), 0.0), 1.0)
        assert step_s(job, name) / step_s(PLAIN, name) == pytest.approx(ratio**power, rel=0.03), name


def test_what_a_step_waits_for_hides_behind_a_slower_gpu() -> None:
    """A step that is slower than predicted says more of a faster GPU; one that is faster, more of a slower GPU."""
    fit = calibration().source

    def power(ratio: float, log_slower: float) -> float:
        correction = SourceCorrection.of(accelerator("V100-SXM2-16GB"), ratio, 1.0)
        return math.log(correction.factor(accelerator("A100-SXM-80GB"), log_slower, fit)) / math.log(ratio)

    assert power(1.5, -0.5) > power(1.5, 0.0) > power(1.5, 1.0) >= 0
    assert 0 <= power(0.7, -1.0) < power(0.7, 0.0) < power(0.7, 0.5)


@pytest.mark.parametrize("ratio", LIMITS)
def test_no_correction_turns_the_order_of_two_gpus_round(ratio: float) -> None:
    """However far the measured step is off, what is predicted to be slower stays slower."""
    correction = SourceCorrection.of(accelerator("V100-SXM2-16GB"), ratio, 1.0)
    target, fit = accelerator("A100-SXM-80GB"), calibration().source
    slower = [step / 20 for step in range(-80, 81)]
    times = [math.exp(value) * correction.factor(target, value, fit) for value in slower]
    assert times == sorted(times)


def test_another_kind_of_device_is_corrected_less() -> None:
    """A TPU learns less from a GPU's measurement than another GPU does."""
    correction = SourceCorrection.of(accelerator("V100-SXM2-16GB"), 2.0, 1.0)
    gpu, tpu = (
        correction.factor(accelerator(name), 0.0, calibration().source)
        for name in ("H100-SXM-80GB", "TPU-v5e")
    )
    assert 1 < tpu < gpu < 2


@pytest.mark.parametrize("ratio", [1e-6, 1e6])
def test_nonsense_cannot_leak(ratio: float) -> None:
    """A measurement a million times off moves the prediction by the limit at most, says so, and beats no roofline."""
    job = make_measured(step_s(PLAIN) * ratio)
    change = step_s(job, "A100-SXM-80GB") / step_s(PLAIN, "A100-SXM-80GB")
    assert LIMITS[0] * 0.99 <= change <= LIMITS[1] * 1.01
    notes = " ".join(predict_machine(job, "A100-SXM-80GB").notes)
    assert "limited to" in notes


def test_a_cpu_measures_no_gpu() -> None:
    """A step timed on a CPU leaves every GPU's prediction as it was, and the note says so."""
    job = make_measured(30.0, device="cpu", kind="cpu")
    assert step_s(job) == step_s(PLAIN)
    assert any("measured on a CPU" in note for note in predict_machine(job, "V100-SXM2-16GB").notes)


@pytest.mark.parametrize("device", ["NVIDIA Imaginary 9000", "NVIDIA A100-SXM4-80GB MIG 3g.40gb"])
def test_an_unknown_source_corrects_nothing(device: str) -> None:
    """A device that is not in the catalogue is nobody's neighbour."""
    job = make_measured(30.0, device=device)
    assert step_s(job) == step_s(PLAIN)
    assert any("not in the catalogue" in note for note in predict_machine(job, "V100-SXM2-16GB").notes)


def test_a_measurement_on_several_devices_corrects_nothing() -> None:
    """Its step holds a network that the profile does not describe."""
    job = make_measured(30.0, parallel=ParallelFacts(strategy="ddp", devices=2))
    assert step_s(job) == step_s(PLAIN)


def test_the_interval_is_narrower_with_a_measurement() -> None:
    """Narrowest on the same device, narrower on another GPU than without any measurement."""
    job = make_measured(step_s(PLAIN))

    def sigma(job: JobProfile, name: str) -> float:
        return float(predict_one(job, name).log_sigma[0])

    assert sigma(job, "V100-SXM2-16GB") < sigma(job, "A100-SXM-80GB") < sigma(PLAIN, "A100-SXM-80GB")


def test_what_the_fit_knows_of_a_device_adds_nothing_to_its_own_measurement() -> None:
    """An A10 is in no fitted row: a job that was measured on it is as sure as one that was measured on a V100."""
    name, fit = "A10-24GB", calibration()
    assert not fit.is_known(accelerator(name))
    plain, own = (
        float(predict_one(job, name).log_sigma[0]) ** 2
        for job in (PLAIN, make_measured(step_s(PLAIN, name), device="NVIDIA A10"))
    )
    others = plain - fit.sigma.base**2 - fit.sigma.unseen_device**2
    assert own == pytest.approx(fit.sigma.same_device**2 + others, rel=0.02)


def test_waiting_for_data_is_not_slowness_of_the_device() -> None:
    """The wait is taken off before the step is compared with its prediction."""
    busy_s = step_s(PLAIN)
    job = make_measured(busy_s + 0.5, wait_s=0.5, workers=0)
    table = predict_one(job, "V100-SXM2-16GB")
    assert table.input_s[0] == pytest.approx(0.5)
    assert table.step_s[0] == pytest.approx(busy_s + 0.5, rel=0.01)


def test_a_correction_beats_no_roofline() -> None:
    """However fast the measurement says a device is, a step never moves its bytes faster than the memory can."""
    stream = operation(
        kind="elementwise", dtype="fp32", flops=0, bytes_read=10**12, bytes_written=0, launches=1
    )
    facts = MeasuredStep(
        device_name="Tesla V100-SXM2-16GB", device_kind="cuda", steps=10, step=quantiles(1e-3)
    )
    job = profile(operations=(stream,), measured=facts)
    bandwidth = accelerator("V100-SXM2-16GB").memory_bandwidth_bytes_per_s
    assert step_s(job) == pytest.approx(1e12 / bandwidth)


def test_a_step_without_a_prediction_corrects_nothing() -> None:
    """NaN or no time at all on the device that ran it: the factor of every other device is 1."""
    device = accelerator("A100-SXM-80GB")
    for measured_s, predicted_s in ((1.0, math.nan), (0.0, 1.0)):
        correction = SourceCorrection.of(device, measured_s, predicted_s)
        assert correction.factor(accelerator("H100-SXM-80GB"), 0.0, calibration().source) == 1.0
