"""Azure ML without a workspace: its documented sizes at the prices of virtual machines, of the snapshot and of a refresh."""

from __future__ import annotations

import polars as pl
import pytest

from builders.azure_wire import item, page, reservation
from builders.offers import book_of, offer_row
from trainfare_core.prices.age_doubt import moves_of
from trainfare_core.prices.book import PriceBook
from trainfare_providers.azure import vm_rows
from trainfare_providers.derived_rows import add_azure_ml
from trainfare_providers.http.strict_json import parse_json
from trainfare_providers.snapshot import SnapshotProvider

# The GPU series that https://learn.microsoft.com/azure/machine-learning/concept-compute-target lists for compute clusters and
# that are not retired, by the sizes of each series' own page; and ND96amsr, which fine-tuning in Azure/azureml-assets takes.
DOCUMENTED = {
    *(f"Standard_NC{vcpus}as_T4_v3" for vcpus in (4, 8, 16, 64)),
    *(f"Standard_NC{vcpus}ads_A100_v4" for vcpus in (24, 48, 96)),
    *("Standard_NC40ads_H100_v5", "Standard_NC80adis_H100_v5", "Standard_ND40rs_v2", "Standard_ND96asr_v4"),
    *("Standard_ND96amsr_A100_v4", "Standard_ND96isr_H100_v5", "Standard_ND96isr_H200_v5"),
}
SAME = (
    "provider",
    "instance_type",
    "region",
    "zone",
    "purchase_option",
    "usd_per_hour",
    "observed_on",
    "origin",
)


def learning_rows(book: PriceBook) -> pl.DataFrame:
    return add_azure_ml(book).rows.filter(pl.col("service") == "azure_ml")


def test_each_row_of_the_snapshot_has_the_machine_s_price() -> None:
    """Every documented size in every region of its virtual machine, to the cent and of the same day; no other size."""
    snapshot = SnapshotProvider().load()
    rows = learning_rows(snapshot)
    assert set(rows["instance_type"]) == DOCUMENTED
    machines = snapshot.rows.filter(
        pl.col("service") == "azure_vm",
        pl.col("instance_type").is_in(list(DOCUMENTED)),
        pl.col("purchase_option").is_in(["on_demand", "spot"]),
        ~pl.col("instance_type").is_in(["Standard_NC48ads_A100_v4", "Standard_NC96ads_A100_v4"])
        | (pl.col("purchase_option") == "on_demand"),
    )
    assert sorted(rows.select(SAME).rows()) == sorted(machines.select(SAME).rows())
    assert rows.height > 300
    assert rows["caveat"].str.contains("AZUREML_WORKSPACE_NAME", literal=True).all()
    days = {
        "on_demand": "21 days",
        "spot": "7 days",
    }  # learn.microsoft.com/azure/machine-learning/how-to-manage-quotas
    assert all(days[option] in caveat for option, caveat in rows.select("purchase_option", "caveat").rows())
    kept = rows.filter(pl.col("instance_type") == "Standard_ND96isr_H100_v5", pl.col("region") == "eastus")
    assert kept["caveat"].str.ends_with("; third party's copy of a price page").any()


def test_what_is_added_is_counted_for_its_service() -> None:
    book = add_azure_ml(SnapshotProvider().load())
    (facts,) = (facts for facts in book.facts() if facts.service == "azure_ml")
    assert (facts.origin, facts.rows) == ("snapshot", facts.accepted)


def test_a_refresh_prices_it_by_the_spot_meter_not_by_low_priority() -> None:
    """
    Of a recorded answer (github.com/mrmonroe90/compute-price-tracker, azure_retail_eastus_nd_2026-07-27.json): the list
    still has low priority months after its end, at another price than spot.
    """
    asr, amsr = "Standard_ND96asr_v4", "Standard_ND96amsr_A100_v4"
    items = [
        item("Standard_ND96isr_H100_v5", 98.32, skuName="ND96isrH100v5", meterName="ND96isrH100v5"),
        reservation("Standard_ND96isr_H100_v5", 551221.0, "1 Year"),
        item(amsr, 6.554, suffix=" Low Priority", productName="Virtual Machines NDamsr A100 v4 Series Linux"),
        item(asr, 5.98334, suffix=" Spot", productName="Virtual Machines NDasr A100 v4 Series"),
        item("Standard_ND96is_H100_v5", 88.488, skuName="ND96isH100v5", meterName="ND96isH100v5"),
    ]
    answer = parse_json(page(items))
    assert isinstance(answer, dict)
    sink, _ = vm_rows(answer["Items"], source="https://prices.azure.com", today="2026-11-24")
    book = PriceBook.from_rows(sink.finish().rows, origin="azure")
    found = learning_rows(book).select("instance_type", "purchase_option", "usd_per_hour").rows()
    assert sorted(found) == [(asr, "spot", 5.98334), ("Standard_ND96isr_H100_v5", "on_demand", 98.32)]


@pytest.mark.parametrize("purchase", ["on_demand", "spot"])
def test_a_workspace_s_own_list_stays_as_it_is(purchase: str) -> None:
    fields = {"provider": "azure", "instance_type": "Standard_NC4as_T4_v3", "region": "eastus"}
    own = offer_row(**fields, service="azure_ml", purchase_option=purchase)
    book = book_of(offer_row(**fields, service="azure_vm"), own)
    assert add_azure_ml(book) is book


def test_prices_of_other_clouds_alone_add_nothing() -> None:
    book = book_of(offer_row())
    assert add_azure_ml(book) is book


def test_a_price_moves_as_that_of_the_machine() -> None:
    """One price has one interval, whichever service charges it."""
    assert moves_of("azure", "azure_ml", "spot") is moves_of("azure", "azure_vm", "spot")
    assert moves_of("azure", "azure_ml", "on_demand").service == "azure_vm"
