"""What a new account may start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.drawn_markets import Row, books, key, rank_rows, unhurried
from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.ranking.alternatives.nearest import with_alternatives
from trainfare_core.ranking.pricing.quotas import (
    is_covered,
    machines_allowed,
    machines_of_family,
    quota_notes,
    shortage,
)
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, QuotaLimit, Recommendation


@pytest.mark.parametrize(
    ("offer", "name"),
    [
        (offer_row(instance_type="p5.48xlarge"), "Running On-Demand P instances"),
        (offer_row(instance_type="g5.xlarge"), "Running On-Demand G"),
        (offer_row(instance_type="p5.48xlarge", purchase_option="capacity_block"), None),
        (offer_row(instance_type="trn1.2xlarge"), None),
        (offer_row(provider="azure", service="azure_vm", instance_type="Standard_ND96isr_H100_v5"), None),
    ],
)
def test_only_a_quota_that_is_known_to_be_0_is_told(offer: dict[str, object], name: str | None) -> None:
    """P and G machines of EC2 have one; a capacity block does not use it, and of others nothing is known."""
    notes = quota_notes(offer)
    assert len(notes) == (name is not None)
    assert all(note.kind == "quota" and note.name.startswith(str(name)) for note in notes)
    assert all(note.text.startswith(f'new account: its quota "{note.name}" is 0') for note in notes)


def test_an_option_has_the_note() -> None:
    """The note is with the machine that it is about, and with no other."""
    prices = book(
        offer_row(instance_type="p4d.24xlarge"), offer_row(instance_type="a100.1x", usd_per_hour=9.0)
    )
    answer = rank(small_job(), prices, Request(max_nodes=1), predict=ToyPredictor({"A100-SXM-80GB": 0.1}))
    told = {
        option.instance_type: any(note.kind == "quota" for note in option.notes) for option in answer.options
    }
    assert told == {"p4d.24xlarge": True, "a100.1x": False}


P4, H100 = "p4d.24xlarge", "h100.8x"
ROWS = (
    offer_row(instance_type=P4, accelerator_count=8.0, vcpus=96.0, usd_per_hour=30.0),
    offer_row(instance_type=P4, accelerator_count=8.0, vcpus=96.0, usd_per_hour=36.0, region="eu-west-1"),
    offer_row(
        instance_type=H100, accelerator="H100-SXM-80GB", accelerator_count=8.0, vcpus=None, usd_per_hour=90.0
    ),
)


def under(*quotas: QuotaLimit, **asked: Any) -> Recommendation:
    request = Request(Constraints(quotas=quotas), max_nodes=4, all_regions=True, **asked)
    return rank(small_job(), book(*ROWS), request, predict=ToyPredictor())


def places(answer: Recommendation) -> set[tuple[str, str, int]]:
    return {(option.instance_type, option.region, option.nodes) for option in answer.options}


def aws(family: str = "p", **limits: Any) -> QuotaLimit:
    return QuotaLimit(provider="aws", family=(family,), **limits)


def test_a_quota_limits_how_many_machines_are_rented_in_its_region() -> None:
    """192 vCPUs are two machines of 96; elsewhere and for other machines there is no limit."""
    found = places(under(aws(region="us-east-1", vcpus=192)))
    assert {nodes for name, region, nodes in found if (name, region) == (P4, "us-east-1")} == {1, 2}
    assert {nodes for name, region, nodes in found if (name, region) == (P4, "eu-west-1")} == {1, 2, 4}
    assert {nodes for name, _, nodes in found if name == H100} == {1, 2, 4}


def test_one_offer_is_judged_as_all_are() -> None:
    """What a quota says of a row and of a table is the same, whatever it counts and names."""
    quotas = (
        aws(region="us-east-1", vcpus=96),
        aws("P4D", purchase=("spot",), machines=1),
        aws("h100", accelerators=8.0),
        aws("h100", vcpus=1000.0),
        aws("p4d.24xlarge", service="sagemaker", machines=0),
        QuotaLimit(provider="gcp", family=("p",), machines=0),
    )
    offers = book(*ROWS, *(row | {"purchase_option": "spot"} for row in ROWS)).frame
    for quota in quotas:
        for offer, allowed in zip(offers.to_dicts(), machines_allowed(offers, [quota]), strict=True):
            assert is_covered(offer, [quota]) == (allowed < np.inf)
            for machines in (1, 2):
                assert bool(shortage(offer, machines, [quota])) == (allowed < machines)


def test_accelerators_may_be_counted_and_every_quota_is_kept() -> None:
    """Sixteen A100 are two machines; the vCPUs allow one."""
    assert {nodes for name, _, nodes in places(under(aws("A100", accelerators=16))) if name == P4} == {1, 2}
    both = places(under(aws("A100", accelerators=16), aws("p4d", vcpus=100)))
    assert {nodes for name, _, nodes in both if name == P4} == {1}


def test_a_quota_of_one_service_limits_no_other() -> None:
    """Azure ML counts the same virtual machines apart."""
    assert places(under(aws(vcpus=0, service="sagemaker"))) == places(under())
    assert P4 not in {name for name, _, _ in places(under(aws(vcpus=0, service="ec2")))}


def test_machines_may_be_counted() -> None:
    """As SageMaker counts them; above that the figures say so, and none means none."""
    assert {nodes for name, _, nodes in places(under(aws(P4, machines=2))) if name == P4} == {1, 2}
    answer = under(aws(P4, machines=0))
    assert P4 not in {name for name, _, _ in places(answer)}
    details = [rejection.detail for rejection in answer.rejections if rejection.reason == "over_quota"]
    assert details[0].startswith(
        "aws:p4d.24xlarge@us-east-1 (on_demand): 1 machine, your quota of p4d.24xlarge in"
    )
    assert details[0].endswith("is 0")


def test_a_machine_above_its_quota_is_rejected_with_its_figures() -> None:
    """And a machine whose vCPUs are not known keeps no quota of them; the way out is named."""
    answer = under(aws(vcpus=95), aws("H100", vcpus=10_000))
    assert not answer.options
    rejection = next(rejection for rejection in answer.rejections if rejection.reason == "over_quota")
    assert (rejection.count, rejection.machines) == (3, 2)
    assert rejection.detail == (
        "aws:p4d.24xlarge@us-east-1 (on_demand): 1 machine takes 96 vCPUs, your quota of p in every region is 95"
    )
    assert "over quota" in str(answer.unknown_because)
    request = Request(Constraints(quotas=(aws(vcpus=95), aws("H100", vcpus=10_000))), max_nodes=1)
    ways = with_alternatives(answer, small_job(), book(*ROWS), request, predict=ToyPredictor()).alternatives
    assert "leave out --quota" in {way.flag for way in ways}
    unknown = under(aws("H100", vcpus=10_000)).rejections
    assert any("takes an unknown number of vCPUs" in rejection.detail for rejection in unknown)


def test_a_stated_quota_takes_the_place_of_a_new_account_s() -> None:
    """The note is about accounts of which nothing is known."""
    told = [note for option in under(aws(vcpus=960)).options for note in option.notes]
    assert not any("P instances" in note.name for note in told)
    assert any("P instances" in note.name for option in under().options for note in option.notes)


def test_a_quota_of_spot_machines_is_another_one() -> None:
    """It limits nothing on demand."""
    assert places(under(aws(vcpus=0, purchase=("spot",)))) == places(under())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("p", [P4]),
        ("P4D", [P4]),
        (P4, [P4]),
        ("A100", [P4]),
        ("h100-sxm-80gb", [H100]),
        ("p5", []),
        ("4", []),
    ],
)
def test_what_a_family_means(name: str, found: list[str]) -> None:
    """An instance type, its beginning up to a dot, its first letters, or an accelerator."""
    frame = book(*ROWS).frame
    assert list(dict.fromkeys(frame.filter(machines_of_family(frame, name))["instance_type"])) == found


@pytest.mark.parametrize(("name", "found"), [("p", ["p5.48xlarge"]), ("ml.p", ["ml.p5.48xlarge"])])
def test_a_managed_service_counts_its_own_machines(name: str, found: list[str]) -> None:
    """The letters of EC2's quota are not about SageMaker's machines, which have quotas of their own."""
    frame = book(
        offer_row(instance_type="p5.48xlarge"),
        offer_row(instance_type="ml.p5.48xlarge", service="sagemaker"),
    ).frame
    assert list(frame.filter(machines_of_family(frame, name))["instance_type"]) == found


@unhurried
@given(rows=books(), most=st.integers(0, 16), every=st.booleans())
def test_a_quota_leaves_exactly_the_runs_that_keep_it(rows: list[Row], most: int, every: bool) -> None:
    """By brute force over the ranking without it, at each machine's prices and in every region alike."""
    quotas = (QuotaLimit(provider="aws", region="us-east-1", family=("A100",), accelerators=most),)
    free = rank_rows(rows)
    recommendation = rank_rows(rows, constraints=Constraints(quotas=quotas))

    def is_allowed(option: Any) -> bool:
        limited = (
            option.provider == "aws" and option.region == "us-east-1" and option.accelerator[:4] == "A100"
        )
        return not limited or option.nodes * option.accelerator_count <= most

    assert {key(option) for option in recommendation.options} == {
        key(option) for option in free.options if is_allowed(option)
    }
    short = rank_rows(rows, every=every, constraints=Constraints(quotas=quotas))
    assert (short.options == ()) == (recommendation.options == ())
    if short.options:
        least = min(recommendation.options, key=lambda option: (option.needs_porting, option.run_usd.mid))
        assert short.options[0].run_usd.mid == least.run_usd.mid


def test_a_machine_of_unknown_size_keeps_no_quota_of_vcpus() -> None:
    """Neither one whose vCPUs are not published nor one that is said to have none."""
    frame = book(
        *(offer_row(instance_type=f"p{n}.1x", vcpus=vcpus) for n, vcpus in enumerate((0.0, None, 12.0)))
    ).frame
    quota = QuotaLimit(provider="aws", family=("p",), vcpus=24.0)
    allowed = dict(zip(frame["vcpus"].to_list(), machines_allowed(frame, [quota]).tolist(), strict=True))
    assert allowed == {0.0: 0.0, None: 0.0, 12.0: 2.0}
