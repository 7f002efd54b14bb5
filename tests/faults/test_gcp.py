"""Google Cloud through every fault of the table: a typed error, the last good prices stay, the key is not shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.canary import CANARY, witness
from faults.table import FAULT_CASES, FaultCase, put_through
from trainfare_providers.gcp import GcpPrices


@pytest.mark.parametrize("case", FAULT_CASES, ids=str)
def test_fault_costs_nothing_that_was_there(
    case: FaultCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The problem is one sentence that says what happened, and nobody is told the key of the environment."""
    with witness(monkeypatch, tmp_path) as seen:
        result = put_through(case, lambda url: GcpPrices(endpoint=url), tmp_path)
        seen.text(result)
    assert result.problem is not None
    assert case.says in result.problem
    assert CANARY not in result.problem
