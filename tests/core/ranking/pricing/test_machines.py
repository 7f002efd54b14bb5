"""Distinct machines of offers, in one order whatever that of the offers."""

from __future__ import annotations

import polars as pl

from builders.toy_market import shapes
from trainfare_core.ranking.pricing.machines import SPLIT_KEYS, group_machines, sort_offers

NAMES = [f"V{number:02}-16GB" for number in range(40, 0, -1)]


def offers() -> pl.DataFrame:
    """Return two regions of one instance type with each of `NAMES`; sending the data costs nothing in one of them."""
    number = pl.Series("shape_id", range(len(NAMES)), dtype=pl.Int64)
    alike = {"provider": "gcp", "service": "gce", "instance_type": "n1-standard-8", "purchase_option": "spot"}
    of_region = pl.DataFrame(number).with_columns(
        number.cast(pl.Int32).alias("machine_id"),
        *(pl.lit(text).alias(key) for key, text in alike.items()),
        *(pl.lit(0.0).alias(key) for key in SPLIT_KEYS),
    )
    return pl.concat([of_region.with_columns(pl.lit(usd).alias("transfer_usd")) for usd in (9.0, 0.0)])


def test_machines_that_differ_in_the_accelerator_alone_are_in_the_order_of_its_name() -> None:
    """Google Cloud sells one instance type with several accelerators; of each the cheaper transfer comes first."""
    there = shapes(*((name, 1.0) for name in NAMES))
    for given in (offers(), offers().sample(fraction=1.0, shuffle=True, seed=1)):
        machines, machine_of_offer = group_machines(given, there)
        assert machines["shape_id"].to_list() == [row for row in range(39, -1, -1) for _ in range(2)]
        assert machines["transfer_usd"].to_list() == [0.0, 9.0] * 40
        for key in ("shape_id", "transfer_usd"):
            assert machines[key].gather(machine_of_offer).to_list() == given[key].to_list()


def test_one_offer_is_one_machine() -> None:
    machines, machine_of_offer = group_machines(offers().head(1), shapes((NAMES[0], 1.0)))
    assert (len(machines), machine_of_offer.tolist()) == (1, [0])


def test_offers_of_equal_price_have_one_order() -> None:
    """The surest first, then by region, zone, the newer date, source and SKU; what has none of them first."""
    columns = ("price_log_sigma", "region", "zone", "observed_on", "source", "sku")
    rows: list[tuple[float, str, str | None, str, str, str | None]] = [
        (0.1, "z", "c", "2026-01-01", "z", "z"),
        (0.2, "a", None, "2026-01-01", "z", "z"),
        (0.2, "a", "a", "2026-02-01", "z", "z"),
        (0.2, "a", "a", "2026-01-01", "a", "z"),
        (0.2, "a", "a", "2026-01-01", "b", None),
        (0.2, "a", "a", "2026-01-01", "b", "a"),
        (0.2, "a", "a", "2026-01-01", "b", "b"),
        (0.2, "a", "b", "2026-02-01", "a", "a"),
        (0.2, "b", "a", "2026-02-01", "a", "a"),
    ]
    frame = pl.DataFrame(rows, schema=list(columns), orient="row")
    for seed in range(3):
        assert sort_offers(frame.sample(fraction=1.0, shuffle=True, seed=seed)).rows() == rows
