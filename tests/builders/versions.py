"""Marks of tests that need a newer package than the lowest that trainfare admits, for a reason of their own."""

from __future__ import annotations

from importlib import metadata

import pytest

from trainfare.job.floors import is_older


def is_before(package: str, version: str) -> bool:
    """Return whether an installed package is older; one that is missing is not."""
    try:
        return is_older(metadata.version(package), version)
    except metadata.PackageNotFoundError:
        return False


def needs_version(package: str, version: str, reason: str) -> pytest.MarkDecorator:
    """Return the mark that skips a test with an older package."""
    return pytest.mark.skipif(is_before(package, version), reason=f"{package} before {version}: {reason}")
