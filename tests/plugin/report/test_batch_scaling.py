"""What is said of a run whose global batch grows with its devices: both batches, the steps, and what it costs in samples."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from builders.profiles import profile
from builders.recommendations import interval, job, option, recommendation
from builders.reports import render_terminal
from trainfare.report.rows import plan_label
from trainfare.report.why import why_text
from trainfare_core.ranking.alternatives.why_not import WhyNot
from trainfare_core.recommendation import (
    Constraints,
    CriticalBatchFacts,
    Option,
    QualityRatio,
    Recommendation,
    TrainerArguments,
)

TODAY = date(2026, 11, 24)
ONE = option(rank=1, usd=50.0, hours=30.0, global_batch_size=128, optimizer_steps=900_900)
TRAINER = TrainerArguments(
    devices=8, num_nodes=1, strategy="ddp", precision="bf16-mixed", accumulate_grad_batches=1, batch_size=128
)


def eight(**overrides: Any) -> Option:
    """Return the run on eight devices, which is faster and costs $144."""
    fields = {
        "rank": 2, "usd": 144.0, "hours": 1.26, "instance_type": "p6-b200.48xlarge", "accelerator_count": 8.0,
        "trainer": TRAINER, "global_batch_size": 1_024, "batch_ratio": 8.0, "optimizer_steps": 112_680,
        "samples_ratio": 1.0, "quality_ratio": QualityRatio(low=1.03, mid=1.15, high=1.7), "micro_batch_size": 128,
    }  # fmt: skip
    return option(**{**fields, **overrides})


def answer(fast: Option, *, source: str | None = "prior", **overrides: Any) -> Recommendation:
    samples = None if source is None else interval(3_000.0, 1.3)
    why = "not predicted: a contrastive loss" if source is None else None
    facts = {
        "job": job(global_batch_size=128, optimizer_steps=900_900, scales="per_device"),
        "options": (ONE, fast),
        "cheapest_rank": 1,
        "fastest_rank": 2,
        "critical_batch": CriticalBatchFacts(samples=samples, source=source, unknown_because=why),
    }
    return recommendation(**{**facts, **overrides})


def show(recommended: Recommendation) -> str:
    return " ".join(render_terminal(recommended, profile=profile(), as_of=TODAY, details=False).split())


def test_both_batches_steps_and_what_the_quality_costs_are_said() -> None:
    """By hand: 1.03 and 1.7 times $144 are $148 and $245."""
    text = show(answer(eight()))
    assert "batch 128 " in text
    assert "batch 1,024 " in text
    assert (
        "Each of 8 devices has 128 samples: a global batch of 1,024, not 128, in 112,680 steps, not 900,900. "
        "To the quality of 128 it needs 1.03 to 1.7 times the samples, $148 to $245 (from published workloads, none "
        "measured here; --critical-batch narrows it)."
    ) in text


def test_nothing_is_said_where_the_batch_stays() -> None:
    text = show(answer(eight(global_batch_size=128, batch_ratio=1.0, quality_ratio=None)))
    assert "global batch" not in text
    assert "batch 128 " not in text


def test_the_same_steps_with_more_samples_are_said_and_priced_by_the_samples_needed() -> None:
    """Eight times the samples were seen where 1.7 times are needed: less than the price."""
    text = show(answer(eight(optimizer_steps=900_900, samples_ratio=8.0)))
    assert "in the same 900,900 steps, which see 8 times the samples" in text
    assert "1.03 to 1.7 times the samples, $18.54 to $30.60" in text


def test_a_batch_beyond_what_was_published_has_a_lower_end_alone() -> None:
    text = show(answer(eight(quality_ratio=QualityRatio(low=1.2, mid=None, high=None))))
    assert "it needs at least 1.2 times the samples, at least $173" in text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("stated", "(by the critical batch that you state)"),
        (
            "noise_scale",
            "(by FareMeter's noise scale 3,000 samples, a factor of 4 either way; --critical-batch narrows it)",
        ),
        (None, "is not predicted: a contrastive loss: --critical-batch says it."),
    ],
)
def test_the_source_is_said(source: str | None, said: str) -> None:
    ratio = None if source is None else eight().quality_ratio
    assert said in show(answer(eight(quality_ratio=ratio), source=source))


def test_samples_that_are_counted_are_not_offered_again() -> None:
    text = show(answer(eight(), constraints=Constraints(scale="quality")))
    assert "it needs 1.03 to 1.7 times the samples, which are counted here." in text
    assert "more devices keep the quality" in text


def test_the_first_screen_keeps_its_lines() -> None:
    screen = render_terminal(answer(eight()), profile=profile(), as_of=TODAY, details=False, width=100)
    assert len(screen.splitlines()) <= 24


def test_a_row_and_why_name_the_batch() -> None:
    assert plan_label(eight()) == "micro-batch 128, global batch 1,024"
    assert plan_label(ONE) == "micro-batch 8"
    why = WhyNot(
        tool_version="0",
        machine="p6",
        objective="cheapest",
        offers=1,
        option=eight(),
        best=ONE,
        sentence="it costs more",
        rejections=(),
    )
    text = " ".join(why_text(why, width=100).split())
    assert "Global batch 1,024 in 112,680 steps; the answer's: 128 in 900,900 steps." in text
