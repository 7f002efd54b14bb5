"""Plans that split the model: when they are taken, what is pasted, and what they never make worse."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.drawn_markets import TOY, Row, books, rank_rows, unhurried
from builders.toy_market import ToyPredictor, book, decoder_job, offer_row, shapes, small_job
from trainfare.lightning.plan_code import WRITER, format_plan
from trainfare_core.candidates import PlanSpace, enumerate_candidates
from trainfare_core.job_profile import BatchFacts, ParallelFacts
from trainfare_core.ranking.alternatives.nearest import with_alternatives
from trainfare_core.ranking.options.plans import collect_plan_facts, plan_changes, plan_text, split_of
from trainfare_core.ranking.pricing.request import Request
from trainfare_core.ranking.rank import rank
from trainfare_core.recommendation import Allowed, Constraints, ModelSplit, Objective, Option, Recommendation

EIGHT = offer_row(instance_type="a100.8x", accelerator_count=8.0)
TIGHT = ToyPredictor(activation_gib=100.0, fixed_gib=400.0)
"""A device of 64 GiB holds the model neither whole nor sharded."""


def make_request(*allow: Allowed, nodes: int = 1, **limits: object) -> Request:
    return Request(Constraints(allow=allow, **limits), max_nodes=nodes, writer=WRITER)  # type: ignore[arg-type]


@unhurried
@given(
    count=st.sampled_from([2.0, 4.0, 8.0]),
    nodes=st.integers(1, 8),
    micro=st.integers(1, 4),
    accumulate=st.sampled_from([1, 8, 48]),
    tokens=st.sampled_from([4096, 16_384]),
    checkpointing=st.booleans(),
)
def test_the_arguments_of_a_split_plan_reproduce_the_global_batch(
    count: float, nodes: int, micro: int, accumulate: int, tokens: int, checkpointing: bool
) -> None:
    """Micro-batch x accumulation x replicas as they stand in the block: the Trainer's own, or NeMo's global batch."""
    job = decoder_job(tokens=tokens, parallel=ParallelFacts(accumulate_grad_batches=accumulate)).model_copy(
        update={"batch": BatchFacts(micro_batch_size=micro, samples_per_step=micro * accumulate)}
    )
    machines = shapes(("A100-SXM-80GB", count))
    plans = enumerate_candidates(
        job, machines, PlanSpace(nodes, model_parallel=True, checkpointing=checkpointing)
    )
    for plan in range(len(plans)):
        facts = collect_plan_facts(job, plans, plan, int(plans.devices_of(machines)[plan]))
        block = WRITER.write_arguments(facts)
        split = split_of(plans, plan, block.devices * block.num_nodes)
        assert bool(block.script_needs) == (split is not None)
        if split is None:
            continue
        assert block.batch_size is not None
        assert (
            split.tensor * split.pipeline * split.context * split.replicas == block.devices * block.num_nodes
        )
        if block.global_batch_size is None:
            assert split.pipeline * split.context * split.expert == 1
            assert f"data_parallel_size={split.replicas}, tensor_parallel_size={split.tensor}" in format_plan(
                block
            )
            samples = block.batch_size * block.accumulate_grad_batches * split.replicas
        else:
            assert block.accumulate_grad_batches == 1, "NeMo's data module accumulates"
            assert block.strategy.startswith("MegatronStrategy(")
            assert block.global_batch_size % (block.batch_size * split.replicas) == 0
            samples = block.global_batch_size
        assert samples == micro * accumulate


def test_a_split_plan_is_taken_where_allowed_and_nothing_else_fits() -> None:
    """Two devices a replica hold what one does not; the change, the numbers and the strategy are named."""
    job, machine = decoder_job(batch=4), book(EIGHT)
    assert rank(job, machine, make_request(), predict=TIGHT).options == ()
    (option,) = rank(job, machine, make_request("model-parallel"), predict=TIGHT).options
    assert option.model_split == ModelSplit(tensor=8, pipeline=1, context=1, expert=1, replicas=1)
    assert option.plan_changes == (
        "tensor parallelism over 8 devices (1 replica of the model): needs a script that splits its layers",
    )
    assert option.trainer is not None
    assert format_plan(option.trainer) == (
        "Trainer(devices=8, num_nodes=1, strategy=ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=8), "
        "precision='bf16-mixed', accumulate_grad_batches=1)"
    )
    assert "parallelize_module" in option.trainer.script_needs
    assert "fully_shard" not in option.trainer.script_needs, "one replica has nothing to share"


def test_a_faster_split_is_taken_where_it_can_be_told_apart() -> None:
    """A batch of one runs on one device of eight; two share it in 0.55 of the time, which is worth it, at 0.95 it is not."""
    job, machine = decoder_job(batch=1), book(EIGHT)
    for loss, split in ((0.1, True), (7.0, False)):
        toy = ToyPredictor(split_loss=loss)
        (option,) = rank(job, machine, make_request("model-parallel"), predict=toy).options
        assert (option.model_split is not None) == split
        own = rank(job, machine, make_request(), predict=toy).options[0]
        assert own.model_split is None
        if not split:
            assert option == own


def test_the_devices_of_a_replica_share_its_validation() -> None:
    """Eight devices that hold one replica evaluate each batch together: its part of the cost falls as that of a step."""
    job, machine = decoder_job(batch=1, validation_batches=500), book(EIGHT)
    whole, split = (
        rank(job, machine, make_request(*allow), predict=ToyPredictor()).options[0].cost_parts
        for allow in ((), ("model-parallel",))
    )
    assert split.training_usd == pytest.approx(1.1 / 8 * whole.training_usd)
    assert split.validation_usd == pytest.approx(1.1 / 8 * whole.validation_usd)


def test_what_runs_a_split_plan_is_named_with_its_arguments() -> None:
    """A pipeline, a shared sample and ZeRO-1 are Megatron's; mixed precision is NeMo's plugin there, and 16 bits are said."""
    machines = shapes(("A100-SXM-80GB", 4.0))
    texts: dict[str, set[str]] = {}
    for precision in ("bf16-mixed", "bf16-true"):
        job = decoder_job(batch=64, tokens=16_384, precision=precision)
        plans = enumerate_candidates(job, machines, PlanSpace(2, model_parallel=True, checkpointing=True))
        for plan in range(len(plans)):
            facts = collect_plan_facts(job, plans, plan, 4)
            block = WRITER.write_arguments(facts)
            if block.script_needs:
                texts.setdefault(precision, set()).add(
                    f"{plan_text(plans, plan)}|{format_plan(block)}|{block.script_needs}|{plan_changes(job, plans, plan, facts, WRITER)}"
                )
    mixed, true = "\n".join(texts["bf16-mixed"]), "\n".join(texts["bf16-true"])
    for part in (
        "tensor 2, pipeline 2, ZeRO-1, micro-batch 1, accumulate 32|",
        "MegatronStrategy(tensor_model_parallel_size=2, pipeline_model_parallel_size=2, sequence_parallel=True, ddp=",
        "=DistributedDataParallelConfig(use_distributed_optimizer=True)), ",
        "plugins=MegatronMixedPrecision(precision='bf16-mixed')",
        "context_parallel_size=4",
        "fully_shard(..., mesh=self.device_mesh['data_parallel'])",
        "recompute_granularity='full'",
        "a pipeline of 4 stages (1 replica of the model): needs a model written for Megatron",
    ):
        assert part in mixed, part
    assert "16 bits" not in mixed
    assert "weights and optimizer state stay in 16 bits (bf16-true)" in true
    assert "plugins" not in true


def test_the_nearest_plan_names_the_split_and_an_answer_says_why_there_is_none() -> None:
    """Where nothing fits the flag is an alternative; a model that cannot be split has its reason among the assumptions."""
    machine, request = book(EIGHT), Request(max_nodes=1)
    for job, flags in ((decoder_job(batch=4), ["--allow model-parallel"]), (small_job(batch=4), [])):
        answer = rank(job, machine, request, predict=TIGHT)
        recommendation = with_alternatives(answer, job, machine, request, predict=TIGHT)
        assert [alternative.flag for alternative in recommendation.alternatives] == flags
    allowed = rank(small_job(), machine, make_request("model-parallel"), predict=TOY)
    assert any(line.startswith("splitting the model is not planned: ") for line in allowed.assumptions)
    kept = rank(small_job(), machine, make_request("model-parallel", keep_plan=True), predict=TOY)
    assert not any(line.startswith("splitting") for line in kept.assumptions)


@pytest.mark.parametrize("job", [small_job(), decoder_job()], ids=["no decoder", "nothing to gain"])
def test_an_answer_that_splits_nothing_is_the_same_with_the_flag(job: object) -> None:
    """But for what was asked for and why there is no split, the document is the one without it, byte for byte."""
    machine, toy = book(offer_row(), EIGHT), replace(TOY, split_loss=100.0)
    plain, flagged = (
        rank_rows(machine, job=job, constraints=Constraints(allow=allow), predict=toy)
        for allow in ((), ("model-parallel",))
    )
    update = {"constraints": plain.constraints, "assumptions": plain.assumptions}
    assert flagged.model_copy(update=update).to_json() == plain.to_json()


@unhurried
@given(
    rows=books(),
    objective=st.sampled_from(["cheapest", "fastest"]),
    before=st.sampled_from([(), ("checkpointing",), ("batch",), ("plan",)]),
    activation=st.sampled_from([1.0, 20.0, 200.0]),
    loss=st.sampled_from([0.0, 0.3, 5.0]),
)
def test_allowing_splits_never_worsens_the_best_and_nothing_too_large_is_recommended(
    rows: list[Row], objective: Objective, before: tuple[Allowed, ...], activation: float, loss: float
) -> None:
    """The best of more plans is at least as good, and every option is within the memory of its device."""
    toy = replace(TOY, activation_gib=activation, fixed_gib=activation, split_loss=loss)

    def answer(*allow: Allowed) -> Recommendation:
        return rank_rows(
            rows,
            job=decoder_job(batch=4),
            objective=objective,
            constraints=Constraints(allow=allow),
            predict=toy,
        )

    def lead(found: Recommendation) -> float:
        def figure(option: Option) -> float:
            return option.run_usd.mid if objective == "cheapest" else option.run_hours.mid

        return min(
            (figure(option) for option in found.options if not option.needs_porting), default=float("inf")
        )

    split = answer(*before, "model-parallel")
    assert lead(split) <= lead(answer(*before))
    for option in split.options:
        assert option.memory_gib.mid <= (4.0 if option.accelerator == "T4-16GB" else 64.0) * (1 + 1e-9)
