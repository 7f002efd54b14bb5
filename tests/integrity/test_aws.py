"""Are the prices of AWS whole and right? Of the snapshot in CI, of live prices by the scheduled workflow."""

from __future__ import annotations

import pytest

from integrity import book

KARPENTER = "aws/karpenter-provider-aws@1d927085dd81"

LIST_PRICES = [
    # EC2: karpenter's table is made from the Pricing API; a second source is named where one was read too.
    ("aws:p5.48xlarge@us-east-1", 55.04, KARPENTER),  # two trackers saw the cut from 98.32 on 2025-06-05
    ("aws:p4d.24xlarge@us-east-1", 21.957642, KARPENTER),  # and tsaol/aws-gpu
    ("aws:p4de.24xlarge@us-east-1", 27.44705, KARPENTER),
    ("aws:p5en.48xlarge@us-east-1", 63.296, KARPENTER),
    ("aws:g5.xlarge@us-east-1", 1.006, KARPENTER),
    ("aws:g6.xlarge@us-east-1", 0.8048, KARPENTER),
    ("aws:g4dn.xlarge@us-east-1", 0.526, KARPENTER),
    ("aws:p3.2xlarge@us-east-1", 3.06, KARPENTER),
    ("aws:trn1.32xlarge@us-east-1", 21.50, KARPENTER),
    ("aws:ml.g5.xlarge@us-east-1", 1.4084, "fmbench==2.1.1"),  # = 1.4 x EC2's 1.006
]


@pytest.mark.parametrize(
    ("machine", "usd_per_hour", "source"), LIST_PRICES, ids=[row[0] for row in LIST_PRICES]
)
def test_hand_checked_list_prices(machine: str, usd_per_hour: float, source: str) -> None:
    """Prices that were checked by hand against their sources agree to the cent."""
    book.list_price_is(machine, usd_per_hour, source)


def test_prices_are_finite_and_above_nothing() -> None:
    """No zero, no NaN, no sentinel."""
    book.prices_are_prices("aws")


def test_machines_have_vcpus_and_memory() -> None:
    """A machine without a host is not one."""
    book.resources_are_there("aws")


def test_accelerators_are_the_maker_s() -> None:
    """Name, count and memory fit each other and the catalogue."""
    book.accelerators_are_consistent("aws")


def test_expected_regions_are_there() -> None:
    """A list that lost a large region is not whole."""
    book.these_are_offered("aws", "region", ("us-east-1", "us-west-2", "eu-central-1", "ap-northeast-1"))


def test_expected_accelerators_are_there() -> None:
    """A list that lost an accelerator is not whole."""
    book.these_are_offered(
        "aws",
        "accelerator",
        (
            "T4-16GB",
            "L4-24GB",
            "A10G-24GB",
            "L40S-48GB",
            "A100-SXM-40GB",
            "H100-SXM-80GB",
            "H200-SXM-141GB",
            "Trainium1",
        ),
    )


def test_spot_costs_at_most_on_demand() -> None:
    """For 99 % of the machines and regions that have both."""
    book.spot_is_cheaper("aws", least_pairs=100)


def test_every_row_is_accounted_for() -> None:
    """Accepted, filtered and quarantined add up, and at most 5 % is quarantined."""
    book.every_row_is_accounted_for("aws")


def test_the_conformance_kit_finds_nothing() -> None:
    """What is asked of a third party's cloud is asked of this one."""
    book.no_findings("aws")
