"""Network rates between machines, as the clouds publish them (`data/networks.csv` names a source for each)."""

from __future__ import annotations

from functools import cache

from trainfare_core.documents import data_rows


@cache
def _read_published_networks() -> dict[tuple[str, str], float]:
    return {
        (row["provider"], row["instance_type"]): float(row["network_gbit_per_s"])
        for row in data_rows("networks.csv")
    }


def network_gbit_per_s(provider: str, instance_type: str) -> float | None:
    """
    Return the published rate of a machine's network towards other machines, in gigabits per second.

    A rate that the cloud calls "up to" is its baseline on AWS, and the maximum on Azure and Google, which
    publish no other. Where some cards are for accelerators alone, only those count. SageMaker's ml.x is the
    EC2 machine x. None: not published, or sources disagree.
    """
    return _read_published_networks().get((provider, instance_type.removeprefix("ml.")))
