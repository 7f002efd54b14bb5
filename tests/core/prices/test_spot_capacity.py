"""A zone whose spot price stands at the on-demand price had no spot capacity; the floor is marked too."""

from __future__ import annotations

from builders.offers import book_of, offer_row
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.caveats import CAVEATS, read_caveats
from trainfare_core.prices.precedence import NO_SPOT_CAPACITY


def caveats(*rows: dict[str, object]) -> dict[str | None, str | None]:
    frame = PriceBook.concat([book_of(*rows)]).frame
    return dict(zip(frame["zone"].to_list(), frame["caveat"].to_list(), strict=True))


def test_the_zone_at_the_on_demand_price_is_marked() -> None:
    """Of two zones only that at the on-demand price has the caveat; four decimals of rounding do not matter."""
    spot = {"purchase_option": "spot"}
    texts_by_key = caveats(
        offer_row(),
        offer_row(**spot, zone="use1-az1", usd_per_hour=21.9576),
        offer_row(**spot, zone="use1-az2", usd_per_hour=9.5),
        offer_row(**spot, zone="use1-az3", usd_per_hour=21.9576, caveat="rounded"),
        offer_row(**spot, zone="euw1-az1", region="eu-west-1", usd_per_hour=21.9576),
    )
    assert texts_by_key == {
        None: None,
        "use1-az1": NO_SPOT_CAPACITY,
        "use1-az2": None,
        "use1-az3": f"{NO_SPOT_CAPACITY}; rounded",
        "euw1-az1": None,  # its region has no on-demand price to compare with
    }


def test_the_least_that_a_cloud_sells_spot_for_is_marked() -> None:
    """
    AWS sells spot at up to 90 % off, Google at up to 91 %: exactly there the price says little about the market.

    https://aws.amazon.com/ec2/spot/ and https://docs.cloud.google.com/compute/docs/instances/create-use-spot
    """
    spot = {"purchase_option": "spot", "caveat": "known"}
    google = {"provider": "gcp", "service": "gce"}
    texts_by_key = caveats(
        offer_row(),
        offer_row(**google, usd_per_hour=2.97),
        offer_row(**spot, zone="use1-az1", usd_per_hour=2.1958),
        offer_row(**spot, zone="use1-az2", usd_per_hour=2.3),
        offer_row(**google, **spot, zone="a", usd_per_hour=0.2673),
        offer_row(**google, **spot, zone="b", usd_per_hour=0.297),
    )
    assert texts_by_key == {
        None: None,
        "use1-az1": f"{CAVEATS['at_floor']}; known",
        "use1-az2": "known",
        "a": f"{CAVEATS['at_floor']}; known",
        "b": "known",
    }
    assert read_caveats(f"{CAVEATS['at_floor']}; known") == ("at_floor",)


def test_marking_twice_is_marking_once() -> None:
    """A locked book, read back and joined again, does not say it twice."""
    rows = offer_row(), offer_row(purchase_option="spot", zone="use1-az1", usd_per_hour=21.957642)
    once = PriceBook.concat([book_of(*rows)])
    assert PriceBook.concat([once]).frame.equals(once.frame)
