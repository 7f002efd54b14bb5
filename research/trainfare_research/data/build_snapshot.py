"""
Make the price snapshot of the wheel from tables of offers (CSV or Parquet).

    python -m trainfare_research.data.build_snapshot [path/to/offers.csv path/to/offers_2026-11.csv] [-o FOLDER]

A row replaces the row of the same machine, region, zone and purchase option in the tables before it. Rows known to be
wrong (`LEFT_OUT`) are left out. What CLOUDS lists goes into offers.parquet, the other clouds into other_clouds.parquet.
The same tables give the same bytes (with the same polars). Rows pass the checks that every price passes; the counts
are printed, and one quarantined row is an error.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import polars as pl

from trainfare_core.clouds import CLOUDS
from trainfare_core.prices.book import PriceBook
from trainfare_core.prices.intake import BOOK_SCHEMA, KEY_COLUMNS
from trainfare_providers.machine_types import network_gbit_per_s
from trainfare_research.data import TABLES

DEFAULT_OUT = Path(__file__).parents[3] / "providers/trainfare_providers/snapshot"
SOURCES = pl.read_csv(Path(__file__).with_name("snapshot_sources.csv"))
"""
Facts about the sources whose name contains `mark`: `source_class`, `date_estimated` where the source has no date, and
`caveat`. The first mark that matches decides: "SUM of " names two of the others.
"""
OFFERS = [
    TABLES / "prices" / "offers.parquet",
    TABLES / "prices" / "offers_2026-11.parquet",
    TABLES / "prices" / "corrections.csv",
]
FIRST_WAVELENGTH_ZONES = {"us-east-1-wl1": "us-east-1-wl1-bos1", "us-west-2-wl1": "us-west-2-wl1-sfo1"}
"""The price list names the first Wavelength Zone of a region by its group alone: Boston, San Francisco."""
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
        "Google creates this size only as spot or flex-start: listed, but perhaps not available",
    ),
    (
        (_TYPE == "a3-ultragpu-8g") & (pl.col("purchase_option") == "on_demand"),
        "Google creates this machine only as spot, flex-start or in a reservation: listed, but not available on demand",
    ),
    (
        (_TYPE == "a3-ultragpu-8g") & _SPOT,
        "without the machine's local SSD: one to two percent low",
    ),
    (
        (_TYPE == "a3-ultragpu-8g")
        & (pl.col("purchase_option") == "on_demand")
        & (pl.col("region") != "us-central1"),
        "with local SSD at the rate of us-central1",
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
LEFT_OUT = pl.read_csv(DEFAULT_OUT / "left_out.csv", infer_schema_length=0).fill_null("")
"""Rows known to be wrong: regular expressions of whole names, a part of the source's name (blank: any), the reason."""


def _wrong_rows(left_out: dict[str, str]) -> pl.Expr:
    names = ("provider", "instance_type", "region", "zone", "purchase_option")
    tests = [pl.col(name).str.contains(f"^(?:{left_out[name]})$") for name in names if left_out[name]]
    return pl.all_horizontal(*tests, _SOURCE.str.contains(left_out["source"], literal=True))


def read_text(table: Path) -> pl.DataFrame:
    """Return a table of offers as text, from CSV or Parquet."""
    if table.suffix == ".parquet":
        return pl.read_parquet(table).cast(pl.String)
    return pl.read_csv(table, infer_schema_length=0)


def merge_tables(tables: list[Path]) -> pl.DataFrame:
    """Return the rows of all tables as text, the last of each key, without those that are known to be wrong."""
    rows = pl.concat([read_text(table) for table in tables])
    rows = unify_names(rows.rename({"price_usd_per_hour": "usd_per_hour"}))
    keys = [pl.col(name).fill_null("") for name in KEY_COLUMNS]
    latest = rows.filter(pl.struct(keys).is_last_distinct())
    sys.stdout.write(f"{rows.height} rows, {rows.height - latest.height} replaced by a later table\n")
    tests = [(line["reason"], _wrong_rows(line)) for line in LEFT_OUT.to_dicts()]
    for reason, wrong in tests:
        sys.stdout.write(f"{latest.filter(wrong).height} left out: {reason}\n")
    return latest.filter(~pl.any_horizontal(wrong.fill_null(value=False) for _, wrong in tests))


def unify_names(rows: pl.DataFrame) -> pl.DataFrame:
    """Give each machine and each zone of AWS one name: Azure's newer name of ND96asr, the zone's id."""
    zones = rows.filter(pl.col("provider") == "aws").select("region", "zone").drop_nulls().unique()
    ids = {zone: _find_zone_id(region, zone) for region, zone in zones.iter_rows()}
    return rows.with_columns(
        _TYPE.replace("Standard_ND96asr_A100_v4", "Standard_ND96asr_v4"),
        pl.when(pl.col("provider") == "aws")
        .then(pl.col("zone").replace(ids))
        .otherwise(pl.col("zone"))
        .alias("zone"),
    )


def _find_zone_id(region: str, zone: str) -> str:
    """
    Return the id of a Local or Wavelength Zone of which the list gives the name, or the group that is priced alike.

    Of a group with several zones it is the first. Ids: https://docs.aws.amazon.com/local-zones/latest/ug/available-local-zones.html
    and https://docs.aws.amazon.com/wavelength/latest/developerguide/available-wavelength-zones.html
    """
    area, side, number = region.split("-")
    short = area + "".join(word[0] for word in re.findall("north|south|east|west|central", side)) + number
    place = FIRST_WAVELENGTH_ZONES.get(zone, zone).removeprefix(f"{region}-")
    if wavelength := re.fullmatch(r"(wl\d)-([a-z]{3})(\d)", place):
        return "{}-{}-{}-wlz{}".format(short, *wavelength.groups())
    if local := re.fullmatch(r"([a-z]{3})-(\d)a?", place):
        return "{}-{}{}-az1".format(short, *local.groups())
    return zone


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
