"""Each registered cloud has a fault test, golden rows and an integrity test."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from faults.test_clouds import SOURCES as FAULT_SOURCES
from faults.test_quotas import SOURCES as QUOTA_SOURCES
from integrity.test_clouds import EXPECTED
from trainfare_core.prices.book import PriceProvider
from trainfare_providers.plugins import PROVIDER_GROUP, entries_with_prices, provider_entries

TOP = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.sources


def list_fetched_clouds() -> list[str]:
    """Return the clouds that trainfare itself registers and can fetch, without those of other distributions."""
    return [
        entry.name
        for entry in provider_entries()
        if getattr(entry, "dist", None) is not None
        and entry.dist.name == "trainfare"
        and hasattr(entry.load(), "fetch")
    ]


def golden_rows(name: str, tests: Path) -> bool:
    return (tests / "golden" / f"{name}_rows.csv").is_file()


def test_list_of_clouds_is_not_empty() -> None:
    """The tests below would pass on an empty list."""
    assert "aws" in list_fetched_clouds()


@pytest.mark.parametrize("name", list_fetched_clouds())
def test_registered_cloud_is_tested(name: str) -> None:
    """Network faults, of its quotas too, integrity of the prices, golden rows of the parsers."""
    assert name == "aws" or name in FAULT_SOURCES
    (entry,) = (entry for entry in provider_entries() if entry.name == name)
    assert name == "aws" or name in QUOTA_SOURCES or not hasattr(entry.load(), "quotas")
    assert name in EXPECTED
    assert golden_rows(name, TOP / "tests")


def test_missing_golden_rows_are_found(tmp_path: Path) -> None:
    """An unknown cloud has none."""
    assert not golden_rows("narnia", tmp_path)


@pytest.mark.parametrize("name", list_fetched_clouds())
def test_cloud_that_was_never_fetched_has_an_empty_book(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`load()` with no file on disk returns an empty book, without a warning and without the network."""
    monkeypatch.setenv("TRAINFARE_PRICE_CACHE", str(tmp_path / "nothing"))
    (entry,) = (entry for entry in provider_entries() if entry.name == name)
    provider = entry.load()()
    assert isinstance(provider, PriceProvider)
    assert provider.name == name
    assert len(provider.load()) == 0
    assert not (tmp_path / "nothing").exists()


def names_with_prices() -> list[str]:
    return [
        entry.name
        for entry in entries_with_prices()
        if entry.name in {"shared", "snapshot", *list_fetched_clouds()}
    ]


@pytest.mark.parametrize("name", list_fetched_clouds())
def test_a_cloud_is_loaded_once_it_has_a_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one it is left out unimported; a broken link counts as a file, so that it is warned of."""
    monkeypatch.setenv("TRAINFARE_PRICE_CACHE", str(tmp_path))
    monkeypatch.delenv("TRAINFARE_PRICE_BOOK", raising=False)
    assert names_with_prices() == ["snapshot"]
    (tmp_path / f"{name}.parquet").symlink_to(tmp_path / "nowhere")
    assert names_with_prices() == [name, "snapshot"]


def test_the_shared_book_is_loaded_once_it_has_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of blanks is no address."""
    monkeypatch.setenv("TRAINFARE_PRICE_CACHE", str(tmp_path))
    monkeypatch.setenv("TRAINFARE_PRICE_BOOK", " ")
    assert names_with_prices() == ["snapshot"]
    monkeypatch.setenv("TRAINFARE_PRICE_BOOK", "prices.parquet")
    assert names_with_prices() == ["shared", "snapshot"]


def test_a_plug_in_of_others_is_always_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that bears a cloud's name: only its own code can say whether it has prices."""
    monkeypatch.setenv("TRAINFARE_PRICE_CACHE", str(tmp_path))
    entry = EntryPoint("aws", "elsewhere.prices:Prices", PROVIDER_GROUP)
    assert entries_with_prices([entry]) == [entry]
