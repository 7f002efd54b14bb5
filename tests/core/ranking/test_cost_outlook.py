"""The outlook of the cheapest option: only what this user does not have yet, and a verdict only where it holds."""

from __future__ import annotations

import math

import pytest

from builders.recommendations import no_answer, option, recommendation
from trainfare_core.ranking.cost_outlook import cost_outlook, with_outlook
from trainfare_core.recommendation import Constraints

BIG = option(usd=2000.0, hours=40.0)


def test_same_compute_gets_cheaper_by_hardware_alone() -> None:
    """26 % a year for the same computation; methods are kept apart; the interval of a year includes a higher cost."""
    outlook = cost_outlook(BIG, Constraints())
    assert outlook.at(12).median / outlook.at(0).median == pytest.approx(math.exp(-0.30))
    assert outlook.at(12, "quality").median < 0.4 * outlook.at(12).median
    assert outlook.at(12).low_80 < outlook.at(0).median < outlook.at(12).high_80
    assert 0.6 < outlook.at(12).chance_cheaper < 0.8
    assert {part.part: part.counted for part in outlook.parts} == {
        "hardware": True,
        "price": True,
        "software": False,
    }


def test_now_is_the_run_as_it_was_predicted() -> None:
    """The fan begins with the run's own 80 % interval, on the day of its price."""
    outlook = cost_outlook(BIG, Constraints())
    assert outlook.price_observed_on == BIG.price_observed_on
    assert outlook.at(0).median == pytest.approx(BIG.run_usd.mid)
    assert outlook.at(0).low_80 == pytest.approx(BIG.run_usd.low_80)
    assert outlook.at(0).high_80 == pytest.approx(BIG.run_usd.high_80)


@pytest.mark.parametrize(
    ("asked", "verdict", "words"),
    [
        (Constraints(), "cannot tell", "depends"),
        (Constraints(value_usd_per_month=50.0), "cannot tell", "above or below"),
        (Constraints(value_usd_per_month=1000.0), "train now", "worth more"),
        (Constraints(deadline_hours=100.0), "train now", "deadline"),
        (Constraints(deadline_hours=9000.0), "cannot tell", "depends"),
        (Constraints(value_usd_per_month=50.0, confidence=0.5), "wait", "saves more"),
    ],
)
def test_verdict(asked: Constraints, verdict: str, words: str) -> None:
    """Where the interval of the break-even value holds yours, or you gave none, it cannot tell."""
    outlook = cost_outlook(BIG, asked)
    assert (outlook.verdict, words in outlook.because) == (verdict, True)


def test_break_even_is_what_a_year_of_waiting_saves_a_month() -> None:
    """A month of waiting is worth about 2.9 % of the run, and may cost."""
    waiting = cost_outlook(BIG, Constraints()).waiting
    assert waiting.mid == pytest.approx(0.0289 * 2000, rel=0.01)
    assert waiting.low < 0 < waiting.mid < waiting.high


def test_small_runs_are_not_weighed() -> None:
    """Waiting a year for cents is no question."""
    assert cost_outlook(option(usd=0.5), Constraints()).verdict == "train now"


def test_spot_prices_are_flagged() -> None:
    """The swing of list prices is not that of spot prices."""
    assert "spot" in cost_outlook(option(purchase_option="spot"), Constraints()).assumptions[-1]
    assert "spot" not in cost_outlook(BIG, Constraints()).assumptions[-1]


def test_it_is_about_the_cheapest_drop_in_or_silent() -> None:
    """Nothing ranked, or only machines that need porting: no outlook."""
    answer = with_outlook(recommendation())
    assert answer.outlook is not None
    assert answer.outlook.rank == answer.cheapest_rank
    assert with_outlook(no_answer()).outlook is None
    ported = recommendation(options=(option(needs_porting=True),), cheapest_rank=None, fastest_rank=None)
    assert with_outlook(ported).outlook is None


def test_the_same_answer_gives_the_same_bytes() -> None:
    """No clock and no chance: numbers are rounded to nine digits."""
    text, other = (cost_outlook(BIG, Constraints()).model_dump_json() for _ in range(2))
    assert text == other


def test_a_run_of_more_than_a_century_has_no_outlook() -> None:
    """What waiting is worth to it is beyond any number."""
    for hours, known in ((8760 * 100.0, True), (8760 * 100.5, False), (1e15, False)):
        changed = {"options": (option(rank=1, hours=hours),), "cheapest_rank": 1, "outlook": None}
        answer = recommendation().model_copy(update=changed)
        assert (with_outlook(answer).outlook is not None) == known
