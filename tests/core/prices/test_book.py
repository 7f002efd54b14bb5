"""The price book: filters, names, order, shapes and single machines."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.offers import book_of, offer_row, small_market, table
from trainfare_core.errors import NoOffersError, PricesUnavailableError, UnknownNameError
from trainfare_core.prices.book import PriceBook, SortKey
from trainfare_core.prices.facts import Intake, PriceBookFacts, ReasonCount
from trainfare_core.prices.intake import PURCHASE_OPTIONS

SORTS: tuple[SortKey, ...] = ("price", "price-per-accelerator", "memory")


def machines(book: PriceBook) -> list[str]:
    return [offer.machine for offer in book.offers()]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({}, 7),
        ({"providers": ["aws"]}, 5),
        ({"providers": ["aws", "gcp"]}, 6),
        ({"services": ["tpu"]}, 1),
        ({"regions": ["us-east-1"]}, 4),
        ({"purchase": ["spot"]}, 1),
        ({"accelerators": ["A100-SXM-40GB"]}, 3),
        ({"accelerators": ["A100-SXM-40GB"], "purchase": ["on_demand"], "regions": ["eu-west-1"]}, 1),
        ({"instance_types": ["p5.48xlarge"]}, 1),
        ({"max_usd_per_hour": 9.5}, 3),
        ({"max_usd_per_hour": 9.4999}, 2),
        ({"providers": []}, 0),
        ({"providers": ["AWS"]}, 0),
    ],
)
def test_filters_keep_what_matches_all_of_them(filters: dict[str, Any], count: int) -> None:
    """Filters are exact, joined by 'and' between columns and 'or' within one; the price limit is inclusive."""
    assert len(small_market().filter(**filters)) == count


def test_shape_id_is_the_row_of_shapes_after_every_step() -> None:
    """`shape_id` points at the machine's own shape, also in a filtered, sorted or cut book, with no shape unused."""
    market = small_market()
    for book in (
        market,
        market.filter(providers=["aws"]),
        market.sort_by("price"),
        market.sort_by("price").head(3),
    ):
        shapes = book.shapes()
        assert sorted(set(book.frame["shape_id"].to_list())) == list(range(len(shapes)))
        for row in book.frame.iter_rows(named=True):
            index = row["shape_id"]
            assert shapes.accelerator[index] == row["accelerator"]
            assert shapes.accelerator_count[index] == row["accelerator_count"]
            for name in ("vcpus", "memory_gib", "network_gbit_per_s"):
                expected = np.nan if row[name] is None else row[name]
                np.testing.assert_equal(getattr(shapes, name)[index], expected)


def test_machine_id_joins_the_offers_of_one_machine() -> None:
    """Region and price do not make another machine; names, purchase option, shape and an unknown count of vCPUs do."""
    same = [offer_row(), offer_row(region="x", usd_per_hour=9.0)]
    others = [
        offer_row(instance_type="y"),
        offer_row(purchase_option="spot"),
        offer_row(region="z", network_gbit_per_s=100.0),
        offer_row(region="unknown", vcpus=None),
        offer_row(region="unknown as well", vcpus=None),
    ]
    for rows in ([*same, *others], [*others[::-1], *same]):
        frame = book_of(*rows).frame
        names = frame.select("instance_type", "purchase_option", "network_gbit_per_s", "vcpus").rows()
        assert len(set(frame["machine_id"].to_list())) == 5
        assert len({*zip(frame["machine_id"].to_list(), names, strict=True)}) == 5


def test_the_newest_date_is_that_of_the_offers_left() -> None:
    """A filtered book has its own; an empty one has none."""
    market = book_of(offer_row(observed_on="2026-01-02"), offer_row(region="x", observed_on="2026-03"))
    assert market.newest_date == "2026-03"
    assert market.filter(regions=["us-east-1"]).newest_date == "2026-01-02"
    assert PriceBook.empty().newest_date == ""


def test_offers_of_one_shape_share_it() -> None:
    """Region, price and purchase option do not make a new shape; another network does."""
    book = book_of(offer_row(), offer_row(region="x"), offer_row(purchase_option="spot"))
    assert len(book.shapes()) == 1
    assert len(book_of(offer_row(), offer_row(region="x", network_gbit_per_s=100.0)).shapes()) == 2


def test_empty_book_answers_like_any_other() -> None:
    """A book with no rows has no shapes, facts or offers, and raises nothing."""
    book = PriceBook.empty()
    assert (len(book), len(book.shapes()), book.facts(), list(book.offers())) == (0, 0, (), [])
    assert len(book.filter(providers=["aws"]).sort_by("memory").head(5)) == 0


