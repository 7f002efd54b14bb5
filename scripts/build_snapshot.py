"""
Make the price snapshot of the wheel from a table of offers.

    python scripts/build_snapshot.py path/to/offers.csv [-o OUT.parquet]

The same table gives the same bytes (with the same polars). Rows pass the checks that every price passes; the counts
are printed, and one quarantined row is an error.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trainfare_core.prices.book import BOOK_SCHEMA, KEY_COLUMNS, PriceBook
from trainfare_providers.machine_networks import network_gbit_per_s

DEFAULT_OUT = Path(__file__).parents[1] / "providers/trainfare_providers/snapshot/offers.parquet"
NOT_STORED = ("origin", "sku", "fetched_at", "interruption_band")


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Facts about the sources whose name contains `mark`; the date is estimated where the source has none."""

    mark: str
    source_class: str
    date_estimated: bool = False
    caveat: str | None = None


QUOTED = "quotes cloud.google.com"
SOURCES = (
    # First, because its text names two of the others.
    SourceFacts("SUM of ", "api_copy", date_estimated=True, caveat="sum of a host price and a GPU price"),
    SourceFacts("tsaol/aws-gpu@", "api_copy"),
    SourceFacts("aws/karpenter-provider-aws@", "api_copy"),
    SourceFacts("Azure/karpenter-provider-azure@", "api_copy"),
    SourceFacts("Cyclenerd/google-cloud-pricing-cost-calculator@", "api_copy"),
    SourceFacts("skypilot-org/skypilot-catalog@2c3d7ea7d76b", "catalogue", date_estimated=True),
    SourceFacts("skypilot-org/skypilot-catalog@006059e0f18a", "catalogue", date_estimated=True),
    SourceFacts(
        "coopslarhette/skypilot-catalog@",
        "catalogue",
        date_estimated=True,
        caveat="old spot price of an estimated date: today's can be far from it",
    ),
    SourceFacts(
        "boaviztapi==2.5.0:boaviztapi/data/utils/complete_AWS_EC2",
        "catalogue",
        date_estimated=True,
        caveat="old spot price of an estimated date, the lowest in the region: today's can be far above it",
    ),
    SourceFacts(
        "boaviztapi==2.5.0:boaviztapi/data/utils/complete_Azure_VMs",
        "catalogue",
        date_estimated=True,
        caveat="commitment rate of an estimated date in 2023",
    ),
    SourceFacts("fmbench==2.1.1", "catalogue"),
    SourceFacts(
        "awslabs/syne-tune@",
        "catalogue",
        caveat="source of 2022 that names no region: us-east-1 is assumed",
    ),
    SourceFacts(QUOTED, "quote", caveat="third party's quote of Google's price page"),
)
QUOTE_SOURCE = (
    "third-party quotes of cloud.google.com/products/compute/gpus-pricing, in two independent public files"
)

_TYPE = pl.col("instance_type")
_SPOT = pl.col("purchase_option") == "spot"
MACHINE_CAVEATS: tuple[tuple[pl.Expr, str], ...] = (
    (
        _TYPE.is_in(["ml.p4d.24xlarge", "ml.p5.48xlarge"]),
        "older than AWS's price cut of June 2025 for this EC2 family: probably too high",
    ),
    (
        _TYPE.is_in(["a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g"]) & ~_SPOT,
        "Google creates this size only as spot or flex-start: listed, but perhaps not to be had",
    ),
    (
        _TYPE.str.contains(r"^Standard_NC\d+r?s_v3$"),
        "Azure retired this series on 2025-09-30; it is still listed",
    ),
    (
        (pl.col("provider") == "azure") & _SPOT & pl.col("accelerator").str.starts_with("H100"),
        "its source gives the on-demand price as the spot price",
    ),
)


def enriched(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the network, the source class, the estimated dates and the caveats to a table of text."""
    source = pl.col("source")
    facts = [(pl.when(source.str.contains(one.mark, literal=True)), one) for one in SOURCES]
    caveats: list[pl.Expr] = [pl.when(test).then(pl.lit(text)) for test, text in MACHINE_CAVEATS]
    caveats += [here.then(pl.lit(one.caveat, dtype=pl.String)) for here, one in facts]
    networks = [
        None if service == "tpu" else network_gbit_per_s(provider, instance_type)
        for provider, service, instance_type in rows.select(
            "provider", "service", "instance_type"
        ).iter_rows()
    ]
    return rows.with_columns(
        pl.Series("network_gbit_per_s", networks, dtype=pl.Float64),
        pl.coalesce([here.then(pl.lit(one.source_class)) for here, one in facts]).alias("source_class"),
        pl.coalesce([here.then(pl.lit(one.date_estimated)) for here, one in facts]).alias(
            "observed_on_estimated"
        ),
        pl.concat_str(caveats, separator="; ", ignore_nulls=True).alias("caveat"),
        pl.lit("USD").alias("currency"),
        pl.when(source.str.contains(QUOTED, literal=True))
        .then(pl.lit(QUOTE_SOURCE))
        .otherwise(source)
        .alias("source"),
    )


def build(table: Path, out: Path) -> PriceBook:
    """
    Write the snapshot and return it as a book.

    Raises:
        SystemExit: a row has an unknown source or is quarantined.
    """
    rows = pl.read_csv(table, infer_schema_length=0).rename({"price_usd_per_hour": "usd_per_hour"})
    book = PriceBook.from_rows(enriched(rows), origin="snapshot")
    bad = [tally for intake in book.intakes for tally in intake.quarantined]
    if bad:
        sys.exit(f"{table}: {sum(tally.rows for tally in bad)} rows are no prices: {bad}")
    stored = [name for name in BOOK_SCHEMA if name not in NOT_STORED]
    frame = book.frame.sort([pl.col(name) for name in KEY_COLUMNS]).select(stored)
    frame.write_parquet(out, compression="zstd", compression_level=19, statistics=False)
    return book


def main() -> None:
    """Read the command line, build, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, help="offers as CSV")
    parser.add_argument("-o", "--out", type=Path, default=DEFAULT_OUT)
    arguments = parser.parse_args()
    book = build(arguments.table, arguments.out)
    for intake in book.intakes:
        counts = f"read {intake.rows_read}, accepted {intake.accepted}, filtered {intake.filtered_rows}"
        sys.stdout.write(f"{intake.provider}/{intake.service}: {counts}\n")
    known = book.frame["network_gbit_per_s"].is_not_null().sum()
    sys.stdout.write(f"{len(book)} offers, {len(book.shapes())} shapes, {known} with a known network\n")
    sys.stdout.write(f"{arguments.out}: {arguments.out.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
