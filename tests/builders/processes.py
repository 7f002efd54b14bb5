"""Processes that are no children of the test, and when a test is taken to hang."""

from __future__ import annotations

import os
import select

import pytest

HANG_S = 1200.0
"""Seconds after which a test is stopped, by pytest-timeout and by nothing else. Chosen: 20 times what the slowest test takes
on two idle cores, so that only a test that hangs reaches it, and no test depends on how busy the machine is."""


def ends(pid: int) -> bool:
    """Wait for the end of a process that is no child of this one."""
    if not hasattr(os, "pidfd_open"):
        pytest.skip("processes of others can be waited for on Linux only")
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [])[0])
    finally:
        os.close(process)
