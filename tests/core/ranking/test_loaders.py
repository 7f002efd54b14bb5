"""What the loader of an option takes, and what more workers would give."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders.policies import check_small_job, make_priced_inputs
from builders.toy_market import book, offer_row, small_job
from trainfare_core.job_profile import InputFacts, JobProfile
from trainfare_core.policy.check import JobCheck
from trainfare_core.prediction.input_pipeline import state_loader
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Option


def load_pictures(workers: int | None) -> JobProfile:
    """Return a small job whose loader decodes pictures."""
    job = small_job(batch=32)
    facts = InputFacts(kind="pictures", workers=workers)
    return job.model_copy(update={"batch": job.batch.model_copy(update={"input": facts})})


def rank_one(job: JobProfile, vcpus: float) -> Option:
    return rank(job, book(offer_row(vcpus=vcpus)), Request(max_nodes=1)).options[0]


def test_what_more_workers_would_give_is_stated() -> None:
    """Two workers decode on a machine of 16 vCPUs: four would nearly halve the step; on 2 vCPUs they would not help."""
    many, few = (rank_one(load_pictures(2), vcpus).loader for vcpus in (16.0, 2.0))
    assert many is not None
    assert few is not None
    assert (many.basis, many.kind, many.workers, many.more_workers, many.vcpus) == (
        "published", "pictures", 2, 4, 16,
    )  # fmt: skip
    assert many.slowest_per_s_per_vcpu < many.samples_per_s_per_vcpu < many.fastest_per_s_per_vcpu  # type: ignore[operator]
    assert many.decides
    assert 0.5 <= many.step_ratio_with_more < 0.7  # type: ignore[operator]
    assert few.step_ratio_with_more == pytest.approx(1.0)
    assert "2 workers for 16 vCPUs load" in many.describe("m", 900.0)
    assert "900 would keep up; with 4 workers a step takes" in many.describe("m", 900.0)
    assert "4 workers would not help" in few.describe("m", None)


def test_a_loader_without_workers_could_have_some() -> None:
    loader = rank_one(load_pictures(0), 16.0).loader
    assert loader is not None
    assert loader.more_workers == 16
    assert loader.step_ratio_with_more < 0.5  # type: ignore[operator]
    assert "no workers beside 16 vCPUs" in loader.describe("m", None)


def test_a_stated_rate_has_no_workers_to_add() -> None:
    """All vCPUs load; where the rate keeps up, nothing is said."""
    slow, fast = (rank_one(state_loader(small_job(batch=32), rate), 16.0).loader for rate in (1.0, 1e6))
    assert slow is not None
    assert fast is not None
    assert (slow.basis, slow.workers, slow.more_workers, slow.step_ratio_at_fastest) == (
        "stated",
        None,
        None,
        None,
    )
    assert (
        slow.describe("m", None) == "The loader decides on m: its 16 vCPUs load 1 samples a second per vCPU."
    )
    assert fast.describe("m", None) == ""


def check_pictures(max_usd: float) -> JobCheck:
    """Check a job whose loader's rate is only known as it was published, on a machine of 4 vCPUs."""
    job = load_pictures(None)
    inputs = make_priced_inputs(offer_row(vcpus=4.0), base_steps=0)
    return check_small_job(job=replace(inputs, profile=job), max_usd=max_usd)


def test_a_limit_is_judged_by_the_published_rates() -> None:
    """Within at the slowest, over at the fastest; between them the rate decides, and the answer says which."""
    option = rank_one(load_pictures(None), 4.0)
    loader, usd = option.loader, option.run_usd.mid
    assert loader is not None
    slowest = loader.samples_per_s_per_vcpu / loader.slowest_per_s_per_vcpu  # type: ignore[operator]
    assert check_pictures(usd * slowest * 1.2).verdict == "within"
    between = check_pictures(usd * 0.7)
    assert (between.verdict, between.exit_code) == ("cannot_tell", 3)
    rate = loader.samples_per_s_per_vcpu / 0.7  # type: ignore[operator]
    finding = next(finding for finding in between.findings if finding.rule == "max_usd")
    assert between.check is not None
    for text in (finding.message, between.check.reason):
        assert "the loader decides and was not measured: below " in text
        said = float(text.partition("below ")[2].partition(" samples")[0].replace(",", ""))
        assert said == pytest.approx(rate, rel=0.1)
        assert f"loader_samples_per_s_per_vcpu = {said:g}" in text
    # That a run at the fastest rate would keep the limit is no chance that a check may count on, nor a reason to fail.
    at_fastest = usd * loader.step_ratio_at_fastest  # type: ignore[operator]
    assert check_pictures(at_fastest * 1.1).verdict == "cannot_tell"
    over = check_pictures(at_fastest * 0.3)
    assert over.verdict == "over"
    assert "the loader decides" not in over.check.reason  # type: ignore[union-attr]
