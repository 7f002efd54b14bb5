"""Constants of the choice that are fitted without what is scored: nothing of it reaches them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trainfare_core.methods.choice import Comparison, Evidence, comparisons
from trainfare_core.methods.prior import CONSTANTS, ExpectedAdvantage, prior
from trainfare_research.fitting.strategy_choice import choose
from trainfare_research.fitting.strategy_nested import KEPT, fit_constants, fit_rules, observe, study_of
from trainfare_research.fitting.strategy_rows import ComparisonCase
from trainfare_research.runners.strategy import LEFT_OUT, answer

STUDIES = ("byol-t3", "mae", "mx-note", "transfusion", "he2019-t2", "he2019-t3", "ulmfit-t4", "t5-t1")


def find_rows() -> list[Comparison]:
    """Some studies of images and text, few enough for a quick search."""
    return [row for row in comparisons() if row.source in STUDIES]


def reverse(row: Comparison) -> Comparison:
    """The same comparison with every advantage reversed."""
    return replace(row, advantage_pct={name: -value for name, value in row.advantage_pct.items()})


def make_case(row: Comparison) -> ComparisonCase:
    values = {name: 50 * float(np.exp(value / 100)) for name, value in row.advantage_pct.items()}
    return ComparisonCase(row, values, higher_is_better=True)


def test_reversed_publications_reverse_the_rules_and_the_picks() -> None:
    """A rule that stays what it was would be one that the scored rows have written."""
    rows = find_rows()
    backward = [reverse(row) for row in rows]
    here, there = (fit_rules(observe(some, CONSTANTS), CONSTANTS, 3.0, KEPT) for some in (rows, backward))
    assert all(here[name].mean_pct == -there[name].mean_pct for name in here if name not in KEPT)
    situation = next(row for row in comparisons() if row.source == "vtab-leaderboard").situation
    picks = {
        choose(situation, Evidence.of(some), replace(CONSTANTS, rules=rules)).strategy
        for some, rules in ((rows, here), (backward, there))
    }
    assert picks == {"full_finetune", "scratch"}


def test_nothing_of_the_left_out_study_and_domain_reaches_their_answers() -> None:
    """Reversing what was published of them changes no pick and no chance of theirs."""
    rows = find_rows()
    altered = [reverse(row) if row.domain == "vision-det" else row for row in rows]
    cases = [make_case(row) for row in rows if row.source == "he2019-t2"]
    told, told_altered = (answer(cases, LEFT_OUT["domain"], KEPT, some) for some in (rows, altered))
    assert [(row.choice.strategy, row.choice.p_best) for row in told] == [
        (row.choice.strategy, row.choice.p_best) for row in told_altered
    ]
    told_more, told_more_altered = (answer(cases, LEFT_OUT["source"], KEPT, some) for some in (rows, altered))
    assert [row.choice.p_best for row in told_more] != [row.choice.p_best for row in told_more_altered]


def test_a_rule_without_comparisons_takes_those_of_its_family_or_knows_nothing() -> None:
    """Fewer than what was published of it: the family's median; of adapters here nothing was."""
    rows = [row for row in find_rows() if row.source == "transfusion"]
    rules = fit_rules(observe(rows, CONSTANTS), CONSTANTS, 3.0, KEPT)
    gains = [row.advantage_pct["scratch"] for row in rows]
    assert rules["scratch_long"].mean_pct == rules["scratch"].mean_pct == round(float(np.median(gains)), 1)
    assert rules["adapters_few"].mean_pct == 0.0


def test_a_study_is_a_group_of_authors() -> None:
    """Tables of one paper go together."""
    assert study_of("he2019-t1") == study_of("he2019-kp")
    assert study_of("mae") != study_of("mocov3")


def test_the_expected_advantage_follows_the_rules_that_are_given() -> None:
    """The constants are an argument: other rules, another expectation."""
    situation = find_rows()[0].situation
    rules = {name: ExpectedAdvantage(7.0, 1.0, 1.0, "other") for name in CONSTANTS.rules}
    assert prior(situation, "scratch", "full_finetune", replace(CONSTANTS, rules=rules)).mean_pct == 7.0
    assert fit_constants(find_rows()).rules["packed"] == CONSTANTS.rules["packed"]
