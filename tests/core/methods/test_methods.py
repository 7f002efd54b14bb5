"""The table of strategies is complete and consistent."""

from __future__ import annotations

from typing import get_args

import pytest

from trainfare_core.errors import UnknownNameError
from trainfare_core.methods.methods import STRATEGIES, STRATEGY_NAMES, Strategy, Trained, strategy_named


def test_every_name_has_an_entry() -> None:
    """In the order of the type, which JSON schemas list; each with a label and a colour of its own."""
    assert get_args(Strategy) == STRATEGY_NAMES
    assert len({facts.label for facts in STRATEGIES.values()}) == len(STRATEGIES)
    assert len({facts.colour for facts in STRATEGIES.values()}) == len(STRATEGIES)


@pytest.mark.parametrize("name", STRATEGY_NAMES)
def test_every_entry_is_complete(name: Strategy) -> None:
    """Spreads and weight changes are amounts; other strategies that it refers to exist and refer to none themselves."""
    facts = STRATEGIES[name]
    assert facts.trains in get_args(Trained)
    assert facts.label
    assert facts.log_samples_sigma > 0
    assert facts.weight_change >= 0
    for other in (facts.traced_as, facts.compared_through):
        if other is not None:
            assert other != name
            assert STRATEGIES[other].traced_as is None
            assert STRATEGIES[other].compared_through is None


def test_a_strategy_is_known_by_its_name() -> None:
    """Dashes and capitals are read, other words are refused with the list."""
    assert strategy_named("Full-Finetune") == "full_finetune"
    with pytest.raises(UnknownNameError, match="linear_probe"):
        strategy_named("magic")
