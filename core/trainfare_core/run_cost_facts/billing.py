"""How time is billed: step and minimum, warm pools, capacity blocks, flex-start."""

from __future__ import annotations

from trainfare_core.run_cost_facts.answers import Amount, Statement, Unknown
from trainfare_core.run_cost_facts.facts import EVERYWHERE
from trainfare_core.run_cost_facts.table import amount, matching, statement

__all__ = [
    "billing_minimum_s",
    "billing_step_s",
    "capacity_block_payment",
    "capacity_block_start_utc",
    "flex_start_max_run_s",
    "flex_start_price",
    "flex_start_price_change",
    "managed_spot_discount",
    "warm_pool_max_s",
]


def billing_step_s(cloud: str, service: str) -> Amount | Unknown:
    """
    Return the step in which a service bills the time of a machine.

    Args:
        cloud: as in the price book.
        service: as in the price book.

    Returns:
        Seconds; time is rounded up to whole steps.
    """
    return _everywhere("billing_step", cloud, service, "the billing step")


def billing_minimum_s(cloud: str, service: str) -> Amount | Unknown:
    """
    Return the least time that a service bills for a machine.

    Args:
        cloud: as in the price book.
        service: as in the price book.

    Returns:
        Seconds; 0 is no minimum.
    """
    return _everywhere("billing_minimum", cloud, service, "the least billed time")


def warm_pool_max_s(cloud: str, service: str) -> Amount | Unknown:
    """
    Return how long a service keeps machines for the next job; each is billed meanwhile.

    Args:
        cloud: as in the price book.
        service: as in the price book.

    Returns:
        Seconds.
    """
    return _everywhere("warm_pool_max", cloud, service, "the longest time in a warm pool")


def managed_spot_discount(cloud: str, service: str) -> Statement | Unknown:
    """
    Return where the discount of managed spot training appears.

    Args:
        cloud: as in the price book.
        service: as in the price book.

    Returns:
        The name of the quantity that is reduced while the price stays the same.
    """
    rows = matching("managed_spot_discount", cloud, service=service)
    return statement(rows, f"where the managed spot discount of {cloud} {service} appears")


def capacity_block_payment(cloud: str) -> Statement | Unknown:
    """
    Return when and for what a capacity block is paid.

    Args:
        cloud: as in the price book.

    Returns:
        The terms in words.
    """
    return statement(matching("capacity_block_payment", cloud), f"the payment of {cloud}'s capacity blocks")


def capacity_block_start_utc(cloud: str) -> Statement | Unknown:
    """
    Return the time of day at which capacity blocks start and end.

    Args:
        cloud: as in the price book.

    Returns:
        Hours and minutes, UTC.
    """
    return statement(matching("capacity_block_start", cloud), f"the start of {cloud}'s capacity blocks")


def flex_start_price(cloud: str, machine: str, region: str) -> Amount | Unknown:
    """
    Return the flex-start price of a machine.

    Args:
        cloud: as in the price book.
        machine: machine type; for TPUs the generation, such as v6e.
        region: the cloud's own name.

    Returns:
        Dollars an hour; for TPUs per chip, as the unit says.
    """
    rows = matching("flex_start_price", cloud, machine=machine)
    return amount(rows, region, f"the flex-start price of {cloud}'s {machine}")


def flex_start_max_run_s(cloud: str, service: str) -> Amount | Unknown:
    """
    Return the longest time that a flex-start machine runs.

    Args:
        cloud: as in the price book.
        service: as in the price book.

    Returns:
        Seconds.
    """
    return _everywhere("flex_start_max_run", cloud, service, "the longest flex-start run")


def flex_start_price_change(cloud: str) -> Statement | Unknown:
    """
    Return the month for which a change of flex-start prices is announced; prices of before are outdated then.

    Args:
        cloud: as in the price book.

    Returns:
        Year and month, such as 2026-11.
    """
    rows = matching("flex_start_price_change", cloud)
    return statement(rows, f"a change of {cloud}'s flex-start prices")


def _everywhere(kind: str, cloud: str, service: str, what: str) -> Amount | Unknown:
    rows = matching(kind, cloud, service=service)
    return amount(rows, EVERYWHERE, f"{what} of {cloud} {service}")
