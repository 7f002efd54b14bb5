"""Which regions lie where."""

from __future__ import annotations

import pytest

from trainfare_core.clouds.region_places import country_of, lies_in, list_places
from trainfare_core.errors import UnknownNameError


@pytest.mark.parametrize(
    ("cloud", "region", "in_eu", "in_europe"),
    [
        ("aws", "eu-central-1", True, True),
        ("aws", "eu-west-2", False, True),
        ("aws", "eu-central-2", False, True),
        ("azure", "northeurope", True, True),
        ("azure", "norwayeast", False, True),
        ("gcp", "europe-west6", False, True),
        ("gcp", "us-east4", False, False),
        ("lambda", "eu-central-1", False, False),
    ],
)
def test_the_union_is_not_the_continent(cloud: str, region: str, *, in_eu: bool, in_europe: bool) -> None:
    """London, Zurich and Oslo are in Europe and not in the Union; a cloud that is not known is in neither."""
    assert lies_in(cloud, region, ["EU"]) == in_eu
    assert lies_in(cloud, region, ["europe"]) == in_europe


def test_every_country_is_in_one_continent() -> None:
    """Each country of a region has exactly one continent, and each place has a region."""
    continents = [text for text in list_places() if len(text) > 2]
    countries = [text for text in list_places() if len(text) == 2 and text != "eu"]
    regions = [("aws", "us-east-1"), ("azure", "uksouth"), ("gcp", "asia-east1"), ("aws", "af-south-1")]
    for cloud, region in regions:
        assert sum(lies_in(cloud, region, [continent]) for continent in continents) == 1
        assert lies_in(cloud, region, countries)
    assert "ie" in countries


def test_an_unknown_place_has_a_near_name() -> None:
    """A typo is an error, never an empty set of regions."""
    with pytest.raises(UnknownNameError, match="did you mean europe"):
        lies_in("aws", "eu-west-1", ["eurpe"])
    assert country_of("aws", "eu-mars-1") is None
