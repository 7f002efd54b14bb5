"""These tests need a SkyPilot in an environment of its own: they run by `make test-export`, and not with the suite."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    named = any(
        Path(argument.partition("::")[0]).resolve().is_relative_to(Path(__file__).parent)
        for argument in config.args
    )
    return None if named else True
