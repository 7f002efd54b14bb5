"""Every network fault against every cloud that is asked at one `endpoint`; AWS has `test_aws.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from faults.canary import witness
from faults.table import FAULT_CASES, FaultCase, put_through
from trainfare_core.clouds import CLOUDS
from trainfare_providers.plugins import provider_entries

SOURCES = {entry.name: entry for entry in provider_entries() if entry.name in CLOUDS and entry.name != "aws"}


@pytest.mark.parametrize("cloud", SOURCES)
@pytest.mark.parametrize("case", FAULT_CASES, ids=str)
def test_fault_leaves_the_last_good_prices(
    case: FaultCase,
    cloud: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """The problem is one sentence that says what happened; no secret of the environment is shown anywhere."""
    make = SOURCES[cloud].load()
    with witness(monkeypatch, tmp_path) as seen:
        result = put_through(case, lambda url: make(endpoint=url), tmp_path, record_property)
        seen.text(result)
    assert result.problem is not None
    assert case.says in result.problem
