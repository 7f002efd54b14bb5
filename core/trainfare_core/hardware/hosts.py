"""
How fast the processors of machines work, thread by thread: `data/hosts.csv`.

A score is stress-ng's `jpeg`, operations a second, of one thread alone and of one vCPU with all at work. With the same
code, it predicts the JPEGs that a thread decodes a second on five processors of three makers to 8 %. The scores are
Spare Cores' (CC BY-SA 4.0, and so is the table); a row without a machine is a processor, on any machine of its cloud.
"""

from __future__ import annotations

import contextlib
import math
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from trainfare_core.arrays import Array, Rows
from trainfare_core.documents import data_rows

_LOG_SIGMAS: Final[Mapping[str, float]] = {"machine": 0.08, "processor": 0.17, "generation": 0.2}
"""Of ln(work / score) by what was scored. Of the machine itself: what is left between the score and decoding. Of others
with its processor: how far their scores differ among each other. Of processors of its generation: a chosen value."""
_WITHOUT: Final = re.compile(r"^(?:(?P<cloud>[a-z]+):)?(?:ml\.)?(?P<name>[^@]+)(?:@.*)?$")
"""A machine as `FareMeter(machine=...)` names it, or by its type alone; SageMaker's types are EC2's with `ml.`."""


@dataclass(frozen=True, slots=True)
class Host:
    """
    The processor of a machine.

    Attributes:
        name: the machine's type, else the processor's name.
        vcpus: of the machine; NaN of a processor.
        threads_per_core: 1 where a vCPU is a whole core.
        thread_score: of one thread alone.
        vcpu_score: of one vCPU while all of them work.
        log_sigma: of ln(work done / score).
    """

    name: str
    vcpus: float
    threads_per_core: int
    thread_score: float
    vcpu_score: float
    log_sigma: float


@dataclass(frozen=True, slots=True)
class HostColumns:
    """Hosts as columns, shape (n,); a host that is not known is `USUAL_HOST`, with the doubt of all of them."""

    threads_per_core: Array
    thread_score: Array
    vcpu_score: Array
    log_sigma: Array


@dataclass(frozen=True, slots=True)
class _Table:
    hosts: tuple[Host, ...]
    """Machines, then processors; what several machines share stands once in `distinct`."""
    by_name: Mapping[str, Host]
    distinct: tuple[Host, ...]
    number: Mapping[tuple[str, str], int]
    """Place in `distinct` of each machine, by its provider and type."""


@lru_cache(maxsize=1)
def _read_table() -> _Table:
    rows = data_rows("hosts.csv")
    hosts = [
        Host(
            row["machine"] or row["processor"],
            float(row["vcpus"] or math.nan),
            int(row["threads_per_core"]),
            float(row["thread_score"]),
            float(row["vcpu_score"]),
            _LOG_SIGMAS[row["basis"]],
        )
        for row in rows
    ]
    keys = [(h.threads_per_core, h.thread_score, h.vcpu_score, h.log_sigma) for h in hosts]
    machines = [place for place, row in enumerate(rows) if row["machine"]]
    distinct = {keys[place]: hosts[place] for place in machines}
    numbers = {key: number for number, key in enumerate(distinct)}
    number = {(rows[place]["cloud"], rows[place]["machine"]): numbers[keys[place]] for place in machines}
    return _Table(
        tuple(hosts),
        {host.name.casefold(): host for host in reversed(hosts)},
        tuple(distinct.values()),
        number,
    )


def find_host(name: str) -> Host | None:
    """
    Return the processor of a machine, or a processor by its own name; None where neither is known.

    Args:
        name: such as g2-standard-12, gcp:g2-standard-12@us-central1, or AMD EPYC 7R13 Processor.
    """
    known = _read_table().by_name
    text = re.sub(r"\((?:r|tm)\)", "", " ".join(name.split()), flags=re.IGNORECASE)
    match = _WITHOUT.match(text)
    return known.get(text.casefold()) or (known.get(match["name"].casefold()) if match else None)


def read_processor() -> str:
    """Return the name of this host's processor; "" where it is not known."""
    with contextlib.suppress(OSError):  # of other systems than Linux
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()[:200]
    return platform.processor()[:200]


def explain_unknown_host(name: str) -> str:
    """Return what to write for a name that `find_host` does not know."""
    known = [host.name for host in _read_table().hosts]
    near = get_close_matches(name.casefold(), [text.casefold() for text in known], n=3)
    names = [text for text in dict.fromkeys(known) if text.casefold() in near] or ["g2-standard-12"]
    return (
        f"the processor of {name!r} is not known: name a machine type or a processor, such as "
        f"{', '.join(names)}, or leave it out"
    )


def number_hosts(machines: pl.DataFrame) -> pl.Series:
    """Return the number of each machine's host, by its provider and type, null where it is not known."""
    number, types = _read_table().number, machines["instance_type"].to_list()
    keys = zip(machines["provider"].to_list(), types, strict=True)
    found = [number.get((cloud, name.removeprefix("ml."))) for cloud, name in keys]
    return pl.Series(found, dtype=pl.Int64)


@lru_cache(maxsize=1)
def usual_host() -> Host:
    """Return the host in the middle of the machines with accelerators, and how far they spread about it."""
    table = _read_table()
    scored = [host for host in table.hosts if not math.isnan(host.vcpus)]
    thread, vcpu = (
        np.log([host.thread_score for host in scored]),
        np.log([host.vcpu_score for host in scored]),
    )
    return Host("", math.nan, 2, float(np.exp(thread.mean())), float(np.exp(vcpu.mean())), float(vcpu.std()))


def describe_hosts(number: Rows) -> HostColumns:
    """Return hosts by their numbers (`number_hosts`); -1 is one that is not known."""
    hosts = (*_read_table().distinct, usual_host())  # -1 is the last
    columns = np.array([(h.threads_per_core, h.thread_score, h.vcpu_score, h.log_sigma) for h in hosts]).T
    return HostColumns(*columns[:, number])
