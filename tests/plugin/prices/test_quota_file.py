"""The file of quotas: what it may say, and what is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.toy_market import book, offer_row
from trainfare.prices.constraints import with_book_names
from trainfare.prices.quotas import quota_text, read_quotas
from trainfare_core.errors import InputError, UnknownNameError
from trainfare_core.recommendation import Constraints, QuotaLimit

BOOK = book(
    offer_row(instance_type="p5.48xlarge", accelerator="H100-SXM-80GB", accelerator_count=8.0, vcpus=192.0)
)


def write_quota_file(folder: Path, text: str) -> Path:
    path = folder / "quota.toml"
    path.write_text(text)
    return path


def test_one_name_or_several(tmp_path: Path) -> None:
    """A family and a purchase option may be a text or a list; the rest keeps its meaning."""
    text = """
    [[quota]]
    provider = "aws"
    region = "us-east-1"
    family = "p"
    vcpus = 384

    [[quota]]
    provider = "gcp"
    family = ["H100", "H200"]
    purchase = "spot"
    accelerators = 16
    """
    assert read_quotas(write_quota_file(tmp_path, text)) == (
        QuotaLimit(provider="aws", region="us-east-1", family=("p",), vcpus=384),
        QuotaLimit(provider="gcp", family=("H100", "H200"), purchase=("spot",), accelerators=16),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no \[\[quota\]\]"),
        ("[quota]\nvcpus = 3\n", r"no \[\[quota\]\]"),
        ("[[quotas]]\n", "did you mean quota"),
        ('[[quota]]\nprovider = "aws"\nfamily = "p"\nvcpu = 3\n', r"\[\[quota\]\] 1: unknown key .*vcpus"),
        ('[[quota]]\nprovider = "aws"\nfamily = "p"\n', "give one of vcpus, accelerators and machines"),
        ('[[quota]]\nprovider = "aws"\nfamily = "p"\nvcpus = 1\nmachines = 1\n', "give one of"),
        ('[[quota]]\nprovider = "aws"\nfamily = "p"\nvcpus = 1\naccelerators = 1\n', "give one of"),
        ('[[quota]]\nprovider = "aws"\nfamily = "p"\nvcpus = -1\n', "greater than or equal to 0"),
        ('[[quota]]\nprovider = "aws"\nfamily = []\nvcpus = 1\n', "at least 1 item"),
        ('[[quota]]\nfamily = "p"\nvcpus = 1\n', "provider"),
        ("quota = [3]\n", "not a table"),
        (f"[[quota]]\nvcpus = 0x{'9' * 5000}\n", "a whole number of more than 64 bits"),
        ("[[quota\n", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    """A typo never means no limit."""
    with pytest.raises(InputError, match=message):
        read_quotas(write_quota_file(tmp_path, text))


def make_request(**quota: object) -> QuotaLimit:
    limits = Constraints(quotas=(QuotaLimit.model_validate({"vcpus": 1, **quota}),))
    return with_book_names(limits, BOOK).quotas[0]


def test_names_are_spelled_as_in_the_prices() -> None:
    """Case does not matter; a cloud without prices is left as it is."""
    assert make_request(provider="AWS", family=("P",), region="US-EAST-1").region == "us-east-1"
    assert make_request(provider="AWS", family=("h100",)).provider == "aws"
    assert make_request(provider="elsewhere", family=("x",)).provider == "elsewhere"
    for wrong in ({"family": ("p6",)}, {"family": ("p",), "region": "us-east-9"}):
        with pytest.raises(UnknownNameError):
            make_request(**{"provider": "aws", **wrong})


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    """With a comment that says whose they are."""
    quotas = (
        QuotaLimit(provider="aws", region="us-east-1", family=("p", "g"), purchase=("spot",), vcpus=0.0),
        QuotaLimit(provider="gcp", family=('H100 "x"',), accelerators=16.0),
        QuotaLimit(provider="aws", family=("ml.p5.48xlarge",), machines=2.0),
    )
    text = quota_text(quotas, said="read today")
    assert text.startswith("# read today\n\n[[quota]]\n")
    assert read_quotas(write_quota_file(tmp_path, text)) == quotas
