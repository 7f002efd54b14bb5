"""What the age of a price does to the ranking: wider dollars, stricter budgets, and spot that is too old to rank."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone
from typing import Any

import pytest

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.prices.age_doubt import Z_80, moves_of
from trainfare_core.prices.freshness import end_of_day
from trainfare_core.prices.precedence import OTHER_CLOUDS
from trainfare_core.ranking.pricing.price_doubt import offers_asked_for
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import best_chance, rank
from trainfare_core.recommendation import Constraints, Option, Recommendation

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=timezone.utc)
SPOT = {"purchase_option": "spot", "provider": "gcp", "service": "gce", "instance_type": "a2-highgpu-1g"}
SEEN = "2026-08-20"


def rank_rows(*rows: dict[str, Any], as_of: datetime | None = NOW, **asked: Any) -> Recommendation:
    request = Request(Constraints(**{"purchase": ("on_demand", "spot"), **asked}), max_nodes=1, as_of=as_of)
    return rank(small_job(), book(*rows), request, predict=ToyPredictor())


def count_rejected(answer: Recommendation) -> dict[str, int]:
    return {item.reason: item.count for item in answer.rejections}


def test_the_dollar_interval_holds_both_doubts() -> None:
    """Dollars are as wide as hours and price together, the hours alone stay, and the median moves by less than 1 %."""
    row = offer_row(**SPOT, usd_per_hour=1.0, observed_on=SEEN)
    fresh, old = (rank_rows(row, as_of=moment).options[0] for moment in (None, NOW))
    age_days = (end_of_day(NOW.date()) - datetime(2026, 8, 20, tzinfo=timezone.utc)).total_seconds() / 86_400
    price = moves_of("gcp", "gce", "spot").log_half_width(age_days) / Z_80
    hours = math.log(fresh.run_usd.high_80 / fresh.run_usd.mid) / Z_80
    assert price > 0.05
    assert old.run_usd.mid == pytest.approx(fresh.run_usd.mid, rel=0.01)
    assert old.run_hours == fresh.run_hours
    assert math.log(old.run_usd.high_80 / old.run_usd.mid) / Z_80 == pytest.approx(
        math.hypot(hours, price), rel=0.03
    )
    assert old.usd_per_hour == 1.0
    assert old.usd_per_hour_now is not None
    assert math.log(old.usd_per_hour_now.high_80) == pytest.approx(Z_80 * price)
    assert any("may have moved" in note.text for note in old.notes)


def test_the_answer_says_the_day_it_was_priced_on() -> None:
    """The day is in the document, since the intervals depend on it."""
    row = offer_row(observed_on=SEEN)
    assert rank_rows(row).priced_on == "2026-11-26"
    assert rank_rows(row, as_of=None).priced_on is None


def test_a_budget_needs_more_room_for_an_old_price() -> None:
    """A budget that is kept with 90 % at today's price is not kept with 90 % at a price three months old."""
    row = offer_row(**SPOT, usd_per_hour=1.0, observed_on=SEEN)
    budget = rank_rows(row, as_of=None).options[0].run_usd.high_80 * 1.001
    assert rank_rows(row, as_of=None, max_usd=budget).options_total == 1
    refused = rank_rows(row, max_usd=budget)
    assert refused.options_total == 0
    assert count_rejected(refused) == {"over_budget": 1}
    assert "confidence" in refused.rejections[0].detail
    enough = rank_rows(row).options[0].run_usd.high_80
    assert rank_rows(row, max_usd=enough * 1.001).options_total == 1
    assert rank_rows(row, max_usd=enough * 0.999).options_total == 0, "both doubts count"


