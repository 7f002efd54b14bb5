"""`recommend` and the price plug-ins: a broken one costs its own cloud, wrong words are refused with near ones."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from builders.profiles import gpt_profile
from builders.toy_market import book, offer_row, small_job
from trainfare.prices.sources import load_prices
from trainfare.recommendation import recommend
from trainfare_core.errors import (
    InputError,
    NoOffersError,
    PricesUnavailableError,
    ProfileError,
    UnknownNameError,
)
from trainfare_core.prices.book import PriceBook

PRICES = book(
    offer_row(instance_type="p4d", accelerator="A100-SXM-40GB", accelerator_count=8.0, usd_per_hour=30.0),
    offer_row(instance_type="p4d", region="eu-west-1", accelerator="A100-SXM-40GB", accelerator_count=8.0, usd_per_hour=33.0),
    offer_row(instance_type="p4d", accelerator="A100-SXM-40GB", accelerator_count=8.0, usd_per_hour=9.0, purchase_option="spot"),
    offer_row(provider="gcp", service="gce", region="us-central1", instance_type="g2", accelerator="L4-24GB", usd_per_hour=0.7),
    offer_row(provider="gcp", service="gce", region="us-central1", instance_type="g2", accelerator="L4-24GB", usd_per_hour=0.5, purchase_option="reserved_1y"),
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """An entry point that makes what it is told to."""

    name: str
    make: Callable[[], Any]

    def load(self) -> Any:
        """Return the provider class."""
        return self.make()


def provider(rows: PriceBook) -> Callable[[], Any]:
    class Provider:
        name = "fake"

        def load(self) -> PriceBook:
            return rows

    return lambda: Provider


def failing(error: BaseException, *, when: str) -> Callable[[], Any]:
    """Make a plug-in that fails while it is imported, built, or loaded."""

    def fail(*_: object) -> Any:
        raise error

    if when == "import":
        return fail
    return (lambda: fail) if when == "build" else (lambda: type("P", (), {"name": "p", "load": fail}))


@pytest.mark.parametrize("when", ["import", "build", "load"])
@pytest.mark.parametrize(
    "error",
    [
        ImportError("no boto9"),
        KeyError("token=SECRET"),
        SystemExit(3),
        RecursionError(),
        PricesUnavailableError("no such table"),
    ],
)
def test_a_broken_plugin_costs_its_own_cloud_alone(error: BaseException, when: str) -> None:
    """The others' prices are there, the broken one is named, and a foreign message is not repeated."""
    loaded = load_prices([Entry("good", provider(PRICES)), Entry("bad", failing(error, when=when))])
    assert len(loaded.book) == len(PRICES)
    assert len(loaded.problems) == 1
    assert "'bad'" in loaded.problems[0]
    assert "SECRET" not in loaded.problems[0]
    assert ("no such table" in loaded.problems[0]) == isinstance(error, PricesUnavailableError)


def test_a_plugin_that_returns_something_else_is_named() -> None:
    """A list is not a price book."""
    wrong = type("P", (), {"name": "p", "load": lambda self: []})
    loaded = load_prices([Entry("good", provider(PRICES)), Entry("odd", lambda: wrong)])
    assert "returned list instead of a PriceBook" in loaded.problems[0]


def test_ctrl_c_in_a_plugin_stops() -> None:
    """What the user does is not swallowed."""
    with pytest.raises(KeyboardInterrupt):
        load_prices([Entry("slow", failing(KeyboardInterrupt(), when="load"))])


def test_order_of_plugins_does_not_matter() -> None:
    """Problems and prices come in the order of the names."""
    entries = [Entry(name, failing(ImportError(), when="import")) for name in "cab"] + [
        Entry("ok", provider(PRICES))
    ]
    assert load_prices(entries).problems == load_prices(entries[::-1]).problems


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([], "no price source is installed"),
        (
            [Entry("a", failing(ImportError(), when="import")), Entry("b", failing(OSError(), when="load"))],
            "'b' is broken",
        ),
        ([Entry("empty", provider(PriceBook.empty()))], "there are no prices"),
    ],
)
def test_no_prices_at_all_is_an_error_that_names_each_plugin(entries: list[Entry], words: str) -> None:
    """All clouds down is 'cannot tell', never an empty ranking."""
    with pytest.raises(PricesUnavailableError, match=words):
        load_prices(entries)


