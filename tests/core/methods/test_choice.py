"""Which strategy reaches the better quality: the rules, the published comparisons and their uncertainty."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainfare_core.errors import InputError
from trainfare_core.methods.choice import Evidence, advantage, comparisons, evidence
from trainfare_core.methods.methods import METHOD_NAMES
from trainfare_core.methods.prior import lora_over_capacity, prior
from trainfare_core.methods.situation import DOMAINS, Situation, metric_kind, task_of, tokens_seen

SITUATIONS = st.builds(
    Situation,
    domain=st.sampled_from([*DOMAINS, "audio-tagging"]),
    offered=st.sets(st.sampled_from(METHOD_NAMES), min_size=2).map(tuple),
    samples=st.none() | st.floats(1, 1e10),
    metric=st.sampled_from(["task", "loss", "conserve"]),
    scratch_epochs=st.none() | st.floats(1, 1000),
    scratch_step_ratio=st.none() | st.floats(0.1, 20),
)


@settings(max_examples=25, deadline=None)
@given(SITUATIONS)
def test_advantages_are_antisymmetric(situation: Situation) -> None:
    """Quantiles and chances mirror."""
    for one, other in itertools.combinations(situation.offered, 2):
        here, there = advantage(situation, one, other), advantage(situation, other, one)
        assert math.isclose(here.p_better, 1 - there.p_better, abs_tol=1e-9)
        assert math.isclose(here.quantile_pct(0.1), -there.quantile_pct(0.9), abs_tol=1e-6)
        assert here.quantile_pct(0.1) <= here.quantile_pct(0.5) <= here.quantile_pct(0.9)


def test_no_comparison_at_all_leaves_the_rules() -> None:
    """With no evidence only the rule counts, and it is named."""
    nothing = Evidence.of([])
    edge = advantage(Situation("llm-cpt", ("lora", "full_finetune")), "lora", "full_finetune", nothing)
    assert edge.p_better < 0.5
    assert edge.analogs == 0
    assert "adapters hold" in edge.because


def test_adapters_are_over_capacity_by_their_bits() -> None:
    """Two bits a trained parameter against one bit a token."""
    few = Situation("llm-ift", ("lora", "full_finetune"), tokens=1e7, lora_parameters=6e6)
    many = Situation("llm-ift", ("lora", "full_finetune"), tokens=1e7, lora_parameters=4e6)
    assert not lora_over_capacity(few)
    assert lora_over_capacity(many)
    assert not lora_over_capacity(Situation("vision-cls", ("lora", "full_finetune"), samples=1e9))


@settings(max_examples=60, deadline=None)
@given(SITUATIONS)
def test_rules_are_antisymmetric(situation: Situation) -> None:
    """What a rule expects of a against b is the negative of b against a."""
    for one, other in itertools.combinations(METHOD_NAMES, 2):
        here, there = prior(situation, one, other), prior(situation, other, one)
        assert here.mean_pct == -there.mean_pct
        assert here.weight == there.weight


def test_metrics_are_read_from_their_names() -> None:
    """Loss, task score, or keeping what was known."""
    assert metric_kind("val_loss") == metric_kind("perplexity") == "loss"
    assert metric_kind("top1_OOD_on_STL") == metric_kind("forgetting_avg") == "conserve"
    assert metric_kind("accuracy") == metric_kind("mask_AP") == "task"


def test_domains_are_placed_by_their_first_word() -> None:
    """A domain that is not in the list is placed by what those like it are."""
    assert task_of("vision-satellite") == "vision-classification"
    assert task_of("llm-dpo") == "instruction"
    assert task_of("weather") == "unknown"
    assert tokens_seen(Situation("llm-ift", METHOD_NAMES, samples=1000.0)) == 250_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"offered": ("lora",)},
        {"offered": ("lora", "lora")},
        {"offered": METHOD_NAMES, "samples": 0.0},
        {"offered": METHOD_NAMES, "samples": float("nan")},
        {"offered": METHOD_NAMES, "lora_parameters": -1.0},
    ],
)
def test_an_invalid_question_is_refused(wrong: dict) -> None:
    """Fewer than two strategies, one twice, a number that is no amount."""
    with pytest.raises(InputError):
        Situation("llm-ift", **wrong)


def test_the_shipped_table_is_complete() -> None:
    """Every comparison has two strategies, a zero reference, a place it was published in and a known domain."""
    rows = comparisons()
    assert len(rows) == len(evidence()) >= 200
    for row in rows:
        assert len(row.advantage_pct) >= 2
        assert row.published_in
        assert row.domain in DOMAINS
        assert 0.0 in row.advantage_pct.values()


def test_a_source_can_be_left_out() -> None:
    """A scored row must not be in the evidence."""
    rest = evidence().without("biderman2024")
    assert "biderman2024" not in rest.source
    assert len(rest) == int(np.sum(evidence().source != "biderman2024"))
