"""
Read the file of `--own-prices`: discounts, reservations and negotiated rates as TOML.

    [[discount]]
    name = "Enterprise agreement"
    provider = "aws"
    percent = 12.5

    [[rate]]
    name = "Reservation 4711"
    provider = "aws"
    service = "ec2"
    instance_type = "p5.48xlarge"
    region = "us-east-1"
    purchase_option = "reserved_1y"
    usd_per_hour = 31.50
    agreed_on = 2026-09-01
    valid_until = 2027-08-31
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

from pydantic import BaseModel, ValidationError

from trainfare_core.errors import InputError
from trainfare_core.prices.own_prices import Discount, OwnPrices, Rate
from trainfare_providers.disk.files import read_input
from trainfare_providers.disk.toml_file import key_hint, parse_toml

MAX_BYTES: Final = 2**20
"""Largest file that is read. A chosen value, against reading a wrong file."""

_TABLES: Final[dict[str, type[BaseModel]]] = {"discount": Discount, "rate": Rate}


@dataclass(frozen=True, slots=True)
class OwnPricesFile:
    """Content of a file of own prices, and the SHA-256 of its bytes in hexadecimal."""

    prices: OwnPrices
    sha256: str


def read_own_prices(path: Path) -> OwnPricesFile:
    """
    Read and check a file of own prices.

    Raises:
        InputError: it cannot be read, is not TOML, or has an unknown key or a bad value; the message names
            the table, the key, and a near one.
    """
    data = read_input(path, MAX_BYTES, label="own prices ", kind="a file of own prices")
    document = parse_toml(data, where=f"own prices {path}", parse_float=Decimal)
    try:
        prices = OwnPrices.model_validate(document)
    except ValidationError as error:
        raise InputError(
            f"own prices {path}: {'; '.join(_describe_problem(document, detail) for detail in error.errors()[:5])}"
        ) from error
    if not (prices.discount or prices.rate):
        raise InputError(f"own prices {path}: it has no [[discount]] and no [[rate]]")
    return OwnPricesFile(prices, hashlib.sha256(data).hexdigest())


def _describe_problem(document: Any, problem: Any) -> str:
    """Return one problem as 'where: what, and what to do'."""
    where: tuple[str | int, ...] = problem["loc"]
    key = str(where[-1]) if where else ""
    if problem["type"] == "extra_forbidden":
        known = list(_TABLES[str(where[0])].model_fields) if len(where) > 1 else [*_TABLES]
        return f"{_place(document, where[:-1])}unknown key {key!r}; {key_hint(key, known)}"
    if problem["type"] == "missing":
        return f"{_place(document, where[:-1])}{key} is missing"
    text = str(problem["msg"]).removeprefix("Value error, ")
    return f"{_place(document, where[:2])}{'.'.join(str(part) for part in where[2:]) or 'table'}: {text}"


def _place(document: Any, where: tuple[str | int, ...]) -> str:
    """Return the table, counted from 1: [[rate]] 2 'Reservation 4711': ."""
    if len(where) < 2 or not isinstance(where[1], int):
        return f"[[{where[0]}]]: " if where else ""
    table: Any = document[where[0]][where[1]]
    name: object = cast("dict[str, object]", table).get("name") if isinstance(table, dict) else None
    return f"[[{where[0]}]] {where[1] + 1}{f' {name!r}' if isinstance(name, str) else ''}: "
