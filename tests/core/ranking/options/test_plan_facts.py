"""A plan is neutral until the writer of a loop puts it in words, everywhere that an answer has an option."""

from __future__ import annotations

from dataclasses import replace

import pytest

from builders.toy_market import ToyPredictor, block_job, book, decoder_job, offer_row
from trainfare_core.job_profile import ParallelFacts
from trainfare_core.ranking.alternatives.nearest import with_alternatives
from trainfare_core.ranking.alternatives.why_not import why_not
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import best_chance, rank
from trainfare_core.recommendation import NEUTRAL, Constraints, ModelSplit, PlanFacts, TrainerArguments


class TinyWriter:
    """Writer of a loop with one word for everything; keeps what it was asked to write."""

    def __init__(self) -> None:
        self.plans: list[PlanFacts] = []

    def write_arguments(self, plan: PlanFacts) -> TrainerArguments:
        self.plans.append(plan)
        return NEUTRAL.write_arguments(plan).model_copy(update={"strategy": "tiny"})

    def name_split_need(self, plan: PlanFacts) -> str:
        return f"a tiny script of {plan.micro_batch} samples"


TIGHT = ToyPredictor(activation_gib=100.0, default_capacity_gib=64.0)
"""The job needs 101 GiB of a device that has 64, and 26 with activation checkpointing."""


def test_the_writer_gets_the_facts_of_a_plan_and_no_words() -> None:
    """The script's own strategy is named where its sharding is kept, and the blocks that are computed again."""
    machine, writer = book(offer_row(instance_type="a100.2x", accelerator_count=2.0)), TinyWriter()
    job = block_job(batch=2, parallel=ParallelFacts(strategy="fsdp"))
    request = Request(Constraints(allow=("checkpointing",)), max_nodes=1, writer=writer)
    toy = replace(TIGHT, activation_gib=200.0)
    (option,) = rank(job, machine, request, predict=toy).options
    assert option.trainer is not None
    assert (option.sharding, option.trainer.strategy) == ("fsdp", "tiny")
    facts = PlanFacts(
        sharding="fsdp",
        devices=2,
        nodes=1,
        micro_batch=1,
        accumulate=1,
        precision="bf16-mixed",
        recomputed_blocks=("Block",),
        own_strategy="fsdp",
    )
    assert facts in writer.plans


def test_the_writer_says_what_a_split_needs() -> None:
    """Without one the answer has the sharding's name, and no code of a loop."""
    job, machine = decoder_job(batch=4), book(offer_row(instance_type="a100.8x", accelerator_count=8.0))
    toy, asked = ToyPredictor(activation_gib=100.0, fixed_gib=400.0), Constraints(allow=("model-parallel",))
    change = "tensor parallelism over 8 devices (1 replica of the model): needs"
    (option,) = rank(job, machine, Request(asked, max_nodes=1, writer=TinyWriter()), predict=toy).options
    assert option.plan_changes == (f"{change} a tiny script of 4 samples",)
    (option,) = rank(job, machine, Request(asked, max_nodes=1), predict=toy).options
    assert option.plan_changes == (f"{change} a script that splits its model over 8 devices",)
    assert option.trainer is not None
    assert option.model_split == ModelSplit(tensor=8, pipeline=1, context=1, expert=1, replicas=1)
    assert (option.trainer.strategy, option.trainer.configure_model) == (option.sharding, "")
    assert option.trainer.script_needs == "The plan needs a script that splits its model over 8 devices"


@pytest.mark.parametrize("question", ["alternatives", "why not", "chance", "spot"])
def test_every_option_of_an_answer_is_written_by_the_writer_asked_with(question: str) -> None:
    """Alternatives, the reason against a machine, the run that a policy checks, and the spot machine beside the answer."""
    job, machines = block_job(batch=1), book(offer_row(), offer_row(purchase_option="spot", usd_per_hour=0.5))
    request = Request(Constraints(), max_nodes=1, writer=TinyWriter())
    if question == "alternatives":
        answer = with_alternatives(
            rank(job, machines, request, predict=TIGHT), job, machines, request, predict=TIGHT
        )
        options = [alternative.option for alternative in answer.alternatives]
    elif question == "why not":
        options = [why_not(job, machines, request, "A100-SXM-80GB", predict=ToyPredictor()).option]
    elif question == "chance":
        options = [best_chance(job, machines, request, predict=ToyPredictor())]
    else:
        options = [rank(job, machines, request, predict=ToyPredictor()).best_spot]
    assert options
    words = {option.trainer.strategy for option in options}
    assert words == {"tiny"}
