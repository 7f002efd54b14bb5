"""What the figures of a machine that needs porting rest on: rows that were measured in its vendor's software."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from builders.offers import book_of, offer_row
from builders.profiles import gpt_profile, profile
from builders.reports import render_terminal
from trainfare.report.headline import explain_no_answer, headline, list_named_options, picks
from trainfare.report.rows import marks
from trainfare_core.job_profile import JobProfile
from trainfare_core.prediction.language_models.coefficients import decoder_calibration
from trainfare_core.ranking.alternatives.nearest import with_alternatives
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Option, Recommendation

TODAY = date(2026, 11, 30)


def offer(name: str, memory_gib: float, usd_per_hour: float, **overrides: Any) -> dict[str, Any]:
    """A machine with one such accelerator."""
    row = {"instance_type": f"{name}.1x", "accelerator": name, "accelerator_count": 1.0}
    return offer_row(**row, accelerator_memory_gib=memory_gib, usd_per_hour=usd_per_hour, **overrides)


L4 = offer("L4-24GB", 24.0, 0.8)
TRAINIUM_1, TRAINIUM_2 = offer("Trainium1", 32.0, 0.05), offer("Trainium2", 96.0, 0.05)
MI325X = offer("MI325X-256GB", 256.0, 0.05)
TPU_7 = offer("TPU-v7", 192.0, 0.05, provider="gcp", service="tpu", network_gbit_per_s=None)
RESNET, GPT = profile(batch_size=32), gpt_profile()


def rank_offers(job: JobProfile, *rows: dict[str, Any], **limits: Any) -> Recommendation:
    """Rank with the shipped coefficients."""
    return rank(job, book_of(*rows), Request(max_nodes=1, constraints=Constraints(**limits)))


def find_option(answer: Recommendation, accelerator: str) -> Option:
    return next(option for option in answer.options if option.accelerator == accelerator)


def test_a_measured_machine_says_what_its_figure_rests_on() -> None:
    """The fit of language models names 25 rows of AWS' Neuron documentation, all of Trainium1, and no others of AWS."""
    answer = rank_offers(GPT, L4, TRAINIUM_1)
    rows = decoder_calibration().fitted_on["aws-neuron"]
    text = f"rests on {rows} rows of Trainium1 in Neuron, 1 source"
    assert rows == 25
    assert any("cheapest" in title and title.endswith("after porting") for title, _ in picks(answer))
    assert text in headline(answer, TODAY)
    assert text in [note.text for note in find_option(answer, "Trainium1").notes]
    assert text in " ".join(render_terminal(answer, as_of=TODAY, details=False).split())


@pytest.mark.parametrize(
    ("job", "row", "words"),
    [
        (GPT, TRAINIUM_2, "no step on Trainium2 in Neuron was ever measured with language models in 16 bits"),
        (
            RESNET,
            TRAINIUM_1,
            "no step on Trainium1 in Neuron was ever measured with convolution networks in 16 bits",
        ),
        (
            RESNET,
            MI325X,
            "no step on MI325X-256GB in ROCm was ever measured with convolution networks in 16 bits",
        ),
        (
            GPT,
            MI325X,
            "too few measured with language models in 16 bits (4 rows of MI300X in ROCm, 1 source)",
        ),
        (GPT, TPU_7, "no step on TPU-v7 in XLA was ever measured with language models in 16 bits"),
    ],
)
def test_what_nobody_measured_is_listed_as_a_guess_and_never_named(
    job: JobProfile, row: dict[str, Any], words: str
) -> None:
    """The cheapest by far, by a figure of another generation or another kind of work: unknown, and no pick."""
    answer = rank_offers(job, L4, row)
    guess = find_option(answer, row["accelerator"])
    assert guess.run_usd.mid < find_option(answer, "L4-24GB").run_usd.mid
    assert guess.needs_porting
    assert guess.unmeasured_software
    assert any(note.text.startswith(f"unknown: {words}") for note in guess.notes)
    assert "a guess" in marks(guess, TODAY)
    assert [option.accelerator for _, option in picks(answer)] == ["L4-24GB"]
    assert {option.accelerator for _, option in list_named_options(answer)} == {"L4-24GB"}
    assert row["accelerator"] not in headline(answer, TODAY)
    details = " ".join(render_terminal(answer, as_of=TODAY, details=True).split())
    assert f"Unknown: {words}. Their figures are guesses." in details


def test_where_every_machine_is_a_guess_there_is_no_answer() -> None:
    """The options stay; the sentence says why none is named."""
    answer = rank_offers(GPT, TRAINIUM_2)
    assert [option.accelerator for option in answer.options] == ["Trainium2"]
    assert headline(answer, TODAY) == explain_no_answer(answer)
    assert headline(answer, TODAY).startswith(
        "No answer, because no step on Trainium2 in Neuron was ever measured with language"
    )


def test_no_alternative_names_a_guess() -> None:
    """What `--no-porting` leaves out is proposed only where it was measured."""
    request = Request(max_nodes=1, constraints=Constraints(no_porting=True))
    proposed: list[list[str]] = []
    for row in (TRAINIUM_1, TRAINIUM_2):
        book = book_of(row)
        answer = with_alternatives(rank(GPT, book, request), GPT, book, request)
        proposed.append([run.option.accelerator for run in answer.alternatives if "porting" in run.change])
    assert proposed == [["Trainium1"], []]


def test_another_build_of_pytorch_for_nvidia_rests_on_the_same_rows() -> None:
    """An arm64 host needs porting too, though its software is NVIDIA's."""
    answer = rank_offers(GPT, offer("T4G-16GB", 16.0, 0.05), L4)
    option = find_option(answer, "T4G-16GB")
    assert option.needs_porting
    assert (option.rests_on, option.unmeasured_software) == ("", False)