def test_facts_say_rows_and_dates_per_service() -> None:
    """Facts carry the oldest and newest date as the source wrote them."""
    book = book_of(offer_row(observed_on="2025-02"), offer_row(region="x", observed_on="2026-07-20"))
    (facts,) = book.facts()
    assert (facts.provider, facts.service, facts.origin, facts.rows) == ("aws", "ec2", "test", 2)
    assert (facts.oldest, facts.newest) == ("2025-02", "2026-07-20")


@pytest.mark.parametrize(
    ("column", "typed", "found"),
    [
        ("provider", ["AWS", "gcp"], ("aws", "gcp")),
        ("accelerator", ["a100-sxm-40gb"], ("A100-SXM-40GB",)),
        ("accelerator", ["H100"], ("H100-SXM-80GB", "H100-NVL-94GB")),
        ("accelerator", ["L4"], ("L4-24GB",)),
        ("accelerator", ["H100", "h100-nvl-94gb"], ("H100-SXM-80GB", "H100-NVL-94GB")),
        ("purchase_option", ["reserved_3y"], ("reserved_3y",)),
        ("provider", None, None),
    ],
)
def test_typed_names_become_names_of_the_book(
    column: str, typed: list[str] | None, found: tuple[str, ...] | None
) -> None:
    """Case is forgiven and an accelerator family stands for its members; L4 never means L40S."""
    rows = [
        offer_row(instance_type=name, accelerator=name)
        for name in ("A100-SXM-40GB", "H100-SXM-80GB", "H100-NVL-94GB", "L4-24GB", "L40S-48GB")
    ]
    book = book_of(*rows, offer_row(provider="gcp"))
    resolved = book.resolve(column, typed)
    assert (None if resolved is None else set(resolved)) == (None if found is None else set(found))


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("p5", ("p5.4xlarge", "p5.48xlarge")),
        ("P5.48xlarge", ("p5.48xlarge",)),
        ("nd96isr_h100_v5", ("Standard_ND96isr_H100_v5",)),
        ("p5en", ("p5en.48xlarge",)),
    ],
)
def test_an_instance_family_stands_for_its_sizes(typed: str, found: tuple[str, ...]) -> None:
    """A name up to a dot stands for the sizes, and Azure's prefix may be left out; p5 never means p5en."""
    names = ("p5.4xlarge", "p5.48xlarge", "p5en.48xlarge", "Standard_ND96isr_H100_v5")
    resolved = book_of(*(offer_row(instance_type=name) for name in names)).resolve("instance_type", [typed])
    assert set(resolved or ()) == set(found)


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        (["h100"], {("gcp", "t4.1x")}),
        (["gcp"], {("aws", "p5.48xlarge")}),
        (["us-central1"], {("aws", "p5.48xlarge")}),
        (["p5"], {("gcp", "t4.1x")}),
        (["gce", "p5.48xlarge"], set()),
    ],
)
def test_a_name_to_exclude_may_be_of_any_kind(typed: list[str], left: set[tuple[str, str]]) -> None:
    """Cloud, service, region, instance type or accelerator; what has an excluded name is left out."""
    book = book_of(
        offer_row(instance_type="p5.48xlarge", accelerator="H100-SXM-80GB"),
        offer_row(
            provider="gcp", service="gce", region="us-central1", instance_type="t4.1x", accelerator="T4-16GB"
        ),
    )
    price_book = book.filter(excluded=book.resolve_excluded(typed))
    assert {(offer.provider, offer.instance_type) for offer in price_book.offers()} == left
    with pytest.raises(UnknownNameError, match="the excluded name 'H10'; near names: H100-SXM-80GB"):
        book.resolve_excluded(["H10"])


@pytest.mark.parametrize(
    ("column", "typed", "hint"),
    [
        ("provider", "asw", "aws"),
        ("region", "us-east-", "us-east-1"),
        ("accelerator", "H10", "H100-SXM-80GB"),
        ("accelerator", "A100-SXM-80GB", "A100-SXM-40GB"),
        ("purchase_option", "on-demand", "on_demand"),
        ("region", "", "known: eastus"),
    ],
)
def test_unknown_name_is_an_error_with_near_names(column: str, typed: str, hint: str) -> None:
    """A name that is not there is never replaced by a neighbour; the neighbour is only suggested."""
    with pytest.raises(UnknownNameError, match=hint):
        small_market().resolve(column, [typed])


