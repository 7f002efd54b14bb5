"""The line about clouds that were not ranked: in every form of the report, and only where there is one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TypeAlias

import pytest

from builders.recommendations import recommendation
from builders.reports import render_html, render_markdown, render_terminal
from trainfare_core.recommendation import Interval, Recommendation

AS_OF = date(2026, 11, 24)
Renderer: TypeAlias = Callable[..., str]
RENDERERS = [render_terminal, render_markdown, render_html]


def answer() -> Recommendation:
    best = recommendation().options[0].model_copy(update={"provider": "lambda", "service": "gpu_cloud"})
    return recommendation().model_copy(update={"other_clouds": best})


def words(renderer: Renderer, found: Recommendation) -> str:
    return " ".join(renderer(found, as_of=AS_OF).replace("\\", "").split())


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_cheapest_quote_is_one_sentence(renderer: Renderer) -> None:
    """It names the cloud and the dollars with their interval, what is not known of its hosts, and how to rank it."""
    text = words(renderer, answer())
    assert "Not ranked: quotes of other clouds. The cheapest, lambda" in text
    assert "host's network, disks and availability are not known" in text or "host&#39;s network" in text
    assert "--all-clouds" in text.replace("–", "--")


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_cheapest_spot_machine_is_one_sentence(renderer: Renderer) -> None:
    """It names the dollars with their interval, how much less that is than the cheapest ranked one, and how to rank spot."""
    cheapest = min(option.run_usd.mid for option in recommendation().options if not option.needs_porting)
    usd = Interval(mid=cheapest / 4, low_80=cheapest / 8, high_80=cheapest / 2)
    best = recommendation().options[0].model_copy(update={"run_usd": usd, "purchase_option": "spot"})
    text = words(renderer, recommendation().model_copy(update={"best_spot": best}))
    assert "Spot is not ranked. The cheapest, " in text
    assert "75 % less than the cheapest above" in text
    assert "with interruptions at any time. --purchase spot" in text.replace("–", "--")


@pytest.mark.parametrize("renderer", RENDERERS)
def test_without_a_quote_nothing_is_said(renderer: Renderer) -> None:
    """A ranking of everything has no such line."""
    text = words(renderer, recommendation())
    assert "quotes of other clouds" not in text
    assert "Spot is not ranked" not in text
