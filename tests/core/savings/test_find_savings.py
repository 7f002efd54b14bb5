"""What would make a run cheaper: each lever alone, by the ranking itself, with the interval of the difference."""

from __future__ import annotations

from typing import Any

import pytest

from builders.profiles import gpt_profile
from builders.toy_market import block_job, book, in_precisions, offer_row, small_job
from trainfare_core.job_profile import JobProfile
from trainfare_core.prices.book import PriceBook
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import best_chance
from trainfare_core.recommendation import Constraints, LeverName, Option, Saving
from trainfare_core.savings import Savings, find_savings, list_savings

A100 = offer_row()
A10G = offer_row(
    instance_type="g5.xlarge",
    accelerator="A10G-24GB",
    accelerator_memory_gib=24.0,
    usd_per_hour=1.0,
    vcpus=4.0,
)
SPOT = offer_row(purchase_option="spot", usd_per_hour=1.0)


def savings_of(job: JobProfile, market: PriceBook, **constraints: Any) -> Savings:
    return find_savings(job, market, Request(Constraints(**constraints)))


def full_precision_job() -> JobProfile:
    """Return a decoder in fp32 that was traced in bf16, too."""
    halved = in_precisions(gpt_profile(), "bf16-mixed").precisions
    return gpt_profile(dtype="fp32").model_copy(update={"precisions": halved})


def find(answer: Savings, lever: LeverName) -> Saving:
    (saving,) = (saving for saving in answer.savings if saving.lever == lever)
    return saving


def best(job: JobProfile, market: PriceBook, **constraints: Any) -> Option:
    option = best_chance(job, market, Request(Constraints(**constraints)))
    assert isinstance(option, Option)
    return option


def reason(answer: Savings, what: str) -> str:
    (because,) = (item.because for item in answer.not_priced if item.what == what)
    return because


def test_full_precision_on_an_a10g_is_told_the_half() -> None:
    """The amount is the difference of the two rankings, and the plan is in the 16-bit type."""
    job = full_precision_job()
    answer = savings_of(job, book(A10G))
    saving = find(answer, "precision")
    plain, halved = best(job, book(A10G)), best(job, book(A10G), allow=("precision",))
    assert saving.group == "rounding"
    assert saving.saved_usd == pytest.approx(plain.run_usd.mid - halved.run_usd.mid)
    assert saving.saved_hours == pytest.approx(plain.run_hours.mid - halved.run_hours.mid)
    assert saving.plan is not None
    assert saving.plan.precision == "bf16-mixed"
    assert saving.well_known
    assert saving.pairs is not None
    ends = saving.saved_usd_range
    assert ends.low_80 < saving.saved_usd < ends.high_80
    assert ends.low <= ends.low_80


def test_a_precision_that_was_not_traced_is_not_priced() -> None:
    """The reason has the command that traces it."""
    answer = savings_of(small_job(precision="32-true"), book(A10G))
    assert "trainfare profile TARGET --precision bf16-mixed" in reason(answer, "precision")


def test_compilation_is_said_to_be_not_known_well() -> None:
    """It was not scored on pairs of measured steps: its interval takes the errors of both steps as independent."""
    answer = savings_of(gpt_profile(), book(A100))
    saving = find(answer, "compile")
    assert (saving.pairs, saving.well_known, saving.group) == (None, False, "same_result")
    assert saving.saved_usd_range.low_80 < 0 < saving.saved_usd
    source = gpt_profile().source.model_copy(update={"compiled": True})
    compiled = savings_of(gpt_profile(source=source), book(A100))
    assert "compile" not in [saving.lever for saving in compiled.savings]
    assert "compile" not in compiled.saves_nothing


def test_spot_is_a_saving_of_its_own_group_unless_purchase_is_chosen() -> None:
    """A price that is a quarter saves about three quarters, and its doubt is that of prices."""
    answer = savings_of(small_job(), book(A100, SPOT))
    saving = find(answer, "spot")
    before = answer.before.usd
    assert before is not None
    assert saving.group == "interruption_or_term"
    assert saving.saved_usd == pytest.approx(0.75 * before.mid, rel=0.1)
    assert saving.well_known
    chosen = savings_of(small_job(), book(A100, SPOT), purchase=("on_demand",))
    assert "spot" not in {saving.lever for saving in chosen.savings} | {
        item.what for item in chosen.not_priced
    }


def test_without_spot_machines_the_reason_stands() -> None:
    """The words are those of the ranking."""
    assert "spot" in reason(savings_of(small_job(), book(A100)), "spot")


