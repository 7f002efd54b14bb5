"""A wrong price of every kind, planted in the shipped snapshot, is found; the snapshot itself has none."""

from __future__ import annotations

from functools import cache

import polars as pl
import pytest

from trainfare_core.prices import sanity
from trainfare_core.prices.book import PriceBook
from trainfare_providers.snapshot import SnapshotProvider
from trainfare_providers.whole_book import check_whole_book

FAR = "price per accelerator far from the median of its accelerator and purchase option"


@cache
def load_shipped() -> pl.DataFrame:
    return PriceBook.concat([SnapshotProvider().load()]).rows


def plant(row: str, usd_per_hour: float, **fields: str | float) -> pl.DataFrame:
    """
    Return the snapshot with another price of a row, or with a copy of it that has other fields.

    Args:
        row: `machine@place option`: a zone, or a region as a whole.
        usd_per_hour: the wrong price.
        fields: of the copy.
    """
    name, _, rest = row.partition("@")
    place, option = rest.split()
    here = (pl.col("zone") == place) | ((pl.col("region") == place) & pl.col("zone").is_null())
    wrong = (pl.col("instance_type") == name) & here & (pl.col("purchase_option") == option)
    planted = (
        load_shipped()
        .filter(wrong)
        .with_columns(
            **{column: pl.lit(value) for column, value in {**fields, "usd_per_hour": usd_per_hour}.items()}
        )
    )
    assert planted.height == 1, row
    rest_of_book = load_shipped() if fields else load_shipped().filter(~wrong.fill_null(value=False))
    return pl.concat([rest_of_book, planted])


def test_the_shipped_snapshot_is_plausible() -> None:
    """Every price passes, or is accepted by a line that says how many prices it is for, and why."""
    findings, accepted = check_whole_book(load_shipped())
    assert findings == ()
    assert sum(count.rows for count in accepted) < 0.08 * load_shipped().height
    assert all(len(count.reason.partition(": ")[2]) > 20 for count in accepted)


@pytest.mark.parametrize(
    ("rule", "row", "usd_per_hour", "fields"),
    [
        # A block of 26 h whose minutes replace its hours is 45.6 times too dear: botocore, CapacityBlockOffering,
        # "number of hours (in addition to capacityBlockDurationMinutes)".
        (sanity.BLOCK_ABOVE, "p5.48xlarge@us-east-1 capacity_block", 1720.78, {}),
        (sanity.ABOVE_ON_DEMAND, "g6.12xlarge@use1-az4 spot", 5.0, {}),
        (sanity.COMMITTED_ABOVE, "g5.8xlarge@us-east-1 reserved_1y", 2.5, {}),
        # An hour's price, divided by the hours of a year once more.
        (sanity.COMMITTED_BELOW, "g5.8xlarge@us-east-1 reserved_1y", 1.54224 / 8760, {}),
        (sanity.MORE_FOR_LESS, "g5.48xlarge@us-east-1 on_demand", 5.0, {}),
        # AWS gives up to 90 % off; on demand 0.8048.
        ("spot below the largest discount of its cloud", "g6.xlarge@use1-az4 spot", 0.07, {}),
        ("spot more than 4 times another zone of its region", "g6.24xlarge@eus2-az2 spot", 6.0, {}),
        # As the snapshot had them until 2026-11-30.
        (
            "spot above the capacity block of a machine without an on-demand price",
            "trn2.3xlarge@ap-southeast-4 capacity_block",
            6.9846,
            {"purchase_option": "spot"},
        ),
        (
            "a share of an accelerator for no more than its share of the whole one",
            "g4-standard-6@us-central1 on_demand",
            0.55955625,
            {},
        ),
        (
            "the price of a machine of another size, to the cent",
            "Standard_NC288lds_xl_RTXPRO6000BSE_v6@westeurope on_demand",
            15.74,
            {"instance_type": "Standard_NC288ds_xl_RTXPRO6000BSE_v6", "memory_gib": 1032.0},
        ),
        (
            "one machine under two names",
            "Standard_ND96asr_v4@westeurope on_demand",
            35.357,
            {"instance_type": "Standard_ND96asr_A100_v4"},
        ),
        # 7 % too dear in one region, and a size, a slice of a TPU and a machine in another unit.
        (
            "not in proportion to the other sizes of its family, region by region",
            "g6.12xlarge@eu-central-1 on_demand",
            5.75429 * 1.07,
            {},
        ),
        (
            "another price per accelerator than sizes with the same host",
            "a2-highgpu-4g@us-central1 on_demand",
            4 * 3.673385 * 1.03,
            {},
        ),
        (
            "another price per accelerator than sizes with the same host",
            "v6e-16@us-east5-a on_demand",
            16 * 2.7 / 2,
            {},
        ),
        (FAR, "p5en.48xlarge@us-east-1 on_demand", 63.296 * 730, {}),
        (FAR, "p5en.48xlarge@us-east-1 on_demand", 63.296 / 8, {}),
    ],
)
def test_a_wrong_price_of_each_kind_is_found(
    rule: str, row: str, usd_per_hour: float, fields: dict[str, str | float]
) -> None:
    """The finding names the rule, the machine and the price."""
    findings, _ = check_whole_book(plant(row, usd_per_hour, **fields))
    machine = fields.get("instance_type", row.partition("@")[0])
    needle = f":{machine}@"
    assert any(
        finding.rule == rule and needle in finding.detail and f"{usd_per_hour:g} USD" in finding.detail
        for finding in findings
    ), findings


def test_what_is_accepted_is_accepted_for_so_many_prices() -> None:
    """A price more that looks as odd as the accepted ones is a finding, and so is a line that nothing needs any more."""
    odd = plant("g6.16xlarge@us-east-1 on_demand", 9.0)
    details = [finding.detail for finding in check_whole_book(odd)[0] if finding.rule == FAR]
    assert details == [r"accepted for 5 prices, 6 need it: aws (ml\.)?g6\.16xlarge on_demand|reserved_1y"]
    line = {
        "rule": FAR,
        "provider": "",
        "instance_type": "none",
        "region": "",
        "purchase_option": "",
    }
    unneeded, _ = check_whole_book(load_shipped(), [{**line, "rows": "1", "reason": "a test"}])
    assert "accepted for 1 prices, 0 need it: none" in [finding.detail for finding in unneeded]


def test_neighbours_are_compared_without_regard_to_the_order_of_rows() -> None:
    """The same book in another order has the same findings."""
    findings, _ = check_whole_book(load_shipped(), [])
    assert len(findings) > 100
    assert check_whole_book(load_shipped().reverse(), [])[0] == findings
