"""The answer of `trainfare why` as text."""

from __future__ import annotations

from builders.recommendations import make_why_not, option
from trainfare.report.why import why_text
from trainfare_core.recommendation import Alternative
from trainfare_core.recommendation.loader import LoaderFacts


def test_the_sentence_is_the_answer_s_own_and_ends_with_a_stop() -> None:
    """At any width; a machine's name at its begin is spelled as its cloud does."""
    answer = make_why_not(sentence="p5.48xlarge loses by 3 %")
    assert why_text(answer, width=80) == "p5.48xlarge loses by 3 %.\n"
    assert why_text(answer, width=20) == "p5.48xlarge loses by\n3 %.\n"


def test_notes_of_a_ranked_machine_follow_the_sentence() -> None:
    answer = make_why_not(sentence="a1 loses", option=option(notes=("the first", "the second")))
    assert why_text(answer, width=80).splitlines() == ["a1 loses.", "Note: the first.", "Note: the second."]


def test_a_loader_that_decides_is_said_before_the_notes() -> None:
    loader = LoaderFacts(basis="stated", decides=True, workers=None, vcpus=4, samples_per_s_per_vcpu=30)
    named = option(loader=loader, loader_samples_per_s_per_vcpu=85, notes=("the first",))
    answer = make_why_not(sentence="a1 loses", option=named)
    said = "its 4 vCPUs load 30 samples a second per vCPU, 85 would keep up."
    assert [line.endswith(said) for line in why_text(answer, width=200).splitlines()] == [False, True, False]


def test_what_would_admit_a_rejected_machine_follows_the_sentence() -> None:
    near = Alternative(change="cheapest at spot prices", flag="--purchase spot", option=option())
    answer = make_why_not(sentence="a1 is not ranked", alternatives=(near,))
    first, second = why_text(answer, width=1000).splitlines()
    assert first == "a1 is not ranked."
    assert second.startswith("--purchase spot: cheapest at spot prices, ")
