"""Why a machine is not the answer, and what would give an answer where there is none."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.toy_market import ToyPredictor, book, decoder_job, offer_row, small_job
from trainfare_core.candidates import CandidateTable
from trainfare_core.errors import UnknownNameError
from trainfare_core.job_profile import BatchFacts, JobProfile, ParallelFacts
from trainfare_core.number_format import hours_range, percent
from trainfare_core.prediction.table import PredictionTable
from trainfare_core.prices.shapes import MachineShapes
from trainfare_core.ranking.alternatives.nearest import with_alternatives
from trainfare_core.ranking.alternatives.why_not import offers_named, why_not
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Constraints, Recommendation

A100, H100, T4, TPU = "A100-SXM-80GB", "H100-SXM-80GB", "T4-16GB", "TPU-v5e"
TOY = ToyPredictor(
    seconds={A100: 0.1, H100: 0.05, T4: 0.4, TPU: 0.02}, activation_gib=20.0, capacity_gib={T4: 0.5}
)
ROWS: tuple[dict[str, Any], ...] = (
    offer_row(instance_type="p4d.24xlarge"),
    offer_row(instance_type="p5.4xlarge", accelerator=H100, usd_per_hour=12.0),
    offer_row(instance_type="p5.48xlarge", accelerator=H100, accelerator_count=8.0, usd_per_hour=90.0),
    offer_row(instance_type="t4.1x", accelerator=T4, usd_per_hour=0.5),
    offer_row(provider="gcp", service="tpu", instance_type="v5e-1", accelerator=TPU, network_gbit_per_s=None),
    offer_row(instance_type="spot.1x", purchase_option="spot", usd_per_hour=1.0),
)


def explain(machine: str, job: JobProfile | None = None, **asked: Any) -> Any:
    return why_not(
        job or small_job(), book(*ROWS), Request(Constraints(**asked), max_nodes=1), machine, predict=TOY
    )


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("p4d.24xlarge", {"p4d.24xlarge"}),
        ("p5", {"p5.4xlarge", "p5.48xlarge"}),
        ("aws:p5.4xlarge@us-east-1", {"p5.4xlarge"}),
        ("H100", {"p5.4xlarge", "p5.48xlarge"}),
    ],
)
def test_a_machine_may_be_named_in_several_ways(name: str, found: set[str]) -> None:
    """By instance type, family, accelerator, or as `PriceBook.find` does."""
    assert {offer.instance_type for offer in offers_named(book(*ROWS), name).offers()} == found


def test_an_unknown_machine_is_an_error_with_near_names() -> None:
    """The error is about instance types, which most people name."""
    with pytest.raises(UnknownNameError, match=r"instance type 'p5\.'; near names: p5"):
        offers_named(book(*ROWS), "p5.")


def test_a_machine_that_loses_says_by_how_much() -> None:
    """Percent of dollars and time against the cheapest, with both in figures."""
    assert explain("p5.4xlarge").schema_version == 1
    assert "porting" not in explain("p5.4xlarge").sentence
    answer = explain("p5.4xlarge")
    assert answer.option is not None
    assert answer.best is not None
    more = answer.option.run_usd.mid / answer.best.run_usd.mid - 1
    less = 1 - answer.option.run_hours.mid / answer.best.run_hours.mid
    assert f"costs {percent(more)} more and takes {percent(less)} less" in answer.sentence
    assert answer.best.instance_type == "p4d.24xlarge"
    for option in (answer.option, answer.best):
        usd, hours = option.run_usd, option.run_hours
        assert f"{usd.mid:,.2f} USD [{usd.low_80:,.2f} to {usd.high_80:,.2f}]" in answer.sentence
        assert hours_range(hours.mid, hours.low_80, hours.high_80) in answer.sentence
        assert f"at its price of {option.price_observed_on}" in answer.sentence


def test_the_answer_itself_is_named_as_such() -> None:
    assert explain("p4d.24xlarge").sentence.endswith("it is the cheapest")


@pytest.mark.parametrize(
    ("machine", "asked", "words"),
    [
        ("t4.1x", {}, "does not fit in memory (T4-16GB: needs"),
        ("spot.1x", {}, "filtered out (purchase option other than on_demand"),
        ("p4d.24xlarge", {"deadline_hours": 0.5}, "past the deadline (aws:p4d.24xlarge"),
        ("p4d.24xlarge", {"max_usd": 0.5}, "over budget (aws:p4d.24xlarge"),
        ("p4d.24xlarge", {"excluded": ("p4d.24xlarge",)}, "excluded: p4d.24xlarge"),
        ("v5e-1", {"no_porting": True}, "needs porting (TPU-v5e: the script must run under torch_xla"),
    ],
)
def test_a_rejected_machine_names_the_stage_with_its_figures(
    machine: str, asked: dict[str, Any], words: str
) -> None:
    answer = explain(machine, **asked)
    assert answer.option is None
    assert answer.sentence.startswith(f"{machine} is not ranked: 1 price: ")
    assert words in answer.sentence


def test_a_rejected_machine_names_the_flag_that_would_admit_it() -> None:
    """Of its own runs, not of another machine; one that is ranked needs none."""
    answer = explain("p5.4xlarge", max_usd=0.5)
    assert [alternative.flag.partition(" ")[0] for alternative in answer.alternatives] == ["--max-usd"]
    assert {alternative.option.instance_type for alternative in answer.alternatives} == {"p5.4xlarge"}
    assert [each.flag for each in explain("spot.1x").alternatives] == ["--purchase spot"]
    assert explain("p5.4xlarge").alternatives == ()


def test_what_needs_porting_is_said_of_a_cheaper_machine() -> None:
    answer = explain("TPU-v5e")
    assert "but needs porting: the script must run under torch_xla" in answer.sentence


@settings(max_examples=5)  # every machine is explained; test_rank_properties.py draws other markets
@given(
    prices=st.lists(st.integers(1, 60), min_size=len(ROWS), max_size=len(ROWS)),
    max_usd=st.one_of(st.none(), st.integers(1, 100)),
    hours=st.one_of(st.none(), st.integers(1, 12)),
)
def test_why_not_and_the_ranking_agree(prices: list[int], max_usd: int | None, hours: int | None) -> None:
    """A machine has an option exactly where it is in the full ranking, at the same cost; the best is the answer's."""
    offers = book(*({**row, "usd_per_hour": price / 2} for row, price in zip(ROWS, prices, strict=True)))
    request = Request(Constraints(max_usd=max_usd, deadline_hours=hours), max_nodes=1, limit=1000)
    answer = rank(small_job(), offers, request, predict=TOY)
    ranked = {option.instance_type: option for option in answer.options}
    for row in ROWS:
        result = why_not(small_job(), offers, request, row["instance_type"], predict=TOY)
        assert (result.option is None) == (row["instance_type"] not in ranked)
        if result.option is not None:
            assert result.option.run_usd == ranked[row["instance_type"]].run_usd
        if answer.cheapest_rank is not None:
            assert result.best is not None
            assert result.best.run_usd == answer.options[answer.cheapest_rank - 1].run_usd


