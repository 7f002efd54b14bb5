"""
Azure ML without a workspace: the sizes that its documentation lists, at the price of the same virtual machine.

A training cluster is billed as virtual machines, without a surcharge (infracost/infracost pull request 2902). One of
the tier `low_priority` has been billed at the spot price of the machine since 2026-03-31, when low priority was retired
(MicrosoftDocs/azure-ai-docs pull request 806, Azure/Batch issue 196); its own meters are still listed and no longer
charged. So no row is stored: they are derived from those of the virtual machines, and the two never differ.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from trainfare_core.clouds import pricing_service
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.caveats import CAVEATS
from trainfare_core.prices.facts import Intake
from trainfare_providers.machine_types import table_rows

SERVICE: Final = "azure_ml"

NEEDS: Final = ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME")
"""Environment variables that name a workspace."""

_CAVEAT: Final = f"{CAVEATS['not_checked']}; what your workspace may rent: set {', '.join(NEEDS)}"
_LONGEST_JOB: Final = {"on_demand": "a job may last 21 days", "spot": "a job may last 7 days"}
"""By purchase option; "Job lifetime" of learn.microsoft.com/azure/machine-learning/how-to-manage-quotas."""


def add_azure_ml(book: PriceBook) -> PriceBook:
    """
    Return a book with the rows of Azure ML, on demand and spot, that its virtual machines imply.

    A reservation covers Azure ML only with instance-size flexibility, and a savings plan only some of its machines:
    neither makes a row. A workspace's own list replaces all of these rows.

    Args:
        book: the prices of all clouds, which replaced each other already.
    """
    rows = book.rows
    machines = rows.filter(pl.col("service") == pricing_service(SERVICE))
    if machines.is_empty() or (rows["service"] == SERVICE).any():
        return book
    sizes = {row["instance_type"]: row["spot"] != "no" for row in table_rows("azure_ml_sizes.csv")}
    spot = [name for name, has_spot in sizes.items() if has_spot]
    option, listed = pl.col("purchase_option"), pl.col("instance_type")
    derived = machines.filter(
        ((option == "on_demand") & listed.is_in(list(sizes))) | ((option == "spot") & listed.is_in(spot))
    ).with_columns(
        pl.lit(SERVICE).alias("service"),
        pl.concat_str(
            [pl.lit(_CAVEAT), option.replace_strict(_LONGEST_JOB), pl.col("caveat")],
            separator="; ",
            ignore_nulls=True,
        ).alias("caveat"),
    )
    counts = derived.group_by("origin", "provider").len().sort("origin", "provider").iter_rows()
    intakes = tuple(Intake(origin, provider, SERVICE, count, count) for origin, provider, count in counts)
    return PriceBook(pl.concat([rows, derived]), (*book.intakes, *intakes), book.set_aside)
