"""What a prediction is compared with, how far its interval grows with distance, and when it is a guess."""

from __future__ import annotations

import math

import numpy as np
import pytest

from builders.plans import predict_one
from builders.profiles import gpt_profile, operation, profile
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.job_profile import MeasuredStep, Quantiles
from trainfare_core.prediction import predict_machine
from trainfare_core.prediction.distance import (
    FEATURES,
    GUESS,
    WORK,
    DistanceFit,
    MeasuredGroup,
    MeasuredGroups,
    Work,
    describe_work,
    load_measured_groups,
    name_work,
)
from trainfare_core.prediction.roofline.operations import Operations, Roofline

FIT = DistanceFit(per_distance=0.4, other_vendor=0.3, host=0.5, host_language=0.8)


def group(source: str = "a", vendor: str = "nvidia", rows: int = 30, **features: float) -> MeasuredGroup:
    """Return a group of convolutions on one device, kernels of 0.1 ms, but for the features given."""
    values = dict.fromkeys(FEATURES, 0.0) | {"log10_kernel_s": -4.0} | (features or {"convolution": 1.0})
    return MeasuredGroup(
        source=source, work="convolution", vendor=vendor, language_model=False, devices="one device",
        accelerators="A100-SXM-80GB", rows=rows, features=tuple(values[name] for name in FEATURES),
        bias=0.0, typical_error=0.1, scatter=0.2, held=0.8,
    )  # fmt: skip


def work(vendor: str = "nvidia", devices: int = 0, **features: float) -> Work:
    """Return one row of work in the same form."""
    values = dict.fromkeys(FEATURES, 0.0) | {"log10_kernel_s": -4.0} | features
    return Work(np.array([[values[name] for name in FEATURES]]), (vendor,), np.array([devices]), False)


def test_work_is_described_by_shares_of_the_rooflines_time() -> None:
    """
    On an A100 (312 TFLOP/s in bf16, 2,039 GB/s: NVIDIA's data sheet) a product of 312e9 FLOPs takes 1 ms, and a
    lookup that moves 6.117 GB takes 3 ms: shares of 1/4 and 3/4, and 4 ms over 4 launches.
    """
    operations = Operations.of_groups(
        (
            operation(launches=1, flops=312_000_000_000, bytes_read=1, bytes_written=0),
            operation(
                kind="embedding", name="aten.embedding", shape=(1,), launches=3, flops=0,
                bytes_read=6_117_000_000, bytes_written=0,
            ),
        )
    )  # fmt: skip
    described = describe_work(Roofline.of(accelerator("A100-SXM-80GB"), operations), operations)
    expected = {**dict.fromkeys(WORK, 0.0), "products": 0.25, "lookup": 0.75, "log10": -3.0}
    assert described == pytest.approx(list(expected.values()), abs=1e-3)
    assert name_work(described[:-1]) == "lookup"


def test_distance_is_that_of_the_nearest_group() -> None:
    """Half of the time in other work, kernels a hundred times longer and a host share of 0.3: by Pythagoras."""
    near = group("near", convolution=0.5, products=0.5)
    found = MeasuredGroups((group("far", recurrent=1.0), near), FIT).compare(
        work(convolution=1.0, host=0.3, log10_kernel_s=-2.0)
    )
    assert found.nearest.tolist() == [1]
    assert found.distance[0] == pytest.approx(math.sqrt(0.5**2 + 0.3**2 + 0.5**2))


