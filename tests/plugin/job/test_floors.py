"""The lowest versions of packages, and the sentence on an environment below them."""

from __future__ import annotations

from importlib import metadata

import pytest

from trainfare.job.floors import FRAMEWORKS, check_version, is_older, list_floors
from trainfare_core.errors import InputError

REQUIREMENTS = ("rich>=13.5", "transformers>=4.46; extra == 'huggingface'", "httpx<1,>=0.27; extra == 'aws'")


def test_floors_are_read_from_metadata() -> None:
    """Those of extras; an upper bound before them changes nothing."""
    floors = [(floor.extra, floor.package, floor.lowest) for floor in list_floors(REQUIREMENTS)]
    assert floors == [("huggingface", "transformers", "4.46"), ("aws", "httpx", "0.27")]


@pytest.mark.parametrize(
    ("version", "lowest", "older"),
    [
        ("4.45.2", "4.46", True),
        ("4.46.0", "4.46", False),
        ("4.100", "4.46", False),
        ("2.4.0+cpu", "2.4", False),
        ("2.4rc1", "2.4", False),
        ("0.1", "", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, lowest: str, older: bool) -> None:
    assert is_older(version, lowest) is older


def test_an_environment_below_gets_one_sentence() -> None:
    """Which version is here, which is wanted, and the command; at or above the floor nothing is refused."""
    check_version("transformers", "4.46.0", REQUIREMENTS)
    check_version("transformers", "9.0", REQUIREMENTS)
    with pytest.raises(InputError) as caught:
        check_version("transformers", "4.45.2", REQUIREMENTS)
    assert str(caught.value) == (
        "transformers 4.45.2 is installed here, and trainfare works with 4.46 or newer: "
        "pip install 'transformers>=4.46'"
    )


@pytest.mark.parametrize("module", FRAMEWORKS)
def test_every_framework_has_a_floor(module: str) -> None:
    """In the metadata of this installation, and a version 0.1 is below it."""
    metadata.distribution("trainfare")
    with pytest.raises(InputError, match=f"{module.replace('_', '-')} 0.1 is installed here"):
        check_version(module, "0.1")