def test_both_limits_at_once_are_harder_than_each() -> None:
    """A deadline and a budget that are each kept with 90 % are not kept together with 90 %."""
    row = offer_row(**SPOT, usd_per_hour=1.0, observed_on=SEEN)
    free = rank_rows(row).options[0]
    deadline, budget = free.run_hours.high_80 * 1.001, free.run_usd.high_80 * 1.001
    assert rank_rows(row, deadline_hours=deadline).options_total == 1
    assert rank_rows(row, max_usd=budget).options_total == 1
    assert rank_rows(row, max_usd=budget, deadline_hours=deadline).options_total == 0
    option = best_chance(
        small_job(),
        book(row),
        Request(
            Constraints(max_usd=budget, deadline_hours=deadline, purchase=("spot",)), max_nodes=1, as_of=NOW
        ),
        predict=ToyPredictor(),
    )
    assert isinstance(option, Option)
    assert 0.8 < (option.probability_within or 0.0) < 0.9


def test_spot_that_is_too_old_is_counted_apart() -> None:
    """A spot price of two years ago is not ranked, however cheap; the list price of that day is."""
    old = offer_row(
        provider="azure",
        service="azure_vm",
        usd_per_hour=0.1,
        observed_on="2024-09",
        purchase_option="spot",
    )
    listed = offer_row(provider="azure", service="azure_vm", observed_on="2024-09")
    answer = rank_rows(old, listed)
    assert [option.purchase_option for option in answer.options] == ["on_demand"]
    assert count_rejected(answer) == {"price_too_old": 1}
    assert "azure/azure_vm spot of 2024-09 and before" in answer.rejections[0].detail
    assert "prices update" in answer.rejections[0].detail
    assert rank_rows(old, listed, as_of=None).options[0].purchase_option == "spot"


def test_of_equal_prices_the_surest_is_named() -> None:
    """Two regions at one price: the one that was seen last has the narrower interval, and is the option."""
    rows = [
        offer_row(**SPOT, usd_per_hour=1.0, observed_on=day, region=region)
        for region, day in (("a-region", "2026-08-20"), ("b-region", "2026-11-25"))
    ]
    option = rank_rows(*rows).options[0]
    assert (option.region, option.price_observed_on) == ("b-region", "2026-11-25")


def quote(**fields: Any) -> Any:
    result = {
        "provider": "lambda",
        "service": "gpu_cloud",
        "region": "global",
        "origin": OTHER_CLOUDS,
        "usd_per_hour": 0.5,
    }
    return offer_row(**{**result, **fields})


def test_other_clouds_are_not_ranked_until_asked_for() -> None:
    """By default their cheapest is named beside the ranking; with all clouds, or by name, they are in it."""
    rows = offer_row(), quote(), quote(usd_per_hour=0.7, provider="runpod")
    default = rank_rows(*rows)
    assert [option.provider for option in default.options] == ["aws"]
    assert count_rejected(default) == {"filtered": 2}
    assert default.other_clouds is not None
    assert default.other_clouds.provider == "lambda"
    everything = rank_rows(*rows, all_clouds=True)
    assert [option.provider for option in everything.options] == ["lambda", "runpod", "aws"]
    assert everything.other_clouds is None
    recommendation = rank_rows(*rows, providers=("runpod",))
    assert [option.provider for option in recommendation.options] == ["runpod"]
    assert recommendation.other_clouds is None


def test_other_clouds_keep_the_limits_too() -> None:
    """The one that is named beside the ranking keeps the budget; where none does, none is named."""
    rows = offer_row(usd_per_hour=0.01), quote()
    assert rank_rows(*rows, max_usd=0.2).other_clouds is None


def test_the_answer_is_the_same_all_day() -> None:
    """Morning and evening of one day give the same bytes; the next day does not."""
    row = offer_row(**SPOT, usd_per_hour=1.0, observed_on=SEEN)
    morning, evening, next_day = (
        rank_rows(row, as_of=datetime(2026, 11, day, hour, 30, tzinfo=timezone.utc)).to_json()
        for day, hour in ((26, 1), (26, 23), (27, 1))
    )
    assert morning == evening
    assert morning != next_day


def test_spot_is_named_beside_the_ranking() -> None:
    """By default on-demand is ranked and the cheapest spot machine stands beside it; a named option stands alone."""
    rows = (
        offer_row(),
        offer_row(purchase_option="spot", usd_per_hour=1.0, zone="z1", observed_on="2026-11-25"),
    )
    default = rank_rows(*rows, purchase=None)
    assert [option.purchase_option for option in default.options] == ["on_demand"]
    assert default.best_spot is not None
    assert (default.best_spot.purchase_option, default.best_spot.zone) == ("spot", "z1")
    recommendation = rank_rows(*rows, purchase=("on_demand",))
    assert recommendation.best_spot is None