def nearest(job: JobProfile | None = None, **asked: Any) -> Recommendation:
    request = Request(Constraints(**asked), max_nodes=1)
    profile, prices = job or small_job(), book(*ROWS)
    answer = rank(profile, prices, request, predict=TOY)
    return with_alternatives(answer, profile, prices, request, predict=TOY)


def test_an_answer_needs_no_alternatives() -> None:
    assert nearest().alternatives == ()


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_each_limit_is_relaxed_alone_and_its_flag_admits_the_run(confidence: float) -> None:
    """With the flag the same run is feasible, and it is the best of its objective."""
    recommendation = nearest(max_usd=8.0, deadline_hours=0.5, confidence=confidence)
    assert recommendation.cheapest_rank is None
    flags = {
        alternative.flag.partition(" ")[0]: alternative
        for alternative in recommendation.alternatives
        if " --" not in alternative.flag
    }
    assert {"--deadline", "--max-usd"} <= set(flags) or any(
        " --" in alternative.flag for alternative in recommendation.alternatives
    )
    for alternative in recommendation.alternatives:
        words = dict(re.findall(r"--(deadline|max-usd) ([0-9.]+)", alternative.flag))
        if not words:
            continue
        values_by_key = {"max_usd": 8.0, "deadline_hours": 0.5, "confidence": confidence}
        values_by_key |= {
            "deadline_hours" if name == "deadline" else "max_usd": float(value)
            for name, value in words.items()
        }
        again = rank(
            small_job(), book(*ROWS), Request(Constraints(**values_by_key), max_nodes=1), predict=TOY
        )
        assert alternative.option.machine in {option.machine for option in again.options}, alternative.flag


