"""Which strategy is picked: publications agree with the picks, and their order changes nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainfare_core.methods.methods import METHOD_NAMES
from trainfare_core.methods.situation import DOMAINS, Situation
from trainfare_research.fitting.strategy_choice import choose

SITUATIONS = st.builds(
    Situation,
    domain=st.sampled_from([*DOMAINS, "audio-tagging"]),
    offered=st.sets(st.sampled_from(METHOD_NAMES), min_size=2).map(tuple),
    samples=st.none() | st.floats(1, 1e10),
    metric=st.sampled_from(["task", "loss", "conserve"]),
    scratch_epochs=st.none() | st.floats(1, 1000),
    scratch_step_ratio=st.none() | st.floats(0.1, 20),
)


@pytest.mark.parametrize(
    ("domain", "samples", "metric", "offered", "expected"),
    [
        ("vision-cls", 1e3, "task", ("full_finetune", "scratch"), "full_finetune"),
        ("vision-cls", 1e3, "task", ("full_finetune", "lora", "linear_probe"), "lora"),
        ("vision-cls", 1.3e6, "task", ("full_finetune", "linear_probe", "scratch"), "full_finetune"),
        ("llm-cpt", 8e9, "task", ("full_finetune", "lora"), "full_finetune"),
        ("llm-cpt", 8e9, "conserve", ("full_finetune", "lora"), "lora"),
        ("llm-ift", 2e3, "loss", ("full_finetune", "lora", "qlora"), "lora"),
        ("vision-shift", 5e4, "conserve", ("full_finetune", "linear_probe"), "linear_probe"),
    ],
)
def test_picks_agree_with_most_publications(
    domain: str, samples: float, metric: str, offered: tuple, expected: str
) -> None:
    """The picks that most published comparisons of their kind agree on."""
    made = choose(Situation(domain, offered, samples=samples, metric=metric))
    assert made.strategy == expected
    assert made.p_best > 0.5


def test_a_long_detection_schedule_turns_the_sign() -> None:
    """He et al. 2019: fine-tuning leads at 24 epochs from scratch, scratch is level or ahead at 110."""
    offered = ("full_finetune", "scratch")
    short, long = (
        Situation("vision-det", offered, samples=118e3, scratch_epochs=epochs, scratch_step_ratio=ratio)
        for epochs, ratio in ((24.0, 1.0), (110.0, 3.0))
    )
    assert choose(short).strategy == "full_finetune"
    assert choose(long).strategy == "scratch"


@settings(max_examples=25, deadline=None)
@given(SITUATIONS)
def test_the_pick_is_offered_and_its_chance_is_a_chance(situation: Situation) -> None:
    made = choose(situation)
    assert made.strategy in situation.offered
    assert 0 <= made.p_best <= 1


def test_order_of_the_offered_changes_nothing() -> None:
    """The same question in another order has the same answer."""
    one = choose(Situation("llm-ift", ("lora", "full_finetune", "qlora"), samples=2e3))
    other = choose(Situation("llm-ift", ("qlora", "full_finetune", "lora"), samples=2e3))
    assert (one.strategy, one.p_best) == (other.strategy, other.p_best)