def test_find_returns_the_on_demand_offer() -> None:
    """The machine's own name finds its on-demand price, not spot and not another region."""
    offer = small_market().find("aws:p4d.24xlarge@us-east-1")
    assert (offer.usd_per_hour, offer.purchase_option, offer.machine) == (
        21.957642,
        "on_demand",
        "aws:p4d.24xlarge@us-east-1",
    )
    assert offer.usd_per_accelerator_hour == pytest.approx(21.957642 / 8)
    assert (
        small_market().find("Azure:standard_nv6ads_a10_v5@EastUS").instance_type == "Standard_NV6ads_A10_v5"
    )
    assert small_market().find("gcp:v5p-8@us-east5-a").zone == "us-east5-a"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("p4d.24xlarge", "provider:instance_type@region"),
        ("aws:p4d.24xlarge", "provider:instance_type@region"),
        ("aws:@us-east-1", "provider:instance_type@region"),
        ("", "provider:instance_type@region"),
        ("awz:p4d.24xlarge@us-east-1", "near names: aws"),
        ("aws:p4d.24xlarg@us-east-1", "near names: p4d.24xlarge"),
        ("aws:p4d.24xlarge@us-east-2", "near names: us-east-1"),
        ("gcp:p4d.24xlarge@us-east-1", "instance type"),
    ],
)
def test_find_says_which_part_is_unknown(name: str, words: str) -> None:
    """A misspelt machine is an error that names the part and near spellings of it."""
    with pytest.raises(UnknownNameError, match=words):
        small_market().find(name)


def test_find_without_on_demand_price_says_what_there_is() -> None:
    """A machine that is only sold otherwise is a fair question without an answer."""
    with pytest.raises(NoOffersError, match="only: capacity_block, spot"):
        book_of(
            offer_row(purchase_option="spot"), offer_row(purchase_option="capacity_block", usd_per_hour=3.0)
        ).find("aws:p4d.24xlarge@us-east-1")


def test_find_prefers_the_region_and_refuses_to_guess_between_zones() -> None:
    """A local zone's price never stands for the region's; zones with different prices must be named."""
    region, zone = offer_row(usd_per_hour=1.0), offer_row(zone="us-east-1-atl-1", usd_per_hour=2.0)
    assert book_of(region, zone).find("aws:p4d.24xlarge@us-east-1").usd_per_hour == 1.0
    assert book_of(region, zone).find("aws:p4d.24xlarge@us-east-1-atl-1").usd_per_hour == 2.0
    other = offer_row(zone="us-east-1-bos-1", usd_per_hour=3.0)
    with pytest.raises(UnknownNameError, match="us-east-1-atl-1, us-east-1-bos-1"):
        book_of(zone, other).find("aws:p4d.24xlarge@us-east-1")


def test_sorts_put_the_best_first() -> None:
    """Price and price per accelerator rise, memory of the whole machine falls."""
    market = small_market()
    by_price = [offer.usd_per_hour for offer in market.sort_by("price").offers()]
    assert by_price == sorted(by_price)
    by_accelerator = [
        offer.usd_per_accelerator_hour for offer in market.sort_by("price-per-accelerator").offers()
    ]
    assert by_accelerator == sorted(by_accelerator)
    assert machines(market.sort_by("price-per-accelerator"))[0] == "aws:g6.xlarge@us-east-1"
    assert machines(market.sort_by("memory"))[0] == "aws:p5.48xlarge@us-east-1"


@settings(max_examples=60, deadline=None)
@given(prices=st.lists(st.sampled_from([1.0, 2.0]), min_size=2, max_size=12), seed=st.integers(0, 1000))
def test_order_of_rows_does_not_matter(prices: list[float], seed: int) -> None:
    """Permuted rows give the same filtered and sorted book, to the last tie, and the same shapes."""
    rows = [
        offer_row(region=f"r{index % 5}", zone=f"z{index}", usd_per_hour=price, vcpus=float(index % 3))
        for index, price in enumerate(prices)
    ]
    frame = table(*rows)
    book = PriceBook.from_rows(frame, origin="test")
    other = PriceBook.from_rows(frame.sample(fraction=1.0, shuffle=True, seed=seed), origin="test")
    for key in SORTS:
        ours, theirs = (book.filter(max_usd_per_hour=1.5).sort_by(key).frame for book in (book, other))
        assert ours.equals(theirs)
    np.testing.assert_array_equal(book.shapes().vcpus, other.shapes().vcpus)


