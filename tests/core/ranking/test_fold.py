"""Two services with one price list share a line: Azure ML beside the virtual machines that it rents."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare.report.blocks import Text
from trainfare.report.first_screen import build_first_screen
from trainfare.report.wording import cloud_label
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Note, Recommendation

CAVEAT = "to see what your workspace may rent, set X"


def machine(service: str, **fields: Any) -> dict[str, Any]:
    return offer_row(**{"provider": "azure", "service": service, "instance_type": "nc.1x", **fields})


def rank_long(*rows: dict[str, Any], steps: int = 1_000_000, **asked: Any) -> Recommendation:
    request = Request(Constraints(**asked), max_nodes=1)
    return rank(small_job(steps=steps), book(*rows), request, predict=ToyPredictor())


@pytest.mark.parametrize(("steps", "first"), [(36_000, "azure_vm"), (1_000_000, "azure_ml")])
def test_services_of_one_price_share_a_line_that_names_both(steps: int, first: str) -> None:
    """The other one's dollars, hours and doubt are notes; the line is one machine, so it is its own runner-up no more."""
    answer = rank_long(machine("azure_vm"), machine("azure_ml", caveat=CAVEAT), steps=steps)
    (option,) = answer.options
    assert option.service == first
    assert {first, *option.also_services} == {"azure_vm", "azure_ml"}
    assert cloud_label(option) == "Azure or Azure ML"
    assert any("nc.1x at the same price an hour: " in note.text for note in option.notes)
    assert Note(kind="caveat", because=CAVEAT) in option.notes
    assert answer.runner_up is None


def test_a_shared_line_is_whole_at_80_columns() -> None:
    """The longest name of a size that both rent, on two machines."""
    fields = {
        "instance_type": "Standard_ND96amsr_A100_v4",
        "accelerator_count": 8.0,
        "region": "germanywestcentral",
    }
    request = Request(Constraints(), max_nodes=2)
    predict = ToyPredictor(capacity_gib={"A100-SXM-80GB": 64.0}, default_s=8.0)
    market = book(machine("azure_vm", **fields), machine("azure_ml", **fields))
    answer = rank(small_job(steps=1_000_000), market, request, predict=predict)
    screen = build_first_screen(answer, profile=None, as_of=date(2026, 11, 30), width=80)
    lines = [str(block.line) for block in screen if isinstance(block, Text)]
    named = [index for index, line in enumerate(lines) if "Standard_ND96amsr_A100_v4: 8" in line]
    told = [" ".join(lines[index : index + 2]) for index in named]
    assert told
    assert all("Azure or Azure ML germanywestcentral" in " ".join(text.split()) for text in told)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("service", ["azure_vm", "azure_ml"])
def test_a_named_service_is_the_one_of_the_line(service: str) -> None:
    answer = rank_long(machine("azure_vm"), machine("azure_ml"), services=(service,))
    assert [(option.service, option.also_services) for option in answer.options] == [(service, ())]
    assert cloud_label(answer.options[0]) == {"azure_vm": "Azure", "azure_ml": "Azure ML"}[service]


@pytest.mark.parametrize(
    ("fields", "steps"),
    [({"usd_per_hour": 4.1}, 1_000_000), ({"region": "westeurope"}, 1_000_000), ({}, 10)],
    ids=["price", "place", "run of minutes: its start-up is another"],
)
def test_what_differs_has_a_line_of_its_own(fields: dict[str, Any], steps: int) -> None:
    answer = rank_long(machine("azure_vm"), machine("azure_ml", **fields), steps=steps)
    assert [option.also_services for option in answer.options] == [(), ()]


def test_of_equal_names_the_line_has_the_one_of_both_services() -> None:
    rows = [
        machine("azure_vm"),
        machine("azure_vm", instance_type="nc.1x.both"),
        machine("azure_ml", instance_type="nc.1x.both"),
    ]
    (option,) = rank_long(*rows, steps=36_000).options
    assert option.instance_type == "nc.1x.both"
    assert any(note.text.startswith("nc.1x is the same machine") for note in option.notes)


def test_another_service_with_prices_of_its_own_keeps_its_line() -> None:
    """SageMaker at EC2's price is a coincidence, not one price list."""
    rows = [offer_row(), offer_row(service="sagemaker", instance_type="ml.a100.1x")]
    assert [option.also_services for option in rank_long(*rows).options] == [(), ()]
