"""Data transfer: the tiers of each cloud to the cent, worked out by hand, and what every tiered price keeps."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.facts import fact
from trainfare_core.errors import InputError
from trainfare_core.run_cost_facts import (
    Amount,
    TieredPrice,
    Unknown,
    find_fact,
    find_transfer,
)
from trainfare_core.run_cost_facts.lookup import read_tiered_price


def dollars(cloud: str, region: str, gb: float, gb_before: float | None = None) -> str:
    sent = {} if gb_before is None else {"gb_before": gb_before}
    price = find_fact("egress_internet", cloud, region)
    assert isinstance(price, TieredPrice)
    return f"{price.usd(gb, **sent):.2f}"


@pytest.mark.parametrize(
    ("cloud", "region", "gb", "usd"),
    [
        ("aws", "us-east-1", 0, "0.00"),
        ("aws", "us-east-1", 100, "0.00"),
        ("aws", "us-east-1", 101, "0.09"),
        ("aws", "us-east-1", 10_240, "912.60"),  # 10,140 x 0.09
        ("aws", "us-east-1", 200_000, "13882.20"),  # 912.60 + 40,960 x 0.085 + 102,400 x 0.07 + 46,400 x 0.05
        ("azure", "eastus", 20_000, "1692.64"),  # 10,235 x 0.087 + 9,665 x 0.083
        ("gcp", "us-east1", 12_000, "1270.00"),  # 1,000 x 0.12 + 9,000 x 0.11 + 2,000 x 0.08
        ("oracle", "eu-frankfurt-1", 15_000, "42.50"),  # 5,000 x 0.0085
        ("thundercompute", "anywhere", 1e6, "0.00"),
    ],
)
def test_egress_to_the_cent(cloud: str, region: str, gb: float, usd: str) -> None:
    """Each GB costs what its own tier says, and free GB cost nothing."""
    assert dollars(cloud, region, gb) == usd


def test_what_the_account_has_sent_uses_up_the_first_tiers() -> None:
    assert dollars("aws", "us-east-1", 500, gb_before=100) == "45.00"
    assert dollars("aws", "us-east-1", 500, gb_before=10_000) == "43.70"  # 240 x 0.09 + 260 x 0.085


def test_an_answer_carries_unit_source_date_and_region() -> None:
    price = find_fact("egress_internet", "aws", "us-east-1")
    assert isinstance(price, TieredPrice)
    assert (price.unit, price.region_match, price.as_of) == ("usd_per_gb", "exact", "2026-09-23")
    assert "aws.amazon.com/ec2/pricing/on-demand" in price.source
    assert (price.weak, price.weak_because) == (False, None)


def test_another_region_is_unknown_and_its_price_is_not_borrowed() -> None:
    unknown = find_fact("egress_internet", "aws", "eu-west-1")
    assert isinstance(unknown, Unknown)
    assert unknown.known_in == ("us-east-1",)
    assert "in eu-west-1 is not known; it is known in us-east-1" in unknown.because


def test_a_cloud_without_rows_is_unknown() -> None:
    unknown = find_fact("egress_internet", "nimbus", "north")
    assert unknown == Unknown("the price of nimbus's egress is not known")


@pytest.mark.parametrize(("gb", "before"), [(-1.0, 0.0), (math.nan, 0.0), (math.inf, 0.0), (1.0, -1.0)])
def test_an_impossible_amount_is_an_error(gb: float, before: float) -> None:
    price = find_fact("egress_internet", "aws", "us-east-1")
    assert isinstance(price, TieredPrice)
    with pytest.raises(InputError, match="give amounts from 0 up"):
        price.usd(gb, gb_before=before)


def test_transfer_within_a_cloud() -> None:
    """Within the United States on three clouds, between zones on AWS."""
    pairs = (
        ("aws", "us-east-1", "us-west-2"),
        ("azure", "eastus", "westus"),
        ("gcp", "us-east1", "us-west1"),
    )
    for cloud, source, destination in pairs:
        price = find_transfer(cloud, source, destination)
        assert isinstance(price, Amount)
        assert (price.value, price.unit) == (0.02, "usd_per_gb")
    zone = find_fact("egress_inter_zone", "aws", "us-east-1")
    assert isinstance(zone, Amount)
    assert zone.value == 0.01
    assert isinstance(find_fact("egress_inter_zone", "gcp", "us-east1"), Unknown)


@pytest.mark.parametrize(
    ("cloud", "source", "destination", "usd", "weak"),
    [
        # AWS: skyplane 0.3.2, data/aws_transfer_costs.csv, which has every pair. us-east-1 to us-east-2 also by the price
        # list, usage type USE1-USE2-AWS-Out-Bytes.
        ("aws", "us-east-1", "us-east-2", 0.01, False),
        ("aws", "us-east-2", "us-east-1", 0.01, False),
        ("aws", "us-east-2", "eu-west-1", 0.02, False),
        ("aws", "ap-southeast-2", "us-east-1", 0.098, False),
        ("aws", "sa-east-1", "us-east-1", 0.138, False),
        # Azure: skyplane 0.3.2, azure_cloud_provider.py, after Azure's page of bandwidth prices.
        ("azure", "westeurope", "swedencentral", 0.02, False),
        ("azure", "eastus", "westeurope", 0.05, False),
        ("azure", "japaneast", "southeastasia", 0.08, False),
        ("azure", "brazilsouth", "eastus", 0.16, False),
        # Google: mongodb/docs, gcp-data-transfer-costs.rst; infracost, compute_vpn_gateway_test.golden.
        ("gcp", "us-central1", "us-east4", 0.02, False),
        ("gcp", "us-east1", "europe-north1", 0.08, True),
        ("gcp", "europe-west4", "europe-north1", 0.02, True),
        ("gcp", "us-east1", "australia-southeast1", 0.157, True),
        ("gcp", "australia-southeast1", "us-east1", 0.157, True),
        ("gcp", "asia-east1", "asia-southeast2", 0.15, True),
        ("gcp", "southamerica-east1", "southamerica-west1", 0.08, False),
    ],
)
def test_transfer_by_pair_of_places(
    cloud: str, source: str, destination: str, usd: float, *, weak: bool
) -> None:
    """The price of both regions, else of their continents; where sources differ the answer says what they say."""
    price = find_transfer(cloud, source, destination)
    assert isinstance(price, Amount)
    assert price.value == usd
    assert price.weak == weak == (price.weak_because is not None)


@pytest.mark.parametrize(
    ("cloud", "source", "destination"),
    [
        ("aws", "ca-west-1", "us-east-1"),
        ("gcp", "mars-north1", "us-east1"),
        ("oracle", "eu-frankfurt-1", "us-ashburn-1"),
    ],
)
def test_a_pair_that_no_source_has_is_unknown(cloud: str, source: str, destination: str) -> None:
    """No other region's price is used: AWS's depend on the region that sends."""
    assert find_transfer(cloud, source, destination) == Unknown(
        f"the price of {cloud}'s transfer from {source} to {destination} is not known"
    )


def test_tiers_of_a_region_are_not_mixed_with_those_for_every_region() -> None:
    rows = [fact(5.0, from_gb=0), fact(4.0, from_gb=10), fact(3.0, region="north", from_gb=0)]
    north = read_tiered_price(rows, "north", "egress")
    assert isinstance(north, TieredPrice)
    assert [tier.usd_per_gb for tier in north.tiers] == [3.0]


def test_a_price_without_its_first_tier_is_unknown() -> None:
    unknown = read_tiered_price([fact(4.0, from_gb=10)], "north", "the price of egress")
    assert unknown == Unknown("the price of egress in north is not known for the first 10 GB")


def test_tiers_whose_sources_differ_leave_the_price_unknown() -> None:
    rows = [fact(5.0, from_gb=0), fact(4.0, from_gb=0), fact(3.0, from_gb=10)]
    unknown = read_tiered_price(rows, "north", "the price of egress")
    assert isinstance(unknown, Unknown)
    assert "sources of equal worth differ" in unknown.because


def prices() -> list[TieredPrice]:
    answers = [
        find_fact("egress_internet", "aws", "us-east-1"),
        find_fact("egress_internet", "azure", "eastus"),
        find_fact("egress_internet", "gcp", "us-east1"),
        find_fact("egress_internet", "oracle"),
        find_fact("object_storage", "aws", "us-east-1", item="standard"),
        find_fact("object_storage", "azure", "eastus", item="standard"),
        find_fact("object_storage", "azure", "westeurope", item="standard"),
    ]
    return [answer for answer in answers if isinstance(answer, TieredPrice)]


def some_price(starts: list[float], usd: list[float]) -> TieredPrice:
    rows = [fact(value, from_gb=start) for start, value in zip(starts, usd, strict=False)]
    price = read_tiered_price(rows, "*", "egress")
    assert isinstance(price, TieredPrice)
    return price


ANY_TIME = settings(deadline=None)
AMOUNTS = st.floats(0, 1e7)
STARTS = st.lists(st.floats(1, 1e6), max_size=4, unique=True).map(lambda later: [0.0, *sorted(later)])
USD = st.lists(st.floats(0, 1), min_size=5, max_size=5)
PRICES = st.one_of(st.deferred(lambda: st.sampled_from(prices())), st.builds(some_price, STARTS, USD))
"""The prices of the table, and prices with any tiers."""


@ANY_TIME
@given(price=PRICES, gb=AMOUNTS, more=AMOUNTS)
def test_more_data_never_costs_less(price: TieredPrice, gb: float, more: float) -> None:
    assert price.usd(gb + more) >= price.usd(gb)


@ANY_TIME
@given(price=PRICES, gb=AMOUNTS)
def test_the_mean_price_is_between_those_of_the_tiers(price: TieredPrice, gb: float) -> None:
    values = [tier.usd_per_gb for tier in price.tiers]
    assert min(values) * gb * (1 - 1e-9) <= price.usd(gb) <= max(values) * gb * (1 + 1e-9)


@ANY_TIME
@given(price=PRICES)
def test_tiers_are_continuous(price: TieredPrice) -> None:
    """Where a tier starts the cost does not jump: a short stretch across costs no more than its GB at the highest price."""
    for before, after in zip(price.tiers, price.tiers[1:], strict=False):
        stretch_gb = min(1e-3, (after.from_gb - before.from_gb) / 2)
        across = price.usd(after.from_gb + stretch_gb) - price.usd(after.from_gb - stretch_gb)
        # 1e-6 dollars: differences of totals up to some 1e6 dollars in double precision.
        assert -1e-6 <= across <= 2 * stretch_gb * max(tier.usd_per_gb for tier in price.tiers) + 1e-6


@ANY_TIME
@given(price=PRICES, first=AMOUNTS, then=AMOUNTS)
def test_two_transfers_cost_what_one_costs(price: TieredPrice, first: float, then: float) -> None:
    split = price.usd(first) + price.usd(then, gb_before=first)
    assert math.isclose(split, price.usd(first + then), rel_tol=1e-9, abs_tol=1e-9)
