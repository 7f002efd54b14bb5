"""The TOML file of own prices: strict, and clear about what is wrong and where."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from trainfare.prices.own_prices_file import read_own_prices
from trainfare_core.errors import InputError

GOOD = """
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


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "own.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    """The example of the module and of docs/prices.md, decimals exact, with the hash of its bytes."""
    path = write(tmp_path, GOOD)
    file = read_own_prices(path)
    assert file.prices.discount[0].percent == Decimal("12.5")
    assert file.prices.rate[0].usd_per_hour == Decimal("31.50")
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("was", "now", "words"),
    [
        ("percent = 12.5", "precent = 12.5", r"\[\[discount\]\] 1 'Enterprise agreement': .*'precent'; did you mean percent"),
        ("[[rate]]", "[[rates]]", r"unknown key 'rates'; did you mean rate"),
        ("usd_per_hour = 31.50", "xyzzy = 1", r"'Reservation 4711': .*'xyzzy'; known are: name"),
        ("percent = 12.5", "", r"\[\[discount\]\] 1 'Enterprise agreement': percent is missing"),
        ("percent = 12.5", "percent = nan", r"percent: .*finite"),
        ("percent = 12.5", "percent = 250", r"percent: .*less than 100"),
        ("percent = 12.5", 'percent = "a lot"', r"percent: .*decimal"),
        ("usd_per_hour = 31.50", "usd_per_hour = 0", r"usd_per_hour: .*greater than 0"),
        ("usd_per_hour = 31.50", "", "give usd_per_hour, or total_usd together with term_hours"),
        ('"reserved_1y"', '"reserved"', "'reserved' is not one of on_demand, spot"),
        ("2027-08-31", "2027-13-31", "not valid TOML"),
        ("[[rate]]", "[[rate", "not valid TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, was: str, now: str, words: str, record_property: Callable[[str, object], None]
) -> None:
    """File, table, key, and what to write instead."""
    assert was in GOOD
    with pytest.raises(InputError, match=words) as error:
        read_own_prices(write(tmp_path, GOOD.replace(was, now, 1)))
    assert "own.toml" in str(error.value)
    record_property("{} wrong files of settings refused, each with what is wrong", 1)
    record_property(
        "{} unknown keys in them, each with a near one or the known ones",
        str(error.value).count("unknown key"),
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", r"no \[\[discount\]\] and no \[\[rate\]\]"),
        (b"\xff\xfe", "not valid TOML"),
        (b"# " + b"x" * 2**20, "larger than 1 MiB"),
        (b"a = " + b"[" * 5000, "not valid TOML"),
        (b"rate = 5", r"\[\[rate\]\]: table: Input should be a valid tuple"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, data: bytes, words: str, record_property: Callable[[str, object], None]
) -> None:
    """Empty, not text, too large, too deep."""
    with pytest.raises(InputError, match=words):
        read_own_prices(write(tmp_path, data))
    record_property("{} wrong files of settings refused, each with what is wrong", 1)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    """The path and the system's reason."""
    with pytest.raises(InputError, match=r"none\.toml: cannot be read: No such file"):
        read_own_prices(tmp_path / "none.toml")
