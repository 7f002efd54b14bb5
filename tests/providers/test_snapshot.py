"""The snapshot in the wheel: whole, dated, and free of the traps that its sources hold."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files

import polars as pl
import pytest

from trainfare_core.errors import PricesUnavailableError
from trainfare_core.hardware.accelerators import accelerator
from trainfare_core.prices.book import PriceBook, PriceProvider
from trainfare_core.prices.intake import BOOK_SCHEMA
from trainfare_providers.snapshot import SnapshotProvider, _read


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
    """6,208 rows are read, none is refused, and the file stays small."""
    book = snapshot()
    assert len(book) == 6208
    assert sum(intake.rows_read for intake in book.intakes) == 6208
    assert {(i.filtered_rows, i.quarantined_rows, i.degraded) for i in book.intakes} == {(0, 0, False)}
    assert {(f.provider, f.service): f.rows for f in book.facts()} == {
        ("aws", "ec2"): 2724,
        ("aws", "sagemaker"): 70,
        ("azure", "azure_vm"): 1057,
        ("gcp", "gce"): 1557,
        ("gcp", "tpu"): 800,
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
    # GoogleCloudPlatform/accelerated-platforms, run_benchmark.sh, prices as of April 2026: 15 % above the share
    ("gcp:g4-standard-6@us-central1", 0.646860625),
    ("gcp:g4-standard-12@us-central1", 1.29372125),
    ("gcp:g4-standard-24@us-central1", 2.5874425),
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


@pytest.mark.parametrize(
    "wanted",
    [
        # SkyPilot's fetch_gcp.py: "hidden in the skus. We assume the TPU prices are the same as us-central1"
        *(
            {"instance_type": f"v3-{size}", "region": "us-east1"}
            for size in (32, 64, 128, 256, 512, 1024, 2048)
        ),
        # 1,032 GiB at the price of NC288lds with 516 GiB, where NC144ds is 16 % above NC144lds
        {"instance_type": "Standard_NC288ds_xl_RTXPRO6000BSE_v6"},
        # the same machine as Standard_ND96asr_v4
        {"instance_type": "Standard_ND96asr_A100_v4"},
        # shares of a GPU at their share of the whole machine
        {"instance_type": "g4-standard-12", "region": "us-east1"},
        {"instance_type": "g4-standard-12", "purchase_option": "spot"},
        # three times the capacity block of the same machine
        {"instance_type": "trn2.3xlarge", "region": "ap-southeast-4", "purchase_option": "spot"},
    ],
)
def test_what_is_known_to_be_wrong_is_left_out(wanted: dict[str, str]) -> None:
    """A price that is an assumption, a copy of another machine's or of another SKU is no price."""
    assert rows(**wanted).is_empty()


def test_one_machine_has_one_name_and_a_zone_its_id() -> None:
    """
    Prices under both names of ND96asr are one list; Local and Wavelength Zones have the ids that AWS lists.

    https://docs.aws.amazon.com/local-zones/latest/ug/available-local-zones.html: us-east-1-atl-2a is use1-atl2-az1,
    us-east-1-dfw-2a use1-dfw2-az1, us-west-2-lax-1a usw2-lax1-az1;
    https://docs.aws.amazon.com/wavelength/latest/developerguide/available-wavelength-zones.html: use1-wl1-atl-wlz1.
    """
    west = rows(instance_type="Standard_ND96asr_v4", region="westeurope")
    assert set(west["purchase_option"]) == {"on_demand", "savings_1y", "spot"}
    zones = rows(provider="aws")["zone"].drop_nulls().unique()
    assert zones.str.contains(r"^[a-z]{3,4}\d(-[a-z]{3}\d)?-az\d$|^[a-z]{3,4}\d-wl\d-[a-z]{3}-wlz\d$").all()
    assert {"use1-atl2-az1", "use1-dfw2-az1", "usw2-lax1-az1", "use1-wl1-atl-wlz1"} <= set(zones)
    assert set(rows(zone="use1-atl2-az1")["purchase_option"]) == {"capacity_block", "spot"}


