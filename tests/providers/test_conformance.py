"""The conformance kit: what is sound passes, and each broken promise is found by its own rule."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from builders.offers import book_of, offer_row, small_market
from builders.processes import HANG_S
from trainfare_core.errors import PricesUnavailableError
from trainfare_core.prices.book import PriceBook
from trainfare_providers.conformance import assert_conforms, check_book, check_provider
from trainfare_providers.snapshot import SnapshotProvider


def plugin(load: Callable[[Any], Any], name: Any = "test") -> type:
    return type("Plugin", (), {"name": name, "load": load})


def rules(make: Callable[[], Any]) -> list[str]:
    return [finding.rule for finding in check_provider(make)]


def test_sound_provider_conforms() -> None:
    """A small good plug-in, and the snapshot that trainfare ships."""
    assert_conforms(plugin(lambda _: small_market()))
    assert check_provider(SnapshotProvider) == ()


def raises(error: Exception) -> Callable[[Any], Any]:
    def load(_: Any) -> Any:
        raise error

    return load


def goes_out(_: Any) -> PriceBook:
    with socket.socket() as out:
        out.settimeout(HANG_S)
        try:
            out.connect(("127.0.0.1", 9))
        except OSError:
            return small_market()
    return small_market()


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (plugin(raises(KeyError("x"))), "errors"),
        (plugin(raises(PricesUnavailableError("no list"))), "no prices"),
        (plugin(lambda _: PriceBook.empty()), "no prices"),
        (plugin(lambda _: []), "contract"),
        (dict, "contract"),
        (plugin(lambda _: small_market(), name="Test "), "name"),
        (plugin(lambda _: small_market(), name="other"), "origin"),
        (plugin(goes_out), "offline"),
    ],
)
def test_plugin_that_breaks_the_contract_is_reported(make: Callable[[], Any], rule: str) -> None:
    """Foreign errors, nothing at all, another type, a name that is none, and the network during load()."""
    assert rule in rules(make)


def test_failing_constructor_is_reported() -> None:
    """Nothing else can be checked then."""

    def fail() -> Any:
        raise RuntimeError("no")

    assert rules(fail) == ["constructor"]


def test_book_that_changes_between_loads_is_reported() -> None:
    """Loading twice must give the same book."""
    prices = iter((1.0, 2.0, 3.0))
    assert "same twice" in rules(plugin(lambda _: book_of(offer_row(usd_per_hour=10 + next(prices)))))


@pytest.mark.parametrize(
    ("rows", "rule"),
    [
        ([offer_row(usd_per_hour=2195.7)], "credible"),
        ([offer_row(usd_per_hour=0.001)], "credible"),
        ([offer_row(source_class="unstated")], "provenance"),
        ([offer_row(source_class="price_api", fetched_at=None)], "provenance"),
        ([offer_row(accelerator="H100")], "accelerators"),
        ([offer_row(accelerator_memory_gib=320.0)], "sanity"),
        ([offer_row(), offer_row(purchase_option="spot", usd_per_hour=30.0)], "spot"),
        ([offer_row(), offer_row(region="x", usd_per_hour=-1.0)], "degraded"),
    ],
)
def test_impossible_rows_are_reported(rows: list[dict[str, Any]], rule: str) -> None:
    """Cents for dollars, a sentinel, no source, an unknown accelerator, wrong memory, expensive spot, a degraded source."""
    assert rule in [finding.rule for finding in check_book(book_of(*rows))]


def test_rows_that_bypass_the_checks_are_reported() -> None:
    """A book made by hand, with a key twice and no counts."""
    frame = small_market().frame
    texts = [finding.rule for finding in check_book(PriceBook(frame.vstack(frame)))]
    assert {"one price a key", "counts"} <= set(texts)


def test_assertion_names_every_finding() -> None:
    """One line per finding, for a CI log."""
    with pytest.raises(AssertionError, match=r"credible: 1 rows are outside"):
        assert_conforms(plugin(lambda _: book_of(offer_row(usd_per_hour=5000.0))))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(["builtins:dict"], 1, "contract: "), (["builtins:"], 2, "usage: "), ([], 2, "usage: ")],
)
def test_the_command_ends_with_what_it_found(arguments: list[str], code: int, words: str) -> None:
    """1 after a finding, 2 where no class is named."""
    command = [sys.executable, "-m", "trainfare_providers.conformance", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert done.returncode == code
    assert words in done.stdout + done.stderr
