"""Processes that are no children of the test."""

from __future__ import annotations

import os
import select

import pytest

__all__ = ["ends"]


def ends(pid: int) -> bool:
    """Wait for the end of a process that is no child of this one."""
    if not hasattr(os, "pidfd_open"):
        pytest.skip("processes of others can be waited for on Linux only")
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 60)[0])
    finally:
        os.close(process)
