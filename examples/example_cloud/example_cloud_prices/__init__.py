"""
Prices of Example Cloud: a worked example of a cloud in a distribution of its own, found by its entry point.

The cloud is made up. Its list has rows that real lists have and that are easily misread: a Windows price, a machine
without accelerator, and a reservation whose price is for the whole year.
"""

from __future__ import annotations

from importlib.resources import files
from io import BytesIO

import polars as pl

from trainfare_core.errors import PricesUnavailableError
from trainfare_core.prices.book import PriceBook

__all__ = ["ExampleCloud"]

HOURS_PER_YEAR = 8760


class ExampleCloud:
    """On-demand, spot and reserved prices of Example Cloud, from the list in the package; needs no credentials."""

    name = "example"

    def load(self) -> PriceBook:
        """
        Return the price list, checked row by row.

        Raises:
            PricesUnavailableError: the list is missing: install the package again.
        """
        try:
            data = (files(__name__) / "prices.csv").read_bytes()
        except OSError as error:
            raise PricesUnavailableError("example: the price list is missing; install it again") from error
        listed = pl.read_csv(BytesIO(data), infer_schema_length=0)
        whole_year = pl.col("unit") == "1 Year"
        price = pl.col("price").cast(pl.Float64, strict=False)
        rows = listed.filter(pl.col("system") == "Linux").select(
            pl.lit(self.name).alias("provider"),
            pl.lit("vm").alias("service"),
            pl.col("machine").alias("instance_type"),
            "region",
            pl.col("gpu").alias("accelerator"),
            pl.col("gpus").cast(pl.Float64, strict=False).alias("accelerator_count"),
            pl.col("gpu_gib").cast(pl.Float64, strict=False).alias("accelerator_memory_gib"),
            pl.col("vcpus").cast(pl.Float64, strict=False),
            pl.col("memory_gib").cast(pl.Float64, strict=False),
            pl.when(whole_year).then(price / HOURS_PER_YEAR).otherwise(price).alias("usd_per_hour"),
            pl.col("terms").alias("purchase_option"),
            "currency",
            pl.col("valid_from").alias("observed_on"),
            pl.lit("example.com/prices.csv").alias("source"),
            pl.lit("catalogue").alias("source_class"),
        )
        return PriceBook.from_rows(rows, origin=self.name)
