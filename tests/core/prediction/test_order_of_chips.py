"""No chip that was not itself measured is predicted above the best measured efficiency of its maker."""

from __future__ import annotations

import pathlib
from dataclasses import replace
from itertools import permutations
from typing import Literal

import pytest

from builders.plans import predict_one
from trainfare_core.hardware.accelerator_rows import Accelerator
from trainfare_core.hardware.accelerators import accelerator, accelerators
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction import predict_machine
from trainfare_core.prediction.language_models.coefficients import decoder_calibration
from trainfare_core.prediction.roofline.coefficients import Calibration, calibration
from trainfare_core.prediction.roofline.features import Path

LIKE = 1.001
"""Plans may divide the samples otherwise than the profile, which changes the share of the update."""
LIKE_SIBLING = 1.02
"""A chip of the die of a measured one is tied to it by its rates: more bandwidth for its peak makes it more efficient."""


def _list_measured(fit: Calibration, part: Path | Literal["memory"], convolution: bool) -> set[str]:
    """Names of the chips that have rows of their own in this kind of work."""
    if part == "memory":
        return set(fit.devices)
    term = f"{part}|gen-convolution:" if convolution else f"{part}|gen:"
    return {
        name
        for name in (*fit.devices, *fit.matmul_devices)
        if term + accelerator(name).generation in fit.coefficients
    }


@pytest.mark.parametrize(
    ("part", "convolution"),
    [("vector", False), ("vector", True), ("tensor", False), ("tensor", True), ("memory", False)],
)
def test_a_chip_without_rows_gets_at_most_the_best_efficiency_of_those_with_rows(
    part: Path | Literal["memory"], convolution: bool
) -> None:
    """Products, convolutions, vector work and memory, every chip: the terms of power and peak alone may say more."""
    fit, devices = calibration(), accelerators()
    values = fit.device_logits(devices, part, convolution=convolution)
    logits = dict(zip((d.name for d in devices), values, strict=True))
    measured, products = (_list_measured(fit, part, which) for which in (convolution, False))
    assert 20 < len(measured) < len(devices) / 2
    for device in devices:
        of_maker = [
            [logits[d.name] for d in devices if d.name in names and d.vendor == device.vendor]
            for names in (measured, products)
        ]
        best = max(of_maker[0] or of_maker[1] or [logits[name] for name in measured])
        assert logits[device.name] <= best, device.name


def test_the_limit_binds_what_terms_would_extrapolate() -> None:
    """
    A chip of its own generation with far more power for its peak than any is held at the best measured one.

    Of every fit: the limit is worked out once a fit, and one of lower coefficients has a lower limit.
    """
    new = replace(accelerator("GB300"), power_w=1e6)
    for less in (0.0, 1.0):
        known = {
            name: value - less * name.startswith("tensor|gen:")
            for name, value in calibration().coefficients.items()
            if name != f"tensor|gen:{new.generation}"
        }
        unseen = calibration().model_copy(update={"coefficients": known})
        measured = [d for d in accelerators() if d.vendor == new.vendor and unseen.is_measured(d, "tensor")]
        assert unseen.device_logits([new], "tensor")[0] == max(unseen.device_logits(measured, "tensor"))


@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_an_unmeasured_matrix_ceiling_is_no_higher_than_the_best_of_its_maker(dtype: str) -> None:
    """Best matrix products of language models: a maker's chips that were not timed take the mean of those that were."""
    fit = decoder_calibration()
    timed = fit.matmul_ceiling["bf16"] | fit.matmul_ceiling[dtype]
    for device in accelerators():
        of_maker = [timed[d.name] for d in accelerators() if d.vendor == device.vendor and d.name in timed]
        if of_maker and device.name not in timed:
            assert fit.ceiling(device, dtype) <= max(of_maker), device.name