def test_newer_price_wins_where_books_overlap() -> None:
    """Of two sources the newer one decides, in either order, and the counts say what became of the other."""
    old = book_of(offer_row(usd_per_hour=32.77, observed_on="2025-02"), offer_row(region="x"), origin="old")
    new = book_of(offer_row(), origin="new")
    for books in ([old, new], [new, old]):
        both = PriceBook.concat(books)
        assert sorted(both.frame["usd_per_hour"].to_list()) == [21.957642, 21.957642]
        assert both.find("aws:p4d.24xlarge@us-east-1").origin == "new"
        assert {i.origin: (i.rows_read, i.accepted) for i in both.intakes} == {
            "old": (2, 1),
            "new": (1, 1),
        }
    counted = {intake.origin: intake.filtered for intake in PriceBook.concat([old, new]).intakes}
    assert counted["old"] == (ReasonCount("an older price than another source's", 1),)


def test_equally_old_sources_that_disagree_cancel_out() -> None:
    """Two prices of one day for one machine: neither is believed."""
    both = PriceBook.concat(
        [book_of(offer_row(), origin="a"), book_of(offer_row(usd_per_hour=1.0), origin="b")]
    )
    assert len(both) == 0
    assert [(i.accepted, i.quarantined_rows) for i in both.intakes] == [(0, 1), (0, 1)]


def test_books_without_overlap_add_up() -> None:
    """Clouds from different plug-ins stand side by side with their own counts and common shapes."""
    both = PriceBook.concat(
        [book_of(offer_row(), origin="a"), PriceBook.empty(), small_market().filter(services=["tpu"])]
    )
    assert len(both) == 2
    assert both.names("provider") == ("aws", "gcp")
    assert len(both.shapes()) == 2
    assert len(PriceBook.concat([])) == 0


def test_intake_of_a_filtered_book_is_what_was_read() -> None:
    """Filtering is a question, not a fault of the source."""
    assert small_market().filter(providers=["gcp"]).intakes == small_market().intakes
    assert small_market().intakes[0] == Intake("test", "aws", "ec2", 5, 5)


@pytest.mark.parametrize("damage", [b"", b"not parquet", b"PAR1" + b"\0" * 64 + b"PAR1"])
def test_damaged_file_is_a_typed_error(damage: bytes) -> None:
    """A file that is not Parquet costs its own source with a message, not a foreign traceback."""
    with pytest.raises(PricesUnavailableError, match="test: the price table cannot be read"):
        PriceBook.read_parquet(io.BytesIO(damage), origin="test")


def test_parquet_rows_pass_the_same_checks() -> None:
    """A file on disk is not trusted more than a web page."""
    file = io.BytesIO()
    pl.concat([table(offer_row()), table(offer_row(region="x", usd_per_hour=float("nan")))]).write_parquet(
        file
    )
    file.seek(0)
    book = PriceBook.read_parquet(file, origin="test")
    assert (len(book), book.intakes[0].quarantined_rows) == (1, 1)


def test_facts_say_what_became_of_every_row() -> None:
    """A report can show that accepted, filtered and quarantined add up to what was read, and that a source is sick."""
    book = book_of(offer_row(), offer_row(region="x", usd_per_hour=0.0), offer_row(accelerator=None))
    (facts,) = book.facts()
    assert (facts.rows_read, facts.accepted, facts.filtered, facts.quarantined) == (3, 1, 1, 1)
    assert facts.degraded
    assert PriceBook(book.frame).facts()[0].rows_read is None


def test_any_stands_for_every_purchase_option() -> None:
    """`any`, in either case, resolves to all options, also to those that the book has no price of."""
    assert small_market().resolve("purchase_option", ["Any"]) == PURCHASE_OPTIONS


def test_a_misspelt_any_is_recognised() -> None:
    """The error names it with the other options."""
    with pytest.raises(UnknownNameError, match="near names: any"):
        small_market().resolve("purchase_option", ["anny"])


def test_quotes_of_other_clouds_are_set_apart() -> None:
    """Every offer is on one side: quotes of clouds that are ranked only when asked for, and the others."""
    ours, quotes = book_of(offer_row()), book_of(offer_row(region="x"), origin="other_clouds")
    both = PriceBook(pl.concat([ours.frame, quotes.frame]))
    assert both.without_other_clouds().names("region") == ours.names("region")
    assert both.of_other_clouds().names("region") == ("x",)


def test_facts_that_do_not_say_so_are_of_a_healthy_source() -> None:
    """Answers of earlier versions have no such field."""
    old = PriceBookFacts(
        provider="aws", service="ec2", origin="test", rows=1, oldest="2026-01-01", newest="2026-01-01"
    )
    assert not old.degraded
