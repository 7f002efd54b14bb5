"""
In which country the regions of the large clouds lie, and which countries a name such as `eu` stands for.

The countries are those of `Cloud.country_of_region`. Regions of other clouds are not known: their quotes name no place.
`eu` are the member states of the European Union, so that London, Zurich and Oslo are in `europe` and not in `eu`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from trainfare_core.clouds.facts import CLOUDS
from trainfare_core.errors import UnknownNameError

_PLACES: Final = {
    "eu": "at be de es fi fr ie it nl pl se",
    "europe": "at be ch de es fi fr gb ie it nl no pl se",
    "north-america": "ca mx us",
    "south-america": "br cl",
    "asia": "ae bh hk id il in jp kr my qa sa sg tw",
    "africa": "za",
    "oceania": "au nz",
}
"""Countries (ISO 3166) of a place, as far as one of the clouds has a region there. Asia includes the Middle East."""

_KNOWN: Final = frozenset(
    country for cloud in CLOUDS.values() for country in cloud.country_of_region.values()
)


def country_of(cloud: str, region: str) -> str | None:
    """
    Return the country in which a region lies, by its ISO 3166 code; None where it is not known.

    Args:
        cloud: as in the price book.
        region: the cloud's own name.
    """
    known = CLOUDS.get(cloud)
    return None if known is None else known.country_of_region.get(region)


def continent_of(cloud: str, region: str) -> str | None:
    """Return the continent in which a region lies, as `list_places` names it; None where it is not known."""
    country = country_of(cloud, region)
    names = (name for name, countries in _PLACES.items() if name != "eu" and country in countries.split())
    return next(names, None)


def list_places() -> tuple[str, ...]:
    """Return what `lies_in` takes: continents, `eu`, and the countries that have a region."""
    return (*_PLACES, *sorted(_KNOWN))


def lies_in(cloud: str, region: str, places: Iterable[str]) -> bool:
    """
    Return whether a region lies in one of some places; a region whose country is not known lies in none.

    Args:
        cloud: as in the price book.
        region: the cloud's own name.
        places: names of `list_places`, in any case.

    Raises:
        UnknownNameError: another name, with the nearest.

    Example:
        >>> [lies_in("aws", region, ["eu"]) for region in ("eu-west-1", "eu-west-2")]  # Ireland, London
        [True, False]
    """
    countries: set[str] = set()
    for place in places:
        name = place.lower()
        if name in _PLACES:
            countries.update(_PLACES[name].split())
        elif name in _KNOWN:
            countries.add(name)
        else:
            known = list_places()
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
            raise UnknownNameError(f"residency: no region is known to lie in {place!r}{hint}")
    return country_of(cloud, region) in countries
