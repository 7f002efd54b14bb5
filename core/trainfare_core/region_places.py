"""
In which country the regions of the large clouds lie, and which countries a name such as `eu` stands for.

The countries are those that AWS, Azure and Google state on their pages of regions (read 2026-11). Regions of other
clouds are not known: their quotes name no place. `eu` are the member states of the European Union, so that London,
Zurich and Oslo are in `europe` and not in `eu`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

from trainfare_core.errors import UnknownNameError

__all__ = ["country_of", "known_places", "lies_in"]

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

_COUNTRIES: Final = {
    "aws": (
        "af-south-1=za ap-east-1=hk ap-east-2=tw ap-northeast-1=jp ap-northeast-2=kr ap-northeast-3=jp ap-south-1=in "
        "ap-south-2=in ap-southeast-1=sg ap-southeast-2=au ap-southeast-3=id ap-southeast-4=au ap-southeast-5=my "
        "ca-central-1=ca ca-west-1=ca eu-central-1=de eu-central-2=ch eu-north-1=se eu-south-1=it eu-south-2=es "
        "eu-west-1=ie eu-west-2=gb eu-west-3=fr il-central-1=il me-central-1=ae me-south-1=bh mx-central-1=mx "
        "sa-east-1=br us-east-1=us us-east-2=us us-gov-east-1=us us-gov-west-1=us us-west-1=us us-west-2=us"
    ),
    "azure": (
        "australiacentral=au australiacentral2=au australiaeast=au australiasoutheast=au austriaeast=at "
        "belgiumcentral=be brazilsouth=br brazilsoutheast=br canadacentral=ca canadaeast=ca centralindia=in "
        "centralus=us chilecentral=cl eastasia=hk eastus=us eastus2=us francecentral=fr francesouth=fr "
        "germanynorth=de germanywestcentral=de indonesiacentral=id israelcentral=il italynorth=it japaneast=jp "
        "japanwest=jp jioindiacentral=in jioindiawest=in koreacentral=kr koreasouth=kr malaysiawest=my "
        "mexicocentral=mx newzealandnorth=nz northcentralus=us northeurope=ie norwayeast=no norwaywest=no "
        "polandcentral=pl qatarcentral=qa southafricanorth=za southafricawest=za southcentralus=us "
        "southeastasia=sg southindia=in spaincentral=es swedencentral=se swedensouth=se switzerlandnorth=ch "
        "switzerlandwest=ch uaecentral=ae uaenorth=ae uksouth=gb ukwest=gb westcentralus=us westeurope=nl "
        "westindia=in westus=us westus2=us westus3=us"
    ),
    "gcp": (
        "africa-south1=za asia-east1=tw asia-east2=hk asia-northeast1=jp asia-northeast2=jp asia-northeast3=kr "
        "asia-south1=in asia-south2=in asia-southeast1=sg asia-southeast2=id australia-southeast1=au "
        "australia-southeast2=au europe-central2=pl europe-north1=fi europe-north2=se europe-southwest1=es "
        "europe-west1=be europe-west10=de europe-west12=it europe-west2=gb europe-west3=de europe-west4=nl "
        "europe-west6=ch europe-west8=it europe-west9=fr me-central1=qa me-central2=sa me-west1=il "
        "northamerica-northeast1=ca northamerica-northeast2=ca northamerica-south1=mx southamerica-east1=br "
        "southamerica-west1=cl us-central1=us us-central2=us us-east1=us us-east4=us us-east5=us us-south1=us "
        "us-west1=us us-west2=us us-west3=us us-west4=us"
    ),
}
_COUNTRY_OF: Final = {
    (cloud, region): country
    for cloud, text in _COUNTRIES.items()
    for region, _, country in (pair.partition("=") for pair in text.split())
}
_KNOWN: Final = frozenset(_COUNTRY_OF.values())


def country_of(cloud: str, region: str) -> str | None:
    """
    Return the country in which a region lies, by its ISO 3166 code; None where it is not known.

    Args:
        cloud: as in the price book.
        region: the cloud's own name.
    """
    return _COUNTRY_OF.get((cloud, region))


def known_places() -> tuple[str, ...]:
    """Return what `lies_in` takes: continents, `eu`, and the countries that have a region."""
    return (*_PLACES, *sorted(_KNOWN))


def lies_in(cloud: str, region: str, places: Iterable[str]) -> bool:
    """
    Return whether a region lies in one of some places; a region whose country is not known lies in none.

    Args:
        cloud: as in the price book.
        region: the cloud's own name.
        places: names of `known_places`, in any case.

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
            known = known_places()
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
            raise UnknownNameError(f"residency: no region is known to lie in {place!r}{hint}")
    return country_of(cloud, region) in countries
