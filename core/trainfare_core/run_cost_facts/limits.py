"""Default quotas."""

from __future__ import annotations

import re
from typing import Final

from trainfare_core.run_cost_facts.answers import Quota, Unknown
from trainfare_core.run_cost_facts.facts import EVERYWHERE
from trainfare_core.run_cost_facts.table import choose, group

_FAMILY: Final = re.compile(r"[a-z]+(?=\d)")
_SPOT_WORDS: Final = ("Spot", "Preemptible")


def default_quota(cloud: str, service: str, machine: str, *, spot: bool = False) -> Quota | Unknown:
    """
    Return what a new account may use of a machine.

    Args:
        cloud: as in the price book.
        service: as in the price book.
        machine: machine type; for Google the accelerator, such as H100.
        spot: the quota of spot machines.

    Returns:
        The quota in its own unit, with its name; 0 means that an increase has to be requested first.

    Example:
        >>> quota = default_quota("aws", "ec2", "p5.48xlarge")
        >>> quota.name, quota.value, quota.unit
        ('Running On-Demand P instances (L-417A185B)', 0.0, 'vcpu')
    """
    family = _FAMILY.match(machine)
    names = {machine, family[0] if family else machine}
    rows = [
        row
        for row in group("default_quota", cloud)
        if row.service == service
        and names & set(row.machine.split("|"))
        and spot == any(word in row.item for word in _SPOT_WORDS)
    ]
    chosen = choose(rows, EVERYWHERE, f"the default {'spot ' if spot else ''}quota of {cloud}'s {machine}")
    if isinstance(chosen, Unknown):
        return chosen
    return Quota(name=chosen.row.item, value=chosen.row.value, **chosen.fields())
