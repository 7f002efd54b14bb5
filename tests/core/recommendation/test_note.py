"""Notes of an option: data, with their words made where they are shown."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from pydantic import ValidationError

from builders.recommendations import option, recommendation
from builders.toy_market import ToyPredictor, book, offer_row, small_job
from trainfare_core.prices.caveats import CAVEATS, CaveatKind
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Note, NoteKind, Recommendation


@pytest.mark.parametrize(
    ("note", "text"),
    [
        (Note(kind="porting", because="no CUDA"), "needs porting: no CUDA"),
        (Note(kind="guess", because="nothing like it was measured"), "a guess: nothing like it was measured"),
        (
            Note(kind="quota", name="P instances", source="a page; of 2024"),
            'new account: its quota "P instances" is 0, so ask for an increase first. Source: a page; of 2024',
        ),
        (
            Note(kind="loader_rate", samples_per_s=77_553.2),
            (
                "each vCPU must load 77,553 samples a second; the input pipeline was not measured, and about 100 "
                "decoded JPEGs are usual"
            ),
        ),
        (Note(kind="caveat", because="a floor", caveats=("at_floor",)), "price: a floor"),
        (Note(kind="currency", name="EUR"), "price converted from EUR"),
        (
            Note(kind="faster_plan", name="FSDP", because="50 %"),
            "FSDP would take 50 % less time a step and fit: --allow plan",
        ),
        (Note(kind="unmeasured_software", because="too few"), "unknown: too few"),
        (Note(kind="spot", because="2 interruptions {0.name}"), "2 interruptions {0.name}"),
    ],
)
def test_words_follow_from_the_kind_and_its_fields(note: Note, text: str) -> None:
    """What others wrote into a field is no template."""
    assert note.text == text


def test_the_json_has_kind_fields_and_text_and_is_read_back_equal() -> None:
    """Fields that a kind has not are left out; the text is for readers, and a changed one changes nothing."""
    answer = recommendation(options=(option(notes=(Note(kind="quota", name="P", source="a page"),)),))
    (written,) = json.loads(answer.to_json())["options"][0]["notes"]
    assert written == {
        "kind": "quota", "name": "P", "source": "a page",
        "text": 'new account: its quota "P" is 0, so ask for an increase first. Source: a page',
    }  # fmt: skip
    assert Recommendation.from_json(answer.to_json()) == answer
    assert Recommendation.from_json(answer.to_json().replace("so ask", "so beg")) == answer


def test_a_sentence_of_an_older_document_is_a_note_of_another_kind() -> None:
    """Its words stay; a kind that does not exist is an error."""
    text = recommendation(options=(option(notes=("the first", "the second")),)).to_json()
    old = json.loads(text)
    old["options"][0]["notes"] = ["the first", "the second"]
    notes = Recommendation.from_json(json.dumps(old)).options[0].notes
    assert [(note.kind, note.text) for note in notes] == [("other", "the first"), ("other", "the second")]
    assert "other" in get_args(NoteKind)
    with pytest.raises(ValidationError):
        Note.model_validate({"kind": "odd"})


@pytest.mark.parametrize("kind", get_args(CaveatKind))
def test_what_the_caveat_of_a_price_means_is_in_its_note(kind: CaveatKind) -> None:
    """Beside other words in the price book, and for a caveat without a meaning nothing."""
    for text, caveats in ((f"{CAVEATS[kind]}; more", (kind,)), ("a promotion", ())):
        prices = book(offer_row(caveat=text))
        answer = rank(small_job(), prices, Request(max_nodes=1), predict=ToyPredictor({"A100-SXM-80GB": 0.1}))
        assert Note(kind="caveat", because=text, caveats=caveats) in answer.options[0].notes
