"""How time is billed, flex-start, start-up times and quotas."""

from __future__ import annotations

import pytest

from trainfare_core.run_cost_facts import (
    Amount,
    Quota,
    Span,
    Statement,
    Unknown,
    default_quota,
    find_fact,
)


@pytest.mark.parametrize(
    ("cloud", "service", "step_s", "minimum_s"),
    [
        ("aws", "ec2", 1, 60),
        ("aws", "sagemaker", 1, 0),
        ("azure", "azure_vm", 1, 300),
        ("gcp", "gce", 1, 60),
        ("thundercompute", "gpu_cloud", 60, None),
    ],
)
def test_billing_step_and_minimum(cloud: str, service: str, step_s: float, minimum_s: float | None) -> None:
    """In seconds, whatever the source has; a minimum that no source names is unknown, not 0."""
    step, minimum = (
        find_fact("billing_step", cloud, service=service),
        find_fact("billing_minimum", cloud, service=service),
    )
    assert isinstance(step, Amount)
    assert (step.value, step.unit) == (step_s, "s")
    assert (minimum.value if isinstance(minimum, Amount) else None) == minimum_s


def test_sagemaker_s_missing_minimum_is_marked() -> None:
    minimum = find_fact("billing_minimum", "aws", service="sagemaker")
    assert isinstance(minimum, Amount)
    assert minimum.weak_because == "no source states that there is no minimum"


def test_a_service_without_rows_is_unknown() -> None:
    assert find_fact("billing_step", "gcp", service="tpu") == Unknown(
        "the billing step of gcp tpu is not known"
    )


def test_warm_pools_and_managed_spot_of_sagemaker() -> None:
    longest, discount = (
        find_fact("warm_pool_max", "aws", service="sagemaker"),
        find_fact("managed_spot_discount", "aws", service="sagemaker"),
    )
    assert isinstance(longest, Amount)
    assert isinstance(discount, Statement)
    assert (longest.value, discount.value) == (3600, "BillableTimeInSeconds")


def test_terms_of_capacity_blocks() -> None:
    payment, end = find_fact("capacity_block_payment", "aws"), find_fact("capacity_block_end", "aws")
    assert isinstance(payment, Statement)
    assert isinstance(end, Statement)
    # EC2 user guide, Find and purchase Capacity Blocks: "All Capacity Blocks end at 11:30AM UTC".
    assert (payment.value, end.value, end.unit) == ("upfront, whole block", "11:30", "utc_time")
    assert not end.weak


def test_the_minimum_of_azure_says_what_speaks_against_it() -> None:
    """300 seconds since June 2025 by a notice that customers quote; no page of Azure's documentation says so."""
    minimum = find_fact("billing_minimum", "azure", service="azure_vm")
    assert isinstance(minimum, Amount)
    assert (minimum.as_of, minimum.rows[0].weak) == ("2025-06-01", "second_hand")
    assert minimum.weak_because is not None
    assert "texts that name no date say 60" in minimum.weak_because


def test_flex_start_of_v6e_outside_the_united_states_is_said_to_be_half_of_another_price() -> None:
    price = find_fact("flex_start_price", "gcp", "europe-west4", machine="v6e")
    assert isinstance(price, Amount)
    assert price.weak_because is not None
    assert "half of the price in the United States" in price.weak_because


def test_flex_start_prices_are_per_machine_or_per_chip_and_outdated() -> None:
    """Each price is marked: a change in November 2026 is announced, and the new prices are not known."""
    machine, chip = (
        find_fact("flex_start_price", "gcp", region, machine=name)
        for name, region in (("a3-highgpu-8g", "us-central1"), ("v6e", "us-east5"))
    )
    assert isinstance(machine, Amount)
    assert isinstance(chip, Amount)
    assert (machine.value, machine.unit) == (38.32, "usd_per_hour")
    assert (chip.value, chip.unit) == (1.35, "usd_per_chip_hour")
    assert machine.rows[0].weak == chip.rows[0].weak == "outdated"
    change = find_fact("flex_start_price_change", "gcp")
    assert isinstance(change, Statement)
    assert change.value == "2026-11"
    assert isinstance(find_fact("flex_start_price", "gcp", "europe-west4", machine="a3-highgpu-8g"), Unknown)


def test_longest_flex_start_run() -> None:
    longest = find_fact("flex_start_max_run", "gcp", service="gce")
    assert isinstance(longest, Amount)
    assert longest.value == 7 * 86_400


def test_start_up_is_a_range_of_a_rival_s_figures() -> None:
    aws, gcp, runpod = (
        find_fact("startup_to_running", cloud, service=service)
        for cloud, service in (("aws", "ec2"), ("gcp", "gce"), ("runpod", "gpu_cloud"))
    )
    assert isinstance(aws, Span)
    assert isinstance(gcp, Span)
    assert isinstance(runpod, Span)
    assert [(span.low, span.high) for span in (aws, gcp, runpod)] == [(300, 900), (600, 1200), (None, 120)]
    assert {row.weak for row in (*aws.rows, *gcp.rows)} == {"marketing"}
    assert runpod.rows[0].kind == "startup_to_ready"
    assert isinstance(find_fact("startup_to_running", "azure", service="azure_vm"), Unknown)


@pytest.mark.parametrize(
    ("cloud", "service", "machine", "spot", "name"),
    [
        ("aws", "ec2", "p5.48xlarge", False, "Running On-Demand P instances (L-417A185B)"),
        ("aws", "ec2", "p4d.24xlarge", True, "All P Spot Instance Requests"),
        ("aws", "ec2", "g6e.xlarge", False, "Running On-Demand G and VT instances (L-DB2E81BA)"),
        ("aws", "sagemaker", "ml.p4d.24xlarge", False, "ml.p4d.24xlarge for training job usage"),
        ("gcp", "gce", "H100", True, "Preemptible NVIDIA H100 GPUs"),
    ],
)
def test_the_quota_of_a_machine(cloud: str, service: str, machine: str, *, spot: bool, name: str) -> None:
    quota = default_quota(cloud, service, machine, spot=spot)
    assert isinstance(quota, Quota)
    assert (quota.name, quota.value) == (name, 0)
    assert quota.weak


@pytest.mark.parametrize(
    ("cloud", "service", "machine", "spot"),
    [
        ("aws", "ec2", "g6e.xlarge", True),
        ("aws", "ec2", "trn1.32xlarge", False),
        ("aws", "sagemaker", "ml.p5.48xlarge", False),
        ("aws", "sagemaker", "ml.p4d.24xlarge", True),
        ("gcp", "gce", "H100", False),
        ("azure", "azure_vm", "Standard_NC24ads_A100_v4", False),
    ],
)
def test_a_quota_that_no_source_names_is_unknown(
    cloud: str, service: str, machine: str, *, spot: bool
) -> None:
    assert isinstance(default_quota(cloud, service, machine, spot=spot), Unknown)


def test_vcpus_that_a_machine_takes_of_its_quota() -> None:
    taken = find_fact("quota_vcpus", "aws", machine="p5.48xlarge")
    assert isinstance(taken, Amount)
    assert (taken.value, taken.unit) == (192, "vcpu")
