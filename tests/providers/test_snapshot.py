"""The snapshot in the wheel: whole, dated, and free of the traps that its sources hold."""

from __future__ import annotations

import csv
import importlib.util
import math
import random
import sys
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prices.book import BOOK_SCHEMA, PriceBook, PriceProvider
from trainfare_providers.snapshot import SnapshotProvider

TOP = Path(__file__).resolve().parents[2]
SCRIPT = TOP / "scripts" / "build_snapshot.py"
FACTS = TOP.parent / "shared" / "data" / "prices" / "offers.csv"


@cache
def snapshot() -> PriceBook:
    return SnapshotProvider().load()


def rows(**wanted: str) -> pl.DataFrame:
    return snapshot().frame.filter(*(pl.col(name) == value for name, value in wanted.items()))


def test_it_is_a_registered_provider() -> None:
    """The entry point names a class that keeps the provider's contract."""
    (entry,) = (entry for entry in entry_points(group="trainfare.providers") if entry.name == "snapshot")
    provider = entry.load()()
    assert isinstance(provider, PriceProvider)
    assert provider.name == "snapshot"


def test_every_row_is_read_and_accepted() -> None:
    """5,201 rows are read, none is refused, and the file stays small."""
    book = snapshot()
    assert len(book) == 5201
    assert sum(intake.rows_read for intake in book.intakes) == 5201
    assert {(i.filtered_rows, i.quarantined_rows, i.degraded) for i in book.intakes} == {(0, 0, False)}
    assert {(f.provider, f.service): f.rows for f in book.facts()} == {
        ("aws", "ec2"): 1808,
        ("aws", "sagemaker"): 32,
        ("azure", "azure_vm"): 949,
        ("gcp", "gce"): 1778,
        ("gcp", "tpu"): 634,
    }
    assert len((files("trainfare_providers.snapshot") / "offers.parquet").read_bytes()) < 60_000


def test_every_price_carries_its_provenance() -> None:
    """Each row has a source, how it came by the price, a date as precise as the source, and its origin."""
    frame = snapshot().frame
    assert (
        frame.select(pl.col("source", "source_class", "observed_on").is_null().any()).row(0) == (False,) * 3
    )
    assert set(frame["source_class"].unique()) == {"api_copy", "catalogue", "quote"}
    assert frame["observed_on"].str.contains(r"^20\d\d-\d\d(-\d\d)?$").all()
    assert frame["origin"].unique().to_list() == ["snapshot"]
    assert frame.filter(pl.col("source_class") == "quote")["source"].str.contains("cloud.google.com").all()


def test_every_accelerator_is_in_the_catalogue_with_its_memory() -> None:
    """What the snapshot rents, the accelerator table knows, and both give it the same nominal memory."""
    pairs = snapshot().frame.select("accelerator", "accelerator_memory_gib").unique()
    for name, memory_gib in pairs.iter_rows():
        known = accelerator(name)
        assert known.name == name
        assert known.memory_bytes / 2**30 == pytest.approx(memory_gib, rel=0.08), name


# From the sources that the snapshot's README names, and where marked, from a second one.
LIST_PRICES = [
    ("aws:p5.48xlarge@us-east-1", 55.04),  # two trackers saw the cut from 98.32 on 2025-06-05
    ("aws:p4d.24xlarge@us-east-1", 21.957642),  # two catalogues agree
    ("aws:p4de.24xlarge@us-east-1", 27.44705),
    ("aws:p5en.48xlarge@us-east-1", 63.296),
    ("aws:g5.xlarge@us-east-1", 1.006),
    ("aws:p3.2xlarge@us-east-1", 3.06),
    ("aws:trn1.32xlarge@us-east-1", 21.50),
    ("azure:Standard_ND96isr_H100_v5@eastus", 98.32),
    ("azure:Standard_ND96asr_v4@eastus", 27.197),
    ("azure:Standard_NC24ads_A100_v4@eastus", 3.673),
    ("azure:Standard_NC40ads_H100_v5@centralus", 8.585),  # a catalogue's hand-made row says 6.98
    (
        "gcp:a2-highgpu-1g@us-central1",
        3.673385,
    ),  # = 12 cores + 85 GiB + one GPU by the billing catalogue's SKUs
    ("gcp:a3-highgpu-8g@us-central1", 88.49),  # with local SSD; a catalogue's reservation SKU says a third
    ("gcp:a3-ultragpu-8g@us-central1", 84.806908),  # a catalogue's reservation SKU says 36.60
    ("gcp:v5p-8@us-east5", 16.80),  # 4 chips of 4.20
]


