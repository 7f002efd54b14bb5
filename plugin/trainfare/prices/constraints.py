"""Check the constraints of a request, and spell its names as the price book does."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias, cast, get_args

from trainfare_core.errors import InputError, NoOffersError

if TYPE_CHECKING:
    from trainfare_core.cost_assumptions import CostAssumptions
    from trainfare_core.prices.book import PriceBook
    from trainfare_core.recommendation import Allowed, Constraints, QuotaLimit

__all__ = ["Names", "constraints_of", "used_prices", "with_book_names"]

_PLACE: Final = re.compile(r"[a-z0-9_-]+:[A-Za-z0-9_-]+")
"""A cloud and a region."""

Names: TypeAlias = "str | Sequence[str] | None"


def used_prices(book: PriceBook, asked: Constraints) -> PriceBook:
    """Return the prices within the constraints, whose names are spelled as in the book."""
    from trainfare_core.ranking.pricing.price_doubt import offers_asked_for

    return offers_asked_for(book, asked)


def constraints_of(
    *,
    max_usd: float | None,
    deadline_hours: float | None,
    confidence: float,
    value_usd_per_month: float | None = None,
    value_usd_per_hour: float | None = None,
    providers: Names = None,
    regions: Names = None,
    purchase: Names = None,
    all_clouds: bool = False,
    services: Names = None,
    instance_types: Names = None,
    accelerators: Names = None,
    exclude: Names = None,
    residency: Names = None,
    max_accelerators: int | None = None,
    quotas: Sequence[QuotaLimit] = (),
    min_network_gbit_per_s: float | None = None,
    no_porting: bool = False,
    max_run_hours: float | None = None,
    keep_plan: bool = False,
    allow: Names = None,
    data_in: str | None = None,
    data_gb: float | None = None,
    run_cost: CostAssumptions | None = None,
) -> Constraints:
    """
    Check the numbers a user gave; names are kept as typed, for `with_book_names`.

    Raises:
        InputError: not finite, negative, or a confidence outside [0.5, 1).
    """
    from trainfare_core.cost_assumptions import CostAssumptions
    from trainfare_core.recommendation import DEFAULT_MAX_RUN_HOURS, Constraints

    given = (
        ("max_usd", max_usd),
        ("deadline_hours", deadline_hours),
        ("value_usd_per_month", value_usd_per_month),
        ("value_usd_per_hour", value_usd_per_hour),
        ("min_network_gbit_per_s", min_network_gbit_per_s),
        ("data_gb", data_gb),
    )
    for name, value in given:
        if value is not None and not (math.isfinite(value) and value >= 0):
            msg = f"{name}: {value} is not a limit; give a finite number that is not negative"
            raise InputError(msg)
    if max_run_hours is not None and not (math.isfinite(max_run_hours) and max_run_hours > 0):
        raise InputError(f"max_hours: {max_run_hours} is not a limit; give a finite number above 0")
    if max_accelerators is not None and max_accelerators < 1:
        raise InputError(f"max_accelerators: {max_accelerators} is not a limit; give 1 or more")
    if data_in is not None and _PLACE.fullmatch(data_in) is None:
        raise InputError(
            f"data_in: {data_in!r} is no place; give a cloud and a region, such as aws:us-east-1"
        )
    if data_in is not None and data_gb is None:
        raise InputError(f"data_in: {data_in}: give data_gb too, the size of the data in GB")
    if not 0.5 <= confidence < 1:
        msg = f"confidence: {confidence} is not between 0.5 and 1; 0.9 means nine runs in ten"
        raise InputError(msg)
    return Constraints(
        max_usd=max_usd,
        deadline_hours=deadline_hours,
        value_usd_per_month=value_usd_per_month,
        value_usd_per_hour=value_usd_per_hour,
        confidence=confidence,
        providers=_several(providers),
        regions=_several(regions),
        purchase=_several(purchase),
        all_clouds=all_clouds,
        services=_several(services),
        instance_types=_several(instance_types),
        accelerators=_several(accelerators),
        excluded=_several(exclude) or (),
        residency=_several(residency),
        max_accelerators=max_accelerators,
        quotas=tuple(quotas),
        min_network_gbit_per_s=min_network_gbit_per_s,
        no_porting=no_porting,
        max_run_hours=DEFAULT_MAX_RUN_HOURS if max_run_hours is None else max_run_hours,
        keep_plan=keep_plan,
        allow=_allowed(allow),
        data_in=data_in,
        data_gb=data_gb,
        run_cost=run_cost or CostAssumptions(),
    )


def with_book_names(asked: Constraints, book: PriceBook) -> Constraints:
    """
    Replace the names a user typed by those of the price book.

    Raises:
        UnknownNameError: a name that the book does not have; a region must be one of the chosen providers'.
        NoOffersError: all names are known, and no price has all of them.
    """
    from trainfare_core.prices.residency import located
    from trainfare_core.ranking.pricing.request import DEFAULT_PURCHASE

    clouds = book.resolve("provider", asked.providers)
    there = book.filter(
        providers=clouds,
        max_accelerators=asked.max_accelerators,
        min_network_gbit_per_s=asked.min_network_gbit_per_s,
    )
    there = there if asked.residency is None else located(there, asked.residency)
    places = there.resolve("region", asked.regions)
    services = there.resolve("service", asked.services)
    machines = there.resolve("instance_type", asked.instance_types)
    terms = book.resolve("purchase_option", asked.purchase)
    devices = book.resolve("accelerator", asked.accelerators)
    excluded = book.resolve_excluded(asked.excluded)
    here = there.filter(
        services=services,
        regions=places,
        instance_types=machines,
        accelerators=devices,
        excluded=excluded,
    )
    if not len(here.filter(purchase=terms or DEFAULT_PURCHASE)):
        named = (clouds, services, places, machines, devices, terms or DEFAULT_PURCHASE)
        wanted = ", ".join(
            [
                *(name for names in named for name in names or ()),
                *(f"not {name}" for name in excluded),
                *([] if asked.residency is None else [f"residency {' or '.join(asked.residency)}"]),
            ]
        )
        has = ", ".join(here.names("purchase_option")) or "none"
        msg = f"no price matches {wanted}; the purchase options there are: {has}"
        raise NoOffersError(msg)
    return asked.model_copy(
        update={
            "providers": clouds,
            "services": services,
            "regions": places,
            "instance_types": machines,
            "purchase": terms,
            "accelerators": devices,
            "excluded": excluded,
            "quotas": tuple(_quotas_with_names(asked.quotas, book)),
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
    def spelled(cloud: str, column: str, *names: str) -> tuple[str, ...] | None:
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
            None if name is None else (spelled(cloud, column, name) or (name,))[0]
            for column, name in (("service", quota.service), ("region", quota.region))
        )
        for family in quota.family:
            check(cloud, family)
        purchase = None if quota.purchase is None else spelled(cloud, "purchase_option", *quota.purchase)
        yield quota.model_copy(
            update={
                "provider": clouds(cloud)[0],
                "service": service,
                "region": region,
                "purchase": purchase,
            }
        )


def _allowed(names: Names) -> tuple[Allowed, ...]:
    from trainfare_core.recommendation import Allowed

    known = get_args(Allowed)
    found = tuple(dict.fromkeys(_several(names) or ()))
    for name in found:
        if name not in known:
            raise InputError(f"allow: {name!r} is not one of {', '.join(known)}")
    return cast("tuple[Allowed, ...]", found)


def _several(names: Names) -> tuple[str, ...] | None:
    if names is None:
        return None
    return (names,) if isinstance(names, str) else tuple(names)