def test_the_installed_snapshot_covers_the_three_clouds() -> None:
    """The default needs no network and no credentials."""
    assert {"aws", "azure", "gcp"} <= set(load_prices().book.names("provider"))


def test_recommend_ranks_a_profile() -> None:
    """A profile and a book give a ranked answer with this version in it."""
    from trainfare_core.installation import __version__

    answer = recommend(gpt_profile(batch_size=32), price_book=PRICES)
    assert answer.tool_version == __version__
    assert answer.options
    assert {option.purchase_option for option in answer.options} <= {"on_demand", "spot"}
    assert answer.cheapest_rank is not None


def test_recommend_reads_a_file(tmp_path: Path) -> None:
    """A path to a profile is as good as the profile."""
    job = gpt_profile(batch_size=32)
    path = tmp_path / "job.json"
    path.write_text(job.to_json(), encoding="utf-8")
    assert recommend(path, price_book=PRICES) == recommend(job, price_book=PRICES)
    with pytest.raises(ProfileError):
        recommend(tmp_path / "none.json", price_book=PRICES)


def test_names_are_taken_as_the_book_spells_them() -> None:
    """Case does not matter, one name needs no list, and filters are recorded."""
    asked: dict[str, Any] = {"purchase": "reserved_1y", "use": 0.9, "price_book": PRICES}
    day = datetime(2026, 11, 24, tzinfo=timezone.utc)  # prices of a year before are not ranked
    answer = recommend(gpt_profile(batch_size=32), providers="GCP", now=day, **asked)
    assert {option.purchase_option for option in answer.options} == {"reserved_1y"}
    assert (answer.constraints.providers, answer.constraints.purchase) == (("gcp",), ("reserved_1y",))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"providers": ["awz"]}, "aws"),
        ({"regions": "us-centrall1"}, "us-central1"),
        ({"providers": "gcp", "regions": "eu-west-1"}, "eu-west-1"),
        ({"purchase": ["sport"]}, "spot"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(options: dict[str, Any], words: str) -> None:
    """Nothing is picked for the user; a region of another cloud is unknown here."""
    with pytest.raises(UnknownNameError, match=words):
        recommend(small_job(), price_book=PRICES, **options)


def test_filters_that_leave_nothing_say_what_there_is() -> None:
    """Known names without a common price are 'no offers', and name the purchase options that exist."""
    with pytest.raises(NoOffersError, match=r"on_demand, reserved_1y"):
        recommend(small_job(), providers="gcp", purchase="spot", price_book=PRICES)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"max_usd": math.nan}, "max_usd"),
        ({"max_usd": -1.0}, "max_usd"),
        ({"deadline_hours": math.inf}, "deadline_hours"),
        ({"value_usd_per_month": -1.0}, "value_usd_per_month"),
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": math.nan}, "confidence"),
        ({"confidence": 0.4}, "confidence"),
        ({"limit": 0}, "limit"),
        ({"max_nodes": 0}, "max_nodes"),
        ({"max_nodes": 65}, "max_nodes"),
        ({"objective": "fastes"}, "did you mean fastest"),
    ],
)
def test_numbers_and_words_are_checked_at_the_border(options: dict[str, Any], word: str) -> None:
    """What is out of range is refused by the name of its field."""
    with pytest.raises(InputError, match=word):
        recommend(small_job(), price_book=PRICES, **options)


def test_something_that_is_no_job_is_refused() -> None:
    """A dict is not a job, and the error says what is."""
    wrong: Any = {"name": "x"}
    with pytest.raises(InputError, match="got dict"):
        recommend(wrong, price_book=PRICES)


def test_importing_and_ranking_loads_no_torch() -> None:
    """Importing the module loads neither torch nor polars; ranking a profile still loads no torch."""
    script = """
import sys
import trainfare.recommendation
early = {"torch", "polars", "numpy", "lightning", "pytorch_lightning", "boto3", "azure"} & set(sys.modules)
assert not early, early
sys.path.insert(0, sys.argv[1])
from builders.toy_market import book, offer_row, small_job
job = small_job()
for loop in ("", "huggingface"):
    job = job.model_copy(update={"source": job.source.model_copy(update={"loop": loop})})
    trainfare.recommendation.recommend(job, price_book=book(offer_row()))
late = {"torch", "lightning", "pytorch_lightning", "transformers"} & set(sys.modules)
assert not late, late
"""
    tests = str(Path(__file__).resolve().parents[1])
    done = subprocess.run([sys.executable, "-c", script, tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