@pytest.mark.parametrize(("machine", "usd_per_hour"), LIST_PRICES)
def test_known_list_prices(machine: str, usd_per_hour: float) -> None:
    """Prices that were checked by hand agree to the cent."""
    assert snapshot().find(machine).usd_per_hour == pytest.approx(usd_per_hour, abs=0.005)


@pytest.mark.parametrize(
    ("instance_type", "count"),
    [
        ("Standard_ND96isr_H100_v5", 8),  # a catalogue has 12
        ("Standard_NV6ads_A10_v5", 1 / 6),
        ("g4-standard-6", 1 / 8),
        ("v5p-8", 4),  # named by cores
        ("v5litepod-8", 8),  # named by chips
        ("v2-8", 4),
        ("trn1.32xlarge", 16),
        ("p2.16xlarge", 16),
    ],
)
def test_counts_are_physical_accelerators(instance_type: str, count: float) -> None:
    """A count is of chips or boards as the maker counts them, below 1 for a shared one."""
    counts = rows(instance_type=instance_type)["accelerator_count"].unique().to_list()
    assert counts == [pytest.approx(count, rel=1e-5)]


def test_trainium2_has_its_nominal_memory() -> None:
    """The EC2 API says 512 GiB a device; the maker says 96."""
    assert rows(accelerator="Trainium2")["accelerator_memory_gib"].unique().to_list() == [96.0]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"instance_type": "ml.p4d.24xlarge"}, "price cut of June 2025"),
        ({"instance_type": "ml.p5.48xlarge"}, "price cut of June 2025"),
        ({"instance_type": "ml.p3.16xlarge"}, "us-east-1 is assumed"),
        ({"provider": "azure", "purchase_option": "spot"}, "old spot price of an estimated date"),
        (
            {"instance_type": "Standard_ND96isr_H100_v5", "purchase_option": "spot"},
            "on-demand price as the spot",
        ),
        ({"instance_type": "a3-highgpu-1g", "purchase_option": "on_demand"}, "only as spot or flex-start"),
        ({"instance_type": "Standard_NC24rs_v3"}, "retired"),
        ({"instance_type": "n1-standard-8+nvidia-tesla-v100x1"}, "sum of a host price and a GPU price"),
        ({"instance_type": "a4-highgpu-8g"}, "third party's quote"),
    ],
)
def test_known_uncertainties_are_caveats(wanted: dict[str, str], words: str) -> None:
    """A price that is known to be stale or doubtful says so in its row."""
    found = rows(**wanted)
    assert not found.is_empty()
    assert found["caveat"].str.contains(words, literal=True).all()


def test_sound_prices_have_no_caveat() -> None:
    """A caveat means something because most rows have none."""
    assert (
        rows(instance_type="p5.48xlarge")["caveat"].null_count() == rows(instance_type="p5.48xlarge").height
    )
    assert rows(instance_type="a3-highgpu-1g", purchase_option="spot")["caveat"].drop_nulls().is_empty()
    assert snapshot().frame["caveat"].null_count() > 4600


def test_estimated_dates_are_marked() -> None:
    """Dates that were inferred say so; dates that a source states do not."""
    estimated = snapshot().frame.filter("observed_on_estimated")["observed_on"].unique().sort().to_list()
    assert estimated == ["2023-10", "2023-12", "2024-09", "2026-03", "2026-08"]
    assert not rows(observed_on="2026-07-20")["observed_on_estimated"].any()


