"""
Make the price snapshot of the wheel from tables of offers (CSV or Parquet).

    python -m trainfare_research.data.build_snapshot [path/to/offers.csv path/to/offers_2026-11.csv] [-o FOLDER]

A row replaces the row of the same machine, region, zone and purchase option in the tables before it. Rows known to be
wrong (`DROPPED`) are left out. What CLOUDS lists goes into offers.parquet, the other clouds into other_clouds.parquet.
The same tables give the same bytes (with the same polars). Rows pass the checks that every price passes; the counts
are printed, and one quarantined row is an error.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import polars as pl

from trainfare_core.clouds import CLOUDS
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.intake import BOOK_SCHEMA, KEY_COLUMNS
from trainfare_providers.machine_networks import network_gbit_per_s
from trainfare_research.data import TABLES

DEFAULT_OUT = Path(__file__).parents[3] / "providers/trainfare_providers/snapshot"
SOURCES = pl.read_csv(Path(__file__).with_name("snapshot_sources.csv"))
"""
Facts about the sources whose name contains `mark`: `source_class`, `date_estimated` where the source has no date, and
`caveat`. The first mark that matches decides: "SUM of " names two of the others.
"""
OFFERS = [TABLES / "prices" / "offers.parquet", TABLES / "prices" / "offers_2026-11.parquet"]
NOT_STORED = ("origin", "sku", "fetched_at", "interruption_band")


QUOTED = "quotes cloud.google.com"
QUOTE_SOURCE = (
    "third-party quotes of cloud.google.com/products/compute/gpus-pricing, in two independent public files"
)

_TYPE = pl.col("instance_type")
_SPOT = pl.col("purchase_option") == "spot"
_SOURCE = pl.col("source")
MACHINE_CAVEATS: tuple[tuple[pl.Expr, str], ...] = (
    (
        _TYPE.is_in(["a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g"]) & ~_SPOT,
        "Google creates this size only as spot or flex-start: listed, but perhaps not to be had",
    ),
    (
        (_TYPE == "a3-ultragpu-8g") & (pl.col("purchase_option") == "on_demand"),
        "Google creates this machine only as spot, flex-start or in a reservation: listed, but not to be had",
    ),
    (
        _TYPE.str.contains(r"^Standard_NC\d+r?s_v3$"),
        "Azure retired this series on 2025-09-30; it is still listed",
    ),
    (
        ~pl.col("provider").is_in(list(CLOUDS)),
        "a quote: the host's network, disks and availability are not known",
    ),
)
DROPPED: tuple[tuple[str, pl.Expr], ...] = (
    (
        "EC2 g5 spot of 2023, lowest zone of us-east-1: replaced by prices per zone",
        _SOURCE.str.contains("boaviztapi==2.5.0:boaviztapi/data/utils/complete_AWS_EC2", literal=True)
        & _SPOT
        & _TYPE.str.starts_with("g5."),
    ),
    # Of those read again in 2026, 5 of 5 had moved by -82 to +138 %, and the H100 rows repeat the on-demand price.
    ("Azure spot of 2024", _SOURCE.str.contains("coopslarhette/skypilot-catalog@", literal=True) & _SPOT),
    # The offer file of 2026-09-27 no longer lists these machines in us-east-1.
    (
        "SageMaker machines that are no longer listed",
        _SOURCE.str.contains("awslabs/syne-tune@", literal=True) | (_TYPE == "ml.p3.2xlarge"),
    ),
)


def read_text(table: Path) -> pl.DataFrame:
    """Return a table of offers as text, from CSV or Parquet."""
    if table.suffix == ".parquet":
        return pl.read_parquet(table).cast(pl.String)
    return pl.read_csv(table, infer_schema_length=0)


def merge_tables(tables: list[Path]) -> pl.DataFrame:
    """Return the rows of all tables as text, the last of each key, without those that are known to be wrong."""
    rows = pl.concat([read_text(table) for table in tables])
    rows = rows.rename({"price_usd_per_hour": "usd_per_hour"})
    keys = [pl.col(name).fill_null("") for name in KEY_COLUMNS]
    latest = rows.filter(pl.struct(keys).is_last_distinct())
    sys.stdout.write(f"{rows.height} rows, {rows.height - latest.height} replaced by a later table\n")
    for reason, wrong in DROPPED:
        sys.stdout.write(f"{latest.filter(wrong).height} dropped: {reason}\n")
    return latest.filter(~pl.any_horizontal(wrong for _, wrong in DROPPED))


def add_facts(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the network, the source class, the estimated dates and the caveats to a table of text."""
    marked = [(_SOURCE.str.contains(facts["mark"], literal=True), facts) for facts in SOURCES.to_dicts()]

    def first(name: str) -> pl.Expr:
        return pl.coalesce([pl.when(here).then(pl.lit(facts[name])) for here, facts in marked])

    # A source without a caveat must not take the caveat of a later mark.
    of_source = pl.coalesce([pl.when(here).then(pl.lit(facts["caveat"] or "")) for here, facts in marked])
    caveats = [pl.when(test).then(pl.lit(text)) for test, text in MACHINE_CAVEATS]
    networks = [
        None if service == "tpu" else network_gbit_per_s(provider, instance_type)
        for provider, service, instance_type in rows.select(
            "provider", "service", "instance_type"
        ).iter_rows()
    ]
    return rows.with_columns(
        pl.Series("network_gbit_per_s", networks, dtype=pl.Float64),
        first("source_class").alias("source_class"),
        first("date_estimated").alias("observed_on_estimated"),
        pl.concat_str(
            [*caveats, pl.when(of_source != "").then(of_source)], separator="; ", ignore_nulls=True
        ).alias("caveat"),
        pl.lit("USD").alias("currency"),
        pl.when(_SOURCE.str.contains(QUOTED, literal=True))
        .then(pl.lit(QUOTE_SOURCE))
        .otherwise(_SOURCE)
        .alias("source"),
    )


def build(rows: pl.DataFrame, out: Path) -> PriceBook:
    """
    Write a table of offers as Parquet and return it as a book.

    Raises:
        SystemExit: a row has an unknown source or is quarantined.
    """
    book = PriceBook.from_rows(add_facts(rows), origin="snapshot")
    bad = [tally for intake in book.intakes for tally in intake.quarantined]
    if bad:
        sys.exit(f"{sum(tally.rows for tally in bad)} rows are no prices: {bad}")
    stored = [name for name in BOOK_SCHEMA if name not in NOT_STORED]
    frame = book.frame.sort([pl.col(name) for name in KEY_COLUMNS]).select(stored)
    frame.write_parquet(out, compression="zstd", compression_level=19, statistics=False)
    for intake in book.intakes:
        sys.stdout.write(f"{intake.provider}/{intake.service}: {intake.accepted} offers\n")
    sys.stdout.write(f"{out.name}: {len(book)} offers, {out.stat().st_size} bytes\n")
    return book


def main() -> None:
    """Read the command line and build both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "tables", type=Path, nargs="*", default=OFFERS, help="offers, the newest table last; else our own"
    )
    parser.add_argument("-o", "--out", type=Path, default=DEFAULT_OUT, help="folder of the two files")
    arguments = parser.parse_args()
    rows = merge_tables(arguments.tables)
    listed = pl.col("provider").is_in(list(CLOUDS))
    build(rows.filter(listed), arguments.out / "offers.parquet")
    build(rows.filter(~listed), arguments.out / "other_clouds.parquet")


if __name__ == "__main__":
    main()