def test_a_filter_that_is_lifted_shows_what_it_costs() -> None:
    """Region, service and cloud each by itself; a filter that was not given is no lever."""
    cheap = offer_row(region="us-west-2", usd_per_hour=2.0)
    other = offer_row(provider="gcp", service="compute", usd_per_hour=3.0)
    market = book(A100, cheap, other)
    answer = savings_of(small_job(), market, regions=("us-east-1",), providers=("aws",))
    assert find(answer, "region").machine == "aws:a100.1x@us-west-2 (on_demand)"
    assert find(answer, "cloud").machine == "gcp:a100.1x@us-east-1 (on_demand)"
    assert "service" not in {*answer.saves_nothing, *(saving.lever for saving in answer.savings)}
    assert [pair.levers for pair in answer.together] == []


def test_validation_and_checkpoints_half_as_often() -> None:
    """Half of what validation costs is saved, and half of the writing."""
    plan = small_job().plan.model_copy(
        update={
            "validation_batches": 2_000_000,
            "checkpoint_bytes": 10**11,
            "checkpoint_every_n_steps": 1_000,
        }
    )
    job = small_job().model_copy(update={"plan": plan})
    answer, option = savings_of(job, book(A100)), best(job, book(A100))
    assert find(answer, "validation").saved_usd == pytest.approx(
        option.cost_parts.validation_usd / 2, rel=0.1
    )
    assert find(answer, "checkpoints").saved_usd == pytest.approx(
        option.cost_parts.checkpoint_usd / 2, rel=0.2
    )
    (pair,) = (pair for pair in answer.together if set(pair.levers) == {"validation", "checkpoints"})
    alone = find(answer, "validation").saved_usd + find(answer, "checkpoints").saved_usd
    assert pair.saved_usd == pytest.approx(alone, rel=0.05)


def test_a_reservation_asks_for_its_use() -> None:
    """Without one the reason names the option; with one it is priced by the hours used."""
    reserved = offer_row(purchase_option="reserved_1y", usd_per_hour=2.0)
    market = book(A100, reserved)
    assert "--use SHARE" in reason(savings_of(small_job(), market), "commitment")
    used = find(savings_of(small_job(), market, use=0.9), "commitment")
    assert used.group == "interruption_or_term"
    assert 0 < used.saved_usd < 0.5 * (used.saved_usd + used.usd.mid)
    assert "commitment" in savings_of(small_job(), market, use=0.4).saves_nothing


def test_two_names_of_one_plan_are_one_saving() -> None:
    """Recomputation that leads to the same plan as another micro-batch is not listed a second time."""
    answer = savings_of(block_job(), book(A100, A10G))
    levers = [saving.lever for saving in answer.savings]
    plans = [(saving.machine, saving.plan, saving.saved_usd) for saving in answer.savings]
    assert len(levers) == len(set(levers))
    assert len({str(plan) for plan in plans}) == len(plans)


def test_groups_come_in_their_order_and_the_largest_first() -> None:
    """What changes nothing comes before what saves more and may be interrupted."""
    cheap = offer_row(region="us-west-2", usd_per_hour=3.5)
    job = full_precision_job()
    answer = savings_of(job, book(A100, SPOT, cheap), regions=("us-east-1",))
    groups = [saving.group for saving in answer.savings]
    order = ["same_result", "rounding", "interruption_or_term", "training"]
    assert groups == sorted(groups, key=order.index)
    for group in set(groups):
        amounts = [saving.saved_usd for saving in answer.savings if saving.group == group]
        assert amounts == sorted(amounts, reverse=True)


def test_the_list_for_a_ranking_is_that_of_the_command() -> None:
    """Without pairs; and nothing where the run has no cost."""
    job, market = full_precision_job(), book(A100, A10G, SPOT)
    answer = savings_of(job, market)
    assert list_savings(job, market, Request(Constraints())) == answer.savings
    assert len(answer.savings) >= 2
    plan = job.plan.model_copy(update={"optimizer_steps": None, "unknown_because": "no max_steps"})
    unknown = job.model_copy(update={"plan": plan})
    assert list_savings(unknown, market, Request(Constraints())) == ()


def test_a_run_without_a_cost_has_no_savings_but_a_reason() -> None:
    """The length that is not known is what there is to say."""
    plan = small_job().plan.model_copy(update={"optimizer_steps": None, "unknown_because": "no max_steps"})
    answer = savings_of(small_job().model_copy(update={"plan": plan}), book(A100))
    assert answer.savings == ()
    assert answer.unknown_because == "the length of the run is not known: no max_steps"
    assert Savings.model_validate_json(answer.to_json()) == answer