def test_no_spot_is_named_that_would_not_be_ranked() -> None:
    """A spot price that is too old, and a job that saves nothing, name none."""
    spot = {"purchase_option": "spot", "usd_per_hour": 1.0}
    old = offer_row(provider="azure", service="azure_vm", observed_on="2024-09", **spot)
    assert rank_rows(offer_row(), old, purchase=None).best_spot is None
    request = Request(Constraints(), max_nodes=1, as_of=NOW)
    fresh = offer_row(observed_on="2026-11-25", **spot)
    careless = rank(small_job(every=None), book(offer_row(), fresh), request, predict=ToyPredictor())
    assert careless.best_spot is None


def test_ages_are_judged_of_what_is_ranked() -> None:
    """The quotes of other clouds, which are old, count for an age limit only where they are ranked."""
    prices = book(offer_row(), quote())
    assert offers_asked_for(prices, Constraints()).names("provider") == ("aws",)
    for constraints in (Constraints(all_clouds=True), Constraints(providers=("aws", "lambda"))):
        assert offers_asked_for(prices, constraints).names("provider") == ("aws", "lambda")


def test_the_count_of_options_is_that_of_the_list() -> None:
    """With budgets around the prices and doubt of several ages, as many options are counted as are listed."""
    rows = [
        offer_row(**SPOT, usd_per_hour=usd, observed_on=day, region=f"{day}-{usd}")
        for day in ("2026-08-20", "2026-11-01", "2026-11-25")
        for usd in (0.9, 1.0, 1.1)
    ]
    middle = rank_rows(offer_row(**SPOT, usd_per_hour=1.0), as_of=None).options[0].run_usd
    counts = []
    for budget in (middle.low_80, middle.mid, middle.high_80, middle.high_80 * 1.1, middle.high_80 * 2):
        constraints = Constraints(max_usd=budget, deadline_hours=1e6, purchase=("spot",))
        request = Request(constraints, max_nodes=1, as_of=NOW, all_regions=True)
        answer = rank(small_job(), book(*rows), request, predict=ToyPredictor())
        assert answer.options_total == len(answer.options)
        assert sum(item.count for item in answer.rejections) == len(rows) - len(answer.options)
        counts.append(len(answer.options))
    assert counts == sorted(counts)
    assert 0 < counts[2] < counts[3] < counts[4] == len(rows)


def test_a_limit_on_the_hour_holds_for_a_price_in_doubt_too() -> None:
    """Room in the budget does not make an hour cheaper."""
    row = offer_row(**SPOT, usd_per_hour=1.0, observed_on=SEEN)
    assert rank_rows(row, max_usd=1e6, max_usd_per_hour=1.01).options_total == 1
    assert rank_rows(row, max_usd=1e6, max_usd_per_hour=0.99).options_total == 0


def test_three_services_with_prices_that_are_too_old_are_named() -> None:
    """The largest first, and how many more there are."""
    old = {"purchase_option": "spot", "observed_on": "2024-09", "instance_type": "m"}
    rows = [
        offer_row(**old, provider=cloud, service=f"{cloud}_vm", region=f"r-{index}")
        for number, cloud in enumerate(("one", "two", "three", "four", "five"))
        for index in range(5 - number)
    ]
    (rejection,) = [
        item for item in rank_rows(offer_row(), *rows).rejections if item.reason == "price_too_old"
    ]
    assert rejection.count == 15
    spans = [float(found) for found in re.findall(r"spans a factor of ([0-9.]+)", rejection.detail)]
    assert len(spans) == 3
    assert all(2.0 < span < 20.0 for span in spans)
    assert [part.split(" ")[0] for part in rejection.detail.split("; ")][:3] == [
        "one/one_vm",
        "two/two_vm",
        "three/three_vm",
    ]
    assert "four" not in rejection.detail
    assert "and 2 more services" in rejection.detail