def test_other_ways_out_are_tried_and_flagged() -> None:
    """More machines, spot, and what a flag forbids."""
    ways = {alternative.flag for alternative in nearest(max_usd=2.9, no_porting=True).alternatives}
    assert "--purchase spot" in ways
    slow = nearest(deadline_hours=0.7, accelerators=(A100,)).alternatives
    assert any(
        alternative.flag.startswith("--max-nodes ") and alternative.option.nodes > 1 for alternative in slow
    )


def test_porting_is_a_way_out_where_it_is_forbidden() -> None:
    """A machine that needs porting is no drop-in without the flag either, and is offered all the same."""
    job = decoder_job()
    answer = explain("v5e-1", job, no_porting=True)
    (way,) = [item for item in answer.alternatives if item.flag == "leave out --no-porting"]
    assert way.change == "cheapest with porting"
    assert way.option.instance_type == "v5e-1"
    assert way.option.needs_porting
    again = explain("v5e-1", job)
    assert again.option is not None
    assert again.option.run_usd == way.option.run_usd
    assert "rests on 18 rows of TPU-v5e in XLA, 1 source" in [note.text for note in way.option.notes]


def test_the_global_batch_is_named_where_it_is_the_obstacle() -> None:
    """Two samples cannot be shared by more than two devices, however many machines there are."""
    tiny = small_job().model_copy(update={"batch": BatchFacts(micro_batch_size=2, samples_per_step=2)})
    recommendation = nearest(tiny, deadline_hours=0.01)
    assert "a global batch of 2 can be shared by at most 2 devices" in (recommendation.unknown_because or "")
    assert "global batch" not in (nearest(small_job(batch=320), deadline_hours=0.01).unknown_because or "")


def test_a_deadline_that_nothing_meets_names_the_earliest_end() -> None:
    """With the flag that admits it, and without a word about a budget that was not given."""
    (first, *_) = nearest(deadline_hours=0.01).alternatives
    assert first.change == "earliest end kept with 90 %"
    assert re.fullmatch(r"--deadline [\d.]+h", first.flag)


@pytest.mark.parametrize(
    ("asked", "flags"),
    [({}, ["--allow plan"]), ({"keep_plan": True}, []), ({"allow": ("plan",), "max_usd": 1.0}, [])],
)
def test_the_fastest_plan_is_a_way_out_where_it_is_not_allowed_yet(
    asked: dict[str, Any], flags: list[str]
) -> None:
    """A script that accumulates four micro-batches is slower than one of all samples, which ends in time."""

    def predict(profile: JobProfile, shapes: MachineShapes, plans: CandidateTable) -> PredictionTable:
        table = ToyPredictor()(profile, shapes, plans)
        return replace(
            table, step_s=table.step_s * plans.accumulate, compute_s=table.compute_s * plans.accumulate
        )

    job = small_job(batch=8, parallel=ParallelFacts(accumulate_grad_batches=4))
    job = job.model_copy(update={"batch": BatchFacts(micro_batch_size=8, samples_per_step=32)})
    request = Request(Constraints(deadline_hours=9.0, **asked), max_nodes=1)
    prices = book(offer_row())
    answer = rank(job, prices, request, predict=predict)
    alternatives = with_alternatives(answer, job, prices, request, predict=predict).alternatives
    assert [alternative.flag for alternative in alternatives if "plan" in alternative.flag] == flags