def test_trainium2_has_its_nominal_memory() -> None:
    """The EC2 API says 512 GiB a device; the maker says 96."""
    assert rows(accelerator="Trainium2")["accelerator_memory_gib"].unique().to_list() == [96.0]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (
            {"purchase_option": "capacity_block", "observed_on": "2026-07-22"},
            "paid in advance for a booked time",
        ),
        ({"source_class": "quote", "purchase_option": "spot"}, "third party's"),
        (
            {"instance_type": "g4-standard-6"},
            "Google's benchmark script of April 2026, which names no region",
        ),
        ({"instance_type": "a3-ultragpu-8g", "purchase_option": "spot"}, "without the machine's local SSD"),
        (
            {"instance_type": "a3-ultragpu-8g", "region": "us-east4", "purchase_option": "on_demand"},
            "with local SSD at the rate of us-central1",
        ),
        ({"observed_on": "2023-10", "purchase_option": "spot"}, "old spot price of an estimated date"),
        ({"instance_type": "a3-highgpu-1g", "purchase_option": "on_demand"}, "only as spot or flex-start"),
        ({"instance_type": "Standard_NC24rs_v3"}, "retired"),
        ({"instance_type": "n1-standard-8+nvidia-tesla-v100x1"}, "sum of a host price and a GPU price"),
    ],
)
def test_known_uncertainties_are_caveats(wanted: dict[str, str], words: str) -> None:
    """A price that is known to be stale or doubtful says so in its row."""
    frame = rows(**wanted)
    assert not frame.is_empty()
    assert frame["caveat"].str.contains(words, literal=True).all()


def test_sound_prices_have_no_caveat() -> None:
    """A caveat means something because most rows have none."""
    listed = rows(instance_type="p5.48xlarge", purchase_option="on_demand", source_class="api_copy")
    assert listed.height > 10
    assert listed["caveat"].null_count() == listed.height
    copies = rows(instance_type="a3-highgpu-1g", purchase_option="spot", source_class="api_copy")
    assert copies["caveat"].drop_nulls().is_empty()
    assert snapshot().frame["caveat"].null_count() > 5500


def test_estimated_dates_are_marked() -> None:
    """Dates that were inferred say so; dates that a source states do not."""
    estimated = snapshot().frame.filter("observed_on_estimated")["observed_on"].unique().sort().to_list()
    assert estimated == ["2023-10", "2023-12", "2026-03", "2026-07", "2026-08"]
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
    assert rows(service="tpu")["network_gbit_per_s"].null_count() == 800
    for name in (
        "p4d.24xlarge",
        "p5.48xlarge",
        "ml.p5.48xlarge",
        "Standard_ND96isr_H100_v5",
        "a3-megagpu-8g",
    ):
        assert rows(instance_type=name)["network_gbit_per_s"].null_count() == 0


def test_other_clouds_are_quotes_of_their_own_provider() -> None:
    """148 prices of Oracle and 15 GPU clouds, all marked as quotes, on accelerators that the table knows."""
    (entry,) = (entry for entry in entry_points(group="trainfare.providers") if entry.name == "other_clouds")
    provider = entry.load()()
    assert isinstance(provider, PriceProvider)
    frame = provider.load().frame
    assert frame.height == 148
    assert frame["provider"].n_unique() == 16
    assert frame["origin"].unique().to_list() == ["other_clouds"]
    assert (
        frame["caveat"]
        .str.contains("a quote: the host's network, disks and availability", literal=True)
        .all()
    )
    credited = frame.filter(pl.col("source").str.starts_with("adriannutiu/"))
    assert credited["caveat"].str.contains("credit: gpurentalprices.com (CC BY 4.0)", literal=True).all()
    for name, memory_gib in frame.select("accelerator", "accelerator_memory_gib").unique().iter_rows():
        assert accelerator(name).memory_bytes / 2**30 == pytest.approx(memory_gib, rel=0.08), name


def test_capacity_blocks_terms_and_savings_plans_are_in_it() -> None:
    """Every purchase option that the November tables added is there."""
    counts = snapshot().frame["purchase_option"].value_counts().rows()
    assert {"capacity_block", "reserved_3y", "savings_1y", "reserved_1y", "spot", "on_demand"} <= dict(
        counts
    ).keys()
    assert rows(provider="aws", purchase_option="spot")["zone"].n_unique() > 50


@pytest.mark.sources
def test_stored_columns_are_the_book_s() -> None:
    """The file has the columns of a book and no others, so that a later schema is a conscious change."""
    stored = set(pl.read_parquet_schema(files("trainfare_providers.snapshot") / "offers.parquet"))
    assert stored == set(BOOK_SCHEMA) - {"origin", "sku", "fetched_at", "interruption_band"}


def test_a_file_that_the_package_lacks_is_said() -> None:
    """A broken installation is no reason for a traceback."""
    with pytest.raises(PricesUnavailableError, match="snapshot: the file in the package is missing; install"):
        _read("none.parquet", "snapshot")
