"""Azure through every fault of the table: a typed error, the last good prices stay, no token is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.canary import witness
from faults.table import FAULT_CASES, FaultCase, put_through
from trainfare_providers.azure import AzurePrices


@pytest.mark.parametrize("case", FAULT_CASES, ids=str)
def test_fault_costs_nothing_that_was_there(
    case: FaultCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The problem is one sentence that begins with the cloud; nobody is told a secret of the environment."""
    with witness(monkeypatch, tmp_path) as seen:
        result = put_through(case, lambda url: AzurePrices(endpoint=f"{url}/api/retail/prices"), tmp_path)
        seen.text(result)
    assert result.problem is not None
    assert case.says in result.problem