def test_the_interval_grows_with_distance_and_with_the_share_of_the_host() -> None:
    """Variances add: 0.2 of before, 0.4 times the distance, and 0.5 times the share of the host."""
    groups = MeasuredGroups((group("a"), group("b")), FIT)
    same = groups.compare(work(convolution=1.0))
    assert groups.widen(np.array([0.2]), same, np.ones(1))[0] == pytest.approx(0.2)
    other = groups.compare(work(recurrent=1.0, host=0.6))
    distance = math.hypot(1.0, 0.6)
    expected = math.sqrt(0.2**2 + (0.4 * distance) ** 2 + (0.5 * 0.6) ** 2)
    assert groups.widen(np.array([0.2]), other, np.ones(1))[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("groups", "vendor", "guess"),
    [
        ([group("a"), group("b")], "nvidia", False),
        ([group("a"), group("b")], "amd", True),
        ([group("a"), group("b"), group("c", "amd", 300)], "amd", True),  # one source
        ([group("a"), group("c", "amd", 5), group("d", "amd", 6)], "amd", True),  # 11 runs
        ([group("a"), group("c", "amd"), group("d", "amd")], "amd", False),
    ],
)
def test_a_vendor_without_two_sources_and_twenty_runs_is_a_guess(
    groups: list[MeasuredGroup], vendor: str, guess: bool
) -> None:
    """Its interval is wider too, whatever else is alike."""
    table = MeasuredGroups(tuple(groups), FIT)
    found = table.compare(work(vendor, convolution=1.0))
    assert found.is_guess.tolist() == [guess]
    widened = table.widen(np.array([0.2]), found, np.ones(1))[0]
    assert widened == pytest.approx(math.hypot(0.2, 0.3) if guess else 0.2)


def test_work_that_nothing_measured_is_like_is_a_guess_and_says_what_is_nearest() -> None:
    """The words name the nearest source, its chips and its runs."""
    table = MeasuredGroups((group("a"), group("b")), FIT)
    found = table.compare(work(recurrent=1.0))
    assert found.distance[0] > GUESS
    assert table.groups[found.nearest[0]].explain_guess() == (
        "nothing like it was measured: nearest is a: convolutions on one device (A100-SXM-80GB; 30 runs)"
    )


def test_a_prediction_nearest_to_runs_that_intervals_missed_is_a_guess() -> None:
    """Fewer than half of the nearest runs were inside: their like is a guess however near it is."""
    failed = group("a").model_copy(update={"held": 0.1})
    table = MeasuredGroups((failed, group("b", recurrent=1.0)), FIT)
    found = table.compare(work(convolution=1.0))
    assert (found.distance.tolist(), found.is_guess.tolist()) == ([0.0], [True])
    assert failed.explain_guess() == (
        "80 % intervals held in 10 % of the nearest measured runs: "
        "a: convolutions on one device (A100-SXM-80GB; 30 runs)"
    )


def test_well_measured_jobs_are_no_guess_and_say_what_is_nearest() -> None:
    """A ResNet-50 and a GPT on an A100 are what most sources measured; on a chip of AMD no two sources did."""
    for job in (profile(), gpt_profile()):
        answer = predict_machine(job, "A100-SXM-80GB")
        assert answer.guess_because == ""
        assert "runs)" in answer.nearest_measured
        assert "the 80 % interval held in" in answer.nearest_measured
        other = predict_machine(job, "MI300X")
        assert "nothing like it was measured: nearest is" in other.guess_because
        assert math.log(other.step_s.high_80 / other.step_s.mid) > math.log(
            answer.step_s.high_80 / answer.step_s.mid
        )


def test_a_step_measured_on_the_device_itself_is_no_guess() -> None:
    """Lookups of tables fill the step, which few runs are like; the device's own measurement needs none."""
    lookups = (operation(kind="embedding", name="aten.embedding", shape=(1,), flops=0, bytes_read=10**9),)
    job = profile(operations=lookups)
    second = Quantiles(p10_s=0.01, median_s=0.01, p90_s=0.01)
    measured = job.model_copy(
        update={
            "measured": MeasuredStep(
                device_name="NVIDIA A100-SXM4-80GB", device_kind="cuda", steps=50, step=second
            )
        }
    )
    before, after = (predict_one(each, "A100-SXM-80GB") for each in (job, measured))
    assert (before.is_guess.tolist(), after.is_guess.tolist()) == ([True], [False])
    assert after.log_sigma[0] < before.log_sigma[0]


def test_the_shipped_groups_are_sorted_and_whole() -> None:
    """Shares add up to 1, and every line has runs and its coverage."""
    groups = load_measured_groups().groups
    keys = [(g.source, g.work, g.vendor, g.devices, g.language_model) for g in groups]
    assert len(set(keys)) == len(keys) > 50
    for each in groups:
        assert sum(each.features[: len(WORK)]) == pytest.approx(1.0, abs=0.005)
        assert each.rows >= 3
        assert 0 <= each.held <= 1
