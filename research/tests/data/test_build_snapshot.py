"""The command that makes the price snapshot of the wheel: the same bytes, no bad row, the newest price of each key."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from trainfare_core.prices.book import PriceBook
from trainfare_providers.snapshot import OtherClouds, SnapshotProvider
from trainfare_research.data import build_snapshot
from trainfare_research.truth_table import read_rows


@cache
def snapshot() -> PriceBook:
    return SnapshotProvider().load()


CSV_COLUMNS = [
    *("provider", "service", "instance_type", "region", "zone", "accelerator", "accelerator_count"),
    *("accelerator_memory_gib", "vcpus", "memory_gib", "price_usd_per_hour", "purchase_option"),
    *("observed_on", "source"),
]


def write_table(path: Path, change: Callable[[list[dict[str, object]]], object] = lambda _: None) -> None:
    found = (
        snapshot()
        .frame.rename({"usd_per_hour": "price_usd_per_hour"})
        .filter(pl.col("source_class") != "quote")
    )
    table = found.select(CSV_COLUMNS).head(200).to_dicts()
    change(table)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS)
        writer.writeheader()
        writer.writerows(table)


def test_build_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    """The same table, also with its rows shuffled, makes the same file, byte for byte."""
    write_table(tmp_path / "a.csv")
    write_table(tmp_path / "b.csv", random.Random(7).shuffle)
    for name in "ab":
        rows = build_snapshot.merge_tables([tmp_path / f"{name}.csv"])
        assert len(build_snapshot.build(rows, tmp_path / f"{name}.parquet")) == 200
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    "change", [{"price_usd_per_hour": "nan"}, {"source": "an unknown source"}, {"purchase_option": "free"}]
)
def test_build_refuses_a_table_with_a_bad_row(tmp_path: Path, change: dict[str, object]) -> None:
    """One invalid price, or one of an undescribed source, stops the build."""
    write_table(tmp_path / "bad.csv", lambda table: table[3].update(change))
    table = build_snapshot.merge_tables([tmp_path / "bad.csv"])
    with pytest.raises(SystemExit, match="1 rows are no prices"):
        build_snapshot.build(table, tmp_path / "bad.parquet")


def test_a_later_table_replaces_rows_of_the_same_key(tmp_path: Path) -> None:
    """The row of the table given last is the price; rows that are known to be wrong are left out."""
    write_table(tmp_path / "old.csv")
    with (tmp_path / "old.csv").open(newline="", encoding="utf-8") as file:
        first, second, *_ = csv.DictReader(file)
    wrong = {**second, "purchase_option": "spot", "source": "coopslarhette/skypilot-catalog@1:azure.csv"}
    with (tmp_path / "new.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS)
        writer.writeheader()
        writer.writerows([{**first, "price_usd_per_hour": "1.25"}, wrong])
    rows = build_snapshot.merge_tables([tmp_path / "old.csv", tmp_path / "new.csv"])
    assert rows.height == 200
    key = [pl.col(name) == first[name] for name in ("provider", "instance_type", "region", "purchase_option")]
    assert rows.filter(*key, pl.col("zone").is_null())["usd_per_hour"].to_list() == ["1.25"]
    assert not rows["source"].str.contains("coopslarhette").any()


def place_of(region: str, zone: str) -> str:
    """Return what the name and the id of a Local or Wavelength Zone have in common: us-west-2-lax-1, usw2-lax1-az1."""
    zone = {"us-east-1-wl1": "us-east-1-wl1-bos1", "us-west-2-wl1": "us-west-2-wl1-sfo1"}.get(zone, zone)
    place = zone.removeprefix(f"{region}-")
    local = re.fullmatch(r"(?:[a-z]{3,4}\d-)?([a-z]{3})-?(\d)(?:a|-az1)?", place)
    wavelength = re.fullmatch(r"(?:\w+-)?(wl\d)-([a-z]{3})(?:\d|-wlz1)", place)
    found = local or wavelength
    return "-".join(found.groups()) if found else zone


def test_snapshot_is_the_tables_of_facts() -> None:
    """
    Every fact is in one of the two files with its newest price and date, but for the rows known to be wrong.

    Two things have another name there: a machine with two names, and a zone of AWS of which the table has no id.
    """
    same_machine = {"Standard_ND96asr_A100_v4": "Standard_ND96asr_v4"}
    keys = ("provider", "service", "instance_type", "region", "zone", "purchase_option")
    facts: dict[tuple[str | None, ...], tuple[float, str]] = {}
    for table in build_snapshot.OFFERS:
        for row in read_rows(table):
            price = float(row["price_usd_per_hour"]), row["observed_on"]
            row["instance_type"] = same_machine.get(row["instance_type"], row["instance_type"])
            row["zone"] = place_of(row["region"], row["zone"])
            facts[tuple(row[name] or None for name in keys)] = price
    frames = [
        book.frame.select(*keys, "usd_per_hour", "observed_on") for book in (snapshot(), OtherClouds().load())
    ]
    held = {
        (*row[:4], place_of(str(row[3]), row[4] or "") or None, row[5]): row[6:]
        for row in pl.concat(frames).iter_rows()
    }
    assert held.items() <= facts.items()
    dropped = sorted((str(key[0]), str(key[1]), str(key[5])) for key in facts.keys() - held.keys())
    assert Counter(dropped) == {
        ("aws", "sagemaker", "on_demand"): 7,
        ("azure", "azure_vm", "on_demand"): 3,
        ("azure", "azure_vm", "savings_1y"): 3,
        ("azure", "azure_vm", "spot"): 116,
        ("aws", "ec2", "spot"): 10,
        ("gcp", "gce", "on_demand"): 57,
        ("gcp", "gce", "reserved_1y"): 59,
        ("gcp", "gce", "reserved_3y"): 60,
        ("gcp", "gce", "spot"): 60,
        ("gcp", "tpu", "on_demand"): 7,
        ("gcp", "tpu", "spot"): 7,
    }
    assert sum(int(rows) for rows in build_snapshot.LEFT_OUT["rows"]) == len(dropped)
