"""Where a report says energy and carbon: in its details and with each plan of a page, not on the first screen."""

from __future__ import annotations

from datetime import date

import pytest

from builders.exports import EXAMPLES, answer_of
from trainfare.fake_step import read_profile
from trainfare.report import report_ranking
from trainfare_core.energy import RunEnergy
from trainfare_core.recommendation import Recommendation

_PROFILE = read_profile(str(EXAMPLES / "llama-7b.json"))
_DAY = date(2026, 12, 1)


def render(answer: Recommendation, form: str) -> str:
    report = report_ranking(answer, _PROFILE, _DAY, details=form != "first screen")
    return {"page": report.as_page, "text": report.as_markdown}.get(form, lambda: report.as_terminal(100))()


@pytest.fixture(scope="module")
def answer() -> Recommendation:
    return answer_of("llama-7b")


@pytest.mark.parametrize("form", ["details", "text", "page"])
def test_energy_is_said_with_its_factors(answer: Recommendation, form: str) -> None:
    best = answer.best("cheapest")
    assert best is not None
    assert best.energy is not None
    assert best.energy.kg_co2e is not None
    shown = " ".join(render(answer, form).replace("\\", "").split())
    assert "kg CO2e" in shown
    for factor in best.energy.factors:
        assert f"{factor.source}, {factor.year})" in shown


def test_the_first_screen_is_as_it_was(answer: Recommendation) -> None:
    without = answer.model_copy(
        update={"options": tuple(o.model_copy(update={"energy": None}) for o in answer.options)}
    )
    assert render(answer, "first screen") == render(without, "first screen")


def test_what_is_not_known_is_said(answer: Recommendation) -> None:
    energy = RunEnergy(unknown_because="no PUE of lambda is at hand")
    unknown = answer.model_copy(
        update={"options": tuple(o.model_copy(update={"energy": energy}) for o in answer.options)}
    )
    assert "not known, because no PUE of lambda is at hand" in " ".join(render(unknown, "details").split())
