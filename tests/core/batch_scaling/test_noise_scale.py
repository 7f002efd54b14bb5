"""The noise scale from two norms a step: exact where they are, near where they are drawn, and no figure of noise alone."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from builders.profiles import gpt_profile
from trainfare_core.batch_scaling import CriticalBatch, estimate_noise_scale, find_critical_batch, noise_scale
from trainfare_core.job_profile import JobProfile


def test_examples_run() -> None:
    found = doctest.testmod(noise_scale)
    assert (found.failed, found.attempted > 0) == (0, True)


@pytest.mark.parametrize("seed", range(5))
def test_norms_of_drawn_gradients_give_their_noise_scale(seed: int) -> None:
    """1,000 directions, |G|^2 = 1 and tr(S) = 40 samples: batches of 4 and of 8 or 16, drawn in 100 steps."""
    draw = np.random.default_rng(seed)
    gradient = np.full(1000, 1000**-0.5)
    times = np.array([2, 4] * 50)
    small, large = np.empty(100), np.empty(100)
    for step, count in enumerate(times):
        batches = gradient + draw.normal(scale=(40 / 1000 / 4) ** 0.5, size=(count, 1000))
        small[step] = np.square(batches[0]).sum()
        large[step] = np.square(batches.mean(axis=0)).sum()
    assert estimate_noise_scale(small, large, times) == pytest.approx(10, rel=0.15)


def test_noise_and_gradient_are_averaged_apart() -> None:
    """Steps with tr(S) of 2 and 6 samples and |G|^2 of 1 and 3 each have a noise scale of 2, as have steps of 2 and 3."""
    squared, noise = np.array([1.0, 3.0] * 10), np.array([6.0, 2.0] * 10)
    assert estimate_noise_scale(squared + noise, squared + noise / 2, [2] * 20) == pytest.approx(2.0)


@pytest.mark.parametrize(("squared", "noise"), [(0.0, 1.0), (-0.1, 1.0), (1.0, 0.0), (1.0, -0.1)])
def test_a_gradient_that_is_not_told_from_its_noise_has_no_figure(squared: float, noise: float) -> None:
    small, large = [squared + noise] * 20, [squared + noise / 2] * 20
    assert estimate_noise_scale(small, large, [2] * 20) is None


def test_a_gradient_that_only_the_mean_tells_from_its_noise_has_no_figure() -> None:
    """One of 20 steps makes the mean |G|^2 positive: more than a tenth of the bootstraps do not draw it."""
    squared = np.array([-1.0] * 19 + [20.0])
    assert estimate_noise_scale(squared + 2, squared + 1, [2] * 20) is None


def with_noise(job: JobProfile, samples: float | None) -> JobProfile:
    return job.model_copy(update={"batch": job.batch.model_copy(update={"noise_scale_samples": samples})})


def test_the_noise_scale_of_a_profile_goes_before_the_prior_and_after_what_is_stated() -> None:
    job = with_noise(gpt_profile(batch_size=32), 900.0)
    found = [find_critical_batch(job, stated) for stated in (None, "500")]
    assert all(isinstance(critical, CriticalBatch) for critical in found)
    assert [critical.source for critical in found if isinstance(critical, CriticalBatch)] == [
        "noise_scale",
        "stated",
    ]


def test_a_measured_noise_scale_stands_for_a_loss_of_no_known_name_alone() -> None:
    """Without a figure neither is predicted; a contrastive loss is not with one."""
    job = gpt_profile(batch_size=32)
    unknown = job.model_copy(
        update={
            "name": "Mine",
            "operations": tuple(group for group in job.operations if group.kind != "loss"),
        }
    )
    contrastive = unknown.model_copy(update={"name": "InfoNCE"})
    assert [find_critical_batch(one) for one in (unknown, contrastive)] == ["unknown_loss", "contrastive"]
    assert isinstance(find_critical_batch(with_noise(unknown, 900.0)), CriticalBatch)
    assert find_critical_batch(with_noise(contrastive, 900.0)) == "contrastive"


def test_a_profile_without_a_noise_scale_is_written_as_before() -> None:
    job = gpt_profile(batch_size=32)
    assert "noise_scale" not in job.to_json()
    assert JobProfile.from_json(with_noise(job, 900.0).to_json()).batch.noise_scale_samples == 900.0
