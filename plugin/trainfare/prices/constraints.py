"""Read the constraints of a request, load its prices, and spell its names as the price book does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainfare.prices.sources import LoadedPrices, PriceChoice, age_warnings, load_prices
from trainfare_core.errors import NoOffersError

if TYPE_CHECKING:
    from trainfare_core.limits.constraints import Constraints, QuotaLimit
    from trainfare_core.prices.book import PriceBook


def read_constraints(keywords: Mapping[str, Any], base: Constraints | None = None) -> Constraints:
    """
    Check the limits that a user gave, and read the file of quotas that they name; names are kept as typed.

    Args:
        keywords: as `recommend` takes them, see `LimitKeywords`; None is not given.
        base: has what is not given; None takes the defaults.

    Raises:
        InputError: a value that cannot be used, or the file of quotas cannot be read.
        TypeError: a keyword that there is none of.
    """
    from trainfare.prices.quotas import read_quotas
    from trainfare_core.limits.constraints import Constraints
    from trainfare_core.limits.limit_fields import parse_limits

    given = dict(keywords)
    if given.get("quota") is not None:
        given["quota"] = read_quotas(Path(given["quota"]))
    return parse_limits(Constraints, given, base)


def load_requested_prices(
    constraints: Constraints, choice: PriceChoice, price_book: PriceBook | None = None
) -> tuple[LoadedPrices, Constraints, tuple[str, ...]]:
    """
    Load the prices of a request and check names and ages; no job is needed.

    Args:
        constraints: names as a person types them.
        choice: which prices to rank with.
        price_book: prices to rank with instead.

    Returns:
        the prices, the constraints in the spelling of the prices, and the warnings about their age.

    Raises:
        TrainfareError: what `trainfare.recommend` raises of the prices, of the names and of the files.
    """
    from trainfare_core.ranking.pricing.price_doubt import offers_asked_for

    if price_book is not None:
        loaded = LoadedPrices(price_book, (), as_of=choice.now)
        return loaded, with_book_names(constraints, price_book), ()
    loaded = load_prices(choice=choice)
    book_constraints = with_book_names(constraints, loaded.book)
    old = age_warnings(loaded, offers_asked_for(loaded.book, book_constraints), choice)
    return loaded, book_constraints, old


def with_book_names(constraints: Constraints, book: PriceBook) -> Constraints:
    """
    Replace the names a user typed by those of the price book.

    Raises:
        UnknownNameError: a name that the book does not have; a region must be one of the chosen providers'.
        NoOffersError: all names are known, and no price has all of them.
    """
    from trainfare_core.ranking.pricing.price_doubt import filter_by_residency
    from trainfare_core.ranking.pricing.request import DEFAULT_PURCHASE

    clouds = book.resolve("provider", constraints.providers)
    there = book.filter(
        providers=clouds,
        max_accelerators=constraints.max_accelerators,
        min_network_gbit_per_s=constraints.min_network_gbit_per_s,
    )
    there = there if constraints.residency is None else filter_by_residency(there, constraints.residency)
    places = there.resolve("region", constraints.regions)
    services = there.resolve("service", constraints.services)
    machines = there.resolve("instance_type", constraints.instance_types)
    terms = book.resolve("purchase_option", constraints.purchase)
    devices = book.resolve("accelerator", constraints.accelerators)
    excluded = book.resolve_excluded(constraints.excluded)
    here = there.filter(
        services=services,
        regions=places,
        instance_types=machines,
        accelerators=devices,
        excluded=excluded,
    )
    if not len(here.filter(purchase=terms or DEFAULT_PURCHASE)):
        name_lists = (clouds, services, places, machines, devices, terms or DEFAULT_PURCHASE)
        wanted_text = ", ".join(
            [
                *(name for names in name_lists for name in names or ()),
                *(f"not {name}" for name in excluded),
                *(
                    []
                    if constraints.residency is None
                    else [f"residency {' or '.join(constraints.residency)}"]
                ),
            ]
        )
        has = ", ".join(here.names("purchase_option")) or "none"
        raise NoOffersError(f"no price matches {wanted_text}; the purchase options there are: {has}")
    return constraints.model_copy(
        update={
            "providers": clouds,
            "services": services,
            "regions": places,
            "instance_types": machines,
            "purchase": terms,
            "accelerators": devices,
            "excluded": excluded,
            "quotas": tuple(_quotas_with_names(constraints.quotas, book)),
        }
    )


def _quotas_with_names(quotas: Iterable[QuotaLimit], book: PriceBook) -> Iterator[QuotaLimit]:
    """
    Spell the names of quotas as the book does; each is looked up once, since an account has hundreds of quotas.

    Raises:
        UnknownNameError: the book has a quota's cloud, and there neither its service, its region nor a machine of its
            names.
    """
    from trainfare_core.ranking.pricing.quotas import machines_of_family

    @cache
    def clouds(name: str) -> list[str]:
        return [known for known in book.names("provider") if known.casefold() == name]

    @cache
    def prices(cloud: str) -> PriceBook:
        return book.filter(providers=clouds(cloud))

    @cache
    def spell_names(cloud: str, column: str, *names: str) -> tuple[str, ...] | None:
        return prices(cloud).resolve(column, names)

    @cache
    def check(cloud: str, family: str) -> None:
        if not machines_of_family(prices(cloud).frame, family).any():
            prices(cloud).resolve("instance_type", [family])  # raises, with near names

    for quota in quotas:
        cloud = quota.provider.casefold()
        if not clouds(cloud):
            yield quota  # prices of that cloud are not there: nothing to limit
            continue
        service, region = (
            None if name is None else (spell_names(cloud, column, name) or (name,))[0]
            for column, name in (("service", quota.service), ("region", quota.region))
        )
        for family in quota.family:
            check(cloud, family)
        purchase = None if quota.purchase is None else spell_names(cloud, "purchase_option", *quota.purchase)
        yield quota.model_copy(
            update={
                "provider": clouds(cloud)[0],
                "service": service,
                "region": region,
                "purchase": purchase,
            }
        )
