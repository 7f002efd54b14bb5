"""The table of strategies is complete and consistent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from trainfare_core.errors import UnknownNameError
from trainfare_core.methods.draws import SEED, draw_uniforms
from trainfare_core.methods.methods import (
    METHOD_NAMES,
    METHODS,
    Method,
    MethodFacts,
    Trained,
    find_method,
)


def test_every_name_has_an_entry() -> None:
    """In the order of the type, which JSON schemas list; each with a label of its own."""
    assert get_args(Method) == METHOD_NAMES
    assert len({facts.label for facts in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_every_entry_is_complete(name: Method) -> None:
    """Spreads and weight changes are amounts; other strategies that it refers to exist and refer to none themselves."""
    facts = METHODS[name]
    assert facts.trains in get_args(Trained)
    assert facts.label
    assert facts.log_samples_sigma > 0
    assert facts.weight_change >= 0
    for other in (facts.traced_as, facts.compared_through):
        if other is not None:
            assert other != name
            assert METHODS[other].traced_as is None
            assert METHODS[other].compared_through is None


def test_a_new_method_keeps_the_draws_of_the_others() -> None:
    """Its entry may stand anywhere, since methods draw in the order in which they were added."""
    assert sorted(facts.draw for facts in METHODS.values()) == list(range(len(METHODS)))
    entries: list[tuple[Any, MethodFacts]] = list(METHODS.items())
    entries.insert(2, ("dora", replace(METHODS["lora"], label="DoRA", draw=len(METHODS))))
    before, after = (
        draw_uniforms(np.random.default_rng(SEED), methods) for methods in (METHODS, dict(entries))
    )
    assert all(np.array_equal(before[name], after[name]) for name in METHODS)
    assert len({uniforms[0, 0] for uniforms in after.values()}) == len(METHODS) + 1


def test_a_strategy_is_known_by_its_name() -> None:
    """Dashes and capitals are read, other words are refused with the list."""
    assert find_method("Full-Finetune") == "full_finetune"
    with pytest.raises(UnknownNameError, match="linear_probe"):
        find_method("magic")
