"""Every fault of the table, met by the way out itself and by the plainest source that uses it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from builders.offers import table
from faults.table import FAULT_CASES, FaultCase, error_of, put_through
from trainfare_core.prices.book import PriceBook
from trainfare_providers.http.client import HttpClient
from trainfare_providers.refresh import FetchedRows


@dataclass
class Plain:
    """A source that asks one address for one object."""

    url: str
    name: str = "aws"
    needs: tuple[str, ...] = ()
    budget_s: float = 15.0

    def fetch(self, http: HttpClient) -> tuple[FetchedRows, ...]:
        http.get_json(f"{self.url}/prices", must_have=["items"])
        return (FetchedRows("aws", "ec2", table()),)

    def load(self) -> PriceBook:
        return PriceBook.empty()


@pytest.mark.parametrize("case", FAULT_CASES, ids=str)
def test_fault_is_named_and_tried_again_only_where_that_helps(case: FaultCase) -> None:
    """A typed error that says what and where; as many tries and waits as the table says, and no more."""
    error, number, waits = error_of(case, lambda out, url: out.get_json(f"{url}/prices"))
    assert case.says in str(error)
    assert str(error).startswith(("aws: http", "aws: 127.0.0.1:", "aws: prices.example: "))
    assert "; " in str(error)
    if case.tries is not None:
        assert number == case.tries
    if case.waits is not None:
        assert tuple(waits.all) == case.waits


@pytest.mark.parametrize("case", FAULT_CASES, ids=str)
def test_fault_leaves_the_last_good_prices(
    case: FaultCase, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """The last good price stays, with the date it has."""
    result = put_through(case, Plain, tmp_path, record_property)
    assert case.says in str(result.problem)


def test_table_covers_what_was_promised() -> None:
    """The list of reliability item 7, by name."""
    names = {case.name for case in FAULT_CASES}
    promised = """400|401|403|404|429|429 in seconds|429 by date|429 absurd|500|502|503|refused|reset|instant close
        |slow headers|slow body|cut with length|cut without length|empty|HTML with 200|error object with 200
        |wrong charset|not gzip|gzip bomb|ten redirects|redirect loop|redirect to http|redirect to a file|untrusted
        |expired|wrong host|no such host|lookup hangs"""
    assert {name.strip() for name in promised.split("|")} <= names
    assert len(names) == len(FAULT_CASES)
