"""Entries that look like a price and are not: none becomes a price, and each is counted under its own reason."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from builders import aws_wire, azure_wire, gcp_wire
from builders.mislabelled import AWS_EC2, AWS_PLANS, AWS_SAGEMAKER, AZURE, GCP, Mislabelled
from trainfare_core.prices.accept import accept
from trainfare_core.prices.facts import ReasonCount
from trainfare_core.prices.sanity import LastPrices
from trainfare_providers.answer_values import items_of
from trainfare_providers.aws.bulk_csv import read_offer_csv
from trainfare_providers.aws.machines import read_known_machines
from trainfare_providers.aws.price_list import ec2_row, read_products, sagemaker_row
from trainfare_providers.aws.rows import SourceContext
from trainfare_providers.aws.savings import PLANS, plan_file_rows
from trainfare_providers.azure import vm_rows
from trainfare_providers.gcp.skus import read_sku
from trainfare_providers.http.strict_json import parse_json
from trainfare_providers.refresh import FetchedRows
from trainfare_providers.source_rows import Refused, RowSink

CONTEXT = SourceContext("us-east-1", read_known_machines(), "https://aws.invalid", "2026-08-02")


def ask_closed_port(found: FetchedRows, *, kept: int = 0) -> list[str]:
    """Return the reasons of the parser and of the checks; all other rows of the list are prices."""
    tallies: list[ReasonCount] = [*found.filtered, *found.quarantined]
    judged = accept(found.rows, origin="x", last=LastPrices())
    tallies += [tally for intake in judged.intakes for tally in (*intake.filtered, *intake.quarantined)]
    assert judged.rows.height == kept
    return [tally.reason for tally in tallies for _ in range(tally.rows)]


@pytest.mark.parametrize("case", AWS_EC2, ids=str)
def test_mislabelled_entry_of_the_ec2_offer(case: Mislabelled) -> None:
    """In the answers of the API and in the public files."""
    by_api, by_file = RowSink("aws", "ec2"), RowSink("aws", "ec2")
    for record in read_products([aws_wire.product_json(case.entry)]):
        assert record is not None
        by_api.add([ec2_row(record, CONTEXT)])
    for record in read_offer_csv([aws_wire.offer_csv((case.entry,), "AmazonEC2")], offer="AmazonEC2"):
        assert record is not None
        by_file.add([ec2_row(record, CONTEXT)])
    assert ask_closed_port(by_api.finish()) == ask_closed_port(by_file.finish()) == [case.reason]


@pytest.mark.parametrize("case", AWS_SAGEMAKER, ids=str)
def test_mislabelled_entry_of_the_sagemaker_offer(case: Mislabelled) -> None:
    """SageMaker sells the machine in terms and for uses that cost less or more than training on demand."""
    sink = RowSink("aws", "sagemaker")
    for record in read_products([aws_wire.product_json(case.entry)]):
        assert record is not None
        sink.add([sagemaker_row(record, CONTEXT)])
    assert ask_closed_port(sink.finish()) == [case.reason]


@pytest.mark.parametrize("case", AWS_PLANS, ids=str)
def test_mislabelled_rate_of_a_savings_plan(case: Mislabelled) -> None:
    sink = RowSink("aws", "ec2")
    sink.add(
        plan_file_rows([aws_wire.plan_csv((case.entry,), "AmazonComputeSavingsPlan")], PLANS[0], CONTEXT)
    )
    assert ask_closed_port(sink.finish()) == [case.reason]


def test_rate_that_has_not_begun() -> None:
    """The file's rates are of 2026-06-05: the day before, they are none."""
    early = SourceContext("us-east-1", read_known_machines(), "https://aws.invalid", "2026-06-04")
    sink = RowSink("aws", "ec2")
    sink.add(
        plan_file_rows(
            [aws_wire.plan_csv(aws_wire.PLAN_RATES[:1], "AmazonComputeSavingsPlan")], PLANS[0], early
        )
    )
    assert ask_closed_port(sink.finish()) == ["a price that has not begun"]


@pytest.mark.parametrize("case", AZURE, ids=str)
def test_mislabelled_item_of_azure(case: Mislabelled) -> None:
    """By its type, by any of its names, by its term, or only by the price beside it."""
    items = items_of(parse_json(azure_wire.page([case.entry, *case.beside])), "Items")
    sink, _ = vm_rows(items, source="https://prices.azure.com/x", today="2026-11-24")
    own = len(case.entry.get("savingsPlan", ()))  # the plan is mislabelled, its item is not
    assert ask_closed_port(sink.finish(), kept=len(case.beside) + own) == [case.reason]


@pytest.mark.parametrize("case", GCP, ids=str)
def test_mislabelled_sku_of_google(case: Mislabelled) -> None:
    (sku,) = items_of(parse_json(gcp_wire.page([case.entry])), "skus")
    part = read_sku(sku, today="2026-11-24")
    assert isinstance(part, Refused)
    assert part.reason == case.reason


@pytest.mark.parametrize(
    "cases",
    [AWS_EC2, AWS_SAGEMAKER, AWS_PLANS, AZURE, GCP],
    ids=["ec2", "sagemaker", "plans", "azure", "gcp"],
)
def test_cases_have_names_of_their_own(cases: Sequence[Mislabelled]) -> None:
    assert len({case.name for case in cases}) == len(cases)


def test_true_entries_beside_them_are_prices() -> None:
    """What the cases were made from passes, so that no case is refused for another fault."""
    ec2, sagemaker = RowSink("aws", "ec2"), RowSink("aws", "sagemaker")
    machine = aws_wire.machine(
        "TRUE000000000001", "p5.48xlarge", aws_wire.Term("55.04"), aws_wire.make_reserved("30.0")
    )
    for record in read_products([aws_wire.product_json(machine)]):
        assert record is not None
        ec2.add([ec2_row(record, CONTEXT)])
    for record in read_products(
        [aws_wire.product_json(aws_wire.training("TRUE1", "ml.p5.48xlarge", "63.3"))]
    ):
        assert record is not None
        sagemaker.add([sagemaker_row(record, CONTEXT)])
    assert ask_closed_port(ec2.finish(), kept=2) == ask_closed_port(sagemaker.finish(), kept=1) == []
    whole = azure_wire.reservation("Standard_ND96isr_H100_v5", 560_000, "1 Year")
    items = items_of(
        parse_json(azure_wire.page([azure_wire.item("Standard_ND96isr_H100_v5", 98.32), whole])), "Items"
    )
    sink, _ = vm_rows(items, source="x", today="2026-11-24")
    assert ask_closed_port(sink.finish(), kept=2) == []
    (sku,) = items_of(
        parse_json(gcp_wire.page([gcp_wire.sku("Nvidia L4 GPU running in Americas", "0.56")])), "skus"
    )
    assert not isinstance(read_sku(sku, today="2026-11-24"), Refused)
