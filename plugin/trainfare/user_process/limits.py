"""The limits of a process that runs the user's code."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainfare.job.real_limits import REAL_LIMITS, RealLimits

if TYPE_CHECKING:
    from trainfare.sandbox import SandboxKind

ANSWER_LIMIT_S: Final = 600.0
"""Chosen: the slowest trace measured (a 7B with LoRA) took 114 s on a busy machine of two cores."""
CPU_LIMIT_S: Final = 3600
"""Chosen: some 20 times what a strategy of a 7B with five traces takes, 150 s."""
OUTPUT_LIMIT_KIB: Final = 1024
"""Chosen: some 10,000 lines, enough to find the cause of a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """
    What the user's code may use.

    Args:
        answer_s: seconds until each answer: one for the job, one for every trace.
        cpu_s: CPU seconds of the whole process.
        memory_gib: GiB of memory; None is the memory of the machine. Enforced on Linux.
        output_kib: KiB of output that are shown; the rest is dropped.
        pass_env: variables that it gets although they are credentials; see `environment_of`.
        real: limits of a trace on real tensors, which is made where fake ones do not do; None forbids it.
        sandbox: the kinds of sandbox that may be built, the first that can be; see `trainfare.sandbox`.
        keep_data: keep the new files that it has written before its training begins.
    """

    answer_s: float = ANSWER_LIMIT_S
    cpu_s: int = CPU_LIMIT_S
    memory_gib: float | None = None
    output_kib: int = OUTPUT_LIMIT_KIB
    pass_env: tuple[str, ...] = ()
    real: RealLimits | None = REAL_LIMITS
    sandbox: tuple[SandboxKind, ...] = ("overlay", "copy")
    keep_data: bool = False


def machine_memory_gib() -> float | None:
    """Return the memory of this machine in GiB, or None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (AttributeError, ValueError, OSError):
        return None


def lower_limit(what: int, soft: int, hard: int) -> None:
    """Lower a limit of this process; one that is lower already stays."""
    import resource

    _, most = resource.getrlimit(what)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    with contextlib.suppress(ValueError, OSError):  # a system that does not have this limit
        resource.setrlimit(what, (soft, hard))
