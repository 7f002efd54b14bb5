"""The best value: dollars and what the hours are worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.drawn_markets import Row, books, rank_rows, unhurried
from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.errors import InputError
from trainfare_core.ranking.alternatives.why_not import why_not
from trainfare_core.ranking.pricing.request import Request, objective_of
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Option, Recommendation

A100, H100, T4 = "A100-SXM-80GB", "H100-SXM-80GB", "T4-16GB"
ROWS = (
    offer_row(instance_type="t4", accelerator=T4, usd_per_hour=0.5),
    offer_row(instance_type="a100", usd_per_hour=4.0),
    offer_row(instance_type="h100", accelerator=H100, usd_per_hour=12.0),
)
TOY = ToyPredictor({T4: 0.4, A100: 0.1, H100: 0.05})


def answer(hour_usd: float) -> Recommendation:
    constraints = Constraints(value_usd_per_hour=hour_usd)
    request = Request(constraints, objective_of(None, constraints), max_nodes=1)
    return rank(small_job(), book(*ROWS), request, predict=TOY)


@pytest.mark.parametrize(("hour_usd", "best"), [(0.0, "t4"), (2.0, "a100"), (50.0, "h100")])
def test_the_more_an_hour_is_worth_the_faster_the_answer(hour_usd: float, best: str) -> None:
    """Cost plus value x hours, by hand: with nothing it is the cheapest, with much the fastest."""
    recommendation = answer(hour_usd)
    assert recommendation.objective == "best_value"
    assert recommendation.options[0].instance_type == best
    assert recommendation.best_value_rank == 1
    worth = [option.run_usd.mid + hour_usd * option.run_hours.mid for option in recommendation.options]
    assert worth == sorted(worth)


def test_without_a_value_there_is_no_best_value() -> None:
    """The objective is refused."""
    with pytest.raises(InputError, match="value_usd_per_hour"):
        Request(Constraints(), "best_value")
    assert objective_of(None, Constraints()) == "cheapest"
    assert objective_of("fastest", Constraints(value_usd_per_hour=3)) == "fastest"


def test_without_a_value_the_least_product_of_dollars_and_hours_is_the_best_value() -> None:
    """By the options themselves; the cheapest and the fastest are others."""
    found = rank(small_job(), book(*ROWS), Request(max_nodes=1), predict=TOY)
    products = {option.run_usd.mid * option.run_hours.mid: option.rank for option in found.options}
    assert found.best_value_rank == products[min(products)]


def test_what_makes_the_runner_up_the_best_value() -> None:
    """The rise of the answer's price that closes the gap of dollars and hours together."""
    recommendation = answer(2.0)
    assert recommendation.runner_up is not None
    first, second = recommendation.options[0], recommendation.options[recommendation.runner_up.rank - 1]
    gap = second.run_usd.mid - first.run_usd.mid + 2.0 * (second.run_hours.mid - first.run_hours.mid)
    assert recommendation.runner_up.price_higher == pytest.approx(
        gap / (first.run_usd.mid - first.cost_parts.storage_usd), rel=1e-6
    )


def test_why_not_names_the_best_value() -> None:
    """In words."""
    request = Request(Constraints(value_usd_per_hour=2.0), "best_value", max_nodes=1)
    said = why_not(small_job(), book(*ROWS), request, "h100", predict=TOY).sentence
    assert "the best value, 1 x aws:a100@" in said


@unhurried
@given(rows=books(), hour_usd=st.sampled_from([0.0, 0.5, 7.0]), limit=st.sampled_from([1, 100_000]))
def test_it_is_the_least_of_dollars_and_valued_hours(rows: list[Row], hour_usd: float, limit: int) -> None:
    """By brute force over the whole list; also where the list is cut to one line, and whatever comes first."""
    constraints = Constraints(value_usd_per_hour=hour_usd)

    def worth(option: Option) -> float:
        return option.run_usd.mid + hour_usd * option.run_hours.mid

    ready = [
        option for option in rank_rows(rows, constraints=constraints).options if not option.needs_porting
    ]
    for objective in ("best_value", "fastest"):
        recommendation = rank_rows(rows, constraints=constraints, objective=objective, limit=limit)
        best = recommendation.best("best_value")
        assert (best is None) == (not ready)
        if best is not None:
            assert worth(best) == min(map(worth, ready))
