"""What a change of cost may say."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from trainfare_core.changes.cost_change import CostCause


@pytest.mark.parametrize("usd", [float("nan"), float("inf"), -float("inf")])
def test_a_change_in_cost_is_a_number(usd: float) -> None:
    """No document says that a cause costs more than any number."""
    with pytest.raises(ValidationError, match="finite"):
        CostCause(cause="steps", usd=usd, detail="36,000 -> 72,000 optimizer steps")