@pytest.mark.parametrize("example", ["pretrain-8b", "lora-7b"])
def test_a_chip_without_runs_of_language_models_is_no_more_efficient_than_those_with_runs(
    example: str,
) -> None:
    """On identical work, FLOPs over the peak in the time of its kernels, every chip with that arithmetic."""
    job = JobProfile.from_json(
        (pathlib.Path(__file__).parents[3] / f"docs/examples/{example}.json").read_text()
    )
    fit, fields_by_key = decoder_calibration(), dict[str, dict[bool, dict[str, float]]]()
    for device in (d for d in accelerators() if d.trains):
        answer = predict_machine(job, device.name)
        if answer.hfu is None:
            continue
        parts = answer.parts
        share = answer.hfu * answer.step_s.mid / (parts.compute_bound_s + parts.memory_bound_s)
        by_rows = fields_by_key.setdefault(device.vendor, {True: {}, False: {}})
        by_rows[fit.has_rows(device)][device.name] = share
    assert set(fields_by_key) == {"nvidia", "amd", "google", "aws", "intel"}
    for by_rows in fields_by_key.values():
        best = max(by_rows[True].values())
        dies = {accelerator(name).silicon for name in by_rows[True]}
        above = {
            name: share
            for name, share in by_rows[False].items()
            if share > best * (LIKE_SIBLING if accelerator(name).silicon in dies else LIKE)
        }
        assert not above, f"the best is {best}"


def _is_no_slower(device: Accelerator, other: Accelerator) -> bool:
    """
    Return whether every published rate of a device is at least that of another one of its die.

    A GeForce card's peak is stated for a typical clock, which it exceeds, and another card's for its highest.
    """
    rates = [
        (device.memory_bandwidth_bytes_per_s, other.memory_bandwidth_bytes_per_s),
        (device.power_w, other.power_w),
        (device.sm_count, other.sm_count),
        (device.consumer, other.consumer),
        *zip(device.peaks_flops_per_s, other.peaks_flops_per_s, strict=True),
    ]
    return all((ours or 0) >= (theirs or 0) for ours, theirs in rates)


PAIRS = [
    (slow, fast)
    for slow, fast in permutations(accelerators(), 2)
    if slow.silicon == fast.silicon and slow.trains and fast.trains and _is_no_slower(fast, slow)
]


def test_there_are_pairs_of_one_die() -> None:
    """A100 of 40 and 80 GB, PCIe cards and modules, H100, H200 and GH200, beside workstation and consumer cards."""
    names = {(slow.name, fast.name) for slow, fast in PAIRS}
    assert {
        ("A100-PCIE-40GB", "A100-SXM-40GB"), ("A100-SXM-40GB", "A100-SXM-80GB"), ("H100-PCIE-80GB", "H100-SXM-80GB"),
        ("H100-SXM-80GB", "H200-SXM-141GB"), ("H200-NVL-141GB", "H200-SXM-141GB"),
    } <= names  # fmt: skip


@pytest.mark.parametrize("example", ["resnet50", "pretrain-8b", "lora-7b"])
def test_a_device_whose_rates_are_all_higher_is_not_slower_than_its_sibling(example: str) -> None:
    """On identical work, whether it fits or not: siblings differ by their rates, and not by the source that timed one."""
    job = JobProfile.from_json(
        (pathlib.Path(__file__).parents[3] / f"docs/examples/{example}.json").read_text()
    )
    # A loader's doubt raises the median of the longer of two times by the doubt of the chip.
    job = job.model_copy(update={"batch": job.batch.model_copy(update={"input": None})})
    step_s = {
        device.name: float(predict_one(job, device.name).step_s[0])
        for device in {device.name: device for pair in PAIRS for device in pair}.values()
    }
    slower = {
        f"{fast.name} over {slow.name}": step_s[fast.name] / step_s[slow.name]
        for slow, fast in PAIRS
        if step_s[fast.name] > step_s[slow.name] * LIKE
    }
    assert not slower
