"""What an option says about its run."""

from __future__ import annotations

import json

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints


def test_no_number_of_an_answer_has_more_than_ten_digits() -> None:
    """The last bits of exp() differ between processors: what is shown does not have them."""
    toy = ToyPredictor(default_s=1 / 3, activation_gib=1 / 7, log_sigma=1 / 9)
    answer = rank(small_job(), book(offer_row(usd_per_hour=10 / 3)), Request(max_nodes=1), predict=toy)
    (option,) = answer.options
    numbers: list[float] = []
    json.loads(option.model_dump_json(), parse_float=lambda text: numbers.append(float(text)))
    assert len(numbers) > 20
    assert [number for number in numbers if number != float(f"{number:.10g}")] == []


def test_a_budget_of_less_than_a_dollar_is_one() -> None:
    """A run of some cents keeps it."""
    cheap = book(offer_row(usd_per_hour=0.1))
    (option,) = rank(
        small_job(), cheap, Request(Constraints(max_usd=0.5), max_nodes=1), predict=ToyPredictor()
    ).options
    assert option.run_usd.mid < 0.2
    assert option.probability_within is not None
    assert option.probability_within > 0.99