def test_no_sentinels_or_other_units() -> None:
    """No 700-dollar sentinel, whole-term reservation or zero survives: 0.05 to 40 USD an accelerator-hour."""
    per_accelerator = (
        snapshot().frame.select(pl.col("usd_per_hour") / pl.col("accelerator_count")).to_series()
    )
    assert float(str(per_accelerator.min())) >= 0.05
    assert float(str(per_accelerator.max())) <= 40


def test_spot_costs_at_most_on_demand_in_the_snapshot() -> None:
    """In the same region the best spot price is at most the best on-demand price."""
    keys = ["provider", "service", "instance_type", "region"]
    best = {
        option: rows(purchase_option=option).group_by(keys).agg(pl.col("usd_per_hour").min().alias(option))
        for option in ("spot", "on_demand")
    }
    both = best["spot"].join(best["on_demand"], on=keys)
    assert both.height > 900
    # One source rounds to four decimals.
    assert (both["spot"] <= both["on_demand"] + 1e-4).all()


def test_networks_are_known_where_several_machines_make_sense() -> None:
    """The machines of big runs have a network rate; a TPU slice, whose links are inside, has none."""
    assert rows(service="tpu")["network_gbit_per_s"].null_count() == 634
    for name in (
        "p4d.24xlarge",
        "p5.48xlarge",
        "ml.p5.48xlarge",
        "Standard_ND96isr_H100_v5",
        "a3-megagpu-8g",
    ):
        assert rows(instance_type=name)["network_gbit_per_s"].null_count() == 0


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_snapshot", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_snapshot"] = module
    spec.loader.exec_module(module)
    return module


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


@pytest.mark.sources
def test_build_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    """The same table, also with its rows shuffled, makes the same file, byte for byte."""
    script = load_script()
    write_table(tmp_path / "a.csv")
    write_table(tmp_path / "b.csv", random.Random(7).shuffle)
    for name in "ab":
        assert len(script.build(tmp_path / f"{name}.csv", tmp_path / f"{name}.parquet")) == 200
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.sources
@pytest.mark.parametrize(
    "change", [{"price_usd_per_hour": "nan"}, {"source": "an unknown source"}, {"purchase_option": "free"}]
)
def test_build_refuses_a_table_with_a_bad_row(tmp_path: Path, change: dict[str, object]) -> None:
    """One invalid price, or one of an undescribed source, stops the build."""
    write_table(tmp_path / "bad.csv", lambda table: table[3].update(change))
    with pytest.raises(SystemExit, match="1 rows are no prices"):
        load_script().build(tmp_path / "bad.csv", tmp_path / "bad.parquet")


@pytest.mark.sources
@pytest.mark.skipif(
    not FACTS.exists(), reason="the table of facts that the snapshot was made from is not here"
)
def test_snapshot_is_the_table_of_facts() -> None:
    """Every fact is in the snapshot with the same price and date, and nothing else is."""
    keys = ("provider", "service", "instance_type", "region", "zone", "purchase_option")
    with FACTS.open(newline="", encoding="utf-8") as file:
        facts = {
            tuple(row[name] or None for name in keys): (float(row["price_usd_per_hour"]), row["observed_on"])
            for row in csv.DictReader(file)
        }
    held = snapshot().frame.select(*keys, "usd_per_hour", "observed_on")
    assert {row[:6]: row[6:] for row in held.iter_rows()} == facts
    assert all(math.isfinite(price) for price, _ in facts.values())


@pytest.mark.sources
def test_stored_columns_are_the_book_s() -> None:
    """The file has the columns of a book and no others, so that a later schema is a conscious change."""
    stored = set(pl.read_parquet_schema(files("trainfare_providers.snapshot") / "offers.parquet"))
    assert stored == set(BOOK_SCHEMA) - {"origin", "sku", "fetched_at", "interruption_band"}
